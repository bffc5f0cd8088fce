package netio

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reply to an address of a link of ours that nobody answers for waits in the kernel's
// neighbour table, some seconds, and takes room of the socket's send buffer meanwhile; one
// such address may hold as much as the default buffer. So once a buffer fills up, the table is looked at,
// and replies to neighbours that are not resolved are let through at a low rate only: what
// anybody can send in another's name must not silence the server for all.
const (
	// DefaultSendBuffer is asked for in bytes: that of twenty neighbours, forced where the
	// process may.
	DefaultSendBuffer = 4 << 20
	guardFrom         = 4                     // guard once a socket's buffer is filled by this part
	guardUntil        = 16                    // and until none is by this part any more
	guardLook         = 50 * time.Millisecond // between two looks at the neighbour table
	guardLasts        = 2 * time.Second       // after the last time that a buffer was filled
	guardReplies      = 4                     // let through from one look to the next: a neighbour keeps them for 3 s
	checkEvery        = 64                    // replies sent between two looks at the buffer
)

// neighbourTable is what is known of the hosts on this machine's links. It is not changed.
type neighbourTable struct {
	links    []netip.Prefix
	resolved map[netip.Addr]struct{}
}

// unresolved reports whether an address is on a link of ours, and how to reach it there is
// not known.
func (t *neighbourTable) unresolved(addr netip.Addr) bool {
	addr = addr.WithZone("")
	if _, known := t.resolved[addr]; known {
		return false
	}
	for _, link := range t.links {
		if link.Contains(addr) {
			return true
		}
	}
	return false
}

// guard watches the send buffers of a port's sockets, from when one fills up until none is
// filled any more.
type guard struct {
	table   atomic.Pointer[neighbourTable] // nil: nothing is held back
	looks   atomic.Uint32                  // how often it was looked at
	running atomic.Bool
	closed  atomic.Bool
}

// begin starts to guard, if that is not under way.
func (g *guard) begin(sockets []*shard) {
	if g.closed.Load() || !g.running.CompareAndSwap(false, true) {
		return
	}
	go g.run(sockets)
}

// run is a goroutine; it ends when no buffer has been filled for a while, or with the port.
func (g *guard) run(sockets []*shard) {
	defer g.running.Store(false)
	defer g.table.Store(nil)
	for last := time.Now(); time.Since(last) < guardLasts && !g.closed.Load(); time.Sleep(guardLook) {
		table, err := readNeighbours()
		if err != nil {
			return // a wider buffer is all there is then
		}
		g.table.Store(table)
		g.looks.Add(1)
		for _, s := range sockets {
			if held, size := s.sendQueue(); held*guardUntil > size {
				last = time.Now()
			}
		}
	}
}

// readNeighbours asks the kernel for the hosts on the links.
func readNeighbours() (*neighbourTable, error) {
	t := &neighbourTable{resolved: map[netip.Addr]struct{}{}}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && !prefix.Addr().IsLoopback() && !prefix.IsSingleIP() {
			t.links = append(t.links, prefix.Masked())
		}
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			t.resolved[prefix.Addr()] = struct{}{} // our own
		}
	}
	dump, err := syscall.NetlinkRIB(unix.RTM_GETNEIGH, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("RTM_GETNEIGH", err)
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, os.NewSyscallError("netlink message", err)
	}
	for i := range messages {
		t.take(&messages[i])
	}
	return t, nil
}

// reachable are the states of a neighbour whose link-layer address is known.
const reachable = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP

// take adds one entry of the neighbour table (struct ndmsg and its attributes).
func (t *neighbourTable) take(m *syscall.NetlinkMessage) {
	if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg {
		return
	}
	state := binary.NativeEndian.Uint16(m.Data[8:])
	if state&reachable == 0 {
		return
	}
	if addr, ok := netip.AddrFromSlice(routeAttribute(m.Data[unix.SizeofNdMsg:], unix.NDA_DST)); ok {
		t.resolved[addr] = struct{}{}
	}
}

// holdsBack reports whether the reply to an address is not to be sent now.
func (v *server) holdsBack(addr netip.Addr) bool {
	t := v.guard.table.Load()
	if t == nil || !t.unresolved(addr) {
		return false
	}
	if look := v.guard.looks.Load(); look != v.look {
		v.look, v.let = look, 0
	}
	v.let++
	return v.let > guardReplies
}

// checkRoom begins to guard where the send buffer fills up.
func (v *server) checkRoom(fd uintptr) {
	if held, size := sendQueueOf(fd); held*guardFrom > size {
		v.guard.begin(v.siblings)
	}
}

// sendQueue is how many bytes of the send buffer are taken, and its size, in the kernel's
// own measure.
func (s *shard) sendQueue() (held, size int) {
	_ = s.control(func(fd int) error {
		held, size = sendQueueOf(uintptr(fd))
		return nil
	})
	return held, size
}

// meminfo reads what a socket's buffers hold (SO_MEMINFO, sock_diag(7)).
func meminfo(fd uintptr) (info [16]uint32, err error) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	switch {
	case errno != 0:
		return info, errno
	case size < 4*(unix.SK_MEMINFO_DROPS+1):
		return info, errors.New("short answer")
	}
	return info, nil
}

func sendQueueOf(fd uintptr) (held, size int) {
	info, err := meminfo(fd)
	if err != nil {
		return 0, 0
	}
	return int(info[unix.SK_MEMINFO_WMEM_ALLOC]), int(info[unix.SK_MEMINFO_SNDBUF])
}

// socketDrops reads how many datagrams the kernel dropped because the receive buffer was full.
func socketDrops(fd uintptr) uint32 {
	info, err := meminfo(fd)
	if err != nil {
		return 0
	}
	return info[unix.SK_MEMINFO_DROPS]
}
