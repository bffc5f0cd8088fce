package xdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Handler answers the requests of one worker, on its goroutine.
type Handler interface {
	// Expect is told who sent the requests of a batch before the first of its Handle calls,
	// so that what is known of them can be fetched together.
	Expect(remotes []netip.AddrPort)
	// Handle writes the reply to a request for an address of ours into reply and returns its
	// length, 0 for none. lead is the time until it leaves, by recent measurement. rx, rx.Data
	// and reply are valid only until Handle returns.
	Handle(rx *model.Received, to netip.AddrPort, lead time.Duration, reply []byte) int
}

// WorkerCounters are what a worker has done.
type WorkerCounters struct {
	Received   uint64 // requests handed to the handler
	Replied    uint64
	Malformed  uint64 // frames that are none of those the program lets through
	Stale      uint64 // dropped: too old, and more were waiting
	Overlong   uint64 // replies refused: longer than their request
	SendErrors uint64 // replies for which the driver had no room
	Overflow   uint64 // dropped by the kernel: no room for what has come
}

const (
	batchSize = 16
	// staleAfter is the age from which a request is dropped when more wait behind it.
	staleAfter = 250 * time.Millisecond
	// timeOneIn is how many batches there are for each one that is timed.
	timeOneIn = 16
	// attempts at sending, while the driver has no room.
	attempts = 8
	// mostQueues of an interface have a worker, which takes memory; the sockets serve the rest.
	mostQueues = 32
)

// Worker answers the requests with extension fields or a MAC that come by one receive queue
// of an interface. They come and leave by a socket to which the program redirects them, past
// the kernel's UDP.
type Worker struct {
	socket  *socket
	ifindex int
	watcher *os.File // an epoll instance that can be read when there are requests
	ready   syscall.RawConn
	closed  atomic.Bool

	mu       sync.Mutex // of the socket's end
	serving  bool
	ended    bool
	overflow uint64 // as last read

	received, replied, malformed, stale, overlong, sendErrors atomic.Uint64

	// What follows belongs to the goroutine of Serve.
	now       func() ntptime.Instant
	monotonic func() time.Duration // the program's clock
	handler   Handler
	free      []uint64 // frames to send
	datagrams [batchSize]datagram
	frames    [batchSize][]byte
	ages      [batchSize]time.Duration
	remotes   [batchSize]netip.AddrPort
	rx        model.Received
	unsent    uint32 // replies of earlier batches that still stand in the tx ring
	batches   uint
	handled   ntptime.Shortest // what handling takes for each request
	sent      ntptime.Shortest // what sending takes for each reply
}

// Workers opens a worker for each queue of an interface at which the program is attached.
// now reads the clock. Close ends them.
func (p *Program) Workers(a Attachment, now func() ntptime.Instant) ([]*Worker, error) {
	nic, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", a.Interface, err)
	}
	var list []*Worker
	for queue := range min(queuesOf(a.Interface), mostQueues) {
		w, err := p.worker(nic.Index, queue, now)
		if err != nil {
			for _, w := range list {
				_ = w.Close()
			}
			return nil, whyNoWorker(a.Interface, err)
		}
		list = append(list, w)
	}
	return list, nil
}

func whyNoWorker(name string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("no permission for an AF_XDP socket at %s: give the service CAP_NET_RAW (the drop-in fast-path.conf says how)", name)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return errors.New("no AF_XDP sockets: the kernel has none (CONFIG_XDP_SOCKETS), or the service may not use them (RestrictAddressFamilies)")
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("no memory for an AF_XDP socket at %s: it takes %d kB a queue; raise LimitMEMLOCK", name, memorySize/1024)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("another program has an AF_XDP socket at %s", name)
	}
	return fmt.Errorf("AF_XDP at %s: %w", name, err)
}

// worker opens a worker of one queue.
func (p *Program) worker(ifindex, queue int, now func() ntptime.Instant) (*Worker, error) {
	place := uint32(len(p.workers))
	s, err := openSocket(ifindex, queue)
	if err != nil {
		return nil, err
	}
	w := newWorker(s, ifindex, now)
	if w.watcher, err = watch(s.fd); err == nil {
		w.ready, err = w.watcher.SyscallConn()
	}
	if err == nil {
		err = p.objects.Workers.Put(place, uint32(s.fd))
	}
	if err == nil {
		err = p.objects.Queues.Put(fastpathQueue{Interface: uint32(ifindex), Number: uint32(queue)}, place)
	}
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	p.workers = append(p.workers, w)
	return w, nil
}

func newWorker(s *socket, ifindex int, now func() ntptime.Instant) *Worker {
	w := &Worker{socket: s, ifindex: ifindex, now: now, monotonic: sinceBoot, free: make([]uint64, sending)}
	for i := range w.free {
		w.free[i] = uint64(receiving+i) * frameSize
	}
	return w
}

// watch makes an epoll instance that watches a socket for reading alone: the runtime's poller
// would watch it for room to send as well, which each frame makes that has left.
func watch(fd int) (*os.File, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	err = errors.Join(
		os.NewSyscallError("fcntl", unix.SetNonblock(epoll, true)), // for the runtime's poller to take it
		os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event)))
	watcher := os.NewFile(uintptr(epoll), "epoll")
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return watcher, nil
}

// queuesOf is how many queues an interface both receives and sends by.
func queuesOf(name string) int {
	channels := struct{ cmd, maxRx, maxTx, maxOther, maxCombined, rx, tx, other, combined uint32 }{cmd: unix.ETHTOOL_GCHANNELS}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&channels)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	defer func() { _ = unix.Close(fd) }()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 1 // a driver that cannot tell has one
	}
	return max(1, int(channels.combined+min(channels.rx, channels.tx)))
}

// Serve answers until Close.
func (w *Worker) Serve(h Handler) error {
	w.mu.Lock()
	w.serving = !w.ended
	w.mu.Unlock()
	if !w.serving {
		return nil
	}
	defer w.end()
	w.handler = h
	err := w.ready.Read(func(uintptr) bool { w.drain(); return w.closed.Load() })
	if w.closed.Load() {
		return nil
	}
	return fmt.Errorf("wait for an AF_XDP socket: %w", err)
}

// Close ends Serve, which closes the socket. It may be called more than once.
func (w *Worker) Close() error {
	w.mu.Lock()
	first := !w.closed.Swap(true)
	if !w.serving {
		w.finish()
	}
	w.mu.Unlock()
	if !first || w.watcher == nil {
		return nil
	}
	return w.watcher.Close()
}

func (w *Worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish()
}

// finish closes the socket, once; the program then passes requests on to the others.
func (w *Worker) finish() {
	if !w.ended {
		w.ended, w.overflow = true, w.socket.overflow()
		w.socket.close()
	}
}

// Counters returns what the worker has done. Any goroutine may call it.
func (w *Worker) Counters() WorkerCounters {
	w.mu.Lock()
	if !w.ended {
		w.overflow = w.socket.overflow()
	}
	overflow := w.overflow
	w.mu.Unlock()
	return WorkerCounters{w.received.Load(), w.replied.Load(), w.malformed.Load(), w.stale.Load(), w.overlong.Load(), w.sendErrors.Load(), overflow}
}

// drain answers all that waits in the socket.
func (w *Worker) drain() {
	for !w.closed.Load() {
		n := min(int(w.socket.rx.filled()), batchSize)
		if n == 0 {
			return
		}
		w.reclaim()
		w.answer(n)
	}
}

// reclaim takes back the frames that have been sent.
func (w *Worker) reclaim() {
	r := &w.socket.completed
	from, n := *r.consumer, r.filled()
	for i := range n {
		w.free = append(w.free, *r.address(from + i))
	}
	atomic.StoreUint32(r.consumer, from+n)
}

// answer hands n requests to the handler, gives their frames back and sends the replies.
func (w *Worker) answer(n int) {
	w.batches++
	timed := w.batches%timeOneIn == 0
	monotonic, now := w.monotonic(), w.now()
	first := *w.socket.rx.consumer
	for i := range n {
		w.take(i, w.socket.rx.descriptor(first+uint32(i)), monotonic)
	}
	if n > 1 {
		w.handler.Expect(w.remotes[:n])
	}
	replies := 0
	for i := range n {
		if w.accept(i, n, now) && w.reply(i, replies, n) {
			replies++
		}
	}
	// The requests have been read: their frames are the kernel's again.
	fill := &w.socket.fill
	at := *fill.producer
	for i := range n {
		*fill.address(at + uint32(i)) = w.socket.rx.descriptor(first + uint32(i)).Addr
	}
	atomic.StoreUint32(w.socket.rx.consumer, first+uint32(n))
	atomic.StoreUint32(fill.producer, at+uint32(n))
	if timed {
		w.handled.Note((w.monotonic() - monotonic) / time.Duration(n))
	}
	if replies > 0 {
		w.flush(replies, timed)
	}
}

// take reads what stands in a descriptor as request i of a batch.
func (w *Worker) take(i int, d *unix.XDPDesc, now time.Duration) {
	frame := w.socket.memory[d.Addr:][:d.Len]
	w.frames[i] = frame
	w.remotes[i] = nobody
	if !w.datagrams[i].parse(frame) {
		w.datagrams[i].payload = nil
		return
	}
	w.remotes[i] = w.datagrams[i].from
	arrived := *(*int64)(unsafe.Pointer(&w.socket.memory[d.Addr-arrivalSize]))
	w.ages[i] = max(now-time.Duration(arrived), 0)
}

var nobody = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)

// arrivalSize is that of the time of arrival, on the monotonic clock, before each frame.
const arrivalSize = 8

// accept makes request i of n what the handler is to answer; false if it is not.
func (w *Worker) accept(i, n int, now ntptime.Instant) bool {
	d, age := &w.datagrams[i], w.ages[i]
	switch {
	case d.payload == nil:
		w.malformed.Add(1)
		return false
	case n == batchSize && age > staleAfter:
		w.stale.Add(1)
		return false
	}
	w.rx = model.Received{
		Data: d.payload, Remote: d.from, Local: d.to.Addr(), Interface: w.ifindex,
		At: ntptime.Instant{Wall: now.Wall.Add(-age), Raw: now.Raw.Add(-age)}, Timestamp: model.TimestampKernel,
	}
	w.received.Add(1)
	return true
}

// reply calls the handler for request i of n and makes its reply the place-th to be sent.
func (w *Worker) reply(i, place, n int) bool {
	if len(w.free) == 0 {
		w.sendErrors.Add(1)
		return false
	}
	d := &w.datagrams[i]
	address := w.free[len(w.free)-1]
	frame := w.socket.memory[address:][:frameSize]
	lead := time.Duration(n-1-i)*w.handled.Least() + time.Duration(place+1)*w.sent.Least()
	size := w.handler.Handle(&w.rx, d.to, lead, frame[d.udp+udpSize:])
	if size <= 0 {
		return false
	}
	if size > len(d.payload) {
		w.overlong.Add(1) // never longer than the request: no amplification
		return false
	}
	w.free = w.free[:len(w.free)-1]
	tx := &w.socket.tx
	*tx.descriptor(*tx.producer + uint32(place)) = unix.XDPDesc{Addr: address, Len: uint32(len(d.turn(frame, w.frames[i], size)))}
	return true
}

// flush sends n replies that stand in the tx ring. What the driver has no room for even after
// a while goes with the next ones: nothing can be taken back.
func (w *Worker) flush(n int, timed bool) {
	tx := &w.socket.tx
	var before time.Duration
	if timed {
		before = w.monotonic()
	}
	atomic.StoreUint32(tx.producer, *tx.producer+uint32(n))
	left := uint32(0)
	for range attempts {
		_ = w.socket.transmit() // what it says is seen in the ring
		if left = tx.filled(); left == 0 {
			break
		}
		runtime.Gosched()
	}
	w.replied.Add(uint64(uint32(n) + w.unsent - left))
	w.unsent = left
	if timed {
		w.sent.Note((w.monotonic() - before) / time.Duration(n))
	}
}

// sinceBoot is Monotonic without a call of the kernel.
func sinceBoot() time.Duration { return bootOffset + time.Since(started) }

var (
	started    = time.Now()
	bootOffset = Monotonic()
)
