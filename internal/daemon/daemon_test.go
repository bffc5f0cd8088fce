package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/control"
	"timeball/internal/logging"
	"timeball/internal/netio"
	"timeball/internal/wire"
)

func TestAClientFollowsItsServer(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	w := start(t, sourceText(s.addr)+"clock: {virtual: {offset: 60s, frequency: 12ppm}, step: {threshold: 20s, updates: 3}}") // no delay here is that long
	until(t, "synchronized", w.synchronized)
	until(t, "the offset worked off", func() bool { return w.d.Snapshot().Offset.Abs() < time.Millisecond && w.d.Snapshot().Updates > 5 })
	r := w.report(s.addr)
	if got, want := r.State.String(), "selected"; got != want {
		t.Errorf("state: got %s, want %s", got, want)
	}
	if got, want := w.d.Snapshot().Steps, uint64(1); got != want {
		t.Errorf("steps: got %d, want %d", got, want)
	}
	if got, want := w.lines("reachable"), 1; got != want {
		t.Errorf("lines that say reachable: got %d, want %d", got, want)
	}
	if err := w.stop(); err != nil {
		t.Errorf("stop: got %v, want nil", err)
	}
}

func TestAnUnsynchronizedServerSaysSo(t *testing.T) {
	w := start(t, serverText)
	reply := exchange(t, w.d.Addresses()[0], request(wire.ModeClient))
	if len(reply) != 48 {
		t.Fatalf("reply: got %d bytes, want 48", len(reply))
	}
	if leap, stratum := reply[0]>>6, reply[1]; leap != 3 || stratum != 0 {
		t.Errorf("leap and stratum: got %d, %d, want 3, 0", leap, stratum)
	}
}

func TestALocalServerServesItsClock(t *testing.T) {
	w := start(t, localServer)
	conn := dial(t, w.d.Addresses()[0])
	defer conn.Close()
	untilAnswer(t, "served", conn, func(reply []byte) bool { return isTime(reply) && reply[0]>>6 == 0 && reply[1] == 1 })
}

func TestNothingIsStartedThatCannotBe(t *testing.T) {
	w := start(t, localServer)
	taken := w.d.Addresses()[0]
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct{ name, text, want string }{
		{"a port in use (threat 45)", fmt.Sprintf("server: {listen: [\"%s\"]}", taken), "in use"},
		{"metrics at a port in use", fmt.Sprintf("metrics: {listen: \"%s\"}", busy.Addr()), "metrics.listen"},
	} {
		_, err := tryStart(t, test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", test.name, err, test.want)
		}
	}
	w.mustServe() // the first was not harmed
}

func TestAPortInUseIsToldApart(t *testing.T) {
	w := start(t, localServer)
	_, err := tryStart(t, fmt.Sprintf("server: {listen: [\"%s\"]}", w.d.Addresses()[0]))
	if !errors.Is(err, netio.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

func TestAControlSocketInUseEndsTheStart(t *testing.T) {
	path := socketOf(t)
	server, err := control.Listen(path, 0o600, control.HandlerFunc(func(context.Context, control.Request) (any, error) { return "pong", nil }))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(t.Context())
	cfg := settings(t, "control: {socket: "+path+"}\nclock: {driver: virtual}\n")
	d, err := New(cfg, Options{})
	if !errors.Is(err, control.ErrRunning) {
		t.Errorf("got %v, %v, want ErrRunning", d, err)
	}
}

// Nothing is left of a daemon that has stopped: goroutines, sockets, the control socket.
func TestStopLeavesNothing(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	before := runtime.NumGoroutine()
	descriptors := openFiles(t)
	for range 5 {
		w := start(t, sourceText(s.addr)+localServer+"metrics: {listen: \"127.0.0.1:0\"}\n")
		until(t, "an answer", func() bool { return s.asked.Load() > 0 })
		if err := w.stop(); err != nil { // so it is where the parts do not end soon
			t.Fatalf("stop: got %v, want nil", err)
		}
		if _, err := os.Stat(w.d.config.Load().Control.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("control socket: got %v, want that it is gone", err)
		}
	}
	until(t, "goroutines ended", func() bool { return runtime.NumGoroutine() <= before+1 })
	until(t, "descriptors closed", func() bool { return openFiles(t) <= descriptors+1 })
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(entries)
}

func TestADaemonNeverRunGivesEverythingBack(t *testing.T) {
	before := openFiles(t)
	for range 3 {
		d, err := New(settings(t, localServer+"clock: {driver: virtual}\ncontrol: {socket: "+socketOf(t)+"}\n"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		d.Close()
	}
	until(t, "descriptors closed", func() bool { return openFiles(t) <= before+1 })
}

// A part that fails must not leave a daemon that looks alive.
func TestAPartThatFailsEndsTheDaemon(t *testing.T) {
	w := start(t, localServer)
	w.d.group.Go("a part", func(context.Context) error { return errors.New("broken") })
	select {
	case err := <-w.ended:
		w.ended <- err
		if got, want := fmt.Sprint(err), "a part: broken"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Error("the daemon runs on")
	}
}

func TestThePartThatHangsIsSaid(t *testing.T) {
	g := newGroup(context.Background())
	release := make(chan struct{})
	g.Go("hangs", func(context.Context) error { <-release; return nil })
	g.cancel(nil)
	if err := waitAtMost(g, 10*time.Millisecond); err == nil {
		t.Error("got nil, want an error")
	}
	close(release)
	if err := g.Wait(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestTheSupervisorIsTold(t *testing.T) {
	var mu sync.Mutex
	states := map[string]int{}
	told := func(state string) int { mu.Lock(); defer mu.Unlock(); return states[state] }
	w := start(t, localServer, func(o *Options) {
		o.Watchdog = 20 * time.Millisecond
		o.Notify = func(state string) { mu.Lock(); states[state]++; mu.Unlock() }
	})
	const local = "STATUS=serving the local clock, error not known"
	until(t, "READY, WATCHDOG and STATUS", func() bool { return told("READY=1") == 1 && told("WATCHDOG=1") > 2 && told(local) == 1 })
	w.stop()
	if told("STOPPING=1") != 1 || told(local) != 1 || told("STATUS=stopped") != 1 {
		t.Errorf("got %v, want STOPPING=1, and each status, once", states)
	}
}

// A packet of mode 1 or 5 may come before anything else has happened.
func TestPacketsAtTheFirstMomentDoNoHarm(t *testing.T) {
	d, err := New(settings(t, localServer+"symmetric: {passive: true, unauthenticated: true}\nclock: {driver: virtual}\ncontrol: {socket: "+socketOf(t)+"}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []wire.Mode{wire.ModeActive, wire.ModePassive, wire.ModeBroadcast, wire.ModeServer} {
		for range 20 {
			exchangeFast(t, d.Addresses()[0], request(mode))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-d.running
	mustAnswer(t, d.Addresses()[0])
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// exchangeFast sends and does not wait for an answer.
func exchangeFast(t testing.TB, to netip.AddrPort, packet []byte) {
	t.Helper()
	conn := dial(t, to)
	defer conn.Close()
	_, _ = conn.Write(packet)
}

func TestTheDefaultControlSocketMayBeMissing(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may make any directory")
	}
	cfg := settings(t, "clock: {driver: virtual}")
	d, err := New(cfg, Options{})
	if err != nil {
		t.Fatalf("got %v, want a daemon without reports", err)
	}
	d.Close()
}

func TestTheLoggerIsAsConfigured(t *testing.T) {
	for _, format := range []string{"console", "json"} {
		cfg := settings(t, "log: {level: warn, format: "+format+"}")
		log, level, err := logging.New(cfg.Log)
		if err != nil || log == nil || level.String() != "warn" {
			t.Errorf("%s: got %v, %v, want a logger at warn", format, level, err)
		}
	}
}
