package netio

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// ListenGroup listens to what is sent to one multicast group or broadcast address, and
// to nothing else, by an interface. Unlike Listen it shares: any number of sockets of
// any process may hear the same group, and each gets its own copy. It is for hosts
// whose port is bound to one address and therefore hears no group (the lab); it sends
// nothing.
func ListenGroup(cfg ListenConfig, ifname string) (*Port, error) {
	cfg = cfg.withDefaults()
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", cfg.Address, ifname, err)
	}
	s, err := newShard(&cfg, cfg.Address, []option{{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, false}})
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", cfg.Address, ifname, err)
	}
	s.primary = true
	if cfg.Address.Addr().IsMulticast() {
		if err := s.join(cfg.Address.Addr(), i.Index); err != nil {
			return nil, errors.Join(fmt.Errorf("join %s on %s: %w", cfg.Address, ifname, err), s.close())
		}
	}
	return newPort(cfg, []socket{s}), nil
}
