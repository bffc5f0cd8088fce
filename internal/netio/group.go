package netio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// group is a membership that the Port keeps alive: an interface may go and come back,
// under another index, and a route may change.
type group struct {
	addr    netip.Addr
	ifname  string // "": where the route to the group says
	ifindex int    // where it is joined now, 0 for nowhere
}

// on names where a group is to be joined, for errors.
func (g *group) on() string {
	if g.ifname == "" {
		return "where the route says"
	}
	return "on " + g.ifname
}

// CanJoin reports whether the port can receive what is sent to a multicast group: it
// listens at every address of the group's family.
func (p *Port) CanJoin(addr netip.Addr) bool {
	s := p.socketFor(addr.Unmap(), netip.Addr{})
	return s != nil && s.local.Addr().IsUnspecified()
}

// JoinGroup makes the port receive what is sent to a multicast group and arrives by an
// interface; without a name, by the one that the route to the group says. The membership
// lasts until LeaveGroup: Refresh and Rejoin bring it to where it should be by then. That
// it can be joined nowhere at present is no error; Rejoin tells.
func (p *Port) JoinGroup(addr netip.Addr, ifname string) error {
	g := &group{addr: addr.Unmap().WithZone(""), ifname: ifname}
	switch {
	case !g.addr.IsMulticast():
		return fmt.Errorf("join %s %s: not a multicast group", addr, g.on())
	case p.socketFor(g.addr, netip.Addr{}) == nil:
		return fmt.Errorf("join %s %s: %w", addr, g.on(), ErrNoFamily)
	case !p.CanJoin(g.addr):
		return fmt.Errorf("join %s %s: the port listens at one address alone and receives no group; listen at every address", addr, g.on())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.find(g.addr, ifname) >= 0 {
		return fmt.Errorf("join %s %s: joined already", addr, g.on())
	}
	p.groups = append(p.groups, g)
	return p.place(g)
}

// find is the place of a membership in groups, -1 if there is none.
func (p *Port) find(addr netip.Addr, ifname string) int {
	return slices.IndexFunc(p.groups, func(g *group) bool { return g.addr == addr && g.ifname == ifname })
}

// Rejoin brings a membership to where it should be now, and names the interface: "" while
// there is none, because it is absent or no route leads to the group.
func (p *Port) Rejoin(addr netip.Addr, ifname string) (where string, err error) {
	addr = addr.Unmap().WithZone("")
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.find(addr, ifname)
	if i < 0 {
		return "", fmt.Errorf("join %s again: not joined", addr)
	}
	g := p.groups[i]
	switch err := p.place(g); {
	case err != nil:
		return "", err
	case g.ifindex == 0 && ifname == "":
		return "", fmt.Errorf("no route to %s", addr)
	case g.ifindex == 0:
		return "", fmt.Errorf("no interface %s at present", ifname)
	case ifname != "":
		return ifname, nil
	}
	at, err := net.InterfaceByIndex(g.ifindex)
	if err != nil {
		return "", fmt.Errorf("interface %d: %w", g.ifindex, err)
	}
	return at.Name, nil
}

// LeaveGroup ends a membership.
func (p *Port) LeaveGroup(addr netip.Addr, ifname string) error {
	addr = addr.Unmap().WithZone("")
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.find(addr, ifname)
	if i < 0 {
		return fmt.Errorf("leave %s on %s: not joined", addr, ifname)
	}
	g := p.groups[i]
	p.groups = slices.Delete(p.groups, i, i+1)
	if err := p.leave(g); err != nil && !isNoInterface(err) {
		return fmt.Errorf("leave %s %s: %w", addr, g.on(), err)
	}
	return nil
}

// leave takes the socket out of a group, unless another membership needs it there: the
// kernel knows one of a group and an interface only.
func (p *Port) leave(g *group) error {
	at := g.ifindex
	g.ifindex = 0
	shared := func(o *group) bool { return o != g && o.addr == g.addr && o.ifindex == at }
	if at == 0 || slices.ContainsFunc(p.groups, shared) {
		return nil
	}
	return p.socketFor(g.addr, netip.Addr{}).leave(g.addr, at)
}

// place brings a membership to where it should be now. One that the kernel has already is
// no error: it keeps it while an interface is down.
func (p *Port) place(g *group) error {
	index := 0
	if g.ifname == "" {
		var err error
		if index, err = routeTo(g.addr); err != nil {
			return fmt.Errorf("route to %s: %w", g.addr, err)
		}
	} else if i, err := net.InterfaceByName(g.ifname); err == nil {
		index = i.Index
	}
	if g.ifindex != 0 && g.ifindex != index {
		_ = p.leave(g) // its interface may be gone; the socket's own list still holds the entry, and is short
	}
	if index == 0 {
		return nil
	}
	if err := p.socketFor(g.addr, netip.Addr{}).join(g.addr, index); err != nil && !isInUse(err) {
		if isNoInterface(err) {
			return nil // gone between the look and the call
		}
		return fmt.Errorf("join %s %s: %w", g.addr, g.on(), err)
	}
	g.ifindex = index
	return nil
}

// rejoin brings every membership to where it should be now.
func (p *Port) rejoin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, g := range p.groups {
		errs = append(errs, p.place(g))
	}
	return errors.Join(errs...)
}
