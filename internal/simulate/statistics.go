package simulate

import (
	"math"
	"time"

	"timeball/internal/scenario"
)

// convergedFor is how long the error has to stay below the threshold (reference
// tables, section 3), unless the run ends before.
const convergedFor = 1800

// statistics gathers the figures of one host in one run, sampled once a second of
// true time, right after the oscillator's frequency was drawn.
type statistics struct {
	windows     []window // the first from `settle` to the end, then those of `expect:`
	convergence convergence
	bound       bound
	series      []float64 // every sample from second 0 on, if wanted
	keep        bool
	unknown     bool // nobody knows the true time: a record without it
}

// convergence waits for an error to stay below a threshold.
type convergence struct {
	threshold float64 // s
	since     int64   // second since which the error is below; −1: it is not
	at        int64   // second from which it stayed so for long enough; −1: not yet
}

func (c *convergence) sample(k int64, size float64) {
	switch {
	case c.at >= 0:
	case size >= c.threshold:
		c.since = -1
	case c.since < 0:
		c.since = k
	case k-c.since >= convergedFor:
		c.at = c.since
	}
}

// seconds is when the error began to stay below, infinite if it never did.
func (c *convergence) seconds() float64 {
	switch {
	case c.at >= 0:
		return float64(c.at)
	case c.since >= 0:
		return float64(c.since)
	}
	return math.Inf(1)
}

// window is the sums over the seconds from ≤ k < to (the last includes the end).
type window struct {
	from, to  int64
	n         int64
	x, x2, y2 float64
	max       float64
	quantiles quantiles
	covered   int64 // seconds in which the stated bound held
	stated    int64 // seconds in which there was one
	boundSum  float64
	packets   int64
	steps     int64
}

// bound is what the program says its error is at most, as a line over raw time.
type bound struct {
	valid bool
	at    int64 // true nanoseconds
	value float64
	rate  float64
}

func newStatistics(s *scenario.Scenario, host string, series bool) statistics {
	t := statistics{convergence: convergence{threshold: s.ConvergedBelow.Seconds(), since: -1, at: -1}, keep: series}
	t.windows = append(t.windows, newWindow(s.Settle, s.Duration))
	for i := range s.Expect {
		if e := &s.Expect[i]; e.Host == host && e.To != 0 {
			t.windows = append(t.windows, newWindow(e.From, e.To))
		}
	}
	if series {
		t.series = make([]float64, 0, s.Duration/time.Second+1)
	}
	return t
}

func newWindow(from, to time.Duration) window {
	ceil := func(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
	return window{from: ceil(from), to: ceil(to), quantiles: make(quantiles, quantileBins)}
}

// sample takes the time error x in seconds and the rate error y at second k.
func (t *statistics) sample(k int64, x, y float64) {
	size := math.Abs(x)
	t.convergence.sample(k, size)
	limit := 0.0
	if t.bound.valid {
		limit = t.bound.value + t.bound.rate*float64(k*second-t.bound.at)*1e-9
	}
	for i := range t.windows {
		if w := &t.windows[i]; k >= w.from && k < w.to {
			w.add(x, size, y)
			if t.bound.valid {
				w.state(size, limit)
			}
		}
	}
	if t.keep {
		t.series = append(t.series, x)
	}
}

func (w *window) add(x, size, y float64) {
	w.n++
	w.x += x
	w.x2 += x * x
	w.y2 += y * y
	w.max = max(w.max, size)
	w.quantiles.add(size)
}

func (w *window) state(size, limit float64) {
	w.stated++
	w.boundSum += limit
	if size <= limit {
		w.covered++
	}
}

// sent counts a packet at true time t.
func (t *statistics) sent(now int64) {
	for i := range t.windows {
		if w := &t.windows[i]; now >= w.from*second && now < w.to*second {
			w.packets++
		}
	}
}

// stepped counts a step of the clock made by the program. Those of the settling time
// count too: a user wants to know of every one.
func (t *statistics) stepped(now int64) {
	for i := range t.windows {
		if w := &t.windows[i]; i == 0 || now >= w.from*second && now < w.to*second {
			w.steps++
		}
	}
}

// Figures are the results of one host in one run, or the medians over the runs.
// Times are in seconds, frequencies in s/s; infinite: never.
type Figures struct {
	RMSError           float64
	MeanError          float64 // of the clock minus the true time
	P95Error           float64
	MaxError           float64
	RMSFrequencyError  float64
	Convergence        float64
	PacketsSentPerHour float64
	Steps              float64
	MeanErrorBound     float64 // NaN: no bound was stated
	BoundCoverage      float64 // share of the seconds with a bound in which it held, 0 to 1; NaN as above
}

// figures works out window i at the end of a run.
func (t *statistics) figures(i int) Figures {
	w := &t.windows[i]
	n := float64(max(w.n, 1))
	f := Figures{
		RMSError: math.Sqrt(w.x2 / n), MeanError: w.x / n, RMSFrequencyError: math.Sqrt(w.y2 / n), MaxError: w.max,
		P95Error: w.quantiles.at(0.95), Convergence: t.convergence.seconds(), Steps: float64(w.steps),
		PacketsSentPerHour: float64(w.packets) / max(float64(w.to-w.from), 1) * 3600,
		MeanErrorBound:     math.NaN(), BoundCoverage: math.NaN(),
	}
	if t.unknown {
		nan := math.NaN()
		f.RMSError, f.MeanError, f.P95Error, f.MaxError, f.RMSFrequencyError, f.Convergence = nan, nan, nan, nan, nan, nan
	}
	if w.stated > 0 {
		f.MeanErrorBound = w.boundSum / float64(w.stated)
		f.BoundCoverage = float64(w.covered) / float64(w.stated)
		if t.unknown {
			f.BoundCoverage = math.NaN()
		}
	}
	return f
}

// quantiles is a histogram on a logarithmic scale: 512 bins for each factor of two,
// so that a quantile is right to 0.1 %, for any length of run.
type quantiles []uint32

const (
	binsPerOctave = 512
	quantileLow   = -40 // 2^-40 s: 1 ps
	quantileHigh  = 34  // 2^34 s
	quantileBins  = (quantileHigh - quantileLow) * binsPerOctave
)

// bin reads exponent and leading bits of the fraction off the float's own bits.
func bin(size float64) int {
	const bias, shift = 1023, 52 - 9
	return max(0, min(quantileBins-1, int(math.Float64bits(size)>>shift)-(bias+quantileLow)*binsPerOctave))
}

func (q quantiles) add(size float64) { q[bin(size)]++ }

// at gives the value that a share p of those added does not exceed.
func (q quantiles) at(p float64) float64 {
	var total uint64
	for _, n := range q {
		total += uint64(n)
	}
	want, seen := uint64(math.Ceil(p*float64(total))), uint64(0)
	for i, n := range q {
		if seen += uint64(n); n > 0 && seen >= want && i > 0 { // all below 1 ps counts as 0
			return math.Ldexp(1+(float64(i%binsPerOctave)+0.5)/binsPerOctave, i/binsPerOctave+quantileLow)
		}
	}
	return 0
}
