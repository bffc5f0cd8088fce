package peers

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestForge(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	attacker, victim := lab.Host("attacker"), lab.Host("victim")
	capture := Listen(t, victim)
	forger := Forge(t, attacker)
	from := netip.MustParseAddrPort("192.0.2.7:123")
	for _, to := range []netip.Addr{victim.IPv4, lab.Broadcast()} {
		if err := forger.Send(from, netip.AddrPortFrom(to, 123), []byte("forged")); err != nil {
			t.Fatalf("to %v: %v", to, err)
		}
		Eventually(t, 10*time.Second, "the victim hears it", func() error {
			for _, p := range capture.Packets() {
				if p.Source == from && p.To.Addr() == to && string(p.Payload) == "forged" {
					return nil
				}
			}
			return fmt.Errorf("captured: %v", capture.Packets())
		})
	}
}
