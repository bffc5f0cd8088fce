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
	next     ntptime.Raw // when the next exchange, or the end, is due; Never: no volley
	began    ntptime.Raw // the last one
	left     int         // exchanges still to make
	answered int         // exchanges of the last volley that gave a sample
	best     time.Duration
	line     line // of the exchange with the shortest round trip
}

// A volley has volleyCount exchanges, the first after a random part of volleySpread
// and the others volleySpacing apart, or less if broadcasts come more often. A server
// that answers none of the first volleyTries is left alone for volleyRest. Strange
// packets make no more than one volley in volleyMinRest, whoever sends them.
const (
	volleyCount     = 8
	volleySpread    = time.Second
	volleySpacing   = 2 * time.Second
	volleyTries     = 3
	volleyRest      = 15 * time.Minute
	volleyMinRest   = time.Minute
	shortestSpacing = 250 * time.Millisecond
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

// mayAsk says whether a new volley may begin: none under way, the server did not
// refuse, and the last one is some time ago.
func (l *listener) mayAsk(at ntptime.Raw, rest time.Duration) bool {
	return !l.deaf && l.volley.next == ntptime.Never && at.Sub(l.volley.began) >= rest
}

// recalibrate begins a volley because our clock was changed: the machine may have
// slept, so the line is not valid any more.
func (l *listener) recalibrate(at ntptime.Raw) {
	if !l.begun || l.deaf {
		l.line = line{}
		return
	}
	l.volley.begin(at)
	l.survey = survey{}
	l.line, l.strange = line{}, 0
}

// continueVolley makes the next exchange, or ends the volley after the last.
func (a *Association) continueVolley(now ntptime.Instant, out *Output) {
	l := &a.listener
	if l.volley.left == 0 {
		if a.cfg.MustAnswer && l.volley.answered == 0 && l.calibration == uncalibrated {
			a.demobilize(now, "the server answers nothing, and another one here does", out)
			return
		}
		a.endVolley()
		out.StatusChanged = true
		return
	}
	l.volley.left--
	a.request(now, out)
	l.volley.next = now.Raw.Add(min(volleySpacing, max(l.interval, shortestSpacing)))
}

// calibrated takes a sample of the volley; the one with the shortest round trip met the
// fewest queues, and half of it is the delay. No delay is below the precision
// (RFC 5905 §8), so that none is known without an error.
func (l *listener) calibrated(s *model.Sample, precision time.Duration) {
	delay := max(roundTrip(s), precision)
	l.volley.answered++
	if l.volley.answered > 1 && delay >= l.volley.best {
		return
	}
	l.volley.best = delay
	l.calibration, l.delay, l.uncertain = measured, delay/2, delay/2
	there := s.T2.Sub(ntptime.Wall(s.T1.Raw))
	back := s.T3.Sub(ntptime.Wall(s.T4.Raw))
	l.line = line{valid: true, at: s.T4.Raw, value: there/2 + back/2, error: delay / 2}
	l.volley.line = l.line
	l.strange = 0
}

// endVolley falls back to the configured delay when nobody has ever answered.
func (a *Association) endVolley() {
	l := &a.listener
	l.volley.next, l.volley.left = ntptime.Never, 0
	a.pending = exchange{}
	if l.volley.answered == 0 && l.calibration == uncalibrated {
		l.calibration, l.delay, l.uncertain = fallback, a.cfg.Delay, a.cfg.Delay
	}
	if l.volley.answered > 0 && a.maySurvey() {
		l.survey = survey{made: true, left: surveyCount, line: l.volley.line}
	}
}

// survey finds out how much later broadcasts arrive than half of the volley's round
// trip explains: their transmit stamp is struck some time before they leave. The
// shortest lateness of a few broadcasts after a volley is always there, and added to
// the delay.
type survey struct {
	made  bool // or not needed
	left  int  // broadcasts still to look at
	line  line // what the volley found
	least time.Duration
}

// A survey needs an oscillator whose frequency is known so well that it drifts less
// than surveyDrift between the volley and the last of surveyCount broadcasts.
const (
	surveyCount = 4
	surveyDrift = 20 * time.Microsecond
)

func (a *Association) maySurvey() bool {
	lasts := volleyCount*volleySpacing + (surveyCount+1)*a.listener.interval
	return a.synchronized() && a.system.FrequencyError > 0 && a.system.FrequencyError.Over(lasts) <= surveyDrift
}

// surveyed takes one broadcast into the survey under way.
func (a *Association) surveyed(p *wire.Packet, at ntptime.Instant) {
	l := &a.listener
	if l.survey.left == 0 {
		return
	}
	expected, _ := a.expected(&l.survey.line, at)
	late := expected - a.lineOf(p, at)
	if l.survey.left == surveyCount || late < l.survey.least {
		l.survey.least = late
	}
	if l.survey.left--; l.survey.left == 0 && l.survey.least > 0 {
		l.delay += l.survey.least
		l.uncertain += l.survey.least / 2
		l.line.value += l.survey.least
	}
}

// refused ends the volley for good: the server does not want to be asked.
func (a *Association) refused() {
	a.listener.deaf = true
	a.endVolley()
}
