package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// listener is the state of a broadcast client (RFC 5905 §3.3, §9.2 NEWBC): the volley
// of client exchanges that finds the delay (volley.go), and the broadcasts after it.
type listener struct {
	volley volley
	begun  bool // there has been a first broadcast
	deaf   bool // the server refused to be asked (DENY, RSTR)

	calibration calibration
	delay       time.Duration // one way
	uncertain   time.Duration // of delay

	survey   survey            // how late broadcasts are, by a volley
	line     line              // where the server's time lies on our oscillator's scale
	newest   ntptime.Timestamp // transmit stamp of the last packet believed
	arrival  arrived           // of that packet; zero value before the first
	counted  bool              // that packet has given a sample of its own
	interval time.Duration     // what the last packet said of itself
	waiting  ntptime.Raw       // when the next one is overdue
	silent   int               // intervals in a row without one
	strange  int               // packets in a row off the line
	late     time.Duration     // by how much the least late of them was late
}

// calibration says where the delay comes from.
type calibration uint8

const (
	uncalibrated calibration = iota
	fallback                 // the server answers no exchange: Config.Delay
	measured                 // half of the volley's shortest round trip
)

// line predicts the server's time minus our oscillator's reading. That scale is not
// disturbed by what is done to our clock.
type line struct {
	valid bool
	at    ntptime.Raw
	value time.Duration
	error time.Duration
}

// How far a broadcast may lie off the line: what its delay and the line leave open,
// queues (lineTolerance), and what our oscillator may have gained meanwhile: lineDrift
// once the system process knows its frequency, frequencyTolerance before.
const (
	lineTolerance = time.Millisecond
	lineDrift     = 15 * ntptime.PPM
)

// strangePackets off the line in a row are looked into. A broadcast may be late by
// latestBroadcast where the medium holds it back (wireless links do until clients
// wake); one that is later is a replay.
const (
	strangePackets  = 3
	latestBroadcast = time.Second
)

func (l *listener) init(cfg *Config, now ntptime.Instant) {
	l.interval = defaultInterval // until the first broadcast says more
	l.volley.next, l.waiting = ntptime.Never, now.Raw.Add(l.interval)
	l.newest = cfg.LastTransmit
}

func (l *listener) deadline(a *Association) ntptime.Raw {
	if a.pending.state != idle {
		return min(l.waiting, a.pending.deadline)
	}
	return min(l.waiting, l.volley.next)
}

// listen does what is due: the next exchange of the volley, its end, or a broadcast
// that did not come.
func (a *Association) listen(now ntptime.Instant, out *Output) {
	if a.pending.state != idle && now.Raw >= a.pending.deadline {
		a.missed(now, out)
		a.listener.volley.unanswered()
	}
	if a.pending.state == idle && now.Raw >= a.listener.volley.next {
		a.continueVolley(now, out)
	}
	if now.Raw >= a.listener.waiting {
		a.overdue(now, out)
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

// onBroadcast takes a mode 5 packet. One that is refused changes nothing that the true
// ones depend on, and never ends the association (CVE-2015-7979).
func (a *Association) onBroadcast(rx *model.Received, p *wire.Packet, out *Output) {
	l := &a.listener
	if reason := a.testBroadcast(rx, p); reason != model.RejectNone {
		a.reject(reason)
		return
	}
	if !l.begun {
		a.firstBroadcast(rx, p, out)
	}
	if l.calibration == uncalibrated || !l.line.valid && l.volley.next != ntptime.Never {
		a.reject(model.RejectUncalibrated) // the volley tells first what to think of it
		return
	}
	if a.contradictsUs(p, rx.At) {
		a.reject(model.RejectReplay)
		return
	}
	if off, bound := a.offLine(p, rx.At); off > bound || off < -bound {
		a.reject(model.RejectDelay)
		a.strangeBroadcast(-off, rx.At)
		return
	}
	out.Sample, out.HasSample = a.broadcastSample(rx, p)
	a.follow(rx, p, out)
}

// contradictsUs says whether a server that nobody could ask tells another time than our
// clock, while that is synchronized: its packets may be another server's, sent again
// (threat 20). It may agree with the others, but not outvote them.
func (a *Association) contradictsUs(p *wire.Packet, at ntptime.Instant) bool {
	l := &a.listener
	if l.calibration != fallback || !a.synchronized() {
		return false
	}
	off := p.Transmit.Wall(a.pivot(at.Wall)).Add(l.delay).Sub(at.Wall)
	return off.Abs() > l.uncertain+a.system.ErrorBound+lineTolerance
}

// testBroadcast makes the packet tests that mean something without an exchange
// (RFC 5905 Figure 22, threat 20): stamps rising, key, not before its time.
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

// firstBroadcast begins the volley, after a random wait: one packet has reached many
// clients at once.
func (a *Association) firstBroadcast(rx *model.Received, p *wire.Packet, out *Output) {
	l := &a.listener
	l.begun = true
	a.cfg.Version, a.status.Version = p.Version, p.Version
	a.expect(rx, p)
	wait := time.Duration(a.random.Uint64() % uint64(min(volleySpread, l.interval)))
	l.volley.begin(rx.At.Raw.Add(wait))
	out.StatusChanged = true
}

// expect notes when the next broadcast is due, and what the server says of itself.
func (a *Association) expect(rx *model.Received, p *wire.Packet) {
	l := &a.listener
	l.interval = min(max(p.Poll, lowestPoll), highestPoll).Duration()
	l.waiting = rx.At.Raw.Add(l.interval + l.interval/2)
	a.heard(p, a.serverState(p, rx), rx.At)
	a.status.Interval, a.status.Poll = l.interval, min(max(p.Poll, lowestPoll), highestPoll)
}

// follow notes a broadcast that is believed.
func (a *Association) follow(rx *model.Received, p *wire.Packet, out *Output) {
	l := &a.listener
	a.expect(rx, p)
	l.line = line{valid: true, at: rx.At.Raw, value: a.lineOf(p, rx.At), error: l.uncertain}
	l.newest, l.arrival = p.Transmit, arrived{rx.At, rx.Stamp}
	if a.cfg.Key != nil {
		a.status.LastTransmit = l.newest
	}
	l.silent, l.strange = 0, 0
	a.status.Unanswered = 0
	a.status.Accepted++
	a.status.Refusals = model.Refusals{}
	a.shiftReach(true, rx.At, out)
	a.surveyed(p, rx.At)
	switch {
	case l.calibration == fallback && l.mayAsk(rx.At.Raw, volleyRest):
		l.volley.begin(rx.At.Raw) // the delay is only assumed
	case l.calibration == measured && !l.survey.made && a.maySurvey() && l.mayAsk(rx.At.Raw, volleyMinRest):
		l.survey.made = true
		l.volley.begin(rx.At.Raw)
	}
}

// lineOf is the server's time minus our oscillator's at the arrival of a broadcast.
func (a *Association) lineOf(p *wire.Packet, at ntptime.Instant) time.Duration {
	stamp := p.Transmit.Wall(a.pivot(at.Wall))
	return stamp.Add(a.listener.delay).Sub(ntptime.Wall(at.Raw))
}

// offLine says how far a broadcast lies from what the volley and the broadcasts before
// it say of the server's time, and how far it may: a replayed or delayed one does not
// fit, however well it is signed. Negative is late. With no line everything fits.
func (a *Association) offLine(p *wire.Packet, at ntptime.Instant) (off, bound time.Duration) {
	l := &a.listener
	if !l.line.valid {
		return 0, 0
	}
	expected, drift := a.expected(&l.line, at)
	bound = 2*(l.line.error+l.uncertain) + lineTolerance + drift
	return a.lineOf(p, at) - expected, bound
}

// expected is where a line leads until a moment, and how far our oscillator may have
// drifted from it.
func (a *Association) expected(l *line, at ntptime.Instant) (value, drift time.Duration) {
	elapsed := max(at.Raw.Sub(l.at), 0)
	if !a.synchronized() {
		return l.value, frequencyTolerance.Over(elapsed)
	}
	rate := min(lineDrift+4*a.system.FrequencyError, frequencyTolerance)
	return l.value + a.system.Frequency.Over(elapsed), rate.Over(elapsed)
}

// strangeBroadcast looks into packets off the line when several have come in a row
// with none on it between: a new volley tells whether the server's clock has changed;
// if that has just been made, broadcasts that are late by less than latestBroadcast
// have a longer way than the volley.
func (a *Association) strangeBroadcast(late time.Duration, at ntptime.Instant) {
	l := &a.listener
	if l.strange++; l.strange == 1 || late < l.late {
		l.late = late
	}
	if l.strange < strangePackets || l.volley.next != ntptime.Never {
		return
	}
	told := l.volley.answered > 0 && at.Raw.Sub(l.volley.began) < volleyCount*volleySpacing+(strangePackets+1)*l.interval
	switch {
	case told && l.late > 0 && l.late < latestBroadcast:
		l.delay += l.late
		l.uncertain += l.late
		l.strange = 0
	case l.mayAsk(at.Raw, volleyMinRest):
		l.volley.begin(at.Raw)
	case l.volley.answered == 0 && at.Raw.Sub(l.arrival.at.Raw) > strangePackets*l.interval:
		l.line, l.strange = line{}, 0 // nobody can tell us more than the broadcasts
	}
}

// broadcastSample makes the sample of a broadcast, or, interleaved, of the one before,
// whose precise transmit stamp the origin field holds (RFC 9769 §4): none where that
// one has given its sample already.
func (a *Association) broadcastSample(rx *model.Received, p *wire.Packet) (model.Sample, bool) {
	l := &a.listener
	pivot := a.pivot(rx.At.Wall)
	s := model.Sample{Source: a.cfg.ID, Kind: model.SampleBroadcast, T3: p.Transmit.Wall(pivot), T4: rx.At, Delay: l.delay,
		DelayError: l.uncertain, Server: a.serverState(p, rx), Authenticated: a.cfg.Key != nil,
		Dispersion: a.dispersion(p.Precision)}
	counted := l.counted
	l.counted = !a.refersBack(p)
	if l.counted {
		return s, true
	}
	s.T3, s.T4, s.Interleaved = p.Origin.Wall(pivot), l.arrival.at, true
	return s, !counted
}

// refersBack reports whether a broadcast is interleaved and its origin is the stamp of
// the last one believed: a little later than that said of itself (or earlier by the
// random bits of such a stamp), else another one came between.
func (a *Association) refersBack(p *wire.Packet) bool {
	l := &a.listener
	if a.cfg.Interleaved == InterleaveOff || p.Origin.IsZero() || l.arrival.at.Raw == 0 {
		return false
	}
	late := p.Origin.Sub(l.newest)
	return late >= -lineTolerance && late <= 10*lineTolerance
}
