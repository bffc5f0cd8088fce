package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/wire"
)

// file is a configuration file that a running daemon reloads.
type file struct {
	*world
	path, rest string
}

// startFile runs a daemon from a file.
func startFile(t *testing.T, text string, options ...func(*Options)) *file {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "timeball.yaml")}
	level := zap.NewAtomicLevelAt(zap.DebugLevel)
	options = append(options, func(o *Options) { o.Path, o.Level = f.path, &level })
	f.world = start(t, text, options...)
	socket := f.d.config.Load().Control.Socket
	f.rest = "\ncontrol: {socket: " + socket + "}\n"
	f.write(text)
	return f
}

func (f *file) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text+f.rest), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// reload writes and reloads.
func (f *file) reload(text string) {
	f.t.Helper()
	f.write(text)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.d.Reload(ctx)
}

// state keeps the state files where nobody else is.
const quiet = "clock: {drift_file: \"\", state_dir: \"\"}\n"

// A bad file changes nothing, is named in log and status; a good one then works.
func TestABadReloadChangesNothing(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	f := startFile(t, localServer+quiet+sourceText(s.addr))
	until(t, "samples", func() bool { r := f.report(s.addr); return r != nil && r.Samples > 2 })
	id := f.report(s.addr).Source
	for _, test := range []struct{ name, text, want string }{
		{"syntax", "sources: [", "timeball.yaml:"},
		{"an unknown key", "sauces: []", "sauces"},
		{"a foreign address", "server: {listen: [\"192.0.2.1:0\"]}\n" + quiet, "192.0.2.1"},
		{"metrics at a foreign address", localServer + quiet + "metrics: {listen: \"192.0.2.1:0\"}", "metrics.listen"},
	} {
		f.reload(test.text)
		if got := f.d.reloads.problem(); !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want it to name %q", test.name, got, test.want)
		}
		if f.said("reload refused; the running configuration stays in force") == 0 {
			t.Errorf("%s: nothing was logged", test.name)
		}
		f.mustServe()
		if r := f.report(s.addr); r == nil || r.Source != id {
			t.Errorf("%s: the running configuration was touched", test.name)
		}
	}
	if got := f.d.about().ReloadError; got == "" {
		t.Error("status does not show that the last reload was refused")
	}
	f.reload(localServer + quiet + sourceText(s.addr))
	if got := f.d.about().ReloadError; got != "" {
		t.Errorf("after a good one: got %q, want nothing", got)
	}
}

// Sources that have not changed keep their filter and poll.
func TestAReloadKeepsWhatHasNotChanged(t *testing.T) {
	servers := farm(t, "127.0.48.1", "127.0.48.2", "127.0.48.3")
	f := startFile(t, quiet+sourceText(servers[0].addr, servers[1].addr))
	until(t, "samples of both", func() bool {
		a, b := f.report(servers[0].addr), f.report(servers[1].addr)
		return a != nil && b != nil && a.Samples > 8 && b.Samples > 8
	})
	before := *f.report(servers[0].addr)
	f.reload(quiet + "selection: {min_sources: 1, max_distance: 1s}\n" + sourceText(servers[0].addr, servers[2].addr))
	until(t, "the new one asked", func() bool { return servers[2].asked.Load() > 2 })
	until(t, "the old one gone", func() bool { return f.report(servers[1].addr) == nil })
	after := f.report(servers[0].addr)
	if after.Source != before.Source || after.Samples < before.Samples || after.Sent < before.Sent {
		t.Errorf("kept source: got id %d with %d samples, want %d with at least %d", after.Source, after.Samples, before.Source, before.Samples)
	}
}

// Pulses are numbered by the reference clock that the configuration names, also when a reload
// has put another in its place.
func TestPulsesFollowTheClockThatNumbersThem(t *testing.T) {
	const text = "sources:\n  - refclock: {driver: shm, unit: 7, refid: GPS, offset: %dms}\n  - refclock: {driver: pps, unit: 97, refid: PPS, lock: GPS}\n"
	f := startFile(t, fmt.Sprintf(text, 0))
	numbering := func() (pulses, by *receiver) {
		f.look(func(g *registry) {
			for _, r := range g.receivers {
				if r.of.Device.Driver == config.RefclockPPS {
					pulses, by = r, r.locked.Load()
				}
			}
			if by != nil && g.receivers[by.id] != by {
				by = nil // it has stopped
			}
		})
		return pulses, by
	}
	pulses, first := numbering()
	if first == nil {
		t.Fatal("nobody numbers the pulses")
	}
	f.reload(fmt.Sprintf(text, 1))
	if same, second := numbering(); second == nil || second == first || same != pulses {
		t.Errorf("after the reload the pulses of %p (%p before) are numbered by %p (%p before)", same, pulses, second, first)
	}
}

// A source that changes while its name is being looked up has its name looked up again.
func TestAReloadDuringALookUp(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	n := &names{hang: true}
	source := func(poll int) string {
		return quiet + fmt.Sprintf("sources: [{server: \"time.example:%d\", min_poll: -4, max_poll: %d}]\n", s.addr.Port(), poll)
	}
	f := startFile(t, source(-4), n.use)
	until(t, "a look-up under way", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.asked > 0 })
	n.set(nil, s.addr.Addr())
	f.reload(source(-3))
	until(t, "the source asked", func() bool { return s.asked.Load() > 0 })
}

func TestKeysThatChangeRestartTheirSourcesOnly(t *testing.T) {
	servers := farm(t, "127.0.49.1", "127.0.49.2")
	servers[0].key.Store(testKey(t, 10, "ten-tenths"))
	servers[1].key.Store(testKey(t, 11, "eleven-ten"))
	source := func(i int, key int) string {
		return fmt.Sprintf("  - {server: \"%s\", key: %d, min_poll: -4, max_poll: -4}\n", servers[i].addr, key)
	}
	text := quiet + "sources:\n" + source(0, 10) + source(1, 11)
	f := startFile(t, keyText+text)
	until(t, "samples of both", func() bool {
		a, b := f.report(servers[0].addr), f.report(servers[1].addr)
		return a != nil && b != nil && a.Samples > 2 && b.Samples > 2
	})
	ten, eleven := f.report(servers[0].addr).Source, f.report(servers[1].addr).Source
	f.reload(strings.Replace(keyText, "eleven-ten", "another-11", 1) + text)
	until(t, "the one with the new key refused", func() bool {
		r := f.report(servers[1].addr)
		return r != nil && r.Source != eleven && r.Samples == 0 && r.Sent > 2
	})
	if got := f.report(servers[0].addr); got == nil || got.Source != ten {
		t.Error("the source whose key is the same was restarted")
	}
}

func TestWhoIsNoLongerWelcomeIsStopped(t *testing.T) {
	passive := "symmetric: {passive: true, keys: [10]}\n"
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"nothing that concerns it", localServer + keyText + passive + "selection: {max_distance: 1s}\n", 1},
		{"passive no longer", localServer + keyText, 0},
		{"another key wanted", localServer + keyText + "symmetric: {passive: true, keys: [11]}\n", 0},
		{"another secret", localServer + strings.Replace(keyText, "ten-tenths", "other-10", 1) + passive, 0},
		{"another access right", "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, access: {server: [127.0.0.0/8]}}\n" + keyText + passive, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := startFile(t, localServer+quiet+keyText+passive)
			packet := testKey(t, 10, "ten-tenths").AppendMAC(request(wire.ModeActive), 4)
			exchangeFast(t, f.d.Addresses()[0], packet)
			until(t, "mobilized", func() bool { return f.dynamics(association.KindPassive) == 1 })
			f.reload(quiet + test.text)
			if got := f.dynamics(association.KindPassive); got != test.want {
				t.Errorf("associations: got %d, want %d", got, test.want)
			}
		})
	}
}

func TestAServerComesAndGoesByReload(t *testing.T) {
	f := startFile(t, quiet)
	if len(f.d.Addresses()) != 0 {
		t.Fatalf("got %v, want no port without a server section", f.d.Addresses())
	}
	f.reload(quiet + strings.Replace(localServer, "127.0.0.1", "127.0.53.3", 1))
	if len(f.d.Addresses()) != 1 {
		t.Fatalf("got %v, want one address", f.d.Addresses())
	}
	f.mustServe()
	was := f.d.Addresses()[0]
	stats := f.d.serverStats()
	if len(stats.Listeners) != 1 || stats.Listeners[0].Accepted == 0 {
		t.Errorf("got %+v, want one listener that has answered", stats.Listeners)
	}
	f.reload(quiet)
	if len(f.d.Addresses()) != 0 {
		t.Errorf("got %v, want no port", f.d.Addresses())
	}
	if reply := unanswered(t, was, request(wire.ModeClient)); reply != nil {
		t.Error("still served")
	}
	if c, err := f.d.clientsReport(nil, f.clock.Now().Raw); err != nil || c.Unavailable == "" {
		t.Errorf("clients: got %+v, %v, want that they are not available", c, err)
	}
}

func TestAnAddressThatOverlapsTakesARestart(t *testing.T) {
	f := startFile(t, quiet+"server: {listen: [\"0.0.0.0:0\"], workers: 1}\n")
	port := f.d.Addresses()[0].Port()
	f.reload(quiet + fmt.Sprintf("server: {listen: [\"127.0.0.1:%d\"], workers: 1}\n", port))
	if got := f.d.reloads.problem(); !strings.Contains(got, "takes a restart") {
		t.Errorf("got %q, want that it takes a restart", got)
	}
	if got := f.d.Addresses()[0].Port(); got != port {
		t.Errorf("port: got %d, want that the sockets stay at %d", got, port)
	}
}

func TestAccessIsTakenOverAtOnce(t *testing.T) {
	f := startFile(t, quiet+localServer)
	address := f.d.Addresses()[0]
	f.mustServe()
	f.reload(quiet + "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, access: {server: [192.0.2.0/24]}}\n")
	if got := f.d.Addresses()[0]; got != address {
		t.Errorf("address: got %s, want that the socket stays at %s", got, address)
	}
	if reply := unanswered(t, address, request(wire.ModeClient)); reply != nil {
		t.Error("a client that has no right any more is served")
	}
}

func TestWhatTakesAStartIsSaid(t *testing.T) {
	f := startFile(t, quiet+localServer)
	for _, test := range []struct{ section, text string }{
		{"server.workers", "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 2}\n" + quiet},
		{"server.interfaces", "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 2, interfaces: {ignore: [eth9]}}\n" + quiet},
		{"server.client_log", "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 2, interfaces: {ignore: [eth9]}, client_log: {size: 100}}\n" + quiet},
		{"clock.driver", localServer + "clock: {driver: observe}\n"},
		{"log.format", localServer + "clock: {driver: observe}\nlog: {format: json}\n"},
	} {
		f.reload(test.text)
		found := 0
		for _, e := range f.log.FilterMessage("change takes effect at the next start").All() {
			if e.ContextMap()["section"] == test.section {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: got %d lines that say so, want 1", test.section, found)
		}
	}
	if got := f.d.about().Clock; got != "kernel" && got != "virtual" {
		t.Errorf("clock: got %s, want the one that runs", got)
	}
}

func TestMetricsMoveByReload(t *testing.T) {
	f := startFile(t, quiet+"metrics: {listen: \"127.0.53.1:0\"}\n") // where nobody else listens once it has moved
	old := f.d.metrics.Load().listener.Addr().String()
	f.reload(quiet + "metrics: {listen: \"127.0.53.2:0\"}\n")
	fresh := f.d.metrics.Load().listener.Addr().String()
	if _, err := get("http://" + fresh + "/metrics"); err != nil {
		t.Errorf("the new address: %v", err)
	}
	if _, err := get("http://" + old + "/metrics"); err == nil {
		t.Error("the old address still answers")
	}
	f.reload(quiet)
	if _, err := get("http://" + fresh + "/metrics"); err == nil {
		t.Error("without a metrics section it still answers")
	}
}

func get(url string) (int, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, nil
}

func TestTheLogLevelIsTakenOver(t *testing.T) {
	f := startFile(t, quiet)
	f.reload(quiet + "log: {level: error}\n")
	if got, want := f.d.opts.Level.String(), "error"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSendersFollowTheConfiguration(t *testing.T) {
	sender := func(interval string) string {
		return "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, broadcast: [{address: 127.255.255.255, interface: lo, interval: " + interval + ", unauthenticated: true}]}\n"
	}
	f := startFile(t, quiet+sender("64s"))
	count := func() (n int) { f.look(func(g *registry) { n = len(g.set.Senders()) }); return n }
	first := f.senderRunner().id
	f.reload(quiet + sender("32s"))
	if got := count(); got != 1 || f.senderRunner().id == first {
		t.Errorf("got %d senders, the first %d; want one other", got, f.senderRunner().id)
	}
	f.reload(quiet + localServer)
	if got := count(); got != 0 {
		t.Errorf("got %d senders, want none", got)
	}
}

// A hundred reloads leave nothing behind.
func TestAHundredReloads(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	texts := []string{
		quiet + localServer + sourceText(s.addr),
		quiet + localServer + sourceText(s.addr) + "metrics: {listen: \"127.0.0.1:0\"}\nselection: {max_distance: 1s}\n",
		"broken: [",
	}
	f := startFile(t, texts[0])
	until(t, "samples", func() bool { return s.asked.Load() > 3 })
	for i := range 6 {
		f.reload(texts[i%3])
	}
	before, descriptors := runtime.NumGoroutine(), openFiles(t)
	for i := range 102 {
		f.reload(texts[i%3])
	}
	until(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= before+2 })
	until(t, "descriptors as before", func() bool { return openFiles(t) <= descriptors+2 })
	f.mustServe()
}

// A stop in the middle of reloads.
func TestAStopDuringReloads(t *testing.T) {
	texts := []string{quiet + localServer, quiet + "server: {listen: [\"127.0.0.2:0\"], workers: 1}\nmetrics: {listen: \"127.0.0.1:0\"}\n"}
	for round := range 5 {
		f := startFile(t, texts[0])
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 1; ctx.Err() == nil; i++ {
				_ = os.WriteFile(f.path, []byte(texts[i%2]+f.rest), 0o600)
				f.d.Reload(ctx)
			}
		}()
		time.Sleep(time.Duration(round) * 3 * time.Millisecond) // another moment each time; any will do
		if err := f.stop(); err != nil {                        // so it is where the parts do not end soon
			t.Errorf("stop: got %v, want nil", err)
		}
		cancel()
		<-done
	}
}

// A hangup that comes before the daemon runs is heeded once it does.
func TestAReloadBeforeTheStartWaits(t *testing.T) {
	cfg := settings(t, quiet+"control: {socket: "+socketOf(t)+"}\n")
	d, err := New(cfg, Options{Path: "/nonexistent.yaml", Clock: newMoody()})
	if err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan struct{})
	go func() { d.Reload(context.Background()); close(reloaded) }()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-reloaded
	if d.reloads.problem() == "" {
		t.Error("the reload was lost")
	}
	cancel()
	<-ended
	never, cancelled := context.WithCancel(context.Background())
	cancelled()
	other, err := New(cfg, Options{Clock: newMoody()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Reload(never) // returns, although it never runs
}

func TestADaemonWithoutAFileSaysSo(t *testing.T) {
	w := start(t, localServer)
	w.d.Reload(context.Background())
	if got := w.d.reloads.problem(); !strings.Contains(got, "without a configuration file") {
		t.Errorf("got %q", got)
	}
}
