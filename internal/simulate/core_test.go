package simulate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/responder"
)

// coreRun runs one seed with the real core, and gives the world at its end.
func coreRun(t *testing.T, text string) *world {
	t.Helper()
	s := parse(t, text)
	if err := runnable(s); err != nil {
		t.Fatal(err)
	}
	w := newWorld(s, s.Seed, true, boot)
	if !w.run(nil) {
		t.Fatal("the run was stopped")
	}
	return w
}

// final is what a host says of itself at the end.
func (w *world) final(t *testing.T, host string) *model.Snapshot {
	t.Helper()
	for _, m := range w.machines {
		if m.host.Name == host {
			if m.program == nil {
				t.Fatalf("%s does not run at the end", host)
			}
			return m.program.report(m.timestamp())
		}
	}
	t.Fatalf("no host %s", host)
	return nil
}

// client is a scenario of one server and one client with the given sections.
func client(duration, clock, sources, more, events string) string {
	return fmt.Sprintf(`duration: %s
hosts:
  server: {config: {local: {stratum: 1}, server: {}}}
  client:
    clock: {%s}
    config:
      sources: [%s]
%s
links: [{between: [client, server], delay: 100us, jitter: {distribution: exponential, mean: 10us}}]
events: [%s]
`, duration, clock, sources, more, events)
}

func TestHintsOfTheSystemProcessReachTheAssociation(t *testing.T) {
	w := coreRun(t, client("30000s", "wander: 1e-10", "{server: server}", "", ""))
	last := w.machines[1].program.(*core).members[0].process.Status()
	if last.Interval.Seconds() < 120 {
		t.Errorf("got a poll interval of %v with a very good clock, want it longer than min_poll", last.Interval)
	}
}

func TestClockSetByOthersMakesTheClientAskAgain(t *testing.T) {
	text := client("30000s", "wander: 1e-9", "{server: server, min_poll: 10, max_poll: 10}", "", "{at: 20000s, host: client, offset_step: 5s}")
	w := coreRun(t, text+"expect: [{host: client, interval: [20000s, 20010s]}]")
	m := w.machines[1]
	if got := m.stats.windows[1].packets; got < 2 {
		t.Errorf("got %d requests in the ten seconds after the clock was set, want some at once", got)
	}
	if got := m.stats.series[20300]; got > 1e-3 || got < -1e-3 {
		t.Errorf("got error %v five minutes later, want it put right", got)
	}
}

// The first correction may be of any size, once a boot.
func TestPanicGateOutlivesTheDaemonAndNotTheMachine(t *testing.T) {
	limits := "      clock: {panic: 2s, step: {threshold: 1s, updates: 3}}"
	for _, c := range []struct {
		name, start string
		want        bool
	}{{"the daemon starts again", "start: true", false}, {"the machine was rebooted", "start: {offset: 5s}", true}} {
		t.Run(c.name, func(t *testing.T) {
			events := "{at: 500s, host: client, stop: true}, {at: 600s, host: client, offset_step: 5s}, {at: 700s, host: client, " + c.start + "}"
			w := coreRun(t, client("1500s", "offset: 5s", "{server: server}", limits, events))
			if got := w.machines[1].stats.series[400]; got > 1e-3 || got < -1e-3 {
				t.Fatalf("got error %v after the first correction, want it made", got)
			}
			if got := w.final(t, "client").Synchronized; got != c.want {
				t.Errorf("got synchronized %v, want %v", got, c.want)
			}
		})
	}
}

func TestDriftFileIsReadAfterAReboot(t *testing.T) {
	for _, keep := range []bool{true, false} {
		events := fmt.Sprintf("{at: 20000s, host: client, stop: true}, {at: 20100s, host: client, start: {keep_drift: %v}}", keep)
		w := coreRun(t, client("20101s", "frequency: 80ppm, wander: 1e-10", "{server: server}", "", events))
		got := w.final(t, "client").FrequencyError
		if (got < 1e-6) != keep {
			t.Errorf("keep_drift %v: got a frequency known to %v some seconds after the start", keep, got)
		}
	}
}

func TestAReloadOutlivesTheProgram(t *testing.T) {
	w := coreRun(t, client("3000s", "", "", "", `{at: 100s, host: client, reload: {sources: [{server: server}]}}, {at: 1000s, host: client, stop: true}, {at: 1100s, host: client, start: true}`))
	if got := w.final(t, "client").Sources; len(got) != 1 {
		t.Errorf("got %d sources after a reload and a restart, want the one of the file", len(got))
	}
}

// What an earlier run has known of the time is enough to check a certificate by.
func TestTheLastTimeOutlivesTheProgram(t *testing.T) {
	const events = `{at: 1000s, host: client, stop: true}, {at: 1100s, host: client, start: {keep_drift: true, offset: 270000000s}}`
	text := client("3000s", "", "{server: server, nts: true}", "      nts: {cold_start: false}", events)
	w := coreRun(t, strings.Replace(text, "server: {}", "server: {nts: {certificate: c, key: k}}", 1))
	if s := w.final(t, "client"); !s.Synchronized {
		t.Errorf("got %s, want the time: the certificate was valid when the clock was last known", s.Sources[0].Reason)
	}
}

func TestServerLimitsTheRateAndCountsInterleaving(t *testing.T) {
	text := client("5000s", "", "{server: server, min_poll: 2, max_poll: 2, interleaved: \"on\"}", "", "")
	free := coreRun(t, text).machines[0].program.(*core).server.shard.Counters()
	if free.Sum(responder.Interleaved) < 1000 || free.Sum(responder.Limited) != 0 {
		t.Errorf("got %d interleaved and %d limited, want an interleaved answer every 4 s", free.Sum(responder.Interleaved), free.Sum(responder.Limited))
	}
	w := coreRun(t, strings.Replace(text, "server: {}", "server: {rate_limit: {interval: 16s, burst: 2, leak: 4}}", 1))
	limited := w.machines[0].program.(*core).server.shard.Counters()
	if got := limited.Sum(responder.RateKoD); got == 0 {
		t.Error("got no kiss-o'-death of 1250 requests at four times the rate, want some")
	}
	if got := w.final(t, "client").Sources[0].Interval; got < 16*time.Second {
		t.Errorf("got a client that polls every %v in the end, want one that obeys RATE: at least 16 s (RFC 5905 §7.4)", got)
	}
}

// keyed is a section of two keys.
const keyed = "keys: [{id: 10, type: aes128-cmac, hex: 000102030405060708090a0b0c0d0e0f}, {id: 11, type: aes128-cmac, hex: 100102030405060708090a0b0c0d0e0f}]"

func TestBroadcastsAreFollowedWithTheRightKeyOnly(t *testing.T) {
	for _, c := range []struct {
		source string
		want   bool
	}{{"{broadcast_client: {interface: lan}, key: 10}", true}, {"{broadcast_client: {interface: lan}, key: 11}", false}} {
		w := coreRun(t, `duration: 2000s
hosts:
  server: {config: {local: {stratum: 1}, server: {broadcast: [{address: 192.0.2.255, interface: lan, interval: 16s, key: 10}]}, `+keyed+`}}
  client: {clock: {offset: 1ms}, config: {sources: [`+c.source+`], `+keyed+`}}
links: [{between: [client, server], delay: 100us}]
`)
		if got := w.final(t, "client").Synchronized; got != c.want {
			t.Errorf("%s: got synchronized %v, want %v", c.source, got, c.want)
		}
	}
}

// pairOfPeers has an active left and a right that may be passive.
func pairOfPeers(source, symmetric, events string) string {
	return `duration: 40000s
hosts:
  left: {config: {sources: [` + source + `], local: {stratum: 3}, server: {}, ` + keyed + `}}
  right: {clock: {offset: 10ms}, config: {server: {}, symmetric: ` + symmetric + `, ` + keyed + `}}
links: [{between: [left, right], delay: 100us}]
events: [` + events + `]
`
}

func TestPassivePeerIsMobilizedByItsRules(t *testing.T) {
	for _, c := range []struct {
		name, source, symmetric string
		want                    bool
	}{
		{"with the key", "{peer: right, key: 10}", "{passive: true, keys: [10]}", true},
		{"with another key", "{peer: right, key: 11}", "{passive: true, keys: [10]}", false},
		{"without a key", "{peer: right, unauthenticated: true}", "{passive: true, keys: [10]}", false},
		{"without a key, where that is said", "{peer: right, unauthenticated: true}", "{passive: true, unauthenticated: true}", true},
		{"not at all", "{peer: right, key: 10}", "{passive: false}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := coreRun(t, pairOfPeers(c.source, c.symmetric, ""))
			right := w.final(t, "right")
			if right.Synchronized != c.want {
				t.Errorf("got synchronized %v, want %v", right.Synchronized, c.want)
			}
			if c.want && right.Stratum != 4 {
				t.Errorf("got stratum %d, want 4 behind the local clock of the left", right.Stratum)
			}
		})
	}
}

func TestPassivePeerGoesWhenTheOtherEndIsSilent(t *testing.T) {
	text := pairOfPeers("{peer: right, key: 10}", "{passive: true, keys: [10]}", "{at: 2000s, host: left, stop: true}")
	if got := len(coreRun(t, text).final(t, "right").Sources); got != 0 {
		t.Errorf("got %d sources ten hours after the other end fell silent, want none", got)
	}
}

func TestReadingNoiseAndTurnaroundDoNotBiasTheClock(t *testing.T) {
	text := `duration: 20000s
settle: 5000s
hosts:
  server: {clock: {read_noise: 500ns}, turnaround: 200us, config: {local: {stratum: 1}, server: {}}}
  client: {clock: {wander: 1e-10, read_noise: 500ns}, config: {sources: [{server: server, min_poll: 4, max_poll: 4}]}}
links: [{between: [client, server], delay: 100us}]
`
	m := coreRun(t, text).machines[1]
	if got := m.stats.figures(0).RMSError; got > 2e-6 {
		t.Errorf("got RMS error %v, want that of the noise at most", got)
	}
	sum := 0.0
	for _, x := range m.stats.series[5000:] {
		sum += x
	}
	if mean := sum / 15000; mean > 500e-9 || mean < -500e-9 {
		t.Errorf("got mean error %v, want none: the turnaround is in the timestamps", mean)
	}
}

func TestFirstAnswersComeFromFreshPortsAndOthersAreIgnored(t *testing.T) {
	w := coreRun(t, client("2000s", "", "{server: server}", "", ""))
	a := w.machines[1].program.(*core).members[0]
	if a.port < 49152 {
		t.Errorf("got port %d, want an ephemeral one", a.port)
	}
	if got := a.process.Status(); got.Rejected != ([model.RejectReasons]uint64{}) || got.Reach != 255 {
		t.Errorf("got rejections %v and reach %o, want none and 377", got.Rejected, got.Reach)
	}
}
