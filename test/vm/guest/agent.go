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
)

// portName is what QEMU calls the port of the agent.
const portName = "timeball.agent"

type request struct {
	Script  string
	Timeout time.Duration
}

type reply struct {
	Out  string
	Code int
}

// serve runs one script after the other, as root, until the machine ends.
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

func run(r request) reply {
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
