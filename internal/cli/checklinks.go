package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"timeball/internal/config"
)

// interfaceWarnings name the interfaces, and the zones of addresses, that this machine does
// not have now: the daemon waits for them, and hears and reaches nobody there.
func interfaceWarnings(cfg *config.Config) (list []string) {
	look := func(key, name string) {
		if name != "" && !interfaceExists(name) {
			list = append(list, fmt.Sprintf("%s: this machine has no interface %s now", key, name))
		}
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		key := fmt.Sprintf("sources[%d]", i)
		look(key+".interface", s.Interface)
		if addr, err := netip.ParseAddr(s.Host); err == nil {
			look(key, addr.Zone())
		}
	}
	if cfg.Metrics != nil {
		look("metrics.listen", cfg.Metrics.Listen.Addr.Zone())
	}
	server := cfg.Server
	if server == nil {
		return list
	}
	for i, l := range server.Listen {
		look(fmt.Sprintf("server.listen[%d]", i), l.Addr.Zone())
	}
	for i, b := range server.Broadcast {
		look(fmt.Sprintf("server.broadcast[%d].interface", i), b.Interface)
	}
	for i, m := range server.Multicast {
		look(fmt.Sprintf("server.multicast[%d].interface", i), m.Interface)
	}
	return list
}

// interfaceExists reports whether there is an interface of that name or, as a zone may be
// written, number.
func interfaceExists(name string) bool {
	if _, err := net.InterfaceByName(name); err == nil {
		return true
	}
	index, err := strconv.Atoi(name)
	if err != nil {
		return false
	}
	_, err = net.InterfaceByIndex(index)
	return err == nil
}
