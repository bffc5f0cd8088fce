package filter

import (
	"math"
	"math/rand/v2"
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
		normal := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
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

// The least round trips that stand apart from all others found no queue: what they exceed
// the base by is the quiet direction's jitter, not the queue's.
func TestCleanExchangesThatStandApartAreNearTheBase(t *testing.T) {
	var l *scene
	l = newLate(16e9, func(n int) (float64, float64) {
		queue := 0.0
		if n%12 != 5 {
			queue = 2e-3 + 10e-3*l.rand.Float64()
		}
		return 50e-6 * l.rand.ExpFloat64(), queue + 50e-6*l.rand.ExpFloat64()
	})
	worst := 0.0
	for l.run(30); l.n < 100; l.run(1) {
		worst = math.Max(worst, math.Abs(l.error()))
	}
	if base, _ := l.filter.Base(); math.Abs(base-200e-6) > 40e-6 {
		t.Errorf("got a base of %v s, want 200 us within a clean exchange's jitter", base)
	}
	if worst > 40e-6 {
		t.Errorf("got errors of up to %v s, want them within a clean exchange's jitter", worst)
	}
}

// Queues that last take turns at being in the quiet direction: what the register holds of
// jitter is no tilt once the last dozen leans the other way.
func TestATiltEndsWhenTheLastDozenLeansTheOtherWay(t *testing.T) {
	var l *scene
	scale := [2]float64{50e-6, 1e-3}
	l = newLate(16e9, func(int) (float64, float64) {
		return scale[0] * l.rand.ExpFloat64(), scale[1] * l.rand.ExpFloat64()
	})
	p := &l.filter.path
	l.run(64)
	if got := p.tilt(); got < 5e3 {
		t.Fatalf("got a tilt of %v a second, want that of a quiet way there", got)
	}
	scale = [2]float64{200e-6, 200e-6} // not ten times as much: the register keeps what it had
	l.run(12)
	if _, belief := p.lean(); belief < 0.5 {
		t.Fatalf("got a belief of %v, want the register's", belief)
	}
	if got := p.tilt(); got > 1e3 {
		t.Errorf("a dozen after the end of the queue: got a tilt of %v a second by scales of %v, of the last dozen %v, want next to none",
			got, p.scale, p.recent)
	}
}

// A path that may be another one has a jitter that nobody knows.
func TestASuspectedPathHasNoTilt(t *testing.T) {
	var l *scene
	longer := 0.0
	l = newLate(16e9, func(int) (float64, float64) { return 5e-6 * l.rand.ExpFloat64(), longer + 300e-6*l.rand.ExpFloat64() })
	tilt := func() float64 {
		e := l.tracker.Estimate()
		w := l.filter.Window(l.filter.Last(0), l.n-1, &e)
		return w.Tilt
	}
	if l.run(64); tilt() == 0 {
		t.Fatal("got no tilt, want that of a quiet way there")
	}
	for longer = 20e-3; !l.filter.suspected(); l.run(1) {
	}
	if got := tilt(); got != 0 {
		t.Errorf("got a tilt of %v a second, want none", got)
	}
}

// Queues of both directions that last for minutes take turns. That one grows where it was
// quiet is no oscillator that runs away, however well that would explain each exchange.
func TestAQueueThatGrowsIsNoOscillatorThatRunsAway(t *testing.T) {
	runaways, beyond := 0, 0
	for seed := range uint64(6) {
		var l *scene
		var level [2]float64
		memory := math.Exp(-16. / 1000)
		l = newLate(16e9, func(int) (float64, float64) {
			for i := range level {
				level[i] = memory*level[i] + math.Sqrt(1-memory*memory)*l.rand.NormFloat64()
			}
			return 3e-3*level[0]*level[0] + 100e-6*l.rand.ExpFloat64(), 3e-3*level[1]*level[1] + 100e-6*l.rand.ExpFloat64()
		})
		l.rand = rand.New(rand.NewPCG(seed, 9))
		for l.run(200); l.n < 3000; l.run(1) {
			e := l.tracker.Estimate().Extrapolate(l.at)
			if math.Abs(e.Freq-l.freq) > 10e-6 {
				runaways++
			}
			if math.Abs(e.Offset-l.offset) > 4*math.Sqrt(e.P00) {
				beyond++
			}
		}
	}
	if runaways > 260 || beyond > 160 { // 379 and 195 if each exchange is judged alone
		t.Errorf("of 16800 exchanges: got %d with a frequency 10 ppm off and %d with an error beyond 4 deviations, want at most 260 and 160", runaways, beyond)
	}
}
