package clock

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// ErrPrivilege says that the kernel does not let us set its clock.
var ErrPrivilege = errors.New("setting the system clock needs CAP_SYS_TIME; run timeball as its service, or use clock.driver: observe")

// Bounds of CheckJump: CLOCK_REALTIME may lie this far from the prediction before
// somebody else is blamed. jumpBound is far above reading noise; externalRate allows
// for our rounding of rates (2^-16 ppm) and the kernel's own, startRate for what an
// earlier daemon left the kernel to slew, until our first Apply ends it.
const (
	jumpBound    = time.Millisecond
	externalRate = 2 * ntptime.PPM
	startRate    = 600 * ntptime.PPM
)

// The kernel lets maxerror grow by 500 ppm from the last time it was written, which is
// far beyond the truth; so it is written again this often, grown by PHI (RFC 5905
// §11.3). When nobody calls CheckJump any more the kernel's own growth stands.
const (
	rewriteAfter = time.Minute
	phi          = 15 * ntptime.PPM
)

const (
	leapBound      = 100 * time.Millisecond // a leap second's step may differ this much from 1 s
	aroundMidnight = time.Hour              // how late a leap second may be noticed
	oldStretches   = 3                      // stretches kept for timestamps from before the last Apply
)

var _ Clock = (*Kernel)(nil)

// Kernel disciplines CLOCK_REALTIME through adjtimex(2): frequency and slew by tick
// and freq, steps by ADJ_SETOFFSET, never by the kernel's PLL.
type Kernel struct {
	sys       Syscalls
	origin    int64 // CLOCK_MONOTONIC_RAW at Raw 0
	tight     time.Duration
	precision ntptime.Log2
	now       atomic.Pointer[stretch]

	mu      sync.Mutex // serializes everything below
	base    line       // the prediction since the last Apply or jump
	owned   bool       // we have applied something
	last    model.Correction
	slept   time.Duration
	pending []model.ClockJump // noticed inside Apply, told by the next CheckJump
	leap    model.Applied
	leapt   bool
	applied ntptime.Raw // when last was applied
	written ntptime.Raw // when the kernel's maxerror was last written
	armFrom ntptime.Raw // until then no leap second is armed; 0: it may be
}

// stretch is a line and the ones before it, for timestamps older than its beginning.
type stretch struct {
	line
	from   ntptime.Raw  // the line holds from here on
	before ntptime.Wall // what the one before it showed at from
	prev   *stretch
}

// NewKernel returns the driver of the system clock. It only reads: the frequency in
// force is kept until the first Apply. The error is ErrPrivilege without CAP_SYS_TIME.
func NewKernel(sys Syscalls) (*Kernel, error) {
	if !sys.MaySet() {
		return nil, ErrPrivilege
	}
	var t unix.Timex
	if _, err := sys.Adjtimex(&t); err != nil {
		return nil, fmt.Errorf("read the kernel's clock state: %w", err)
	}
	k := &Kernel{sys: sys, origin: sys.MonotonicRaw() - int64(firstRaw), tight: tightWidth(sys)}
	k.precision = measurePrecision(k.Wall)
	k.slept = asleep(sys)
	k.last.Frequency = joinRate(t.Tick, t.Freq)
	k.base = line{rate: k.last.Frequency}
	at, _ := k.read()
	k.base.raw, k.base.wall = at.Raw, at.Wall
	k.now.Store(&stretch{line: k.base, from: at.Raw, before: at.Wall})
	return k, nil
}

// read measures both scales; the second result is the width of the measurement.
func (k *Kernel) read() (ntptime.Instant, time.Duration) {
	p := readPair(k.sys, k.tight)
	return ntptime.Instant{Wall: p.real, Raw: ntptime.Raw(p.raw - k.origin)}, p.width
}

// Now implements Clock.
func (k *Kernel) Now() ntptime.Instant {
	at, _ := k.read()
	return at
}

// AtLatest implements Clock.
func (k *Kernel) AtLatest(realtime ntptime.Wall) ntptime.Instant { return k.At(realtime) }

// Quick implements Clock.
func (k *Kernel) Quick() ntptime.Instant { return k.At(k.Wall()) }

// Wall implements Clock.
func (k *Kernel) Wall() ntptime.Wall {
	real, _ := k.sys.Realtime()
	return ntptime.Wall(real)
}

// At implements Clock. The timestamp is on CLOCK_REALTIME already; the oscillator's
// reading comes from the prediction, which every CheckJump and Apply measures anew.
func (k *Kernel) At(realtime ntptime.Wall) ntptime.Instant {
	s := k.now.Load()
	for ; s.prev != nil; s = s.prev {
		raw := s.rawAt(realtime)
		if raw >= s.from && !k.beforeStepBack(s, realtime) {
			break
		}
		if raw < s.from && realtime > s.before { // in the gap that a step forward leaves
			return ntptime.Instant{Wall: realtime, Raw: s.from}
		}
	}
	return ntptime.Instant{Wall: realtime, Raw: s.rawAt(realtime)}
}

// beforeStepBack tells the two moments apart that show the same time when the clock
// was set back at the start of s: a timestamp that s has not reached yet is from before.
func (k *Kernel) beforeStepBack(s *stretch, realtime ntptime.Wall) bool {
	return realtime <= s.before && realtime > k.Wall()
}

// Rate implements Clock.
func (k *Kernel) Rate() ntptime.Frequency { return k.now.Load().rate }

// Precision implements Clock.
func (k *Kernel) Precision() ntptime.Log2 { return k.precision }

// Until implements Clock: the runtime's timers run with CLOCK_MONOTONIC, which is
// slewed as CLOCK_REALTIME is.
func (k *Kernel) Until(r ntptime.Raw) time.Duration {
	return until(r, ntptime.Raw(k.sys.MonotonicRaw()-k.origin), k.Rate())
}

// Apply implements Clock.
func (k *Kernel) Apply(c model.Correction) model.Applied {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notice()
	tick, freq, rate := splitRate(c.Frequency + c.Slew)
	applied := model.Applied{Rate: k.base.rate, Correction: c}
	if err := k.set(c, tick, freq); err != nil {
		at, _ := k.read()
		applied.At, applied.BeforeWall, applied.Err = at, at.Wall, err.Error()
		return applied
	}
	k.owned, k.last = true, c
	at, _ := k.read()
	applied.At, applied.BeforeWall, applied.Rate = at, at.Wall.Add(-c.Step), rate
	k.applied, k.written = at.Raw, at.Raw
	k.begin(at, applied.BeforeWall, rate)
	return applied
}

// set makes the calls of one correction. The step goes first: if it is refused, all
// the rest is left alone. The kernel forgets its own phase corrections and says
// unsynchronized at a step, so the state is written after it.
func (k *Kernel) set(c model.Correction, tick, freq int64) error {
	if c.Step != 0 || !k.owned {
		// The first correction steps by 0 at least: that clears what another daemon
		// left the kernel's PLL and adjtime(3) to slew.
		t := stepTimex(c.Step)
		if err := k.adjust("step the clock", &t); err != nil {
			return err
		}
		k.lapse(ntptime.Raw(k.sys.MonotonicRaw() - k.origin))
	}
	c.Kernel.Leap = k.arming(c.Kernel.Leap)
	t := rateTimex(tick, freq, c.Kernel)
	if err := k.adjust("set the clock's rate", &t); err != nil {
		return errors.Join(err, k.undo(c.Step))
	}
	if tai := c.Kernel.TAI; tai > 0 && tai <= maxTAI && int(t.Tai) != tai {
		t := taiTimex(tai)
		return k.adjust("set TAI−UTC", &t)
	}
	return nil
}

// undo takes a step back whose correction could not be completed.
func (k *Kernel) undo(step time.Duration) error {
	if step == 0 {
		return nil
	}
	t := stepTimex(-step)
	return k.adjust("take the step back", &t)
}

// adjust calls adjtimex and says in words what it refused.
func (k *Kernel) adjust(what string, t *unix.Timex) error {
	_, err := k.sys.Adjtimex(t)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w", what, ErrPrivilege)
	}
	return fmt.Errorf("%s: adjtimex: %w", what, err)
}

// begin publishes a new stretch from at on, and predicts from there.
func (k *Kernel) begin(at ntptime.Instant, before ntptime.Wall, rate ntptime.Frequency) {
	k.base = line{raw: at.Raw, wall: at.Wall, rate: rate}
	k.now.Store(&stretch{line: k.base, from: at.Raw, before: before, prev: k.now.Load().last(oldStretches)})
}

// last returns s with at most n−1 stretches before it.
func (s *stretch) last(n int) *stretch {
	if s == nil || n == 0 {
		return nil
	}
	kept := *s
	kept.prev = s.prev.last(n - 1)
	return &kept
}

// CheckJump implements Clock. It reports when CLOCK_REALTIME is further from the
// prediction than 1 ms + 2 ppm of the time since the last Apply or jump (600 ppm before
// the first Apply), or the machine has slept; then the prediction starts afresh.
func (k *Kernel) CheckJump() (model.ClockJump, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notice()
	k.rearm()
	k.rewrite()
	if len(k.pending) == 0 {
		return model.ClockJump{}, false
	}
	j := k.pending[0]
	k.pending = k.pending[1:]
	return j, true
}

// notice compares the clock with the prediction, and queues a jump if it must.
func (k *Kernel) notice() {
	slept := k.newSleep()
	at, by := k.deviation()
	if by == 0 && slept == 0 {
		k.refine(at)
		return
	}
	before := at.Wall.Add(-by)
	if k.isLeap(at, by) {
		k.leapt, k.leap = true, model.Applied{At: at, BeforeWall: before, Rate: k.base.rate, Correction: k.last}
		k.leap.Correction.Step = by
		k.last.Kernel.Leap = wire.LeapNone // armed once, made once
		k.begin(at, before, k.base.rate)
		return
	}
	k.lapse(at.Raw)
	k.begin(at, before, k.base.rate)
	k.pending = append(k.pending, model.ClockJump{At: at, By: by, Slept: slept})
}

// rewrite keeps the kernel's maxerror true between corrections.
func (k *Kernel) rewrite() {
	raw := ntptime.Raw(k.sys.MonotonicRaw() - k.origin)
	if !k.owned || !k.last.Kernel.Synchronized || raw.Sub(k.written) < rewriteAfter {
		return
	}
	k.restate(raw)
}

// restate tells the kernel the state of its clock as it is at raw.
func (k *Kernel) restate(raw ntptime.Raw) {
	k.written = raw
	state := k.last.Kernel
	state.MaxError += phi.Over(raw.Sub(k.applied))
	state.Leap = k.arming(state.Leap)
	t := errorTimex(state)
	_, _ = k.sys.Adjtimex(&t) // refused: the next Apply says so
}

// newSleep returns how long the machine has slept since the last call.
func (k *Kernel) newSleep() time.Duration {
	total := asleep(k.sys)
	slept := total - k.slept
	if slept < sleepBound {
		return 0
	}
	k.slept = total
	return slept
}

// deviation measures the clock; by is 0 where it is within the bounds of the
// prediction. What seems a jump must show in two measurements.
func (k *Kernel) deviation() (at ntptime.Instant, by time.Duration) {
	for range 2 {
		var width time.Duration
		at, width = k.read()
		by = at.Wall.Sub(k.base.wallAt(at.Raw))
		if by.Abs() <= k.bound(at)+width {
			return at, 0
		}
	}
	return at, by
}

func (k *Kernel) bound(at ntptime.Instant) time.Duration {
	rate := externalRate
	if !k.owned {
		rate = startRate
	}
	return jumpBound + rate.Over(at.Raw.Sub(k.base.raw))
}

// refine puts the present measurement under the line that At uses. The prediction
// that jumps are measured against keeps its base, so that small external changes add up.
func (k *Kernel) refine(at ntptime.Instant) {
	s := *k.now.Load()
	s.raw, s.wall = at.Raw, at.Wall
	k.now.Store(&s)
	if !k.owned {
		k.base.raw, k.base.wall = at.Raw, at.Wall
	}
}

// isLeap says whether a jump is the leap second that we have armed.
func (k *Kernel) isLeap(at ntptime.Instant, by time.Duration) bool {
	due := leapStep(k.last.Kernel.Leap)
	if due == 0 || (by-due).Abs() > leapBound || !k.owned {
		return false
	}
	// Insertion repeats the last second of the day; the day may have ended since.
	into := at.Wall.Add(time.Second).Sub(nextMidnight(at.Wall.Add(time.Second)).Add(-24 * time.Hour))
	return into >= 0 && into < aroundMidnight
}

// LeapDone implements Clock.
func (k *Kernel) LeapDone() (model.Applied, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	done := k.leapt
	k.leapt = false
	return k.leap, done
}

// Close implements Clock: the frequency last applied stays in force without its slew.
func (k *Kernel) Close() error {
	k.mu.Lock()
	last, slewing := k.last, k.owned && k.last.Slew != 0
	k.mu.Unlock()
	if !slewing {
		return nil
	}
	last.Step, last.Slew = 0, 0
	if applied := k.Apply(last); applied.Err != "" {
		return errors.New(applied.Err)
	}
	return nil
}
