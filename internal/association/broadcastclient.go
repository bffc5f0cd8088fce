package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// broadcastClient is the role of who follows mode 5 (RFC 5905 §3.3, §9.2 NEWBC): the volley
// of client exchanges that finds the delay (volley.go), and the broadcasts after it.
type broadcastClient struct {
	volley           volley
	begun            bool // there has been a first broadcast
	refusesExchanges bool // the server refused to be asked (DENY, RSTR)
	silentVolleys    int  // in a row, that the server has answered nothing of

	calibration calibration
	delay       time.Duration // one way
	uncertain   time.Duration // of delay

	transmitDelay    transmitDelay     // how late broadcasts are, by a volley
	prediction       prediction        // where the server's time lies on our oscillator's scale
	newest           ntptime.Timestamp // transmit timestamp of the last packet believed
	arrival          arrived           // of that packet; zero value before the first
	counted          bool              // that packet has given a sample of its own
	interval         time.Duration     // what the last packet said of itself
	nextDue          ntptime.Raw       // when the next one is overdue
	missedBroadcasts int               // intervals in a row without one
	outliers         int               // packets in a row off the prediction
	late             time.Duration     // by how much the least late of them was late
}

// calibration says where the delay comes from.
type calibration uint8

const (
	uncalibrated calibration = iota
	fallback                 // the server answers no exchange: Config.Delay
	measured                 // half of the volley's shortest round trip
)

// prediction is what we expect of the server's time minus our oscillator's reading. That scale is not
// disturbed by what is done to our clock.
type prediction struct {
	valid bool
	at    ntptime.Raw
	value time.Duration
	error time.Duration
}

// How far a broadcast may lie off the prediction: what its delay and the prediction leave open,
// queues (residualTolerance), and what our oscillator may have gained meanwhile: residualDrift
// once the system process knows its frequency, frequencyTolerance before.
const (
	residualTolerance = time.Millisecond
	residualDrift     = 15 * ntptime.PPM
)

// outlierPackets off the prediction in a row are looked into. A broadcast may be late by
// latestBroadcast where the medium holds it back (wireless links do until clients
// wake); one that is later is a replay.
const (
	outlierPackets  = 3
	latestBroadcast = time.Second
)

func (l *broadcastClient) start(a *Association, now ntptime.Instant) {
	a.status.Broadcast = true
	l.interval = defaultInterval // until the first broadcast says more
	l.volley.next, l.nextDue = ntptime.Never, now.Raw.Add(l.interval)
	l.newest = a.cfg.LastTransmit
	a.poll.init(&a.cfg, now)
}

func (l *broadcastClient) deadline(a *Association) ntptime.Raw {
	if a.pending.state != idle {
		return min(l.nextDue, a.pending.deadline)
	}
	return min(l.nextDue, l.volley.next)
}

// onDeadline does what is due: the next exchange of the volley, its end, or a broadcast
// that did not come.
func (l *broadcastClient) onDeadline(a *Association, now ntptime.Instant, out *Output) {
	if a.pending.state != idle && now.Raw >= a.pending.deadline {
		a.missed(now, out)
	}
	if a.pending.state == idle && now.Raw >= l.volley.next {
		l.continueVolley(a, now, out)
	}
	if now.Raw >= l.nextDue {
		l.overdue(a, now, out)
	}
}

func (l *broadcastClient) onClockChanged(_ *Association, now ntptime.Instant, _ *Output) {
	l.recalibrate(now.Raw)
}

func (*broadcastClient) packetSent(uint32) *transmission { return nil }

// answered and missed leave the reach register alone: it counts broadcasts.
func (*broadcastClient) answered(*Association, bool, ntptime.Instant, *Output) {}

func (l *broadcastClient) missed(*Association, ntptime.Instant, *Output) { l.volley.unanswered() }

func (l *broadcastClient) measured(a *Association, _ ntptime.Instant, out *Output) {
	l.calibrated(&out.Sample, a.precision(&out.Sample))
	a.status.Calibrated = true
}

// slowedDown ends the volley: the server has answered often enough.
func (l *broadcastClient) slowedDown(a *Association, _ time.Duration, _ ntptime.Instant) {
	l.endVolley(a)
	l.silentVolleys = mostSilentVolleys
}

// denied gives up the calibration alone: the server refuses to be asked, not to be heard.
func (l *broadcastClient) denied(a *Association, _ wire.ReferenceID, _ ntptime.Instant, _ *Output) {
	l.refusesExchanges = true
	l.endVolley(a)
}

// overdue counts a broadcast that did not come; eight in a row are the end of a
// dynamic association.
func (l *broadcastClient) overdue(a *Association, now ntptime.Instant, out *Output) {
	l.missedBroadcasts++
	a.status.Unanswered = l.missedBroadcasts
	l.nextDue = now.Raw.Add(l.interval)
	a.shiftReach(false, now, out)
	if l.missedBroadcasts >= silentPolls && a.cfg.Dynamic {
		a.demobilize(now, "the server is silent", out)
	}
}

// onPacket takes a mode 5 packet. One that is refused changes nothing that the true
// ones depend on, and never ends the association (CVE-2015-7979).
func (l *broadcastClient) onPacket(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	if reason := l.testBroadcast(a, rx, p); reason != model.RejectNone {
		a.reject(reason)
		return
	}
	if !l.begun {
		l.firstBroadcast(a, rx, p, out)
	}
	if l.calibration == uncalibrated || !l.prediction.valid && l.volley.next != ntptime.Never {
		a.reject(model.RejectUncalibrated) // the volley tells first what to think of it
		return
	}
	if l.contradictsUs(a, p, rx.At) {
		a.reject(model.RejectReplay)
		return
	}
	if off, bound := l.residual(a, p, rx.At); off > bound || off < -bound {
		a.reject(model.RejectDelay)
		l.outlierBroadcast(a, -off, rx.At)
		return
	}
	out.Sample, out.HasSample = l.broadcastSample(a, rx, p)
	a.status.Timestamps = rx.Timestamp
	l.follow(a, rx, p, out)
}

// contradictsUs says whether a server that nobody could ask tells another time than our
// clock, while that is synchronized: its packets may be another server's, sent again
// (threat 20). It may agree with the others, but not outvote them.
func (l *broadcastClient) contradictsUs(a *Association, p *wire.Packet, at ntptime.Instant) bool {
	if l.calibration != fallback || !a.synchronized() {
		return false
	}
	off := p.Transmit.Wall(a.pivot(at.Wall)).Add(l.delay).Sub(at.Wall)
	return off.Abs() > l.uncertain+a.system.ErrorBound+residualTolerance
}

// testBroadcast makes the packet tests that mean something without an exchange
// (RFC 5905 Figure 22, threat 20): timestamps rising, key, not before its time.
func (l *broadcastClient) testBroadcast(a *Association, rx *model.Received, p *wire.Packet) model.RejectReason {
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
func (l *broadcastClient) firstBroadcast(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	l.begun = true
	a.cfg.Version, a.status.Version = p.Version, p.Version
	l.expect(a, rx, p)
	wait := time.Duration(a.random.Uint64() % uint64(min(volleySpread, l.interval)))
	l.volley.begin(rx.At.Raw.Add(wait))
	out.StatusChanged = true
}

// expect notes when the next broadcast is due, and what the server says of itself.
func (l *broadcastClient) expect(a *Association, rx *model.Received, p *wire.Packet) {
	l.interval = min(max(p.Poll, lowestPoll), highestPoll).Duration()
	l.nextDue = rx.At.Raw.Add(l.interval + l.interval/2)
	a.heard(p, a.serverState(p, rx), rx)
	a.status.Interval, a.status.Poll = l.interval, min(max(p.Poll, lowestPoll), highestPoll)
}

// follow notes a broadcast that is believed.
func (l *broadcastClient) follow(a *Association, rx *model.Received, p *wire.Packet, out *Output) {
	l.expect(a, rx, p)
	l.prediction = prediction{valid: true, at: rx.At.Raw, value: l.serverMinusRaw(a, p, rx.At), error: l.uncertain}
	l.newest, l.arrival = p.Transmit, arrived{rx.At, rx.Timestamp}
	if a.cfg.Key != nil {
		a.status.LastTransmit = l.newest
	}
	l.missedBroadcasts, l.outliers = 0, 0
	a.status.Unanswered = 0
	a.status.Accepted++
	a.status.Refusals = model.Refusals{}
	a.shiftReach(true, rx.At, out)
	l.noteTransmitDelay(a, p, rx.At)
	switch {
	case l.calibration == fallback && l.mayAsk(rx.At.Raw, l.restOfSilence()):
		l.volley.begin(rx.At.Raw) // the delay is only assumed
	case l.calibration == measured && !l.transmitDelay.made && l.mayCalibrateTransmitDelay(a) && l.mayAsk(rx.At.Raw, volleyMinRest):
		l.transmitDelay.made = true
		l.volley.begin(rx.At.Raw)
	}
}

// serverMinusRaw is the server's time minus our oscillator's at the arrival of a broadcast.
func (l *broadcastClient) serverMinusRaw(a *Association, p *wire.Packet, at ntptime.Instant) time.Duration {
	timestamp := p.Transmit.Wall(a.pivot(at.Wall))
	return timestamp.Add(a.broadcastClient.delay).Sub(ntptime.Wall(at.Raw))
}

// residual says how far a broadcast lies from what the volley and the broadcasts before
// it say of the server's time, and how far it may: a replayed or delayed one does not
// fit, however well it is signed. Negative is late. With no prediction everything fits.
func (l *broadcastClient) residual(a *Association, p *wire.Packet, at ntptime.Instant) (off, bound time.Duration) {
	if !l.prediction.valid {
		return 0, 0
	}
	expected, drift := l.expected(a, &l.prediction, at)
	bound = 2*(l.prediction.error+l.uncertain) + residualTolerance + drift
	return l.serverMinusRaw(a, p, at) - expected, bound
}

// expected is where a prediction leads until a moment, and how far our oscillator may have
// drifted from it.
func (l *broadcastClient) expected(a *Association, from *prediction, at ntptime.Instant) (value, drift time.Duration) {
	elapsed := max(at.Raw.Sub(from.at), 0)
	if !a.synchronized() {
		return from.value, frequencyTolerance.Over(elapsed)
	}
	rate := min(residualDrift+4*a.system.FrequencyError, frequencyTolerance)
	return from.value + a.system.Frequency.Over(elapsed), rate.Over(elapsed)
}

// outlierBroadcast looks into packets off the prediction when several have come in a row
// with none on it between: a new volley tells whether the server's clock has changed;
// if that has just been made, broadcasts that are late by less than latestBroadcast
// have a longer way than the volley.
func (l *broadcastClient) outlierBroadcast(a *Association, late time.Duration, at ntptime.Instant) {
	if l.outliers++; l.outliers == 1 || late < l.late {
		l.late = late
	}
	if l.outliers < outlierPackets || l.volley.next != ntptime.Never {
		return
	}
	told := l.volley.answered > 0 && at.Raw.Sub(l.volley.began) < volleyCount*volleySpacing+(outlierPackets+1)*l.interval
	switch {
	case told && l.late > 0 && l.late < latestBroadcast:
		l.delay += l.late
		l.uncertain += l.late
		l.outliers = 0
	case l.mayAsk(at.Raw, volleyMinRest):
		l.volley.begin(at.Raw)
	case l.volley.answered == 0 && at.Raw.Sub(l.arrival.at.Raw) > outlierPackets*l.interval:
		l.prediction, l.outliers = prediction{}, 0 // nobody can tell us more than the broadcasts
	}
}

// broadcastSample makes the sample of a broadcast, or, interleaved, of the one before,
// whose precise transmit timestamp the origin field holds (RFC 9769 §4): none where that
// one has given its sample already.
func (l *broadcastClient) broadcastSample(a *Association, rx *model.Received, p *wire.Packet) (model.Sample, bool) {
	pivot := a.pivot(rx.At.Wall)
	s := model.Sample{Source: a.cfg.ID, Kind: model.SampleBroadcast, T3: p.Transmit.Wall(pivot), T4: rx.At, Delay: l.delay,
		DelayError: l.uncertain, Server: a.serverState(p, rx), Authenticated: a.cfg.Key != nil,
		Dispersion: a.dispersion(p.Precision)}
	counted := l.counted
	l.counted = !l.refersBack(a, p)
	if l.counted {
		return s, true
	}
	s.T3, s.T4, s.Interleaved = p.Origin.Wall(pivot), l.arrival.at, true
	return s, !counted
}

// refersBack reports whether a broadcast is interleaved and its origin is the timestamp of
// the last one believed: a little later than that said of itself (or earlier by the
// random bits of such a timestamp), else another one came between.
func (l *broadcastClient) refersBack(a *Association, p *wire.Packet) bool {
	if a.cfg.Interleaved == InterleaveOff || p.Origin.IsZero() || l.arrival.at.Raw == 0 {
		return false
	}
	late := p.Origin.Sub(l.newest)
	return late >= -residualTolerance && late <= 10*residualTolerance
}
