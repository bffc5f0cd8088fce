// Package clock is the port to the clock that timeball disciplines, with three
// drivers: kernel (adjtimex), virtual (a software oscillator for labs and tests)
// and observe (a software timeline that leaves the machine's clock alone). It is
// the only package that touches the system clock.
//
// A driver knows both scales of an ntptime.Instant: Raw, the oscillator that nobody
// steers (CLOCK_MONOTONIC_RAW), and Wall, the disciplined time on top of it, which
// is piecewise linear in Raw because the driver itself has set every rate and step.
package clock

import (
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Clock is what the daemon needs of a clock. Now, Wall, At and Until may be called
// by any goroutine at any time, take no lock and allocate nothing; Apply, CheckJump,
// LeapDone and Close are serialized inside.
type Clock interface {
	// Now reads both scales as one moment; Raw never runs backwards.
	Now() ntptime.Instant
	// Quick is Now without a system call: CLOCK_REALTIME, led to both scales as a kernel
	// timestamp is. It is for servers, whose receive timestamps come the same way.
	Quick() ntptime.Instant
	// AtLatest is At by what the latest Quick has made sure of, and reads nothing: for
	// the timestamps of a batch after one Quick.
	AtLatest(realtime ntptime.Wall) ntptime.Instant
	// Wall reads the disciplined time alone: the cheapest reading, for transmit timestamps.
	Wall() ntptime.Wall
	// At puts a CLOCK_REALTIME timestamp of the kernel, at most some seconds old, on both scales.
	At(realtime ntptime.Wall) ntptime.Instant
	// Apply makes a correction and says what was really done. On failure Err says
	// why, and the clock is as before.
	Apply(c model.Correction) model.Applied
	// CheckJump says whether somebody else has set the clock or the machine has slept
	// since the last call; to be called about once a second.
	CheckJump() (model.ClockJump, bool)
	// LeapDone returns, once, the leap second that the clock has made by itself since
	// it was armed: an Applied whose Correction.Step is −1 s or +1 s.
	LeapDone() (model.Applied, bool)
	// Until returns the time to wait until Raw reads r; zero or less: it is due.
	Until(r ntptime.Raw) time.Duration
	// Precision is the larger of resolution and reading time (RFC 5905 §7.3).
	Precision() ntptime.Log2
	// Rate is the rate of Wall against Raw now in force, Frequency and Slew together.
	Rate() ntptime.Frequency
	// Close ends a running slew and keeps the frequency.
	Close() error
}

// MaxRate bounds Frequency + Slew: what the kernel's tick can do (±10 %).
const MaxRate ntptime.Frequency = 0.1

// firstRaw is what Raw reads when a clock is made. It is not zero, because a zero
// Instant stands for "never" in reports.
const firstRaw ntptime.Raw = ntptime.Raw(time.Second)

// line is a stretch of the disciplined time: wall at raw, and from there at 1 + rate
// against the oscillator. Lines are immutable once published.
type line struct {
	raw  ntptime.Raw
	wall ntptime.Wall
	rate ntptime.Frequency
}

// wallAt returns the disciplined time at r, rounded to the nanosecond.
func (l *line) wallAt(r ntptime.Raw) ntptime.Wall {
	elapsed := r.Sub(l.raw)
	return l.wall.Add(elapsed + scale(elapsed, l.rate))
}

// rawAt returns the oscillator's reading at which the line shows w.
func (l *line) rawAt(w ntptime.Wall) ntptime.Raw {
	return l.raw + ntptime.Raw(unscale(w.Sub(l.wall), l.rate))
}

// scale returns d·f, rounded to the nanosecond.
func scale(d time.Duration, f ntptime.Frequency) time.Duration {
	return time.Duration(math.RoundToEven(float64(d) * float64(f)))
}

// unscale returns d / (1+f), rounded to the nanosecond.
func unscale(d time.Duration, f ntptime.Frequency) time.Duration {
	return d - scale(d, f/(1+f))
}

// boundRate keeps a rate within MaxRate; NaN becomes 0.
func boundRate(f ntptime.Frequency) ntptime.Frequency {
	if f != f {
		return 0
	}
	return max(-MaxRate, min(MaxRate, f))
}

// until is the wait for an oscillator that reads now, where the timers of the
// runtime run at 1 + timers against it.
func until(r, now ntptime.Raw, timers ntptime.Frequency) time.Duration {
	if r == ntptime.Never {
		return math.MaxInt64
	}
	wait := r.Sub(now)
	return wait + scale(wait, timers)
}

// nextMidnight is the end of the UTC day that w lies in.
func nextMidnight(w ntptime.Wall) ntptime.Wall {
	const day = ntptime.Wall(24 * time.Hour)
	into := w % day
	if into < 0 {
		into += day
	}
	return w - into + day
}

// leapStep is what a leap second does to the disciplined time.
func leapStep(l wire.Leap) time.Duration {
	switch l {
	case wire.LeapInsert:
		return -time.Second
	case wire.LeapDelete:
		return time.Second
	}
	return 0
}
