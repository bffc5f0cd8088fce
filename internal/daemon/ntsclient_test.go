package daemon

import (
	"context"
	"crypto/x509"
	"net/netip"
	"testing"

	"timeball/internal/config"
	"timeball/internal/ntske"
)

// A key in wrong hands comes with every certificate that it ever had: they are one server's.
func TestServersAreToldApartByTheirKeys(t *testing.T) {
	seeker := &keySeeker{source: &config.Source{NTS: &config.NTSClient{}}, remote: netip.MustParseAddrPort("192.0.2.1:123")}
	identity := func(key, certificate string) uint64 {
		chain := []*x509.Certificate{{Raw: []byte(certificate), RawSubjectPublicKeyInfo: []byte(key)}}
		o := seeker.outcome(context.Background(), &ntske.Result{Chain: chain}, netip.MustParseAddr("192.0.2.1"))
		if o.err != nil {
			t.Fatal(o.err)
		}
		return o.keys.Identity
	}
	if got, other := identity("one", "of 2025"), identity("one", "of 2026"); got != other || got == 0 {
		t.Errorf("two certificates of one key: got %x and %x, want the same", got, other)
	}
	if got, other := identity("one", "of 2026"), identity("another", "of 2026"); got == other {
		t.Errorf("two keys: got %x twice", got)
	}
}
