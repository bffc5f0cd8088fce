package responder_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"timeball/internal/responder"
)

// prefixes are rules that give networks a list's right.
func prefixes(t testing.TB, texts ...string) []responder.AccessRule {
	t.Helper()
	var list []responder.AccessRule
	for _, text := range texts {
		list = append(list, responder.AccessRule{Network: netip.MustParsePrefix(text)})
	}
	return list
}

// Within the first list that holds an address the longest prefix counts, and `deny` ends
// the search.
func TestRulesOfRanges(t *testing.T) {
	rule := func(network string, require responder.Require, deny bool) responder.AccessRule {
		return responder.AccessRule{Network: netip.MustParsePrefix(network), Require: require, Deny: deny}
	}
	policy := &responder.Policy{Require: responder.RequireNTS, Access: responder.NewAccess(responder.AccessLists{
		Server: []responder.AccessRule{
			rule("10.0.0.0/8", responder.RequireNone, false), rule("10.9.0.0/16", responder.RequireNone, true),
			rule("10.9.9.0/24", responder.RequireKey, false), rule("10.9.9.9/32", responder.RequireNone, true),
		},
		Synchronization: []responder.AccessRule{rule("0.0.0.0/0", responder.RequireKey, false), rule("2001:db8::/32", responder.RequireNTS, false)},
	})}
	for _, test := range []struct {
		name, addr string
		want       responder.Grant
	}{
		{"in the wide range", "10.1.1.1", responder.Grant{Right: responder.RightServer}},
		{"denied in it, though a later list holds it", "10.9.1.1", responder.Grant{}},
		{"allowed again in what is denied", "10.9.9.1", responder.Grant{Right: responder.RightServer, Require: responder.RequireKey}},
		{"one address denied in that", "10.9.9.9", responder.Grant{}},
		{"the one after it", "10.9.9.10", responder.Grant{Right: responder.RightServer, Require: responder.RequireKey}},
		{"the one after the denied range", "10.10.0.0", responder.Grant{Right: responder.RightServer}},
		{"in a later list", "192.0.2.1", responder.Grant{Right: responder.RightSynchronization, Require: responder.RequireKey}},
		{"of IPv6", "2001:db8::1", responder.Grant{Right: responder.RightSynchronization, Require: responder.RequireNTS}},
		{"in no list", "2002::1", responder.Grant{}},
	} {
		if got := policy.Grant(netip.MustParseAddr(test.addr)); got != test.want {
			t.Errorf("%s: %s: got %+v, want %+v", test.name, test.addr, got, test.want)
		}
	}
	everybody := &responder.Policy{Require: responder.RequireKey}
	if got, want := everybody.Grant(netip.MustParseAddr("192.0.2.1")), (responder.Grant{Right: responder.RightPeer, Require: responder.RequireKey}); got != want {
		t.Errorf("without lists: got %+v, want %+v", got, want)
	}
}

func TestRightsAreMatchedFromTheWidest(t *testing.T) {
	access := responder.NewAccess(responder.AccessLists{
		Peer:            prefixes(t, "192.0.2.0/28"),
		Server:          prefixes(t, "192.0.2.0/24", "2001:db8:1::/48"),
		Synchronization: prefixes(t, "0.0.0.0/0", "2001:db8::/32"),
		Query:           prefixes(t, "127.0.0.0/8", "2001:db8::/32", "2001:db8:1:1::/64", "fe80::/10"),
	})
	for _, test := range []struct {
		name string
		addr string
		want responder.Right
	}{
		{"in three lists: the widest counts", "192.0.2.15", responder.RightPeer},
		{"one behind the narrow prefix", "192.0.2.16", responder.RightServer},
		{"one before the prefix", "192.0.1.255", responder.RightSynchronization},
		{"in a list for all, and in a narrower right", "127.0.0.1", responder.RightSynchronization},
		{"an IPv4-mapped address is IPv4", "::ffff:192.0.2.1", responder.RightPeer},
		{"a narrower right does not hide behind a longer prefix", "2001:db8:1:1::5", responder.RightServer},
		{"two lists with one prefix", "2001:db8:2::5", responder.RightSynchronization},
		{"the last address of a prefix", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", responder.RightSynchronization},
		{"the first one behind it", "2001:db9::", responder.RightNone},
		{"an address with a zone", "fe80::1%eth0", responder.RightQuery},
		{"in no list", "2002::1", responder.RightNone},
		{"the first address of all", "::", responder.RightNone},
		{"the last address of all", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", responder.RightNone},
		{"the last IPv4 address", "255.255.255.255", responder.RightSynchronization},
	} {
		if got := access.Right(netip.MustParseAddr(test.addr)); got != test.want {
			t.Errorf("%s: %s: got %v, want %v", test.name, test.addr, got, test.want)
		}
	}
}

func TestNothingConfiguredIsPeerForAll(t *testing.T) {
	if access := responder.NewAccess(responder.AccessLists{}); access != nil {
		t.Errorf("got %v, want nil", access)
	}
	var none *responder.Access
	if got := none.Right(netip.MustParseAddr("203.0.113.9")); got != responder.RightPeer {
		t.Errorf("got %v, want peer", got)
	}
}

func TestWhatARightHolds(t *testing.T) {
	for _, test := range []struct {
		right               responder.Right
		time, query, follow bool
	}{
		{responder.RightNone, false, false, false},
		{responder.RightQuery, false, true, false},
		{responder.RightSynchronization, true, false, false},
		{responder.RightServer, true, true, false},
		{responder.RightPeer, true, true, true},
	} {
		if r := test.right; r.Time() != test.time || r.Query() != test.query || r.Follow() != test.follow {
			t.Errorf("%v: got %v, %v, %v, want %v, %v, %v", r, r.Time(), r.Query(), r.Follow(), test.time, test.query, test.follow)
		}
	}
}

// TestEveryPrefixLength compares the lookup with netip.Prefix.Contains, for every
// length of prefix, at its edges and inside and outside of it (threats 40).
func TestEveryPrefixLength(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	for bits := 0; bits <= 32; bits++ {
		for range 8 {
			var b [4]byte
			fill(chance, b[:])
			checkPrefix(t, chance, netip.PrefixFrom(netip.AddrFrom4(b), bits).Masked())
		}
	}
	for bits := 0; bits <= 128; bits++ {
		for range 8 {
			var b [16]byte
			fill(chance, b[:])
			b[0] |= 0x20 // no IPv4-mapped address
			checkPrefix(t, chance, netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked())
		}
	}
}

func fill(chance *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(chance.Uint32())
	}
}

func checkPrefix(t *testing.T, chance *rand.Rand, prefix netip.Prefix) {
	t.Helper()
	access := responder.NewAccess(responder.AccessLists{Server: []responder.AccessRule{{Network: prefix}}})
	for _, addr := range around(chance, prefix) {
		want := responder.RightNone
		if prefix.Contains(addr) {
			want = responder.RightServer
		}
		if got := access.Right(addr); got != want {
			t.Fatalf("%v: %v: got %v, want %v", prefix, addr, got, want)
		}
	}
}

// around gives addresses at the edges of a prefix, in it, and anywhere of its family.
func around(chance *rand.Rand, prefix netip.Prefix) []netip.Addr {
	first := prefix.Addr()
	last := lastOf(prefix)
	addrs := []netip.Addr{first, last}
	for _, addr := range []netip.Addr{first.Prev(), last.Next()} {
		if addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	for range 8 {
		b := first.AsSlice()
		fill(chance, b)
		addr, _ := netip.AddrFromSlice(b)
		addrs = append(addrs, addr)
		inside := first.AsSlice()
		for bit := prefix.Bits(); bit < len(b)*8; bit++ {
			inside[bit/8] |= b[bit/8] & (0x80 >> (bit % 8))
		}
		addr, _ = netip.AddrFromSlice(inside)
		addrs = append(addrs, addr)
	}
	if first.Is6() {
		for i, addr := range addrs {
			if addr.Is4In6() {
				addrs[i] = first
			}
		}
	}
	return addrs
}

func lastOf(prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// modelOf is the rule as the documentation says it: from the widest right, the first
// list that holds the address, and in it the longest prefix, of which the last counts.
func modelOf(lists responder.AccessLists, addr netip.Addr) responder.Grant {
	for _, list := range []struct {
		right responder.Right
		rules []responder.AccessRule
	}{
		{responder.RightPeer, lists.Peer}, {responder.RightServer, lists.Server},
		{responder.RightSynchronization, lists.Synchronization}, {responder.RightQuery, lists.Query},
	} {
		bits, grant := -1, responder.Grant{}
		for _, rule := range list.rules {
			if !rule.Network.Contains(addr) || rule.Network.Bits() < bits {
				continue
			}
			bits = rule.Network.Bits()
			if grant = (responder.Grant{Right: list.right, Require: rule.Require}); rule.Deny {
				grant = responder.Grant{}
			}
		}
		if bits >= 0 {
			return grant
		}
	}
	return responder.Grant{}
}

func TestManyOverlappingPrefixesAgainstTheModel(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 4))
	for range 400 {
		var lists responder.AccessLists
		for _, list := range []*[]responder.AccessRule{&lists.Peer, &lists.Server, &lists.Synchronization, &lists.Query} {
			for range chance.IntN(12) {
				*list = append(*list, responder.AccessRule{
					Network: randomPrefix(chance), Require: responder.Require(chance.IntN(3)), Deny: chance.IntN(4) == 0,
				})
			}
		}
		policy := responder.Policy{Access: responder.NewAccess(lists)}
		if policy.Access == nil {
			continue
		}
		for _, list := range [][]responder.AccessRule{lists.Peer, lists.Server, lists.Synchronization, lists.Query} {
			for _, rule := range list {
				for _, addr := range around(chance, rule.Network) {
					if got, want := policy.Grant(addr), modelOf(lists, addr); got != want {
						t.Fatalf("%+v: %v: got %+v, want %+v", lists, addr, got, want)
					}
				}
			}
		}
	}
}

// randomPrefix draws from few networks, so that prefixes lie in one another.
func randomPrefix(chance *rand.Rand) netip.Prefix {
	if chance.IntN(2) == 0 {
		b := [4]byte{10, byte(chance.IntN(2)), byte(chance.IntN(2)) << 7, byte(chance.IntN(4))}
		return netip.PrefixFrom(netip.AddrFrom4(b), chance.IntN(33)).Masked()
	}
	b := [16]byte{0x20, 1, 0xd, 0xb8, byte(chance.IntN(2)) << 7, 15: byte(chance.IntN(4))}
	return netip.PrefixFrom(netip.AddrFrom16(b), chance.IntN(129)).Masked()
}

func TestAccessAllocatesNothing(t *testing.T) {
	access := responder.NewAccess(responder.AccessLists{Server: prefixes(t, "10.0.0.0/8", "2001:db8::/32")})
	addrs := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.1")}
	if n := testing.AllocsPerRun(100, func() {
		for _, addr := range addrs {
			access.Right(addr)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestRightsAreNamedAsInTheConfiguration(t *testing.T) {
	for right, want := range map[responder.Right]string{
		responder.RightNone: "none", responder.RightQuery: "query", responder.RightSynchronization: "synchronization",
		responder.RightServer: "server", responder.RightPeer: "peer",
	} {
		if got := right.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMappedPrefixIsIPv4(t *testing.T) {
	access := responder.NewAccess(responder.AccessLists{Server: prefixes(t, "::ffff:10.0.0.0/104")})
	for addr, want := range map[string]responder.Right{"10.255.0.1": responder.RightServer, "11.0.0.1": responder.RightNone, "::ffff:10.0.0.1": responder.RightServer} {
		if got := access.Right(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}
