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
	inbox   *inbox
	local   netip.AddrPort
	v6      bool
	primary bool           // the one socket of its family that keeps broadcasts
	guards  []*net.UDPConn // what keeps others from the port, closed with the primary
	cfg     *ListenConfig

	guard    *guard   // of the port
	siblings []*shard // the sockets of the port

	closed  atomic.Bool
	ignored atomic.Pointer[[]int]
	pending pendingTimestamps
	count   shardCounters
}

// shardCounters are the counters of one socket, each added to by one goroutine.
type shardCounters struct {
	received, replied, sent, stale, ignored, duplicate, truncated, overlong, sendErrors, unresolved, timestamped, unmatched atomic.Uint64
}

// openShards opens the workers' sockets of one address.
func openShards(cfg ListenConfig) ([]*shard, error) {
	if cfg.Workers == 1 {
		s, err := newShard(&cfg, cfg.Address, nil)
		if err != nil {
			return nil, err
		}
		s.primary = true
		return []*shard{s}, nil
	}
	return openGroup(&cfg)
}

// newShard binds one socket of a port, with more options first.
func newShard(cfg *ListenConfig, addr netip.AddrPort, more []option) (*shard, error) {
	v6 := addr.Addr().Is6()
	conn, err := listen(addr, func(fd int) error {
		if err := setOptions(fd, append(portOptions(v6, cfg), more...)); err != nil {
			return err
		}
		return setBuffers(fd, cfg.ReceiveBuffer)
	})
	if err != nil {
		return nil, err
	}
	return shardOn(cfg, conn)
}

// shardOn makes a shard of a socket that is bound and set up.
func shardOn(cfg *ListenConfig, conn *net.UDPConn) (*shard, error) {
	local := boundTo(conn)
	in, err := newInbox(conn)
	if err != nil {
		return nil, err
	}
	s := &shard{inbox: in, v6: local.Addr().Is6(), cfg: cfg, local: local}
	s.ignored.Store(new([]int))
	return s, nil
}

// boundTo is a socket's own address, IPv4 as IPv4.
func boundTo(conn *net.UDPConn) netip.AddrPort {
	a := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// control runs f on the descriptor, which stays open meanwhile.
func (s *shard) control(f func(fd int) error) error { return onDescriptor(s.inbox.socket, f) }

func onDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func (s *shard) ignore(ifindexes []int) { s.ignored.Store(&ifindexes) }

func (s *shard) close() error {
	s.closed.Store(true)
	var guards error
	for _, g := range s.guards {
		guards = errors.Join(guards, g.Close())
	}
	return errors.Join(s.inbox.Close(), guards)
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
		Truncated: c.truncated.Load(), Overlong: c.overlong.Load(), SendErrors: c.sendErrors.Load(), Unresolved: c.unresolved.Load(),
		Timestamped: c.timestamped.Load(), Unmatched: c.unmatched.Load(), Overflow: s.overflow(),
	}
}

// receiveBuffer is what the kernel granted. It counts its own bookkeeping in and doubles
// what is asked for (socket(7)).
func (s *shard) receiveBuffer() int {
	var bytes int
	_ = s.control(func(fd int) error {
		var err error
		bytes, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		return err
	})
	return bytes / 2
}

// sendBuffer is what the kernel granted of the send buffer, in the same measure.
func (s *shard) sendBuffer() int {
	_, size := s.sendQueue()
	return size / 2
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
