package netio

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// leadEstimate predicts how long a reply takes from the moment it is made until it leaves,
// which the transmit timestamp is advanced by. What a lone one takes is had from the
// kernel's transmit timestamps, not from the length of the call that sends it: over a veth
// or the loopback interface that call runs the receiver too. For what waits behind others in
// one call its length counts. Of the last ones the shortest is believed, so that the field is
// hardly ever later than the transmission, and no round trip looks shorter than it was.
type leadEstimate struct {
	alone   ntptime.Shortest // a lone reply, until the kernel's timestamp
	behind  ntptime.Shortest // what each reply of a call adds for those behind it
	handled [64]ntptime.Raw  // when lone replies that were asked about were made
	asked   uint32           // how many were
	replies int              // lone ones since then
}

const (
	// handleCost is about what a handler takes for one datagram; it matters little
	// beside the send path.
	handleCost = 300 * time.Nanosecond
	// askedOneIn is how many lone replies there are for each that is asked about, once
	// enough are known.
	askedOneIn = 16
	// leadMargin is left out of the lead: the clock that the field is read from and the one
	// of the kernel's timestamps are known to each other within some microseconds.
	leadMargin = 4 * time.Microsecond
)

// at is the time until the reply that is made now will leave, with left datagrams of the
// batch still to be handled, it among them, and it the place-th to be sent.
func (l *leadEstimate) at(left, place int) time.Duration {
	return max(l.alone.Least()-leadMargin, 0) + time.Duration(left-1)*handleCost + time.Duration(place-1)*l.behind.Least()
}

// ask gives the token for a lone reply that was made now, to be asked about: each of the
// first is, and some later on. The zero token: not this one.
func (l *leadEstimate) ask(now func() ntptime.Instant) Token {
	if l.replies++; l.alone.Full() && l.replies < askedOneIn {
		return Token{}
	}
	l.replies = 0
	l.asked++
	l.handled[l.asked%uint32(len(l.handled))] = now().Raw
	return Token{Owner: l, ID: l.asked}
}

// transmitted takes note of when a reply that was asked about left. A NIC's own timestamp
// follows the kernel's, and says nothing of what the kernel takes.
func (l *leadEstimate) transmitted(id uint32, at ntptime.Raw, kind model.TimestampKind) {
	if kind == model.TimestampKernel && l.asked-id < uint32(len(l.handled)) {
		l.alone.Note(at.Sub(l.handled[id%uint32(len(l.handled))]))
	}
}

// sent takes note that n replies took d.
func (l *leadEstimate) sent(n int, d time.Duration) { l.behind.Note(d / time.Duration(n)) }
