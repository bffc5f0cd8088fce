package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/internal/control"
	"timeball/internal/lab"
)

const goodLab = `duration: 60s
hosts:
  reference: {clock: {}, config: {local: {stratum: 1}, server: {}}}
  client: {clock: {offset: 10ms}, config: {sources: [{server: reference, min_poll: -3, max_poll: -3}]}}
`

func TestALabThatEndsWell(t *testing.T) {
	o := longer(4*time.Second, succeeds, "--duration", "lab", write(t, "lab.yaml", goodLab))
	if o.status != 0 || !strings.Contains(o.stdout, "all 2 hosts synchronized; largest true error ") || o.stderr != "" {
		t.Errorf("got status %d, %q, %q; want 0 and a line that says what was shown", o.status, o.stdout, o.stderr)
	}
}

func TestALabThatDoesNot(t *testing.T) {
	text := `duration: 60s
hosts:
  reference: {clock: {}, config: {local: {stratum: 1}, server: {}}}
  lost: {clock: {}, config: {sources: [{server: nobody}]}}
  nobody: {clock: {}, config: {local: {stratum: 2}}}
`
	path := write(t, "lab.yaml", text)
	const want = "not synchronized at the end: lost\n"
	lost := func(o outcome) bool { return strings.HasSuffix(o.stderr, want) }
	o := longer(time.Second, lost, "--duration", "lab", path)
	o.errorLine(t, 1, want)
	o = longer(time.Second, lost, "--duration", "lab", path, "--json")
	if o.status != 1 {
		t.Errorf("with --json: got status %d, want 1", o.status)
	}
	if lost := missing(shape(t, o.stdout), "hosts.lost.true_error:number", "hosts.lost.offset:number", "hosts.lost.stratum:number",
		"hosts.lost.synchronized:bool", "hosts.lost.sources[].state:string", "hosts.reference.sources[]"); lost != nil {
		t.Errorf("JSON lacks %v\n%s", lost, o.stdout)
	}
}

func TestWhatALabLeavesOutIsSaid(t *testing.T) {
	o := longer(2*time.Second, succeeds, "--duration", "lab", write(t, "lab.yaml", goodLab+"links: [{between: [client, reference], delay: 1ms}]\n"))
	if strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "timeball simulate") {
		t.Errorf("got %q, want one line", o.stderr)
	}
	o = longer(2*time.Second, succeeds, "--duration", "lab", write(t, "lab.yaml", goodLab+"events: [{at: 1s, host: client, stop: true}]\n"))
	if o.status != 0 || o.stderr != "" || !strings.Contains(o.stdout, "stopped") || !strings.Contains(o.stdout, "all 1 hosts synchronized") {
		t.Errorf("got status %d, %q, %q; want that one host is stopped and that all others are well", o.status, o.stdout, o.stderr)
	}
}

func TestALabTable(t *testing.T) {
	var out bytes.Buffer
	state := exampleState(t)
	if err := printLab(&out, state); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	at := strings.Index(lines[1], "SOURCE") // that line is ASCII
	for _, line := range lines[2:] {
		if strings.HasPrefix(line, "client") && !strings.HasPrefix(string([]rune(line)[at-2:]), "* reference ") {
			t.Errorf("the columns are not aligned:\n%s", out.String())
		}
	}
}

// exampleState is the state of the lab that all tests share.
func exampleState(t *testing.T) lab.State {
	t.Helper()
	return running(t).l.State()
}

// A table that is due within half an interval of the end is left to the end.
func TestTheLastTableIsPrintedOnce(t *testing.T) {
	soon, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if ends(t.Context(), time.Hour) || ends(soon, time.Minute) || !ends(soon, 2*time.Hour) {
		t.Error("want an end only where there is a deadline, and it is near")
	}
	cancel()
	if !ends(soon, 0) {
		t.Error("interrupted: want an end")
	}
	alone := write(t, "lab.yaml", "duration: 60s\nhosts: {reference: {clock: {}, config: {local: {stratum: 1}}}}\n")
	o := run("lab", alone, "--duration", "6s")
	if tables := strings.Count(o.stdout, "HOST "); o.status != 0 || tables != 2 {
		t.Errorf("got status %d and %d tables, want 0 and two, of the start and of the end: the one at 5 s is next to the end", o.status, tables)
	}
}

// A file is no terminal: a table now and then, nothing redrawn.
func TestAScreenThatIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, false)
	if s.terminal || s.interval < 2*time.Second {
		t.Errorf("got terminal %v every %s, want a table every few seconds", s.terminal, s.interval)
	}
	if err := s.draw(exampleState(t)); err != nil || strings.Contains(out.String(), clearScreen) {
		t.Errorf("got %q, %v, want no redraw", out.String(), err)
	}
	silent := newScreen(&out, true)
	out.Reset()
	if err := silent.draw(exampleState(t)); err != nil || out.Len() != 0 {
		t.Errorf("got %q, want silence with --json", out.String())
	}
}

func TestNamesInTheLabHaveNoPort(t *testing.T) {
	name := hostOf(&control.Source{Name: "reference:4321", Address: "127.0.0.2:4321", State: "selected"})
	if got, want := name, "reference"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The life of the service, in this process: a hangup and an interrupt.
func TestRunHeedsSignals(t *testing.T) {
	dir, err := os.MkdirTemp("", "tb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := dir + "/s"
	path := write(t, "timeball.yaml", "clock: {driver: virtual}\nlocal: {stratum: 3}\nlog: {level: error}\ncontrol: {socket: "+socket+"}\n")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runDaemon(ctx, path) }()
	if o := run("wait", "--socket", socket, "--timeout", "20s"); o.status != 0 {
		t.Fatal(o.stderr)
	}
	if err := os.WriteFile(path, []byte("broken: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if o := run("status", "--socket", socket); strings.Contains(o.stdout, "THE LAST RELOAD WAS REFUSED") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("status does not show that the reload was refused")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
