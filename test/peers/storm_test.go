package peers

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// packetOf is what a payload is, decoded, in a round.
func packetOf(t *testing.T, payload Payload, round int) (p wire.Packet) {
	t.Helper()
	if defect := p.Decode(payload(round)); defect != wire.DefectNone {
		t.Fatalf("round %d: %v", round, defect)
	}
	return p
}

func TestLiesLookTrueButForTheirTime(t *testing.T) {
	t.Parallel()
	for _, mode := range []wire.Mode{wire.ModeActive, wire.ModePassive, wire.ModeServer, wire.ModeBroadcast} {
		origins := map[ntptime.Timestamp]bool{}
		for round := 1; round <= 4; round++ {
			p := packetOf(t, Lie(mode), round)
			now := ntptime.WallOf(time.Now())
			if late := p.Transmit.Wall(now).Sub(now); late < 50*time.Minute || late > 61*time.Minute {
				t.Errorf("mode %v: got a time %v ahead, want an hour", mode, late)
			}
			if p.Mode != mode || p.Stratum != 1 || p.Leap != wire.LeapNone || (p.Receive == 0) != (mode == wire.ModeBroadcast) {
				t.Errorf("mode %v: got %+v, want what a server of stratum 1 sends", mode, p.Header)
			}
			origins[p.Origin] = true
		}
		if want := mode != wire.ModeBroadcast; !origins[0] || origins[2] != want || origins[4] != want {
			t.Errorf("mode %v: got origins %v, want 0, and others too: %v", mode, origins, want)
		}
	}
}

func TestWhatIsPutBehindALie(t *testing.T) {
	t.Parallel()
	if p := packetOf(t, Falsely(Lie(wire.ModeServer), 7, 20), 1); !p.HasMAC || p.KeyID != 7 || !bytes.Equal(p.Digest, slices.Repeat([]byte{0xa5}, 20)) {
		t.Errorf("a false MAC: got %v, key %d, %x", p.HasMAC, p.KeyID, p.Digest)
	}
	if p := packetOf(t, Refusal(Lie(wire.ModeServer)), 1); !p.CryptoNAK() {
		t.Errorf("a refusal: got %+v, want a crypto-NAK", p)
	}
	list := [][]byte{{1}, {2}, {3}}
	for round, want := range []byte{1, 2, 3, 1} {
		if got := Replayed(list)(round); !bytes.Equal(got, []byte{want}) {
			t.Errorf("replayed in round %d: got %v, want %d", round, got, want)
		}
	}
	if got := Replayed(nil)(1); got != nil {
		t.Errorf("nothing replayed: got %v, want nothing", got)
	}
}

func TestAStormSendsUntilItIsEnded(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	attacker, victim := lab.Host("attacker"), lab.Host("victim")
	capture := Listen(t, victim)
	from, to := netip.MustParseAddrPort("192.0.2.7:123"), netip.AddrPortFrom(victim.IPv4, 123)
	rounds := make(chan int)
	end := Forge(t, attacker).Storm([]Forged{
		{from, to, func(round int) []byte { return []byte{byte(round)} }},
		{from, to, Replayed(nil)},
		{from, to, func(round int) []byte { rounds <- round; return []byte("last") }},
	})
	for want := 1; want <= 5; want++ {
		if got := <-rounds; got != want {
			t.Errorf("round: got %d, want %d", got, want)
		}
	}
	go func() {
		for range rounds { // more may have begun
		}
	}()
	sent := end()
	close(rounds)
	if sent < 10 || sent%2 != 0 {
		t.Errorf("sent: got %d, want both packets of five rounds at least", sent)
	}
	Eventually(t, 10*time.Second, "the victim gets them all, in their order", func() error {
		var got, want []byte
		for _, d := range capture.Packets() {
			got = append(got, d.Payload...)
		}
		for round := 1; round <= sent/2; round++ {
			want = append(append(want, byte(round)), "last"...)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}
