package scenario

import (
	"fmt"
	"math"
	"time"
)

// Range is what a figure has to lie in, both ends included.
type Range struct {
	Low, High float64
	Duration  bool // seconds, printed as a duration
}

// Expectation is one row of `expect:`: what must hold of a host after the runs.
type Expectation struct {
	Host     string
	Every    bool          // the figures hold in every run, not only in the median
	From, To time.Duration // window of the statistics; both 0: from `settle` to the end
	Figures  []FigureExpectation

	Synchronized *bool
	Stratum      *uint8
	Sources      []SourceExpectation
	Line         int
	Column       int
}

// FigureExpectation is the range of one figure by its name in the JSON report.
type FigureExpectation struct {
	Figure string
	Range  Range
}

// SourceExpectation is the state that a host must see one of its sources in at the end.
type SourceExpectation struct {
	Source string // a host's name
	States []string
}

// Holds reports whether a value lies in the range.
func (r Range) Holds(value float64) bool { return value >= r.Low && value <= r.High }

// String prints "at most 30 µs" or "30 µs to 40 µs".
func (r Range) String() string {
	switch {
	case math.IsInf(r.High, 1):
		return "at least " + r.Format(r.Low)
	case r.Low == 0:
		return "at most " + r.Format(r.High)
	}
	return fmt.Sprintf("%s to %s", r.Format(r.Low), r.Format(r.High))
}

func (r Range) Format(value float64) string {
	if r.Duration {
		return FormatSeconds(value)
	}
	return FormatNumber(value)
}
