package serve

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"go.uber.org/zap"
)

// Missing is an address of the settings at which nothing is served now, or a group that is
// not joined.
type Missing struct {
	Address netip.AddrPort
	Why     string
}

// Absence says why a socket cannot be bound to an address that is not there (yet): the
// network may come later than we do. It is "" where an error of the bind has any other
// reason. What it says has been looked up, not concluded from the error's number.
func Absence(err error, address netip.AddrPort) string {
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
	if zone == "" {
		return 0
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return i.Index
}

// miss notes that an address is not there, and says so once.
func (s *Set) miss(address netip.AddrPort, why string) {
	s.env.Log.Warn("nothing is served at an address yet; will serve there once it is there", zap.Stringer("address", address), zap.String("reason", why))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = append(s.missing, Missing{address, why})
}

// pending are the addresses that are waited for.
func (s *Set) pending() []Missing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.missing)
}

// isPending reports whether an address is waited for.
func (s *Set) isPending(address netip.AddrPort) bool {
	return slices.ContainsFunc(s.pending(), func(m Missing) bool { return m.Address == address })
}

// awaitOnly forgets the addresses that are no longer wanted.
func (s *Set) awaitOnly(wanted []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = slices.DeleteFunc(s.missing, func(m Missing) bool { return !slices.Contains(wanted, m.Address) })
}

// Look serves at addresses that have come, notes which have gone, and joins the groups that
// can be joined now. It is to be called when the interfaces have changed, and every few
// seconds. It reports whether there are new sockets.
func (s *Set) Look() (opened bool) {
	s.noteGone()
	var still []Missing
	for _, m := range s.pending() {
		l, err := s.open(s.settings, m.Address)
		if err == nil {
			opened = true
			s.setListeners(append(s.Listeners(), l))
			s.serve(l)
			s.env.Log.Info("serving at an address that has come", zap.Stringer("address", m.Address))
			continue
		}
		if why := Absence(err, m.Address); why != "" {
			m.Why = why
		} else if err.Error() != m.Why {
			m.Why = err.Error()
			s.env.Log.Warn("nothing is served at an address that has come; will go on trying", zap.Stringer("address", m.Address), zap.Error(err))
		}
		still = append(still, m)
	}
	s.mu.Lock()
	s.missing = still
	s.mu.Unlock()
	s.tendGroups()
	return opened
}

// noteGone looks which of the addresses listened at are gone. Their sockets stay, and
// hear again when the address is back; only those of an IPv6 zone belong to one
// interface for good, and are opened anew.
func (s *Set) noteGone() {
	before := s.Listeners()
	kept := slices.DeleteFunc(slices.Clone(before), func(l *Listener) bool {
		zone := l.address.Addr().Zone()
		if zone == "" || zoneIndex(zone) == l.zone {
			return false
		}
		_ = l.Close()
		s.miss(l.address, fmt.Sprintf("this machine has no interface %s at present", zone))
		return true
	})
	if len(kept) < len(before) {
		s.setListeners(kept)
	}
	for _, l := range kept {
		why := goneWhy(l.address)
		if before := l.gone.Swap(&why); before != nil && *before == why || before == nil && why == "" {
			continue
		}
		if why != "" {
			s.env.Log.Warn("an address that is served at has gone from this machine; will serve there when it is back", zap.Stringer("address", l.address), zap.String("reason", why))
		} else {
			s.env.Log.Info("serving at an address that is back", zap.Stringer("address", l.address))
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
	if index := zoneIndex(addr.Zone()); index != 0 { // the standard library remembers for a minute which one a name had
		addr = addr.WithZone(strconv.Itoa(index))
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return Absence(err, address)
	}
	_ = conn.Close()
	return ""
}

// NotListening are the addresses at which nothing is served now, and why.
func (s *Set) NotListening() []Missing {
	list := s.pending()
	for _, l := range s.Listeners() {
		if why := l.gone.Load(); why != nil && *why != "" {
			list = append(list, Missing{l.LocalAddr(), *why})
		}
	}
	return list
}
