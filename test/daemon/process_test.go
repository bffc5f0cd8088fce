package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "timeball-daemon"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(status)
}

// binary is built once; TIMEBALL_BINARY names another one to be tried in its place.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("TIMEBALL_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(buildDir, "timeball")
	cmd := exec.Command("go", "build", "-o", path, "timeball/cmd/timeball")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// daemon is a running timeball.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *output
	ended  chan struct{}
	dir    string
	config string
}

// dir makes a short directory, since sockets live in it.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "tb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

// launch starts a process, by way of a shell that sets limits first if any are given.
func launch(t *testing.T, d, config string, limits string) *daemon {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &daemon{t: t, log: new(output), ended: make(chan struct{}), dir: d, config: filepath.Join(d, "timeball.yaml")}
	p.write(config)
	p.cmd = exec.Command("/bin/sh", "-c", limits+" exec \"$0\" run --config \"$1\"", path, p.config)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if strings.Contains(p.log.String(), "goroutine ") {
			t.Errorf("the log holds a panic:\n%s", p.log)
		}
	})
	return p
}

// start launches a daemon and waits until it runs.
func start(t *testing.T, d, config string) *daemon {
	t.Helper()
	p := launch(t, d, config, "")
	p.until("it runs", func() bool { return strings.Contains(p.log.String(), "timeball runs") })
	return p
}

// write replaces the configuration; the control socket is added.
func (p *daemon) write(config string) {
	p.t.Helper()
	text := config + "\ncontrol: {socket: " + p.socket() + "}\n"
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *daemon) socket() string { return filepath.Join(p.dir, "s") }

func (p *daemon) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit status, −1 for a signal.
func (p *daemon) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("it does not end; log:\n%s", p.log)
		return 0
	}
}

// terminate ends the daemon in order and says how long that took.
func (p *daemon) terminate() (status int, took time.Duration) {
	p.t.Helper()
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	return p.exit(), time.Since(begun)
}

func (p *daemon) until(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %s: %s; log:\n%s", patience, what, p.log)
		}
	}
}

// report asks the daemon by the command line.
func (p *daemon) report(args ...string) (map[string]any, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(path, append(args, "--json", "--socket", p.socket())...).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return nil, fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return nil, err
	}
	var answer map[string]any
	return answer, json.Unmarshal(out, &answer)
}

func (p *daemon) synchronized() bool {
	answer, err := p.report("tracking")
	return err == nil && answer["synchronized"] == true
}

// said counts the lines of the log with a text.
func (p *daemon) said(text string) (count int) {
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}

// count reads a number of /proc about the process: its descriptors or its threads.
func (p *daemon) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/fd")
	if err != nil {
		p.t.Skip("no /proc here")
	}
	return len(entries)
}

var taken atomic.Int32

// freePort is a UDP port that is free, at an address of its own so that no other test
// takes it meanwhile.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	n := taken.Add(1)
	conn, err := net.ListenPacket("udp4", fmt.Sprintf("127.9.%d.%d:0", n/250, 1+n%250))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// answers reports whether a proper request is answered.
func answers(t *testing.T, to netip.AddrPort) bool {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := make([]byte, 48)
	request[0], request[40] = 0x23, 0xe9
	if _, err := conn.Write(request); err != nil {
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	n, err := conn.Read(make([]byte, 1024))
	return err == nil && n == 48
}

// server is the configuration of a stratum 1 whose clock is off.
func serverConfig(at netip.AddrPort, offset string) string {
	return fmt.Sprintf("clock: {driver: virtual, virtual: {offset: %s}}\nlocal: {stratum: 1}\nserver: {listen: [\"%s\"], workers: 1}\n", offset, at)
}

// clientConfig follows a server, and keeps its state in a directory.
func clientConfig(server netip.AddrPort, state, more string) string {
	return fmt.Sprintf("clock: {driver: virtual, drift_file: %[1]s/drift, state_dir: %[1]s, step: {threshold: 1s, updates: 3}, panic: 1000s%[3]s}\n"+
		"sources: [{server: \"%[2]s\", min_poll: -3, max_poll: -3}]\n", state, server, more)
}
