package interop

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// replay sends again, in turn, the true packets of a mode from a host.
func replay(capture *peers.Capture, from *peers.Host, mode wire.Mode) peers.Payload {
	var heard [][]byte
	for _, p := range capture.Packets() {
		if _, m := wire.Peek(p.Payload); p.From.Addr() == from.IPv4 && m == mode {
			heard = append(heard, p.Payload)
		}
	}
	return peers.Replayed(heard)
}

// attacks are the packets to an address in the name of a host, of the mode that it sends.
func attacks(from *peers.Host, target netip.Addr, mode wire.Mode, capture *peers.Capture) []peers.Forged {
	var packets []peers.Forged
	lie := peers.Lie(mode)
	for _, payload := range []peers.Payload{
		lie, peers.Falsely(lie, 7, 16), peers.Refusal(lie), replay(capture, from, mode), peers.Lie(wire.ModeServer), peers.Refusal(peers.Lie(wire.ModeServer)),
	} {
		packets = append(packets, peers.Forged{From: netip.AddrPortFrom(from.IPv4, 123), To: netip.AddrPortFrom(target, 123), Payload: payload})
	}
	return packets
}

// growth is how much memory may grow under attack: a garbage collector's slack.
const growth = 8 << 20

// moved says whether a clock was led astray. What is forged lies by a second at least; on a
// busy machine what is true may come some milliseconds late.
func moved(offset *float64) bool { return offset == nil || math.Abs(*offset) > 100e-3 }

// holds watches a client under attack: its source stays selected and reached, its clock where
// it was, and nobody joins it.
func holds(t *testing.T, d *peers.Daemon, server netip.Addr, reach bool, during time.Duration) {
	t.Helper()
	before := d.Memory()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		sources, err := d.Sources()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(sources, func(s peers.Source) bool { return s.At(server) })
		if i < 0 || sources[i].State != "selected" || moved(sources[i].Offset) || reach && sources[i].Reach&0x0f == 0 {
			t.Fatalf("under attack: got %v, want %v selected, reached and its offset under 100 ms", sources, server)
		}
		if len(sources) > 2 {
			t.Fatalf("sources under attack: got %v, want no more of them", sources)
		}
	}
	if after := d.Memory(); after > before+growth {
		t.Errorf("memory under attack: got %d bytes after %d, want it flat", after, before)
	}
}

// underAttack is how long each attack lasts.
const underAttack = 15 * time.Second

// Threats 12 to 14 and 18: forged, unsigned, wrongly signed, replayed packets and NAKs of
// modes 1, 2 and 4 between two peers that share a key.
func TestPeersStandForgedPackets(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, attacker, monitor := lab.Host("server"), lab.Host("client"), lab.Host("attacker"), lab.Host("monitor")
	key := keyKinds[3]
	capture := peers.Listen(t, client)
	s := peers.Timeball(t, server, serverConfig+"symmetric: {passive: true, keys: [7]}\n"+key.ours())
	c := peers.Timeball(t, client, fmt.Sprintf("sources: [{peer: %v, key: 7, min_poll: 0, max_poll: 0}]\nserver: {}\n%s%s", server.IPv4, key.ours(), wrongClock))
	follows(t, c, 120*time.Second, server.IPv4)
	packets := append(attacks(server, client.IPv4, wire.ModePassive, capture),
		attacks(client, server.IPv4, wire.ModeActive, capture)...)
	end := peers.Forge(t, attacker).Storm(packets)
	holds(t, c, server.IPv4, true, underAttack)
	trueError(t, monitor, client.IPv4)
	if sent := end(); sent < 100 {
		t.Errorf("packets forged: got %d, want many", sent)
	}
	follows(t, c, 30*time.Second, server.IPv4)
	if sources, err := s.Sources(); err != nil || len(sources) > 1 {
		t.Errorf("associations of the server: got %v, %v, want the client's alone", sources, err)
	}
}

// Threat 20: forged and replayed mode 5 packets beside the true ones.
func TestABroadcastClientStandsForgedPackets(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, attacker, monitor := lab.Host("server"), lab.Host("client"), lab.Host("attacker"), lab.Host("monitor")
	key := keyKinds[3]
	capture := peers.Listen(t, client)
	c := peers.Timeball(t, client, "sources: [{broadcast_client: {interface: eth0}, key: 7}]\nserver: {}\n"+key.ours()+wrongClock)
	peers.Timeball(t, server, fmt.Sprintf("local: {stratum: 3}\nclock: {driver: observe}\nserver: {broadcast: [{address: %v, interface: eth0, interval: 1s, key: 7}]}\n%s",
		lab.Broadcast(), key.ours()))
	c.Has(120*time.Second, "timeball follows the broadcasts", func(s peers.Source) bool {
		return s.At(server.IPv4) && s.State == "selected" && small(s.Offset)
	})
	end := peers.Forge(t, attacker).Storm(attacks(server, lab.Broadcast(), wire.ModeBroadcast, capture))
	holds(t, c, server.IPv4, false, underAttack)
	trueError(t, monitor, client.IPv4)
	end()
	holds(t, c, server.IPv4, false, 3*time.Second)
}

// Threat 19: mode 1 from a hundred thousand addresses mobilizes no more than is allowed, and
// nothing at all where a key must prove it.
// It floods, and all namespaces share the queues in which the processors receive: the tests
// that run side by side would lose packets, so it runs before them.
func TestAssociationsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name, symmetric string
		want            int
	}{
		{"without keys up to the limit", "symmetric: {passive: true, unauthenticated: true, max_associations: 10}\n", 10},
		{"with keys none", "symmetric: {passive: true, keys: [7]}\n" + keyKinds[3].ours(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, attacker := lab.Host("server"), lab.Host("attacker")
			d := peers.Timeball(t, server, serverConfig+tt.symmetric)
			serves(t, attacker, server.IPv4)
			forger := peers.Forge(t, attacker)
			// The first fill the table of clients, whose size is fixed.
			crowd(t, forger, server.IPv4, 0, 70_000)
			serves(t, attacker, server.IPv4)
			before := d.Memory()
			crowd(t, forger, server.IPv4, 70_000, 130_000)
			serves(t, attacker, server.IPv4)
			t.Logf("memory: %d bytes when the table is full, %d at the end", before, d.Memory())
			sources, err := d.Sources()
			if err != nil || len(sources) > tt.want {
				t.Errorf("sources: got %d, %v, want at most %d", len(sources), err, tt.want)
			}
			if after := d.Memory(); after > before+growth {
				t.Errorf("memory: got %d bytes after %d, want it flat", after, before)
			}
		})
	}
}

// crowd sends a mode 1 packet from each address of a range to a server.
func crowd(t *testing.T, forger *peers.Forger, server netip.Addr, first, last int) {
	t.Helper()
	payload := peers.Lie(wire.ModeActive)
	for i := first; i < last; i++ {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}), 123)
		if err := forger.Send(from, netip.AddrPortFrom(server, 123), payload(i)); err != nil {
			t.Fatal(err)
		}
	}
}
