package simulate

import (
	"math"
	"slices"
	"testing"
	"time"

	"timeball/internal/scenario"
	"timeball/internal/virtual"
)

func TestFiguresAreThoseOfTheirWindow(t *testing.T) {
	s := &scenario.Scenario{Settle: 10 * time.Second, Duration: 20 * time.Second, ConvergedBelow: time.Second,
		Expect: []scenario.Expectation{{Host: "a", From: 2 * time.Second, To: 4 * time.Second}, {Host: "b", From: time.Second, To: 2 * time.Second}}}
	st := newStatistics(s, "a", true)
	for k := range int64(21) {
		x := 1e-3
		if k >= 10 {
			x = -2e-3
		}
		if k == 15 {
			x = 5e-3
		}
		st.sample(k, x, 1e-6)
	}
	for _, now := range []int64{9_999_999_999, 10 * second, 19 * second, 20 * second} {
		st.sent(now)
	}
	st.stepped(3 * second)
	f := st.figures(0)
	near(t, "RMS", f.RMSError, math.Sqrt((9*4+25)/10.0)*1e-3, 1e-9)
	near(t, "maximum", f.MaxError, 5e-3, 1e-12)
	near(t, "RMS frequency", f.RMSFrequencyError, 1e-6, 1e-9)
	near(t, "packets an hour", f.PacketsSentPerHour, 2.0/10*3600, 1e-9)
	near(t, "steps", f.Steps, 1, 0)
	if got := len(st.windows); got != 2 {
		t.Fatalf("got %d windows, want that of the run and the host's own", got)
	}
	f = st.figures(1)
	near(t, "RMS of the interval", f.RMSError, 1e-3, 1e-9)
	near(t, "steps of the interval", f.Steps, 1, 0)
	if !math.IsNaN(f.BoundCoverage) {
		t.Errorf("got coverage %v where no bound was stated, want none", f.BoundCoverage)
	}
	if len(st.series) != 21 {
		t.Errorf("got %d samples kept, want all 21", len(st.series))
	}
}

func TestBoundIsHeldAgainstTheErrorOfEachSecond(t *testing.T) {
	st := newStatistics(&scenario.Scenario{Duration: 100 * time.Second, ConvergedBelow: 1}, "a", false)
	st.bound = bound{valid: true, at: 0, value: 1e-3, rate: 1e-5}
	for k := range int64(100) {
		st.sample(k, -1.5e-3, 0) // the bound reaches it at 50 s
	}
	f := st.figures(0)
	near(t, "coverage", f.BoundCoverage, 0.5, 0.03)
	near(t, "mean bound", f.MeanErrorBound, 1e-3+49.5e-5, 1e-9)
}

// The threshold must hold for half an hour (reference tables, section 3).
func TestConvergenceIsTheFirstSecondOfHalfAnHourBelow(t *testing.T) {
	cases := []struct {
		name   string
		above  func(k int64) bool
		length int64
		want   float64
	}{
		{"at once", func(int64) bool { return false }, 5000, 0},
		{"after a bad start", func(k int64) bool { return k < 77 }, 5000, 77},
		{"a relapse within half an hour counts", func(k int64) bool { return k < 77 || k == 1800 }, 5000, 1801},
		{"a relapse later does not", func(k int64) bool { return k < 77 || k == 1900 }, 5000, 77},
		{"a short run to its end", func(k int64) bool { return k < 77 }, 300, 77},
		{"never", func(int64) bool { return true }, 5000, math.Inf(1)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := convergence{threshold: 1, since: -1, at: -1}
			for k := range c.length {
				size := 0.5
				if c.above(k) {
					size = 1
				}
				v.sample(k, size)
			}
			if got := v.seconds(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestQuantilesAreRightToAThousandth(t *testing.T) {
	s := virtual.NewStream(1, "quantiles")
	for _, scale := range []float64{1e-9, 3e-6, 0.1, 1e5} {
		q := make(quantiles, quantileBins)
		values := make([]float64, 20001)
		for i := range values {
			values[i] = scale * s.ExpFloat64()
			q.add(values[i])
		}
		slices.Sort(values)
		for _, p := range []float64{0.05, 0.5, 0.95, 1} {
			near(t, "quantile", q.at(p), values[int(math.Ceil(p*float64(len(values))))-1], 0.0015)
		}
	}
	if got := make(quantiles, quantileBins).at(0.95); got != 0 {
		t.Errorf("got %v of nothing, want 0", got)
	}
	q := make(quantiles, quantileBins)
	for _, odd := range []float64{0, 1e-300, 1e300, math.Inf(1)} {
		q.add(odd) // none of them may be out of the table
	}
}

func TestMedianOfAnEvenNumberIsTheMean(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{1, inf, inf, inf}, inf}, {[]float64{1, 2, 3, inf}, 2.5}} {
		if got := medianOf(slices.Clone(c.values)); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.values, got, c.want)
		}
	}
}
