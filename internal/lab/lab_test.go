package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"timeball/internal/model"
	"timeball/internal/scenario"
)

const patience = 30 * time.Second

// scenarioOf reads a scenario of these hosts.
func scenarioOf(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scenario.yaml")
	if err := os.WriteFile(path, []byte("duration: 60s\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run opens and runs a lab; it ends with the test.
func run(t *testing.T, text string) *Lab { return runWith(t, text, Options{Version: "test"}) }

func runWith(t *testing.T, text string, opts Options) *Lab {
	t.Helper()
	l, err := Open(scenarioOf(t, text), opts)
	if err != nil {
		t.Fatal(err)
	}
	return runLab(t, l)
}

// runLab runs a lab until the test ends.
func runLab(t *testing.T, l *Lab) *Lab {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Close()
		if _, err := os.Stat(l.scratch); err == nil {
			t.Error("the control sockets' directory is left")
		}
	})
	return l
}

// until waits for a state, and returns it.
func until(t *testing.T, l *Lab, what string, holds func(*State) bool) State {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		state := l.State()
		if holds(&state) {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; %+v", patience, what, state)
		}
	}
}

const twoHosts = `
hosts:
  reference:
    clock: {}
    config: {local: {stratum: 1}, server: {}}
  client:
    clock: {offset: 100ms, frequency: 10ppm}
    config: {sources: [{server: reference, min_poll: -4, max_poll: -3}]}
`

func TestHostsFindEachOther(t *testing.T) {
	l := run(t, twoHosts)
	state := until(t, l, "the client within a millisecond of the truth", func(s *State) bool {
		client := s.Hosts["client"]
		return client.Synchronized && math.Abs(client.TrueError) < 1e-3
	})
	if got := state.Unsynchronized(); len(got) != 0 {
		t.Errorf("not synchronized: got %v, want none", got)
	}
	client, reference := state.Hosts["client"], state.Hosts["reference"]
	if client.Stratum != 2 || len(client.Sources) != 1 || client.Sources[0].State != "selected" {
		t.Errorf("client: got %+v, want stratum 2 by one selected source", client)
	}
	if reference.Stratum != 1 || math.Abs(reference.TrueError) > 1e-6 {
		t.Errorf("reference: got %+v, want stratum 1 without error", reference)
	}
}

func TestTheJSONOfALab(t *testing.T) {
	l := run(t, twoHosts)
	text, err := json.Marshal(l.State())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Hosts map[string]map[string]any `json:"hosts"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"reference", "client"} {
		for _, key := range []string{"true_error", "offset", "stratum", "synchronized", "sources"} {
			if _, there := answer.Hosts[host][key]; !there {
				t.Errorf("%s lacks %s: %s", host, key, text)
			}
		}
	}
}

func TestAHostWithoutASourceIsNamed(t *testing.T) {
	l := run(t, `
hosts:
  alone:
    clock: {offset: 1s}
    config: {sources: [{server: silent}]}
  silent:
    clock: {}
    config: {}
  reference:
    clock: {}
    config: {local: {stratum: 1}}
`)
	state := until(t, l, "the reference synchronized", func(s *State) bool { return s.Hosts["reference"].Synchronized })
	if got, want := strings.Join(state.Unsynchronized(), " "), "alone silent"; got != want {
		t.Errorf("got %q, want %q, in the scenario's order", got, want)
	}
	if name, worst := state.Worst(); name != "alone" || worst < 0.9 {
		t.Errorf("worst: got %s with %v s, want alone with 1 s", name, worst)
	}
}

func TestStop(t *testing.T) {
	l := run(t, twoHosts+`
events:
  - {at: 500ms, host: reference, stop: true}
`)
	state := until(t, l, "the reference stopped", func(s *State) bool { return s.Hosts["reference"].Stopped })
	if got := state.Running(); got != 1 {
		t.Errorf("running: got %d, want 1", got)
	}
	for _, name := range state.Unsynchronized() {
		if name == "reference" {
			t.Error("a host that an event has stopped counts as not synchronized")
		}
	}
}

func TestStopAndStart(t *testing.T) {
	core, log := observer.New(zapcore.InfoLevel)
	l := runWith(t, twoHosts+`
events:
  - {at: 500ms, host: reference, stop: true}
  - {at: 1s, host: reference, start: true}
  - {at: 500ms, host: client, frequency_step: 5ppm}
`, Options{Version: "test", Log: zap.New(core)})
	until(t, l, "the reference back", func(s *State) bool {
		return lives(log, "reference") == "runs stops runs" && s.Hosts["reference"].Synchronized
	})
	until(t, l, "the client synchronized", func(s *State) bool { return s.Hosts["client"].Synchronized })
}

// lives says how often the daemon of a host has started and stopped: "runs stops runs".
func lives(log *observer.ObservedLogs, host string) string {
	var words []string
	for _, line := range log.FilterField(zap.String("host", host)).All() {
		if word, found := strings.CutPrefix(line.Message, "timeball "); found {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// Somebody sets the client's clock an hour back, and the daemon finds out and mends it.
func TestSomebodySetsAClock(t *testing.T) {
	core, log := observer.New(zapcore.InfoLevel)
	l := runWith(t, twoHosts+`
events:
  - {at: 4s, host: client, offset_step: 1h}
`, Options{Version: "test", Log: zap.New(core)})
	told := zap.String("event", model.EventClockJump.String())
	jumps := func() int { return log.FilterField(told).Len() }
	until(t, l, "the daemon told of it", func(*State) bool { return jumps() == 1 })
	if got := log.FilterField(told).All()[0].ContextMap()["seconds"]; got != -3600.0 {
		t.Errorf("got a jump of %v s, want -3600", got)
	}
	until(t, l, "the client right again", func(s *State) bool {
		client := s.Hosts["client"]
		return client.Synchronized && math.Abs(client.TrueError) < 1e-3
	})
	if got := jumps(); got != 1 {
		t.Errorf("got %d jumps in the log, want 1", got)
	}
}

// What happened to its clock while a daemon was stopped is no jump to the next one.
func TestAClockSetWhileItsDaemonIsStopped(t *testing.T) {
	core, log := observer.New(zapcore.InfoLevel)
	l := runWith(t, twoHosts+`
events:
  - {at: 500ms, host: client, stop: true}
  - {at: 600ms, host: client, offset_step: 1h}
  - {at: 700ms, host: client, start: true}
`, Options{Version: "test", Log: zap.New(core)})
	until(t, l, "the client right again", func(s *State) bool {
		client := s.Hosts["client"]
		return lives(log, "client") == "runs stops runs" && client.Synchronized && math.Abs(client.TrueError) < 1e-3
	})
	hour := 0 // the second daemon finds the clock an hour behind, and sets it
	for _, line := range log.FilterField(zap.String("event", model.EventStep.String())).All() {
		if by, _ := line.ContextMap()["seconds"].(float64); by > 3500 {
			hour++
		}
	}
	if hour != 1 {
		t.Errorf("got %d steps of an hour in the log, want 1: %v", hour, log.All())
	}
	if got := log.FilterField(zap.String("event", model.EventClockJump.String())).Len(); got != 0 {
		t.Errorf("got %d jumps in the log, want none", got)
	}
}

func TestWhichEventsAreForTheLab(t *testing.T) {
	for _, test := range []struct {
		event scenario.Event
		want  bool
	}{
		{scenario.Event{Kind: scenario.Stop}, true},
		{scenario.Event{Kind: scenario.Start}, true},
		{scenario.Event{Kind: scenario.Start, Reboot: &scenario.Reboot{}}, false},
		{scenario.Event{Kind: scenario.OffsetStep}, true},
		{scenario.Event{Kind: scenario.WanderChange}, false},
		{scenario.Event{Kind: scenario.FrequencyStep}, false},
		{scenario.Event{Kind: scenario.Suspend}, false},
	} {
		if got := Plays(&test.event); got != test.want {
			t.Errorf("%v: got %v, want %v", test.event.Kind, got, test.want)
		}
	}
}

func TestEachHostHasAnAddressOfItsOwn(t *testing.T) {
	l := run(t, twoHosts)
	addresses := l.Addresses()
	if len(addresses) != 2 || addresses[0].Addr() != netip.MustParseAddr("127.0.0.2") || addresses[1].Addr() != netip.MustParseAddr("127.0.0.3") ||
		addresses[0].Port() != addresses[1].Port() || addresses[0].Port() < 1024 {
		t.Errorf("got %v, want 127.0.0.2 and 127.0.0.3 at one unprivileged port", addresses)
	}
}

func TestALabThatCannotBeOpenedNamesTheHost(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	s := scenarioOf(t, fmt.Sprintf(`
hosts:
  a: {clock: {}, config: {local: {stratum: 1}, server: {}}}
  b: {clock: {}, config: {metrics: {listen: "%s"}}}
`, busy.Addr()))
	l, err := Open(s, Options{})
	if err == nil {
		l.Close()
		t.Fatal("got nil, want an error")
	}
	if !strings.HasPrefix(err.Error(), "host b: ") {
		t.Errorf("got %v, want that it begins with the host", err)
	}
}

func TestTooManyHosts(t *testing.T) {
	s := &scenario.Scenario{Hosts: make([]scenario.Host, maxHosts+1)}
	if _, err := Open(s, Options{}); err == nil {
		t.Error("got nil, want an error")
	}
}

func TestALabPlaysNoRecords(t *testing.T) {
	s := &scenario.Scenario{Hosts: []scenario.Host{{Name: "client", Replays: make([]scenario.Replay, 1)}}}
	if _, err := Open(s, Options{}); err == nil || !strings.Contains(err.Error(), "timeball simulate") {
		t.Errorf("got error %v, want one that says what plays it", err)
	}
}

func TestALabLeavesNothingOnDisk(t *testing.T) {
	l := run(t, twoHosts)
	for _, h := range l.hosts {
		if h.config.Clock.DriftFile != "" || h.config.Clock.StateDir != "" {
			t.Errorf("%s keeps state in %q, %q; want nowhere", h.name, h.config.Clock.DriftFile, h.config.Clock.StateDir)
		}
	}
}

func TestWhatAScenarioStatesStays(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l := run(t, `
hosts:
  one:
    clock: {}
    config: {local: {stratum: 1}, control: {socket: `+socket+`}, server: {listen: ["127.0.99.1:0"]}}
`)
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("control socket: %v", err)
	}
	if got := l.hosts[0].daemon.Load().Addresses()[0].Addr().String(); got != "127.0.99.1" {
		t.Errorf("listens at %s, want 127.0.99.1", got)
	}
}

func TestALabOnlyKnowsItsHosts(t *testing.T) {
	l := run(t, twoHosts)
	if got, err := l.lookup(t.Context(), "client"); err != nil || got[0] != netip.MustParseAddr("127.0.0.3") {
		t.Errorf("client: got %v, %v", got, err)
	}
	if _, err := l.lookup(t.Context(), "pool.ntp.org"); err == nil {
		t.Error("a name outside: got an address, want an error: a lab has no network")
	}
}
