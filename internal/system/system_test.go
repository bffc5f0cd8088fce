package system

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/wire"
)

func TestStepInTheFirstUpdatesAboveTheThreshold(t *testing.T) {
	b := newBench(t, -10*time.Second, nil)
	b.add(1, nil)
	b.sample(1, 0, nil)
	if len(b.steps) != 1 || (b.steps[0]-10*time.Second).Abs() > time.Millisecond {
		t.Fatalf("got steps %v, want one of 10 s", b.steps)
	}
	b.run(5, 2*time.Second, 0, 1)
	b.wantError(50 * time.Microsecond)
	if s := b.snapshot(); s.Steps != 1 || b.saw(model.EventStep) != 1 {
		t.Errorf("got %d steps and %d events, want 1", s.Steps, b.saw(model.EventStep))
	}
}

func TestSlewBelowTheThresholdAndWhereNoStepIsAllowed(t *testing.T) {
	b := newBench(t, -100*time.Millisecond, func(c *Config) { c.StepUpdates = 0 })
	b.add(1, nil)
	b.run(4, 2*time.Second, 0, 1)
	if len(b.steps) != 0 {
		t.Fatalf("got steps %v below the threshold", b.steps)
	}
	b.wantError(time.Millisecond)
	b.run(20, 64*time.Second, 0, 1)
	b.run(4, 64*time.Second, 3*time.Second, 1) // the server jumps
	if len(b.steps) != 0 {
		t.Errorf("got steps %v, want none", b.steps)
	}
	if b.saw(model.EventTimeJump) != 1 {
		t.Errorf("the jump was told %d times, want once", b.saw(model.EventTimeJump))
	}
	if text := b.toldJump(); !strings.Contains(text, "which takes") || strings.Contains(text, "stepped") {
		t.Errorf("the jump is told so: %q, want how long the slew takes, and no step", text)
	}
	if got := float64(b.last.Slew); math.Abs(got) > 0.0833331 {
		t.Errorf("got a slew of %v, want at most 83333 ppm", got)
	}
	b.pass(60 * time.Second)
	b.sample(1, 3*time.Second, nil)
	if got := b.error() - 3*time.Second; got.Abs() > time.Millisecond {
		t.Errorf("got %v from the server after a minute of slewing", got)
	}
}

// The first source to show a jump is not taken at its word alone: what is said then is what
// happens once the others have been asked.
func TestAJumpIsToldAsItWillBeCorrected(t *testing.T) {
	b := newBench(t, 0, nil)
	for id := range model.SourceID(3) {
		b.add(id+1, nil)
	}
	b.run(20, 16*time.Second, 0, 1, 2, 3)
	b.run(12, 4*time.Second, time.Minute, 1, 2, 3)
	text := b.toldJump()
	if slewed := strings.Contains(text, "slewed"); slewed && !strings.Contains(text, "then the rest is stepped") || !slewed && !strings.Contains(text, "at once") {
		t.Errorf("the jump is told so: %q, want that it is stepped", text)
	}
	if len(b.steps) == 0 || b.saw(model.EventTimeJump) != 1 {
		t.Errorf("got steps %v, and %d lines, want a step and one", b.steps, b.saw(model.EventTimeJump))
	}
}

// toldJump is the text of the last EventTimeJump.
func (b *bench) toldJump() (text string) {
	for _, e := range b.events {
		if e.Kind == model.EventTimeJump {
			text = e.Text
		}
	}
	return text
}

func TestPanicGateRefusesAndNeverExits(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(10, 16*time.Second, 0, 1)
	b.run(6, 16*time.Second, 2000*time.Second, 1)
	s := b.snapshot()
	if s.State != model.DisciplinePanic || s.Synchronized || s.Leap != wire.LeapUnknown {
		t.Errorf("got state %v synchronized %v leap %v, want panic and unsynchronized", s.State, s.Synchronized, s.Leap)
	}
	if s.PanicOffset < 1999*time.Second || b.saw(model.EventPanic) != 1 {
		t.Errorf("got panic offset %v and %d events, want 2000 s and one", s.PanicOffset, b.saw(model.EventPanic))
	}
	b.wantError(time.Millisecond)
	b.run(10, 16*time.Second, 0, 1)
	if s := b.snapshot(); s.State == model.DisciplinePanic || !s.Synchronized {
		t.Errorf("after the server came to its senses: got %v, synchronized %v", s.State, s.Synchronized)
	}
}

func TestFirstCorrectionOfAnySizeOnlyThroughAnOpenGate(t *testing.T) {
	b := newBench(t, -5000*time.Second, nil)
	b.add(1, nil)
	b.sample(1, 0, func(*model.Sample) {})
	if len(b.steps) != 1 {
		t.Errorf("gate open: got steps %v, want one", b.steps)
	}
	shut := newBench(t, -5000*time.Second, func(c *Config) { c.PanicGateOpen = false })
	shut.add(1, nil)
	shut.run(4, 2*time.Second, 0, 1)
	if len(shut.steps) != 0 || shut.snapshot().State != model.DisciplinePanic {
		t.Errorf("gate shut: got steps %v, state %v", shut.steps, shut.snapshot().State)
	}
}

func TestGateUsedIsToldOnce(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	used := 0
	for range 5 {
		m := model.Sample{Source: 1, T1: b.now(), T2: b.truth(), T3: b.truth(), T4: b.now(), Server: model.ServerState{Stratum: 1}}
		b.out.Reset()
		b.sys.OnSample(b.now(), &m, &b.out)
		if b.out.GateUsed {
			used++
		}
		b.act()
		b.pass(2 * time.Second)
	}
	if used != 1 {
		t.Errorf("got told %d times, want once", used)
	}
}

func TestClockSetByOthersIsUndoneByAStep(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Second, -time.Hour, 2 * time.Hour} {
		b := newBench(t, 0, nil)
		b.add(1, nil)
		b.run(20, 16*time.Second, 0, 1)
		b.wall += int64(by)
		b.out.Reset()
		b.sys.OnClockJump(model.ClockJump{At: b.now(), By: by}, &b.out)
		b.act()
		b.run(2, 2*time.Second, 0, 1)
		b.wantError(time.Millisecond)
		if len(b.steps) != 1 || b.saw(model.EventPanic) != 0 || b.saw(model.EventClockJump) != 1 {
			t.Errorf("set by %v: got steps %v, %d panics, %d jump events", by, b.steps, b.saw(model.EventPanic), b.saw(model.EventClockJump))
		}
	}
}

func TestSleepForgetsOffsetsAndKeepsTheFrequency(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(40, 16*time.Second, 0, 1)
	b.utc = b.utc.Add(time.Hour) // true time went on, raw and clock stood still
	b.wall -= int64(time.Hour)
	b.wall += int64(time.Hour - 300*time.Millisecond) // the kernel reads the RTC
	b.out.Reset()
	b.sys.OnClockJump(model.ClockJump{At: b.now(), By: time.Hour - 300*time.Millisecond, Slept: time.Hour}, &b.out)
	b.act()
	if b.sys.combined.Started() {
		t.Error("offsets from before the sleep are still in use")
	}
	b.run(3, 2*time.Second, 0, 1)
	b.pass(10 * time.Second)
	b.wantError(time.Millisecond)
	if got := math.Abs(float64(b.last.Frequency)); got > 1e-6 {
		t.Errorf("got frequency %v after the sleep, want the old one kept", got)
	}
	if b.saw(model.EventPanic) != 0 {
		t.Error("sleep was taken for an attack")
	}
}

func TestLostSourcesHoldOverThenUnsynchronized(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(40, 16*time.Second, 0, 1)
	before := b.snapshot()
	b.say(1, func(s *model.SourceStatus) { s.Reach, s.Unanswered = 0, 8 })
	b.pass(time.Hour)
	s := b.snapshot()
	if s.State != model.DisciplineHoldover || !s.Synchronized || s.Stratum != before.Stratum || s.ReferenceID != before.ReferenceID {
		t.Errorf("after an hour: got %v, synchronized %v, stratum %d", s.State, s.Synchronized, s.Stratum)
	}
	if s.ErrorBound <= before.ErrorBound || s.RootDispersion <= before.RootDispersion {
		t.Errorf("got bound %v, before %v: it has to grow", s.ErrorBound, before.ErrorBound)
	}
	if s.SystemPeer != 0 || s.Sources[0].State != model.StateUnreachable {
		t.Errorf("got peer %d, source %v", s.SystemPeer, s.Sources[0].State)
	}
	b.pass(24 * time.Hour)
	s = b.snapshot()
	if s.Synchronized || s.Leap != wire.LeapUnknown || s.Stratum != wire.MaxStratum {
		t.Errorf("after a day: got synchronized %v, leap %v, stratum %d", s.Synchronized, s.Leap, s.Stratum)
	}
	if b.last.Kernel.Synchronized {
		t.Error("the kernel still believes to be synchronized")
	}
	b.run(2, 2*time.Second, 0, 1)
	if s := b.snapshot(); !s.Synchronized || s.SystemPeer != 1 {
		t.Errorf("back: got synchronized %v, peer %d", s.Synchronized, s.SystemPeer)
	}
}

func TestSnapshotIsWhatRFC5905Figure25Says(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(40, 16*time.Second, 0, 1)
	s := b.snapshot()
	if s.Stratum != 3 || s.ReferenceID != wire.ReferenceAddress(netip.AddrFrom4([4]byte{192, 0, 2, 1})) || s.Leap != wire.LeapNone {
		t.Errorf("got stratum %d, reference %v, leap %v", s.Stratum, s.ReferenceID, s.Leap)
	}
	if got := s.RootDelay - 2200*time.Microsecond; got.Abs() > 10*time.Microsecond {
		t.Errorf("got root delay %v, want the peer's 2 ms and the path's 200 µs", s.RootDelay)
	}
	if s.RootDispersion < time.Millisecond || s.RootDispersion > 1100*time.Microsecond {
		t.Errorf("got root dispersion %v, want the peer's 1 ms and a little", s.RootDispersion)
	}
	if want := s.RootDispersion + s.RootDelay/2; (s.ErrorBound - want).Abs() > time.Microsecond {
		t.Errorf("got bound %v, want %v", s.ErrorBound, want)
	}
	if s.ReferenceTime > b.now().Wall || b.now().Wall.Sub(s.ReferenceTime) > time.Minute {
		t.Errorf("got reference time %v, now %v", s.ReferenceTime, b.now().Wall)
	}
}
