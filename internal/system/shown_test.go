package system

import (
	"math"
	"testing"
	"time"

	"timeball/internal/model"
)

// What `explain` says of the root distance is the number that the verdict rests on.
func TestExplainShowsTheDistanceOfTheSelection(t *testing.T) {
	b := newBench(t, 0, nil)
	for id := range model.SourceID(3) {
		b.add(id+1, nil)
	}
	for round := range 12 {
		b.run(1, 16*time.Second, 0, 1, 2, 3)
		b.pass(time.Duration(round) * 100 * time.Second) // reports come at any time
		for i, r := range b.snapshot().Sources {
			for _, c := range r.Checks {
				if want := b.sys.candidates[i].Distance; c.Name == "distance" && c.Value != want {
					t.Fatalf("round %d, source %d: got distance %g explained, want %g, which was judged", round, i+1, c.Value, want)
				}
			}
		}
	}
}

// The noise of timestamps makes the round trip of a short path negative.
func TestRFC5905_8_NoDelayShownIsBelowThePrecision(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	precision := dur(defaults().Precision.Seconds())
	for range 10 {
		b.sample(1, 0, func(m *model.Sample) { m.T3 = m.T2.Add(205 * time.Microsecond) }) // on a way of 200 µs
		b.pass(2 * time.Second)
		r := b.snapshot().Sources[0]
		if r.Delay != precision || r.MinDelay != precision {
			t.Fatalf("got delay %s, shortest %s; want the precision, %s", r.Delay, r.MinDelay, precision)
		}
		for _, f := range r.Filter {
			if f.Delay != precision {
				t.Fatalf("filter: got delay %s, want %s", f.Delay, precision)
			}
		}
	}
	last := b.sys.sources[0].filter.Last(0)
	if got := last.RoundTrip(0); math.Abs(got+5e-6) > 1e-7 {
		t.Errorf("the filter was given a round trip of %g s, want -5 µs as measured", got)
	}
	if r := newBenchWithSource(t).snapshot().Sources[0]; r.Delay != 0 || r.MinDelay != 0 {
		t.Errorf("before the first sample: got delay %s, shortest %s; want none", r.Delay, r.MinDelay)
	}
}

// newBenchWithSource has a source that was never heard.
func newBenchWithSource(t *testing.T) *bench {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	return b
}

// A daemon that only serves says so at once, and one that waits when its time has come.
func TestTheLocalClockIsToldOfWithoutDelay(t *testing.T) {
	for activate, wait := range map[time.Duration]time.Duration{0: 0, 20 * time.Second: 20 * time.Second} {
		b := newBench(t, 0, func(c *Config) { c.Local = &Local{Stratum: 8, Activate: activate} })
		if wait > 0 {
			b.pass(wait - time.Millisecond)
		}
		if got := b.saw(model.EventLocal); got != 0 {
			t.Errorf("activate %s: got %d events before its time", activate, got)
		}
		b.pass(wait - time.Duration(b.raw))
		if s := b.snapshot(); b.saw(model.EventLocal) != 1 || !s.Synchronized || s.State != model.DisciplineLocal || !b.out.Changed {
			t.Errorf("activate %s: got %d events, synchronized %v in state %v, to be published %v; want 1, true, local, true",
				activate, b.saw(model.EventLocal), s.Synchronized, s.State, b.out.Changed)
		}
	}
}

// A source that never answered is shown as what it is before any selection was run.
func TestASilentSourceIsShownAsSilent(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.add(2, nil)
	for unanswered, want := range map[int]model.State{0: model.StateWaiting, 3: model.StateWaiting, 8: model.StateUnreachable} {
		b.say(1, func(s *model.SourceStatus) { s.Reach, s.Unanswered, s.Server.Stratum = 0, unanswered, 16 })
		r := b.snapshot().Sources[0]
		if last := r.Checks[len(r.Checks)-1]; r.State != want || len(r.Checks) != 1 || last.Name != "reachable" || last.Passed || last.Value != float64(unanswered) {
			t.Errorf("%d polls unanswered: got %v because %q, %+v; want %v, not reachable", unanswered, r.State, r.Reason, r.Checks, want)
		}
	}
	b.say(1, func(s *model.SourceStatus) { s.SendError = "no route" })
	if got, want := b.snapshot().Sources[0].Reason, "it cannot be asked: no route"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.saw(model.EventUnreachable); got != 0 {
		t.Errorf("got %d events by looking, want none", got)
	}
}
