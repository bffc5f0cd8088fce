package association

import (
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// pollProcess decides when to poll (RFC 5905 §13): the interval asked for by the
// system process within min_poll and max_poll, and what its phase makes of it.
//
//	            startUp, restart, a server found again
//	     ┌───────────────────────────────────────────────────┐
//	     │                                                   ▼
//	┌─────────┐    polls used up, or the hint is min_poll  ┌─────────┐
//	│ regular │ ◀──────────────────────────────────────────│ startup │
//	└─────────┘ ◀────────────────────────┐     or RATE     └─────────┘
//	     │   a poll, with `burst`, or    │ polls used up,
//	     │   Burst by an operator        │ or RATE
//	     │        ┌───────┐              │
//	     └──────▶ │ burst │ ─────────────┘
//	              └───────┘
//
// Whatever the phase, RATE sets a floor under the interval that comes down again with
// time, and a server that is silent for long is asked less and less.
type pollProcess struct {
	min, max time.Duration
	iburst   bool
	burst    bool

	phase pollPhase
	left  int // polls left of a startup or burst
	// startupPolls are those of a startup's that wait for no hint.
	startupPolls int

	hint           time.Duration // asked for by the system process; 0: nothing yet
	remote         time.Duration // the peer's own interval (symmetric modes); 0: unknown
	followPeerPoll bool          // symmetric passive: the peer's interval is ours
	isUpstream     bool          // the peer follows us: our own wishes do not count
	rateFloor      time.Duration // raised by RATE; 0: not
	sinceRate      int           // replies since the floor was raised or lowered
	missed         int           // polls in a row without an answer
	answeredShare  float64       // of the polls up to the last answer, lately; 0: no answer yet

	next      ntptime.Raw   // when the next poll is due
	spacing   time.Duration // between the last poll and next, before jitter
	at        ntptime.Raw   // last poll
	polled    bool          // at is set
	expedited bool          // next was brought forward: no new hint puts it off
}

// pollPhase says what the intervals between polls are.
type pollPhase uint8

const (
	phaseRegular pollPhase = iota // the interval in force
	phaseStartup                  // burstSpacing, or closer than min_poll as the hints say
	phaseBurst                    // burstSpacing
)

// Quick first polls (RFC 5905 §13: iburst, BCOUNT 8 at 2 s; the estimator asks by hints
// for its own start: 14 polls that begin 2 s apart).
const (
	burstSpacing  = 2 * time.Second
	burstCount    = 8  // of a burst, and of a start to which nobody answers
	startCount    = 16 // at most, at a start
	unhintedCount = 4  // at a start, whatever the hints say
	againCount    = 4  // when a silent server is back, or our clock was changed
	unreachPolls  = 12 // UNREACH of RFC 5905's code: then the interval doubles
	lossMemory    = 32 // polls over which the share of answers is taken
	lossDoubt     = 7  // a silence that losses bring about once in e^7 times is none of theirs
	unreachMost   = 256
)

func (p *pollProcess) init(cfg *Config, now ntptime.Instant) {
	p.min, p.max = cfg.MinPoll.Duration(), cfg.MaxPoll.Duration()
	p.next = now.Raw
}

// startUp is a client's beginning.
func (p *pollProcess) startUp(iburst, burst bool) {
	p.iburst, p.burst = iburst, burst
	if iburst {
		p.enterStartup(startCount, unhintedCount)
	}
}

// openWith is an active peer's: at the spacing of a burst up to the first mode 1.
func (p *pollProcess) openWith(exchanges int) { p.enterStartup(exchanges+1, exchanges+1) }

// follow is a passive peer's: the packet that mobilizes it is on its way.
func (p *pollProcess) follow(now ntptime.Instant) {
	p.followPeerPoll = true
	p.next = now.Raw.Add(burstSpacing)
}

// enterStartup begins a startup, or makes the one under way longer.
func (p *pollProcess) enterStartup(polls, unhinted int) {
	if p.phase != phaseStartup {
		p.phase, p.left, p.startupPolls = phaseStartup, 0, 0
	}
	p.left, p.startupPolls = max(p.left, polls), max(p.startupPolls, unhinted)
}

// endStartup goes on at the regular pace.
func (p *pollProcess) endStartup() { p.phase, p.left, p.startupPolls = phaseRegular, 0, 0 }

// own is the interval that we want ourselves: what the system process asks for,
// within min_poll and max_poll. Of a peer that follows us we want nothing: it shall
// poll as often as it likes.
func (p *pollProcess) own() time.Duration {
	if p.followPeerPoll || p.isUpstream {
		return p.min
	}
	return min(max(p.hint, p.min), p.max)
}

// wanted is the interval of a server in good health: our own, not below the peer's.
func (p *pollProcess) wanted() time.Duration {
	return min(max(p.own(), p.remote), p.max)
}

// interval is the poll interval in force outside a burst.
func (p *pollProcess) interval() time.Duration {
	interval := max(p.wanted(), p.rateFloor)
	for i := p.unreachable(); i < p.missed && interval < p.max; i++ {
		interval = min(2*interval, p.max)
	}
	return interval
}

// pause is the time from a poll to the next, before jitter.
func (p *pollProcess) pause() time.Duration {
	interval := p.interval()
	spacing := min(burstSpacing, p.min)
	switch {
	case p.phase == phaseBurst:
		return min(spacing, interval)
	case p.phase == phaseRegular, p.rateFloor > 0, p.missed >= burstCount:
		return interval
	case p.startupPolls == 0 && p.hint > 0:
		return min(max(p.hint, spacing), interval)
	}
	return min(spacing, interval)
}

// exponent is the poll field of a packet: our own interval as a rounded log2. Only a
// passive side repeats the peer's: two that repeat the slower one never get quicker.
func (p *pollProcess) exponent() ntptime.Log2 {
	if p.followPeerPoll {
		return roundedLog2(p.wanted())
	}
	return roundedLog2(max(p.own(), p.rateFloor))
}

// sent counts a poll at now and sets the time of the next.
func (p *pollProcess) sent(now ntptime.Instant, random Random) {
	p.at, p.polled, p.expedited = now.Raw, true, false
	switch p.phase {
	case phaseRegular:
		if length := p.burstLength(); p.burst && p.missed == 0 && length > 0 {
			p.phase, p.left = phaseBurst, length
		}
	case phaseStartup:
		enough := p.startupPolls == 0 && p.hint >= p.min // the system process has seen enough
		if p.left--; p.left <= 0 || enough {
			p.endStartup()
		}
	case phaseBurst:
		if p.left--; p.left <= 0 {
			p.phase = phaseRegular
		}
	}
	p.plan(p.pause(), random)
}

// burstLength is how many polls follow a regular one: a burst takes at most half of
// the interval.
func (p *pollProcess) burstLength() int {
	return min(burstCount-1, int(p.interval()/(2*burstSpacing))-1)
}

// plan sets the next poll spacing after the last one, ±2 % so that clients do not
// fall into step (RFC 5905 §13), and not closer than min_poll outside a burst.
func (p *pollProcess) plan(spacing time.Duration, random Random) {
	p.spacing = spacing
	share := float64(random.Uint64()>>11)/(1<<53)*0.04 - 0.02
	jitter := time.Duration(share * float64(spacing))
	if jitter < 0 && spacing+jitter < p.min && spacing >= p.min {
		jitter = -jitter
	}
	p.next = p.at.Add(spacing + jitter)
}

// unreachable is how many polls without an answer make a server unreachable. Of a path
// that loses packets all the time a dozen in a row means nothing: asking less often what
// answers seldom would lose the rest.
func (p *pollProcess) unreachable() int {
	if p.answeredShare == 0 || p.answeredShare >= 1 {
		return unreachPolls
	}
	return int(min(max(-lossDoubt/math.Log(1-p.answeredShare), unreachPolls), unreachMost))
}

// answered notes a reply and reports whether the server was silent for long: it is asked
// again quickly, and the next poll is to be set anew.
func (p *pollProcess) answered() (isBack bool) {
	isBack = p.missed >= burstCount
	if lossy := p.unreachable() > unreachPolls; isBack && !lossy && p.iburst && p.rateFloor == 0 {
		p.enterStartup(againCount, againCount)
	}
	if p.answeredShare == 0 {
		p.answeredShare = 1 / float64(p.missed+1)
	} else {
		p.answeredShare *= math.Pow(1-1.0/lossMemory, float64(p.missed))
		p.answeredShare += (1 - p.answeredShare) / lossMemory
	}
	p.missed = 0
	p.startupPolls = max(p.startupPolls-1, 0)
	if p.rateFloor > 0 {
		p.recover()
	}
	return isBack
}

// unanswered notes a poll without a reply.
func (p *pollProcess) unanswered() { p.missed++ }

// reschedule moves the next poll when the interval has changed since it was set.
func (p *pollProcess) reschedule(now ntptime.Instant, random Random) {
	if spacing := p.pause(); p.polled && !p.expedited && spacing != p.spacing {
		p.plan(spacing, random)
		p.next = max(p.next, now.Raw)
	}
}

// onHint takes what the system process asks for.
func (p *pollProcess) onHint(h model.Hint, now ntptime.Instant, random Random) {
	if h.Interval > 0 {
		p.hint = h.Interval
		p.reschedule(now, random)
	}
	if h.Soon > 0 && p.rateFloor == 0 {
		p.bring(now.Raw.Add(h.Soon))
	}
}

// bring makes the next poll at a time, if that is earlier, and not right after the
// last poll.
func (p *pollProcess) bring(at ntptime.Raw) {
	if p.polled {
		at = max(at, p.at.Add(min(burstSpacing, p.min)))
	}
	if at < p.next {
		p.next, p.expedited = at, true
	}
}

// restart makes a poll soon, and a few of a burst after it where iburst allows.
func (p *pollProcess) restart(now ntptime.Instant) {
	if p.rateFloor > 0 {
		return
	}
	if p.iburst {
		p.enterStartup(againCount, againCount)
	}
	p.bring(now.Raw)
}

// enterBurst makes so many polls burstSpacing apart, the first at once.
func (p *pollProcess) enterBurst(polls int, now ntptime.Instant) {
	if p.phase != phaseBurst {
		p.endStartup()
		p.phase = phaseBurst
	}
	p.left = max(p.left, polls)
	p.bring(now.Raw)
}

// retrySpacing is how long a packet that could not be sent waits at most: a network
// that comes up is used within seconds.
const retrySpacing = 8 * time.Second

// retry puts the poll that failed locally where the next one soon is.
func (p *pollProcess) retry(now ntptime.Instant) {
	switch { // it did not cost the server anything
	case p.phase == phaseBurst:
		p.left = min(p.left+1, burstCount)
	case p.iburst && p.missed <= burstCount:
		p.enterStartup(min(p.left+1, startCount), 0)
	}
	p.next = min(p.next, now.Raw.Add(max(retrySpacing, min(p.min, burstSpacing))))
}

// roundedLog2 is the nearest exponent of a positive interval.
func roundedLog2(d time.Duration) ntptime.Log2 {
	return ntptime.Log2(math.Round(math.Log2(d.Seconds())))
}

// flooredLog2 is the exponent of the largest power of two not above a positive interval.
func flooredLog2(d time.Duration) ntptime.Log2 {
	e := roundedLog2(d)
	if e.Duration() > d {
		e--
	}
	return e
}
