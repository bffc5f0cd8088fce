package system

import (
	"math"

	"timeball/internal/ntptime"
)

// fall watches a server that is still slewing. Its root dispersion holds what it has yet
// to slew, and so falls from sample to sample; its clock runs at another rate than it will
// when the slew is over, and whoever predicts it overshoots by what it still fell.
//
// A server that does not slew lets its dispersion grow by PHI and drops it at each update
// of its own (RFC 5905 §11.2.3). Sampled more rarely than it updates, that falls by no
// more than PHI an interval, and more often never twice in a row.
type fall struct {
	at    ntptime.Raw // of the last sample
	disp  float64     // s, root dispersion then
	fell  bool        // it had fallen from the one before
	depth float64     // s, how far it fell lately
	rate  float64     // s/s, how quickly
	over  float64     // s, what the prediction may have run on by since the last fall
	slews bool        // it fell twice in a row lately: that is no single update
	still int         // samples in a row without a fall
}

const (
	fallRate  = 1.5 * 15e-6 // s/s: 1.5 PHI
	fallKeep  = 0.93        // of what was seen is kept with each sample
	fallOver  = 12          // samples without another end it
	fallYoung = 16          // samples of a source in which a single fall counts
)

// note takes the root dispersion that came with a sample.
func (f *fall) note(at ntptime.Raw, dispersion float64, samples uint64) {
	span := at.Sub(f.at).Seconds()
	depth := f.disp - dispersion
	f.depth, f.rate = fallKeep*f.depth, fallKeep*f.rate
	fell := samples > 1 && span > 0 && depth > fallRate*span
	f.over += f.rate * math.Max(span, 0)
	if f.still++; fell {
		f.still, f.over = 0, 0
	}
	if f.still >= fallOver { // the state has followed by now
		f.depth, f.rate, f.over, f.slews = 0, 0, 0, false
	}
	if fell && (f.fell || samples < fallYoung) {
		f.depth, f.rate = math.Max(f.depth, depth), math.Max(f.rate, depth/span)
	}
	f.slews = f.slews || fell && f.fell
	f.at, f.disp, f.fell = at, dispersion, fell
}

// narrow takes note that the prediction is at most most seconds off, as a sample shows.
func (f *fall) narrow(most float64) { f.over = math.Min(f.over, math.Max(most, 0)) }

// overshoot is how far off the prediction of the server may be, in seconds.
func (f *fall) overshoot(now ntptime.Raw) float64 {
	return math.Max(f.depth, f.over+f.rate*math.Max(now.Sub(f.at).Seconds(), 0))
}
