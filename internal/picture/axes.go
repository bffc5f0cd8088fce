package picture

import (
	"math"
	"strconv"
	"time"

	"timeball/internal/scenario"
)

// Bounds of the axes.
const (
	columns = 1200 // a longer series is drawn in so many columns
	tickGap = 17   // least distance of two numbers on the error axis, in pixels
	// A clock is read in whole nanoseconds and set to within ±292 years: what lies
	// beyond is not worth an axis.
	leastThreshold = 1e-10 // s
	mostReach      = 1e10  // s
)

// tick is a number on an axis.
type tick struct {
	value float64
	label string
}

// unit is what the time axis counts in.
type unit struct {
	name    string
	seconds float64
	steps   []float64 // that are round in this unit, rising; none: those of decimal numbers
}

// timeUnit keeps the numbers on the axis short.
func timeUnit(d time.Duration) unit {
	switch {
	case d > 72*time.Hour:
		return unit{name: "days", seconds: 86400}
	case d > 4*time.Hour:
		return unit{name: "hours", seconds: 3600, steps: []float64{0.5, 1, 2, 3, 6, 12}}
	}
	return unit{name: "seconds", seconds: 1}
}

// ticks puts up to eleven numbers at round values from 0 to high, which is positive.
func (u unit) ticks(high float64) []tick {
	step := u.step(high)
	decimals := max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	var ticks []tick
	for i := 0.0; i*step <= high*(1+1e-9); i++ {
		ticks = append(ticks, tick{i * step, strconv.FormatFloat(i*step, 'f', decimals, 64)})
	}
	return ticks
}

// step is the least round step that is at most ten times in high.
func (u unit) step(high float64) float64 {
	for _, step := range u.steps {
		if high/step <= 10 {
			return step
		}
	}
	decade := math.Pow(10, math.Floor(math.Log10(high/2)))
	for _, factor := range []float64{0.2, 0.5, 1} {
		if high/(decade*factor) <= 10 {
			return decade * factor
		}
	}
	return decade * 2
}

// symlog is a scale that is linear below its threshold and logarithmic beyond:
// asinh(y/threshold). Both are in seconds, and 0 < threshold ≤ reach.
type symlog struct{ threshold, reach float64 }

// scale takes the threshold from the steady state, and the reach from all there is.
func (r *Run) scale() symlog {
	s := symlog{threshold: math.Inf(1)}
	for i := range r.Hosts {
		host := &r.Hosts[i]
		for _, x := range host.Errors {
			if finite(x) {
				s.reach = max(s.reach, math.Abs(x))
			}
		}
		if e := host.RMSError; e > 0 {
			s.threshold = min(s.threshold, e)
		}
	}
	if math.IsInf(s.threshold, 1) {
		s.threshold = 1e-6
	}
	s.threshold = min(max(s.threshold, leastThreshold), mostReach/2)
	s.reach = min(max(s.reach, s.threshold)*1.5, mostReach)
	return s
}

// place is where an error of x seconds lies, from −1 at the bottom to 1 at the top.
// What is out of reach lies on the edge.
func (s symlog) place(x float64) float64 {
	x = min(max(x, -s.reach), s.reach)
	return math.Asinh(x/s.threshold) / math.Asinh(s.reach/s.threshold)
}

// ticks are zero and the powers of ten from the threshold on, and where these are too
// few, 1, 2 and 5 times each. The numbers of a scale that reaches half pixels up and
// down do not touch each other.
func (s symlog) ticks(half float64) []tick {
	values := s.spaced(half, math.Ceil(math.Log10(s.threshold)-1e-9), 1)
	if len(values) < 2 {
		values = s.spaced(half, math.Floor(math.Log10(s.threshold))-1, 1, 2, 5)
	}
	ticks := []tick{{0, "0"}}
	for _, value := range values {
		label := scenario.FormatSeconds(value)
		ticks = append(ticks, tick{value, label}, tick{-value, "−" + label})
	}
	return ticks
}

// spaced lists mantissa · 10^k, k ≥ from, as far as the scale reaches, without those
// that are too near to zero or to the one before.
func (s symlog) spaced(half, from float64, mantissas ...float64) []float64 {
	var values []float64
	last := 0.0
	for k := int(from); math.Pow10(k) <= s.reach; k++ {
		for _, mantissa := range mantissas {
			value := mantissa * math.Pow10(k)
			if at := s.place(value) * half; value <= s.reach && at-last >= tickGap {
				values, last = append(values, value), at
			}
		}
	}
	return values
}

// sample is one second of a series.
type sample struct {
	second int
	value  float64 // s
}

// envelope thins a series to two points a column, the least and the greatest, so that
// no spike is lost. What is no finite number is left out.
func envelope(series []float64) []sample {
	width := (len(series) + columns - 1) / columns
	var points []sample
	for from := 0; from < len(series); from += width {
		low, high := -1, -1
		for k := from; k < min(from+width, len(series)); k++ {
			if !finite(series[k]) {
				continue
			}
			if low < 0 || series[k] < series[low] {
				low = k
			}
			if high < 0 || series[k] > series[high] {
				high = k
			}
		}
		if low < 0 {
			continue
		}
		first, second := min(low, high), max(low, high)
		points = append(points, sample{first, series[first]})
		if second != first {
			points = append(points, sample{second, series[second]})
		}
	}
	return points
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
