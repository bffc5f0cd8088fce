package modes

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// answers are the replies to a request of an attacker who has seen it, but has not the
// key: with the right origin and without, unsigned, with other keys, refusing.
func answers(t *testing.T, request *seen) [][]byte {
	key := skeletonKey(t)
	origin := func(p peers.Payload, origin ntptime.Timestamp) []byte {
		b := p(1)
		binary.BigEndian.PutUint64(b[24:], uint64(origin))
		return b
	}
	right, server := request.Transmit, peers.Lie(wire.ModeServer)
	forged := func(int) []byte { return origin(server, right) }
	return [][]byte{
		origin(server, 0), origin(server, right+1), origin(server, right), origin(server, request.Receive),
		signed(forged, key)(1), falsely(forged, 16)(1), falsely(forged, 20)(1), peers.Refusal(forged)(1),
		origin(kiss(wire.KissDENY), right), origin(kiss(wire.KissRSTR), right), origin(kiss(wire.KissRATE), right),
		peers.Refusal(func(int) []byte { return origin(kiss(wire.KissDENY), right) })(1),
	}
}

// Threats 7, 8, 12 and 14, at their worst: the attacker hears each request and answers it
// before or after the server does. A key keeps the client from believing any of it, from
// its first request on.
func TestNoForgedReplyIsBelieved(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, reference, subject string
	}{
		{"of a server", "server: {}\n", "sources: [{server: %[1]v, key: 7, " + slower + "}]\nserver: {}\n"},
		{"of a peer at the start", "server: {}\nsymmetric: {passive: true, keys: [7]}\n", "sources: [{peer: %[1]v, key: 7, " + slower + "}]\nserver: {}\n"},
		{"of a broadcast server, to the volley", "server: {broadcast: [{address: %[2]v, interface: eth0, interval: 500ms, key: 7}]}\n",
			"sources: [{broadcast_client: {interface: eth0}, key: 7}]\nserver: {}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			takeSlot(t)
			n := newNetwork(t, false)
			forger := peers.Forge(t, n.lab.Host("attacker"))
			var sent atomic.Int64
			server := netip.AddrPortFrom(n.reference.IPv4, 123)
			listen(t, n.subject).each(func(p *seen) {
				if p.Mode != wire.ModeClient || p.From.Addr() != n.subject.IPv4 || p.To != server {
					return
				}
				for _, b := range answers(t, p) {
					if forger.Send(server, p.From, b) == nil {
						sent.Add(1)
					}
				}
			})
			fill := func(text string) string {
				return fmt.Sprintf(text+"%.0[1]v%.0[2]v", n.reference.IPv4, n.lab.Broadcast())
			}
			peers.Timeball(t, n.reference, reference+fill(tt.reference)+bothKeys)
			d := peers.Timeball(t, n.subject, wrongClock+fill(tt.subject)+bothKeys)
			g := newTruth(t, n.monitor, n.subject.IPv4, n.reference.IPv4)
			t.Log(g.converges(t, d))
			if err := g.holds(5 * time.Second); err != nil {
				t.Error(err)
			}
			row := d.Selects(time.Minute, n.reference.IPv4)
			if row.Poll > 0 {
				t.Errorf("poll after forged RATE and DENY: got %d, want -1", row.Poll)
			}
			if sent.Load() < 20 {
				t.Errorf("replies forged: got %d, want one for each request at least", sent.Load())
			}
		})
	}
}

// crowd is how many addresses a replay comes from.
const crowd = 3000

// growthAtMost bounds the memory that strangers may take, in bytes: for the table of
// clients and for as many associations as are allowed, with their filters' samples.
const growthAtMost = 24 << 20

// strangersBehind lets hosts reach the addresses that an attacker borrows by way of the
// attacker, as by a router: nobody has to look for them on the link.
func strangersBehind(t *testing.T, attacker *peers.Host, hosts ...*peers.Host) {
	t.Helper()
	for _, h := range hosts {
		if _, complaints, err := h.Run(nil, "ip", "route", "add", "198.18.0.0/15", "via", attacker.IPv4.String()); err != nil {
			t.Fatalf("route on %s: %v: %s", h.Name, err, complaints)
		}
	}
}

// Threat 19 and 20: true packets, with their true MACs, sent again from thousands of
// other addresses, which no MAC covers. They may mobilize no more than is allowed.
func TestNoReplayFromOtherAddressesMovesTheClock(t *testing.T) {
	t.Parallel()
	for _, m := range attackedModes() {
		if m.theirs == wire.ModeServer || m.ipv6 || m.name == "both active" {
			continue // there nothing is mobilized by what comes in, or it is the same over IPv4
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			takeSlot(t)
			n := newNetwork(t, m.ipv6)
			attacker := n.lab.Host("attacker")
			strangersBehind(t, attacker, n.subject, n.reference)
			wireTap := listen(t, n.subject)
			r := peers.Timeball(t, n.reference, reference+m.reference(n))
			d := peers.Timeball(t, n.subject, wrongClock+m.subject(n))
			g := newTruth(t, n.monitor, n.addr(n.subject), n.addr(n.reference))
			g.converges(t, d)
			forger := peers.Forge(t, attacker)
			victim, follows, mode, to := d, n.reference, m.theirs, m.to(n)
			if m.theirs == wire.ModePassive { // the passive side is the one that mobilizes
				victim, follows, mode, to = r, n.subject, m.ours, n.reference.IPv4
			}
			old := recorded(wireTap.packets(), follows, mode)
			if len(old) < 5 {
				t.Fatalf("recorded: got %d packets, want some", len(old))
			}
			before := vitalsOf(t, victim, n.addr(follows))
			stop := replayFromEverywhere(forger, old, netip.AddrPortFrom(to, 123))
			if err := g.holds(3 * underAttack / 2); err != nil {
				t.Errorf("under replay: %v", err)
			}
			stop()
			after := vitalsOf(t, victim, n.addr(follows))
			t.Logf("associations %d, then %d; memory %d, then %d; log %d, then %d bytes",
				before.sources, after.sources, before.memory, after.memory, before.log, after.log)
			if after.sources > 100 {
				t.Errorf("associations: got %d, want no more than allowed", after.sources)
			}
			if after.memory > before.memory+growthAtMost {
				t.Errorf("memory of %s: got %d bytes after %d, want it bounded", victim.Host.Name, after.memory, before.memory)
			}
			d.Selects(time.Minute, n.addr(n.reference))
		})
	}
}

// Threat 20: every broadcast is sent again 3 s later from twenty other addresses, each of
// which so looks like a server that keeps time well, but 3 s late. None of them answers
// the volley. They must not outvote the true server, which does.
func TestLateBroadcastsFromOtherAddressesDoNotMoveTheClock(t *testing.T) {
	t.Parallel()
	takeSlot(t)
	const relays, late = 20, 3 * time.Second
	n := newNetwork(t, false)
	attacker := n.lab.Host("attacker")
	strangersBehind(t, attacker, n.subject, n.reference)
	forger := peers.Forge(t, attacker)
	wireTap := listen(t, n.subject)
	peers.Timeball(t, n.reference, reference+fmt.Sprintf("server: {broadcast: [{address: %v, interface: eth0, interval: 250ms, key: 7}]}\n", n.lab.Broadcast())+keys)
	d := peers.Timeball(t, n.subject, wrongClock+"sources: [{broadcast_client: {interface: eth0}, key: 7}]\nserver: {}\n"+keys)
	g := newTruth(t, n.monitor, n.subject.IPv4, n.reference.IPv4)
	g.converges(t, d)
	relay := netip.MustParsePrefix("198.18.0.0/24")
	var asked atomic.Int64 // requests to relays: their broadcasts were heard
	wireTap.each(func(p *seen) {
		if p.Mode == wire.ModeClient && relay.Contains(p.To.Addr()) {
			asked.Add(1)
		}
		if p.Mode != wire.ModeBroadcast || p.From.Addr() != n.reference.IPv4 {
			return
		}
		b := p.Payload
		time.AfterFunc(late, func() {
			for i := range relays {
				from := netip.AddrFrom4([4]byte{198, 18, 0, byte(i)})
				_ = forger.Send(netip.AddrPortFrom(from, 123), netip.AddrPortFrom(n.lab.Broadcast(), 123), b)
			}
		})
	})
	if err := g.holds(40 * time.Second); err != nil {
		sources, _ := d.Sources()
		t.Errorf("under late broadcasts: %v; sources: %v", err, sources)
	}
	d.Selects(time.Minute, n.reference.IPv4)
	sources, err := d.Sources()
	if err != nil || asked.Load() < relays {
		t.Errorf("relays asked: got %d requests, %v, want each relay to be put to the test", asked.Load(), err)
	}
	for _, s := range sources {
		if !s.At(n.reference.IPv4) && (s.State == "selected" || s.State == "combined") {
			t.Errorf("a relay: got %v, want it left alone", s)
		}
	}
}

// replayFromEverywhere sends old packets in their order, 500 a second, from a crowd of
// addresses in turn until it is stopped.
func replayFromEverywhere(s *peers.Forger, old [][]byte, to netip.AddrPort) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for round := 0; ; round++ {
			for i := round * 50; i < round*50+50; i++ {
				from := netip.AddrFrom4([4]byte{198, 18, byte(i % crowd >> 8), byte(i % crowd)})
				_ = s.Send(netip.AddrPortFrom(from, 123), to, old[round%len(old)])
			}
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}
