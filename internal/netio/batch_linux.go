package netio

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errorData is the room for a sent datagram that comes back with its timestamp: the
// link, IP and UDP headers stand before it.
const errorData = bufferSize + 256

// batch is the arrays of one recvmmsg or sendmmsg, allocated once. The headers point
// into the batch itself, so it must not be copied.
type batch struct {
	msgs    [batchSize]unix.Mmsghdr
	iov     [batchSize]unix.Iovec
	names   [batchSize]unix.RawSockaddrInet6 // has room for IPv4 as well
	control [batchSize][controlSpace]byte
	data    [batchSize][errorData]byte
}

// newReceiveBatch makes a batch that receives up to size bytes a datagram.
func newReceiveBatch(size int) *batch {
	b := new(batch)
	for i := range b.msgs {
		b.iov[i].Base = &b.data[i][0]
		b.iov[i].SetLen(size)
		h := &b.msgs[i].Hdr
		h.Iov = &b.iov[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.control[i][0]
		b.reset(i)
	}
	return b
}

// reset makes slot i ready to receive: the kernel has put lengths into it.
func (b *batch) reset(i int) {
	h := &b.msgs[i].Hdr
	h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
	h.SetControllen(controlSpace)
	h.Flags = 0
}

// receive takes up to batchSize datagrams without waiting. RawSyscall does not tell
// the scheduler: a call that cannot block need not pay for that.
func (b *batch) receive(fd uintptr, flags int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[0])),
		batchSize, uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// payload is the datagram received in slot i.
func (b *batch) payload(i int) []byte { return b.data[i][:b.msgs[i].Len] }

// controls is the control messages received in slot i.
func (b *batch) controls(i int) []byte {
	return b.control[i][:min(uint64(b.msgs[i].Hdr.Controllen), controlSpace)]
}

// truncated reports whether slot i received more than it has room for.
func (b *batch) truncated(i int) bool { return b.msgs[i].Hdr.Flags&unix.MSG_TRUNC != 0 }

// remote is the sender of slot i, without zone, and the index of the interface that
// a link-local address belongs to.
func (b *batch) remote(i int) (netip.AddrPort, int) {
	name := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port), 0
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), port), int(name.Scope_id)
	}
	return netip.AddrPort{}, 0
}

// newSendBatch makes a batch whose slots are filled one by one with put.
func newSendBatch() *batch {
	b := new(batch)
	for i := range b.msgs {
		b.iov[i].Base = &b.data[i][0]
		h := &b.msgs[i].Hdr
		h.Iov = &b.iov[i]
		h.SetIovlen(1)
	}
	return b
}

// put makes slot i of a send batch a datagram of n bytes, which stand in data[i], to
// the sender of slot j of in, with control messages that stand in control[i].
func (b *batch) put(i, n int, in *batch, j, controls int) {
	b.iov[i].SetLen(n)
	h := &b.msgs[i].Hdr
	h.Name = in.msgs[j].Hdr.Name
	h.Namelen = in.msgs[j].Hdr.Namelen
	h.Control = &b.control[i][0]
	h.SetControllen(controls)
}

// send gives slots from to below n to the kernel without waiting, and returns how many it
// took; with an error none.
func (b *batch) send(fd uintptr, from, n int) (int, syscall.Errno) {
	if n-from == 1 { // the usual case at an ordinary rate, and a little cheaper
		_, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&b.msgs[from].Hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno != 0 {
			return 0, errno
		}
		return 1, 0
	}
	sent, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[from])),
		uintptr(n-from), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), 0
}
