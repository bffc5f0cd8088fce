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
// it last for IPv6; so with a guard at each end nobody joins. Guards are bound to an
// interface that does not exist, so no datagram is lost to them. Where the kernel does
// not know that option (before Linux 5.1) the claim alone keeps other daemons out.
func openGroup(cfg *ListenConfig) ([]socket, error) {
	claim, err := listen(cfg.Address, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	address := boundTo(claim)
	sealed := setOn(claim, nowhere) == nil
	if err := setOn(claim, reusePort); err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	var sockets []socket
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
	first := sockets[0].(*shard)
	first.guards = append(first.guards, claim)
	if err := first.seal(address, claim); err != nil {
		return nil, errors.Join(err, closeAll(sockets))
	}
	return sockets, nil
}

// seal binds the last guard and closes the group.
func (s *shard) seal(address netip.AddrPort, claim *net.UDPConn) error {
	seal, err := listen(address, func(fd int) error { return setOptions(fd, []option{nowhere, reusePort}) })
	if err != nil {
		return err
	}
	s.guards = append(s.guards, seal)
	alone := reusePort
	alone.value = 0
	return errors.Join(setOn(claim, alone), setOn(seal, alone))
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
