package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// names is a name server under a test's control.
type names struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked int
	hang  bool
	ended int // look-ups that were under way when the daemon stopped
}

func (n *names) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked++
	addrs, err, hang := slices.Clone(n.addrs), n.err, n.hang
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ended++
		return nil, ctx.Err()
	}
	return addrs, err
}

func (n *names) set(err error, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err, n.addrs, n.hang = err, addrs, false
}

func (n *names) use(o *Options) { o.Lookup = n.lookup }

func poolText(port uint16, count int) string {
	return fmt.Sprintf("sources: [{pool: \"pool.example:%d\", count: %d, min_poll: -4, max_poll: -4}]\n", port, count)
}

func addrsOf(servers []*server) (list []netip.Addr) {
	for _, s := range servers {
		list = append(list, s.addr.Addr())
	}
	return list
}

func TestAPoolKeepsItsCountInUse(t *testing.T) {
	servers := farm(t, "127.0.40.1", "127.0.40.2", "127.0.40.3", "127.0.40.4", "127.0.40.5")
	n := &names{addrs: addrsOf(servers)}
	w := start(t, poolText(servers[0].addr.Port(), 3), n.use)
	until(t, "three members", func() bool { return len(w.members()) == 3 })
	until(t, "synchronized", w.synchronized)
	if asked := servers[4].asked.Load(); asked != 0 {
		t.Errorf("the fifth was asked %d times, want not at all", asked)
	}
}

// The daemon serves meanwhile and recovers.
func TestADeadNameServerHoldsUpNothing(t *testing.T) {
	servers := farm(t, "127.0.41.1", "127.0.41.2")
	n := &names{hang: true}
	w := start(t, poolText(servers[0].addr.Port(), 2)+localServer, n.use)
	w.mustServe() // while the name server hangs
	until(t, "a look-up under way", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.asked > 0 })
	if err := w.stop(); err != nil {
		t.Errorf("a look-up under way holds up the stop: %v", err)
	}
	if n.mu.Lock(); n.ended != 1 {
		t.Errorf("look-ups ended by the stop: got %d, want 1", n.ended)
	}
	n.mu.Unlock()

	n = &names{err: errors.New("no such host")}
	w = start(t, poolText(servers[0].addr.Port(), 2), n.use)
	until(t, "the failure logged", func() bool { return w.lines("name not resolved") > 0 })
	n.set(nil, addrsOf(servers)...)
	until(t, "synchronized once the name server is back", w.synchronized)
	if got := w.lines("name not resolved"); got > 5 {
		t.Errorf("got %d lines about the name, want few", got)
	}
}

func TestADeadMemberIsReplaced(t *testing.T) {
	servers := farm(t, "127.0.42.1", "127.0.42.2", "127.0.42.3")
	servers[0].silent.Store(true)
	n := &names{addrs: addrsOf(servers)}
	w := start(t, poolText(servers[0].addr.Port(), 2), n.use)
	until(t, "the silent one replaced", func() bool {
		return slices.Equal(w.members(), addrsOf(servers[1:]))
	})
	until(t, "it is logged", func() bool { return w.lines("source replaced") > 0 })
}

// RFC 5905 §7.4: DENY demobilizes, and the address is never asked again.
func TestRFC5905_7_4_DenyIsHeeded(t *testing.T) {
	servers := farm(t, "127.0.43.1", "127.0.43.2")
	deny := "DENY"
	servers[0].kiss.Store(&deny)
	n := &names{addrs: addrsOf(servers[:1])}
	w := start(t, poolText(servers[0].addr.Port(), 1), n.use)
	until(t, "the denying one asked", func() bool { return servers[0].asked.Load() > 0 })
	until(t, "the denying one dropped", func() bool { return len(w.members()) == 0 })
	asked := servers[0].asked.Load()
	n.set(nil, addrsOf(servers)...)
	until(t, "another one in its place", func() bool { return slices.Equal(w.members(), addrsOf(servers[1:])) })
	until(t, "synchronized", w.synchronized)
	if got := servers[0].asked.Load(); got != asked {
		t.Errorf("after DENY it was asked %d times more, want 0", got-asked)
	}
}

// Threats 22: the DNS switches to liars, all at once. The members that work stay.
func TestAPoisonedAnswerChangesNothing(t *testing.T) {
	servers := farm(t, "127.0.44.1", "127.0.44.2", "127.0.44.3", "127.0.44.11", "127.0.44.12", "127.0.44.13")
	good, liars := servers[:3], servers[3:]
	for _, s := range liars {
		s.offset.Store(int64(20 * time.Second))
	}
	n := &names{addrs: addrsOf(good)}
	w := start(t, poolText(servers[0].addr.Port(), 3), n.use)
	until(t, "synchronized to the good", func() bool { return w.synchronized() && len(w.members()) == 3 })
	n.set(nil, addrsOf(liars)...)
	begun := good[0].asked.Load()
	until(t, "many polls more", func() bool { return good[0].asked.Load() > begun+30 })
	if got, want := w.members(), addrsOf(good); !slices.Equal(got, want) {
		t.Errorf("members: got %v, want %v", got, want)
	}
	if e := w.d.Snapshot(); e.Steps > 1 || e.Offset.Abs() > time.Second {
		t.Errorf("got %d steps, offset %s, want no move", e.Steps, e.Offset)
	}
}

// The same, but one good member after the other dies: each is replaced by a liar, which
// the majority outvotes and the pool drops again.
func TestLiarsThatComeOneByOneDoNotMoveTheClock(t *testing.T) {
	servers := farm(t, "127.0.45.1", "127.0.45.2", "127.0.45.3", "127.0.45.4", "127.0.45.11")
	good, liar := servers[:4], servers[4]
	liar.offset.Store(int64(20 * time.Second))
	n := &names{addrs: addrsOf(good)}
	w := start(t, poolText(servers[0].addr.Port(), 4), n.use)
	until(t, "synchronized to the good", func() bool { return w.synchronized() && len(w.members()) == 4 && w.d.Snapshot().Updates > 8 })
	n.set(nil, append(addrsOf(good), liar.addr.Addr())...)
	good[0].silent.Store(true)
	until(t, "the liar taken", func() bool { return liar.asked.Load() > 0 })
	until(t, "the liar found out", func() bool { r := w.report(liar.addr); return r != nil && r.State.String() == "falseticker" })
	if s := w.d.Snapshot(); s.Offset.Abs() > time.Second || !s.Synchronized {
		t.Errorf("got offset %s, synchronized %v, want no move", s.Offset, s.Synchronized)
	}
}

// Who answers while the names of the others are still being looked up is not believed alone.
func TestWhoseNameComesFirstIsNotBelievedAlone(t *testing.T) {
	servers := farm(t, "127.0.54.1", "127.0.54.2", "127.0.54.3")
	forged, answered := servers[2], make(chan struct{})
	forged.offset.Store(int64(20 * time.Second))
	lookup := func(ctx context.Context, name string) ([]netip.Addr, error) {
		if name == "forged.example" {
			return addrsOf(servers[2:]), nil
		}
		select {
		case <-answered:
			return addrsOf(servers[:2][map[string]int{"one.example": 0, "two.example": 1}[name]:][:1]), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	text := "sources:\n"
	for _, name := range []string{"forged.example:%d\", fallback: true", "one.example:%d\"", "two.example:%d\""} {
		text += fmt.Sprintf("  - {server: \""+name+", min_poll: -4, max_poll: -4}\n", forged.addr.Port())
	}
	w := start(t, text, func(o *Options) { o.Lookup = lookup })
	until(t, "samples of the first", func() bool { r := w.report(forged.addr); return r != nil && r.Samples > 2 })
	close(answered)
	until(t, "synchronized", w.synchronized)
	if s := w.d.Snapshot(); s.Steps > 0 || s.Offset.Abs() > time.Second {
		t.Errorf("got %d steps, offset %s, want no move", s.Steps, s.Offset)
	}
}

func TestOneMachineHasOneVote(t *testing.T) {
	servers := farm(t, "127.0.46.1", "127.0.46.2")
	n := &names{addrs: addrsOf(servers)}
	port := servers[0].addr.Port()
	text := fmt.Sprintf("sources: [{server: \"127.0.46.1:%d\", min_poll: -4}, {pool: \"pool.example:%d\", count: 2, min_poll: -4}]\n", port, port)
	w := start(t, text, n.use)
	until(t, "the pool filled", func() bool { return servers[1].asked.Load() > 2 })
	w.look(func(g *registry) {
		if got, want := len(g.set.Targets("")[1].Members), 1; got != want {
			t.Errorf("members of the pool: got %d, want %d: the other is asked already", got, want)
		}
	})
}

func TestAskAndTellEndWithTheirContext(t *testing.T) {
	w := start(t, localServer)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	block := make(chan struct{})
	defer close(block)
	w.d.registry.tell(context.Background(), func(*registry) { <-block })
	if err := w.d.registry.ask(ctx, func(*registry) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	for range 200 { // more than the inbox holds: none of these may hang
		w.d.registry.tell(ctx, func(*registry) {})
	}
}

func TestAskOfADaemonThatStopsIsRefused(t *testing.T) {
	w := start(t, localServer)
	w.stop()
	for range 100 {
		if err := w.d.registry.ask(context.Background(), func(*registry) {}); !errors.Is(err, errStopping) {
			t.Fatalf("got %v, want errStopping", err)
		}
	}
}
