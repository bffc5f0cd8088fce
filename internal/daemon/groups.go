package daemon

import (
	"net/netip"
	"slices"

	"timeball/internal/config"
	"timeball/internal/serve"
)

// listenToGroups makes the port hear what the broadcast_client and multicast_client lines of
// a configuration listen for, and no longer what only those of the one before did.
func (g *registry) listenToGroups(old, next *config.Config) {
	wanted := g.groupsOf(next)
	for _, group := range g.groupsOf(old) {
		if !slices.Contains(wanted, group) {
			g.ports.Leave(group)
		}
	}
	for _, group := range wanted {
		g.ports.Join(group)
	}
}

// groupsOf are what the listening sources of a configuration hear: their groups, or the
// loopback's broadcast address where each host of a lab has an address of its own.
func (g *registry) groupsOf(cfg *config.Config) (list []serve.Group) {
	if cfg == nil {
		return nil
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		group := serve.Group{Addr: s.Group, Port: s.Port, Interface: s.Interface}
		switch s.Kind {
		case config.MulticastClient:
		case config.BroadcastClient:
			group.Addr = netip.AddrFrom4([4]byte{127, 255, 255, 255})
		default:
			continue
		}
		if g.opts.Groups {
			group.Port = g.opts.Port.Port()
		}
		list = append(list, group)
	}
	return list
}
