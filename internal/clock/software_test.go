package clock

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func newFakeVirtual(c VirtualConfig) (*Virtual, *fakeHost) {
	h := newFakeHost()
	return newVirtual(h, readEpoch(h), c), h
}

func within(t *testing.T, what string, got, want, by time.Duration) {
	t.Helper()
	if (got - want).Abs() > by {
		t.Errorf("%s: got %v, want %v ± %v", what, got, want, by)
	}
}

func TestVirtualClockStartsWrongAsConfigured(t *testing.T) {
	v, h := newFakeVirtual(VirtualConfig{Offset: 250 * time.Millisecond, Frequency: 12 * ntptime.PPM})
	within(t, "at start", v.TrueError(), -250*time.Millisecond, time.Microsecond)
	h.pass(1000 * time.Second)
	within(t, "after 1000 s at 12 ppm", v.TrueError(), -250*time.Millisecond+12*time.Millisecond, time.Microsecond)
	apply(t, v, model.Correction{Step: 238 * time.Millisecond, Frequency: -12 * ntptime.PPM})
	within(t, "stepped", v.TrueError(), 0, time.Microsecond)
	h.pass(1000 * time.Second)
	within(t, "1000 s later", v.TrueError(), 0, 2*time.Microsecond)
}

func TestVirtualOscillatorIsFastOnTheRawScaleToo(t *testing.T) {
	v, h := newFakeVirtual(VirtualConfig{Frequency: 1e-3})
	r := v.Now().Raw
	h.pass(100 * time.Second)
	within(t, "raw", v.Now().Raw.Sub(r), 100100*time.Millisecond, time.Microsecond)
	within(t, "wait", v.Until(v.Now().Raw.Add(100100*time.Millisecond)), 100*time.Second, time.Microsecond)
}

func TestAllVirtualClocksShareOneTruth(t *testing.T) {
	h := newFakeHost()
	h.timex.Freq = 300 << 16 // the host's own daemon is correcting: truth does not follow
	e := readEpoch(h)
	a := newVirtual(h, e, VirtualConfig{})
	h.pass(time.Hour)
	b := newVirtual(h, e, VirtualConfig{Offset: -time.Second})
	within(t, "first", a.TrueError(), 0, time.Microsecond)
	within(t, "one started later", b.TrueError(), time.Second, time.Microsecond)
}

func TestWallIsContinuousAcrossRatesAndStepsAreExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	v, h := newFakeVirtual(VirtualConfig{Offset: time.Second, Frequency: 40 * ntptime.PPM})
	for i := range 2000 {
		c := model.Correction{Frequency: ntptime.Frequency(random.NormFloat64() * 1e-4), Slew: ntptime.Frequency(random.NormFloat64() * 0.03)}
		if i%3 == 0 {
			c.Step = time.Duration(random.NormFloat64() * 1e9)
		}
		h.pass(time.Duration(random.IntN(1e9)))
		old := v.now.Load()
		a := apply(t, v, c)
		if got := old.wallAt(a.At.Raw); got != a.BeforeWall {
			t.Fatalf("before: got %v, want what the old line shows, %v", a.BeforeWall, got)
		}
		if got := v.now.Load().wallAt(a.At.Raw).Sub(a.BeforeWall); got != c.Step {
			t.Fatalf("step: got %v, want %v", got, c.Step)
		}
		if want := boundRate(c.Frequency + c.Slew); a.Rate != want || v.Rate() != want {
			t.Fatalf("rate: got %v and %v, want %v", a.Rate, v.Rate(), want)
		}
		if got := v.now.Load().wallAt(a.At.Raw - 1000); got != old.wallAt(a.At.Raw-1000) {
			t.Fatalf("a moment before the change reads %v, want the old line's %v", got, old.wallAt(a.At.Raw-1000))
		}
	}
	noJump(t, v)
}

func TestKernelTimestampSurvivesTheHostClockBeingSet(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Second, -10 * time.Second, time.Hour, -time.Hour, -20 * time.Millisecond} {
		h := newFakeHost()
		h.timex.Freq = 200 << 16 // somebody slews the host as well
		o := newObserve(h)
		for range 5 {
			h.pass(time.Second)
			noJump(t, o)
		}
		timestamp := func() (ntptime.Wall, ntptime.Instant) {
			r := ntptime.Wall(h.realtime())
			return r, o.instant(int64(h.raw))
		}
		old, oldAt := timestamp()
		h.pass(time.Millisecond)
		h.set(by)
		h.pass(time.Millisecond)
		fresh, freshAt := timestamp()
		within(t, "timestamp from after the set", o.At(fresh).Raw.Sub(freshAt.Raw), 0, time.Microsecond)
		within(t, "timestamp from before the set", o.At(old).Raw.Sub(oldAt.Raw), 0, time.Microsecond)
		h.pass(800 * time.Millisecond)
		r, at := timestamp()
		h.pass(time.Millisecond)
		within(t, "wall of a later timestamp", o.At(r).Wall.Sub(at.Wall), 0, time.Microsecond)
		noJump(t, o) // its own timeline was not touched
	}
}

func TestOldKernelTimestampUsesTheHostsRate(t *testing.T) {
	h := newFakeHost()
	h.timex.Freq = 500 << 16
	o := newObserve(h)
	h.pass(time.Second)
	noJump(t, o)
	r, at := ntptime.Wall(h.realtime()), o.instant(int64(h.raw))
	h.pass(2 * time.Second)
	within(t, "two seconds old", o.At(r).Raw.Sub(at.Raw), 0, time.Microsecond)
}

func TestObserveStartsAtRealtimeAndNeverSetsIt(t *testing.T) {
	h := newFakeHost()
	o := newObserve(h)
	within(t, "start", o.Wall().Sub(ntptime.Wall(h.realtime())), 0, time.Microsecond)
	apply(t, o, model.Correction{Step: time.Hour, Frequency: 100 * ntptime.PPM})
	within(t, "disciplined", o.Wall().Sub(ntptime.Wall(h.realtime())), time.Hour, time.Microsecond)
	if err := o.Close(); err != nil || len(h.setCalls) != 0 {
		t.Errorf("got %d calls that set the kernel's clock (%v), want none", len(h.setCalls), err)
	}
}

func TestSleepIsAddedToASoftwareTimeline(t *testing.T) {
	v, h := newFakeVirtual(VirtualConfig{})
	h.pass(time.Second)
	noJump(t, v)
	h.sleep(time.Hour)
	j, ok := v.CheckJump()
	if !ok {
		t.Fatal("sleep was not told")
	}
	within(t, "slept", j.Slept, time.Hour, time.Millisecond)
	within(t, "by", j.By, time.Hour, time.Millisecond)
	within(t, "true error", v.TrueError(), 0, time.Microsecond)
	noJump(t, v)
	h.sleep(time.Minute)
	apply(t, v, model.Correction{}) // Apply notices first, CheckJump tells
	if j, ok := v.CheckJump(); !ok || (j.Slept-time.Minute).Abs() > time.Millisecond {
		t.Errorf("got %v, %v, want a minute", j.Slept, ok)
	}
}

// Somebody else sets a virtual clock: it errs by that, and the next look tells.
func TestAVirtualClockIsSetByOthers(t *testing.T) {
	v, h := newFakeVirtual(VirtualConfig{})
	apply(t, v, model.Correction{Frequency: 5 * ntptime.PPM})
	h.pass(time.Second)
	before := v.Now()
	v.Set(300 * time.Millisecond)
	within(t, "set back", v.TrueError(), -300*time.Millisecond, 10*time.Microsecond)
	if v.Now().Raw < before.Raw || v.Rate() != 5*ntptime.PPM {
		t.Errorf("got raw %v after %v, rate %v; want an oscillator that goes on", v.Now().Raw, before.Raw, v.Rate())
	}
	v.Set(-time.Second)
	h.sleep(time.Minute)
	j, ok := v.CheckJump()
	if !ok {
		t.Fatal("the jump was not told")
	}
	within(t, "slept", j.Slept, time.Minute, time.Millisecond)
	within(t, "by", j.By, time.Minute+700*time.Millisecond, time.Millisecond)
	noJump(t, v)
	v.Set(time.Second)
	if j, ok := v.CheckJump(); !ok || j.Slept != 0 || j.By != -time.Second {
		t.Errorf("got %+v, %v, want a jump of -1 s without sleep", j, ok)
	}
}

func TestSoftwareTimelineMakesTheArmedLeapSecondOnce(t *testing.T) {
	for leap, step := range map[wire.Leap]time.Duration{wire.LeapInsert: -time.Second, wire.LeapDelete: time.Second} {
		v, h := newFakeVirtual(VirtualConfig{})
		midnight := nextMidnight(v.Wall())
		armed := model.Correction{Kernel: model.KernelState{Leap: leap}}
		h.pass(midnight.Sub(v.Wall()) - 5*time.Second)
		var told int
		for i := range 40 {
			if i%4 == 0 {
				apply(t, v, armed) // written again and again, also after
			}
			h.pass(500 * time.Millisecond)
			noJump(t, v)
			if a, ok := v.LeapDone(); ok {
				told++
				if a.Correction.Step != step || a.At.Wall.Sub(a.BeforeWall) != step {
					t.Errorf("%v: got %v, want %v", leap, a.Correction.Step, step)
				}
			}
		}
		within(t, leap.String(), v.TrueError(), step, 2*time.Microsecond)
		h.pass(24 * time.Hour)
		within(t, leap.String()+" a day later", v.TrueError(), step, 2*time.Microsecond)
		if told != 1 {
			t.Errorf("%v: told %d times, want once", leap, told)
		}
	}
}

func TestDisarmedLeapSecondDoesNotHappen(t *testing.T) {
	v, h := newFakeVirtual(VirtualConfig{})
	apply(t, v, model.Correction{Kernel: model.KernelState{Leap: wire.LeapInsert}})
	apply(t, v, model.Correction{Kernel: model.KernelState{Leap: wire.LeapNone}})
	h.pass(48 * time.Hour)
	within(t, "two days later", v.TrueError(), 0, 2*time.Microsecond)
}

func TestCloseOfSoftwareKeepsItsFrequency(t *testing.T) {
	v, _ := newFakeVirtual(VirtualConfig{})
	apply(t, v, model.Correction{Step: time.Second, Frequency: 5 * ntptime.PPM, Slew: 0.01})
	if err := v.Close(); err != nil || v.Rate() != 5*ntptime.PPM {
		t.Errorf("got %v, %v, want 5 ppm", v.Rate(), err)
	}
	within(t, "not stepped again", v.TrueError(), time.Second, time.Microsecond)
}

func TestRFC5905_7_3_PrecisionIsTheLargerOfResolutionAndReadTime(t *testing.T) {
	for _, c := range []struct {
		step time.Duration
		want ntptime.Log2
	}{{25, -25}, {1000, -19}, {time.Millisecond, -9}, {time.Second, 0}} {
		var now ntptime.Wall
		if got := measurePrecision(func() ntptime.Wall { now = now.Add(c.step); return now }); got != c.want {
			t.Errorf("reading steps of %v: got 2^%d, want 2^%d", c.step, got, c.want)
		}
	}
	if got := measurePrecision(func() ntptime.Wall { return 5 }); got != 0 {
		t.Errorf("a clock that stands: got 2^%d, want 2^0", got)
	}
	reads := 0 // resolution 1 ms, reading time 100 µs: resolution counts
	if got := measurePrecision(func() ntptime.Wall { reads++; return ntptime.Wall(reads / 10 * 1e6) }); got != -9 {
		t.Errorf("coarse clock: got 2^%d, want 2^-9", got)
	}
}

func TestNextMidnightIsTheEndOfTheUTCDay(t *testing.T) {
	for _, at := range []string{"2016-12-31T23:59:59.999999999Z", "2016-12-31T00:00:00Z", "1969-12-31T12:00:00Z"} {
		w, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		want := time.Date(w.Year(), w.Month(), w.Day()+1, 0, 0, 0, 0, time.UTC)
		if got := nextMidnight(ntptime.WallOf(w)).Time(); !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", at, got, want)
		}
	}
}

func TestLineRoundTrip(t *testing.T) {
	for _, rate := range []ntptime.Frequency{0, 1e-9, -5e-4, 0.1, -0.1} {
		l := line{raw: 5e9, wall: ntptime.Wall(fakeStart), rate: rate}
		for _, r := range []ntptime.Raw{5e9, 5e9 + 1, 6e9, 5e9 + 100_000e9, 1} {
			if got := l.rawAt(l.wallAt(r)); math.Abs(float64(got-r)) > 1 {
				t.Errorf("rate %v: raw %d comes back as %d", rate, r, got)
			}
		}
	}
}
