package modes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// joined waits until a host is a member of a group by exactly one interface of these; "":
// by none.
func joined(t *testing.T, h *peers.Host, group, by string) {
	t.Helper()
	peers.Eventually(t, time.Minute, fmt.Sprintf("%s is joined by %q", group, by), func() error {
		for _, ifname := range []string{"eth0", "other0"} {
			out, complaints, err := h.Run(nil, "ip", "maddress", "show", "dev", ifname)
			if err != nil {
				return fmt.Errorf("ip: %w: %s", err, complaints)
			}
			member := false
			for _, word := range strings.Fields(out) {
				member = member || word == group
			}
			if member != (ifname == by) {
				return fmt.Errorf("member by %s: %v", ifname, member)
			}
		}
		return nil
	})
}

// A multicast client without an interface joins where the route to the group says, goes
// with it, and says so when there is none.
func TestAGroupIsJoinedWhereTheRouteSays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, group  string
		there, back  []string // ip(8) that makes the route lead by other0, and by eth0 again
		nowhere, any []string // that leaves none, and makes one by other0
	}{
		{"IPv4", "224.0.1.1", []string{"route", "replace", "224.0.0.0/4", "dev", "other0"}, []string{"route", "replace", "224.0.0.0/4", "dev", "eth0"},
			[]string{"route", "replace", "unreachable", "224.0.0.0/4"}, []string{"route", "replace", "224.0.0.0/4", "dev", "other0"}},
		{"IPv6", "ff05::101", []string{"-6", "route", "add", "multicast", "ff05::101/128", "dev", "other0", "table", "local"},
			[]string{"-6", "route", "del", "multicast", "ff05::101/128", "dev", "other0", "table", "local"},
			[]string{"-6", "route", "add", "unreachable", "ff05::101/128", "table", "local"},
			[]string{"-6", "route", "replace", "multicast", "ff05::101/128", "dev", "other0", "table", "local", "metric", "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			link(t, client, "link", "add", "other0", "type", "veth", "peer", "name", "other1")
			link(t, client, "link", "set", "other1", "up")
			link(t, client, "link", "set", "other0", "up")
			peers.Timeball(t, server, fmt.Sprintf("%sserver: {multicast: [{group: '%s', interface: eth0, interval: 250ms, key: 7}]}\n%s", reference, tt.group, keys))
			d := peers.Timeball(t, client, fmt.Sprintf("sources: [{multicast_client: {group: '%s'}, key: 7}]\nserver: {}\n%s%s", tt.group, keys, wrongClock))
			joined(t, client, tt.group, "eth0")
			hearsMore(t, d, server)
			link(t, client, tt.there...)
			joined(t, client, tt.group, "other0")
			link(t, client, tt.back...)
			joined(t, client, tt.group, "eth0")
			hearsMore(t, d, server)
			link(t, client, tt.nowhere...)
			joined(t, client, tt.group, "")
			d.Says(time.Minute, "not listening to a group")
			peers.Eventually(t, time.Minute, "status tells of the group", func() error {
				out, _, err := d.Run("status")
				if err != nil || !strings.Contains(out, tt.group) {
					return fmt.Errorf("%v: %s", err, out)
				}
				return nil
			})
			link(t, client, tt.any...)
			joined(t, client, tt.group, "other0")
		})
	}
}

// A reload that moves the port has the groups joined again, on the new socket.
func TestAReloadThatMovesThePortKeepsTheGroups(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"224.0.1.1", "ff05::101"} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			link(t, client, "link", "add", "other0", "type", "veth", "peer", "name", "other1")
			peers.Timeball(t, server, fmt.Sprintf("%sserver: {multicast: [{group: '%s', interface: eth0, interval: 250ms, key: 7, port: 1234}]}\n%s", reference, group, keys))
			conf := fmt.Sprintf("sources: [{multicast_client: {group: '%s', interface: eth0, port: 1234}, key: 7}]\n%s%s", group, keys, wrongClock)
			d := peers.Timeball(t, client, conf+"server: {listen: [':123']}\n")
			joined(t, client, group, "eth0")
			d.Reload(conf + "server: {listen: [':1234']}\n")
			joined(t, client, group, "eth0")
			hearsMore(t, d, server)
			d.Reload(conf + "server: {listen: [':123', ':1234']}\n")
			hearsMore(t, d, server)
		})
	}
}
