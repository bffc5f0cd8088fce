package modes

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// seen is one NTP datagram as it passed a host's eth0, in or out.
type seen struct {
	peers.Datagram
	wire.Packet
}

// decode leaves out what is no NTP.
func decode(datagrams ...peers.Datagram) (packets []seen) {
	for _, d := range datagrams {
		p := seen{Datagram: d}
		if p.Decode(d.Payload) == wire.DefectNone {
			packets = append(packets, p)
		}
	}
	return packets
}

// tap sees every NTP packet of a host.
type tap struct{ *peers.Capture }

func listen(t testing.TB, h *peers.Host) tap { t.Helper(); return tap{peers.Listen(t, h)} }

// each has watch called with what passes from now on.
func (w tap) each(watch func(*seen)) {
	w.Each(func(d peers.Datagram) {
		for _, p := range decode(d) {
			watch(&p)
		}
	})
}

// packets are those seen so far, in their order.
func (w tap) packets() []seen { return decode(w.Packets()...) }

// between leaves the packets between two hosts, and those of either to a group.
func between(packets []seen, a, b *peers.Host) []seen {
	of := func(h *peers.Host, addr netip.Addr) bool { return addr == h.IPv4 || addr == h.IPv6 }
	others := func(addr netip.Addr) bool { return addr.IsMulticast() || addr.Is4() && addr.As4()[3] == 255 }
	var left []seen
	for _, p := range packets {
		from, to := p.From.Addr(), p.To.Addr()
		if of(a, from) && (of(b, to) || others(to)) || of(b, from) && (of(a, to) || others(to)) {
			left = append(left, p)
		}
	}
	return left
}

// step is a packet of an exchange: who sends it, and in which mode.
type step struct {
	from *peers.Host
	mode wire.Mode
}

func (s step) String() string { return fmt.Sprintf("%s: mode %d", s.from.Name, s.mode) }

func (s step) is(p *seen) bool {
	return p.Mode == s.mode && (p.From.Addr() == s.from.IPv4 || p.From.Addr() == s.from.IPv6)
}

// inOrder looks for steps one after the other among packets, others between them
// allowed, and says which is missing.
func inOrder(packets []seen, steps []step) error {
	at := 0
	for _, want := range steps {
		i := slices.IndexFunc(packets[at:], func(p seen) bool { return want.is(&p) })
		if i < 0 {
			return fmt.Errorf("of %d packets none after the first %d is from %v", len(packets), at, want)
		}
		at += i + 1
	}
	return nil
}

// modesFrom are the modes of a host's packets, each once, in ascending order.
func modesFrom(packets []seen, h *peers.Host) []wire.Mode {
	var modes []wire.Mode
	for i := range packets {
		if p := &packets[i]; (step{h, p.Mode}).is(p) {
			modes = append(modes, p.Mode)
		}
	}
	slices.Sort(modes)
	return slices.Compact(modes)
}
