package modes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// readVariables is a control query for the system variables (RFC 9327 §3).
var readVariables = []byte{0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}

// question is a packet of a mode with a transmit timestamp of now.
func question(mode wire.Mode) []byte {
	h := wire.Header{Version: 4, Mode: mode, Stratum: 2, Poll: 0, Precision: -20, Transmit: ntptime.WallOf(time.Now()).Timestamp()}
	return h.Append(nil)
}

// answered says whether a server answers a packet, in a mode.
func answered(t *testing.T, from *peers.Host, server netip.Addr, packet []byte, mode wire.Mode) bool {
	t.Helper()
	for range 3 { // a datagram may be lost where the machine is busy
		reply, err := from.Exchange(netip.AddrPortFrom(server, 123), packet, time.Second)
		if err == nil {
			if _, got := wire.Peek(reply); got != mode {
				t.Errorf("mode of the reply: got %v, want %v", got, mode)
			}
			return true
		}
		if !peers.Silent(err) {
			t.Fatal(err)
		}
	}
	return false
}

// Each right by what it lets an address have: the time (mode 3), an association of its
// own (mode 1), control queries (mode 6).
func TestAccessRightsOnTheWire(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server := lab.Host("server")
	names := []string{"peer", "serve", "sync", "query", "none"}
	var hosts []*peers.Host
	for _, name := range names {
		hosts = append(hosts, lab.Host(name))
	}
	d := peers.Timeball(t, server, fmt.Sprintf("%ssymmetric: {passive: true, unauthenticated: true}\nserver:\n  access:\n    peer: [%v/32, '%v/128']\n"+
		"    server: [%v/32, '%v/128']\n    synchronization: [%v/32, '%v/128']\n    query: [%v/32, '%v/128']\n", reference,
		hosts[0].IPv4, hosts[0].IPv6, hosts[1].IPv4, hosts[1].IPv6, hosts[2].IPv4, hosts[2].IPv6, hosts[3].IPv4, hosts[3].IPv6))
	served(t, hosts[0], server.IPv4, "the time", func(h *wire.Header) bool { return h.Stratum == 3 })
	for i, want := range []struct{ time, query bool }{{true, true}, {true, true}, {true, false}, {false, true}, {false, false}} {
		h := hosts[i]
		for _, to := range []netip.Addr{server.IPv4, server.IPv6} {
			if got := answered(t, h, to, question(wire.ModeClient), wire.ModeServer); got != want.time {
				t.Errorf("%s asks %v for the time: got %v, want %v", h.Name, to, got, want.time)
			}
			if got := answered(t, h, to, readVariables, wire.ModeControl); got != want.query {
				t.Errorf("%s queries %v: got %v, want %v", h.Name, to, got, want.query)
			}
		}
		mobilizes(t, d, h, i == 0)
	}
}

// mobilizes sends mode 1 from a host's port 123 and looks for its association.
func mobilizes(t *testing.T, d *peers.Daemon, h *peers.Host, want bool) {
	t.Helper()
	forger := peers.Forge(t, h)
	to := netip.AddrPortFrom(d.Host.IPv4, 123)
	ask := func() {
		if err := forger.Send(netip.AddrPortFrom(h.IPv4, 123), to, question(wire.ModeActive)); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	there := func() error {
		sources, err := d.Sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if s.At(h.IPv4) && s.Mode == "passive" && s.Dynamic {
				return nil
			}
		}
		return errNone
	}
	if want {
		peers.Eventually(t, time.Minute, h.Name+" mobilizes an association", func() error { ask(); return there() })
		return
	}
	err := within(time.Second, func() error {
		if err := there(); err == nil {
			return fmt.Errorf("%s has mobilized an association", h.Name)
		} else if !errors.Is(err, errNone) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

var errNone = errors.New("no association")

// A broadcast server without the right `peer` is not followed (mode 5), and the
// association of one that loses it by a reload ends.
func TestAccessRightsGovernBroadcasts(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Timeball(t, server, fmt.Sprintf("%sserver: {broadcast: [{address: %v, interface: eth0, interval: 250ms, key: 7}]}\n%s", reference, lab.Broadcast(), keys))
	config := func(right string) string {
		return fmt.Sprintf("%ssources: [{broadcast_client: {interface: eth0}, key: 7}]\nserver: {access: {%s: [%v/32]}}\n%s", wrongClock, right, server.IPv4, keys)
	}
	d := peers.Timeball(t, client, config("synchronization"))
	capture := listen(t, client)
	peers.Eventually(t, time.Minute, "broadcasts come", func() error {
		if n := len(recorded(capture.packets(), server, wire.ModeBroadcast)); n < 12 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	unfollowed := func() error { // an error where the server has an association, or it cannot be told
		sources, err := d.Sources()
		if err != nil || slices.ContainsFunc(sources, func(s peers.Source) bool { return s.At(server.IPv4) }) {
			return fmt.Errorf("sources: %v, %v", sources, err)
		}
		return nil
	}
	if err := unfollowed(); err != nil {
		t.Errorf("without the right: %v, want no association with %v", err, server.IPv4)
	}
	d.Reload(config("peer"))
	d.Selects(time.Minute, server.IPv4)
	d.Reload(config("synchronization"))
	peers.Eventually(t, time.Minute, "the association ends with the right", unfollowed)
}

// No NTP message is received on an interface that is to be ignored: of no mode.
func TestAnIgnoredInterfaceHearsNothing(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	d := peers.Timeball(t, server, reference+"symmetric: {passive: true, unauthenticated: true}\nserver: {interfaces: {ignore: [eth0]}, access: {peer: [0.0.0.0/0, '::/0']}}\n")
	served(t, server, netip.MustParseAddr("127.0.0.1"), "by the loopback interface", func(h *wire.Header) bool { return h.Stratum == 3 })
	for _, to := range []netip.Addr{server.IPv4, server.IPv6} {
		if answered(t, client, to, question(wire.ModeClient), wire.ModeServer) {
			t.Errorf("a request to %v by eth0 was answered", to)
		}
		if answered(t, client, to, readVariables, wire.ModeControl) {
			t.Errorf("a query to %v by eth0 was answered", to)
		}
	}
	mobilizes(t, d, client, false)
}

// With `require: key` only a request with a true MAC of a known key is answered, by the
// same key.
func TestRequireKeyOnTheWire(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Timeball(t, server, reference+"server: {require: key}\n"+bothKeys)
	key, other := testKey(t), skeletonKey(t)
	stranger, err := mac.NewKey(keyID, mac.AES128, []byte("another secret!!"))
	if err != nil {
		t.Fatal(err)
	}
	peers.Eventually(t, time.Minute, "a signed request is answered", func() error {
		request := key.AppendMAC(question(wire.ModeClient), 4)
		reply, err := client.Exchange(netip.AddrPortFrom(server.IPv4, 123), request, time.Second)
		if err != nil {
			return err
		}
		var p wire.Packet
		if p.Decode(reply) != wire.DefectNone || !p.HasMAC || p.KeyID != keyID || !key.Verify(p.Signed, p.Digest) {
			return fmt.Errorf("a reply that is not signed by the key: %x", reply)
		}
		return nil
	})
	plain := question(wire.ModeClient)
	for _, tt := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"unsigned", plain, false},
		{"signed by another known key", other.AppendMAC(question(wire.ModeClient), 4), true},
		{"signed by a stranger's key of the same number", stranger.AppendMAC(question(wire.ModeClient), 4), false},
		{"with a crypto-NAK", append(question(wire.ModeClient), 0, 0, 0, 0), false},
	} {
		if got := answered(t, client, server.IPv4, tt.packet, wire.ModeServer); got != tt.want {
			t.Errorf("a request %s is answered: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
