package discipline

import (
	"math"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

func TestSlewTime(t *testing.T) {
	quiet := Residual{Offset: 1e-6, SD: 1e-6, Interval: 64, Gain: 0.5, Updates: 100}
	with := func(f func(r *Residual)) Residual { r := quiet; f(&r); return r }
	for _, c := range []struct {
		name     string
		in       Residual
		min, max float64
	}{
		{"updates that tell much: half an interval", quiet, 31, 33},
		{"updates that tell little: longer, but not endlessly", with(func(r *Residual) { r.Gain = 0.01 }), 159, 161},
		{"updates that tell all: not quicker than 0.3 intervals", with(func(r *Residual) { r.Gain = 1 }), 19, 20},
		{"at the start: half an interval", with(func(r *Residual) { r.Gain, r.Updates = 0.01, 3 }), 31, 33},
		{"a surprise is worked off at once", with(func(r *Residual) { r.Offset = 1e-3 }), 1, 1},
		{"a moderate surprise in proportion", with(func(r *Residual) { r.Offset = -6e-6 }), 15, 17},
		{"never beyond max_slew", with(func(r *Residual) { r.Offset = 1 }), 12, 12.01},
		{"never below a second", with(func(r *Residual) { r.Interval = 1.0 / 16 }), 1, 1},
		{"nothing known of the gain", with(func(r *Residual) { r.Gain = 0 }), 159, 161},
	} {
		if got := c.in.SlewTime(0.083333); !(got >= c.min && got <= c.max) {
			t.Errorf("%s: got %v s, want %v to %v", c.name, got, c.min, c.max)
		}
	}
}

func TestSlewTimeIsFiniteForAnything(t *testing.T) {
	for _, offset := range []float64{0, 1e-12, -1, 1e9} {
		for _, sd := range []float64{0, 1e-15, 1e9} {
			for _, gain := range []float64{0, 1, 1e-30} {
				r := Residual{Offset: offset, SD: sd, Interval: 64, Gain: gain, Updates: 99}
				if got := r.SlewTime(0.1); math.IsNaN(got) || math.IsInf(got, 0) || got < 1 || math.Abs(offset)/got > 0.1000001 {
					t.Errorf("offset %v sd %v gain %v: got %v s", offset, sd, gain, got)
				}
			}
		}
	}
}

func TestMeanErrorIsTheAverageOverTheInterval(t *testing.T) {
	s := Spread{P00: 4e-12, P01: 1e-15, P11: 1e-16, Wander: 1e-9}
	const interval, n = 1024.0, 100000
	sum := 0.0
	for i := range n {
		sum += s.Variance((float64(i) + 0.5) / n * interval)
	}
	if got, want := s.Mean(interval), math.Sqrt(sum/n); math.Abs(got-want) > 1e-6*want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGoalGrowsWithTheSquareRootOfThePath(t *testing.T) {
	for _, c := range []struct{ rtt, want float64 }{{200e-6, 5e-6}, {20e-3, 50e-6}, {100e-3, 112e-6}, {0, 1.6e-6}, {-1, 1.6e-6}} {
		if got := Goal(c.rtt); math.Abs(got-c.want) > 0.02*c.want {
			t.Errorf("round trip %v: got %v, want %v", c.rtt, got, c.want)
		}
	}
}

func TestPollShortensAtOnceAndRelaxesSlowly(t *testing.T) {
	var p Poll
	good, bad := Spread{P00: 1e-14, Wander: 1e-12}, Spread{P00: 1e-8}
	if got := p.Update(good, 5e-6, 64, 1024); got != 64 {
		t.Fatalf("first: got %v s, want the shortest", got)
	}
	n := 0
	for ; p.Interval() < 1024 && n < 100; n++ {
		p.Update(good, 5e-6, 64, 1024)
	}
	if n < 4*relaxCount-1 || n > 4*relaxCount {
		t.Errorf("got to 1024 s after %d updates, want about %d", n, 4*relaxCount)
	}
	for _, want := range []float64{512, 256, 128, 64, 64} {
		if got := p.Update(bad, 5e-6, 64, 1024); got != want {
			t.Errorf("got %v s, want %v", got, want)
		}
	}
}

func TestPollStaysWithinItsBounds(t *testing.T) {
	var p Poll
	p.Update(Spread{}, 1, 16, 16)
	for range 50 {
		if got := p.Update(Spread{}, 1, 16, 16); got != 16 {
			t.Fatalf("got %v s, want 16", got)
		}
	}
	if got := p.Update(Spread{}, 1, 64, 1024); got != 64 {
		t.Errorf("new bounds: got %v s, want 64", got)
	}
	p.Hurry(64)
	if got := p.Interval(); got != 64 {
		t.Errorf("hurried: got %v s, want 64", got)
	}
}

func TestVolleyGrowsAndEnds(t *testing.T) {
	sum := 0.0
	for i := 1; i <= StartupExchanges; i++ {
		if StartupInterval(i) < StartupInterval(i-1) {
			t.Errorf("exchange %d: got %v s after %v s", i, StartupInterval(i), StartupInterval(i-1))
		}
		sum += StartupInterval(i)
	}
	if StartupInterval(0) != 0 || StartupInterval(StartupExchanges+1) != 0 {
		t.Errorf("got %v before and %v after the startup burst, want 0", StartupInterval(0), StartupInterval(StartupExchanges+1))
	}
	if sum != 132 {
		t.Errorf("got %v s in all, want 132", sum)
	}
}

// A jump of the sources that the estimate follows by parts, each within the panic limit, is
// beyond it together.
func TestPartsOfAJumpDoNotPassTheGateOneByOne(t *testing.T) {
	d := New(Config{StepThreshold: time.Second, StepUpdates: -1, MaxSlew: 0.08, MaxFrequency: 5e-4, Panic: 5 * time.Second})
	now := ntptime.Instant{}
	update := func(offset float64) Kind {
		now.Raw = now.Raw.Add(16 * time.Second)
		return d.Update(now, Residual{Offset: offset, SD: 1e-4, Interval: 16, Gain: 0.5, Updates: 99}).Kind
	}
	for range 20 {
		update(0)
	}
	if got := update(3); got != Step {
		t.Fatalf("the first part: got %v, want a step", got)
	}
	if got := update(3); got != Refuse {
		t.Errorf("the second part: got %v, want it refused", got)
	}
	if got := update(0.01); got != Slew {
		t.Errorf("what is small again: got %v, want a slew", got)
	}
	for range 20 {
		update(0)
	}
	if got := update(3); got != Step {
		t.Errorf("another one, much later: got %v, want a step", got)
	}
	d.ExternalStep(-time.Hour) // somebody sets the clock back
	if got := update(3600); got != Step {
		t.Errorf("to undo what others did: got %v, want a step", got)
	}
	if got := update(0.5); got != Slew {
		t.Errorf("and what is left: got %v, want a slew", got)
	}
}
