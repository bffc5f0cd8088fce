package netio

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

var (
	reusePort = option{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, false}
	// nowhere binds a socket to an interface that does not exist: it receives nothing
	// and is in no group with sockets of the same port, but it does hold the port.
	nowhere = option{"SO_BINDTOIFINDEX", unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, math.MaxInt32, false}
)

// openGroup opens the workers' sockets so that they share one port among themselves
// and with nobody else. SO_REUSEPORT alone would let every process of the same user
// join in and take its part of the requests. So two guards hold the port besides:
//
//   - the claim is bound first and without the option. That fails if anybody has the
//     port, so of two daemons that start together one fails. Only then the option is
//     set on it, and the workers can follow;
//   - the seal is bound last. Then both guards give up the option.
//
// A socket that wants to join must agree with the first that the kernel finds on the
// port (udp_lib_lport_inuse): of two lists one has the newest socket first, the other has
// it last for IPv6; so with a guard at each end nobody joins. No datagram is lost to the
// guards: see deafen. Where that cannot be done (before Linux 5.1) the claim alone keeps
// other daemons out.
func openGroup(cfg *ListenConfig) ([]*shard, error) {
	apart := guardOptions(cfg.Address)
	claim, err := listen(cfg.Address, func(fd int) error { return setOptions(fd, apart) })
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(cfg.Address.Addr(), boundTo(claim).Port()) // a zone as it was given, not as a cache names it
	sealed := deafen(claim) == nil
	if err := setOn(claim, reusePort); err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	var sockets []*shard
	for i := range cfg.Workers {
		s, err := newShard(cfg, address, []option{reusePort})
		if err != nil {
			return nil, errors.Join(err, closeAll(sockets), claim.Close())
		}
		s.primary = i == 0
		sockets = append(sockets, s)
	}
	if !sealed {
		return sockets, claim.Close()
	}
	first := sockets[0]
	first.guards = append(first.guards, claim)
	if err := first.seal(address, claim); err != nil {
		return nil, errors.Join(err, closeAll(sockets))
	}
	return sockets, nil
}

// seal binds the last guard and closes the group.
func (s *shard) seal(address netip.AddrPort, claim *net.UDPConn) error {
	options := append(guardOptions(address), reusePort)
	if !specificIPv6(address) {
		options = append(options, nowhere) // before the bind: it must not be of the workers' group even for a moment
	}
	seal, err := listen(address, func(fd int) error { return setOptions(fd, options) })
	if err != nil {
		return err
	}
	s.guards = append(s.guards, seal)
	if specificIPv6(address) {
		err = deafen(seal)
	}
	alone := reusePort
	alone.value = 0
	return errors.Join(err, setOn(claim, alone), setOn(seal, alone))
}

// specificIPv6 reports whether an address is one of IPv6, other than ::. The kernel binds
// such a socket only to an interface that exists (ENODEV), and from the scope of a link-local
// one it cannot be moved away again without CAP_NET_RAW.
func specificIPv6(address netip.AddrPort) bool {
	return address.Addr().Is6() && !address.Addr().IsUnspecified()
}

// guardOptions keep a guard out of the workers' group. At one IPv6 address it is enough
// that only one of them has IPV6_V6ONLY, which means nothing else there.
func guardOptions(address netip.AddrPort) []option {
	if specificIPv6(address) {
		return []option{{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0, false}}
	}
	return nil
}

// deafen keeps a guard from receiving anything: it is bound to no interface that exists, or
// connected to itself, and nobody else sends from that address and port.
func deafen(guard *net.UDPConn) error {
	address := boundTo(guard)
	if !specificIPv6(address) {
		return setOn(guard, nowhere)
	}
	raw, err := guard.SyscallConn()
	if err != nil {
		return err
	}
	return onDescriptor(raw, func(fd int) error {
		to, err := unix.Getsockname(fd)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		return os.NewSyscallError("connect", unix.Connect(fd, to))
	})
}

func setOn(conn *net.UDPConn, o option) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return onDescriptor(raw, func(fd int) error {
		return os.NewSyscallError("setsockopt "+o.name, unix.SetsockoptInt(fd, o.level, o.opt, o.value))
	})
}
