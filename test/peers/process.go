package peers

import (
	"bytes"
	"errors"
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
	Name  string
	Host  *Host
	Begun time.Time // just before its start

	t    testing.TB
	cmd  *exec.Cmd
	log  *buffer
	done chan struct{}
	err  error // valid once done is closed
}

// grace is how long a program may take to end after SIGTERM.
const grace = 3 * time.Second

// Start runs a program on the host in the foreground; its test's end ends it.
func (h *Host) Start(name string, env []string, argv ...string) *Process {
	h.t.Helper()
	cmd := h.Command(env, argv...)
	// A process group of its own; on this machine itself the test's, so that an interrupt
	// ends both.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: h.namespace != ""}
	return h.StartCommand(name, cmd)
}

// StartCommand is Start for a command that was prepared.
func (h *Host) StartCommand(name string, cmd *exec.Cmd) *Process {
	t := h.t
	t.Helper()
	p := &Process{Name: name, Host: h, t: t, cmd: cmd, log: &buffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	p.Begun = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s on %s: %v", name, h.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop()
		if strings.Contains(p.Log(), "goroutine ") {
			t.Errorf("the log of %s on %s holds a panic:\n%s", name, h.Name, p.Log())
		} else if t.Failed() {
			t.Logf("%s on %s said:\n%s", name, h.Name, tail(p.Log(), 60))
		}
	})
	return p
}

// Adopt makes a Process of a command that runs already, whose end ended will tell. What it
// says is not kept, and ending it is its starter's.
func (h *Host) Adopt(name string, cmd *exec.Cmd, ended <-chan error) *Process {
	p := &Process{Name: name, Host: h, t: h.t, cmd: cmd, log: &buffer{}, done: make(chan struct{})}
	go func() {
		p.err = <-ended
		close(p.done)
	}()
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

// Ends waits until the program has ended by itself and gives its exit status.
func (p *Process) Ends(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("%s on %s has not ended within %v", p.Name, p.Host.Name, within)
	}
	return ExitStatus(p.err)
}

// ExitStatus is the exit status of a command, -1 when there is none.
func ExitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
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

// Said counts the lines of the program's log that have the words.
func (p *Process) Said(words string) (lines int) {
	for line := range strings.Lines(p.Log()) {
		if strings.Contains(line, words) {
			lines++
		}
	}
	return lines
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
