package responder_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"timeball/internal/responder"
)

// What Open lists is let in, and nothing else.
func TestOpenNetworksAreThoseOfTheLists(t *testing.T) {
	rule := func(network string, require responder.Require, deny bool) responder.AccessRule {
		return responder.AccessRule{Network: netip.MustParsePrefix(network), Require: require, Deny: deny}
	}
	policy := &responder.Policy{Access: responder.NewAccess(responder.AccessLists{
		Peer:            []responder.AccessRule{rule("192.0.2.0/28", responder.RequireNone, false)},
		Server:          []responder.AccessRule{rule("192.0.2.0/24", responder.RequireNone, false), rule("192.0.2.64/26", responder.RequireKey, false), rule("192.0.2.128/25", responder.RequireNone, true)},
		Synchronization: []responder.AccessRule{rule("0.0.0.0/1", responder.RequireNone, false), rule("2001:db8::/32", responder.RequireNone, false), rule("2001:db8:1::/48", responder.RequireNone, true)},
		Query:           []responder.AccessRule{rule("203.0.113.0/24", responder.RequireNone, false)},
	})}
	open := policy.Access.Open()
	holds := func(a netip.Addr) (held bool) {
		for _, n := range open {
			held = held || n.Contains(a)
		}
		return held
	}
	random := rand.New(rand.NewPCG(1, 2))
	check := func(a netip.Addr) {
		g := policy.Grant(a)
		if want := g.Right.Time() && g.Require == responder.RequireNone; holds(a) != want {
			t.Errorf("%v: held by the open networks: %v, and granted %v", a, holds(a), g)
		}
	}
	for range 3000 {
		near := [4]byte{192, 0, 2, byte(random.Uint32())}
		far := [4]byte{byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())}
		six := [16]byte{0x20, 1, 0x0d, 0xb8, 0, byte(random.Uint32() % 4), 15: byte(random.Uint32())}
		check(netip.AddrFrom4(near))
		check(netip.AddrFrom4(far))
		check(netip.AddrFrom16(six))
	}
	for _, edge := range []string{"0.0.0.0", "255.255.255.255", "127.255.255.255", "128.0.0.0", "192.0.2.0", "192.0.1.255", "192.0.3.0", "::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"} {
		check(netip.MustParseAddr(edge))
	}
	if (*responder.Access)(nil).Open() != nil {
		t.Error("no list has networks")
	}
}
