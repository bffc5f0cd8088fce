package netio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// group is a membership that the Port keeps alive: an interface may go and come back,
// under another index.
type group struct {
	addr    netip.Addr
	ifname  string
	ifindex int // where it is joined now, 0 for nowhere
}

// JoinGroup makes the port receive what is sent to a multicast group and arrives by an
// interface. The membership lasts until LeaveGroup; if the interface is absent now or
// goes for a while, Refresh joins it when it is there.
func (p *Port) JoinGroup(addr netip.Addr, ifname string) error {
	addr = addr.Unmap().WithZone("")
	if !addr.IsMulticast() {
		return fmt.Errorf("join %s on %s: not a multicast group", addr, ifname)
	}
	s := p.socketFor(addr, netip.Addr{})
	switch {
	case s == nil:
		return fmt.Errorf("join %s on %s: %w", addr, ifname, ErrNoFamily)
	case !s.localAddr().Addr().IsUnspecified():
		return fmt.Errorf("join %s on %s: the port listens at %s alone and receives no group; listen at every address", addr, ifname, s.localAddr().Addr())
	}
	g := &group{addr: addr, ifname: ifname}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.groups, func(o *group) bool { return o.addr == addr && o.ifname == ifname }) {
		return fmt.Errorf("join %s on %s: joined already", addr, ifname)
	}
	if i, err := net.InterfaceByName(ifname); err == nil {
		if err := p.joinAt(g, i.Index); err != nil {
			return err
		}
	}
	p.groups = append(p.groups, g)
	return nil
}

// LeaveGroup ends a membership.
func (p *Port) LeaveGroup(addr netip.Addr, ifname string) error {
	addr = addr.Unmap().WithZone("")
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.groups, func(g *group) bool { return g.addr == addr && g.ifname == ifname })
	if i < 0 {
		return fmt.Errorf("leave %s on %s: not joined", addr, ifname)
	}
	g := p.groups[i]
	p.groups = slices.Delete(p.groups, i, i+1)
	if g.ifindex == 0 {
		return nil
	}
	if err := p.socketFor(addr, netip.Addr{}).leave(addr, g.ifindex); err != nil && !isNoInterface(err) {
		return fmt.Errorf("leave %s on %s: %w", addr, ifname, err)
	}
	return nil
}

// joinAt joins g at an interface. A membership that still exists is no error: the
// kernel keeps it while an interface is down.
func (p *Port) joinAt(g *group, ifindex int) error {
	err := p.socketFor(g.addr, netip.Addr{}).join(g.addr, ifindex)
	if err != nil && !isInUse(err) {
		return fmt.Errorf("join %s on %s: %w", g.addr, g.ifname, err)
	}
	g.ifindex = ifindex
	return nil
}

// rejoin brings every membership to the interface that has its name now.
func (p *Port) rejoin(ifs []net.Interface) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, g := range p.groups {
		at := slices.IndexFunc(ifs, func(i net.Interface) bool { return i.Name == g.ifname })
		if g.ifindex != 0 && (at < 0 || ifs[at].Index != g.ifindex) {
			// The interface is gone; the socket's own list still holds the entry, and is short.
			_ = p.socketFor(g.addr, netip.Addr{}).leave(g.addr, g.ifindex)
			g.ifindex = 0
		}
		if at >= 0 {
			errs = append(errs, p.joinAt(g, ifs[at].Index))
		}
	}
	return errors.Join(errs...)
}
