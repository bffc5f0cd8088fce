package simulate

import (
	"fmt"
	"time"
)

// Range is what a figure has to lie in, both ends included.
type Range struct {
	Low, High float64
	Duration  bool // seconds, printed as a duration
}

// Expectation is one row of `expect:`: what must hold of a host after the runs, in
// the median over them.
type Expectation struct {
	Host     string
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

// String prints "at most 30 us" or "30 us to 40 us".
func (r Range) String() string {
	if r.Low == 0 {
		return "at most " + r.format(r.High)
	}
	return fmt.Sprintf("%s to %s", r.format(r.Low), r.format(r.High))
}

func (r Range) format(value float64) string {
	if r.Duration {
		return formatSeconds(value)
	}
	return formatNumber(value)
}
