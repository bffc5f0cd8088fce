package discipline

import "math"

// Spread is how well a clock is known, and how that decays: the state's
// covariance and the oscillator's wander.
type Spread struct {
	P00, P01, P11 float64 // s², s², 1
	Wander        float64 // s/s per √s
}

// Variance returns the variance of the offset t seconds after the last update,
// in seconds squared.
func (s Spread) Variance(t float64) float64 {
	return s.P00 + 2*t*s.P01 + t*t*s.P11 + s.Wander*s.Wander*t*t*t/3
}

// Mean returns the standard deviation of the offset, in seconds, as the root of
// its variance averaged over the next t seconds.
func (s Spread) Mean(t float64) float64 {
	v := s.P00 + t*s.P01 + t*t*s.P11/3 + s.Wander*s.Wander*t*t*t/12
	return math.Sqrt(math.Max(v, 0))
}

// Goal returns the accuracy worth polling for on a path with the given least
// round trip: 5 µs on a LAN of 200 µs, 50 µs over 20 ms, with the square root in
// between. A shorter interval is asked for only while the clock is worse.
func Goal(roundTrip float64) float64 {
	return 5e-6 * math.Sqrt(math.Max(roundTrip, 20e-6)/200e-6)
}

const (
	relaxMargin = 1.2 // the doubled interval must meet the goal with this margin
	relaxCount  = 8   // in a row
)

// Poll is the poll process's interval rule (RFC 5905 §13 and §A.5.5.5 count
// hysteresis on the offset against jitter; here the predicted error decides).
type Poll struct {
	interval float64 // s
	inliers  int
}

// Interval returns the present interval between updates, in seconds.
func (p *Poll) Interval() float64 { return p.interval }

// Update takes the state after an update into account; low and high bound the
// interval. It returns the interval in seconds.
func (p *Poll) Update(s Spread, goal, low, high float64) float64 {
	if p.interval == 0 {
		p.interval = low
	}
	switch {
	case s.Mean(p.interval) > goal:
		p.interval /= 2
		p.inliers = 0
	case relaxMargin*s.Mean(2*p.interval) < goal:
		if p.inliers++; p.inliers >= relaxCount {
			p.interval *= 2
			p.inliers = 0
		}
	default:
		p.inliers = 0
	}
	p.interval = math.Min(math.Max(p.interval, low), high)
	return p.interval
}

// Hurry falls back to the shortest interval: the clock has jumped.
func (p *Poll) Hurry(low float64) {
	p.interval = math.Max(low, 0)
	p.inliers = 0
}

// startupIntervals is the time to the next exchange after the first, second, … one of a
// source: offset first, then frequency from a growing base line.
var startupIntervals = [...]float64{2, 2, 2, 2, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32}

// StartupExchanges is how many exchanges a startup burst has at most.
const StartupExchanges = len(startupIntervals)

// StartupInterval returns how long after a source's count-th exchange (1: the first) an
// extra one is worth while, in seconds, or 0: the interval will do.
func StartupInterval(count int) float64 {
	if count < 1 || count > len(startupIntervals) {
		return 0
	}
	return startupIntervals[count-1]
}
