package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/lab"
	"timeball/internal/scenario"
)

// patience bounds every wait.
const patience = 30 * time.Second

// outcome is what a command line did.
type outcome struct {
	status         int
	stdout, stderr string
}

// run runs one command line in this process.
func run(args ...string) outcome {
	var stdout, stderr bytes.Buffer
	status := Main(args, &stdout, &stderr)
	return outcome{status, stdout.String(), stderr.String()}
}

// eventually runs one command line again and again until its outcome is as it should be, or
// patience ends: a busy machine may not answer a question in time.
func eventually(proper func(outcome) bool, args ...string) (o outcome) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if o = run(args...); proper(o) || time.Now().After(deadline) {
			return o
		}
	}
}

// succeeds reports whether a command has done what it should.
func succeeds(o outcome) bool { return o.status == 0 }

// longer runs a command for a time, and for ever longer ones until its outcome is as it
// should be: how soon a host is synchronized depends on what else the machine does.
func longer(shortest time.Duration, proper func(outcome) bool, flag string, args ...string) (o outcome) {
	for d := shortest; d < 3*patience; d *= 3 {
		if o = run(append(args, flag, d.String())...); proper(o) {
			break
		}
	}
	return o
}

// errorLine checks that a command failed with a status and one line.
func (o outcome) errorLine(t *testing.T, status int, want string) {
	t.Helper()
	if o.status != status || !strings.Contains(o.stderr, want) || strings.Count(o.stderr, "\n") != 1 {
		t.Errorf("got status %d, stderr %q; want status %d and one line with %q", o.status, o.stderr, status, want)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair is a lab of a reference and a client of it, with control sockets.
type pair struct {
	l       *lab.Lab
	dir     string
	address string // of the reference, with the port
}

func (p *pair) socket(host string) string { return filepath.Join(p.dir, host) }

// pairText is the scenario; %[1]s is the directory of the sockets.
const pairText = `duration: 60s
hosts:
  reference:
    clock: {}
    config:
      local: {stratum: 1}
      server: {broadcast: [{address: 255.255.255.255, interface: lo, interval: 1s, unauthenticated: true}]}
      control: {socket: %[1]s/reference}
  client:
    clock: {offset: 20ms, frequency: 5ppm}
    config:
      sources: [{server: reference, min_poll: -3, max_poll: -3}]
      control: {socket: %[1]s/client}
`

// labPair starts the lab once for all tests that only look.
var labPair = sync.OnceValues(func() (*pair, error) {
	dir, err := os.MkdirTemp("", "tbcli")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "pair.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, pairText, dir), 0o600); err != nil {
		return nil, err
	}
	scenario, err := scenario.Load(path)
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(scenario, lab.Options{Version: "test"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	atEnd = append(atEnd, func() { cancel(); <-ended; l.Close(); os.RemoveAll(dir) })
	return &pair{l: l, dir: dir, address: l.Addresses()[0].String()}, nil
})

// atEnd is what the test binary does last.
var atEnd []func()

func TestMain(m *testing.M) {
	status := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(status)
}

// running returns the lab, with its client synchronized.
func running(t *testing.T) *pair {
	t.Helper()
	p, err := labPair()
	if err != nil {
		t.Fatal(err)
	}
	if o := run("wait", "--socket", p.socket("client"), "--timeout", patience.String()); o.status != 0 {
		t.Fatalf("the client does not synchronize: %s", o.stderr)
	}
	return p
}

// shape lists the keys of a JSON value with what they hold, sorted: "a.b:number".
func shape(t *testing.T, text string) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, text)
	}
	found := map[string]bool{}
	walk("", v, found)
	var list []string
	for key := range found {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

func walk(path string, v any, found map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			walk(strings.TrimPrefix(path+"."+key, "."), value, found)
		}
	case []any:
		for _, value := range v {
			walk(path+"[]", value, found)
		}
		if len(v) == 0 {
			found[path+"[]"] = true
		}
	case float64:
		found[path+":number"] = true
	case string:
		found[path+":string"] = true
	case bool:
		found[path+":bool"] = true
	case nil:
		found[path+":null"] = true
	}
}

// missing are the wanted keys that a shape does not have.
func missing(got []string, want ...string) (list []string) {
	for _, w := range want {
		if !slices.Contains(got, w) {
			list = append(list, w)
		}
	}
	return list
}

// deaf is a UDP port at which nobody answers.
func deaf(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}
