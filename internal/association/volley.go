package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// volley is the series of mode 3 exchanges by which a broadcast client learns the
// delay to its server (RFC 5905 §9.2 NEWBC; router firmware does the same).
type volley struct {
	next       ntptime.Raw // when the next exchange, or the end, is due; Never: no volley
	began      ntptime.Raw // the last one
	left       int         // exchanges still to make
	answered   int         // exchanges of the last volley that gave a sample
	best       time.Duration
	prediction prediction // of the exchange with the shortest round trip
}

// A volley has volleyCount exchanges, the first after a random part of volleySpread
// and the others volleySpacing apart, or less if broadcasts come more often. A server
// that answers none of the first volleyTries is left alone: for volleyMinRest, then twice as
// long each time, up to volleyRest. Strange
// packets make no more than one volley in volleyMinRest, whoever sends them.
const (
	volleyCount     = 8
	volleySpread    = time.Second
	volleySpacing   = 2 * time.Second
	volleyTries     = 3
	volleyRest      = 15 * time.Minute
	volleyMinRest   = time.Minute
	shortestSpacing = 250 * time.Millisecond
	// mostSilentVolleys are as many as make the rest volleyRest.
	mostSilentVolleys = 5
)

// begin starts a volley at a time. What is known of the server stays in force until
// there are answers.
func (v *volley) begin(at ntptime.Raw) {
	*v = volley{next: at, began: at, left: volleyCount}
}

// unanswered gives the volley up when nobody answers.
func (v *volley) unanswered() {
	if v.answered == 0 && v.left <= volleyCount-volleyTries {
		v.left = 0
	}
}

// restOfSilence is how long a server is left alone that has answered none of the last
// volleys: what was lost by chance is asked for soon, who does not answer is left in peace.
func (l *broadcastClient) restOfSilence() time.Duration {
	return min(volleyMinRest<<(min(max(l.silentVolleys, 1), mostSilentVolleys)-1), volleyRest)
}

// mayAsk says whether a new volley may begin: none under way, the server did not
// refuse, and the last one is some time ago.
func (l *broadcastClient) mayAsk(at ntptime.Raw, rest time.Duration) bool {
	return !l.refusesExchanges && l.volley.next == ntptime.Never && at.Sub(l.volley.began) >= rest
}

// recalibrate begins a volley because our clock was changed: the machine may have
// slept, so the prediction is not valid any more.
func (l *broadcastClient) recalibrate(at ntptime.Raw) {
	if !l.begun || l.refusesExchanges {
		l.prediction = prediction{}
		return
	}
	l.volley.begin(at)
	l.transmitDelay = transmitDelay{}
	l.prediction, l.outliers = prediction{}, 0
}

// continueVolley makes the next exchange, or ends the volley after the last.
func (l *broadcastClient) continueVolley(a *Association, now ntptime.Instant, out *Output) {
	if l.volley.left == 0 {
		if a.cfg.MustAnswer && l.volley.answered == 0 && l.calibration == uncalibrated {
			a.demobilize(now, "the server answers nothing, and another one here does", out)
			return
		}
		l.endVolley(a)
		out.StatusChanged = true
		return
	}
	l.volley.left--
	a.request(now, false, out)
	l.volley.next = now.Raw.Add(min(volleySpacing, max(l.interval, shortestSpacing)))
}

// calibrated takes a sample of the volley; the one with the shortest round trip met the
// fewest queues, and half of it is the delay. No delay is below the precision
// (RFC 5905 §8), so that none is known without an error.
func (l *broadcastClient) calibrated(s *model.Sample, precision time.Duration) {
	delay := max(roundTrip(s), precision)
	l.volley.answered++
	if l.volley.answered > 1 && delay >= l.volley.best {
		return
	}
	l.volley.best = delay
	l.calibration, l.delay, l.uncertain = measured, delay/2, delay/2
	there := s.T2.Sub(ntptime.Wall(s.T1.Raw))
	back := s.T3.Sub(ntptime.Wall(s.T4.Raw))
	l.prediction = prediction{valid: true, at: s.T4.Raw, value: there/2 + back/2, error: delay / 2}
	l.volley.prediction = l.prediction
	l.outliers = 0
}

// endVolley falls back to the configured delay when nobody has ever answered.
func (l *broadcastClient) endVolley(a *Association) {
	l.volley.next, l.volley.left = ntptime.Never, 0
	a.pending = exchange{}
	if l.silentVolleys++; l.volley.answered > 0 {
		l.silentVolleys = 0
	}
	if l.volley.answered == 0 && l.calibration == uncalibrated {
		l.calibration, l.delay, l.uncertain = fallback, a.cfg.Delay, a.cfg.Delay
	}
	if l.volley.answered > 0 && l.mayCalibrateTransmitDelay(a) {
		l.transmitDelay = transmitDelay{made: true, left: transmitDelayCount, prediction: l.volley.prediction}
	}
}

// transmitDelay finds out how much later broadcasts arrive than half of the volley's round
// trip explains: their transmit timestamp is set some time before they leave. The
// shortest lateness of a few broadcasts after a volley is always there, and added to
// the delay.
type transmitDelay struct {
	made       bool       // or not needed
	left       int        // broadcasts still to look at
	prediction prediction // what the volley found
	least      time.Duration
}

// The calibration needs an oscillator whose frequency is known so well that it drifts less
// than transmitDelayDrift between the volley and the last of transmitDelayCount broadcasts.
const (
	transmitDelayCount = 4
	transmitDelayDrift = 20 * time.Microsecond
)

func (l *broadcastClient) mayCalibrateTransmitDelay(a *Association) bool {
	lasts := volleyCount*volleySpacing + (transmitDelayCount+1)*a.broadcastClient.interval
	return a.synchronized() && a.system.FrequencyError > 0 && a.system.FrequencyError.Over(lasts) <= transmitDelayDrift
}

// noteTransmitDelay takes one broadcast into the calibration under way.
func (l *broadcastClient) noteTransmitDelay(a *Association, p *wire.Packet, at ntptime.Instant) {
	if l.transmitDelay.left == 0 {
		return
	}
	expected, _ := l.expected(a, &l.transmitDelay.prediction, at)
	late := expected - l.serverMinusRaw(a, p, at)
	if l.transmitDelay.left == transmitDelayCount || late < l.transmitDelay.least {
		l.transmitDelay.least = late
	}
	if l.transmitDelay.left--; l.transmitDelay.left == 0 && l.transmitDelay.least > 0 {
		l.delay += l.transmitDelay.least
		l.uncertain += l.transmitDelay.least / 2
		l.prediction.value += l.transmitDelay.least
	}
}
