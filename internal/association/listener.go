package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// listener is the state of a broadcast client (RFC 5905 §3.3, §9.2 NEWBC): the volley
// of client exchanges that finds the delay, and the stream of broadcasts after it.
type listener struct {
	left     int         // exchanges of the volley still to make
	next     ntptime.Raw // when the next one is due; Never: no volley
	why      string      // what the volley is for
	answered int         // exchanges of this volley that gave a sample
	best     time.Duration
	deaf     bool // the server refused to be asked (DENY, RSTR)

	calibration calibration
	delay       time.Duration // one way
	uncertain   time.Duration // of delay

	line     line              // where the server's time lies on our oscillator's scale
	newest   ntptime.Timestamp // transmit stamp of the last packet believed
	arrival  arrived           // of that packet
	interval time.Duration     // what it said of itself
	waiting  ntptime.Raw       // when the next one is overdue
	silent   int               // intervals in a row without one
	strange  int               // packets in a row off the line
	heeded   ntptime.Raw       // when the last volley began
}

// calibration says where the delay comes from.
type calibration uint8

const (
	uncalibrated calibration = iota
	fallback                 // the server answers no exchange: Config.Delay
	measured                 // half of the volley's shortest round trip
)

// line predicts the server's time minus our oscillator's reading.
type line struct {
	valid bool
	at    ntptime.Raw
	value time.Duration // T − raw
	error time.Duration
}

// The volley: so many exchanges, the first after a random wait so that the clients of
// one broadcast do not ask all at once. A server that answers none of the first
// volleyTries is left alone for volleyRest.
const (
	volleyCount    = 8
	volleySpacing  = 2 * time.Second
	volleySpread   = time.Second
	volleyTries    = 3
	volleyRest     = 15 * time.Minute
	volleyMinRest  = time.Minute // between volleys because of strange packets
	strangePackets = 3           // in a row that make a new volley
)

// How far a broadcast may lie off the line besides the errors known: scheduling and
// queues of a broadcast that no exchange shows.
const lineTolerance = time.Millisecond

// lineDrift is what our oscillator may gain once the system process knows its
// frequency; frequencyTolerance before.
const lineDrift = 15 * ntptime.PPM

func (l *listener) init(cfg *Config, now ntptime.Instant) {
	l.next, l.waiting = ntptime.Never, ntptime.Never
	l.newest = cfg.LastTransmit
}

func (l *listener) deadline(a *Association) ntptime.Raw {
	due := min(l.waiting, l.next)
	if a.pending.state != idle {
		due = min(l.waiting, a.pending.deadline)
	}
	return due
}

// LastTransmit is the newest mode 5 transmit stamp believed: whoever makes another
// association with the same server gives it to it, so that no older packet mobilizes.
func (a *Association) LastTransmit() ntptime.Timestamp { return a.listener.newest }

// recalibrate begins a volley at a time.
func (l *listener) recalibrate(at ntptime.Raw, why string) {
	l.left, l.next, l.why = volleyCount, at, why
	l.answered, l.best = 0, 0
	l.heeded = at
	l.line = line{}
	l.strange = 0
}

// refused ends the volley for good: the server does not want to be asked.
func (l *listener) refused(a *Association) {
	l.deaf = true
	l.endVolley(a)
}

// listen does what is due: the next exchange of the volley, its end, or a broadcast
// that did not come.
func (a *Association) listen(now ntptime.Instant, out *Output) {
	l := &a.listener
	if a.pending.state != idle && now.Raw >= a.pending.deadline {
		a.missed(now, out)
		if l.answered == 0 && l.left <= volleyCount-volleyTries {
			l.left = 0
		}
	}
	if a.pending.state == idle && now.Raw >= l.next {
		a.volley(now, out)
	}
	if now.Raw >= l.waiting {
		a.overdue(now, out)
	}
}

// volley makes the next exchange, or ends the volley after the last.
func (a *Association) volley(now ntptime.Instant, out *Output) {
	l := &a.listener
	if l.left == 0 {
		l.endVolley(a)
		out.StatusChanged = true
		return
	}
	l.left--
	a.request(now, out)
	l.next = now.Raw.Add(min(volleySpacing, max(l.interval, 250*time.Millisecond)))
}

// calibrated takes a sample of the volley; its shortest round trip is the one that met
// the fewest queues.
func (l *listener) calibrated(s *model.Sample) {
	if l.next == ntptime.Never {
		return // not in a volley: a client's sample
	}
	delay := max(roundTrip(s), 0)
	l.answered++
	if l.answered > 1 && delay >= l.best {
		return
	}
	l.best = delay
	l.delay, l.uncertain = delay/2, delay/2
	l.calibration = measured
	before := s.T2.Sub(ntptime.Wall(s.T1.Raw))
	after := s.T3.Sub(ntptime.Wall(s.T4.Raw))
	l.line = line{valid: true, at: s.T4.Raw, value: before/2 + after/2, error: delay / 2}
}

// endVolley falls back to the configured delay when nobody answered, and then tries
// again after a rest.
func (l *listener) endVolley(a *Association) {
	l.next, l.left = ntptime.Never, 0
	a.pending = exchange{}
	if l.answered == 0 && l.calibration == uncalibrated {
		l.calibration = fallback
		l.delay, l.uncertain = a.cfg.Delay, a.cfg.Delay
	}
}

// overdue counts a broadcast that did not come; eight in a row are the end of a
// dynamic association.
func (a *Association) overdue(now ntptime.Instant, out *Output) {
	l := &a.listener
	l.silent++
	a.status.Unanswered = l.silent
	l.waiting = now.Raw.Add(l.interval)
	a.shiftReach(false, now, out)
	if l.silent >= silentPolls && a.cfg.Dynamic {
		a.demobilize(now, "the server is silent", out)
	}
}

// onBroadcast takes a mode 5 packet. One that is refused changes nothing but its
// counter, and never ends the association (CVE-2015-7979).
func (a *Association) onBroadcast(rx *model.Received, p *wire.Packet, out *Output) {
	l := &a.listener
	if reason := a.testBroadcast(rx, p); reason != model.RejectNone {
		a.reject(reason)
		return
	}
	if l.heeded == 0 && l.calibration == uncalibrated && l.next == ntptime.Never {
		a.firstBroadcast(rx, p, out)
		return
	}
	server := a.serverState(p, rx.At.Wall)
	stamp := p.Transmit.Wall(a.pivot(rx.At.Wall))
	if !a.onLine(stamp, rx.At) {
		a.reject(model.RejectDelay)
		a.strangeBroadcast(rx.At)
		return
	}
	t3, t4 := a.broadcastStamps(rx, p, stamp)
	a.follow(rx, p, server, out)
	if l.calibration == uncalibrated {
		a.reject(model.RejectUncalibrated)
		return
	}
	out.Sample = model.Sample{Source: a.cfg.ID, Kind: model.SampleBroadcast, T3: t3, T4: t4, Delay: l.delay, DelayError: l.uncertain,
		Server: server, Authenticated: a.cfg.Key != nil, Interleaved: t4 != rx.At}
	out.HasSample = true
}

// testBroadcast makes the packet tests that mean something without an exchange
// (RFC 5905 Figure 22, threat 20): key, stamps rising, not before its time.
func (a *Association) testBroadcast(rx *model.Received, p *wire.Packet) model.RejectReason {
	l := &a.listener
	switch {
	case !sameEnd(rx.Remote, a.cfg.Remote): // TEST4
		return model.RejectAccess
	case p.Transmit.IsZero(): // TEST3; origin and receive are zero here
		return model.RejectInvalid
	case l.newest != 0 && p.Transmit.Sub(l.newest) <= 0: // TEST1
		return model.RejectReplay
	case !a.authentic(p): // TEST5
		return model.RejectAuth
	case l.arrival.at.Raw != 0 && rx.At.Raw.Sub(l.arrival.at.Raw) < l.interval/2:
		return model.RejectRate
	}
	return testServer(p)
}

// broadcastInterval is what a packet says of its sender's interval, within bounds.
func broadcastInterval(p *wire.Packet) time.Duration {
	return min(max(p.Poll, 0), highestPoll).Duration()
}

// firstBroadcast begins the volley.
func (a *Association) firstBroadcast(rx *model.Received, p *wire.Packet, out *Output) {
	a.cfg.Version = p.Version
	a.status.Version = p.Version
	a.follow(rx, p, a.serverState(p, rx.At.Wall), out)
	wait := time.Duration(a.random.Uint64() % uint64(min(volleySpread, a.listener.interval)))
	a.listener.recalibrate(rx.At.Raw.Add(wait), "first broadcast")
	a.reject(model.RejectUncalibrated)
}

// follow notes a broadcast that is believed.
func (a *Association) follow(rx *model.Received, p *wire.Packet, server model.ServerState, out *Output) {
	l := &a.listener
	l.newest, l.arrival = p.Transmit, arrived{rx.At, rx.Stamp}
	l.interval = broadcastInterval(p)
	l.waiting = rx.At.Raw.Add(l.interval + l.interval/2)
	l.silent, l.strange = 0, 0
	if stamp := p.Transmit.Wall(a.pivot(rx.At.Wall)); l.calibration != uncalibrated {
		l.line = line{valid: true, at: rx.At.Raw, value: a.lineOf(stamp, rx.At), error: l.uncertain}
	}
	a.heard(p, server, rx.At)
	a.status.Accepted++
	a.status.Unanswered = 0
	a.status.Interval, a.status.Poll = l.interval, p.Poll
	a.shiftReach(true, rx.At, out)
	if l.calibration == fallback && !l.deaf && l.next == ntptime.Never && rx.At.Raw.Sub(l.heeded) >= volleyRest {
		a.volleyAgain(rx.At.Raw, "the delay is only assumed")
	}
}

// volleyAgain begins a volley that leaves the line in force until it has answers.
func (a *Association) volleyAgain(at ntptime.Raw, why string) {
	l := &a.listener
	kept := l.line
	l.recalibrate(at, why)
	l.line = kept
}

// lineOf is the server's time minus our oscillator's at the arrival of a broadcast.
func (a *Association) lineOf(stamp ntptime.Wall, at ntptime.Instant) time.Duration {
	return stamp.Add(a.listener.delay).Sub(ntptime.Wall(at.Raw))
}

// onLine says whether a broadcast fits what the volley and the broadcasts before it
// say of the server's time. A replayed or delayed one does not, however well signed.
func (a *Association) onLine(stamp ntptime.Wall, at ntptime.Instant) bool {
	l := &a.listener
	if !l.line.valid {
		return true
	}
	elapsed := at.Raw.Sub(l.line.at)
	expected, drift := l.line.value, frequencyTolerance
	if a.synchronized() {
		expected += a.system.Frequency.Over(elapsed)
		drift = lineDrift + 4*a.system.FrequencyError
	}
	bound := 2*(l.line.error+l.uncertain) + lineTolerance + drift.Over(max(elapsed, -elapsed))
	off := a.lineOf(stamp, at) - expected
	return off <= bound && off >= -bound
}

// strangeBroadcast counts a packet off the line; several in a row, with none on it
// between, mean that the path or the server's clock has changed: a new volley tells.
func (a *Association) strangeBroadcast(at ntptime.Instant) {
	l := &a.listener
	if l.strange++; l.strange < strangePackets || l.next != ntptime.Never {
		return
	}
	if at.Raw.Sub(l.heeded) < volleyMinRest {
		return
	}
	if l.deaf {
		l.line, l.strange = line{}, 0 // there is nobody to ask
		return
	}
	a.volleyAgain(at.Raw, "broadcasts and path disagree")
}

// broadcastStamps gives T3 and T4: those of this packet, or, interleaved, of the one
// before, whose precise transmit stamp the origin field holds (RFC 9769 §4).
func (a *Association) broadcastStamps(rx *model.Received, p *wire.Packet, stamp ntptime.Wall) (ntptime.Wall, ntptime.Instant) {
	l := &a.listener
	if a.cfg.Interleaved == InterleaveOff || p.Origin.IsZero() || l.newest == 0 || l.arrival.at.Raw == 0 {
		return stamp, rx.At
	}
	// The precise stamp is a little later than the one the packet carried itself; if it
	// is not, the packet before was not the one we know.
	if late := p.Origin.Sub(l.newest); late < 0 || late > lineTolerance*10 {
		return stamp, rx.At
	}
	return p.Origin.Wall(a.pivot(rx.At.Wall)), l.arrival.at
}
