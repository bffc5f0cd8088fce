package simulate

import (
	"math"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/scenario"
)

const second = int64(time.Second)

// oscillator is a free-running clock: its frequency error is drawn once a second of
// true time and held in between (random-walk frequency), so its error grows exactly
// piecewise linearly.
//
//	f_k = f0 + w·(N_0 + … + N_k) + A·sin(2πk/period) + steps up to k
//
// Times are true nanoseconds since the scenario's start.
type oscillator struct {
	clock  scenario.Clock
	random stream
	steps  []scenario.Event // of this host, frequency_step and wander, in order of time

	k      int64   // the second in which the frequency holds; −1 before the first draw
	walk   float64 // f0 plus the random walk plus the steps
	wander float64
	f      float64 // frequency error in second k
	at     int64   // where err holds
	err    float64 // seconds that the oscillator reads more than the true time since the start
	still  bool    // the frequency is constant: nothing to draw
}

func newOscillator(clock scenario.Clock, steps []scenario.Event, random stream) *oscillator {
	return &oscillator{
		clock: clock, random: random, steps: steps, k: -1,
		walk: float64(clock.Frequency), wander: clock.Wander, f: float64(clock.Frequency),
		still: clock.Wander == 0 && clock.Sine.Period == 0 && len(steps) == 0,
	}
}

// next is the beginning of the next second, at which the frequency is drawn anew.
func (o *oscillator) next() int64 { return (o.k + 1) * second }

// advance moves err to t, which must not lie beyond next.
func (o *oscillator) advance(t int64) {
	if t != o.at {
		o.err += o.f * (float64(t-o.at) * 1e-9)
		o.at = t
	}
}

// draw begins the next second: err is moved to it and the frequency drawn.
func (o *oscillator) draw() {
	t := o.next()
	o.advance(t)
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
		phase := math.Mod(float64(o.k)*float64(second), float64(period)) / float64(period)
		o.f += float64(o.clock.Sine.Amplitude) * math.Sin(2*math.Pi*phase)
	}
}

// discipline is the steered clock over an oscillator, as a kernel keeps it: the
// difference to the raw oscillator is piecewise linear in the oscillator's time.
type discipline struct {
	frequency, slew float64
	rawAt           float64 // seconds of raw time where ahead holds
	ahead           float64 // disciplined minus raw, seconds, without the start's civil time
	leap            int64   // whole seconds inserted (−) or deleted (+) by now
}

// at gives disciplined − raw in seconds when the oscillator reads raw.
func (d *discipline) at(raw float64) float64 {
	return d.ahead + (raw-d.rawAt)*(d.frequency+d.slew)
}

// set changes the rate from now on, and steps by so many seconds.
func (d *discipline) set(raw, step, frequency, slew float64) {
	d.ahead = d.at(raw) + step
	d.rawAt, d.frequency, d.slew = raw, frequency, slew
}

// frequencyResolution is that of the kernel: 2^-16 ppm (adjtimex(2)).
const frequencyResolution = 1e-6 / 65536

// quantize rounds a frequency to what a kernel can be told.
func quantize(f ntptime.Frequency) float64 {
	return math.Round(float64(f)/frequencyResolution) * frequencyResolution
}
