package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// shard is one socket of a port with the arrays of its Serve.
type shard struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	local   netip.AddrPort
	v6      bool
	primary bool // the one socket of its family that keeps broadcasts
	cfg     *ListenConfig

	closed  atomic.Bool
	ignored atomic.Pointer[[]int]
	pending pendingStamps
	count   shardCounters
}

// shardCounters are the counters of one socket, each added to by one goroutine.
type shardCounters struct {
	received, replied, sent, stale, ignored, duplicate, truncated, overlong, sendErrors, stamped, unmatched atomic.Uint64
}

// openShards opens the workers' sockets of one address.
func openShards(cfg ListenConfig) ([]socket, error) {
	if cfg.Portable {
		return openPortable(cfg)
	}
	shards, err := bindExclusively(&cfg)
	sockets := make([]socket, len(shards))
	for i, s := range shards {
		sockets[i] = s
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(sockets))
	}
	return sockets, nil
}

// bindExclusively binds the workers' sockets so that they share one port among
// themselves and with nobody else. SO_REUSEPORT alone would let every process of the
// same user join in, so
//   - the first socket is bound without it: that fails if anybody has the port, and
//     two processes that start at once cannot both succeed;
//   - the option is set on it only then, so that the other workers can follow;
//   - at last one socket gives it up again: as a bind must agree with every socket
//     there is, nobody can follow from now on.
//
// The last step must spare the socket that the kernel finds first when a datagram
// comes in, since only there it looks at the option to share the load. New sockets go
// to the head of the kernel's list, but to its tail with the option and IPv6.
func bindExclusively(cfg *ListenConfig) ([]*shard, error) {
	first, err := newShard(cfg, cfg.Address, false)
	if err != nil {
		return nil, err
	}
	first.primary = true
	shards := []*shard{first}
	if cfg.Workers == 1 {
		return shards, nil
	}
	if err := first.setReusePort(1); err != nil {
		return shards, err
	}
	for len(shards) < cfg.Workers {
		s, err := newShard(cfg, first.local, true)
		if err != nil {
			return shards, err
		}
		shards = append(shards, s)
	}
	guard := first
	if first.v6 {
		guard = shards[len(shards)-1]
	}
	return shards, guard.setReusePort(0)
}

func newShard(cfg *ListenConfig, addr netip.AddrPort, reusePort bool) (*shard, error) {
	v6 := addr.Addr().Is6()
	conn, err := listen(addr, func(fd int) error {
		if reusePort {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
			}
		}
		if err := setOptions(fd, portOptions(v6, cfg)); err != nil {
			return err
		}
		return setReceiveBuffer(fd, cfg.ReceiveBuffer)
	})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := &shard{conn: conn, raw: raw, v6: v6, cfg: cfg}
	s.local = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	s.local = netip.AddrPortFrom(unmapFamily(s.local.Addr(), v6), s.local.Port())
	s.ignored.Store(new([]int))
	return s, nil
}

// unmapFamily gives an address of an IPv4 socket as IPv4.
func unmapFamily(a netip.Addr, v6 bool) netip.Addr {
	if v6 {
		return a
	}
	return a.Unmap()
}

func (s *shard) setReusePort(value int) error {
	return s.control(func(fd int) error {
		return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value))
	})
}

// control runs f on the descriptor, which stays open meanwhile.
func (s *shard) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func (s *shard) localAddr() netip.AddrPort { return s.local }

func (s *shard) ignore(ifindexes []int) { s.ignored.Store(&ifindexes) }

func (s *shard) close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

func (s *shard) join(group netip.Addr, ifindex int) error { return s.membership(group, ifindex, true) }
func (s *shard) leave(group netip.Addr, ifindex int) error {
	return s.membership(group, ifindex, false)
}

func (s *shard) membership(group netip.Addr, ifindex int, join bool) error {
	return s.control(func(fd int) error {
		if s.v6 {
			opt := unix.IPV6_LEAVE_GROUP
			if join {
				opt = unix.IPV6_JOIN_GROUP
			}
			m := unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(ifindex)}
			return os.NewSyscallError("setsockopt group membership", unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, opt, &m))
		}
		opt := unix.IP_DROP_MEMBERSHIP
		if join {
			opt = unix.IP_ADD_MEMBERSHIP
		}
		m := unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(ifindex)}
		return os.NewSyscallError("setsockopt group membership", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, opt, &m))
	})
}

func (s *shard) counters() Counters {
	c := &s.count
	return Counters{
		Received: c.received.Load(), Replied: c.replied.Load(), Sent: c.sent.Load(),
		Stale: c.stale.Load(), Ignored: c.ignored.Load(), Duplicate: c.duplicate.Load(),
		Truncated: c.truncated.Load(), Overlong: c.overlong.Load(), SendErrors: c.sendErrors.Load(),
		Stamped: c.stamped.Load(), Unmatched: c.unmatched.Load(), Overflow: s.overflow(),
	}
}

// overflow is how many datagrams the kernel has dropped on this socket, 0 if it does not tell.
func (s *shard) overflow() uint64 {
	var drops uint64
	_ = s.control(func(fd int) error {
		drops = uint64(socketDrops(uintptr(fd)))
		return nil
	})
	return drops
}
