package clock

import (
	"sync"
	"sync/atomic"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// software is a disciplined timeline in this process, over an oscillator that runs
// 1 + frequency times as fast as the host's. Nothing that happens to CLOCK_REALTIME
// after the start disturbs it.
type software struct {
	host      Host
	origin    int64             // CLOCK_MONOTONIC_RAW when Raw was firstRaw
	frequency ntptime.Frequency // of the oscillator against the host's
	tight     time.Duration
	precision ntptime.Log2
	now       atomic.Pointer[timeline]
	paired    atomic.Pointer[pairing]

	mu      sync.Mutex // serializes everything below
	last    model.Correction
	slept   time.Duration   // the host's sleep seen so far
	pending model.ClockJump // noticed inside Apply, told by the next CheckJump
	leap    model.Applied
	leapt   bool
}

// timeline is a line with the leap second that may lie on it, and what was before.
type timeline struct {
	line
	leapAt ntptime.Wall  // the line's time at which it happens
	leapBy time.Duration // 0: none is armed
	prev   *timeline     // for readings from before the line
}

// wallAt returns the disciplined time at r, with the leap second once it is reached.
func (t *timeline) wallAt(r ntptime.Raw) ntptime.Wall {
	for r < t.raw && t.prev != nil {
		t = t.prev
	}
	w := t.line.wallAt(r)
	if t.leapBy != 0 && w >= t.leapAt {
		w = w.Add(t.leapBy)
	}
	return w
}

// epoch is a moment at which civil time and the host's oscillator are taken to agree.
type epoch struct {
	pair
	slept time.Duration // of the host, before it
}

func readEpoch(h Host) epoch {
	return epoch{pair: readPair(h, tightWidth(h)), slept: asleep(h)}
}

// civil is the time since e by the host's oscillator alone, given its sleep.
func (e *epoch) civil(hostRaw int64, slept time.Duration) ntptime.Wall {
	return e.real.Add(time.Duration(hostRaw-e.raw) + slept - e.slept)
}

// start puts the timeline at offset from the civil time of e and lets it run.
func (s *software) start(host Host, e epoch, offset time.Duration, frequency ntptime.Frequency) {
	s.host, s.frequency = host, frequency
	s.tight = tightWidth(host)
	s.slept = asleep(host)
	p := readPair(host, s.tight)
	s.origin = p.raw
	s.paired.Store(&pairing{pair: p})
	s.now.Store(&timeline{line: line{raw: firstRaw, wall: e.civil(p.raw, s.slept).Add(offset)}})
	s.precision = measurePrecision(s.Wall)
}

// oscillator turns a reading of the host's oscillator into ours.
func (s *software) oscillator(hostRaw int64) ntptime.Raw {
	elapsed := time.Duration(hostRaw - s.origin)
	return firstRaw + ntptime.Raw(elapsed+scale(elapsed, s.frequency))
}

// Now implements Clock.
func (s *software) Now() ntptime.Instant { return s.instant(s.host.MonotonicRaw()) }

func (s *software) instant(hostRaw int64) ntptime.Instant {
	raw := s.oscillator(hostRaw)
	return ntptime.Instant{Wall: s.now.Load().wallAt(raw), Raw: raw}
}

// Wall implements Clock.
func (s *software) Wall() ntptime.Wall { return s.Now().Wall }

// At implements Clock: a timestamp of the kernel is on CLOCK_REALTIME, which others may
// set; it is led back to the host's oscillator, and from there to our timeline.
func (s *software) At(realtime ntptime.Wall) ntptime.Instant {
	real, monotonic := s.host.Realtime()
	return s.instant(s.pairingOf(real, monotonic).hostRaw(realtime, ntptime.Wall(real)))
}

// AtLatest implements Clock.
func (s *software) AtLatest(realtime ntptime.Wall) ntptime.Instant {
	return s.instant(s.paired.Load().hostRaw(realtime, realtime))
}

// Quick implements Clock.
func (s *software) Quick() ntptime.Instant {
	real, monotonic := s.host.Realtime()
	return s.instant(s.pairingOf(real, monotonic).hostRaw(ntptime.Wall(real), ntptime.Wall(real)))
}

// pairingOf is the pairing that holds at a reading of the host's clocks.
func (s *software) pairingOf(real, monotonic int64) *pairing {
	if p := s.paired.Load(); !p.set(real, monotonic) {
		return p
	}
	return s.pair()
}

// Rate implements Clock.
func (s *software) Rate() ntptime.Frequency { return s.now.Load().rate }

// Precision implements Clock.
func (s *software) Precision() ntptime.Log2 { return s.precision }

// Until implements Clock.
func (s *software) Until(r ntptime.Raw) time.Duration {
	return until(r, s.oscillator(s.host.MonotonicRaw()), 1/(1+s.frequency)-1)
}

// Apply implements Clock. It cannot fail. A reading made between the moment of the
// change and its publication (under 1 µs, unless this goroutine is preempted just
// there) still shows the old line.
func (s *software) Apply(c model.Correction) model.Applied {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice()
	raw := s.oscillator(s.host.MonotonicRaw())
	before := s.now.Load().wallAt(raw)
	rate := boundRate(c.Frequency + c.Slew)
	s.begin(line{raw: raw, wall: before.Add(c.Step), rate: rate}, c.Kernel.Leap)
	s.last = c
	at := ntptime.Instant{Wall: before.Add(c.Step), Raw: raw}
	return model.Applied{At: at, BeforeWall: before, Rate: rate, Correction: c}
}

// begin publishes a new line, with the leap second armed for the end of its day, as
// the kernel would do it: once, until it has been disarmed.
func (s *software) begin(l line, leap wire.Leap) {
	t := &timeline{line: l, leapBy: leapStep(leap)}
	if leap == s.last.Kernel.Leap && s.now.Load().leapBy == 0 {
		t.leapBy = 0 // it has happened already
	}
	t.leapAt = nextMidnight(l.wall)
	if t.leapBy > 0 {
		t.leapAt = t.leapAt.Add(-time.Second)
	}
	s.publish(t)
}

// publish puts t in force and keeps what was before for timestamps of the last moments.
func (s *software) publish(t *timeline) {
	t.prev = s.now.Load().latest(oldStretches)
	s.now.Store(t)
}

// latest returns t with at most n−1 timelines before it.
func (t *timeline) latest(n int) *timeline {
	if t == nil || n == 0 {
		return nil
	}
	kept := *t
	kept.prev = t.prev.latest(n - 1)
	return &kept
}

// CheckJump implements Clock. Sleep parts this timeline from true time: it is set forward
// by as much as CLOCK_BOOTTIME says. And a virtual clock may be set.
func (s *software) CheckJump() (model.ClockJump, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice()
	s.pair()
	j := s.pending
	s.pending = model.ClockJump{}
	return j, j.Slept != 0 || j.By != 0
}

// notice makes good for sleep, and takes a leap second that has happened off the timeline.
func (s *software) notice() {
	if slept := asleep(s.host) - s.slept; slept >= sleepBound {
		s.slept += slept
		s.jump(slept, slept)
	}
	s.foldLeap()
}

// jump sets the timeline forward by a time, of which the host has slept some, for the next
// CheckJump to tell.
func (s *software) jump(by, slept time.Duration) {
	at := s.Now()
	at.Wall = at.Wall.Add(by)
	t := *s.now.Load()
	t.wall, t.raw = t.line.wallAt(at.Raw).Add(by), at.Raw
	s.publish(&t)
	s.pending = model.ClockJump{At: at, By: s.pending.By + by, Slept: s.pending.Slept + slept}
}

// foldLeap makes a leap second that the timeline has reached a part of its line.
func (s *software) foldLeap() {
	t := s.now.Load()
	raw := s.oscillator(s.host.MonotonicRaw())
	w := t.line.wallAt(raw)
	if t.leapBy == 0 || w < t.leapAt {
		return
	}
	made := s.last
	made.Step = t.leapBy
	at := ntptime.Instant{Wall: w.Add(t.leapBy), Raw: raw}
	s.leapt, s.leap = true, model.Applied{At: at, BeforeWall: w, Rate: t.rate, Correction: made}
	s.publish(&timeline{line: line{raw: raw, wall: at.Wall, rate: t.rate}})
}

// LeapDone implements Clock.
func (s *software) LeapDone() (model.Applied, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.leapt
	s.leapt = false
	return s.leap, done
}

// Close implements Clock.
func (s *software) Close() error {
	s.mu.Lock()
	c := s.last
	s.mu.Unlock()
	c.Step, c.Slew = 0, 0
	s.Apply(c)
	return nil
}
