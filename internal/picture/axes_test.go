package picture

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func labels(ticks []tick) string {
	var all []string
	for _, t := range ticks {
		all = append(all, t.label)
	}
	return strings.Join(all, " ")
}

func TestTimeTicksAreRound(t *testing.T) {
	for _, c := range []struct {
		name     string
		duration time.Duration
		unit     string
		want     string
	}{
		{"a second in tenths, without the dust of binary fractions", time.Second, "seconds", "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"},
		{"a second and a half", 1500 * time.Millisecond, "seconds", "0.0 0.2 0.4 0.6 0.8 1.0 1.2 1.4"},
		{"what is no round number ends before the edge", 4567 * time.Second, "seconds", "0 500 1000 1500 2000 2500 3000 3500 4000 4500"},
		{"just over ten steps of one kind takes the next", 2001 * time.Second, "seconds", "0 500 1000 1500 2000"},
		{"four hours are still seconds", 4 * time.Hour, "seconds", "0 2000 4000 6000 8000 10000 12000 14000"},
		{"over four hours are hours", 5 * time.Hour, "hours", "0.0 0.5 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0"},
		{"a day is divided as days are", 24 * time.Hour, "hours", "0 3 6 9 12 15 18 21 24"},
		{"two days", 48 * time.Hour, "hours", "0 6 12 18 24 30 36 42 48"},
		{"three days", 72 * time.Hour, "hours", "0 12 24 36 48 60 72"},
		{"thirty days", 720 * time.Hour, "days", "0 5 10 15 20 25 30"},
		{"ten years", 87600 * time.Hour, "days", "0 500 1000 1500 2000 2500 3000 3500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := timeUnit(c.duration)
			if got := labels(u.ticks(c.duration.Seconds() / u.seconds)); got != c.want || u.name != c.unit {
				t.Errorf("got %s in %s, want %s in %s", got, u.name, c.want, c.unit)
			}
		})
	}
}

func TestTimeTicksAreFewAndWithin(t *testing.T) {
	for d := time.Second; d < 100*365*24*time.Hour; d += d/7 + time.Millisecond {
		u := timeUnit(d)
		high := d.Seconds() / u.seconds
		ticks := u.ticks(high)
		if len(ticks) < 4 || len(ticks) > 11 {
			t.Errorf("%v: got %d ticks, want 4 to 11", d, len(ticks))
		}
		if last := ticks[len(ticks)-1].value; last > high*(1+1e-6) {
			t.Errorf("%v: got a tick at %v of %v", d, last, high)
		}
	}
}

func TestErrorTicks(t *testing.T) {
	for _, c := range []struct {
		name             string
		threshold, reach float64
		want             string // without those below zero
	}{
		{"decades from the threshold on", 3e-6, 0.15, "0 10 µs 100 µs 1 ms 10 ms 100 ms"},
		{"a threshold that is a decade is one of them", 1e-6, 1.5e-3, "0 1 µs 10 µs 100 µs 1 ms"},
		{"where the decades are too dense, every other one", 1e-10, 1e10, "0 10 ns 1 µs 100 µs 10 ms 1 s 100 s 10000 s 1000000 s 100000000 s 10000000000 s"},
		{"an error that hardly changes has steps of 1, 2 and 5", 2e-6, 3e-6, "0 500 ns 1 µs 2 µs"},
		{"a single decade has them too", 5e-6, 7e-5, "0 2 µs 5 µs 10 µs 20 µs 50 µs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var above []tick
			all := symlog{c.threshold, c.reach}.ticks(190)
			for _, a := range all {
				if a.value >= 0 {
					above = append(above, a)
				}
				if a.value > 0 && !slices.Contains(all, tick{-a.value, "−" + a.label}) {
					t.Errorf("got no −%s", a.label)
				}
			}
			if got := labels(above); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestErrorTicksNeverTouchAndAreNeverAlone(t *testing.T) {
	for threshold := 1e-10; threshold < 1e9; threshold *= 1.7 {
		for reach := threshold * 1.5; reach < 1e10; reach *= 2.3 {
			s := symlog{threshold, reach}
			ticks := s.ticks(190)
			if len(ticks) < 5 {
				t.Errorf("%v: got %s, want at least two each way", s, labels(ticks))
			}
			slices.SortFunc(ticks, func(a, b tick) int { return int(math.Copysign(1, a.value-b.value)) })
			for i := 1; i < len(ticks); i++ {
				if gap := 190 * (s.place(ticks[i].value) - s.place(ticks[i-1].value)); gap < tickGap-1e-9 {
					t.Errorf("%v: got %v px between %s and %s", s, gap, ticks[i-1].label, ticks[i].label)
				}
			}
		}
	}
}

func TestScaleRisesThroughZeroFromEdgeToEdge(t *testing.T) {
	s := symlog{threshold: 3e-6, reach: 0.15}
	last := math.Inf(-1)
	for _, x := range []float64{-0.15, -1e-3, -1e-6, 0, 1e-7, 1e-5, 0.1, 0.15} {
		y := s.place(x)
		if y <= last || y < -1 || y > 1 || y != -s.place(-x) {
			t.Errorf("got %v at %v, want it to rise within −1 to 1, alike on both sides", y, x)
		}
		last = y
	}
	if s.place(0.15) != 1 || s.place(7) != 1 || s.place(-7) != -1 || s.place(0) != 0 {
		t.Errorf("got %v at the reach, %v beyond it", s.place(0.15), s.place(7))
	}
	if near, far := s.place(2e-7)/s.place(1e-7), s.place(2e-2)/s.place(1e-2); math.Abs(near-2) > 0.01 || far > 1.1 {
		t.Errorf("got twice the error %v and %v times as far, want it linear near zero and logarithmic beyond", near, far)
	}
}

func TestScaleComesFromTheSteadyStateAndTheReachOfAll(t *testing.T) {
	quiet, loud := drawnHost("a", []float64{1, -2e-6}), drawnHost("b", []float64{0.1, -0.1})
	quiet.RMSError = 4e-6
	for _, c := range []struct {
		name  string
		hosts []Host
		want  symlog
	}{
		{"the quietest host's RMS and the greatest error of any", []Host{loud, quiet}, symlog{4e-6, 1.5}},
		{"without an error: a microsecond", []Host{drawnHost("a", make([]float64, 5))}, symlog{1e-6, 1.5e-6}},
		{"what is no finite number does not count", []Host{drawnHost("a", []float64{math.NaN(), math.Inf(-1)})}, symlog{1e-6, 1.5e-6}},
		{"finer than clocks are read", []Host{drawnHost("a", []float64{1e-200})}, symlog{1e-10, 1.5e-10}},
		{"beyond what a clock can be set to", []Host{drawnHost("a", []float64{1e300})}, symlog{mostReach / 2, 7.5e9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := drawnResult(time.Second, c.hosts...).scale()
			if math.Abs(got.threshold/c.want.threshold-1) > 1e-9 {
				t.Errorf("got threshold %v, want %v", got.threshold, c.want.threshold)
			}
			if want := min(c.want.reach, mostReach); got.reach < want*(1-1e-9) || got.reach > mostReach {
				t.Errorf("got reach %v, want %v", got.reach, want)
			}
		})
	}
}

func TestEnvelopeKeepsEverySpike(t *testing.T) {
	series := make([]float64, 50001)
	series[12345], series[40000] = 1, -2
	points := envelope(series)
	low, high := 0.0, 0.0
	for i, p := range points {
		low, high = min(low, p.value), max(high, p.value)
		if i > 0 && p.second <= points[i-1].second {
			t.Fatalf("point %d lies before the one before it", i)
		}
		if p.value != series[p.second] {
			t.Errorf("second %d: got %v, want %v", p.second, p.value, series[p.second])
		}
	}
	if high != 1 || low != -2 || len(points) > 2*columns {
		t.Errorf("got %d points from %v to %v, want at most %d from -2 to 1", len(points), low, high, 2*columns)
	}
}

func TestEnvelopeOfAShortSeriesIsTheSeries(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name   string
		series []float64
		want   []sample
	}{
		{"nothing", nil, nil},
		{"one", []float64{3}, []sample{{0, 3}}},
		{"a few, alike or not", []float64{3, 3, -1}, []sample{{0, 3}, {1, 3}, {2, -1}}},
		{"what is no finite number is left out", []float64{nan, 1, inf, -2, -inf, nan}, []sample{{1, 1}, {3, -2}}},
		{"nothing finite", []float64{nan, inf}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := envelope(c.series); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	wide := make([]float64, 3*columns)
	for i := range wide {
		wide[i] = nan
	}
	wide[4] = 5
	if got := envelope(wide); !slices.Equal(got, []sample{{4, 5}}) {
		t.Errorf("got %v, want the one number in its column", got)
	}
}
