package modes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// network is what a mode is tried in: a reference with the time, a subject without it,
// and somebody to look at both.
type network struct {
	lab                         *peers.Lab
	reference, subject, monitor *peers.Host
	ipv6                        bool
	links                       map[netip.Addr]netip.Addr // link-local addresses by the global ones, and back
}

// address is a host's in the family of the test, as a configuration writes it.
func (n *network) address(h *peers.Host) string {
	if n.ipv6 {
		return fmt.Sprintf("%q", h.IPv6)
	}
	return h.IPv4.String()
}

// keyID and keySecret sign modes 1, 2 and 5 in these tests.
const (
	keyID     = 7
	keySecret = "0123456789abcdef0123456789abcdef"
	keys      = "keys: [{id: 7, type: aes128-cmac, hex: " + keySecret + "}]\n"
)

func testKey(t testing.TB) *mac.Key {
	t.Helper()
	k, err := mac.NewKey(keyID, mac.AES128, []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fastest is the fastest poll that a configuration may ask for, 2^-4 s.
const fastest = "min_poll: -4, max_poll: -4"

// mode is a way to get the time, and what it looks like on the wire.
type mode struct {
	name      string
	ipv6      bool
	reference func(*network) string // configuration, beside the common part
	subject   func(*network) string
	order     func(*network) []step // packets one after the other, others between them
	sends     [2][]wire.Mode        // all modes that the subject sends, and the reference
	check     func(*testing.T, *network, []seen)
}

// everyMode lists the modes of the protocol with their variants.
func everyMode() []mode {
	modes := []mode{clientMode(), interleavedMode(), activeMode(), passiveMode(), bothActiveMode()}
	for i := range len(modes) {
		again := modes[i]
		again.name, again.ipv6 = again.name+" over IPv6", true
		modes = append(modes, again)
	}
	return append(modes,
		broadcastMode("limited broadcast", "broadcast_client: {interface: eth0}",
			func(*network) string { return "broadcast: [{address: 255.255.255.255, interface: eth0" }, 0),
		broadcastMode("subnet broadcast", "broadcast_client: {interface: eth0}",
			func(n *network) string {
				return fmt.Sprintf("broadcast: [{address: %v, interface: eth0", n.lab.Broadcast())
			}, 0),
		multicastMode("multicast", "224.0.1.1", 16),
		multicastMode("multicast over IPv6, site", "ff05::101", 16),
		multicastMode("multicast over IPv6, link", "ff02::101", 3),
	)
}

func clientMode() mode {
	return mode{
		name:      "client",
		reference: func(*network) string { return "server: {}\n" },
		subject: func(n *network) string {
			return fmt.Sprintf("sources: [{server: %s, interleaved: off, %s}]\nserver: {}\n", n.address(n.reference), fastest)
		},
		order: func(n *network) []step {
			return []step{{n.subject, wire.ModeClient}, {n.reference, wire.ModeServer}, {n.subject, wire.ModeClient}}
		},
		sends: [2][]wire.Mode{{wire.ModeClient}, {wire.ModeServer}},
		check: checkClient,
	}
}

// interleavedMode is a client that asks as RFC 9769 §2 says.
func interleavedMode() mode {
	m := clientMode()
	m.name = "interleaved client"
	m.subject = func(n *network) string {
		return fmt.Sprintf("sources: [{server: %s, interleaved: on, %s}]\nserver: {}\n", n.address(n.reference), fastest)
	}
	m.check = checkInterleaved
	return m
}

// peerLine is a symmetric active association with a host.
func peerLine(n *network, with *peers.Host) string {
	return fmt.Sprintf("sources: [{peer: %s, key: 7, %s}]\nserver: {}\n%s", n.address(with), fastest, keys)
}

const passiveSide = "symmetric: {passive: true, keys: [7]}\nserver: {}\n" + keys

func activeMode() mode {
	return mode{
		name:      "symmetric active",
		reference: func(*network) string { return passiveSide },
		subject:   func(n *network) string { return peerLine(n, n.reference) },
		order: func(n *network) []step {
			return []step{{n.subject, wire.ModeClient}, {n.reference, wire.ModeServer},
				{n.subject, wire.ModeActive}, {n.reference, wire.ModePassive}, {n.subject, wire.ModeActive}}
		},
		sends: [2][]wire.Mode{{wire.ModeActive, wire.ModeClient}, {wire.ModePassive, wire.ModeServer}},
		check: checkSymmetric,
	}
}

func passiveMode() mode {
	return mode{
		name:      "symmetric passive",
		reference: func(n *network) string { return peerLine(n, n.subject) },
		subject:   func(*network) string { return passiveSide },
		order: func(n *network) []step {
			return []step{{n.reference, wire.ModeClient}, {n.reference, wire.ModeActive},
				{n.subject, wire.ModePassive}, {n.reference, wire.ModeActive}}
		},
		check: checkSymmetric,
	}
}

func bothActiveMode() mode {
	return mode{
		name:      "both active",
		reference: func(n *network) string { return peerLine(n, n.subject) },
		subject:   func(n *network) string { return peerLine(n, n.reference) },
		order: func(n *network) []step {
			return []step{{n.subject, wire.ModeClient}, {n.subject, wire.ModeActive},
				{n.reference, wire.ModeActive}, {n.subject, wire.ModeActive}, {n.reference, wire.ModeActive}}
		},
		check: checkSymmetric,
	}
}

// broadcastMode sends mode 5 as a line of `server:` says, to be heard by a source line.
func broadcastMode(name, source string, send func(*network) string, ttl int) mode {
	return mode{
		name: name,
		reference: func(n *network) string {
			return fmt.Sprintf("server: {%s, interval: 62.5ms, key: 7}]}\n%s", send(n), keys)
		},
		subject: func(*network) string { return "sources: [{" + source + ", key: 7}]\nserver: {}\n" + keys },
		order: func(n *network) []step {
			return []step{{n.reference, wire.ModeBroadcast}, {n.subject, wire.ModeClient}, {n.reference, wire.ModeServer}, {n.reference, wire.ModeBroadcast}}
		},
		sends: [2][]wire.Mode{{wire.ModeClient}, {wire.ModeServer, wire.ModeBroadcast}},
		check: func(t *testing.T, n *network, packets []seen) {
			checkBroadcast(t, n, packets, ttl)
		},
	}
}

func multicastMode(name, group string, ttl int) mode {
	m := broadcastMode(name, fmt.Sprintf("multicast_client: {group: %q, interface: eth0}", group), func(*network) string {
		return fmt.Sprintf("multicast: [{group: %q, interface: eth0, ttl: %d", group, ttl)
	}, ttl)
	m.ipv6 = group != "224.0.1.1"
	return m
}

// Each mode brings a clock that is 100 ms and 20 ppm off under 1 ms of true error, and
// speaks on the wire as its RFC says.
func TestEveryModeConverges(t *testing.T) {
	t.Parallel()
	for _, m := range everyMode() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, m.ipv6)
			wireTap := listen(t, n.subject)
			peers.Timeball(t, n.reference, reference+m.reference(n))
			d := peers.Timeball(t, n.subject, wrongClock+m.subject(n))
			subject, right := n.subject.IPv4, n.reference.IPv4
			if n.ipv6 {
				subject, right = n.subject.IPv6, n.reference.IPv6
			}
			t.Log(newTruth(t, n.monitor, subject, right).converges(t, d))
			d.Has(time.Minute, "the reference is selected", func(s peers.Source) bool {
				return s.State == "selected" && (s.At(right) || s.At(n.links[right]))
			})
			m.proves(t, n, between(n.global(wireTap.packets()), n.subject, n.reference))
		})
	}
}

func newNetwork(t *testing.T, ipv6 bool) *network {
	t.Helper()
	lab := peers.NewLab(t)
	n := &network{lab: lab, reference: lab.Host("right"), subject: lab.Host("subject"), monitor: lab.Host("monitor"),
		ipv6: ipv6, links: map[netip.Addr]netip.Addr{}}
	for _, h := range []*peers.Host{n.reference, n.subject} {
		local := linkLocal(t, h)
		n.links[local], n.links[h.IPv6] = h.IPv6, local
	}
	return n
}

// linkLocal is the address by which a host speaks to groups of its link, with its zone. The
// kernel makes it once the link is up, which it says a little later.
func linkLocal(t *testing.T, h *peers.Host) (addr netip.Addr) {
	t.Helper()
	peers.Eventually(t, time.Minute, "the link-local address of "+h.Name, func() (err error) {
		if addr, err = linkLocalNow(h); err == nil && !addr.IsValid() {
			err = errors.New("none yet")
		}
		return err
	})
	return addr
}

func linkLocalNow(h *peers.Host) (addr netip.Addr, err error) {
	err = h.Inside(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := eth0.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				addr = p.Addr()
			}
		}
		return err
	})
	return addr, err
}

// global puts the hosts' global addresses in place of their link-local ones.
func (n *network) global(packets []seen) []seen {
	for i := range packets {
		p := &packets[i]
		if from, known := n.links[p.From.Addr()]; known && p.From.Addr().IsLinkLocalUnicast() {
			p.From = netip.AddrPortFrom(from, p.From.Port())
		}
		if to, known := n.links[p.To.Addr()]; known && p.To.Addr().IsLinkLocalUnicast() {
			p.To = netip.AddrPortFrom(to, p.To.Port())
		}
	}
	return packets
}

// proves holds what was captured to what the mode looks like.
func (m *mode) proves(t *testing.T, n *network, packets []seen) {
	t.Helper()
	if err := inOrder(packets, m.order(n)); err != nil {
		t.Errorf("order of the modes: %v", err)
	}
	for i, h := range []*peers.Host{n.subject, n.reference} {
		if got := modesFrom(packets, h); m.sends[i] != nil && !slices.Equal(got, m.sends[i]) {
			t.Errorf("modes that %s sends: got %v, want %v", h.Name, got, m.sends[i])
		}
	}
	for i := range packets {
		p := &packets[i]
		if v6 := p.From.Addr().Is6(); v6 != n.ipv6 {
			t.Errorf("a packet of the other family: got %v to %v", p.From, p.To)
			return
		}
		if p.Version != 4 {
			t.Errorf("version: got %d, want 4", p.Version)
			return
		}
	}
	m.check(t, n, packets)
}
