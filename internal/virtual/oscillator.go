// Package virtual is the world that is modelled around the core: oscillators and the clocks
// steered over them, links with delay, jitter and loss, and the random streams that they are
// drawn from. The simulator runs whole hosts in it; tests of the core draw from it what they
// need.
package virtual

import (
	"math"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/scenario"
)

// nsPerSecond is a second in nanoseconds.
const nsPerSecond = int64(time.Second)

// Oscillator is a free-running clock: its frequency error is drawn once a second of
// true time and held in between (random-walk frequency), so its error grows exactly
// piecewise linearly.
//
//	f_k = f0 + w·(N_0 + … + N_k) + A·sin(2πk/period) + steps up to k
//
// Times are true nanoseconds since the scenario's start.
type Oscillator struct {
	clock  scenario.Clock
	random Stream
	steps  []scenario.Event // of this host, frequency_step and wander, in order of time

	k      int64   // the second in which the frequency holds; −1 before the first draw
	walk   float64 // f0 plus the random walk plus the steps
	wander float64
	f      float64 // frequency error in second k
	at     int64   // where err holds
	err    float64 // seconds that the oscillator reads more than the true time since the start
	still  bool    // the frequency is constant: nothing to draw
}

// NewOscillator makes one with the events of its host that change its frequency, in order
// of time.
func NewOscillator(clock scenario.Clock, steps []scenario.Event, random Stream) *Oscillator {
	return &Oscillator{
		clock: clock, random: random, steps: steps, k: -1,
		walk: float64(clock.Frequency), wander: clock.Wander, f: float64(clock.Frequency),
		still: clock.Wander == 0 && clock.Sine.Period == 0 && len(steps) == 0,
	}
}

// TimeError is what the oscillator reads more than the true time since the start, in
// seconds, where it has been advanced to.
func (o *Oscillator) TimeError() float64 { return o.err }

// Frequency is its frequency error in the present second, in s/s; positive: too fast.
func (o *Oscillator) Frequency() float64 { return o.f }

// Second is the present second since the start, in which Frequency holds; -1 before the
// first Draw.
func (o *Oscillator) Second() int64 { return o.k }

// Constant reports whether the frequency never changes.
func (o *Oscillator) Constant() bool { return o.still }

// Next is the beginning of the next second, at which the frequency is drawn anew.
func (o *Oscillator) Next() int64 { return (o.k + 1) * nsPerSecond }

// Advance moves err to t, which must not lie beyond next.
func (o *Oscillator) Advance(t int64) {
	if t != o.at {
		o.err += o.f * (float64(t-o.at) * 1e-9)
		o.at = t
	}
}

// Draw begins the next second: err is moved to it and the frequency drawn.
func (o *Oscillator) Draw() {
	t := o.Next()
	o.Advance(t)
	o.k++
	if o.still {
		return
	}
	for len(o.steps) > 0 && int64(o.steps[0].At) <= t {
		if step := &o.steps[0]; step.Kind == scenario.WanderChange {
			o.wander = step.Wander
		} else {
			o.walk += float64(step.Frequency)
		}
		o.steps = o.steps[1:]
	}
	if o.wander != 0 {
		o.walk += o.wander * o.random.NormFloat64()
	}
	o.f = o.walk
	if period := o.clock.Sine.Period; period != 0 {
		phase := math.Mod(float64(o.k)*float64(nsPerSecond), float64(period)) / float64(period)
		o.f += float64(o.clock.Sine.Amplitude) * math.Sin(2*math.Pi*phase)
	}
}

// SteeredClock is the disciplined clock over an oscillator, as a kernel keeps it: the
// difference to the raw oscillator is piecewise linear in the oscillator's time.
type SteeredClock struct {
	Frequency, Slew float64 // s/s
	rawAt           float64 // seconds of raw time where Ahead holds
	Ahead           float64 // disciplined minus raw, seconds, without the start's civil time
	Leap            int64   // whole seconds inserted (−) or deleted (+) by now
}

// At gives disciplined − raw in seconds when the oscillator reads raw.
func (d *SteeredClock) At(raw float64) float64 {
	return d.Ahead + (raw-d.rawAt)*(d.Frequency+d.Slew)
}

// Set changes the rate from now on, and steps by so many seconds.
func (d *SteeredClock) Set(raw, step, frequency, slew float64) {
	d.Ahead = d.At(raw) + step
	d.rawAt, d.Frequency, d.Slew = raw, frequency, slew
}

// FrequencyResolution is that of the kernel: 2^-16 ppm (adjtimex(2)).
const FrequencyResolution = 1e-6 / 65536

// Quantize rounds a frequency to what a kernel can be told.
func Quantize(f ntptime.Frequency) float64 {
	return math.Round(float64(f)/FrequencyResolution) * FrequencyResolution
}
