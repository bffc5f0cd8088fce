package convert

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// right is what an address may, from nothing to everything.
type right uint8

const (
	rightNone right = iota
	rightQuery
	rightTime
	rightServer
	rightPeer
)

// rightLists are the lists of server.access, by right.
var rightLists = [...]string{rightQuery: "query", rightTime: "synchronization", rightServer: "server", rightPeer: "peer"}

// rule is what holds for the addresses of a network, unless a longer prefix says otherwise.
type rule struct {
	right right
	key   bool // only those who show a key
}

// accessTable is how chronyd and ntpd keep rights: the longest prefix counts.
type accessTable map[netip.Prefix]rule

// within deletes what is said of parts of a network.
func (t accessTable) within(p netip.Prefix) {
	for q := range t {
		if p.Bits() <= q.Bits() && p.Contains(q.Addr()) {
			delete(t, q)
		}
	}
}

// sorted gives the networks, the shorter prefix first.
func (t accessTable) sorted() []netip.Prefix {
	list := make([]netip.Prefix, 0, len(t))
	for p := range t {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	return list
}

// access writes the table as server.access has it: the first list that holds an address
// counts, from the widest right to the narrowest, and within it the longest prefix. A
// network with less than the one around it is therefore cut out of that one, or, where it
// gets nothing, denied in its list. "" where nobody gets anything.
func (t accessTable) access() string {
	networks := t.sorted()
	var entries [len(rightLists)][]string
	for _, p := range networks {
		r := t[p]
		if r.right == rightNone {
			if top := t.widestAround(p, networks); top != rightNone && !t.splits(p, top, networks) {
				entries[top] = append(entries[top], "{networks: ["+quote(p.String())+"], deny: true}")
			}
			continue
		}
		for _, piece := range subtract(p, t.cuts(p, networks)) {
			text := quote(piece.String())
			if r.key {
				text = "{networks: [" + text + "], require: key}"
			}
			entries[r.right] = append(entries[r.right], text)
		}
	}
	var m mapping
	for r := rightPeer; r > rightNone; r-- {
		if len(entries[r]) > 0 {
			m.add(rightLists[r], "["+strings.Join(entries[r], ", ")+"]")
		}
	}
	if len(m) == 0 {
		return ""
	}
	return m.String()
}

func inside(inner, outer netip.Prefix) bool {
	return inner != outer && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// widestAround is the widest right of the networks that hold p.
func (t accessTable) widestAround(p netip.Prefix, networks []netip.Prefix) right {
	top := rightNone
	for _, q := range networks {
		if inside(p, q) {
			top = max(top, t[q].right)
		}
	}
	return top
}

// splits says whether parts of a network without rights have some that are looked up after
// the list of the right around it, so that a denial there would keep them from it.
func (t accessTable) splits(p netip.Prefix, top right, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(q netip.Prefix) bool { return inside(q, p) && t[q].right != rightNone && t[q].right < top })
}

// cuts are the networks to be cut out of p: all within it that have a word of their own, if
// one of them has less than p and cannot be denied in the list; else none.
func (t accessTable) cuts(p netip.Prefix, networks []netip.Prefix) (cuts []netip.Prefix) {
	needed := false
	for _, q := range networks {
		if !inside(q, p) {
			continue
		}
		cuts = append(cuts, q)
		denied := t[q].right == rightNone && !t.splits(q, t.widestAround(q, networks), networks)
		needed = needed || t[q].right < t[p].right && !denied
	}
	if !needed {
		return nil
	}
	return cuts
}

// subtract gives the networks that make up p without the cuts.
func subtract(p netip.Prefix, cuts []netip.Prefix) []netip.Prefix {
	var within []netip.Prefix
	for _, c := range cuts {
		switch {
		case c == p || inside(p, c):
			return nil
		case inside(c, p):
			within = append(within, c)
		}
	}
	if len(within) == 0 {
		return []netip.Prefix{p}
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	high := netip.PrefixFrom(setBit(p.Addr(), p.Bits()), p.Bits()+1)
	return slices.Concat(subtract(low, within), subtract(high, within))
}

// setBit sets a bit of an address, counted from the highest.
func setBit(a netip.Addr, bit int) netip.Addr {
	octets := a.AsSlice()
	octets[bit/8] |= 0x80 >> (bit % 8)
	set, _ := netip.AddrFromSlice(octets)
	return set
}

// timeForAll lets everybody ask for the time, and for nothing else.
const timeForAll = `{synchronization: ["0.0.0.0/0", "::/0"]}`

// nobody lets in this machine's own questions and nothing else: an empty section would let
// everybody in.
const nobody = `{query: ["127.0.0.1/32"]}`

// everybody are the networks that hold all addresses.
var everybody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
