package modes

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// otherKey is one that both ends know and that no association is meant to believe.
const (
	otherKeyID = 8
	bothKeys   = "keys: [{id: 7, type: aes128-cmac, hex: " + keySecret + "}, {id: 8, type: sha1, text: skeleton-key-8}]\n"
)

func skeletonKey(t testing.TB) *mac.Key {
	t.Helper()
	k, err := mac.NewKey(otherKeyID, mac.SHA1, []byte("skeleton-key-8"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// attacked is a mode under attack, and who says what to whom there.
type attacked struct {
	name               string
	ipv6               bool
	reference, subject func(*network) string
	ours, theirs       wire.Mode // the modes that subject and reference send
	to                 func(*network) netip.Addr
}

func (n *network) addr(h *peers.Host) netip.Addr {
	if n.ipv6 {
		return h.IPv6
	}
	return h.IPv4
}

func toSubject(n *network) netip.Addr { return n.addr(n.subject) }

// slower is a poll at which an attack of ten packets a second is the greater part.
const slower = "min_poll: -1, max_poll: -1"

func peersOf(n *network, with *peers.Host) string {
	return fmt.Sprintf("sources: [{peer: %s, key: 7, %s}]\nserver: {}\n%s", n.address(with), slower, bothKeys)
}

const passiveTarget = "symmetric: {passive: true, keys: [7], max_associations: 4}\nserver: {}\n" + bothKeys

func attackedModes() []attacked {
	group := func(line, source string, ipv6 bool, to func(*network) netip.Addr) attacked {
		return attacked{ipv6: ipv6, ours: wire.ModeClient, theirs: wire.ModeBroadcast, to: to,
			reference: func(n *network) string {
				return fmt.Sprintf("server: {%s, interface: eth0, interval: 500ms, key: 7}]}\n%s", fmt.Sprintf(line, to(n)), bothKeys)
			},
			subject: func(n *network) string {
				return "sources: [{" + source + ", key: 7}]\nserver: {}\n" + bothKeys
			}}
	}
	list := []attacked{
		{name: "client", ours: wire.ModeClient, theirs: wire.ModeServer, to: toSubject,
			reference: func(*network) string { return "server: {}\n" + bothKeys },
			subject: func(n *network) string {
				return fmt.Sprintf("sources: [{server: %s, key: 7, interleaved: on, %s}]\nserver: {}\n%s", n.address(n.reference), slower, bothKeys)
			}},
		{name: "symmetric active", ours: wire.ModeActive, theirs: wire.ModePassive, to: toSubject,
			reference: func(*network) string { return passiveTarget },
			subject:   func(n *network) string { return peersOf(n, n.reference) }},
		{name: "symmetric passive over IPv6", ipv6: true, ours: wire.ModePassive, theirs: wire.ModeActive, to: toSubject,
			reference: func(n *network) string { return peersOf(n, n.subject) },
			subject:   func(*network) string { return passiveTarget }},
		{name: "both active", ours: wire.ModeActive, theirs: wire.ModeActive, to: toSubject,
			reference: func(n *network) string { return peersOf(n, n.subject) },
			subject:   func(n *network) string { return peersOf(n, n.reference) }},
	}
	broadcast := group("broadcast: [{address: %v", "broadcast_client: {interface: eth0}", false,
		func(n *network) netip.Addr { return n.lab.Broadcast() })
	broadcast.name = "subnet broadcast"
	multicast := group("multicast: [{group: %v", "multicast_client: {group: 224.0.1.1, interface: eth0}", false,
		func(*network) netip.Addr { return netip.MustParseAddr("224.0.1.1") })
	multicast.name = "multicast"
	multicast6 := group("multicast: [{group: '%v'", "multicast_client: {group: 'ff05::101', interface: eth0}", true,
		func(*network) netip.Addr { return netip.MustParseAddr("ff05::101") })
	multicast6.name = "multicast over IPv6"
	return append(list, broadcast, multicast, multicast6)
}

// weather is everything that the attacker sends to an address in a host's name, of the
// mode that this host sends and of those that it does not.
func weather(t *testing.T, packets []seen, from *peers.Host, source, to netip.AddrPort, mode wire.Mode) []peers.Forged {
	key := skeletonKey(t)
	old := recorded(packets, from, mode)
	payloads := []peers.Payload{
		peers.Lie(mode), falsely(peers.Lie(mode), 16), falsely(peers.Lie(mode), 20), signed(peers.Lie(mode), key), peers.Refusal(peers.Lie(mode)),
		peers.Replayed(old), peers.Replayed(newestFirst(old)), peers.Replayed(old[:min(1, len(old))]), peers.Replayed(old[max(len(old)-1, 0):]),
		peers.Lie(wire.ModeActive), peers.Lie(wire.ModePassive), peers.Lie(wire.ModeServer), peers.Lie(wire.ModeBroadcast),
		falsely(peers.Lie(wire.ModeServer), 16), signed(peers.Lie(wire.ModeServer), key), peers.Refusal(peers.Lie(wire.ModeServer)),
		peers.Replayed(newestFirst(recorded(packets, from, wire.ModeServer))),
		kiss(wire.KissDENY), kiss(wire.KissRATE), falsely(kiss(wire.KissDENY), 16),
	}
	var list []peers.Forged
	for _, p := range payloads {
		list = append(list, peers.Forged{From: source, To: to, Payload: p})
	}
	return list
}

// underAttack is how long each attack lasts.
const underAttack = 8 * time.Second

// Threats 7, 8, 12 to 14, 16 to 18 and 20: whatever is sent in a server's or a peer's
// name but by those themselves, the clock does not move and the true ones are heard.
func TestNoForgedPacketMovesTheClock(t *testing.T) {
	t.Parallel()
	for _, m := range attackedModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			takeSlot(t)
			n := newNetwork(t, m.ipv6)
			attacker := n.lab.Host("attacker")
			wireTap := listen(t, n.subject)
			r := peers.Timeball(t, n.reference, reference+m.reference(n))
			d := peers.Timeball(t, n.subject, wrongClock+m.subject(n))
			g := newTruth(t, n.monitor, n.addr(n.subject), n.addr(n.reference))
			g.converges(t, d)
			packets := wireTap.packets()
			port := clientPort(packets, n.subject)
			forger := peers.Forge(t, attacker)
			right, ours := n.addr(n.reference), n.addr(n.subject)
			list := weather(t, packets, n.reference, netip.AddrPortFrom(right, 123), netip.AddrPortFrom(m.to(n), 123), m.theirs)
			list = append(list, weather(t, packets, n.subject, netip.AddrPortFrom(ours, 123), netip.AddrPortFrom(right, 123), m.ours)...)
			list = append(list, peers.Forged{From: netip.AddrPortFrom(right, 123), To: netip.AddrPortFrom(ours, port), Payload: peers.Lie(wire.ModeServer)})
			rejected := stands(t, g, []*peers.Daemon{d, r}, right, forger, list)
			if m.theirs != wire.ModeServer && rejected < 100 { // a client has left the port before the lie is there
				t.Errorf("packets refused: got %d, want most of the attacker's", rejected)
			}
		})
	}
}

// clientPort is the port of a host's last request.
func clientPort(packets []seen, h *peers.Host) uint16 {
	port := uint16(123)
	for i := range packets {
		if p := &packets[i]; (step{h, wire.ModeClient}).is(p) {
			port = p.From.Port()
		}
	}
	return port
}

// vitals are what must not grow under attack.
type vitals struct {
	memory, log, sources, accepted, rejected int
}

func vitalsOf(t *testing.T, d *peers.Daemon, follows netip.Addr) vitals {
	t.Helper()
	list, err := d.Associations()
	if err != nil {
		t.Fatal(err)
	}
	v := vitals{memory: d.Memory(), log: len(d.Log()), sources: len(list)}
	for _, a := range list {
		if (peers.Source{Address: a.Address}).At(follows) {
			v.accepted = a.Accepted
			for _, count := range a.Rejected {
				v.rejected += count
			}
		}
	}
	return v
}

// stands attacks daemons, the first of which follows a server, and watches. It says how
// many packets that one refused.
func stands(t *testing.T, g *truth, daemons []*peers.Daemon, server netip.Addr, s *peers.Forger, list []peers.Forged) (rejected int) {
	t.Helper()
	var before []vitals
	for _, d := range daemons {
		before = append(before, vitalsOf(t, d, server))
	}
	end := s.Storm(list)
	if err := g.holds(underAttack / 2); err != nil {
		t.Errorf("under attack: %v", err)
	}
	burst(s, list, 1000)
	if err := g.holds(underAttack / 2); err != nil {
		t.Errorf("under attack, after a burst: %v", err)
	}
	const wanted = int(underAttack/time.Second) / 2
	for range 60 { // on a starved machine exchanges come late, and messages of peers cross
		if vitalsOf(t, daemons[0], server).accepted-before[0].accepted >= wanted {
			break
		}
		time.Sleep(time.Second)
	}
	for i, d := range daemons {
		after := vitalsOf(t, d, server)
		after.hasNotGrown(t, d, before[i])
		if i == 0 {
			rejected = after.rejected - before[0].rejected
			if accepted := after.accepted - before[0].accepted; accepted < wanted {
				t.Errorf("true packets accepted: got %d, want them to go on", accepted)
			}
		}
	}
	sent := end()
	t.Logf("%d packets at %d a second, and a burst", sent, 10*len(list))
	if sent < len(list)*10 {
		t.Errorf("packets forged: got %d, want %d a second", sent, 10*len(list))
	}
	daemons[0].Has(2*time.Minute, "the true server is selected and reached", func(s peers.Source) bool {
		return s.At(server) && s.State == "selected" && s.Reach&0xf == 0xf
	})
	return rejected
}

// hasNotGrown holds a daemon's vitals to those of before: memory by no more than a
// garbage collector's slack, the log by a line or two.
func (v vitals) hasNotGrown(t *testing.T, d *peers.Daemon, before vitals) {
	t.Helper()
	if v.memory > before.memory+8<<20 {
		t.Errorf("memory of %s: got %d bytes after %d, want it flat", d.Host.Name, v.memory, before.memory)
	}
	if v.log > before.log+4000 {
		t.Errorf("log of %s: got %d bytes more, want hardly any", d.Host.Name, v.log-before.log)
	}
	if v.sources > before.sources {
		t.Errorf("associations of %s: got %d after %d, want no more of them", d.Host.Name, v.sources, before.sources)
	}
}
