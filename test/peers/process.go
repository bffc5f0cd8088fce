package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs on a host until its test ends. What it says is kept.
type Process struct {
	Name string
	Host *Host

	t    testing.TB
	cmd  *exec.Cmd
	log  *buffer
	done chan struct{}
	err  error // valid once done is closed
}

// grace is how long a program may take to end after SIGTERM.
const grace = 3 * time.Second

// Start runs a program on the host in the foreground, in a process group of its own; its
// test's end ends it.
func (h *Host) Start(name string, env []string, argv ...string) *Process {
	t := h.lab.t
	t.Helper()
	h.processes++
	p := &Process{Name: name, Host: h, t: t, cmd: h.Command(env, argv...), log: &buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s on %s: %v", name, h.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s on %s said:\n%s", name, h.Name, tail(p.Log(), 60))
		}
	})
	return p
}

// Pid is the program's own process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is what the program has said so far.
func (p *Process) Log() string { return p.log.String() }

// Ended says whether the program has ended by itself, and how.
func (p *Process) Ended() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %v to %s: %v", s, p.Name, err)
	}
}

// Stop ends the program and what it started: SIGTERM, then SIGKILL after the grace.
// It says how long the program took and how it ended.
func (p *Process) Stop() (time.Duration, error) {
	began := time.Now()
	if ended, err := p.Ended(); ended {
		return 0, err
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.t.Logf("%s on %s did not end on SIGTERM within %v", p.Name, p.Host.Name, grace)
	}
	// The group outlives its leader where the program had children.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	return time.Since(began), p.err
}

// Eventually asks until the answer is nil or the time is over; then the test fails with
// the last answer.
func Eventually(t testing.TB, within time.Duration, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 300*time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(pause)
	}
}

// Says waits until the program's log has the words.
func (p *Process) Says(within time.Duration, words string) {
	p.t.Helper()
	Eventually(p.t, within, fmt.Sprintf("%s says %q", p.Name, words), func() error {
		if strings.Contains(p.Log(), words) {
			return nil
		}
		if ended, err := p.Ended(); ended {
			return fmt.Errorf("it has ended: %v", err)
		}
		return fmt.Errorf("the last it said: %s", tail(p.Log(), 3))
	})
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// buffer collects what a program says while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
