package history

import (
	"fmt"
	"math"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

var begin = ntptime.Instant{Wall: ntptime.Wall(1767225600 * time.Second), Raw: ntptime.Raw(time.Hour)}

func after(d time.Duration) ntptime.Instant {
	return ntptime.Instant{Wall: begin.Wall.Add(d), Raw: begin.Raw.Add(d)}
}

func state(offset, bound time.Duration, synced bool) *model.Snapshot {
	s := &model.Snapshot{State: model.DisciplineUnset, Offset: offset, ErrorBound: bound, Synchronized: synced, Updates: 1}
	if synced {
		s.State = model.DisciplineSync
	}
	return s
}

// A slot of a longer span keeps the worst of its time: what was bad for ten seconds can
// still be seen a week later.
func TestASlotKeepsTheWorst(t *testing.T) {
	r := New(1_000_000)
	for i := range 60 {
		offset, bound, synced := time.Microsecond, 10*time.Microsecond, true
		if i == 30 {
			offset, bound, synced = -5*time.Millisecond, 8*time.Millisecond, false
		}
		r.Record(state(offset, bound, synced), after(time.Duration(i)*Interval), Served{})
	}
	for _, span := range Names() {
		worst, bound, lost := 0.0, 0.0, 0
		for _, p := range r.View(span, after(10*time.Minute)).Points {
			worst = math.Min(worst, p.Offset)
			bound = math.Max(bound, *p.ErrorBound)
			if !p.Synchronized {
				lost++
			}
		}
		if math.Abs(worst+0.005) > 1e-6 || math.Abs(bound-0.008) > 1e-6 || lost != 1 {
			t.Errorf("%s: got offset %g, bound %g, %d points not synchronized; want -0.005, 0.008 and 1", span, worst, bound, lost)
		}
	}
}

// What is older than its span is gone, and a hole stays a hole.
func TestTheRingForgetsAndKeepsHoles(t *testing.T) {
	r := New(1_000_000)
	r.Record(state(0, time.Millisecond, true), after(0), Served{})
	r.Record(state(0, time.Millisecond, true), after(30*time.Minute), Served{})
	if points := r.View("hour", after(30*time.Minute)).Points; len(points) != 2 || points[0].Age < 1790 || points[1].Age > 10 {
		t.Errorf("got %+v, want two points half an hour apart", points)
	}
	if points := r.View("hour", after(61*time.Minute)).Points; len(points) != 1 {
		t.Errorf("got %d points an hour later, want 1", len(points))
	}
	if points := r.View("day", after(61*time.Minute)).Points; len(points) != 2 {
		t.Errorf("got %d points of the day, want 2", len(points))
	}
}

// A bound that nobody knows is none, and requests are counted since the point before.
func TestUnknownBoundsAndRequests(t *testing.T) {
	r := New(1_000_000)
	s := state(0, model.UnknownBound, false)
	s.Updates = 0
	r.Record(s, after(0), Served{Requests: 1000, Answered: 900})
	r.Record(state(0, time.Millisecond, true), after(Interval), Served{Requests: 1010, Answered: 905})
	r.Record(state(0, time.Millisecond, true), after(2*Interval), Served{Requests: 3, Answered: 3}) // counted anew
	points := r.View("hour", after(2*Interval)).Points
	if len(points) != 3 || points[0].ErrorBound != nil || points[0].Requests != 0 || points[1].Requests != 10 || points[1].Answered != 5 || points[2].Requests != 0 {
		t.Errorf("got %+v", points)
	}
}

// Of more sources than there is room for, those that are gone make room.
func TestSourcesThatAreGoneMakeRoom(t *testing.T) {
	r := New(1_000_000)
	with := func(from, to int) *model.Snapshot {
		s := state(0, time.Millisecond, true)
		for i := from; i < to; i++ {
			s.Sources = append(s.Sources, model.SourceReport{SourceStatus: model.SourceStatus{Name: fmt.Sprint("s", i)}, State: model.StateSelected, Samples: 1})
		}
		return s
	}
	r.Record(with(0, MaxSources+10), after(0), Served{})
	if got := len(r.View("hour", after(0)).Sources); got != MaxSources {
		t.Errorf("got %d sources, want %d", got, MaxSources)
	}
	r.Record(with(100, 103), after(Interval), Served{})
	found := 0
	for _, s := range r.View("hour", after(Interval)).Sources {
		if s.Name == "s100" || s.Name == "s101" || s.Name == "s102" {
			found++
		}
	}
	if found != 3 {
		t.Errorf("got %d of the new sources, want 3", found)
	}
	if New(1000) != nil {
		t.Error("a size too small for anything: want none")
	}
}
