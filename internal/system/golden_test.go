package system

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/golden"
)

// trace writes down what comes to the system process and what goes out of it: samples in;
// events, corrections and changes of state out. Numbers are rounded, so that only what
// matters changes a trace; what is too small to matter is left out.
type trace struct {
	*bench
	golden.Trace
	state  string
	seen   int // events written
	rate   string
	server func(*model.Sample) // what the servers say of themselves; nil: the usual
}

func newTrace(t *testing.T, ahead time.Duration, f func(c *Config)) *trace {
	r := &trace{bench: newBench(t, ahead, f), Trace: golden.Trace{Width: 9}}
	r.note()
	return r
}

func (r *trace) line(format string, args ...any) { r.Line(time.Duration(r.raw), format, args...) }

// from makes an exchange with sources whose clocks are ahead by server.
func (r *trace) from(server time.Duration, ids ...model.SourceID) {
	for _, id := range ids {
		steps := len(r.steps)
		r.sample(id, server, r.server)
		r.line("in:  a sample of source %d, ahead of true time by %s", id, rough(server.Seconds()))
		r.note()
		if len(r.steps) > steps {
			r.line("out: step %s", rough(r.steps[steps].Seconds()))
		}
	}
}

// polls makes n exchanges with sources, a gap apart, and tells what they bring about.
func (r *trace) polls(n int, gap, server time.Duration, ids ...model.SourceID) {
	for range n {
		for _, id := range ids {
			steps := len(r.steps)
			r.sample(id, server, r.server)
			r.note()
			if len(r.steps) > steps {
				r.line("out: step %s", rough(r.steps[steps].Seconds()))
			}
		}
		r.wait(gap)
	}
}

// wait lets time go by second by second, so that what happens in between is told when it does.
func (r *trace) wait(d time.Duration) {
	for end := r.raw.Add(d); r.raw < end; {
		r.pass(min(time.Second, end.Sub(r.raw)))
		r.note()
	}
}

// note tells what has changed since the last call.
func (r *trace) note() {
	for ; r.seen < len(r.events); r.seen++ {
		e := &r.events[r.seen]
		who, value := "", ""
		if e.Source != 0 {
			who = fmt.Sprintf(" source %d", e.Source)
		}
		if e.Value != 0 {
			value = " " + rough(e.Value.Seconds())
		}
		r.line("out: event %s%s%s", e.Kind, who, value)
	}
	rate := ""
	if f, slew := r.last.Frequency.PPM(), r.last.Slew.PPM(); math.Abs(slew) > 50 {
		rate = fmt.Sprintf("slew %.1g ppm", slew)
	} else if math.Abs(f) > 5 {
		rate = fmt.Sprintf("no slew, frequency %.2g ppm", f)
	} else {
		rate = "no slew"
	}
	if rate != r.rate && r.last != (model.Correction{}) {
		r.rate = rate
		r.line("out: %s", rate)
	}
	s := r.snapshot()
	state := fmt.Sprintf("%s, stratum %d", s.State, s.Stratum)
	if !s.Synchronized {
		state = fmt.Sprintf("%s, not synchronized", s.State)
	}
	if s.Leap == wire.LeapInsert || s.Leap == wire.LeapDelete {
		state += fmt.Sprintf(", leap %s", s.Leap)
	}
	if state != r.state {
		r.state = state
		r.line("     state %s", state)
	}
}

// rough is seconds with two digits.
func rough(seconds float64) string {
	switch size := math.Abs(seconds); {
	case size < 50e-6:
		return "nothing"
	case size < 1:
		return fmt.Sprintf("%+.2g ms", seconds*1e3)
	case size < 100:
		return fmt.Sprintf("%+.2g s", seconds)
	}
	return fmt.Sprintf("%+.0f s", seconds)
}

// The lives of a clock, each as a trace to read (docs/WALK.md).
func TestTraces(t *testing.T) {
	t.Run("start", func(t *testing.T) {
		r := newTrace(t, 10*time.Second, nil)
		r.Say("A clock that is 10 s ahead is stepped once, and its state learned by a startup burst.")
		r.add(1, nil)
		r.from(0, 1)
		r.polls(10, 2*time.Second, 0, 1)
		r.Say("A server that is 300 ms ahead from now on: below the threshold the clock is slewed to it, and the slew ends.")
		r.polls(3, 16*time.Second, 300*time.Millisecond, 1)
		r.Compare(t, "start")
	})
	t.Run("panic", func(t *testing.T) {
		r := newTrace(t, 20*time.Millisecond, nil)
		r.Say("Three sources.")
		for id := model.SourceID(1); id <= 3; id++ {
			r.add(id, nil)
		}
		r.polls(8, 16*time.Second, 0, 1, 2, 3)
		r.Say("All of them are 2000 s ahead from now on: beyond clock.panic nothing is corrected.")
		r.polls(8, 16*time.Second, 2000*time.Second, 1, 2, 3)
		r.Say("The operator lets that correction through, and only that.")
		r.out.Reset()
		if _, err := r.sys.AcceptCorrection(r.now(), 1990*time.Second, &r.out); err == nil {
			t.Error("another size was accepted")
		} else {
			r.line("in:  accept 1990 s: %s", err)
		}
		r.out.Reset()
		if _, err := r.sys.AcceptCorrection(r.now(), 2000*time.Second, &r.out); err != nil {
			t.Error(err)
		}
		r.act()
		r.line("in:  accept 2000 s")
		r.note()
		r.polls(2, 16*time.Second, 2000*time.Second, 1, 2, 3)
		r.Compare(t, "panic")
	})
	t.Run("set-by-others", func(t *testing.T) {
		r := newTrace(t, 0, nil)
		r.add(1, nil)
		r.polls(10, 16*time.Second, 0, 1)
		r.Say("Somebody sets the clock 5 s ahead: it is known at once, and the next sample is enough to undo it.")
		r.wall += int64(5 * time.Second)
		r.out.Reset()
		r.sys.OnClockJump(model.ClockJump{At: r.now(), By: 5 * time.Second}, &r.out)
		r.act()
		r.note()
		r.wait(2 * time.Second)
		r.from(0, 1)
		r.wait(16 * time.Second)
		r.Compare(t, "set-by-others")
	})
	t.Run("paused", func(t *testing.T) {
		r := newTrace(t, 0, nil)
		r.add(1, nil)
		r.polls(10, 16*time.Second, 0, 1)
		r.Say("The machine was paused for 60 s, which none of its clocks shows: the source does, twice.")
		r.polls(4, 16*time.Second, 60*time.Second, 1)
		r.Compare(t, "paused")
	})
	t.Run("falseticker", func(t *testing.T) {
		r := newTrace(t, 0, nil)
		for id := model.SourceID(1); id <= 3; id++ {
			r.add(id, nil)
		}
		r.polls(10, 16*time.Second, 0, 1, 2, 3)
		r.Say("The third source goes wrong by 200 ms, and later comes back.")
		for range 6 {
			r.polls(1, 0, 0, 1, 2)
			r.polls(1, 16*time.Second, 200*time.Millisecond, 3)
		}
		r.polls(40, 16*time.Second, 0, 1, 2, 3)
		r.Compare(t, "falseticker")
	})
	t.Run("holdover", func(t *testing.T) {
		r := newTrace(t, 0, func(c *Config) { c.Local = &Local{Stratum: 10, Activate: 20 * time.Minute, Awaits: true} })
		r.add(1, nil)
		r.polls(10, 16*time.Second, 0, 1)
		r.Say("The only source falls silent: holdover, and after 20 minutes the local clock, with a growing error.")
		r.out.Reset()
		r.status[1].Reach, r.status[1].Unanswered = 0, 8
		r.sys.OnStatus(r.now(), r.status[1], &r.out)
		r.act()
		r.note()
		r.wait(30 * time.Minute)
		r.Say("It comes back.")
		r.status[1].Reach = 1
		r.from(0, 1)
		r.Compare(t, "holdover")
	})
	t.Run("local", func(t *testing.T) {
		r := newTrace(t, 0, func(c *Config) { c.Local = &Local{Stratum: 10, Activate: time.Minute, Awaits: true} })
		r.Say("Nobody has answered since the start: after local.activate the local clock is served.")
		r.add(1, nil)
		r.wait(2 * time.Minute)
		r.Say("A server answers: from then on its time is served.")
		r.polls(4, 16*time.Second, 0, 1)
		r.Compare(t, "local")
	})
	t.Run("orphan", func(t *testing.T) {
		r := newTrace(t, 0, func(c *Config) {
			c.Local = &Local{Stratum: 10, Orphan: true}
			c.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.77")}
		})
		r.Say("An orphan of our stratum at a lower address leads: we follow it, one stratum below.")
		r.server = func(m *model.Sample) { m.Server.Stratum = 10 }
		r.add(1, nil)
		r.polls(4, 16*time.Second, 5*time.Millisecond, 1)
		r.Say("It falls silent: the clock that is served is ours.")
		r.say(1, func(s *model.SourceStatus) { s.Reach, s.Unanswered = 0, 8 })
		r.note()
		r.wait(10 * time.Minute)
		r.Say("A server of stratum 2 is followed, at whatever address.")
		r.server = nil
		r.add(99, nil)
		r.polls(4, 16*time.Second, 0, 99)
		r.Compare(t, "orphan")
	})
	t.Run("leap-second", func(t *testing.T) {
		leap := ntptime.WallOf(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC))
		r := newTrace(t, 0, func(c *Config) {
			c.Leap = LeapConfig{Mode: LeapStep, Table: []LeapEntry{{At: leap.Add(-1000 * time.Hour), TAI: 37}, {At: leap, TAI: 38}}}
		})
		r.utc = leap.Add(-10 * time.Minute)
		r.sys = New(r.sys.cfg, r.now())
		r.Say("Ten minutes before a leap second that the list has; it is announced, and made by a step.")
		r.add(1, nil)
		r.polls(10, 16*time.Second, 0, 1)
		r.wait(8 * time.Minute)
		r.polls(2, 16*time.Second, -time.Second, 1)
		r.Compare(t, "leap-second")
	})
}
