package system

import (
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/smear"
	"timeball/internal/wire"
)

func TestSmearIsShownInItsWindowOnly(t *testing.T) {
	listed := LeapConfig{
		Mode: LeapSmear, Window: 2 * time.Hour, Expires: newMonth.Add(1000 * time.Hour),
		Table: []LeapEntry{{At: newMonth.Add(-1000 * time.Hour), TAI: 37}, {At: newMonth, TAI: 38}},
	}
	for _, test := range []struct {
		name   string
		mode   LeapMode
		start  time.Duration // of the daemon, after the end of the month
		active bool
		after  bool
	}{
		{"before the window", LeapSmear, -61 * time.Minute, false, false},
		{"before the leap second", LeapSmear, -30 * time.Minute, true, false},
		{"started after the leap second", LeapSmear, 30 * time.Minute, true, true},
		{"after the window", LeapSmear, 61 * time.Minute, false, false},
		{"in another mode", LeapKernel, -30 * time.Minute, false, false},
	} {
		b := eve(t, func(c *Config) { c.Leap = listed; c.Leap.Mode = test.mode })
		b.utc = newMonth.Add(test.start)
		c := defaults()
		c.Leap = listed
		c.Leap.Mode = test.mode
		b.sys = New(c, b.now())
		b.add(1, nil)
		b.sample(1, 0, nil)
		if s := b.snapshot(); (s.Smear.Leap == newMonth) != test.active || s.SmearAfter != test.after {
			t.Errorf("%s: smear %+v, after %v", test.name, s.Smear, s.SmearAfter)
		}
	}
}

// Our own clock takes the leap second as with the kernel's mode.
func TestSmearLeavesOurOwnClockTrue(t *testing.T) {
	b := eve(t, func(c *Config) {
		c.Leap = LeapConfig{Mode: LeapSmear, Window: 24 * time.Hour, Expires: newMonth.Add(time.Hour),
			Table: []LeapEntry{{At: 0, TAI: 37}, {At: newMonth, TAI: 38}}}
	})
	b.add(1, nil)
	b.sample(1, 0, nil)
	b.pass(16 * time.Second)
	b.sample(1, 0, nil)
	if s := b.snapshot(); s.Leap != wire.LeapInsert || b.last.Kernel.Leap != wire.LeapInsert || s.Smear.Delete {
		t.Errorf("leap %v, the kernel's %v, %+v", s.Leap, b.last.Kernel.Leap, s.Smear)
	}
	if s := b.snapshot(); s.Smear.Offset(s.At.Wall, false) > -400*time.Millisecond {
		t.Errorf("an hour before the leap second smeared time is only %v off", s.Smear.Offset(s.At.Wall, false))
	}
}

// A source that smears without saying so is told by its shape, and called by its name.
func TestASmearIsToldByItsShape(t *testing.T) {
	b := eve(t, func(c *Config) {
		c.Leap = LeapConfig{Expires: newMonth.Add(1000 * time.Hour), Table: []LeapEntry{{At: 0, TAI: 37}, {At: newMonth, TAI: 38}}}
	})
	for id := range model.SourceID(4) {
		b.add(id+1, nil)
	}
	smeared := smear.Smear{Leap: newMonth, Window: 24 * time.Hour}
	for range 6 {
		for id := range model.SourceID(3) {
			b.sample(id+1, 0, nil)
		}
		b.sample(4, smeared.Offset(b.utc, false), nil)
		b.pass(16 * time.Second)
	}
	for _, r := range b.snapshot().Sources {
		if smears := strings.HasPrefix(r.Reason, "smearing"); smears != (r.Source == 4) {
			t.Errorf("source %d: %v, %s", r.Source, r.State, r.Reason)
		}
	}
}
