package system

import (
	"math"
	"testing"
	"time"

	"timeball/internal/model"
)

// A rival sets the clock every 20 s by 300 ms. The kernel's timestamps of an exchange at that
// moment are put on the raw scale as it was before, and so are off by as much.
func TestARivalIsToldOnceAndTeachesNoFrequency(t *testing.T) {
	const by = 300 * time.Millisecond
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(40, 16*time.Second, 0, 1)
	for range 20 {
		b.wall += int64(by)
		b.sysJump(by, func() {
			b.sample(1, 0, func(m *model.Sample) { // under way when the clock was set
				m.T1.Raw, m.T4.Raw = m.T1.Raw.Add(by), m.T4.Raw.Add(by)
			})
		})
		b.run(1, 20*time.Second, 0, 1)
	}
	if n := b.saw(model.EventRival); n != 1 || !b.snapshot().Rival {
		t.Errorf("a rival was told %d times (reported now: %v), want once", n, b.snapshot().Rival)
	}
	if got := b.sys.combined.Estimate().Freq; math.Abs(got) > 1e-6 {
		t.Errorf("got a frequency of %.2f ppm, want none: the oscillator has no error", got*1e6)
	}
	b.run(60, 16*time.Second, 0, 1)
	b.pass(time.Minute)
	if b.snapshot().Rival {
		t.Error("still reported after a quarter of an hour without it")
	}
	b.wantError(time.Millisecond)
}

// sysJump tells the core that the clock was set, and then what was under way.
func (b *bench) sysJump(by time.Duration, underWay func()) {
	b.out.Reset()
	b.sys.OnClockJump(model.ClockJump{At: b.now(), By: by}, &b.out)
	b.act()
	underWay()
}
