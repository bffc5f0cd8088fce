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

// AccessRule is what one network of a list gets.
type AccessRule struct {
	Network netip.Prefix // valid; an IPv4-mapped one counts as IPv4
	Require Require      // what its clients must show to be told the time
	Deny    bool         // nothing, whatever the lists after this one say
}

// AccessLists are the four lists of a configuration.
type AccessLists struct {
	Peer, Server, Synchronization, Query []AccessRule
}

// Grant is what an address may ask, and what it must show for it.
type Grant struct {
	Right   Right
	Require Require
}

// Access tells what an address is granted: of the first list that holds it, from the
// widest right on, the rule of the longest network; nothing if no list does. Nil, where no
// list is configured, gives everybody the peer right. It does not change once made.
type Access struct {
	v4, v6 intervals
}

// NewAccess makes the lookup of the lists; nil if all of them are empty. Of two rules for
// one network in one list the later counts.
func NewAccess(lists AccessLists) *Access {
	var v4, v6 []ruled
	for right, list := range [rights][]AccessRule{
		RightPeer: lists.Peer, RightServer: lists.Server,
		RightSynchronization: lists.Synchronization, RightQuery: lists.Query,
	} {
		for i := range list {
			if r := ruledOf(&list[i], Right(right)); r.is4 {
				v4 = append(v4, r)
			} else {
				v6 = append(v6, r)
			}
		}
	}
	if len(v4)+len(v6) == 0 {
		return nil
	}
	return &Access{flatten(v4), flatten(v6)}
}

// Right returns what addr may ask. Zones do not count; an IPv4-mapped address is IPv4.
func (a *Access) Right(addr netip.Addr) Right {
	if a == nil {
		return RightPeer
	}
	return a.grant(addr).Right
}

func (a *Access) grant(addr netip.Addr) Grant {
	if addr.Is4() || addr.Is4In6() {
		return a.v4.find(numberOf(addr.Unmap()))
	}
	return a.v6.find(numberOf(addr))
}

// Grant is what the policy gives an address.
func (p *Policy) Grant(addr netip.Addr) Grant {
	if p.Access == nil {
		return Grant{RightPeer, p.Require}
	}
	return p.Access.grant(addr)
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

// next is the number after n; false: there is none.
func (n number) next() (number, bool) {
	after := number{n.hi, n.lo + 1}
	if after.lo == 0 {
		after.hi++
	}
	return after, n.less(after)
}

// mask returns a number whose lowest bits are ones.
func mask(bits int) number {
	if bits > 64 {
		return number{1<<(bits-64) - 1, ^uint64(0)}
	}
	return number{0, 1<<bits - 1}
}

// ruled is a rule over the numbers from first to last. Two of them lie in one another or
// apart, as prefixes do.
type ruled struct {
	first, last number
	is4         bool
	list        Right
	grant       Grant
}

func ruledOf(rule *AccessRule, list Right) ruled {
	bits, addr := rule.Network.Bits(), rule.Network.Addr()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	n, m := numberOf(addr), mask(addr.BitLen()-bits)
	r := ruled{
		first: number{n.hi &^ m.hi, n.lo &^ m.lo}, last: number{n.hi | m.hi, n.lo | m.lo},
		is4: addr.Is4(), list: list, grant: Grant{list, rule.Require},
	}
	if rule.Deny {
		r.grant = Grant{}
	}
	return r
}

// intervals cuts the numbers into pieces of one grant each, so that a lookup is one
// binary search however the prefixes lie in one another.
type intervals struct {
	starts []number
	grants []Grant // of starts[i] up to the next start
}

// flatten sweeps over the rules from the lowest number, and keeps those that hold it, the
// longest prefix last.
func flatten(rules []ruled) intervals {
	slices.SortStableFunc(rules, func(a, b ruled) int {
		if order := a.first.compare(b.first); order != 0 {
			return order
		}
		return b.last.compare(a.last)
	})
	var t intervals
	var open []ruled
	closeBefore := func(n number, all bool) {
		for len(open) > 0 && (all || open[len(open)-1].last.less(n)) {
			next, more := open[len(open)-1].last.next()
			open = open[:len(open)-1]
			if more {
				t.begin(next, open)
			}
		}
	}
	for _, r := range rules {
		closeBefore(r.first, false)
		open = append(open, r)
		t.begin(r.first, open)
	}
	closeBefore(number{}, true)
	return t
}

// begin has a piece begin at n, where these rules hold; one that begins there already is
// replaced.
func (t *intervals) begin(n number, open []ruled) {
	best := ruled{}
	for _, r := range open {
		if r.list >= best.list {
			best = r
		}
	}
	if last := len(t.starts) - 1; last >= 0 && t.starts[last] == n {
		t.grants[last] = best.grant
		return
	}
	t.starts, t.grants = append(t.starts, n), append(t.grants, best.grant)
}

func (t *intervals) find(n number) Grant {
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
		return Grant{}
	}
	return t.grants[low-1]
}
