package responder

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Right is what an address may ask of us.
type Right uint8

// The rights. Wider ones have greater values, but for Query, which is no part of
// Synchronization.
const (
	RightNone            Right = iota
	RightQuery                 // control queries only
	RightSynchronization       // time only
	RightServer                // time and control queries
	RightPeer                  // time, control queries, and we may follow its clock
	rights
)

var rightNames = [rights]string{"none", "query", "synchronization", "server", "peer"}

// String returns the right's name in a configuration.
func (r Right) String() string { return rightNames[r] }

// Time reports whether the right includes being told the time.
func (r Right) Time() bool { return r >= RightSynchronization }

// Query reports whether the right includes control queries (mode 6).
func (r Right) Query() bool { return r == RightQuery || r >= RightServer }

// Follow reports whether we may mobilize an association with that address by
// ourselves (modes 1 and 5).
func (r Right) Follow() bool { return r == RightPeer }

// AccessLists are the four lists of a configuration.
type AccessLists struct {
	Peer, Server, Synchronization, Query []netip.Prefix
}

// Access tells the right of an address: the widest of those whose lists hold it, none
// if no list does. Nil, where no list is configured, gives everybody the peer right.
// It does not change once made.
type Access struct {
	v4, v6 intervals
}

// NewAccess makes the lookup of the lists; nil if all of them are empty. Prefixes
// must be valid; an IPv4-mapped one counts as IPv4.
func NewAccess(lists AccessLists) *Access {
	a := &Access{}
	for right, list := range [rights][]netip.Prefix{
		RightPeer: lists.Peer, RightServer: lists.Server,
		RightSynchronization: lists.Synchronization, RightQuery: lists.Query,
	} {
		for _, prefix := range list {
			a.add(prefix, Right(right))
		}
	}
	if len(a.v4.edges)+len(a.v6.edges) == 0 {
		return nil
	}
	a.v4.flatten()
	a.v6.flatten()
	return a
}

func (a *Access) add(prefix netip.Prefix, right Right) {
	bits, addr, table := prefix.Bits(), prefix.Addr(), &a.v6
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	host := 128 - bits
	if addr.Is4() {
		host, table = 32-bits, &a.v4
	}
	table.add(numberOf(addr), host, right)
}

// Right returns what addr may ask. Zones do not count; an IPv4-mapped address is IPv4.
func (a *Access) Right(addr netip.Addr) Right {
	if a == nil {
		return RightPeer
	}
	if addr.Is4() || addr.Is4In6() {
		return a.v4.find(numberOf(addr.Unmap()))
	}
	return a.v6.find(numberOf(addr))
}

// number is an address as a 128-bit number.
type number struct{ hi, lo uint64 }

func numberOf(addr netip.Addr) number {
	if addr.Is4() {
		b := addr.As4()
		return number{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (n number) less(m number) bool { return n.hi < m.hi || n.hi == m.hi && n.lo < m.lo }

func (n number) compare(m number) int {
	switch {
	case n.less(m):
		return -1
	case m.less(n):
		return 1
	}
	return 0
}

// mask returns a number whose lowest bits are ones.
func mask(bits int) number {
	if bits > 64 {
		return number{1<<(bits-64) - 1, ^uint64(0)}
	}
	return number{0, 1<<bits - 1}
}

// edge is where a prefix begins or where the numbers after it begin.
type edge struct {
	at    number
	right Right
	by    int // +1: begins, -1: has ended
}

// intervals cuts the numbers into pieces of one right each, so that a lookup is one
// binary search however the prefixes lie in one another.
type intervals struct {
	edges  []edge // while it is being made
	starts []number
	rights []Right // of starts[i] up to the next start
}

// add has the right for all numbers that differ from n in their lowest host bits only.
func (t *intervals) add(n number, host int, right Right) {
	m := mask(host)
	first := number{n.hi &^ m.hi, n.lo &^ m.lo}
	last := number{n.hi | m.hi, n.lo | m.lo}
	t.edges = append(t.edges, edge{first, right, 1})
	next := number{last.hi, last.lo + 1}
	if next.lo == 0 {
		next.hi++
	}
	if last.less(next) { // else the prefix reaches to the last number there is
		t.edges = append(t.edges, edge{next, right, -1})
	}
}

// flatten sweeps over the edges and keeps the widest right between each two.
func (t *intervals) flatten() {
	slices.SortFunc(t.edges, func(a, b edge) int { return a.at.compare(b.at) })
	var open [rights]int
	for i, e := range t.edges {
		open[e.right] += e.by
		if i+1 < len(t.edges) && t.edges[i+1].at == e.at {
			continue
		}
		widest := RightPeer
		for widest > RightNone && open[widest] == 0 {
			widest--
		}
		t.starts, t.rights = append(t.starts, e.at), append(t.rights, widest)
	}
	t.edges = nil
}

func (t *intervals) find(n number) Right {
	low, high := 0, len(t.starts) // the first start above n is in [low, high]
	for low < high {
		middle := int(uint(low+high) >> 1)
		if n.less(t.starts[middle]) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == 0 {
		return RightNone
	}
	return t.rights[low-1]
}
