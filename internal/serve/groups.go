package serve

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"timeball/internal/netio"
)

// Group is what a listening association hears: a multicast group, or a broadcast address
// where each host has a socket of its own for that.
type Group struct {
	Addr      netip.Addr
	Port      uint16
	Interface string // by which it must come; "": where the route to the group says
}

func (g Group) String() string {
	if g.Interface == "" {
		return g.Addr.String()
	}
	return g.Addr.String() + " on " + g.Interface
}

// membership is a group that is wanted.
type membership struct {
	Group
	on     *Listener // the socket that has joined, or tries to; nil: none can
	own    *Listener // a socket of the group's own (Env.GroupSockets)
	where  string    // the interface where it is joined, "": nowhere
	why    string    // why it is not, as last said in the log
	looked bool
}

// Join has a group heard from now on, until Leave: it is joined where it can be, as soon as it can
// be, and again when an interface, a route or a socket has changed. Whether it is says
// NotJoined. Broadcasts need no group: a wildcard socket receives them by itself.
func (s *Set) Join(g Group) {
	if !g.Addr.IsMulticast() && !s.env.GroupSockets {
		return
	}
	s.mu.Lock()
	known := slices.ContainsFunc(s.groups, func(m *membership) bool { return m.Group == g })
	if !known {
		s.groups = append(s.groups, &membership{Group: g})
	}
	s.mu.Unlock()
	s.tendGroups()
}

// Leave ends what Join has begun.
func (s *Set) Leave(g Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = slices.DeleteFunc(s.groups, func(m *membership) bool {
		if m.Group != g {
			return false
		}
		if m.own != nil {
			_ = m.own.Close()
		} else if m.on != nil {
			_ = m.on.port.LeaveGroup(g.Addr, g.Interface) // closed meanwhile, it has left
		}
		return true
	})
}

// tendGroups joins what is not joined, or not where it should be any more.
func (s *Set) tendGroups() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.start == nil {
		return
	}
	for _, m := range s.groups {
		where, err := s.tend(m)
		s.tellGroup(m, where, err)
	}
}

// tend gives a group its socket and has it joined; it returns the interface.
func (s *Set) tend(m *membership) (where string, err error) {
	if s.env.GroupSockets {
		return m.Interface, s.openGroup(m)
	}
	on := s.forGroup(m.Group)
	if m.on != nil && m.on != on {
		_ = m.on.port.LeaveGroup(m.Addr, m.Interface) // it may be closed
		m.on = nil
	}
	if on == nil {
		return "", fmt.Errorf("no NTP port listens at every address of the family of %s", m.Addr)
	}
	if m.on == nil {
		if err := on.port.JoinGroup(m.Addr, m.Interface); err != nil {
			return "", err
		}
		m.on = on
	}
	return on.port.Rejoin(m.Addr, m.Interface)
}

// forGroup is the socket that is to hear a group: one that listens at every address, at the
// group's own port if there is such a one.
func (s *Set) forGroup(g Group) (found *Listener) {
	for _, l := range s.Listeners() {
		if !l.port.CanJoin(g.Addr) {
			continue
		}
		if l.LocalAddr().Port() == g.Port {
			return l
		}
		if found == nil {
			found = l
		}
	}
	return found
}

// openGroup hears a group or broadcast address by a socket of its own.
func (s *Set) openGroup(m *membership) error {
	if m.own != nil {
		return nil
	}
	address := netip.AddrPortFrom(m.Addr, m.Port)
	port, err := netio.ListenGroup(netio.ListenConfig{Address: address, Clock: s.env.Clock}, m.Interface)
	if err != nil {
		return err
	}
	m.own = s.newListener(port, address)
	s.serve(m.own)
	return nil
}

// tellGroup notes where a group is joined, and says so when that changes: a listener that
// hears nothing must not look like one that nobody sends to.
func (s *Set) tellGroup(m *membership, where string, err error) {
	why := ""
	if err == nil && where == "" {
		err = errors.New("no interface for it")
	}
	if err != nil {
		where, why = "", err.Error()
	}
	switch {
	case why != "" && why != m.why:
		s.env.Log.Warn("not listening to a group yet; will go on trying", zap.Stringer("group", m.Group), zap.String("reason", why))
	case why == "" && (m.why != "" || m.looked && where != m.where):
		s.env.Log.Info("listening to a group", zap.Stringer("group", m.Group), zap.String("interface", where))
	}
	m.where, m.why, m.looked = where, why, true
}

// NotJoined are the groups that are wanted and not heard, and why.
func (s *Set) NotJoined() (list []NotJoined) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.groups {
		if m.why != "" {
			list = append(list, NotJoined{m.Group, m.why})
		}
	}
	return list
}

// NotJoined is a group that is wanted and not heard.
type NotJoined struct {
	Group Group
	Why   string
}
