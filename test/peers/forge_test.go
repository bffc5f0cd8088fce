package peers

import (
	"fmt"
	"net"
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
	for _, tt := range []struct {
		from string
		to   netip.Addr
	}{
		{"192.0.2.7:123", victim.IPv4}, {"192.0.2.7:123", lab.Broadcast()}, {"[2001:db8::7]:123", victim.IPv6},
	} {
		from, to := netip.MustParseAddrPort(tt.from), netip.AddrPortFrom(tt.to, 123)
		if err := forger.Send(from, to, []byte("forged")); err != nil {
			t.Fatalf("to %v: %v", to, err)
		}
		Eventually(t, 10*time.Second, "the victim hears it", func() error {
			for _, p := range capture.Packets() {
				if p.From == from && p.To == to && string(p.Payload) == "forged" {
					return nil
				}
			}
			return fmt.Errorf("captured: %v", capture.Packets())
		})
	}
}

// A socket takes nothing whose checksum is wrong. The payloads make all kinds of sums.
func TestWhatIsForgedIsTaken(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	attacker, victim := lab.Host("attacker"), lab.Host("victim")
	forger := Forge(t, attacker)
	var socket *net.UDPConn
	if err := victim.Inside(func() (err error) { socket, err = net.ListenUDP("udp", nil); return err }); err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	port := socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for _, to := range []netip.Addr{victim.IPv4, victim.IPv6} {
		from := netip.AddrPortFrom(attacker.IPv4, 123)
		if to.Is6() {
			from = netip.AddrPortFrom(attacker.IPv6, 123)
		}
		for i := 0; i < 1<<16; i += 31 {
			sent := append([]byte{byte(i >> 8), byte(i)}, "forged"[i%6:]...)
			if err := forger.Send(from, netip.AddrPortFrom(to, port), sent); err != nil {
				t.Fatal(err)
			}
			_ = socket.SetReadDeadline(time.Now().Add(20 * time.Second))
			b := make([]byte, 100)
			n, sender, err := socket.ReadFromUDPAddrPort(b)
			if err != nil || sender.Port() != 123 || sender.Addr().Unmap() != from.Addr() || string(b[:n]) != string(sent) {
				t.Fatalf("%x to %v: got %x from %v, %v", sent, to, b[:n], sender, err)
			}
		}
	}
}

// RFC 768: a sum of 0 is sent as all ones.
func TestRFC768_ChecksumIsNever0(t *testing.T) {
	t.Parallel()
	address := make([]byte, 16)
	udp := []byte{0xff, 0xda, 0, 0, 0, 10, 0, 0, 0, 0}
	if got := checksum(address, address, udp); got != 0xffff {
		t.Errorf("got %#x, want 0xffff", got)
	}
	udp[0] = 0xfe
	if got := checksum(address, address, udp); got != 0x100 {
		t.Errorf("got %#x, want 0x100", got)
	}
}
