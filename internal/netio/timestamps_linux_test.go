package netio

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func TestClientGetsTheTimestampsOfWhatItSends(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		p := listenAt(t, ListenConfig{Address: netip.MustParseAddrPort(address)}, echo)
		c := clientOf(t, ClientConfig{Remote: p.LocalAddr()})
		for sequence := range uint32(3) {
			sent, err := c.Send(message(uint64(sequence)))
			if err != nil {
				t.Fatal(err)
			}
			var rx model.Received
			buf := make([]byte, bufferSize)
			event, err := c.Read(buf, &rx)
			if err != nil {
				t.Fatal(err)
			}
			if !event.Transmitted || event.Sequence != sequence {
				t.Fatalf("%s: first event %+v, want the timestamp of %d", address, event, sequence)
			}
			left := rx.At
			if now := systemNow(); rx.Timestamp != model.TimestampKernel || left.Raw < sent.Raw || left.Raw > now.Raw {
				t.Errorf("%s: left at %d, want within %d, when it was sent, and %d, now, by timestamp %d", address, left.Raw, sent.Raw, now.Raw, rx.Timestamp)
			}
			if event, err = c.Read(buf, &rx); err != nil || event.Transmitted {
				t.Fatalf("%s: second event %+v, %v; want the reply", address, event, err)
			}
			if rx.Timestamp != model.TimestampKernel || rx.At.Raw < left.Raw {
				t.Errorf("%s: reply came %s after the request left, by timestamp %d", address, rx.At.Raw.Sub(left.Raw), rx.Timestamp)
			}
		}
	}
}

func TestClientWithoutTransmitTimestampsGetsNone(t *testing.T) {
	p := listenAt(t, loopback(), echo)
	c := clientOf(t, ClientConfig{Remote: p.LocalAddr(), NoTransmitTimestamps: true})
	if _, err := c.Send(message(1)); err != nil {
		t.Fatal(err)
	}
	var rx model.Received
	if event, err := c.Read(make([]byte, 100), &rx); err != nil || event.Transmitted {
		t.Errorf("first event %+v, %v; want the reply", event, err)
	}
}

// timestamping is a Handler that asks when its replies to odd transmit timestamps have left.
type timestamping struct{ telling }

func (s timestamping) Handle(rx *model.Received, _ time.Duration, reply []byte) (n int, token Token) {
	if rx.Data[47]&1 == 1 {
		token = Token{ID: uint32(rx.Data[47])}
	}
	return copy(reply, rx.Data), token
}

func TestRepliesAreTimestampedWhereTheHandlerAsks(t *testing.T) {
	const requests = 64
	timestamps := make(chan uint32, requests)
	p := listenAt(t, patient(), timestamping{telling{sent: func(token Token, _ ntptime.Instant, kind model.TimestampKind) {
		if kind != model.TimestampKernel {
			t.Errorf("timestamp of %d is of kind %d", token.ID, kind)
		}
		timestamps <- token.ID
	}}})
	c := clientOf(t, ClientConfig{Remote: p.LocalAddr()})
	for i := range uint64(requests) {
		if _, err := c.Send(message(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range requests {
		readPacket(t, c)
	}
	for want := uint32(1); want < requests; want += 2 {
		if got := <-timestamps; got != want {
			t.Errorf("timestamp of %d, want of %d", got, want)
		}
	}
	if len(timestamps) > 0 {
		t.Errorf("timestamp of %d, which nobody asked for", <-timestamps)
	}
}

// leading is a Handler that keeps the longest prediction.
type leading struct {
	handlerFunc
	longest atomic.Int64
}

func (l *leading) Handle(rx *model.Received, lead time.Duration, reply []byte) (int, Token) {
	l.longest.Store(max(l.longest.Load(), int64(lead)))
	return l.handlerFunc(rx, reply), Token{}
}

func TestHandlerIsToldHowLongItsReplyWillWait(t *testing.T) {
	h := &leading{handlerFunc: echo}
	p := listenAt(t, loopback(), h)
	c := clientOf(t, ClientConfig{Remote: p.LocalAddr()})
	for i := range uint64(100) {
		if _, err := c.Send(message(i)); err != nil {
			t.Fatal(err)
		}
		readPacket(t, c)
	}
	if got := time.Duration(h.longest.Load()); got < 0 || got > time.Millisecond {
		t.Errorf("predicted %s, want some µs", got)
	}
}

func TestTheShortestOfTheLastDurationsIsTheLead(t *testing.T) {
	var l leadEstimate
	if got := l.at(1, 1); got != 0 {
		t.Errorf("before anything is known: lead %s, want 0", got)
	}
	now := ntptime.Instant{}
	transmit := func(took time.Duration) {
		now.Raw = now.Raw.Add(time.Second)
		token := l.ask(func() ntptime.Instant { return now })
		if token == (Token{}) {
			return
		}
		l.transmitted(token.ID, now.Raw.Add(took), model.TimestampKernel)
		l.transmitted(token.ID, now.Raw.Add(time.Hour), model.TimestampHardware)
	}
	for i := range 40 * askedOneIn {
		transmit(time.Duration(6000+i%7) * time.Nanosecond)
	}
	l.sent(4, 16*time.Microsecond)
	l.sent(1, time.Second)
	l.sent(1, -time.Second)
	transmit(time.Second)
	if got, want := l.at(2, 3), 6*time.Microsecond-leadMargin+handleCost+8*time.Microsecond; got != want {
		t.Errorf("lead %s, want %s", got, want)
	}
	for range 80 * askedOneIn { // the path is a longer one now
		transmit(9 * time.Microsecond)
	}
	if got := l.at(1, 1); got != 9*time.Microsecond-leadMargin {
		t.Errorf("lead %s, want that of 9µs", got)
	}
}

// flood fills the socket of a port, which nobody serves yet, with n datagrams.
func flood(t *testing.T, to netip.AddrPort, n int) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for i := range n {
		if _, err := conn.Write(message(uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

func TestStaleRequestsAreDroppedUnderOverloadOnly(t *testing.T) {
	for _, tt := range []struct {
		name       string
		waiting    int
		staleAfter time.Duration
		late       time.Duration // by how much the clock has gone on meanwhile
		stale      uint64
	}{
		{"old, and more wait behind: dropped", 2 * batchSize, 0, time.Second, 2 * batchSize},
		{"old, but all there is: answered", batchSize - 1, 0, time.Second, 0},
		{"young: answered", 2 * batchSize, 0, time.Millisecond, 0},
		{"never dropped if told so", 2 * batchSize, -1, time.Hour, 0},
		{"limit as configured", 2 * batchSize, 2 * time.Second, time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arrived := ntptime.Instant{Raw: 1e9}
			cfg := loopback()
			cfg.StaleAfter = tt.staleAfter
			cfg.Clock = Clock{
				Now: func() ntptime.Instant { return ntptime.Instant{Raw: arrived.Raw.Add(tt.late)} },
				At:  func(ntptime.Wall) ntptime.Instant { return arrived },
			}
			p, err := Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			flood(t, p.LocalAddr(), tt.waiting)
			var serving sync.WaitGroup
			serving.Go(func() { _ = p.Serve(0, echo) })
			for c := p.Counters(); c.Stale+c.Received < uint64(tt.waiting); c = p.Counters() {
				runtime.Gosched()
			}
			if got := p.Counters().Stale; got != tt.stale {
				t.Errorf("%d dropped, want %d", got, tt.stale)
			}
			_ = p.Close()
			serving.Wait()
		})
	}
}

func TestReceiveBufferTellsWhatWasGranted(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		configured, asked, most int
	}{
		{"what every system allows", 65536, 65536, 65536},
		{"less than the kernel's least", 100, 100, 65536},
		{"nothing in particular", 0, DefaultReceiveBuffer, DefaultReceiveBuffer},
	} {
		cfg := loopback()
		cfg.ReceiveBuffer = tt.configured
		granted, asked := listenAt(t, cfg, echo).ReceiveBuffer()
		if asked != tt.asked || granted <= 0 || granted > tt.most {
			t.Errorf("%s: granted %d of %d, want up to %d of %d", tt.name, granted, asked, tt.most, tt.asked)
		}
	}
}

func TestDatagramsBeyondTheBufferAreCounted(t *testing.T) {
	cfg := loopback()
	cfg.ReceiveBuffer = 4096
	p, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	flood(t, p.LocalAddr(), 100)
	if got := p.Counters().Overflow; got == 0 || got >= 100 {
		t.Errorf("overflow %d of 100, want some", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.Counters().Overflow; got != 0 {
		t.Errorf("overflow %d of a closed socket, want 0", got)
	}
}

func TestDatagramLongerThanAnyMessageIsDropped(t *testing.T) {
	p := listenAt(t, loopback(), echo)
	conn := flood(t, p.LocalAddr(), 0)
	for _, n := range []int{bufferSize + 1, 9000, bufferSize} {
		if _, err := conn.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	reply := make([]byte, 10000)
	if n, err := conn.Read(reply); err != nil || n != bufferSize {
		t.Errorf("reply of %d bytes, %v; want %d", n, err, bufferSize)
	}
	if got := p.Counters().Truncated; got != 2 {
		t.Errorf("%d dropped, want 2", got)
	}
	if _, err := p.Send(make([]byte, bufferSize+1), p.LocalAddr(), netip.Addr{}, 0, Token{}); err != ErrTooLong {
		t.Errorf("send: %v, want %v", err, ErrTooLong)
	}
}

func TestAReplyThatCannotBeSentDoesNotHoldUpTheOthers(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	p, err := Listen(ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p.LocalAddr().Port())
	for i := range 9 {
		from := "192.0.2.2"
		if i%3 == 0 {
			from = "203.0.113.9" // no route leads back
		}
		peer.send(t, from, to, message(uint64(i)))
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = p.Serve(0, echo) })
	for c := p.Counters(); c.Replied+c.SendErrors < 9; c = p.Counters() {
		runtime.Gosched()
	}
	if c := p.Counters(); c.Replied != 6 || c.SendErrors != 3 {
		t.Errorf("%d sent and %d refused, want 6 and 3", c.Replied, c.SendErrors)
	}
	_ = p.Close()
	serving.Wait()
}

// TestServingAllocatesNothing counts the allocations of the whole process while ten
// thousand requests are answered; the client's side makes system calls only.
func TestServingAllocatesNothing(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		cfg := patient()
		cfg.Address = netip.MustParseAddrPort(address)
		p := listenAt(t, cfg, timestamping{telling{sent: func(Token, ntptime.Instant, model.TimestampKind) {}}})
		conn := flood(t, p.LocalAddr(), 0)
		request, reply := message(0), make([]byte, 100)
		const rounds, burst = 100, 100
		exchange := func() {
			for i := range byte(burst) {
				request[47] = i
				if _, err := conn.Write(request); err != nil {
					t.Fatal(err)
				}
			}
			for range burst {
				if _, err := conn.Read(reply); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := testing.AllocsPerRun(rounds, exchange); got > 0 {
			t.Errorf("%s: %v allocations in %d requests, want 0", address, got, burst)
		}
		if got := p.Counters().Replied; got < rounds*burst {
			t.Errorf("%s: %d replies, want at least %d", address, got, rounds*burst)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestNoDescriptorAndNoGoroutineIsLeft(t *testing.T) {
	round := func() {
		for range 2 {
			cfg := ListenConfig{Workers: 3}
			p, err := Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			for i := range p.Workers() {
				serving.Go(func() { _ = p.Serve(i, echo) })
			}
			c, err := OpenClient(ClientConfig{Remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.LocalAddr().Port())})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Send(message(1)); err != nil {
				t.Fatal(err)
			}
			readPacket(t, c)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			busy := loopback()
			busy.Address = netip.AddrPortFrom(busy.Address.Addr(), p.LocalAddr().Port())
			busy.Workers = 4
			if _, err := Listen(busy); err == nil {
				t.Fatal("listened twice")
			}
			if _, err := OpenClient(ClientConfig{Remote: p.LocalAddr(), Local: netip.MustParseAddr("192.0.2.77")}); err == nil {
				t.Fatal("sent from an address that is not ours")
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			serving.Wait()
		}
	}
	round() // what opens once for the life of the process
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	for range 20 {
		round()
	}
	for deadline := time.Now().Add(patience); descriptors(t) > fds || runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) { // a goroutine that has done its work is there for a moment more
			t.Fatalf("%d descriptors and %d goroutines, want %d and %d", descriptors(t), runtime.NumGoroutine(), fds, goroutines)
		}
	}
}

func TestSourcePortsAreDrawnAtRandom(t *testing.T) {
	seen := make(map[uint16]int)
	var low, high int
	for range 20000 {
		port, err := randomPort()
		if err != nil {
			t.Fatal(err)
		}
		if port < lowestPort {
			t.Fatalf("port %d is reserved", port)
		}
		seen[port]++
		if port < 10000 {
			low++
		}
		if port > 60000 {
			high++
		}
	}
	// 20000 draws of 64512: 17175 different ones with a deviation of 49.
	if len(seen) < 16600 {
		t.Errorf("%d different ports of 20000, want about 17175", len(seen))
	}
	if low < 2300 || low > 3300 || high < 1400 || high > 2100 {
		t.Errorf("%d below 10000 and %d above 60000, want about 2783 and 1716", low, high)
	}
}

func TestClientRefusesWhatCannotBe(t *testing.T) {
	remote := netip.MustParseAddrPort("127.0.0.1:123")
	for name, cfg := range map[string]ClientConfig{
		"no remote":                          {},
		"source of another family":           {Remote: remote, Local: netip.MustParseAddr("::1")},
		"source address of another computer": {Remote: remote, Local: netip.MustParseAddr("192.0.2.77")},
	} {
		if c, err := OpenClient(cfg); err == nil {
			t.Errorf("%s: opened %s", name, c.LocalAddr())
			_ = c.Close()
		}
	}
	c := clientOf(t, ClientConfig{Remote: remote})
	if _, err := c.Send(make([]byte, bufferSize+1)); err != ErrTooLong {
		t.Errorf("send: %v, want %v", err, ErrTooLong)
	}
}

func TestUnreachableErrorsSayWhoAndWhy(t *testing.T) {
	err := &UnreachableError{Remote: netip.MustParseAddrPort("192.0.2.1:123"), Err: syscall.ECONNREFUSED}
	if got, want := fmt.Sprint(err), "192.0.2.1:123: connection refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestARefusalOfTheLastDatagramDoesNotCostTheNext(t *testing.T) {
	c := clientOf(t, ClientConfig{Remote: nobodysPort(t), NoTransmitTimestamps: true})
	raw, err := c.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if _, err := c.Send(message(i)); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
		// The refusal is with the socket, and nobody reads it.
		if err := onDescriptor(raw, func(fd int) error {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
