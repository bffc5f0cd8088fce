package netio

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// patience bounds what must happen soon; nothing waits for it when all is well.
const patience = 20 * time.Second

// handlerFunc is a Handler that wants nothing but datagrams.
type handlerFunc func(rx *model.Received, reply []byte) int

func (f handlerFunc) Expect([]netip.AddrPort) {}

func (f handlerFunc) Handle(rx *model.Received, _ time.Duration, reply []byte) (int, Token) {
	return f(rx, reply), Token{}
}

func (f handlerFunc) Sent(Token, ntptime.Instant, model.TimestampKind) {}

// telling is a Handler that passes on when what was sent has left.
type telling struct {
	handlerFunc
	sent func(Token, ntptime.Instant, model.TimestampKind)
}

func (h telling) Sent(token Token, at ntptime.Instant, kind model.TimestampKind) {
	h.sent(token, at, kind)
}

// echo answers every datagram with itself.
var echo = handlerFunc(func(rx *model.Received, reply []byte) int { return copy(reply, rx.Data) })

// listenAt opens a port for the length of a test and serves it with h.
func listenAt(t *testing.T, cfg ListenConfig, h Handler) *Port {
	t.Helper()
	p, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	for i := range p.Workers() {
		serving.Go(func() {
			if err := p.Serve(i, h); err != nil {
				t.Errorf("serve worker %d: %v", i, err)
			}
		})
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		serving.Wait()
	})
	return p
}

func loopback() ListenConfig {
	return ListenConfig{Address: netip.MustParseAddrPort("127.0.0.1:0")}
}

// patient is loopback without the limit that overload sets to the age of a request: on a
// machine that is busy with other things a burst of them gets that old.
func patient() ListenConfig {
	cfg := loopback()
	cfg.StaleAfter = -1
	return cfg
}

// clientOf opens a client socket to an address for the length of a test.
func clientOf(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	c, err := OpenClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// message is an NTP message's worth of bytes with a transmit timestamp.
func message(transmit uint64) []byte {
	b := make([]byte, 48)
	b[0] = 0x23
	binary.BigEndian.PutUint64(b[40:], transmit)
	return b
}

// readPacket reads the next datagram, passing over transmit timestamps.
func readPacket(t *testing.T, c *Client) *model.Received {
	t.Helper()
	for {
		var rx model.Received
		event, err := c.Read(make([]byte, bufferSize), &rx)
		if err != nil {
			t.Fatal(err)
		}
		if !event.Transmitted {
			return &rx
		}
	}
}

func TestRequestIsAnsweredWithWhatTheHandlerWrote(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		before := systemNow()
		requests := make(chan model.Received, 1)
		p := listenAt(t, ListenConfig{Address: netip.MustParseAddrPort(address)},
			handlerFunc(func(rx *model.Received, reply []byte) int {
				requests <- *rx
				return copy(reply, rx.Data)
			}))
		c := clientOf(t, ClientConfig{Remote: p.LocalAddr()})
		if _, err := c.Send(message(7)); err != nil {
			t.Fatal(err)
		}
		rx, seen := readPacket(t, c), <-requests
		if got, want := string(rx.Data), string(message(7)); got != want {
			t.Errorf("%s: reply %x, want %x", address, got, want)
		}
		if got, want := rx.Remote, p.LocalAddr(); got != want {
			t.Errorf("%s: reply from %s, want %s", address, got, want)
		}
		if got, want := seen.Remote, c.LocalAddr(); got != want {
			t.Errorf("%s: request from %s, want %s", address, got, want)
		}
		if got, want := seen.Local, p.LocalAddr().Addr(); got != want {
			t.Errorf("%s: request to %s, want %s", address, got, want)
		}
		if seen.Interface == 0 {
			t.Errorf("%s: interface of arrival is not known", address)
		}
		after := systemNow()
		if seen.At.Raw < before.Raw || seen.At.Raw > after.Raw {
			t.Errorf("%s: arrived at %d, want within %d and %d", address, seen.At.Raw, before.Raw, after.Raw)
		}
		if got, want := seen.Timestamp, model.TimestampKernel; got != want {
			t.Errorf("%s: timestamp of kind %d, want %d", address, got, want)
		}
	}
}

func TestReplyLeavesFromTheAddressThatWasAsked(t *testing.T) {
	p := listenAt(t, ListenConfig{}, echo)
	for _, address := range []string{"127.0.0.1", "127.0.0.9", "127.77.1.2", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(address), p.LocalAddr().Port())
		one := listenAt(t, ListenConfig{Address: netip.AddrPortFrom(to.Addr(), 0)}, echo)
		for _, to := range []netip.AddrPort{to, one.LocalAddr()} {
			c := clientOf(t, ClientConfig{Remote: to})
			if _, err := c.Send(message(1)); err != nil {
				t.Fatal(err)
			}
			readPacket(t, c) // a connected socket takes nothing from another address
		}
	}
}

func TestReplyIsNeverLongerThanItsRequest(t *testing.T) {
	p := listenAt(t, loopback(), handlerFunc(func(rx *model.Received, reply []byte) int {
		if rx.Data[0] == 1 {
			return len(rx.Data) + 1
		}
		return copy(reply, rx.Data)
	}))
	c := clientOf(t, ClientConfig{Remote: p.LocalAddr()})
	for _, b := range [][]byte{append([]byte{1}, message(1)...), append([]byte{2}, message(2)...)} {
		if _, err := c.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if got := readPacket(t, c).Data[0]; got != 2 {
		t.Errorf("first reply is to request %d, want 2", got)
	}
	if got := p.Counters().Overlong; got != 1 {
		t.Errorf("overlong replies counted: %d, want 1", got)
	}
}

func TestCloseEndsServeAndRead(t *testing.T) {
	cfg := loopback()
	cfg.Workers = 3
	p, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, p.Workers())
	for i := range p.Workers() {
		go func() { ended <- p.Serve(i, echo) }()
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for range p.Workers() {
		if err := <-ended; err != nil {
			t.Errorf("serve: %v, want nil after close", err)
		}
	}
	c := clientOf(t, ClientConfig{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
	reading := make(chan error, 1)
	go func() {
		var rx model.Received
		_, err := c.Read(make([]byte, 100), &rx)
		reading <- err
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-reading; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v, want net.ErrClosed", err)
	}
}

// nobodysPort is an address at which nobody listens; no other program's tests take it
// meanwhile, as they might a free port of 127.0.0.1.
func nobodysPort(t *testing.T) netip.AddrPort {
	t.Helper()
	nobody, err := Listen(ListenConfig{Address: netip.MustParseAddrPort("127.61.7.9:0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	return nobody.LocalAddr()
}

func TestClientTellsThatNobodyListens(t *testing.T) {
	remote := nobodysPort(t)
	c := clientOf(t, ClientConfig{Remote: remote})
	if _, err := c.Send(message(1)); err != nil {
		t.Fatal(err)
	}
	var refused *UnreachableError
	for refused == nil {
		var rx model.Received
		event, err := c.Read(make([]byte, 100), &rx)
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("read: %v, want an UnreachableError", err)
		}
		if err == nil && !event.Transmitted {
			t.Fatal("read a datagram from nobody")
		}
	}
	if refused.Remote != remote {
		t.Errorf("refused by %s, want %s", refused.Remote, remote)
	}
	if _, err := c.Send(message(2)); err != nil {
		t.Errorf("send after a refusal: %v", err)
	}
}

func TestReadDeadlineIsKept(t *testing.T) {
	c := clientOf(t, ClientConfig{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var rx model.Received
	if _, err := c.Read(make([]byte, 100), &rx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want os.ErrDeadlineExceeded", err)
	}
}

func TestSendLeavesFromThePort(t *testing.T) {
	type timestamp struct {
		token Token
		at    ntptime.Instant
	}
	timestamps := make(chan timestamp, 1)
	got := make(chan model.Received, 1)
	far := listenAt(t, loopback(), handlerFunc(func(rx *model.Received, _ []byte) int {
		got <- model.Received{Remote: rx.Remote}
		return 0
	}))
	near := listenAt(t, ListenConfig{}, telling{echo, func(token Token, at ntptime.Instant, _ model.TimestampKind) {
		timestamps <- timestamp{token, at}
	}})
	owner := &struct{ int }{}
	sent, err := near.Send(message(5), far.LocalAddr(), netip.MustParseAddr("127.0.0.8"), 0, Token{Owner: owner, ID: 99})
	if err != nil {
		t.Fatal(err)
	}
	want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.8"), near.LocalAddr().Port())
	if rx := <-got; rx.Remote != want {
		t.Errorf("came from %s, want %s", rx.Remote, want)
	}
	left := <-timestamps
	if left.token != (Token{Owner: owner, ID: 99}) {
		t.Errorf("timestamp of %v, want of 99", left.token)
	}
	if now := systemNow(); left.at.Raw < sent.Raw || left.at.Raw > now.Raw {
		t.Errorf("left at %d, want within %d, when it was sent, and %d, now", left.at.Raw, sent.Raw, now.Raw)
	}
	if c := near.Counters(); c.Sent != 1 {
		t.Errorf("sent %d, want 1", c.Sent)
	}
}
