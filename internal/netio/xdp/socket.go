package xdp

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The memory of a socket: frames that the kernel fills, and frames to send. The program's
// metadata and the frame fit a frame beside the headroom that the kernel keeps.
const (
	frameSize  = 2048
	receiving  = 1024 // a power of two: some milliseconds at the highest rate
	sending    = 256  // a power of two
	memorySize = (receiving + sending) * frameSize
)

// socket is an AF_XDP socket at one queue of an interface, with its four rings and the memory
// that the kernel and we share (Documentation/networking/af_xdp.rst). Frames are copied: the
// driver keeps its own buffers, so that what else comes by the queue is not touched.
type socket struct {
	fd     int
	memory []byte
	mapped [][]byte

	fill, completed, rx, tx ring
}

// ring is one of the rings: of addresses (fill, completed) or descriptors (rx, tx). One end
// is the kernel's.
type ring struct {
	producer, consumer *uint32
	entries            unsafe.Pointer
	mask               uint32
}

func (r *ring) address(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(r.entries, uintptr(i&r.mask)*unsafe.Sizeof(uint64(0))))
}

func (r *ring) descriptor(i uint32) *unix.XDPDesc {
	return (*unix.XDPDesc)(unsafe.Add(r.entries, uintptr(i&r.mask)*unsafe.Sizeof(unix.XDPDesc{})))
}

// filled is how many entries wait for their consumer.
func (r *ring) filled() uint32 { return atomic.LoadUint32(r.producer) - atomic.LoadUint32(r.consumer) }

// openSocket opens a socket at a queue.
func openSocket(ifindex, queue int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd}
	if err := s.setUp(ifindex, queue); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) setUp(ifindex, queue int) error {
	var err error
	if s.memory, err = unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	area := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.memory[0]))), Len: memorySize, Size: frameSize}
	if err := s.set(unix.XDP_UMEM_REG, unsafe.Pointer(&area), unsafe.Sizeof(area)); err != nil {
		return err
	}
	for option, n := range map[int]uint32{unix.XDP_UMEM_FILL_RING: receiving, unix.XDP_UMEM_COMPLETION_RING: sending, unix.XDP_RX_RING: receiving, unix.XDP_TX_RING: sending} {
		if err := s.set(option, unsafe.Pointer(&n), unsafe.Sizeof(n)); err != nil {
			return err
		}
	}
	var offsets unix.XDPMmapOffsets
	if err := s.get(unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&offsets), unsafe.Sizeof(offsets)); err != nil {
		return err
	}
	const address, descriptor = unsafe.Sizeof(uint64(0)), unsafe.Sizeof(unix.XDPDesc{})
	err = errors.Join(
		s.mapRing(&s.fill, &offsets.Fr, unix.XDP_UMEM_PGOFF_FILL_RING, receiving, address),
		s.mapRing(&s.completed, &offsets.Cr, unix.XDP_UMEM_PGOFF_COMPLETION_RING, sending, address),
		s.mapRing(&s.rx, &offsets.Rx, unix.XDP_PGOFF_RX_RING, receiving, descriptor),
		s.mapRing(&s.tx, &offsets.Tx, unix.XDP_PGOFF_TX_RING, sending, descriptor))
	if err != nil {
		return err
	}
	for i := range uint32(receiving) {
		*s.fill.address(i) = uint64(i) * frameSize
	}
	atomic.StoreUint32(s.fill.producer, receiving)
	return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(ifindex), QueueID: uint32(queue)}))
}

// mapRing maps a ring of n entries.
func (s *socket) mapRing(r *ring, at *unix.XDPRingOffset, offset int64, n uint32, size uintptr) error {
	b, err := unix.Mmap(s.fd, offset, int(at.Desc)+int(n)*int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	s.mapped = append(s.mapped, b)
	base := unsafe.Pointer(&b[0])
	*r = ring{(*uint32)(unsafe.Add(base, at.Producer)), (*uint32)(unsafe.Add(base, at.Consumer)), unsafe.Add(base, at.Desc), n - 1}
	return nil
}

func (s *socket) set(option int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(option), uintptr(value), size, 0)
	return optionError("setsockopt", option, errno)
}

func (s *socket) get(option int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, uintptr(option), uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	return optionError("getsockopt", option, errno)
}

func optionError(call string, option int, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s %d of AF_XDP: %w", call, option, errno)
}

// transmit has the kernel send what stands in the tx ring, without waiting.
func (s *socket) transmit() syscall.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// overflow is how many requests the kernel has dropped because we did not keep up.
func (s *socket) overflow() uint64 {
	var n unix.XDPStatistics
	if s.get(unix.XDP_STATISTICS, unsafe.Pointer(&n), unsafe.Sizeof(n)) != nil {
		return 0
	}
	return n.Rx_dropped + n.Rx_ring_full
}

func (s *socket) close() {
	_ = unix.Close(s.fd)
	for _, b := range s.mapped {
		_ = unix.Munmap(b)
	}
	if s.memory != nil {
		_ = unix.Munmap(s.memory)
	}
}
