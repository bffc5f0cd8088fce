package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/clock"
)

// portName is what QEMU calls the port of the agent.
const portName = "timeball.agent"

// request is a script to run, or a step of the clock.
type request struct {
	Script  string
	Timeout time.Duration
	Step    time.Duration
}

type reply struct {
	Out  string
	Code int
}

// serve does one request after the other, as root, until the machine ends. There are none
// but in a machine with the agent's port.
func serve() error {
	port, err := openPort()
	if err != nil {
		return err
	}
	lines := bufio.NewReader(port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the host has not opened its end yet
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		text, err := json.Marshal(run(r))
		if err != nil {
			return err
		}
		if _, err := port.Write(append(text, '\n')); err != nil {
			return err
		}
	}
}

// step sets the machine's clock ahead, exactly, as another program might.
func step(by time.Duration) reply {
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	t.Time.Sec, t.Time.Usec = int64(by/time.Second), int64(by%time.Second)
	if t.Time.Usec < 0 {
		t.Time.Sec, t.Time.Usec = t.Time.Sec-1, t.Time.Usec+int64(time.Second)
	}
	if _, err := clock.System().Adjtimex(&t); err != nil {
		return reply{Out: err.Error(), Code: -1}
	}
	return reply{}
}

func run(r request) reply {
	if r.Step != 0 {
		return step(r.Step)
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", r.Script)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "SYSTEMD_PAGER=", "HOME=/root"}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	code := cmd.ProcessState.ExitCode()
	if err != nil && code == 0 && !errors.Is(err, exec.ErrWaitDelay) {
		code = -1
	}
	return reply{Out: string(out), Code: code}
}

func openPort() (*os.File, error) {
	for range 200 {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, path := range names {
			if name, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(name)) == portName {
				device := "/dev/" + filepath.Base(filepath.Dir(path))
				fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil, err
				}
				return os.NewFile(uintptr(fd), device), nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("the machine has no port for the agent")
}
