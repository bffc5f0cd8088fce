package probe

import (
	"net/netip"
	"strings"
	"testing"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// serverState is what a header of a stratum and a reference id says.
func serverState(stratum uint8, id netip.Addr) model.ServerState {
	return model.ServerState{Stratum: stratum, ReferenceID: wire.ReferenceAddress(id)}
}

func TestAChainEndsWhereNobodyCanBeAsked(t *testing.T) {
	for _, test := range []struct {
		name      string
		stratum   uint8
		id, from  string
		want, why string
	}{
		{"a primary server", 1, "71.80.83.0", "192.0.2.1", "", ""},
		{"a primary server over IPv6", 1, "71.80.83.0", "2001:db8::1", "", ""},
		{"not synchronized", 16, "192.0.2.9", "192.0.2.1", "", ""},
		{"an address", 2, "192.0.2.9", "192.0.2.1", "192.0.2.9", ""},
		{"an address, from IPv4 on an IPv6 socket", 2, "192.0.2.9", "::ffff:192.0.2.1", "192.0.2.9", ""},
		{"the last stratum", 15, "192.0.2.9", "192.0.2.1", "192.0.2.9", ""},
		{"RFC 5905 7.3: asked over IPv6 it may be a digest", 2, "192.0.2.9", "2001:db8::1", "", "192.0.2.9 may be the digest"},
		{"the IPv6 loopback is IPv6 too", 2, "127.0.0.1", "::1", "", "digest"},
		{"another host's loopback", 2, "127.0.0.1", "192.0.2.1", "", "loopback"},
		{"a loopback address from one", 2, "127.0.0.5", "127.0.0.4", "127.0.0.5", ""},
		{"a reference clock's pseudo address", 3, "127.127.1.0", "127.0.0.4", "", "127.127.1.0 names a reference clock"},
		{"a group", 3, "224.0.1.1", "192.0.2.1", "", "multicast"},
		{"nothing", 2, "0.0.0.0", "192.0.2.1", "", "no address"},
		{"this network", 2, "0.9.9.9", "192.0.2.1", "", "no address"},
		{"reserved", 2, "240.0.0.1", "192.0.2.1", "", "no address"},
		{"everybody", 2, "255.255.255.255", "192.0.2.1", "", "no address"},
	} {
		got, why := upstream(serverState(test.stratum, netip.MustParseAddr(test.id)), netip.MustParseAddr(test.from))
		if got.IsValid() != (test.want != "") || got.IsValid() && got.String() != test.want {
			t.Errorf("%s: got %v, want %q", test.name, got, test.want)
		}
		if (why == "") != (test.why == "") || !strings.Contains(why, test.why) {
			t.Errorf("%s: got %q, want %q", test.name, why, test.why)
		}
	}
}
