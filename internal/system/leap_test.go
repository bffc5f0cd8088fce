package system

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// eve is a bench an hour before the end of a month.
func eve(t *testing.T, f func(c *Config)) *bench {
	b := newBench(t, 0, nil)
	b.utc = ntptime.WallOf(time.Date(2030, 6, 30, 23, 0, 0, 0, time.UTC))
	c := defaults()
	if f != nil {
		f(&c)
	}
	b.sys = New(c, b.now())
	return b
}

func announced(leap wire.Leap) func(m *model.Sample) {
	return func(m *model.Sample) { m.Server.Leap = leap }
}

var newMonth = ntptime.WallOf(time.Date(2030, 7, 1, 0, 0, 0, 0, time.UTC))

func TestLeapIsArmedByTheMajorityOfSources(t *testing.T) {
	b := eve(t, nil)
	for id := range model.SourceID(3) {
		b.add(id+1, nil)
	}
	for range 5 {
		b.sample(1, 0, announced(wire.LeapInsert))
		b.sample(2, 0, nil)
		b.sample(3, 0, nil)
		b.pass(16 * time.Second)
	}
	if s := b.snapshot(); s.Leap != wire.LeapNone || s.LeapPending != 0 {
		t.Errorf("one liar of three: got leap %v pending %v", s.Leap, s.LeapPending)
	}
	for range 2 {
		b.sample(1, 0, announced(wire.LeapInsert))
		b.sample(2, 0, announced(wire.LeapInsert))
		b.sample(3, 0, nil)
		b.pass(16 * time.Second)
	}
	if s := b.snapshot(); s.Leap != wire.LeapInsert || s.LeapPending != newMonth {
		t.Errorf("two of three: got leap %v pending %v", s.Leap, s.LeapPending)
	}
	if b.saw(model.EventLeapArmed) != 1 || b.last.Kernel.Leap != wire.LeapInsert {
		t.Errorf("got %d events, kernel told %v", b.saw(model.EventLeapArmed), b.last.Kernel.Leap)
	}
}

func TestLeapIsNotBelievedBeforeTheLastDay(t *testing.T) {
	b := newBench(t, 0, nil) // the 10th of March
	b.add(1, nil)
	for range 5 {
		b.sample(1, 0, announced(wire.LeapInsert))
		b.pass(16 * time.Second)
	}
	if s := b.snapshot(); s.Leap != wire.LeapNone || s.LeapPending != 0 {
		t.Errorf("got leap %v pending %v", s.Leap, s.LeapPending)
	}
}

func TestLeapListOverrulesSources(t *testing.T) {
	table := []LeapEntry{{newMonth.Add(-time.Hour * 24 * 365), 37}, {newMonth, 38}}
	b := eve(t, func(c *Config) { c.Leap.Table = table })
	b.add(1, nil)
	b.sample(1, 0, announced(wire.LeapNone))
	b.pass(20 * time.Second)
	if s := b.snapshot(); s.Leap != wire.LeapInsert || s.TAI != 37 {
		t.Errorf("got leap %v, TAI−UTC %d, want the list's", s.Leap, s.TAI)
	}
}

func TestLeapOfTheListIsAnnouncedWithoutSources(t *testing.T) {
	b := eve(t, func(c *Config) {
		c.Leap.Table = []LeapEntry{{newMonth.Add(-time.Hour * 24 * 365), 37}, {newMonth, 36}}
		c.Local = &Local{Stratum: 1}
	})
	b.pass(20 * time.Second)
	if s := b.snapshot(); s.Leap != wire.LeapDelete || b.last.Kernel.Leap != wire.LeapDelete {
		t.Errorf("got leap %v, kernel %v, want a deleted second", s.Leap, b.last.Kernel.Leap)
	}
}

// TestLeapByMode goes over the leap second with one server that makes it.
func TestLeapByMode(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  LeapMode
		sign  int
		steps int
	}{
		{"the kernel inserts", LeapKernel, 1, 0},
		{"we step back", LeapStep, 1, 1},
		{"we slew", LeapSlew, 1, 0},
		{"the kernel deletes", LeapKernel, -1, 0},
		{"we step forward", LeapStep, -1, 1},
	} {
		b := eve(t, func(cfg *Config) { cfg.Leap.Mode = c.mode })
		b.add(1, nil)
		leap := wire.LeapInsert
		if c.sign < 0 {
			leap = wire.LeapDelete
		}
		for b.truth() < newMonth.Add(-10*time.Second) {
			b.sample(1, 0, announced(leap))
			b.pass(16 * time.Second)
		}
		at := newMonth
		if c.sign < 0 {
			at = at.Add(-time.Second)
		}
		b.pass(at.Sub(b.truth()) + time.Millisecond)
		b.utc = b.utc.Add(-time.Duration(c.sign) * time.Second)
		if c.mode != LeapKernel {
			b.wall += int64(c.sign) * 1e9 // nobody but us moves the clock
			b.wall -= 0
		}
		b.run(10, 16*time.Second, 0, 1)
		b.pass(20 * time.Second)
		b.wantError(time.Millisecond)
		if len(b.steps) != c.steps {
			t.Errorf("%s: got steps %v, want %d", c.name, b.steps, c.steps)
		}
		if s := b.snapshot(); s.Leap != wire.LeapNone || s.LeapPending != 0 || b.saw(model.EventLeapDone) != 1 {
			t.Errorf("%s: got leap %v pending %v, %d done", c.name, s.Leap, s.LeapPending, b.saw(model.EventLeapDone))
		}
		if b.saw(model.EventPanic) != 0 || b.saw(model.EventFrequencyJump) != 0 {
			t.Errorf("%s: the leap second disturbed the estimate", c.name)
		}
	}
}

func TestNoExchangeStraddlesTheLeap(t *testing.T) {
	l := leapState{at: newMonth}
	for _, c := range []struct {
		from time.Duration
		want bool
	}{{-time.Minute, false}, {-time.Second, true}, {time.Second, true}, {time.Minute, false}} {
		w := newMonth.Add(c.from)
		m := model.Sample{T3: w, T4: ntptime.Instant{Wall: w}}
		if got := l.straddles(&m); got != c.want {
			t.Errorf("%v from the leap: got %v, want %v", c.from, got, c.want)
		}
	}
}

func TestAListThatReachesSoFarDeniesWhatSourcesAnnounce(t *testing.T) {
	table := []LeapEntry{{newMonth.Add(-time.Hour * 24 * 365), 37}}
	for _, test := range []struct {
		name    string
		expires ntptime.Wall
		want    wire.Leap
	}{
		{"the list is valid beyond the end of the month", newMonth.Add(time.Hour), wire.LeapNone},
		{"the list ends before the month does", newMonth.Add(-time.Hour), wire.LeapInsert},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := eve(t, func(c *Config) { c.Leap.Table, c.Leap.Expires = table, test.expires })
			b.add(1, nil)
			for range 3 {
				b.sample(1, 0, announced(wire.LeapInsert))
				b.pass(16 * time.Second)
			}
			if got := b.snapshot().Leap; got != test.want {
				t.Errorf("got leap %v, want %v", got, test.want)
			}
		})
	}
}

func TestSourcesAreBelievedInJuneAndDecemberOnly(t *testing.T) {
	for month, want := range map[time.Month]wire.Leap{time.March: wire.LeapNone, time.June: wire.LeapInsert, time.December: wire.LeapInsert} {
		b := eve(t, nil)
		b.utc = ntptime.WallOf(time.Date(2030, month+1, 1, 0, 0, 0, 0, time.UTC)).Add(-time.Hour)
		b.sys = New(defaults(), b.now())
		b.add(1, nil)
		for range 3 {
			b.sample(1, 0, announced(wire.LeapInsert))
			b.pass(16 * time.Second)
		}
		if got := b.snapshot().Leap; got != want {
			t.Errorf("end of %v: got leap %v, want %v", month, got, want)
		}
	}
}

// A leap second is due by the clock, also where that is slewed: who takes it for made before
// the kernel has made it disarms it.
func TestTheLeapTimerKeepsPaceWithASlew(t *testing.T) {
	for _, ahead := range []time.Duration{500 * time.Millisecond, -500 * time.Millisecond} {
		b := eve(t, func(c *Config) { c.MaxSlew = 0.01 })
		b.add(1, nil)
		for b.truth() < newMonth.Add(-60*time.Second) {
			b.sample(1, 0, announced(wire.LeapInsert))
			b.pass(4 * time.Second)
		}
		b.wall += int64(ahead)
		b.pass(newMonth.Sub(b.truth()) - 12*time.Second)
		b.sample(1, 0, announced(wire.LeapInsert))
		b.pass(15 * time.Second)
		late := time.Duration(-1)
		for _, e := range b.events {
			if e.Kind == model.EventLeapDone {
				late = e.At.Wall.Sub(newMonth)
			}
		}
		if late < leapLate-time.Millisecond || late > leapLate+time.Millisecond {
			t.Errorf("clock ahead by %v: the leap second is taken for made %v after the clock's day, want %v", ahead, late, leapLate)
		}
	}
}
