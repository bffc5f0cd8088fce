package convert

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"timeball/internal/config"
)

// want is what a table gives an address: the longest prefix counts.
func (t accessTable) want(a netip.Addr) rule {
	best, found := -1, rule{}
	for p, r := range t {
		if p.Contains(a) && p.Bits() > best {
			best, found = p.Bits(), r
		}
	}
	if found.right == rightNone {
		return rule{}
	}
	return found
}

// got is what timeball gives it: the first list that holds it, and there the longest prefix.
func got(a *config.Access, addr netip.Addr) rule {
	for i, rules := range [][]config.AccessRule{a.Peer, a.Server, a.Synchronization, a.Query} {
		best, found := -1, rule{}
		for _, r := range rules {
			for _, p := range r.Networks {
				if p.Contains(addr) && p.Bits() > best {
					best, found = p.Bits(), rule{right: rightPeer - right(i), key: r.Require == config.RequireKey}
					if r.Deny {
						found = rule{}
					}
				}
			}
		}
		if best >= 0 {
			return found
		}
	}
	return rule{}
}

// Whatever rights chronyd or ntpd give an address, timeball gives it too.
func TestRightsStayWhatTheyAre(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if random.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0x20, byte(random.IntN(3)), 15: byte(random.IntN(4))})
		}
		return netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(2)) * 128, byte(random.IntN(256))})
	}
	for round := range 400 {
		table := accessTable{}
		for range 1 + random.IntN(7) {
			a := address()
			p := netip.PrefixFrom(a, random.IntN(a.BitLen()+1)).Masked()
			table[p] = rule{right: right(random.IntN(5)), key: random.IntN(4) == 0}
		}
		text := table.access()
		if text == "" {
			text = nobody
		}
		c, problems := config.Parse("c", []byte("keys: /k\nserver: {access: "+text+"}\n"))
		if len(problems) > 0 {
			t.Fatalf("round %d: %v: %v\n%s", round, table, problems, text)
		}
		for range 300 {
			a := address()
			if a == netip.MustParseAddr("127.0.0.1") {
				continue
			}
			if g, w := got(&c.Server.Access, a), table.want(a); g != w {
				t.Fatalf("round %d: %s gets %v, want %v\n%v\n%s", round, a, g, w, table, text)
			}
		}
	}
}
