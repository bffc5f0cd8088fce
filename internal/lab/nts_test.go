package lab

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"timeball/test/peers"
)

// A machine whose clock is years off cannot check the dates of certificates; with a
// majority of independent servers it starts all the same, and then checks them.
func TestNTSStartsWithAClockThatIsNotSet(t *testing.T) {
	a, here := peers.NewAuthority(t), peers.Here(t)
	ca := a.Write(here)
	for year, offset := range map[int]string{1970: "1795000000s", 2019: "250000000s", 2035: "-270000000s"} {
		t.Run(fmt.Sprint(year), func(t *testing.T) {
			text := "hosts:\n"
			for i := 1; i <= 3; i++ {
				name := fmt.Sprintf("server%d", i)
				certificate, key := a.Issue(peers.Here(t), name)
				text += fmt.Sprintf("  %s: {config: {local: {stratum: 1}, server: {nts: {certificate: %s, key: %s}}}}\n", name, certificate, key)
			}
			text += fmt.Sprintf("  client:\n    clock: {offset: %s}\n    config:\n      sources:\n", offset)
			for i := 1; i <= 3; i++ {
				text += fmt.Sprintf("        - {server: server%d, nts: {ca: %s}, min_poll: -2, max_poll: -2}\n", i, ca)
			}
			core, log := observer.New(zapcore.InfoLevel)
			l := runWith(t, text, Options{Version: "test", Log: zap.New(core)})
			until(t, l, "the client within 10 ms of the truth", func(s *State) bool {
				client := s.Hosts["client"]
				return client.Synchronized && math.Abs(client.TrueError) < 10e-3
			})
			undated := log.FilterMessageSnippet("the dates of the certificate are not checked").Len()
			if undated < 2 {
				t.Errorf("got %d exchanges without dates, want a majority of three", undated)
			}
			d := l.hosts[3].daemon.Load()
			dated := func() (n int) {
				for _, source := range d.Snapshot().Sources {
					if s := &source.Security; s.Cookies > 0 && !s.Undated && s.Exchanges > 0 {
						n++
					}
				}
				return n
			}
			for deadline := time.Now().Add(patience); dated() < 3; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("got %d sources with dates checked, want all three", dated())
				}
			}
		})
	}
}

// wantNotSetByOne waits for samples of server1, one source of three, and holds that they have not
// set the client's clock.
func wantNotSetByOne(t *testing.T, l *Lab) {
	t.Helper()
	state := until(t, l, "samples of the one server", func(s *State) bool {
		for _, source := range s.Hosts["client"].Sources {
			if strings.HasPrefix(source.Name, "server1:") && source.Samples >= 8 &&
				strings.Contains(source.Reason, "2 independent sources must agree before it is, and 1 do") {
				return true
			}
		}
		return false
	})
	if client := state.Hosts["client"]; client.Synchronized || math.Abs(client.TrueError) < 1e6 {
		t.Errorf("got %+v, want a clock that one source of three has not set", client)
	}
}

// One source of three is no majority, and an expired certificate is found out.
func TestNTSWithAClockThatIsNotSetNeedsAMajority(t *testing.T) {
	a, here := peers.NewAuthority(t), peers.Here(t)
	certificate, key := a.Issue(peers.Here(t), "server1")
	text := fmt.Sprintf(`hosts:
  server1: {config: {local: {stratum: 1}, server: {nts: {certificate: %s, key: %s}}}}
  plain1: {config: {local: {stratum: 1}, server: {}}}
  plain2: {config: {local: {stratum: 1}, server: {}}}
  client:
    clock: {offset: 1795000000s}
    config:
      sources:
`, certificate, key)
	for _, name := range []string{"server1", "plain1", "plain2"} {
		text += fmt.Sprintf("        - {server: %s, nts: {ca: %s}, min_poll: -2, max_poll: -2}\n", name, a.Write(here))
	}
	l := run(t, text)
	wantNotSetByOne(t, l)
}

// Names that nobody resolves leave no majority to the one that somebody does: who answers
// look-ups would choose the one server that sets the clock.
func TestNTSWithAClockThatIsNotSetCountsWhatIsNotResolved(t *testing.T) {
	a, here := peers.NewAuthority(t), peers.Here(t)
	certificate, key := a.Issue(here, "server1")
	ca := a.Write(here)
	l, err := Open(scenarioOf(t, fmt.Sprintf(`hosts:
  server1: {config: {local: {stratum: 1}, server: {nts: {certificate: %s, key: %s}}}}
  server2: {config: {local: {stratum: 1}, server: {}}}
  pool: {config: {local: {stratum: 1}, server: {}}}
  client:
    clock: {offset: 1795000000s}
    config:
      sources:
        - {server: server1, nts: {ca: %[3]s}, min_poll: -2, max_poll: -2}
        - {server: server2, nts: {ca: %[3]s}}
        - {pool: pool, nts: {ca: %[3]s}}
`, certificate, key, ca)), Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range l.hosts[1:3] {
		h.name += ", whom nobody resolves"
	}
	runLab(t, l)
	wantNotSetByOne(t, l)
}

// Fallback sources have no vote while the others agree: plain ones, whom anybody on the path
// may forge, would otherwise outvote those with NTS as long as the clock is not set.
func TestNTSWithAClockThatIsNotSetIsNotOutvotedByFallbacks(t *testing.T) {
	a, ca := peers.NewAuthority(t), ""
	text, sources := "hosts:\n", ""
	for _, name := range []string{"server1", "server2"} {
		here := peers.Here(t)
		certificate, key := a.Issue(here, name)
		ca = a.Write(here)
		text += fmt.Sprintf("  %s: {config: {local: {stratum: 1}, server: {nts: {certificate: %s, key: %s}}}}\n", name, certificate, key)
		sources += fmt.Sprintf("        - {server: %s, nts: {ca: %s}}\n", name, ca)
	}
	for _, name := range []string{"forged1", "forged2", "forged3"} {
		text += fmt.Sprintf("  %s: {clock: {offset: 1000s}, config: {local: {stratum: 1}, server: {}}}\n", name)
		sources += fmt.Sprintf("        - {server: %s, fallback: true}\n", name)
	}
	l := run(t, text+"  client:\n    clock: {offset: 1795000000s}\n    config:\n      sources:\n"+sources)
	until(t, l, "a clock that is set", func(s *State) bool { return s.Hosts["client"].Synchronized })
	if client := l.State().Hosts["client"]; math.Abs(client.TrueError) > 10e-3 {
		t.Errorf("got %+v, want the two servers' time", client)
	}
}
