package netio

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// server is what one Serve works with. It belongs to one goroutine.
type server struct {
	*shard
	handler Handler
	in, out *batch
	errs    *batch                    // from the error queue
	remotes [batchSize]netip.AddrPort // of the datagrams in in, without zones
	scopes  [batchSize]int            // of those that are link-local
	rx      model.Received
	now     ntptime.Instant
	mapping control
	zones   map[int]string // names of interfaces, by index
	seen    *[]int         // ignored, when zones was begun
	idle    int            // empty looks into the error queue in a row

	bound        bool // to one address, which is every reply's source
	sourceLength int  // of the control message that says where a reply comes from
	lead         leadEstimate
	flushes      uint
	unchecked    int    // replies sent since the last look at the send buffer
	look         uint32 // of the guard, in which let replies to unresolved neighbours were sent
	let          int
	failed       syscall.Errno
}

// serve receives and answers until the socket is closed. It is a single RawConn.Read:
// the runtime's poller wakes it when something has come in (see inbox), and it goes on
// until the socket is empty. It returns net.ErrClosed where that was on purpose.
func (s *shard) serve(h Handler) error {
	v := &server{shard: s, handler: h, in: newReceiveBatch(bufferSize), out: newSendBatch(),
		errs: newReceiveBatch(errorData), zones: make(map[int]string), bound: !s.local.Addr().IsUnspecified()}
	v.sourceLength = controlHeader + pktinfo4Size
	if s.v6 {
		v.sourceLength = controlHeader + pktinfo6Size
	}
	end := false
	drain := func(fd uintptr) { end = v.drain(fd) }
	err := s.inbox.ready.Read(func(uintptr) bool { return s.inbox.socket.Control(drain) != nil || end })
	switch {
	case s.closed.Load():
		return net.ErrClosed
	case v.failed != 0:
		err = v.failed
	case err == nil:
		err = net.ErrClosed
	}
	return fmt.Errorf("receive on %s: %w", s.local, err)
}

// drain answers all that waits in the socket. It returns false to be called again
// when more has come, true to end.
func (v *server) drain(fd uintptr) bool {
	for !v.closed.Load() {
		n, errno := v.in.receive(fd, 0)
		switch errno {
		case 0:
			v.answer(fd, n)
			if n < batchSize {
				// The socket was empty when the kernel looked for one more; what has come
				// since is an event that the poller has seen, so there is no need to look.
				v.collectTimestamps(fd)
				return false
			}
		case unix.EAGAIN:
			v.collectTimestamps(fd)
			return false
		case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.ENOBUFS, unix.ENOMEM:
			// An error of one datagram, reported once; the next call goes on.
		default:
			v.failed = errno
			return true
		}
		v.collectTimestamps(fd)
	}
	return true
}

// answer hands the n datagrams of a batch to the handler and sends its replies. Of several
// the handler hears first who has sent them.
func (v *server) answer(fd uintptr, n int) {
	v.now = v.cfg.Clock.Now() // to map the timestamps, and under load to tell stale requests
	for i := range n {
		v.remotes[i], v.scopes[i] = v.in.remote(i)
	}
	if n > 1 {
		v.handler.Expect(v.remotes[:n])
	}
	replies := 0
	for i := range n {
		if v.accept(fd, i, n) && v.reply(i, replies, n) {
			replies++
		}
		v.in.reset(i)
	}
	if replies > 0 {
		v.flush(fd, replies)
	}
}

// accept reads datagram i of n into rx; false if it is not for the handler.
func (v *server) accept(fd uintptr, i, n int) bool {
	c := &v.mapping
	c.parse(v.in.controls(i))
	switch {
	case v.in.truncated(i):
		v.count.truncated.Add(1)
		return false
	case v.isIgnored(c.ifindex):
		v.count.ignored.Add(1)
		return false
	case !v.primary && c.isGroup() && !(c.dest.Is4() && c.dest.IsMulticast()):
		// The kernel gives a broadcast to every socket of the port. A datagram for an IPv4
		// group comes but once, and not always by the one member: where that is the only
		// socket to take it, Linux picks one of the port by a hash (inet_steal_sock).
		v.count.duplicate.Add(1)
		return false
	}
	rx := &v.rx
	rx.Data = v.in.payload(i)
	remote, scope := v.remotes[i], v.scopes[i]
	rx.Remote, rx.Local, rx.Interface = remote, c.dest, c.ifindex
	if scope != 0 && remote.Addr().IsLinkLocalUnicast() {
		rx.Remote = netip.AddrPortFrom(remote.Addr().WithZone(v.zone(fd, scope)), remote.Port())
	}
	var known bool
	if rx.At, rx.Timestamp, known = c.received(v.cfg.Hardware, v.cfg.Clock.AtLatest); !known {
		rx.At, rx.Timestamp = v.now, model.TimestampDaemon
	}
	if n == batchSize && v.cfg.StaleAfter > 0 && v.now.Raw.Sub(rx.At.Raw) > v.cfg.StaleAfter {
		v.count.stale.Add(1)
		return false
	}
	v.count.received.Add(1)
	return true
}

func (v *server) isIgnored(ifindex int) bool {
	ignored := *v.ignored.Load()
	return len(ignored) > 0 && slices.Contains(ignored, ifindex)
}

// zone names the interface of a link-local address, as configurations name it.
func (v *server) zone(fd uintptr, ifindex int) string {
	if ignored := v.ignored.Load(); ignored != v.seen {
		v.seen = ignored // Refresh was called: names may have changed
		clear(v.zones)
	}
	if name, ok := v.zones[ifindex]; ok {
		return name
	}
	name := strconv.Itoa(ifindex)
	if request, err := unix.NewIfreq(""); err == nil {
		request.SetUint32(uint32(ifindex))
		if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, request) == nil {
			name = request.Name()
		}
	}
	v.zones[ifindex] = name
	return name
}

// reply calls the handler for the datagram in rx, slot i of n, and puts its reply into
// slot o of the send batch. It returns false if there is none.
func (v *server) reply(i, o, n int) bool {
	buffer := v.out.data[o][:bufferSize]
	size, token := v.handler.Handle(&v.rx, v.lead.at(n-i, o+1), buffer)
	if token == (Token{}) && n == 1 && size > 0 {
		token = v.lead.ask(v.cfg.Clock.Now)
	}
	if size <= 0 {
		return false
	}
	if size > len(v.rx.Data) {
		v.count.overlong.Add(1) // never longer than the request: no amplification
		return false
	}
	if v.holdsBack(v.rx.Remote.Addr()) {
		v.count.unresolved.Add(1)
		return false
	}
	source, ifindex := v.replySource()
	controls := appendSource(v.out.control[o][:0], v.v6, source, ifindex)
	length := len(controls)
	if length > 0 {
		length = v.sourceLength // without padding: what fits the kernel's stack costs no allocation there
	}
	if token != (Token{}) && v.pending.add(buffer[:size], token) {
		length = len(appendTimestamping(controls, v.askFlags()))
	}
	v.out.put(o, size, v.in, i, length)
	return true
}

// replySource is the address that was asked, which a socket bound to one needs not be told,
// and the interface of arrival where an address means nothing without it. All else is the
// routing table's choice, which may well be asymmetric: the interface, and for a group or
// broadcast the address.
func (v *server) replySource() (addr netip.Addr, ifindex int) {
	if v.bound {
		return addr, 0
	}
	if !v.mapping.isGroup() {
		addr = v.mapping.dest
	}
	if v.v6 && (v.mapping.dest.IsLinkLocalUnicast() || v.rx.Remote.Addr().IsLinkLocalUnicast()) {
		ifindex = v.mapping.ifindex
	}
	return addr, ifindex
}

// timeOneIn is how many batches there are for each one whose sending is timed: what a
// reply costs does not change from one to the next.
const timeOneIn = 16

// flush sends the replies. One that the kernel refuses does not hold up the others.
func (v *server) flush(fd uintptr, n int) {
	var before ntptime.Instant
	v.flushes++
	timed := v.flushes%timeOneIn == 0
	if timed {
		before = v.cfg.Clock.Now()
	}
	for from := 0; from < n; {
		sent, errno := v.out.send(fd, from, n)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			v.count.sendErrors.Add(1)
			if errno == unix.EAGAIN {
				v.guard.begin(v.siblings)
			}
			from++
		default:
			v.count.replied.Add(uint64(sent))
			from += sent
		}
	}
	if v.unchecked += n; v.unchecked >= checkEvery {
		v.unchecked = 0
		v.checkRoom(fd)
	}
	if timed {
		v.lead.sent(n, v.cfg.Clock.Now().Raw.Sub(before.Raw))
	}
}

// lostAfter is how many times in a row the error queue is found empty before the timestamps
// awaited are given up: a driver may lose one, and looking costs a system call.
const lostAfter = 1000

// collectTimestamps delivers transmit timestamps, if any are awaited.
func (v *server) collectTimestamps(fd uintptr) {
	for v.pending.waiting.Load() > 0 {
		if v.takeTimestamps(fd) == 0 {
			v.idle = 0
			continue
		}
		if v.idle++; v.idle >= lostAfter {
			v.idle = 0
			v.pending.clear() // these will not come any more
		}
		return
	}
}

// takeTimestamps delivers a batch from the error queue, or says why there is none.
func (v *server) takeTimestamps(fd uintptr) syscall.Errno {
	n, errno := v.errs.receive(fd, unix.MSG_ERRQUEUE)
	switch errno {
	case 0:
	case unix.EINTR:
		return 0
	default:
		return errno
	}
	for i := range n {
		v.deliver(v.errs.controls(i), v.errs.payload(i))
		v.errs.reset(i)
	}
	return 0
}

// deliver gives the timestamp of a datagram that came back to whoever asked for it.
func (v *server) deliver(controls, sent []byte) {
	c := &v.mapping
	c.parse(controls)
	at, kind, ok := transmitTimestamp(c, v.cfg.Clock, v.cfg.Hardware)
	if !ok {
		return
	}
	token, ok := v.pending.match(sent, v.cfg.Hardware != nil && kind == model.TimestampKernel)
	if !ok {
		v.count.unmatched.Add(1)
		return
	}
	if token.Owner == &v.lead {
		v.lead.transmitted(token.ID, at.Raw, kind)
		return
	}
	v.count.timestamped.Add(1)
	v.handler.Sent(token, at, kind)
}

// received is the best timestamp of a datagram that came in: its NIC's, or the kernel's,
// which at puts on both scales; false: there is none.
func (c *control) received(hw *Hardware, at func(ntptime.Wall) ntptime.Instant) (ntptime.Instant, model.TimestampKind, bool) {
	if c.hardware != 0 && hw != nil {
		if precise, ok := hw.instant(c.nicIndex(), c.hardware); ok {
			return precise, model.TimestampHardware, true
		}
	}
	if c.software != 0 {
		return at(ntptime.Wall(c.software)), model.TimestampKernel, true
	}
	return ntptime.Instant{}, 0, false
}

// transmitTimestamp reads a message of the error queue; false if it is no transmit timestamp.
func transmitTimestamp(c *control, clock Clock, hw *Hardware) (ntptime.Instant, model.TimestampKind, bool) {
	if !c.extended || c.origin != unix.SO_EE_ORIGIN_TIMESTAMPING {
		return ntptime.Instant{}, 0, false
	}
	if c.hardware != 0 && hw != nil {
		at, ok := hw.instant(c.nicIndex(), c.hardware)
		return at, model.TimestampHardware, ok
	}
	if c.software != 0 {
		return clock.At(ntptime.Wall(c.software)), model.TimestampKernel, true
	}
	return ntptime.Instant{}, 0, false
}

func (s *shard) askFlags() uint32 {
	if s.cfg.Hardware != nil {
		return askSoftware | askHardware
	}
	return askSoftware
}
