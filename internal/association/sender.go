package association

import (
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// sender is the state of a broadcast server (RFC 5905 §3.3): when it sends, and what
// the packet before was, for interleaved mode (RFC 9769 §4).
type sender struct {
	interval time.Duration
	next     ntptime.Raw
	previous transmission
}

// Bounds of a broadcast interval, and how soon a server that has no time yet looks
// again whether it has.
const (
	shortestInterval = time.Second / 16
	senderRetry      = time.Second
)

func (s *sender) init(cfg *Config, now ntptime.Instant) {
	s.interval = min(max(cfg.Interval, shortestInterval), highestPoll.Duration())
	s.next = now.Raw
}

func (s *sender) deadline(*Association) ntptime.Raw { return s.next }

// broadcast sends a mode 5 packet, while we have time to give. It is never early:
// ntp.org's client drops what comes before a whole 2^poll seconds have passed, so the
// jitter only delays, and the poll field is rounded down.
func (a *Association) broadcast(now ntptime.Instant, out *Output) {
	s := &a.sender
	a.status.Interval, a.status.Poll = s.interval, flooredLog2(s.interval)
	if !a.synchronized() {
		s.next = now.Raw.Add(min(senderRetry, s.interval))
		return
	}
	h := a.header(now, wire.ModeBroadcast)
	h.Poll = a.status.Poll
	if a.cfg.Interleaved != InterleaveOff && s.previous.real {
		h.Origin = s.previous.at.Timestamp() // RFC 9769 §4; 0 says basic
	}
	id := a.emit(&h, false, out)
	s.previous = transmission{departure: departure{id: id, asked: now, at: now}, transmit: h.Transmit}
	late := time.Duration(a.random.Uint64() % uint64(s.interval/100+1))
	s.next = now.Raw.Add(s.interval + late)
	out.StatusChanged = true
}
