// Package discipline turns the estimate of the oscillator into corrections of
// the clock (RFC 5905 §11.3 and §12): step, slew or frequency; how quickly; how
// often to poll; and what must not be corrected at all.
//
// RFC 5905 closes a feedback loop (PLL/FLL): it measures the clock that it
// steers. Here the filters measure the raw oscillator, which nobody steers, and
// the correction is worked out from that estimate: no loop, so no stability
// limit, no time constant and no overshoot. What is left to choose is only how
// gently an error is worked off.
package discipline

import "math"

const (
	minSlewTime = 1.0 // s: nothing is gained by less, and downstream servers see the frequency
	warmUpdates = 16  // updates until the mean gain means something
	surprise    = 3.0 // standard deviations from which an error is worked off faster
)

// Residual is the error that is to be corrected, at one moment.
type Residual struct {
	Offset    float64 // s, reference − disciplined clock
	SD        float64 // s, standard deviation of the estimate
	Frequency float64 // s/s, lasting correction that the oscillator needs
	Interval  float64 // s, mean time between updates
	Gain      float64 // mean share of variance that an update removes, 0..1
	Updates   int     // since the start
}

// SlewTime returns over how many seconds to work an error off, at no more than maxSlew
// s/s. If an update
// tells little (gain small), the estimate's changes are mostly old information
// refined, and there is no hurry: a long time costs a few per cent of RMS error
// and makes the frequency several times smoother. An error beyond what the
// state expects is real and is worked off at once.
func (r *Residual) SlewTime(maxSlew float64) float64 {
	d := r.Interval / 2
	if r.Updates >= warmUpdates {
		d = r.Interval * math.Min(2.5, math.Max(0.3, 0.25/math.Max(r.Gain, 1e-3)))
	}
	e := math.Abs(r.Offset)
	if limit := surprise * r.SD; e > limit {
		d *= limit / e
	}
	return math.Max(d, math.Max(minSlewTime, e/maxSlew))
}
