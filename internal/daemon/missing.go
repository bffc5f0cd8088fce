package daemon

import (
	"errors"
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

// whyMissing is why nothing is served at an address that this machine does not have.
const whyMissing = "this machine does not have the address at present; it is tried again when the interfaces change, and every few seconds"

// isMissing reports whether an error of a bind says that the address is not there (yet):
// it is not configured on any interface, or its interface is gone.
func isMissing(err error, address netip.AddrPort) bool {
	if zone := address.Addr().Zone(); zone != "" && zoneIndex(zone) == 0 {
		return true
	}
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)
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
	if err != nil && isMissing(err, address) {
		p.miss(address)
		return nil, nil
	}
	return l, err
}

// miss notes that an address is not there, and says so once.
func (p *portSet) miss(address netip.AddrPort) {
	p.d.log.Warn("nothing is served at an address that this machine does not have; will serve there once it has it", zap.Stringer("address", address))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = append(p.missing, missingAddress{address, whyMissing})
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
		switch {
		case err == nil:
			opened = true
			p.setList(append(slices.Clone(p.list()), l))
			p.serve(p.d.group, l)
			p.d.log.Info("serving at an address that has come", zap.Stringer("address", m.address))
			continue
		case isMissing(err, m.address):
			m.why = whyMissing
		case err.Error() != m.why:
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
		p.miss(l.address)
		return true
	})
	if len(kept) < len(p.list()) {
		p.setList(kept)
	}
	for _, l := range kept {
		gone := isGone(l.address)
		if gone == l.gone.Swap(gone) {
			continue
		}
		if gone {
			p.d.log.Warn("an address that is served at has gone from this machine; will serve there when it is back", zap.Stringer("address", l.address))
		} else {
			p.d.log.Info("serving at an address that is back", zap.Stringer("address", l.address))
		}
	}
}

// isGone tries whether this machine still has an address, as the kernel sees it: that
// knows of addresses that no interface lists (127.0.0.0/8, local routes).
func isGone(address netip.AddrPort) bool {
	addr := address.Addr()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() {
		return false
	}
	try := numbered(netip.AddrPortFrom(addr, 0))
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(try))
	if err != nil {
		return isMissing(err, address)
	}
	_ = conn.Close()
	return false
}

// notListening are the addresses at which nothing is served now, and why.
func (p *portSet) notListening() (list []control.NotListening) {
	for _, m := range p.awaited() {
		list = append(list, control.NotListening{Address: m.address.String(), Reason: m.why})
	}
	for _, l := range p.list() {
		if l.gone.Load() {
			list = append(list, control.NotListening{Address: l.LocalAddr().String(), Reason: whyMissing})
		}
	}
	return list
}

// openMetricsOrWait opens the listener of the metrics at the start; its address may come later.
func (d *Daemon) openMetricsOrWait(cfg *config.Config) error {
	m, err := openMetrics(d, cfg)
	if err != nil && isMissing(err, netip.AddrPort{}) {
		d.log.Warn("no metrics: this machine does not have their address; will serve them once it has it", zap.Stringer("address", cfg.Metrics.Listen))
		return nil
	}
	d.metrics.Store(m)
	return err
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
		g.tendListens()
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
