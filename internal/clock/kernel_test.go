package clock

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func newFakeKernel(t *testing.T) (*Kernel, *fakeHost) {
	t.Helper()
	h := newFakeHost()
	k, err := NewKernel(h)
	if err != nil {
		t.Fatalf("NewKernel: %v", err)
	}
	return k, h
}

func apply(t *testing.T, c Clock, correction model.Correction) model.Applied {
	t.Helper()
	a := c.Apply(correction)
	if a.Err != "" {
		t.Fatalf("Apply(%+v): %s", correction, a.Err)
	}
	return a
}

func noJump(t *testing.T, c Clock) {
	t.Helper()
	if j, ok := c.CheckJump(); ok {
		t.Fatalf("got a jump of %v (slept %v), want none", j.By, j.Slept)
	}
}

func TestStartOnlyReadsAndKeepsTheFrequencyInForce(t *testing.T) {
	h := newFakeHost()
	h.timex.Freq, h.timex.Tick = -12*65536, 10001
	k, err := NewKernel(h)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.setCalls) != 0 {
		t.Errorf("got %d calls that set the clock, want none", len(h.setCalls))
	}
	if got, want := k.Rate().PPM(), 100.0-12; math.Abs(got-want) > 1e-6 {
		t.Errorf("rate: got %v ppm, want %v", got, want)
	}
	h.pass(time.Hour)
	noJump(t, k)
}

func TestWithoutCapabilityTheErrorSaysWhatToDo(t *testing.T) {
	h := newFakeHost()
	h.unable = true
	_, err := NewKernel(h)
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "clock.driver: observe") {
		t.Errorf("got %v, want ErrPrivilege with advice", err)
	}
}

func TestRefusedCorrectionLeavesTheClockAlone(t *testing.T) {
	k, h := newFakeKernel(t)
	h.forbid = unix.EPERM
	a := k.Apply(model.Correction{Step: time.Second, Frequency: 10 * ntptime.PPM})
	if !strings.Contains(a.Err, "CAP_SYS_TIME") {
		t.Errorf("got error %q, want one that names CAP_SYS_TIME", a.Err)
	}
	if a.Rate != 0 || a.BeforeWall != a.At.Wall {
		t.Errorf("got rate %v and a step of %v, want neither", a.Rate, a.At.Wall.Sub(a.BeforeWall))
	}
	h.pass(time.Minute)
	noJump(t, k)
}

func TestSplitRateMakesTheRateWithinTheKernelsUnits(t *testing.T) {
	for _, c := range []struct {
		ppm        float64
		tick, freq int64
	}{
		{0, 10000, 0},
		{1, 10000, 65536},
		{-12.5, 10000, -819200},
		{500, 10000, 500 * 65536},
		{-500, 10000, -500 * 65536},
		{512, 10005, 12 * 65536},
		{-83333, 9167, -33 * 65536},
		{100000, 11000, 0},
		{-100000, 9000, 0},
		{250000, 11000, 0},
		{math.Inf(-1), 9000, 0},
		{math.NaN(), 10000, 0},
	} {
		tick, freq, _ := splitRate(ntptime.Frequency(c.ppm * 1e-6))
		if tick != c.tick || freq != c.freq {
			t.Errorf("%v ppm: got tick %d freq %d, want %d and %d", c.ppm, tick, freq, c.tick, c.freq)
		}
	}
}

func TestEveryRateIsMadeToHalfAUnitAndIsLegal(t *testing.T) {
	for ppm := -100000.0; ppm <= 100000; ppm += 13.7 {
		tick, freq, made := splitRate(ntptime.Frequency(ppm * 1e-6))
		if tick < 9000 || tick > 11000 || freq < -maxFreq || freq > maxFreq {
			t.Fatalf("%v ppm: tick %d, freq %d are out of the kernel's range", ppm, tick, freq)
		}
		if miss := math.Abs(float64(made) - ppm*1e-6); miss > freqUnit*0.501 {
			t.Fatalf("%v ppm: made with an error of %g, want at most %g", ppm, miss, freqUnit/2)
		}
	}
}

func TestStepIsExactToTheNanosecond(t *testing.T) {
	for _, step := range []time.Duration{1, -1, time.Second, -time.Second, 1_234_567_891, -1_234_567_891,
		-999_999_999, 1000 * time.Hour, -1000 * time.Hour} {
		k, h := newFakeKernel(t)
		before := h.realtime() - int64(h.raw)
		a := apply(t, k, model.Correction{Step: step})
		if got := time.Duration(h.realtime() - int64(h.raw) - before); got != step {
			t.Errorf("the kernel was stepped by %v, want %v", got, step)
		}
		if got := a.At.Wall.Sub(a.BeforeWall); got != step {
			t.Errorf("Applied says %v, want %v", got, step)
		}
		noJump(t, k)
	}
}

func TestKernelStateIsWrittenAtEveryApplyAndNeverThePLL(t *testing.T) {
	k, h := newFakeKernel(t)
	h.timex.Status |= unix.STA_PLL
	good := model.KernelState{Synchronized: true, MaxError: 1500*time.Microsecond + 1, EstimatedError: 20 * time.Microsecond, TAI: 37}
	apply(t, k, model.Correction{Step: time.Second, Kernel: good})
	check := func(what string, status int32, maxError, estError int64) {
		t.Helper()
		if h.timex.Status != status || h.timex.Maxerror != maxError || h.timex.Esterror != estError {
			t.Errorf("%s: got status %#x maxerror %d esterror %d, want %#x %d %d", what,
				h.timex.Status, h.timex.Maxerror, h.timex.Esterror, status, maxError, estError)
		}
	}
	check("synchronized, after a step", 0, 1501, 20)
	if h.timex.Tai != 37 {
		t.Errorf("TAI: got %d, want 37", h.timex.Tai)
	}
	apply(t, k, model.Correction{Kernel: model.KernelState{MaxError: time.Minute}})
	check("lost, distance beyond the kernel's limit", unix.STA_UNSYNC, 16_000_000, 0)
	apply(t, k, model.Correction{})
	check("unknown", unix.STA_UNSYNC, 16_000_000, 0)
	good.Leap = wire.LeapInsert
	apply(t, k, model.Correction{Kernel: good})
	check("not armed right after a step", 0, 1501, 20)
	h.pass(3 * time.Second)
	k.CheckJump()
	apply(t, k, model.Correction{Kernel: good})
	check("leap armed", unix.STA_INS, 1501, 20)
	good.Leap = wire.LeapDelete
	apply(t, k, model.Correction{Kernel: good})
	check("deletion armed", unix.STA_DEL, 1501, 20)
	good.Leap = wire.LeapUnknown
	apply(t, k, model.Correction{Kernel: good})
	check("disarmed", 0, 1501, 20)
	for _, call := range h.setCalls {
		if call.Modes&unix.ADJ_STATUS != 0 && call.Status&unix.STA_PLL != 0 {
			t.Errorf("STA_PLL was set")
		}
	}
}

func TestFirstCorrectionEndsWhatAnotherDaemonLeftToSlew(t *testing.T) {
	h := newFakeHost()
	h.pllSlew = 300e-6
	k, _ := NewKernel(h)
	for range 100 {
		h.pass(time.Second)
		noJump(t, k)
	}
	apply(t, k, model.Correction{})
	if h.pllSlew != 0 {
		t.Errorf("the kernel's own slew goes on")
	}
	h.pass(time.Hour)
	noJump(t, k)
}

func TestNoJumpIsSeenThroughOwnCorrections(t *testing.T) {
	k, h := newFakeKernel(t)
	for i := range 500 {
		f := ntptime.Frequency(float64(i%41-20) * 3.1e-6)
		slew := ntptime.Frequency(float64(i%7-3) * 0.02)
		step := time.Duration(i%5-2) * 77 * time.Millisecond
		apply(t, k, model.Correction{Frequency: f, Slew: slew, Step: step})
		for range 20 {
			h.pass(time.Second)
			noJump(t, k)
		}
	}
}

func TestClockSetByAnotherIsNoticedInOneCheck(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Second, -10 * time.Second, time.Hour, -time.Hour, 3 * time.Millisecond, -3 * time.Millisecond} {
		k, h := newFakeKernel(t)
		apply(t, k, model.Correction{Frequency: 20 * ntptime.PPM, Slew: 0.01})
		h.pass(time.Second)
		noJump(t, k)
		h.pass(700 * time.Millisecond)
		h.set(by)
		h.pass(300 * time.Millisecond)
		j, ok := k.CheckJump()
		if !ok || (j.By-by).Abs() > time.Microsecond || j.Slept != 0 {
			t.Errorf("set by %v: got %v (slept %v, %v), want it told", by, j.By, j.Slept, ok)
		}
		h.pass(time.Minute)
		noJump(t, k)
	}
}

func TestJumpJustBeforeAnApplyIsStillTold(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{})
	h.pass(time.Second)
	h.set(-5 * time.Second)
	a := apply(t, k, model.Correction{Step: time.Second})
	if got := a.At.Wall.Sub(a.BeforeWall); got != time.Second {
		t.Errorf("Applied says a step of %v, want 1s", got)
	}
	j, ok := k.CheckJump()
	if !ok || (j.By+5*time.Second).Abs() > time.Microsecond {
		t.Errorf("got %v, %v, want −5s", j.By, ok)
	}
	noJump(t, k)
}

func TestExternalSlewAddsUpUntilItIsNoticed(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{})
	h.timex.Freq = 100 << 16 // another daemon: 100 ppm
	for i := range 30 {
		h.pass(time.Second)
		if j, ok := k.CheckJump(); ok {
			if i < 5 || j.By < 900*time.Microsecond {
				t.Errorf("after %d s: got %v", i, j.By)
			}
			return
		}
	}
	t.Errorf("3 ms of external slew was not noticed")
}

func TestSleepIsToldWithItsLength(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{})
	h.pass(time.Second)
	noJump(t, k)
	h.sleep(time.Hour)
	j, ok := k.CheckJump()
	if !ok || (j.By-time.Hour).Abs() > time.Millisecond || (j.Slept-time.Hour).Abs() > time.Millisecond {
		t.Errorf("got by %v slept %v %v, want an hour of both", j.By, j.Slept, ok)
	}
	noJump(t, k)
}

func TestSlowReadingIsNotTakenForAJump(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{})
	h.tick = 5 * time.Millisecond // every reading is preempted
	for range 50 {
		h.pass(time.Second)
		noJump(t, k)
	}
}

func TestKernelTimestampsMapToTheOscillatorAcrossCorrections(t *testing.T) {
	k, h := newFakeKernel(t)
	for i, c := range []model.Correction{{Frequency: 40 * ntptime.PPM}, {Slew: 0.08}, {Step: time.Second}, {Step: -time.Second}, {Step: 30 * time.Millisecond, Slew: -0.05}} {
		h.pass(3 * time.Second)
		k.CheckJump()
		type moment struct {
			real ntptime.Wall
			raw  ntptime.Raw
		}
		var timestamps []moment
		take := func() {
			timestamps = append(timestamps, moment{ntptime.Wall(h.realtime()), ntptime.Raw(int64(h.raw) - k.origin)})
		}
		for range 5 {
			h.pass(2 * time.Millisecond)
			take()
		}
		apply(t, k, c)
		for range 5 {
			h.pass(2 * time.Millisecond)
			take()
		}
		for n, s := range timestamps {
			at := k.At(s.real)
			if d := at.Raw.Sub(s.raw); d.Abs() > time.Microsecond || at.Wall != s.real {
				t.Errorf("correction %d, timestamp %d: raw is off by %v", i, n, d)
			}
		}
	}
}

func TestLeapSecondMadeByTheKernelIsNoJump(t *testing.T) {
	for leap, step := range map[wire.Leap]time.Duration{wire.LeapInsert: -time.Second, wire.LeapDelete: time.Second} {
		k, h := newFakeKernel(t)
		armed := model.Correction{Kernel: model.KernelState{Synchronized: true, Leap: leap}}
		midnight := nextMidnight(ntptime.Wall(h.realtime()))
		h.pass(midnight.Sub(ntptime.Wall(h.realtime())) - 10*time.Second)
		k.CheckJump()
		apply(t, k, armed)
		for range 20 {
			h.pass(time.Second)
			noJump(t, k)
		}
		a, ok := k.LeapDone()
		if !ok || (a.Correction.Step-step).Abs() > time.Microsecond || a.At.Wall.Sub(a.BeforeWall) != a.Correction.Step {
			t.Errorf("%v: got step %v, %v, want %v told", leap, a.Correction.Step, ok, step)
		}
		if _, again := k.LeapDone(); again {
			t.Errorf("%v: told twice", leap)
		}
		h.set(step) // and another such step is somebody else's
		if _, ok := k.CheckJump(); !ok {
			t.Errorf("%v: a second step of the same size was not told", leap)
		}
	}
}

func TestCloseEndsTheSlewAndKeepsTheFrequency(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{Step: time.Second, Frequency: 30 * ntptime.PPM, Slew: 0.05, Kernel: model.KernelState{Synchronized: true}})
	real := h.realtime()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := k.Rate(); math.Abs(got.PPM()-30) > 1e-4 || h.timex.Tick != 10000 {
		t.Errorf("got %v, tick %d, want 30 ppm", got, h.timex.Tick)
	}
	if moved := h.realtime() - real; moved > 1e6 {
		t.Errorf("Close moved the clock by %d ns", moved)
	}
	calls := len(h.setCalls)
	if err := k.Close(); err != nil || len(h.setCalls) != calls {
		t.Errorf("closing without a slew set the clock (%v)", err)
	}
}

func TestUntilCountsInTheTimersOwnRate(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{Slew: 0.1})
	now := k.Now()
	wait := k.Until(now.Raw.Add(10 * time.Second))
	mono := h.monotonic
	for h.monotonic < mono+float64(wait) {
		h.pass(time.Millisecond)
	}
	if got := k.Now().Raw.Sub(now.Raw); (got - 10*time.Second).Abs() > 3*time.Millisecond {
		t.Errorf("waited %v of raw time, want 10s", got)
	}
	if got := k.Until(ntptime.Never); got < 100*365*24*time.Hour {
		t.Errorf("until never: got %v", got)
	}
	if got := k.Until(now.Raw); got > 0 {
		t.Errorf("a moment that has passed is due in %v", got)
	}
}

func TestTimestampsStayExactUnderAnExternalSlewTooSmallToBlame(t *testing.T) {
	k, h := newFakeKernel(t)
	apply(t, k, model.Correction{})
	h.timex.Freq = 20 << 16
	for range 20 { // 400 µs by the end
		h.pass(time.Second)
		noJump(t, k)
	}
	real, raw := ntptime.Wall(h.realtime()), ntptime.Raw(int64(h.raw)-k.origin)
	if d := k.At(real).Raw.Sub(raw); d.Abs() > time.Microsecond {
		t.Errorf("a timestamp of now is off by %v, want under 1 µs", d)
	}
}

func TestTimestampInTheGapOfAStepForwardIsTheStepsMoment(t *testing.T) {
	k, h := newFakeKernel(t)
	h.pass(time.Second)
	a := apply(t, k, model.Correction{Step: time.Hour})
	if got := k.At(a.BeforeWall.Add(30 * time.Minute)); got.Raw != a.At.Raw {
		t.Errorf("got raw %d, want that of the step, %d", got.Raw, a.At.Raw)
	}
}

func TestMaxErrorStaysTrueBetweenCorrections(t *testing.T) {
	k, h := newFakeKernel(t)
	state := model.KernelState{Synchronized: true, MaxError: time.Millisecond, EstimatedError: 10 * time.Microsecond}
	apply(t, k, model.Correction{Frequency: 7 * ntptime.PPM, Kernel: state})
	for i := range 2000 {
		h.pass(time.Second)
		noJump(t, k)
		truth := 1000 + int64(15*(i+1)) // µs
		if got := h.timex.Maxerror; got < truth-15*61 || got < 1000 || got > truth+500*61 {
			t.Fatalf("after %d s: got %d µs, want about %d", i+1, got, truth)
		}
	}
	if h.timex.Freq != 7<<16 || h.timex.Status != 0 || h.timex.Esterror != 10 {
		t.Errorf("something else was changed: %+v", h.timex)
	}
	state.Synchronized = false
	apply(t, k, model.Correction{Kernel: state})
	calls := len(h.setCalls)
	for range 300 {
		h.pass(time.Second)
		noJump(t, k)
	}
	if len(h.setCalls) != calls {
		t.Error("an unsynchronized clock was said to be good")
	}
}

// stubborn refuses calls with some of the modes.
type stubborn struct {
	*fakeHost
	refuse uint32
}

func (s stubborn) Adjtimex(t *unix.Timex) (int, error) {
	if t.Modes&s.refuse != 0 {
		return -1, unix.EINVAL
	}
	return s.fakeHost.Adjtimex(t)
}

func TestStepIsTakenBackWhenTheRateIsRefused(t *testing.T) {
	h := newFakeHost()
	k, err := NewKernel(stubborn{h, unix.ADJ_TICK})
	if err != nil {
		t.Fatal(err)
	}
	before := h.realtime() - int64(h.raw)
	a := k.Apply(model.Correction{Step: 3 * time.Second, Frequency: 5 * ntptime.PPM})
	if !strings.Contains(a.Err, "set the clock's rate") {
		t.Errorf("got error %q, want one that says what was refused", a.Err)
	}
	if moved := h.realtime() - int64(h.raw) - before; moved != 0 {
		t.Errorf("the clock was left %d ns away", moved)
	}
	if a.Rate != 0 {
		t.Errorf("rate: got %v, want the old one", a.Rate)
	}
	noJump(t, k)
}

func TestRefusedTAIIsSaidAndTheRestStands(t *testing.T) {
	h := newFakeHost()
	k, err := NewKernel(stubborn{h, unix.ADJ_TAI})
	if err != nil {
		t.Fatal(err)
	}
	good := model.KernelState{Synchronized: true, TAI: 37}
	if a := k.Apply(model.Correction{Kernel: good}); !strings.Contains(a.Err, "set TAI") {
		t.Errorf("got %q", a.Err)
	}
	if h.timex.Status&unix.STA_UNSYNC != 0 {
		t.Error("the clock is not said to be synchronized")
	}
}

func TestTAIIsWrittenOnceAndOnlyWhenKnown(t *testing.T) {
	k, h := newFakeKernel(t)
	for _, tai := range []int{0, -5, 37, 37, 0, 38} {
		apply(t, k, model.Correction{Kernel: model.KernelState{TAI: tai}})
	}
	var written []int64
	for _, call := range h.setCalls {
		if call.Modes&unix.ADJ_TAI != 0 {
			written = append(written, call.Constant)
		}
	}
	if len(written) != 2 || written[0] != 37 || written[1] != 38 {
		t.Errorf("got %v, want 37 and 38", written)
	}
}

func TestKernelThatCannotBeReadIsAnError(t *testing.T) {
	if _, err := NewKernel(unreadable{newFakeHost()}); !errors.Is(err, unix.ENOSYS) {
		t.Errorf("got %v, want ENOSYS with what was tried", err)
	}
}

type unreadable struct{ *fakeHost }

func (unreadable) Adjtimex(*unix.Timex) (int, error) { return -1, unix.ENOSYS }

// FuzzKernelCorrections applies any two corrections: the kernel must take them, show
// the step exactly, and run at the rate Applied says.
func FuzzKernelCorrections(f *testing.F) {
	f.Add(int64(0), 0.0, 0.0, int64(0), 0.0, 0.0)
	f.Add(int64(1e9), 12e-6, 0.08, int64(-1e9), -500e-6, -0.0833)
	f.Add(int64(-1), 1.0, -3.0, int64(1<<40), math.NaN(), math.Inf(1))
	f.Fuzz(func(t *testing.T, step1 int64, freq1, slew1 float64, step2 int64, freq2, slew2 float64) {
		const farthest = int64(50*365*24) * int64(time.Hour)
		h := newFakeHost()
		k, err := NewKernel(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []model.Correction{
			{Step: time.Duration(step1 % farthest), Frequency: ntptime.Frequency(freq1), Slew: ntptime.Frequency(slew1)},
			{Step: time.Duration(step2 % farthest), Frequency: ntptime.Frequency(freq2), Slew: ntptime.Frequency(slew2)},
		} {
			a := apply(t, k, c)
			if got := a.At.Wall.Sub(a.BeforeWall); got != c.Step {
				t.Fatalf("step: got %v, want %v", got, c.Step)
			}
			if a.Rate < -MaxRate || a.Rate > MaxRate || a.Rate != a.Rate {
				t.Fatalf("rate: got %v", a.Rate)
			}
			h.pass(100 * time.Second)
			b := k.Now()
			ran := b.Wall.Sub(a.At.Wall) - b.Raw.Sub(a.At.Raw)
			if want := scale(b.Raw.Sub(a.At.Raw), a.Rate); (ran - want).Abs() > time.Microsecond {
				t.Fatalf("in 100 s at %v: got %v, want %v", a.Rate, ran, want)
			}
			noJump(t, k)
		}
	})
}
