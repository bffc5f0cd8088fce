package modes

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// link runs ip(8) on a host.
func link(t *testing.T, h *peers.Host, args ...string) {
	t.Helper()
	if _, complaints, err := h.Run(nil, append([]string{"ip"}, args...)...); err != nil {
		t.Fatalf("ip %v on %s: %v: %s", args, h.Name, err, complaints)
	}
}

// down takes a host's eth0 away, and up brings it back with its addresses and routes.
func down(t *testing.T, h *peers.Host) {
	t.Helper()
	link(t, h, "link", "set", "eth0", "down")
}

func up(t *testing.T, h *peers.Host, addr netip.Addr) {
	t.Helper()
	link(t, h, "link", "set", "eth0", "up")
	link(t, h, "address", "replace", addr.String()+"/24", "broadcast", "+", "dev", "eth0")
	link(t, h, "-6", "address", "replace", h.IPv6.String()+"/64", "dev", "eth0", "nodad")
	link(t, h, "route", "replace", "224.0.0.0/4", "dev", "eth0")
	link(t, h, "route", "replace", "default", "dev", "eth0")
	link(t, h, "-6", "route", "replace", "default", "dev", "eth0")
}

// away takes a host's eth0 out of its namespace, by way of another daemon's, and puts it
// back: as when a card is pulled, its addresses and groups are gone.
func away(t *testing.T, h *peers.Host, own, other *peers.Daemon) {
	t.Helper()
	link(t, h, "link", "set", "eth0", "down")
	link(t, h, "link", "set", "eth0", "name", "pulled")
	link(t, h, "link", "set", "pulled", "netns", strconv.Itoa(other.Pid()))
	link(t, other.Host, "link", "set", "pulled", "netns", strconv.Itoa(own.Pid()))
	link(t, h, "link", "set", "pulled", "name", "eth0")
}

// hearsMore waits until a daemon has accepted more packets of mode 5 of its source.
func hearsMore(t *testing.T, d *peers.Daemon, server *peers.Host) {
	t.Helper()
	first := -1
	peers.Eventually(t, time.Minute, d.Host.Name+" hears the broadcasts", func() error {
		sources, err := d.Sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if !s.At(server.IPv4) && !s.At(server.IPv6) {
				continue
			}
			if first < 0 || s.Samples < first {
				first = s.Samples
			}
			if s.Samples > first+5 {
				return nil
			}
		}
		return fmt.Errorf("%d samples at first; its sources: %v", first, sources)
	})
}

// After an interface has gone and come back, groups are joined again and mode 5
// is sent again, at both ends, and requests are answered; over IPv4 and IPv6.
func TestGroupsAreJoinedAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, group string }{{"IPv4", "224.0.1.1"}, {"IPv6", "ff05::101"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			s := peers.Timeball(t, server, fmt.Sprintf("%sserver: {multicast: [{group: '%s', interface: eth0, interval: 250ms, key: 7}]}\n%s", reference, tt.group, keys))
			d := peers.Timeball(t, client, fmt.Sprintf("sources: [{multicast_client: {group: '%s', interface: eth0}, key: 7}]\nserver: {}\n%s%s", tt.group, keys, wrongClock))
			hearsMore(t, d, server)
			down(t, client)
			up(t, client, client.IPv4)
			hearsMore(t, d, server)
			down(t, server)
			up(t, server, server.IPv4)
			hearsMore(t, d, server)
			away(t, client, d, s)
			up(t, client, client.IPv4)
			hearsMore(t, d, server)
			served(t, client, server.IPv4, "as before", func(h *wire.Header) bool { return h.Stratum == 3 })
		})
	}
}

// A new address is served and asked from, within ten seconds of the change.
func TestAnAddressMayChange(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Timeball(t, server, reference+"server: {}\n")
	d := peers.Timeball(t, client, fmt.Sprintf("sources: [{server: %v, min_poll: -1, max_poll: -1}]\nserver: {}\n%s", server.IPv4, wrongClock))
	d.Selects(time.Minute, server.IPv4)
	later := func(a netip.Addr) netip.Addr {
		b := a.As4()
		b[3] += 100
		return netip.AddrFrom4(b)
	}
	link(t, client, "address", "del", client.IPv4.String()+"/24", "dev", "eth0")
	up(t, client, later(client.IPv4))
	d.Has(30*time.Second, "the source answers to the new address", func(s peers.Source) bool {
		return s.At(server.IPv4) && s.State == "selected" && s.Reach&0x1f == 0x1f
	})
	link(t, server, "address", "add", later(server.IPv4).String()+"/24", "dev", "eth0")
	h := served(t, client, later(server.IPv4), "by its new address", func(h *wire.Header) bool { return h.Stratum == 3 })
	if h.Leap != wire.LeapNone {
		t.Errorf("leap: got %v, want none", h.Leap)
	}
}
