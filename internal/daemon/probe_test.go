package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/clock"
	"timeball/internal/control"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/probe"
	"timeball/internal/wire"
)

// asked asks until an answer that need not be long in coming has come in time, or is what
// is wanted: a busy machine may be slower than the network that a probe has patience with.
func asked(t *testing.T, p probe.Probe, c clock.Clock, wanted func(error) bool) (reply probe.Reply, err error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if reply, err = probe.Ask(t.Context(), p, c); wanted(err) || time.Now().After(deadline) {
			return reply, err
		}
	}
}

func TestAServerIsAsked(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.offset.Store(int64(250 * time.Millisecond))
	observed, tries := clock.NewObserve(), int64(0)
	answer, err := asked(t, probe.Probe{Name: "a", Remote: s.addr}, observed, func(err error) bool { tries++; return err == nil })
	if err != nil {
		t.Fatal(err)
	}
	delay := probe.Delay(&answer.Samples[0], observed.Precision())
	if delay <= 0 {
		t.Errorf("delay: got %s, want that of the loopback", delay)
	}
	if got := probe.Offset(&answer.Samples[0]); (got - 250*time.Millisecond).Abs() > delay/2+time.Millisecond {
		t.Errorf("offset: got %s, want 250 ms within half the delay of %s: reference − local", got, delay)
	}
	if got := answer.Status.Server; got.Stratum != 1 || got.Leap != wire.LeapNone || answer.Status.Reach != 1 {
		t.Errorf("status: got %+v, reach %d; want what the server says of itself", got, answer.Status.Reach)
	}
	if got, want := s.asked.Load(), tries; got > want {
		t.Errorf("asked %d times, want %d", got, want)
	}
}

func TestRFC5905_8_ADelayIsNoLessThanThePrecision(t *testing.T) {
	m := model.Sample{T1: ntptime.Instant{Wall: 1000}, T2: 2000, T3: 9000, T4: ntptime.Instant{Wall: 7000}}
	for precision, want := range map[ntptime.Log2]time.Duration{-20: 953 * time.Nanosecond, -10: 976562 * time.Nanosecond} {
		if got := probe.Delay(&m, precision); (got - want).Abs() > 1 {
			t.Errorf("a round trip of -1 µs at precision %d: got %s, want %s", precision, got, want)
		}
	}
	m.T4.Wall = 13000
	if got := probe.Delay(&m, -20); got != 5*time.Microsecond {
		t.Errorf("got %s, want 5 µs", got)
	}
}

func TestSeveralExchanges(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	var answer probe.Reply
	var err error
	until(t, "two samples", func() bool {
		answer, err = probe.Ask(t.Context(), probe.Probe{Remote: s.addr, Count: 2}, clock.NewObserve())
		return len(answer.Samples) >= 2
	})
	if err != nil || len(answer.Samples) != 2 {
		t.Errorf("got %d samples, %v, want 2", len(answer.Samples), err)
	}
}

func TestWhyThereIsNoAnswer(t *testing.T) {
	for _, test := range []struct {
		name, want string
		prepare    func(s *server)
	}{
		{"silence", "no answer", func(s *server) { s.silent.Store(true) }},
		{"DENY", "DENY", func(s *server) { deny := "DENY"; s.kiss.Store(&deny) }},
		{"RATE", "RATE", func(s *server) { rate := "RATE"; s.kiss.Store(&rate) }},
		{"a key that it does not have", "refused: MAC missing or wrong; do both sides have key 10", func(*server) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serveTime(t, "127.0.0.1", 0)
			test.prepare(s)
			q := probe.Probe{Name: "time.example", Remote: s.addr}
			if strings.Contains(test.name, "key") {
				q.Key = testKey(t, 10, "ten-tenths")
			}
			_, err := asked(t, q, clock.NewObserve(), func(err error) bool { return err == nil || strings.Contains(err.Error(), test.want) })
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "time.example (") {
				t.Errorf("got %v, want that it begins with whom", err)
			}
		})
	}
}

func TestAskingEndsWithItsContext(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.silent.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := probe.Ask(ctx, probe.Probe{Remote: s.addr}, clock.NewObserve()); err == nil {
		t.Error("got nil, want the context's error")
	}
}

func TestTheSourcesOfAConfigurationAreProbed(t *testing.T) {
	good := farm(t, "127.0.51.1", "127.0.51.2", "127.0.51.3", "127.0.51.4")
	good[2].offset.Store(int64(30 * time.Second))
	good[3].silent.Store(true)
	text := "sources:\n"
	for _, s := range good {
		text += fmt.Sprintf("  - {server: \"%s\"}\n", s.addr)
	}
	text += "  - {server: nobody.example}\n"
	lookup := func(context.Context, string) ([]netip.Addr, error) { return nil, fmt.Errorf("no such name") }
	var snapshot *model.Snapshot
	var faults []error
	var err error
	for deadline := time.Now().Add(patience); len(faults) != 2 && time.Now().Before(deadline); { // the others in time
		if snapshot, faults, err = ProbeSources(t.Context(), settings(t, text), lookup); err != nil {
			t.Fatal(err)
		}
	}
	if len(faults) != 2 {
		t.Errorf("faults: got %v, want that of the silent one and that of the name", faults)
	}
	states := map[string]string{}
	for _, s := range control.SourcesReport(snapshot, snapshot.At).Sources {
		states[s.Name] = s.State
		if want := map[bool]int{true: 16, false: 1}[s.Name == good[3].addr.String() || s.Name == "nobody.example"]; s.Stratum != want {
			t.Errorf("%s: got stratum %d, want %d", s.Name, s.Stratum, want)
		}
	}
	if got := states[good[2].addr.String()]; got != "falseticker" {
		t.Errorf("the liar: got %s, want falseticker (%v)", got, states)
	}
	if got := states["nobody.example"]; got != "waiting" {
		t.Errorf("the name without an address: got state %q, want a row that waits", got)
	}
	if snapshot.SystemPeer == 0 {
		t.Errorf("no source would be selected (%v)", states)
	}
	if _, _, err := ProbeSources(t.Context(), settings(t, "{}"), lookup); err == nil {
		t.Error("without a source: got nil, want an error")
	}
}

// The chain of servers: us, a daemon of stratum 2, one of stratum 1.
func TestTheChainIsTraced(t *testing.T) {
	port := freeUDPPort(t)
	host := func(addr string) func(*Options) {
		return func(o *Options) { o.Port = netip.AddrPortFrom(netip.MustParseAddr(addr), port) }
	}
	listen := func(addr string) string {
		return fmt.Sprintf("server: {listen: [\"%s:%d\"], workers: 1}\n", addr, port)
	}
	source := func(addr string) string {
		return sourceText(netip.AddrPortFrom(netip.MustParseAddr(addr), port))
	}
	start(t, "local: {stratum: 1}\n"+listen("127.0.52.1"), host("127.0.52.1"))
	middle := start(t, source("127.0.52.1")+listen("127.0.52.2"), host("127.0.52.2"))
	until(t, "the middle synchronized", middle.synchronized)
	w := start(t, source("127.0.52.2"), host("127.0.52.3"))
	until(t, "synchronized", w.synchronized)
	until(t, "stratum 2, then stratum 1", func() bool {
		trace, err := w.d.trace(t.Context(), w.d.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		return len(trace.Steps) == 2 && trace.Steps[0].Stratum == 2 && trace.Steps[1].Stratum == 1
	})
}
