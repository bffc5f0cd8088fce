package interop

import (
	"fmt"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// group4 and group6 are NTP's own groups (RFC 5905 §7.2; IANA): site-local for IPv6.
const (
	group4 = "224.0.1.1"
	group6 = "ff05::101"
)

// chronyd sends mode 5; timeball finds the delay by a volley of modes 3 and 4, then
// follows what it hears.
func TestTimeballHearsChronydsBroadcasts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source string
		to           func(*peers.Lab) string
		ipv6         bool
	}{
		{"subnet broadcast", "broadcast_client: {interface: eth0}", func(l *peers.Lab) string { return l.Broadcast().String() }, false},
		{"multicast", "multicast_client: {group: " + group4 + ", interface: eth0}", func(*peers.Lab) string { return group4 }, false},
		{"IPv6 multicast", "multicast_client: {group: '" + group6 + "', interface: eth0}", func(*peers.Lab) string { return group6 }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			ours, theirs, monitor := lab.Host("ours"), lab.Host("theirs"), lab.Host("monitor")
			capture := peers.Listen(t, ours)
			d := peers.Timeball(t, ours, "sources: [{"+tt.source+", unauthenticated: true}]\nserver: {}\n"+wrongClock)
			peers.Chronyd(t, theirs, fmt.Sprintf("%s\nbroadcast 2 %s", chronyServer, tt.to(lab)))
			address := theirs.IPv4
			if tt.ipv6 {
				address = theirs.IPv6
			}
			row := d.Has(120*time.Second, "timeball follows the broadcasts", func(s peers.Source) bool {
				return s.At(address) && s.State == "selected" && small(s.Offset)
			})
			if row.Stratum != 3 {
				t.Errorf("chronyd as timeball sees it: got %v, want stratum 3", row)
			}
			trueError(t, monitor, ours.IPv4)
			volley(t, capture, theirs)
		})
	}
}

// volley proves the order on the wire: a broadcast, then a request and its reply, then
// broadcasts again.
func volley(t *testing.T, capture *peers.Capture, server *peers.Host) {
	t.Helper()
	modes := modesOf(capture, server)
	if len(modes) < 2 || modes[0] != wire.ModeBroadcast || modes[1] != wire.ModeServer {
		t.Errorf("modes that the server sends: got %v, want broadcast, then server", modes)
	}
	peers.Eventually(t, 20*time.Second, "broadcasts go on after the volley", func() error {
		last := wire.ModeReserved
		for _, p := range capture.Packets() {
			if a := p.From.Addr(); a == server.IPv4 || a == server.IPv6 {
				_, last = wire.Peek(p.Payload)
			}
		}
		if last != wire.ModeBroadcast {
			return fmt.Errorf("the last of the server's packets: got mode %v, want broadcast", last)
		}
		return nil
	})
}

// Two timeballs, where no other program has the client's part: broadcast, multicast, over
// IPv4 and IPv6, signed.
func TestTimeballHearsTimeballsBroadcasts(t *testing.T) {
	t.Parallel()
	key := keyKinds[3]
	tests := []struct {
		name, source string
		send         func(*peers.Lab) string
		ipv6         bool
	}{
		{"subnet broadcast", "broadcast_client: {interface: eth0}",
			func(l *peers.Lab) string {
				return fmt.Sprintf("broadcast: [{address: %v, interface: eth0", l.Broadcast())
			}, false},
		{"limited broadcast", "broadcast_client: {interface: eth0}",
			func(*peers.Lab) string { return "broadcast: [{address: 255.255.255.255, interface: eth0" }, false},
		{"multicast", "multicast_client: {group: " + group4 + ", interface: eth0}",
			func(*peers.Lab) string { return "multicast: [{group: " + group4 + ", interface: eth0" }, false},
		{"IPv6 multicast", "multicast_client: {group: '" + group6 + "', interface: eth0}",
			func(*peers.Lab) string { return "multicast: [{group: '" + group6 + "', interface: eth0" }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
			capture := peers.Listen(t, client)
			d := peers.Timeball(t, client, "sources: [{"+tt.source+", key: 7}]\nserver: {}\n"+key.ours()+wrongClock)
			peers.Timeball(t, server, fmt.Sprintf("local: {stratum: 3}\nclock: {driver: observe}\nserver: {%s, interval: 1s, key: 7}]}\n%s",
				tt.send(lab), key.ours()))
			address := server.IPv4
			if tt.ipv6 {
				address = server.IPv6
			}
			d.Has(120*time.Second, "timeball follows the broadcasts", func(s peers.Source) bool {
				return s.At(address) && s.State == "selected" && small(s.Offset)
			})
			trueError(t, monitor, client.IPv4)
			volley(t, capture, server)
			allSignedBy(t, capture, server)
		})
	}
}

// allSignedBy looks at the mode 5 packets of a host: each has key 7.
func allSignedBy(t *testing.T, capture *peers.Capture, from *peers.Host) {
	t.Helper()
	for _, captured := range capture.Packets() {
		if a := captured.From.Addr(); a != from.IPv4 && a != from.IPv6 {
			continue
		}
		var p wire.Packet
		if p.Decode(captured.Payload); p.Mode == wire.ModeBroadcast && (!p.HasMAC || p.KeyID != 7) {
			t.Errorf("a broadcast: got MAC %v, key %d, want key 7", p.HasMAC, p.KeyID)
		}
	}
}
