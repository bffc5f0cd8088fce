// Package netio holds the sockets of the daemon: the port that servers, peers and
// broadcast share (UDP 123), and one client socket for each exchange in mode 3.
//
// Datagrams move in batches with recvmmsg and sendmmsg on arrays that are allocated once,
// carry the kernel's receive timestamps, and leave from the address that was asked. The
// path from request to reply meets no channel, no lock and no allocation. It is for Linux.
package netio

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

const (
	// batchSize is how many datagrams are received, answered and sent together. One
	// transmit timestamp ages by some 4 µs for every reply sent before it, so larger
	// batches cost precision; measured, they gain nothing.
	batchSize = 16
	// bufferSize holds the longest NTP message in use (NTS with eight cookies and a
	// placeholder for each stays below 1500); what is longer is dropped and counted.
	bufferSize = 2048
	// DefaultReceiveBuffer is asked for in bytes: some 5400 requests, 20 ms at the peak
	// rate of a core, which the scheduler may well take away for that long. A much larger
	// one would hold requests whose clients have given up.
	DefaultReceiveBuffer = 2 << 20
	// DefaultStaleAfter is the age at which a request is dropped under overload. At full
	// rate the receive buffer is worth some 20 ms: what is much older waited because the
	// process stood still, and the backlog of a short pause is answered at once, in less
	// time than a client's patience.
	DefaultStaleAfter = 250 * time.Millisecond
	// DefaultMulticastTTL is the TTL or hop limit of multicast packets.
	DefaultMulticastTTL = 16
)

// Errors that callers tell apart.
var (
	// ErrInUse is returned by Listen when another process has the port.
	ErrInUse = errors.New("address already in use")
	// ErrNoFamily is returned by Send when no socket speaks the destination's family.
	ErrNoFamily = errors.New("no socket for this address family")
	// ErrTooLong is returned by Send and Client.Send for more than 2048 bytes.
	ErrTooLong = fmt.Errorf("datagram longer than %d bytes", bufferSize)
)

// Handler answers the datagrams of one socket, on that socket's goroutine.
type Handler interface {
	// Expect is told who sent the datagrams of a batch, without zones, before the first of
	// its Handle calls, so that what is known of them can be fetched together. It is not
	// called for a batch of one, and some of the datagrams may turn out not to be handed on.
	Expect(remotes []netip.AddrPort)
	// Handle is called for each datagram in turn. It writes a reply into reply and returns
	// its length, or 0 for none; a reply longer than the request is refused and counted. lead
	// is the time that will pass, by recent measurement, between this call and the moment
	// the reply leaves: those of a batch leave one after the other. A token other than the
	// zero Token asks when the reply really left. rx, rx.Data and reply are valid only until
	// Handle returns.
	Handle(rx *model.Received, lead time.Duration, reply []byte) (n int, token Token)
	// Sent tells when a datagram of this socket really left, a reply or one of Port.Send,
	// by the token that was given for it. It must not block. With hardware timestamps there
	// may be two for a datagram: the kernel's, then the NIC's.
	Sent(token Token, at ntptime.Instant, kind model.TimestampKind)
}

// Token stands for a datagram whose transmit timestamp is wanted: whatever its sender
// knows it by again. This package only keeps it. The zero Token asks for no timestamp.
type Token struct {
	Owner any
	ID    uint32
}

// Clock maps readings of the system's clock to instants.
type Clock struct {
	// Now reads the clock. It must be cheap and safe for concurrent use.
	Now func() ntptime.Instant
	// At maps a CLOCK_REALTIME timestamp of the kernel, at most seconds old.
	At func(ntptime.Wall) ntptime.Instant
	// AtLatest is At for the timestamps of a batch, right after Now was read; nil: At.
	AtLatest func(ntptime.Wall) ntptime.Instant
}

// ListenConfig says where and how a Port listens. Clock may be left out: then the
// system's clock is read as it is.
type ListenConfig struct {
	// Address to listen at; an invalid Addr stands for every IPv4 and every IPv6
	// address. Port 0 takes a free one.
	Address netip.AddrPort
	// Workers is the number of sockets for each address family, 1 if 0. They share
	// the load of one port; no other process may share it with them.
	Workers int
	// Ignore names interfaces on which no message is received.
	Ignore []string
	Clock  Clock
	// ReceiveBuffer in bytes, DefaultReceiveBuffer if 0. A process that may not exceed the
	// system's limit (net.core.rmem_max) gets what that allows: see Port.ReceiveBuffer.
	ReceiveBuffer int
	// StaleAfter is the age, by its kernel timestamp, from which a request is dropped when
	// more are waiting behind it; DefaultStaleAfter if 0, never if negative.
	StaleAfter time.Duration
	// Hardware maps timestamps of NICs; nil: they are not asked for.
	Hardware *Hardware
}

func (c ListenConfig) withDefaults() ListenConfig {
	if c.Workers <= 0 {
		c.Workers = 1
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = DefaultReceiveBuffer
	}
	switch {
	case c.StaleAfter == 0:
		c.StaleAfter = DefaultStaleAfter
	case c.StaleAfter < 0:
		c.StaleAfter = 0
	}
	c.Clock = c.Clock.orSystem()
	return c
}

// Counters of a Port since it was opened.
type Counters struct {
	Received    uint64 // datagrams handed to the handler
	Replied     uint64 // replies sent
	Sent        uint64 // datagrams sent by Send
	Stale       uint64 // dropped: too old, and more were waiting
	Ignored     uint64 // dropped: came in by an interface that is ignored
	Duplicate   uint64 // dropped: another socket's copy of a broadcast
	Truncated   uint64 // dropped: longer than any NTP message
	Overlong    uint64 // replies refused: longer than their request
	SendErrors  uint64 // replies the kernel would not send
	Unresolved  uint64 // replies held back: to neighbours that nobody answers for, while they filled the send buffer
	Overflow    uint64 // dropped by the kernel: receive buffer full
	Timestamped uint64 // transmit timestamps delivered
	Unmatched   uint64 // transmit timestamps that nobody waits for
}

func (c *Counters) add(o Counters) {
	c.Received += o.Received
	c.Replied += o.Replied
	c.Sent += o.Sent
	c.Stale += o.Stale
	c.Ignored += o.Ignored
	c.Duplicate += o.Duplicate
	c.Truncated += o.Truncated
	c.Overlong += o.Overlong
	c.SendErrors += o.SendErrors
	c.Unresolved += o.Unresolved
	c.Overflow += o.Overflow
	c.Timestamped += o.Timestamped
	c.Unmatched += o.Unmatched
}
