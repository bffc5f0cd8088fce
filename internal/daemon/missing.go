package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
)

// missingAddress is a configured address at which no socket could be opened yet.
type missingAddress struct {
	address netip.AddrPort
	why     string // as last said in the log
}

// absence says why a socket cannot be bound to an address that is not there (yet): the
// network may come later than we do. It is "" where an error of the bind has any other
// reason. What it says has been looked up, not concluded from the error's number.
func absence(err error, address netip.AddrPort) string {
	addr := address.Addr()
	if zone := addr.Zone(); zone != "" && zoneIndex(zone) == 0 {
		return fmt.Sprintf("this machine has no interface %s at present", zone)
	}
	notThere := errors.Is(err, syscall.EADDRNOTAVAIL)
	if !notThere && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.ENXIO) {
		return ""
	}
	has, err := hasAddress(addr)
	switch {
	case err == nil && !has:
		return "this machine does not have the address at present"
	case has && notThere:
		return "the kernel does not let the address be used yet, although this machine has it (duplicate address detection?)"
	}
	return ""
}

// hasAddress reports whether an interface of this machine has an address, of its zone's
// where it has one.
func hasAddress(addr netip.Addr) (bool, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return false, err
	}
	for _, i := range interfaces {
		if zone := addr.Zone(); zone != "" && zoneIndex(zone) != i.Index {
			continue
		}
		has, err := i.Addrs()
		if err != nil {
			return false, err
		}
		for _, a := range has {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == addr.Unmap().WithZone("") {
				return true, nil
			}
		}
	}
	return false, nil
}

// zoneIndex is the index of the interface that an IPv6 zone names; 0 if it is not there.
func zoneIndex(zone string) int {
	if index, err := strconv.Atoi(zone); err == nil {
		if _, err := net.InterfaceByIndex(index); err == nil {
			return index
		}
		return 0
	}
	return interfaceIndex(zone)
}

// numbered is an address with the present index for its zone: the standard library
// remembers for a minute which index a name had.
func numbered(address netip.AddrPort) netip.AddrPort {
	if index := zoneIndex(address.Addr().Zone()); index != 0 {
		return netip.AddrPortFrom(address.Addr().WithZone(strconv.Itoa(index)), address.Port())
	}
	return address
}

// openOrWait opens the sockets of one address at the start. An address that is not there
// is no error: the network may come up later than we do.
func (p *portSet) openOrWait(cfg *config.Config, address netip.AddrPort) (*listener, error) {
	l, err := p.open(cfg, address)
	if err == nil {
		return l, nil
	}
	if why := absence(err, address); why != "" {
		p.miss(address, why)
		return nil, nil
	}
	return nil, err
}

// miss notes that an address is not there, and says so once.
func (p *portSet) miss(address netip.AddrPort, why string) {
	p.d.log.Warn("nothing is served at an address yet; will serve there once it is there", zap.Stringer("address", address), zap.String("reason", why))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = append(p.missing, missingAddress{address, why})
}

// awaited are the addresses that are waited for.
func (p *portSet) awaited() []missingAddress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.missing)
}

// awaits reports whether an address is waited for.
func (p *portSet) awaits(address netip.AddrPort) bool {
	return slices.ContainsFunc(p.awaited(), func(m missingAddress) bool { return m.address == address })
}

// awaitOnly forgets the addresses that are no longer wanted.
func (p *portSet) awaitOnly(wanted []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = slices.DeleteFunc(p.missing, func(m missingAddress) bool { return !slices.Contains(wanted, m.address) })
}

// lookAgain serves at addresses that have come and notes which have gone. It runs on the
// registry's goroutine, which alone changes the list of sockets once the daemon runs.
// It reports whether there are new sockets.
func (p *portSet) lookAgain(cfg *config.Config) (opened bool) {
	p.noteGone()
	var still []missingAddress
	for _, m := range p.awaited() {
		l, err := p.open(cfg, m.address)
		if err == nil {
			opened = true
			p.setList(append(slices.Clone(p.list()), l))
			p.serve(p.d.group, l)
			p.d.log.Info("serving at an address that has come", zap.Stringer("address", m.address))
			continue
		}
		if why := absence(err, m.address); why != "" {
			m.why = why
		} else if err.Error() != m.why {
			m.why = err.Error()
			p.d.log.Warn("nothing is served at an address that has come; will go on trying", zap.Stringer("address", m.address), zap.Error(err))
		}
		still = append(still, m)
	}
	p.mu.Lock()
	p.missing = still
	p.mu.Unlock()
	return opened
}

// noteGone looks which of the addresses listened at are gone. Their sockets stay, and
// hear again when the address is back; only those of an IPv6 zone belong to one
// interface for good, and are opened anew.
func (p *portSet) noteGone() {
	kept := slices.DeleteFunc(slices.Clone(p.list()), func(l *listener) bool {
		zone := l.address.Addr().Zone()
		if zone == "" || zoneIndex(zone) == l.zone {
			return false
		}
		_ = l.Close()
		p.miss(l.address, fmt.Sprintf("this machine has no interface %s at present", zone))
		return true
	})
	if len(kept) < len(p.list()) {
		p.setList(kept)
	}
	for _, l := range kept {
		why := goneWhy(l.address)
		if before := l.gone.Swap(&why); before != nil && *before == why || before == nil && why == "" {
			continue
		}
		if why != "" {
			p.d.log.Warn("an address that is served at has gone from this machine; will serve there when it is back", zap.Stringer("address", l.address), zap.String("reason", why))
		} else {
			p.d.log.Info("serving at an address that is back", zap.Stringer("address", l.address))
		}
	}
}

// goneWhy tries whether this machine still has an address, as the kernel sees it: that
// knows of addresses that no interface lists (127.0.0.0/8, local routes). It is "" for one
// that it has.
func goneWhy(address netip.AddrPort) string {
	addr := address.Addr()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() {
		return ""
	}
	try := numbered(netip.AddrPortFrom(addr, 0))
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(try))
	if err != nil {
		return absence(err, address)
	}
	_ = conn.Close()
	return ""
}

// notListening are the addresses at which nothing is served now, and why.
func (p *portSet) notListening() (list []control.NotListening) {
	for _, m := range p.awaited() {
		list = append(list, control.NotListening{Address: m.address.String(), Reason: m.why})
	}
	for _, l := range p.list() {
		if why := l.gone.Load(); why != nil && *why != "" {
			list = append(list, control.NotListening{Address: l.LocalAddr().String(), Reason: *why})
		}
	}
	return list
}

// openMetricsOrWait opens the listener of the metrics at the start; its address may come later.
func (d *Daemon) openMetricsOrWait(cfg *config.Config) error {
	m, err := openMetrics(d, cfg)
	if err != nil {
		why := absence(err, netip.AddrPortFrom(cfg.Metrics.Listen.Addr, cfg.Metrics.Listen.Port))
		if why == "" {
			return err
		}
		d.log.Warn("no metrics yet; will serve them once their address is there", zap.Stringer("address", cfg.Metrics.Listen), zap.String("reason", why))
		return nil
	}
	d.metrics.Store(m)
	return nil
}

// openMissingMetrics tries again. It runs on the registry's goroutine.
func (d *Daemon) openMissingMetrics(cfg *config.Config) {
	if cfg.Metrics == nil || d.metrics.Load() != nil {
		return
	}
	m, err := openMetrics(d, cfg)
	if err != nil {
		return // said at the start
	}
	d.metrics.Store(m)
	m.start(d.group)
	d.log.Info("serving metrics at an address that has come", zap.Stringer("address", cfg.Metrics.Listen))
}

// lookAtAddresses takes over which of the listening addresses have come or gone; groups
// and senders then use the new sockets.
func (g *registry) lookAtAddresses() {
	g.d.openMissingMetrics(g.config)
	if g.d.ports.lookAgain(g.config) {
		g.joinGroups()
		g.setTTLs()
	}
}

// setTTLs gives the sockets the hop limits of the multicast senders.
func (g *registry) setTTLs() {
	if g.config.Server == nil {
		return
	}
	for i := range g.config.Server.Multicast {
		m := &g.config.Server.Multicast[i]
		g.d.ports.setTTL(m.Group, m.TTL)
	}
}
