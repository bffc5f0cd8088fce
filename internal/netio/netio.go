// Package netio holds the sockets of the daemon: the port that servers, peers and
// broadcast share (UDP 123), and one client socket for each exchange in mode 3.
//
// On Linux datagrams move in batches with recvmmsg and sendmmsg on arrays that are
// allocated once, carry the kernel's receive stamps, and leave from the address that
// was asked; elsewhere (and on request) a portable driver over net.UDPConn does the
// same one datagram at a time. The path from request to reply meets no channel, no
// lock and no allocation.
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
	// transmit stamp ages by some 4 µs for every reply sent before it, so larger
	// batches cost precision; measured, they gain nothing.
	batchSize = 16
	// bufferSize holds the longest NTP message in use (NTS with eight cookies and a
	// placeholder for each stays below 1500); what is longer is dropped and counted.
	bufferSize = 2048
	// DefaultReceiveBuffer is asked for in octets: some 5400 requests, 20 ms at the peak
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
	// ErrTooLong is returned by Send and Client.Send for more than 2048 octets.
	ErrTooLong = fmt.Errorf("datagram longer than %d octets", bufferSize)
)

// Handler answers datagrams. Handle is called on the goroutine of one socket, for
// each datagram in turn. It writes a reply into reply and returns its length, or 0
// for none; a reply longer than the request is refused and counted. rx, rx.Data and
// reply are valid only until Handle returns.
type Handler interface {
	Handle(rx *model.Received, reply []byte) (n int)
}

// Stamper is a Handler that wants to know when some of its replies really left.
// Stamp is called after each Handle that made a reply. The stamps come back through
// ListenConfig.OnTransmitted, on the same goroutine.
type Stamper interface {
	Handler
	Stamp() StampRequest
}

// StampTaker is a Stamper that takes the stamps of its own socket itself: it is given
// every stamp before ListenConfig.OnTransmitted is, also those of Port.Send, and tells
// its own by their ids.
type StampTaker interface {
	Stamper
	Transmitted(id uint32, at ntptime.Instant, kind model.StampKind)
}

// Leader is a Handler that predicts its transmit stamps. Lead is called before each
// Handle with the time that will pass, by recent measurement, between the call and
// the moment the reply is given to the network: the replies of one batch leave one
// after the other.
type Leader interface {
	Handler
	Lead(d time.Duration)
}

// Foreseer is a Handler that prepares for several requests at once. Expect is called with
// the senders of a batch, without zones, before the first of its Handle calls; some of
// the datagrams may turn out not to be for the handler.
type Foreseer interface {
	Handler
	Expect(remotes []netip.AddrPort)
}

// StampRequest asks for the transmit stamp of one datagram. The zero value asks for none.
type StampRequest struct {
	Want bool
	ID   uint32 // given back with the stamp
}

// Clock maps readings of the system's clock to instants.
type Clock struct {
	// Now reads the clock. It must be cheap and safe for concurrent use.
	Now func() ntptime.Instant
	// At maps a CLOCK_REALTIME stamp of the kernel, at most seconds old.
	At func(ntptime.Wall) ntptime.Instant
	// AtLatest is At for the stamps of a batch, right after Now was read; nil: At.
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
	// OnTransmitted is given the transmit stamps that Send or a Stamper asked for. It
	// is called on a socket's goroutine and must not block. With hardware stamps there
	// may be two for a datagram: the kernel's, then the card's.
	OnTransmitted func(id uint32, at ntptime.Instant, kind model.StampKind)
	// ReceiveBuffer in octets, DefaultReceiveBuffer if 0. A process that may not exceed the
	// system's limit (net.core.rmem_max) gets what that allows: see Port.ReceiveBuffer.
	ReceiveBuffer int
	// StaleAfter is the age, by its kernel stamp, from which a request is dropped when
	// more are waiting behind it; DefaultStaleAfter if 0, never if negative.
	StaleAfter time.Duration
	// DSCP is the differentiated services code point of what is sent, 0 to 63.
	DSCP uint8
	// NoMulticastLoop keeps our own multicast packets from this host's other listeners.
	NoMulticastLoop bool
	// Hardware maps stamps of network cards; nil: they are not asked for.
	Hardware *Hardware
	// Portable takes the portable driver where a faster one exists.
	Portable bool
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
	Received   uint64 // datagrams handed to the handler
	Replied    uint64 // replies sent
	Sent       uint64 // datagrams sent by Send
	Stale      uint64 // dropped: too old, and more were waiting
	Ignored    uint64 // dropped: came in by an interface that is ignored
	Duplicate  uint64 // dropped: another socket's copy of a broadcast
	Truncated  uint64 // dropped: longer than any NTP message
	Overlong   uint64 // replies refused: longer than their request
	SendErrors uint64 // replies the kernel would not send
	Overflow   uint64 // dropped by the kernel: receive buffer full
	Stamped    uint64 // transmit stamps delivered
	Unmatched  uint64 // transmit stamps that nobody waits for
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
	c.Overflow += o.Overflow
	c.Stamped += o.Stamped
	c.Unmatched += o.Unmatched
}
