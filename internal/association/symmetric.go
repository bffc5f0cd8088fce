package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// transmission is a packet of mode 1, 2 or 5 that we have sent.
type transmission struct {
	sentPacket
	transmit ntptime.Timestamp // its transmit field: the origin of a basic answer
	receive  ntptime.Timestamp // its receive field: the origin of an interleaved one
	answered bool              // a sample has been made of an answer to it
}

// peerPacket is the newest packet of the peer that our next one may refer to.
type peerPacket struct {
	valid    bool
	transmit ntptime.Timestamp // what our origin field will say
	received ntptime.Timestamp // what the peer's receive field said
	receive  ntptime.Timestamp // what our receive field will say: its arrival
}

// symmetric is the role of modes 1 and 2, active or passive (RFC 5905 §8). Where the RFC has one
// set of origin, receive and transmit, and overwrites it also by packets that fail the
// tests (the root of CVE-2015-1799), here are two: confirmed is the last packet that
// answered one of our own transmissions, and only what nobody else can know, or a key,
// moves it. unconfirmed is the last packet that did not; it is referred to only as long as
// there is no confirmed one, so that an exchange can begin.
type symmetric struct {
	polled
	mode    wire.Mode // active or passive
	opening int       // mode 3 exchanges still to make before the first mode 1
	failed  int       // of these, without an answer in a row

	restart     transmission    // our answer to a peer that begins anew, out of turn
	ring        [8]transmission // the last ones sent
	count       uint64          // sent in all; ring[(count-1)%8] is the newest
	confirmed   peerPacket
	unconfirmed peerPacket

	everReplied     bool // the peer has answered us at least once
	repliedThisPoll bool // the peer answered since the last poll
	validThisPoll   bool // with time to give
	missedPolls     int  // polls in a row without an answer

	sinceConfirmed  int  // sent since confirmed was set
	beforeConfirmed int  // sent between the last two settings of confirmed
	follows         bool // the peer's last packet was interleaved
}

// openings are the mode 3/4 exchanges that an active association begins with: one, or
// a few with iburst, 2 s apart. Those who do not answer mode 3 get one more chance.
const (
	openingBurst    = 4
	openingFailures = 2
)

// restartSpacing is between two answers to a peer that begins anew: well below the 2 s of a
// burst, whose packets come somewhat more or less apart than they were sent.
const restartSpacing = burstSpacing / 2

func openingExchanges(cfg *Config) int {
	if cfg.IBurst {
		return openingBurst
	}
	return 1
}

func (s *symmetric) start(a *Association, now ntptime.Instant) {
	s.mode, a.loop.peer, a.showsPoll = wire.Mode(a.cfg.Kind), true, true
	a.poll.init(&a.cfg, now)
	if s.mode == wire.ModePassive {
		a.poll.follow(now)
		return
	}
	s.opening = openingExchanges(&a.cfg)
	a.poll.openWith(s.opening)
}

func (s *symmetric) onDeadline(a *Association, now ntptime.Instant, out *Output) {
	switch {
	case !s.pollDue(a, now, out):
	case s.opening > 0:
		a.request(now, false, out)
	default:
		s.sendSymmetric(a, now, out)
	}
}

func (s *symmetric) onClockChanged(a *Association, now ntptime.Instant, out *Output) {
	// All timestamps were taken by a clock that has been stepped since.
	*s = symmetric{mode: s.mode, opening: s.opening, failed: s.failed, missedPolls: s.missedPolls, everReplied: s.everReplied}
	s.polled.onClockChanged(a, now, out)
}

func (s *symmetric) packetSent(id uint32) *transmission {
	if s.restart.id == id {
		return &s.restart
	}
	for i := range s.ring {
		if t := &s.ring[i]; t.id == id {
			return t
		}
	}
	return nil
}

// answered counts an opening exchange.
func (s *symmetric) answered(a *Association, good bool, now ntptime.Instant, out *Output) {
	s.polled.answered(a, good, now, out)
	s.opening = max(s.opening-1, 0)
}

// missed counts one without an answer.
func (s *symmetric) missed(a *Association, now ntptime.Instant, out *Output) {
	s.polled.missed(a, now, out)
	if s.failed++; s.failed >= openingFailures {
		s.opening = 0
	}
}

// measured takes back the sample of a peer that may not set our clock.
func (s *symmetric) measured(a *Association, now ntptime.Instant, out *Output) {
	if !a.mayFollow(&out.Sample.Server, now) {
		out.HasSample = false
		a.reject(model.RejectLoop)
	}
}

func (s *symmetric) newest() *transmission {
	if s.count == 0 {
		return nil
	}
	return &s.ring[(s.count-1)%uint64(len(s.ring))]
}

// silentPolls is how many polls in a row without an answer end a dynamic association,
// and make a configured one listen to unconfirmed packets again.
const silentPolls = 8

// sendSymmetric ends the poll before and sends mode 1 or 2 (RFC 5905 §8, §13).
func (s *symmetric) sendSymmetric(a *Association, now ntptime.Instant, out *Output) {
	if s.count > 0 && !s.endSymmetricPoll(a, now, out) {
		return
	}
	h := a.header(now, s.mode)
	h.Poll = a.poll.exponent()
	if ref := s.reference(a); ref.valid {
		h.Origin, h.Receive = ref.transmit, ref.receive
	}
	if before := s.newest(); s.sendsInterleaved(a, before) {
		h.Origin, h.Transmit = s.confirmed.received, before.at.Timestamp()
	}
	a.poll.endStartup()
	a.poll.isUpstream = a.isUpstream()
	a.poll.sent(now, a.random)
	s.patience(a)
	id := a.emit(&h, false, out)
	s.ring[s.count%uint64(len(s.ring))] = transmission{sentPacket: sentPacket{id: id, asked: now, at: now},
		transmit: h.Transmit, receive: h.Receive}
	s.count++
	s.sinceConfirmed++
	a.notePoll()
}

// Before a passive side has heard a second time from whoever mobilized it, it sends
// at most unknownPolls packets, and not one after the other: the address may be forged.
const (
	unknownPolls = 3
	unknownWait  = 4 * time.Second
	unknownLimit = 1280 * time.Second
)

// patience puts our next poll after the peer's, where the peer's is answered at once
// (see answerAtOnce) or is not known to come at all.
func (s *symmetric) patience(a *Association) {
	later := a.poll.spacing + a.poll.spacing/4
	switch {
	case s.mode == wire.ModePassive && !s.everReplied:
		a.poll.plan(min(max(later, unknownWait), unknownLimit), a.random)
	case a.poll.isUpstream && s.missedPolls == 0:
		a.poll.plan(later, a.random)
	}
}

// endSymmetricPoll enters the outcome of the poll before; false if that was the end.
func (s *symmetric) endSymmetricPoll(a *Association, now ntptime.Instant, out *Output) bool {
	if s.repliedThisPoll {
		s.missedPolls = 0
	} else {
		s.missedPolls++
		a.status.Unanswered++
		a.poll.unanswered()
	}
	if !s.validThisPoll {
		a.shiftReach(false, now, out)
	}
	s.repliedThisPoll, s.validThisPoll = false, false
	limit := silentPolls
	if a.cfg.Dynamic && !s.everReplied {
		limit = unknownPolls
	}
	if s.missedPolls == 0 || s.missedPolls%limit != 0 {
		return true
	}
	// What we remember of the peer is of no use to it: begin anew with what comes next.
	s.confirmed, s.unconfirmed = peerPacket{}, peerPacket{}
	if a.cfg.Dynamic {
		a.demobilize(now, "the peer is silent", out)
		return false
	}
	return true
}

// reference is the packet of the peer that our next one refers to.
func (s *symmetric) reference(a *Association) *peerPacket {
	if s.confirmed.valid {
		return &s.confirmed
	}
	return &s.unconfirmed
}

// uniqueTimestamp is now as a wire timestamp with random bits below what our clock resolves,
// so that an outsider cannot guess it (RFC 5905 §6); never 0.
func (a *Association) uniqueTimestamp(now ntptime.Instant) ntptime.Timestamp {
	bits := 32 + int(min(a.system.Precision, -16))
	mask := ntptime.Timestamp(1)<<max(bits, 2) - 1
	return max(now.Timestamp()&^mask|ntptime.Timestamp(a.random.Uint64())&mask, 1)
}

// sendsInterleaved says whether the next packet is an interleaved one (RFC 9769 §3):
// the first answer to the peer's last packet, with exactly one before it, so that the
// peer knows which transmission the timestamp belongs to.
func (s *symmetric) sendsInterleaved(a *Association, before *transmission) bool {
	if a.cfg.Interleaved == InterleaveOff || a.cfg.Interleaved == InterleaveAuto && !s.follows {
		return false
	}
	return before != nil && before.real && s.confirmed.valid && s.sinceConfirmed == 0 && s.beforeConfirmed == 1
}

// onPacket takes a packet of mode 1 or 2 from the peer.
func (s *symmetric) onPacket(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	reason, t, isInterleaved := s.testSymmetric(a, rx, p)
	if reason == model.RejectInvalid || reason == model.RejectBogus {
		s.keepUnconfirmed(a, rx, p, t != nil, out)
		s.answerRestart(a, rx, p, out)
	}
	if reason != model.RejectNone {
		a.reject(reason)
		return
	}
	s.confirm(a, rx, p)
	s.follows = isInterleaved
	if kiss, ok := kissOf(p); ok {
		a.onKiss(kiss, p, rx.At, out)
		return
	}
	server := a.serverState(p, rx)
	a.heard(p, server, rx)
	a.takePeerPoll(p.Poll, rx.At)
	if reason = testServer(p); reason != model.RejectNone {
		a.reject(reason)
		a.last.valid = false
		out.StatusChanged = true
		a.answerAtOnce(rx.At)
		return
	}
	a.reached(rx.At, out)
	a.status.Accepted++
	if t.answered && !isInterleaved {
		return // a second answer to one transmission: it keeps the exchange going, no more
	}
	t.answered = true
	x := exchange{sentPacket: t.sentPacket}
	a.measure(&x, rx, p, server, isInterleaved, out)
	a.answerAtOnce(rx.At)
}

// testSymmetric makes the packet tests on mode 1 and 2 (RFC 5905 Figure 22). It gives
// the transmission that the packet answers, nil if none, and whether it does so in
// interleaved mode. TEST5 comes before TEST2, which has an effect in symmetric modes.
func (s *symmetric) testSymmetric(a *Association, rx *model.Received, p *wire.Packet) (model.RejectReason, *transmission, bool) {
	switch {
	case rx.Remote.Addr().Unmap() != a.cfg.Remote.Addr().Unmap(): // TEST4
		return model.RejectAccess, nil, false
	case !a.authentic(p): // TEST5
		return model.RejectAuth, nil, false
	case p.Transmit.IsZero(): // TEST3; ntp.org's interleaved mode begins so
		return model.RejectInvalid, nil, false
	case s.reflected(a, p):
		return model.RejectLoop, nil, false
	case s.seen(p): // TEST1
		return model.RejectDuplicate, nil, false
	case p.Origin.IsZero() || p.Receive.IsZero(): // TEST3: the peer has not heard us yet
		return model.RejectInvalid, nil, false
	}
	newest := s.newest()
	switch {
	case s.restart.id != 0 && p.Origin == s.restart.transmit && !s.restart.answered:
		return model.RejectNone, &s.restart, false
	case newest == nil:
		return model.RejectBogus, nil, false
	case p.Origin == newest.transmit:
		if newest.answered && !s.rising(p) {
			return model.RejectReplay, nil, false
		}
		return model.RejectNone, newest, false
	case a.cfg.Interleaved != InterleaveOff && p.Origin == newest.receive && a.last.valid:
		return model.RejectNone, newest, true
	}
	return model.RejectBogus, s.older(p), false // TEST2
}

// seen is TEST1 for symmetric modes: both timestamps of the last packet again.
func (s *symmetric) seen(p *wire.Packet) bool {
	same := func(r *peerPacket) bool {
		return r.valid && p.Transmit == r.transmit && p.Receive == r.received
	}
	return same(&s.confirmed) || same(&s.unconfirmed)
}

// reflected reports whether somebody sends us our own packet back.
func (s *symmetric) reflected(a *Association, p *wire.Packet) bool {
	if t := &s.restart; t.id != 0 && p.Transmit == t.transmit && p.Receive == t.receive {
		return true
	}
	for i := range s.ring {
		if t := &s.ring[i]; t.id != 0 && p.Transmit == t.transmit && p.Receive == t.receive {
			return true
		}
	}
	return false
}

// rising reports whether p was sent after the last packet believed.
func (s *symmetric) rising(p *wire.Packet) bool {
	return !s.confirmed.valid || p.Transmit.Sub(s.confirmed.transmit) > 0
}

// older finds the transmission before the newest that p answers: our newest got lost,
// or crossed p on the way. Not an exchange to measure, but surely from the peer.
func (s *symmetric) older(p *wire.Packet) *transmission {
	newest := s.newest()
	for i := range s.ring {
		if t := &s.ring[i]; t.id != 0 && t != newest && p.Origin == t.transmit && s.rising(p) {
			return t
		}
	}
	return nil
}

// keepUnconfirmed keeps the timestamps of a packet that does not answer our last transmission
// and is not to be measured: as confirmed if it answers an older one, which nobody else
// can know; else apart from it, so that a forged packet changes nothing while the
// peer's true ones come in (threats 12 and 18).
func (s *symmetric) keepUnconfirmed(a *Association, rx *model.Received, p *wire.Packet, answersOlder bool, out *Output) {
	if p.Transmit.IsZero() {
		return
	}
	if answersOlder {
		s.confirm(a, rx, p)
		a.answerAtOnce(rx.At)
		return
	}
	if s.confirmed.valid || s.unconfirmed.valid && a.cfg.Key != nil && p.Transmit.Sub(s.unconfirmed.transmit) <= 0 {
		return // with a key, an older packet is a replay; without one, whoever is last has it
	}
	s.unconfirmed = peerPacket{valid: true, transmit: p.Transmit, received: p.Receive, receive: a.uniqueTimestamp(rx.At)}
	if s.count == 0 && s.mode == wire.ModePassive {
		s.passiveBegins(a, rx, p, out)
	}
}

// answerRestart answers at once, once in restartSpacing, an active peer that has not heard
// us yet, or has forgotten us, and begins anew: mode 1, origin 0. Nobody can know that it is the peer before it
// answers in turn, so what we know of it stays as it is until then.
func (s *symmetric) answerRestart(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	if s.count == 0 || p.Mode != wire.ModeActive || !p.Origin.IsZero() || p.Transmit.IsZero() {
		return
	}
	if s.restart.id != 0 && rx.At.Raw.Sub(s.restart.asked.Raw) < restartSpacing {
		return
	}
	h := a.header(rx.At, s.mode)
	h.Version, h.Poll = p.Version, a.poll.exponent()
	h.Origin, h.Receive = p.Transmit, a.uniqueTimestamp(rx.At)
	id := a.emit(&h, false, out)
	s.restart = transmission{sentPacket: sentPacket{id: id, asked: rx.At, at: rx.At}, transmit: h.Transmit, receive: h.Receive}
}

// passiveBegins takes over the version and the poll of the packet that mobilized us.
func (s *symmetric) passiveBegins(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	a.cfg.Version = p.Version
	a.status.Version = p.Version
	a.heard(p, a.serverState(p, rx), rx)
	a.takePeerPoll(p.Poll, rx.At)
	a.poll.next = rx.At.Raw
	out.StatusChanged = true
}

// confirm makes p the packet that our next one refers to.
func (s *symmetric) confirm(a *Association, rx *model.Received, p *wire.Packet) {
	s.confirmed = peerPacket{valid: true, transmit: p.Transmit, received: p.Receive, receive: a.uniqueTimestamp(rx.At)}
	s.unconfirmed = peerPacket{}
	s.beforeConfirmed, s.sinceConfirmed = s.sinceConfirmed, 0
	s.everReplied, s.repliedThisPoll = true, true
	s.missedPolls = 0
	a.status.Unanswered = 0
	a.poll.answered()
}

// reached enters a good answer into the reach register, once a poll.
func (a *Association) reached(at ntptime.Instant, out *Output) {
	if a.symmetric.validThisPoll {
		return
	}
	a.symmetric.validThisPoll = true
	a.shiftReach(true, at, out)
}

// takePeerPoll takes the slower of our own and the peer's interval: peers that poll
// faster than the other end answers make exchanges that ntp.org refuses.
func (a *Association) takePeerPoll(poll ntptime.Log2, at ntptime.Instant) {
	a.poll.isUpstream = a.isUpstream()
	a.poll.remote = poll.Duration() // bounded by min_poll and max_poll, as all intervals are
	a.poll.reschedule(at, a.random)
	a.notePoll()
}

// isUpstream says whether the peer should follow us: we have the time and the lower stratum.
func (a *Association) isUpstream() bool {
	return a.synchronized() && a.system.Stratum < a.status.Server.Stratum
}

// answerAtOnce brings our poll forward to the arrival of a packet from a peer that
// follows us: the shorter the time between its T2 and T3, the less its exchange
// suffers from the drift between the two clocks. At most once in half an interval, and
// never both ends, since only one has the lower stratum.
func (a *Association) answerAtOnce(at ntptime.Instant) {
	if a.isUpstream() && a.poll.polled && at.Raw.Sub(a.poll.at) >= a.poll.interval()/2 {
		a.poll.next = min(a.poll.next, at.Raw)
	}
}

// mayFollow says whether a peer's time may set our clock: with the time from
// elsewhere, we follow lower strata only, and never one that follows us, or the same
// server as we do (RFC 5905 §11.2; the reference implementation's TEST12). In holdover
// a peer that is surely nearer to the time is better than nobody.
func (a *Association) mayFollow(server *model.ServerState, at ntptime.Instant) bool {
	switch {
	case server.Loop:
		return false
	case !a.synchronized():
		return true
	case a.system.SystemPeer == a.cfg.ID:
		return true // we follow it already; its stratum is below ours by that
	case a.system.State == model.DisciplineHoldover:
		grown := a.system.DispersionRate.Over(max(at.Raw.Sub(a.system.At.Raw), 0))
		return server.RootDelay/2+server.RootDispersion < a.system.RootDelay/2+a.system.RootDispersion+grown
	case server.Stratum > wire.StratumPrimary && server.ReferenceID == a.system.ReferenceID:
		return false
	}
	return server.Stratum < a.system.Stratum
}

// onError takes a packet of a mode that two ends cannot go on with: both passive
// (RFC 5905 §9.2, ERR). Only the peer itself, answering us, ends the association.
func (a *Association) onError(rx *model.Received, p *wire.Packet, out *Output) {
	if reason, _, _ := a.symmetric.testSymmetric(a, rx, p); reason != model.RejectNone {
		a.reject(model.RejectMode)
		return
	}
	a.reject(model.RejectMode)
	if a.cfg.Dynamic {
		a.demobilize(rx.At, "the peer is passive as well", out)
	}
}
