package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

// send sends one datagram. It does not wait for room in the socket: a packet that
// leaves late would carry a timestamp that is wrong.
func (s *shard) send(b []byte, to netip.AddrPort, from source, token Token) (ntptime.Instant, error) {
	var room [controlSpace]byte
	scope := scopeOf(to.Addr(), from.ifindex)
	ifindex := from.ifindex
	if ifindex == 0 && s.v6 && to.Addr().IsLinkLocalUnicast() {
		ifindex = int(scope)
	}
	controls := appendSource(room[:0], s.v6, from.addr, ifindex)
	if from.hops > 0 {
		controls = appendHops(controls, s.v6, from.hops)
	}
	want := token != Token{} && s.pending.add(b, token)
	if want {
		controls = appendTimestamping(controls, s.askFlags())
	}
	var at ntptime.Instant
	err := s.control(func(fd int) error {
		at = s.cfg.Clock.Now()
		return sendDatagram(fd, b, controls, sockaddr(to, scope))
	})
	if err != nil {
		if want {
			s.pending.forget(token)
		}
		if errors.Is(err, unix.EAGAIN) && s.guard != nil {
			s.guard.begin(s.siblings)
		}
		return at, err
	}
	s.count.sent.Add(1)
	return at, nil
}

// sendDatagram gives one datagram to the kernel, at its second word where the first
// was only the report of an earlier datagram's fate.
func sendDatagram(fd int, b, controls []byte, to unix.Sockaddr) error {
	for attempt := 0; ; attempt++ {
		_, err := unix.SendmsgN(fd, b, controls, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case isUnreachable(err) && attempt == 0:
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

func sockaddr(to netip.AddrPort, scope uint32) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: scope}
}

// numbered is an address with the present index for its zone: the standard library
// remembers for a minute which index a name had.
func numbered(a netip.Addr) netip.Addr {
	if scope := scopeOf(a, 0); scope != 0 {
		return a.WithZone(strconv.Itoa(int(scope)))
	}
	return a
}

// scopeOf is the index of the interface that an address's zone names; without a zone
// that of the interface to send by.
func scopeOf(a netip.Addr, ifindex int) uint32 {
	if a.Zone() == "" {
		if a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast()) {
			return uint32(ifindex)
		}
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	n, err := strconv.Atoi(a.Zone())
	if err != nil || n < 0 {
		return 0
	}
	return uint32(n)
}
