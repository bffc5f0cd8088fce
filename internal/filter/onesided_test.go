package filter

import (
	"math"
	"testing"
)

func TestJitterOfEachDirectionIsKnownFromADozenExchanges(t *testing.T) {
	var l *scene
	l = newLate(2e9, func(int) (float64, float64) { return 2e-6 * l.rand.ExpFloat64(), 1e-3 * l.rand.ExpFloat64() })
	l.run(12)
	if got := l.filter.path.scale; got[0] > 10e-6 || got[1] < 300e-6 {
		t.Errorf("got scales %v, want some microseconds forth and about 1 ms back", got)
	}
	if r, belief := l.filter.path.lean(); r > -3 || belief < 0.7 {
		t.Errorf("got ratio e^%.1f and belief %.2f, want jitter known to be one-sided", r, belief)
	}
}

func TestASearchedFrequencyMakesNoJitter(t *testing.T) {
	l := newLate(16e9, func(n int) (float64, float64) { return 0, float64(n%3) * 1e-3 })
	l.freq = 90e-6 // more than the state knows at its start: 1.4 ms between exchanges
	l.run(8)
	if got := l.filter.path.scale; got[0] > 20e-6 {
		t.Errorf("got %v s of jitter in the quiet direction, want none", got[0])
	}
}

func TestAQueueThatTurnsIsFollowedWithinTens(t *testing.T) {
	var l *scene
	turned := false
	l = newLate(16e9, func(int) (float64, float64) {
		quiet, busy := 2e-6*l.rand.ExpFloat64(), 1e-3*l.rand.ExpFloat64()
		if turned {
			return quiet, busy
		}
		return busy, quiet
	})
	l.run(200)
	turned = true
	l.run(25)
	if r, belief := l.filter.path.lean(); r > -3 || belief < 0.5 {
		t.Errorf("25 exchanges after the turn: got ratio e^%.1f and belief %.2f, want the quiet direction to be the other", r, belief)
	}
	l.run(40)
	if got := math.Abs(l.error()); got > 60e-6 {
		t.Errorf("got an error of %v s, want it far below the queue of 1 ms", got)
	}
}

// Nine of ten answers late by 1.0 to 1.3 ms: the first clean one is no anomaly.
func TestACleanExchangeAmongLateOnesIsThePath(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		if n == 30 || n == 45 {
			return 1e-6 * l.rand.ExpFloat64(), 1e-6 * l.rand.ExpFloat64()
		}
		return 1e-6 * l.rand.ExpFloat64(), 1e-3 + 0.3e-3*l.rand.Float64()
	})
	l.run(30)
	if got := math.Abs(l.error()); got < 300e-6 {
		t.Fatalf("before a clean exchange: got an error of %v s, want half of the queue", got)
	}
	l.run(2)
	if got := math.Abs(l.error()); got > 50e-6 {
		t.Errorf("a clean exchange and a late one: got an error of %v s, want the base found", got)
	}
	if base, _ := l.filter.Base(); math.Abs(base-200e-6) > 50e-6 {
		t.Errorf("got a base of %v s, want 200 us", base)
	}
	if l.routeChanges != 0 {
		t.Errorf("got %d route changes, want none", l.routeChanges)
	}
}

// An exchange that leaves the state no room whatever the base is counts at once.
func TestAnExchangeThatDisprovesTheStateCountsAtOnce(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		if n == 30 {
			return 0, 0
		}
		return 1e-6 * l.rand.ExpFloat64(), 1e-3 + 0.3e-3*l.rand.Float64()
	})
	l.run(31)
	if got := math.Abs(l.error()); got > 50e-6 || !l.last.Replayed {
		t.Errorf("got an error of %v s, worked out anew: %v; want the state corrected by the one exchange", got, l.last.Replayed)
	}
}

// One exchange with wrong timestamps on a path known for long changes nothing.
func TestOneShortExchangeOfAPathLongKnownIsDoubted(t *testing.T) {
	s := newScene(500e-6, 10e-6)
	s.run(300)
	base, _ := s.filter.Base()
	x := s.exchange()
	x.At += s.step / 2
	x.Backward -= 300e-6
	s.filter.Feed(x, &s.tracker, UnknownFrequency, nil, 2)
	s.run(50)
	if got, _ := s.filter.Base(); math.Abs(got-base) > 5e-6 || math.Abs(s.error()) > 10e-6 {
		t.Errorf("got base %v and error %v, want %v and none", got, s.error(), base)
	}
}

func TestTheClaimedDeviationHoldsTheBaseThatNobodyHasSeen(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(int) (float64, float64) { // gamma of shape 3: seldom near the base
		return 2e-6 * l.rand.ExpFloat64(), 0.3e-3 * (l.rand.ExpFloat64() + l.rand.ExpFloat64() + l.rand.ExpFloat64())
	})
	l.run(60)
	e := l.tracker.Estimate()
	if got, sd := math.Abs(l.error()), math.Hypot(math.Sqrt(e.P00), l.filter.Slant()); got > 3*sd {
		t.Errorf("got an error of %v s where %v are claimed as standard deviation", got, sd)
	}
	if got, most := math.Abs(l.error()), l.filter.MinDelay()/2+l.filter.OffMiddle()+3*math.Sqrt(e.P00); got > most {
		t.Errorf("got an error of %v s beyond the bound of %v", got, most)
	}
	two := newScene(100e-6, 100e-6)
	two.run(300)
	if got := two.filter.Slant(); got != 0 {
		t.Errorf("two-sided jitter: got a slant of %v, want none", got)
	}
}

func TestABellEndsAtTheWindowsBounds(t *testing.T) {
	const p, v, edge = 1e-4 * 1e-4, 2e-5 * 2e-5, 1e-5
	for _, c := range []struct{ d, lo, hi float64 }{{0, -1e-4, 1e-4}, {2e-4, 1e-4, 2.2e-4}, {-3e-5, -4e-5, 3e-4}} {
		s := math.Sqrt(v + edge*edge)
		inside := interval(c.lo-c.d, c.hi-c.d, s, 0)
		lnInside := inside.lnZ + math.Log(c.hi-c.lo)
		got := bell(c.d, v, c.lo, c.hi, p, edge, lnInside)
		// By integration: prior N(0, p), likelihood N(x; d, v) times the blurred bounds.
		z, m, q := 0.0, 0.0, 0.0
		normal := func(x float64) float64 { return 0.5 * math.Erfc(-x/sqrt2) }
		for x := -1e-3; x < 1e-3; x += 1e-7 {
			w := math.Exp(-x*x/(2*p)-(x-c.d)*(x-c.d)/(2*v)) * (normal((c.hi-x)/edge) - normal((c.lo-x)/edge))
			z, m, q = z+w, m+w*x, q+w*x*x
		}
		mean, variance := m/z, q/z-m/z*m/z
		if g := mean / p; math.Abs(got.g-g) > 1e-3*math.Abs(g)+1 {
			t.Errorf("%+v: got g %v, want %v", c, got.g, g)
		}
		if k := (variance - p) / (p * p); math.Abs(got.k-k) > 1e-3*math.Abs(k) {
			t.Errorf("%+v: got k %v, want %v", c, got.k, k)
		}
	}
}

func TestAJitterThatLastsIsSeenAcrossTheRegister(t *testing.T) {
	var l *scene
	level := 0.0
	l = newLate(16e9, func(int) (float64, float64) {
		if l.rand.Float64() < 1.0/40 {
			level = 3e-3 * l.rand.ExpFloat64()
		}
		return level + 1e-5*l.rand.ExpFloat64(), 1e-5 * l.rand.ExpFloat64()
	})
	l.run(400)
	most := 0.0
	for range 100 {
		l.run(1)
		most = max(most, l.filter.path.lasting)
	}
	if most < 2 {
		t.Errorf("got at most %.1f times the neighbours' differences, want a queue that lasts to show", most)
	}
	s := newScene(1e-3, 1e-3)
	s.run(400)
	if got := s.filter.path.lasting; got > 1.3 {
		t.Errorf("jitter without memory: got %.1f times, want 1", got)
	}
}

// A start within a burst: what it has dropped from the jitter stays dropped while the register fills.
func TestABurstAtTheStartIsForgottenForGood(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		if n < 14 {
			return 200e-3 * l.rand.Float64(), 200e-3 * l.rand.Float64()
		}
		return 300e-6 * l.rand.ExpFloat64(), 300e-6 * l.rand.ExpFloat64()
	})
	l.run(27)
	for range 18 {
		l.run(1)
		if got := l.filter.path.scale; got[0] > 1.5e-3 || got[1] > 1.5e-3 {
			t.Errorf("%d exchanges after the burst: got scales %v, want those of 300 us", l.n-14, got)
		}
	}
}

// Bursts make the scales large; the least round trips know better.
func TestTheBaseIsNearWhereTheLeastRoundTripsLie(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		if n%4 == 3 {
			return 50e-3 * l.rand.Float64(), 50e-3 * l.rand.Float64()
		}
		return 20e-6 * l.rand.ExpFloat64(), 20e-6 * l.rand.ExpFloat64()
	})
	l.run(100)
	if base, _ := l.filter.Base(); math.Abs(base-200e-6) > 30e-6 {
		t.Errorf("got a base of %v s at scales of %v, want 200 us", base, l.filter.path.scale)
	}
}

// Seldom a clean exchange, and none near: two clean ones that lie together are the base.
func TestTwoCleanExchangesAreTheBase(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		queue := 2e-3 + 7e-3*l.rand.ExpFloat64()
		if n == 20 || n == 40 {
			queue = 0
		}
		return 5e-6 * l.rand.ExpFloat64(), queue
	})
	l.run(60)
	if base, _ := l.filter.Base(); math.Abs(base-200e-6) > 30e-6 {
		t.Errorf("got a base of %v s, want 200 us", base)
	}
	if got := math.Abs(l.error()); got > 20e-6 {
		t.Errorf("got an error of %v s, want it near the clean exchanges'", got)
	}
}
