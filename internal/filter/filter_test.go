package filter

import (
	"math"
	"math/rand/v2"
	"testing"
)

// scene makes exchanges of one path at a regular interval. The path is a script: late in one
// direction, or from some exchange on. virtual's links, which are a scenario's, do not say that.
type scene struct {
	rand           *rand.Rand
	at             int64
	step           int64
	base           [2]float64
	jitter         [2]float64
	draw           func(n int) (forward, backward float64) // s, on top of base; in a new scene by jitter
	n              int                                     // exchanges made
	offset, freq   float64                                 // the true ones at at
	filter         Filter
	tracker        Tracker
	last           Result
	routeChanges   int
	jumps          int
	unusedExchange int
}

func newScene(base, jitter float64) *scene {
	s := &scene{rand: rand.New(rand.NewPCG(3, 4)), step: 64e9, base: [2]float64{base, base},
		jitter: [2]float64{jitter, jitter}, offset: 1e-3, freq: 5e-6}
	s.draw = func(int) (forward, backward float64) {
		return s.jitter[0] * s.rand.ExpFloat64(), s.jitter[1] * s.rand.ExpFloat64()
	}
	return s
}

// newLate is a scene in which draw makes one direction late.
func newLate(step int64, draw func(n int) (forward, backward float64)) *scene {
	s := newScene(100e-6, 0)
	s.step, s.draw = step, draw
	return s
}

// delays are those of the next exchange.
func (s *scene) delays() (forward, backward float64) {
	f, b := s.draw(s.n)
	s.n++
	return s.base[0] + f, s.base[1] + b
}

func (s *scene) exchange() Exchange {
	f, b := s.delays()
	return Exchange{At: s.at, Forward: s.offset + f, Backward: b - s.offset, Span: float32(f + b)}
}

func (s *scene) run(n int) { s.feed(n, s.exchange) }

// feed lets time go on by n steps, each with an exchange.
func (s *scene) feed(n int, exchange func() Exchange) {
	for range n {
		s.at += s.step
		s.offset += s.freq * seconds(s.step)
		s.last = s.filter.Feed(exchange(), &s.tracker, UnknownFrequency, nil, 2)
		if s.last.RouteChange {
			s.routeChanges++
		}
		if s.last.Jumped {
			s.jumps++
		}
		if !s.last.Used {
			s.unusedExchange++
		}
	}
}

func (s *scene) error() float64 {
	return s.tracker.Estimate().Extrapolate(s.at).Offset - s.offset
}

func TestFilterFindsOffsetAndFrequency(t *testing.T) {
	for _, c := range []struct {
		name         string
		base, jitter float64
		limit        float64
	}{
		{"loopback", 10e-6, 1e-6, 0.3e-6},
		{"lan", 100e-6, 100e-6, 20e-6},
		{"wan", 10e-3, 1e-3, 200e-6},
		{"internet", 50e-3, 10e-3, 2e-3},
		{"no jitter at all", 100e-6, 0, 1e-7},
	} {
		s := newScene(c.base, c.jitter)
		s.run(300)
		e := s.tracker.Estimate()
		if got := math.Abs(s.error()); got > c.limit {
			t.Errorf("%s: offset error: got %v, want below %v", c.name, got, c.limit)
		}
		if got := math.Abs(e.Freq - s.freq); got > c.limit/1000+1e-9 {
			t.Errorf("%s: frequency error: got %v, want below %v", c.name, got, c.limit/1000)
		}
		if got := s.error() / math.Sqrt(e.P00); math.Abs(got) > 5 {
			t.Errorf("%s: error in standard deviations: got %v", c.name, got)
		}
	}
}

func TestBaseApproachesThePathsLeastRoundTrip(t *testing.T) {
	s := newScene(10e-3, 1e-3)
	s.run(400)
	got, sd := s.filter.Base()
	if math.Abs(got-20e-3) > 4*sd+50e-6 || sd > 100e-6 {
		t.Errorf("got %v ± %v, want 0.02", got, sd)
	}
	if got := s.filter.Jitter(); got < 0.7e-3 || got > 1.4e-3 {
		t.Errorf("jitter: got %v, want 1e-3", got)
	}
}

func TestMinimumOutlivesCongestionOfHours(t *testing.T) {
	s := newScene(10e-3, 1e-3)
	s.run(200)
	s.jitter = [2]float64{20e-3, 20e-3}
	s.run(5 * 56)
	if got, _ := s.filter.Base(); got > 21e-3 || got < 16e-3 {
		t.Errorf("got base %v, want 0.02", got)
	}
	if got := math.Abs(s.error()); got > 2e-3 {
		t.Errorf("got error %v after five hours of congestion", got)
	}
}

func TestLongerPathIsARouteChangeOfOneDirection(t *testing.T) {
	for _, direction := range []int{0, 1} {
		s := newScene(10e-3, 1e-3)
		s.run(300)
		s.base[direction] += 5e-3
		s.run(60)
		if s.routeChanges != 1 {
			t.Errorf("direction %d: got %d route changes, want 1", direction, s.routeChanges)
		}
		s.run(100)
		if got := math.Abs(s.error()); got > 300e-6 {
			t.Errorf("direction %d: got error %v on the longer path, want the old offset kept", direction, got)
		}
		s.base[direction] -= 5e-3
		s.run(60)
		if got := math.Abs(s.error()); got > 300e-6 {
			t.Errorf("direction %d: got error %v back on the old path", direction, got)
		}
	}
}

func TestBurstOfTenMinutesIsNoRouteChange(t *testing.T) {
	s := newScene(50e-3, 10e-3)
	s.step = 16e9
	s.run(400)
	s.base[1] += 40e-3
	s.run(37)
	s.base[1] -= 40e-3
	s.run(200)
	if s.routeChanges != 0 {
		t.Errorf("got %d route changes, want none", s.routeChanges)
	}
	if got := math.Abs(s.error()); got > 1e-3 {
		t.Errorf("got error %v", got)
	}
}

func TestShorterPathKeepsTheOffset(t *testing.T) {
	s := newScene(10e-3, 0.2e-3)
	s.run(300)
	s.base[0] -= 4e-3
	s.run(60)
	if got := math.Abs(s.error()); got > 200e-6 {
		t.Errorf("got error %v, want the old offset kept", got)
	}
	if s.unusedExchange == 0 {
		t.Error("exchanges faster than the base were used before it was known why")
	}
}

func TestFrequencyStepIsFollowedAtTheSecondConflict(t *testing.T) {
	s := newScene(100e-6, 10e-6)
	s.run(200)
	s.freq += 5e-6
	s.run(2)
	if s.jumps != 1 {
		t.Errorf("got %d jumps after two exchanges, want 1", s.jumps)
	}
	s.run(8)
	if got := math.Abs(s.tracker.Estimate().Freq - s.freq); got > 0.1e-6 {
		t.Errorf("got frequency error %v after ten exchanges", got)
	}
}

func TestOneOutlierIsNoJump(t *testing.T) {
	s := newScene(100e-6, 10e-6)
	s.run(200)
	before := s.tracker.Estimate()
	s.offset += 0.1 // the server lies once
	s.run(1)
	s.offset -= 0.1
	if !s.last.Conflict || s.last.Jumped {
		t.Errorf("got %+v, want a conflict and no jump", s.last.Outcome)
	}
	s.run(1)
	if got := math.Abs(s.error()); got > 20e-6 {
		t.Errorf("got error %v after one outlier, want below 20 µs", got)
	}
	if s.jumps != 0 {
		t.Errorf("got %d jumps, want none", s.jumps)
	}
	if after := s.tracker.Estimate(); after.Wander > 30*before.Wander {
		t.Errorf("one outlier made the oscillator worse: wander %v, before %v", after.Wander, before.Wander)
	}
}

func TestServerStepIsFollowed(t *testing.T) {
	s := newScene(100e-6, 100e-6)
	s.run(100)
	s.offset += 2
	s.run(20)
	if got := math.Abs(s.error()); got > 200e-6 {
		t.Errorf("got error %v after a step of the server by 2 s", got)
	}
}

func TestOneSidedJitterIsTilted(t *testing.T) {
	s := newScene(1e-3, 10e-6)
	s.jitter[1] = 1e-3
	s.run(400)
	if got := s.filter.path.tilt(); got < 1e4 {
		t.Errorf("got λ %v, want near 1/10 µs", got)
	}
	if got := math.Abs(s.error()); got > 40e-6 {
		t.Errorf("got error %v, want within the small jitter's reach", got)
	}
}

func TestExponentialJitterNeverLooksLikeABellGaussianDoes(t *testing.T) {
	s := newScene(1e-3, 100e-6)
	s.run(500)
	b, _ := s.filter.path.base()
	if _, got := s.filter.path.bell(b); got != 0 {
		t.Errorf("exponential jitter: got bell variance %v, want none", got)
	}
	var p Path
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 500 {
		p.observe(int64(i)*64e9, 2e-3+50e-6*r.NormFloat64(), false)
	}
	b, _ = p.base()
	const want = 50e-6 * 50e-6 / 4
	if share, got := p.bell(b); got < want/4 || got > want*4 || share != 0.5 {
		t.Errorf("Gaussian jitter: got bell variance %v around %v of the window, want about %v around the middle", got, share, want)
	}
}

func TestFrequencyErrorOfTheRawClockDoesNotDistortLongSpans(t *testing.T) {
	// Symmetric mode: T1 to T4 is a poll interval, in which our clock gains.
	s := newScene(100e-6, 10e-6)
	s.freq = 80e-6
	s.feed(200, func() Exchange {
		f, b := s.delays()
		span := 10 + 80*s.rand.Float64()
		if s.n <= 8 {
			span = f + b // begun by a volley
		}
		theta1, theta4 := s.offset-s.freq*span/2, s.offset+s.freq*span/2
		return Exchange{At: s.at, Forward: theta1 + f, Backward: b - theta4, Span: float32(span)}
	})
	if got := math.Abs(s.error()); got > 20e-6 {
		t.Errorf("got error %v, want below 20 µs", got)
	}
	if got := s.filter.MinDelay(); math.Abs(got-200e-6) > 10e-6 {
		t.Errorf("got least round trip %v, want 200 µs whatever the span", got)
	}
}

func TestUnknownFrequencyBlursLongSpans(t *testing.T) {
	var f Filter
	e := Estimate{P11: 1e-10}
	short := f.Window(&Exchange{Forward: 1e-3, Backward: 1e-3, Span: 1e-3}, 9, &e)
	long := f.Window(&Exchange{Forward: 1e-3, Backward: 1e-3, Span: 60}, 9, &e)
	if want := 1e-5 * 30; math.Abs(long.Edge-want) > 1e-6 || short.Edge > 1e-6 {
		t.Errorf("got edges of %v and %v, want %v for the long one", short.Edge, long.Edge, want)
	}
}

func TestWindowOlderThanTheStateIsBroughtForward(t *testing.T) {
	s := newScene(100e-6, 10e-6)
	s.freq = 50e-6
	s.run(100)
	sure := s.tracker
	e := sure.Estimate()
	const age = 64
	past := e.Offset - e.Freq*age
	w := Window{Lo: past - 1e-6, Hi: past + 1e-6, Edge: 1e-6, Scale: 1e-5, Outlier: outlierShare}
	if out := sure.Update(s.at-age*1e9, &w, 2); out.Conflict {
		t.Errorf("got %+v, want agreement with what the state was then", out)
	}
	if got := math.Abs(sure.Estimate().Offset - e.Offset); got > 5e-6 {
		t.Errorf("the old window moved the offset by %v", got)
	}
	w = Window{Lo: e.Offset - 1e-6, Hi: e.Offset + 1e-6, Edge: 1e-6, Scale: 1e-5, Outlier: outlierShare}
	if out := s.tracker.Update(s.at-age*1e9, &w, 2); !out.Conflict {
		t.Errorf("got %+v, want a conflict: then the offset was another", out)
	}
}

func TestMixtureHoldsTheSpreadOfItsMembers(t *testing.T) {
	var b Bank
	b.start(0, Window{Lo: -1e-6, Hi: 1e-6}, 0, 1e-6)
	for i := range b.m {
		b.m[i].lw, b.m[i].weight = 0, 1
		b.m[i].theta = 1e-3 * float64(2*(i%2)-1)
	}
	if got := b.Estimate().P00; math.Abs(got-1e-6) > 0.01e-6 {
		t.Errorf("got variance %v, want that of ±1 ms", got)
	}
}

func TestBroadcastFollowsAfterAVolley(t *testing.T) {
	s := newScene(100e-6, 20e-6)
	s.step = 2e9
	s.run(8)
	s.step = 64e9
	s.feed(200, func() Exchange {
		_, b := s.delays()
		return Exchange{At: s.at, Backward: b - s.offset, Delay: 100e-6, Error: 20e-6, Kind: OneWay}
	})
	if got := math.Abs(s.error()); got > 40e-6 {
		t.Errorf("got error %v, want below 40 µs", got)
	}
}

func TestBroadcastWithoutAVolleyUsesTheCalibratedDelay(t *testing.T) {
	s := newScene(2e-3, 100e-6)
	s.feed(300, func() Exchange {
		_, b := s.delays()
		return Exchange{At: s.at, Backward: b - s.offset, Delay: 2e-3, Error: 50e-6, Kind: OneWay}
	})
	if got := math.Abs(s.error()); got > 150e-6 {
		t.Errorf("got error %v, want below 150 µs", got)
	}
}

func TestReferenceClockIsAveraged(t *testing.T) {
	s := newScene(0, 0)
	s.step = 1e9
	s.feed(600, func() Exchange {
		noise := 2e-6 * s.rand.NormFloat64()
		return Exchange{At: s.at, Forward: s.offset + noise, Backward: -s.offset - noise, Error: 1e-6, Kind: Reference}
	})
	if got := math.Abs(s.error()); got > 1e-6 {
		t.Errorf("got error %v, want below the noise of 2 µs", got)
	}
}

func TestReplayDoesNotDependOnTheOrderOfSources(t *testing.T) {
	a, b := newScene(100e-6, 100e-6), newScene(1e-3, 50e-6)
	b.rand, b.at = rand.New(rand.NewPCG(8, 9)), 7e9
	b.offset += b.freq * 7
	a.run(100)
	b.run(100)
	var x, y Tracker
	pa, pb := Part{Filter: &a.filter}, Part{Filter: &b.filter, Bias: 1e-6}
	Replay(&x, UnknownFrequency, pa, pb)
	Replay(&y, UnknownFrequency, pb, pa)
	if x.Estimate() != y.Estimate() {
		t.Errorf("got %+v, in the other order %+v", x.Estimate(), y.Estimate())
	}
	if got := math.Abs(x.Estimate().Extrapolate(a.at).Offset - a.offset); got > 40e-6 {
		t.Errorf("got error %v of both together", got)
	}
}

func TestOriginShiftsWithoutATrace(t *testing.T) {
	a, b := newScene(100e-6, 100e-6), newScene(100e-6, 100e-6)
	a.run(150)
	b.run(150)
	b.tracker.Shift(1000)
	b.filter.Shift(1000)
	b.offset -= 1000
	a.run(100)
	b.run(100)
	if got := math.Abs(a.error() - b.error()); got > 1e-9 {
		t.Errorf("errors differ by %v after a shift of the origin", got)
	}
}

func TestExtrapolationGrowsAsTheModelSays(t *testing.T) {
	e := Estimate{Offset: 1, Freq: 2e-6, P00: 1e-10, P01: 1e-14, P11: 4e-16, Wander: 1e-9}
	const dt = 7200.0
	got := e.Extrapolate(dt * 1e9)
	if want := 1 + 2e-6*dt; !near(got.Offset, want, 1e-12) {
		t.Errorf("offset: got %v, want %v", got.Offset, want)
	}
	if want := e.P00 + 2*dt*e.P01 + dt*dt*e.P11 + wanderUnsure*wanderUnsure*1e-18*dt*dt*dt/3; !near(got.P00, want, 1e-12) {
		t.Errorf("variance: got %v, want %v", got.P00, want)
	}
}

func TestPredictEqualsTheRandomWalkModel(t *testing.T) {
	// Two steps must give what one step over both gives.
	var a Bank
	a.start(0, Window{Lo: -1e-3, Hi: 1e-3}, 1e-6, 1e-5)
	b := a
	a.predict(100e9)
	b.predict(30e9)
	b.predict(100e9)
	for i := range a.m {
		x, y := &a.m[i], &b.m[i]
		if !near(x.p00, y.p00, 1e-9) || !near(x.p01, y.p01, 1e-9) || !near(x.p11, y.p11, 1e-9) || !near(x.theta, y.theta, 1e-9) {
			t.Fatalf("member %d: got %+v in one step, %+v in two", i, x, y)
		}
	}
}

// TestNothingIsEverNotANumber feeds exchanges of all magnitudes and shapes.
func TestNothingIsEverNotANumber(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		wild := func() float64 {
			x := math.Pow(10, -12+r.Float64()*20)
			if r.IntN(2) == 0 {
				return -x
			}
			return x
		}
		var f Filter
		var tr Tracker
		at := int64(0)
		for i := range 200 {
			at += int64(math.Pow(10, r.Float64()*14))
			x := Exchange{At: at, Forward: wild(), Backward: wild(), Span: float32(math.Abs(wild())), Kind: Kind(r.IntN(3)),
				Delay: math.Abs(wild()), Error: float32(math.Abs(wild()))}
			if r.IntN(20) == 0 {
				x.At -= 1e9
			}
			f.Feed(x, &tr, UnknownFrequency, nil, 2)
			checkState(t, &f, &tr, i)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func checkState(t *testing.T, f *Filter, tr *Tracker, i int) {
	t.Helper()
	if !tr.Started() {
		return
	}
	e := tr.Estimate()
	base, sd := f.Base()
	for _, v := range []float64{e.Offset, e.Freq, e.P00, e.P01, e.P11, e.Wander, base, sd, f.Jitter(), tr.Gain()} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("exchange %d: got %+v, base %v ± %v, jitter %v", i, e, base, sd, f.Jitter())
			return
		}
	}
	if e.P00 <= 0 || e.P11 <= 0 {
		t.Errorf("exchange %d: got variances %v, %v", i, e.P00, e.P11)
	}
}

func FuzzFeedStaysFinite(f *testing.F) {
	f.Add(1e-3, 2e-3, 64.0, uint8(0), 1e-4)
	f.Add(-1e9, 1e9, 1e-4, uint8(1), 1e-9)
	f.Add(0.0, 0.0, 1e6, uint8(2), 0.0)
	f.Fuzz(func(t *testing.T, forward, backward, step float64, kind uint8, e float64) {
		if !(math.Abs(forward) < 4e9) || !(math.Abs(backward) < 4e9) || !(step >= 0 && step < 1e7) || !(e >= 0 && e < 1e6) {
			t.Skip()
		}
		s := newScene(100e-6, 100e-6)
		s.run(20)
		for i := range 6 {
			s.at += int64(step * 1e9)
			x := Exchange{At: s.at, Forward: forward, Backward: backward, Delay: e, Error: float32(e), Kind: Kind(kind % 3), Span: float32(e)}
			s.filter.Feed(x, &s.tracker, UnknownFrequency, nil, 2)
			checkState(t, &s.filter, &s.tracker, i)
		}
		s.run(5)
		checkState(t, &s.filter, &s.tracker, 99)
	})
}
