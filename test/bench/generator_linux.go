package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	messages   = 16 // of one sendmmsg
	replies    = 64 // of one recvmmsg
	longest    = 2048
	openSlots  = 1 << 16 // requests under way in an open loop, at most
	patience   = 50 * time.Millisecond
	grace      = 200 * time.Millisecond // for the last replies
	yield      = 100 * time.Microsecond // where the server has the same thread: long enough for the runtime to look for input
	maxSamples = 1 << 20
)

// generator sends requests and checks replies, on one thread that never sleeps, but where
// Go has only that one (GOMAXPROCS=1) and a server in this process would never run.
type generator struct {
	load    Load
	fd      uintptr
	slots   []slot
	next    int
	flying  int
	start   time.Time
	result  Result
	samples []time.Duration
	lastGot time.Duration

	out         [messages]unix.Mmsghdr
	outIov      [messages * messages]unix.Iovec
	outControls [messages][32]byte
	in          [replies]unix.Mmsghdr
	inIov       [replies]unix.Iovec
	inData      [replies][longest]byte
}

// Generate runs a Load to its end.
func Generate(load Load) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	load.Burst = max(1, min(load.Burst, messages))
	n := openSlots
	switch {
	case load.Addresses > 0:
		n = load.Addresses
	case load.InFlight > 0:
		n = load.InFlight
	}
	if load.Addresses > 1<<16 || n < load.InFlight {
		return Result{}, fmt.Errorf("load: %d addresses, %d in flight; want at most 65536, and no more in flight than addresses", load.Addresses, load.InFlight)
	}
	slots, err := newSlots(n, load)
	if err != nil {
		return Result{}, err
	}
	g := &generator{load: load, slots: slots, samples: make([]time.Duration, 0, maxSamples)}
	if err := g.open(); err != nil {
		return Result{}, err
	}
	defer func() { _ = unix.Close(int(g.fd)) }()
	err = g.run()
	g.result.P50, g.result.P99 = percentile(g.samples, 0.5), percentile(g.samples, 0.99)
	return g.result, err
}

func (g *generator) open() error {
	target, err := netip.ParseAddrPort(g.load.Target)
	if err != nil || !target.Addr().Is4() {
		return fmt.Errorf("load: target %q: want an IPv4 address and port", g.load.Target)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	g.fd = uintptr(fd)
	for _, opt := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 8<<20))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	to := &unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}
	if g.load.Addresses == 0 {
		err = errors.Join(err, os.NewSyscallError("connect", unix.Connect(fd, to)))
	} else {
		err = errors.Join(err, os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{})))
	}
	g.prepare(target)
	return err
}

// prepare lays out what all system calls have in common.
func (g *generator) prepare(target netip.AddrPort) {
	name := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: target.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], target.Port())
	for i := range g.out {
		h := &g.out[i].Hdr
		h.Iov = &g.outIov[i*messages]
		if g.load.Addresses > 0 {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(name)), unix.SizeofSockaddrInet4
		}
	}
	for i := range g.in {
		g.inIov[i].Base = &g.inData[i][0]
		g.inIov[i].SetLen(longest)
		g.in[i].Hdr.Iov = &g.inIov[i]
		g.in[i].Hdr.SetIovlen(1)
	}
}

// run sends for the Load's duration and waits a little for the last replies.
func (g *generator) run() error {
	alone := runtime.GOMAXPROCS(0) == 1
	g.start = time.Now()
	for {
		if alone {
			time.Sleep(yield)
		}
		now := time.Since(g.start)
		if now >= g.load.Duration {
			break
		}
		if err := g.receive(now); err != nil {
			return err
		}
		if due := g.due(now); due > 0 {
			if err := g.send(due); err != nil {
				return err
			}
		}
	}
	g.result.Seconds = time.Since(g.start).Seconds()
	for end := time.Since(g.start) + grace; time.Since(g.start) < end && g.flying > 0; {
		if alone {
			time.Sleep(yield)
		}
		if err := g.receive(time.Since(g.start)); err != nil {
			return err
		}
	}
	return nil
}

// due is how many requests are to be sent now.
func (g *generator) due(now time.Duration) int {
	if g.load.InFlight == 0 {
		return min(int(now.Seconds()*g.load.Rate)-int(g.result.Sent), messages*g.load.Burst)
	}
	if g.flying >= g.load.InFlight && now-g.lastGot > patience {
		for i := range g.slots { // lost, all of them
			g.slots[i].waiting = false
		}
		g.flying, g.lastGot = 0, now
	}
	due := g.load.InFlight - g.flying
	return due - due%min(g.load.Burst, g.load.InFlight)
}

// send sends n requests, in bursts.
func (g *generator) send(n int) error {
	now := time.Since(g.start)
	count := 0 // messages filled
	for n > 0 && count < messages {
		burst := 1
		if g.segmented() {
			burst = min(g.load.Burst, n)
		}
		g.fill(count, burst, now)
		count++
		n -= burst
	}
	for from := 0; from < count; {
		sent, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, g.fd, uintptr(unsafe.Pointer(&g.out[from])),
			uintptr(count-from), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			from += int(sent)
		case unix.EAGAIN, unix.EINTR, unix.ENOBUFS, unix.ECONNREFUSED:
		default:
			return os.NewSyscallError("sendmmsg", errno)
		}
	}
	return nil
}

// segmented says that bursts go as one message that the kernel cuts up.
func (g *generator) segmented() bool {
	return g.load.Burst > 1 && g.load.Addresses == 0 && g.load.Kind != KindMixed
}

// fill makes message m the next burst requests.
func (g *generator) fill(m, burst int, now time.Duration) {
	h := &g.out[m].Hdr
	size := 0
	for j := range burst {
		i := g.next
		s := &g.slots[i]
		if g.next++; g.next == len(g.slots) {
			g.next = 0
		}
		if !s.waiting {
			g.flying++
		}
		s.waiting, s.sentAt = true, now
		iov := &g.outIov[m*messages+j]
		iov.Base, size = unsafe.SliceData(s.request), len(s.request)
		iov.SetLen(size)
		g.source(m, i)
	}
	h.SetIovlen(burst)
	if burst > 1 {
		c := g.outControls[m][:]
		putControl(c, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(c[16:], uint16(size))
		h.Control = &g.outControls[m][0]
		h.SetControllen(24)
	} else if g.load.Addresses == 0 {
		h.Control = nil
		h.SetControllen(0)
	}
	g.result.Sent += uint64(burst)
}

// source makes message m leave from the address of client i.
func (g *generator) source(m, i int) {
	if g.load.Addresses == 0 {
		return
	}
	c := g.outControls[m][:]
	putControl(c, unix.IPPROTO_IP, unix.IP_PKTINFO, 12)
	binary.NativeEndian.PutUint32(c[16:], 0)
	c[20], c[21], c[22], c[23] = 127, 1, byte(i>>8), byte(i)
	h := &g.out[m].Hdr
	h.Control = &g.outControls[m][0]
	h.SetControllen(32)
}

func putControl(c []byte, level, kind, size int) {
	binary.NativeEndian.PutUint64(c, uint64(16+size))
	binary.NativeEndian.PutUint32(c[8:], uint32(level))
	binary.NativeEndian.PutUint32(c[12:], uint32(kind))
}

// receive takes what replies there are.
func (g *generator) receive(now time.Duration) error {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, g.fd, uintptr(unsafe.Pointer(&g.in[0])), replies, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return nil
	default:
		return os.NewSyscallError("recvmmsg", errno)
	}
	after := time.Since(g.start)
	for i := range int(n) {
		g.take(g.inData[i][:g.in[i].Len], after)
	}
	g.lastGot = now
	return nil
}

// take judges one reply.
func (g *generator) take(reply []byte, now time.Duration) {
	i, interleaved, ok := slotOf(g.slots, reply)
	if !ok {
		g.result.Invalid++
		return
	}
	s := &g.slots[i]
	s.waiting = false
	g.flying--
	if g.load.Kind != KindMixed && !goodReply(s.request, reply) {
		g.result.Invalid++
		return
	}
	g.result.Received++
	if len(g.samples) < cap(g.samples) {
		g.samples = append(g.samples, now-s.sentAt)
	}
	late := now > g.load.Duration/2
	if late {
		g.result.LateReceived++
	}
	if interleaved {
		g.result.Interleaved++
		if late {
			g.result.LateInterleaved++
		}
	}
	if g.load.Kind == KindInterleaved {
		s.interleave(i, reply)
	}
}
