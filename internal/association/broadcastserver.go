package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// broadcastServer is the role of mode 5 (RFC 5905 §3.3): when it sends, and what the packet
// before was, for interleaved mode (RFC 9769 §4). It takes no packets, and makes no exchanges.
type broadcastServer struct {
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

func (s *broadcastServer) start(a *Association, now ntptime.Instant) {
	s.interval = min(max(a.cfg.Interval, shortestInterval), highestPoll.Duration())
	s.next = now.Raw
}

func (s *broadcastServer) deadline(*Association) ntptime.Raw { return s.next }

func (s *broadcastServer) onClockChanged(*Association, ntptime.Instant, *Output) {
	s.previous = transmission{}
}

func (s *broadcastServer) packetSent(uint32) *transmission { return &s.previous }

func (s *broadcastServer) onPacket(a *Association, _ *model.Received, _ *wire.Packet, _ *Output) {
	a.reject(model.RejectMode)
}

func (*broadcastServer) answered(*Association, bool, ntptime.Instant, *Output)           {}
func (*broadcastServer) missed(*Association, ntptime.Instant, *Output)                   {}
func (*broadcastServer) measured(*Association, ntptime.Instant, *Output)                 {}
func (*broadcastServer) slowedDown(*Association, time.Duration, ntptime.Instant)         {}
func (*broadcastServer) denied(*Association, wire.ReferenceID, ntptime.Instant, *Output) {}

// onDeadline sends a mode 5 packet, while we have time to give. It is never early:
// ntp.org's client drops what comes before a whole 2^poll seconds have passed, so the
// jitter only delays, and the poll field is rounded down.
func (s *broadcastServer) onDeadline(a *Association, now ntptime.Instant, out *Output) {
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
	s.previous = transmission{sentPacket: sentPacket{id: id, asked: now, at: now}, transmit: h.Transmit}
	late := time.Duration(a.random.Uint64() % uint64(s.interval/100+1))
	s.next = now.Raw.Add(s.interval + late)
	out.StatusChanged = true
}
