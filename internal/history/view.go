package history

import (
	"math"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// View is one span as reports and pictures have it, oldest point first.
type View struct {
	Span     string   `json:"span"`     // hour, day or week
	Interval float64  `json:"interval"` // s, of a point
	End      float64  `json:"end"`      // s since 1970: the moment of the report
	Points   []Point  `json:"points"`
	Sources  []Source `json:"sources"`
}

// Point is the worst of one interval; offsets are reference − local. Points in which
// nothing was recorded are left out.
type Point struct {
	Age          float64  `json:"age"`         // s, before End
	Offset       float64  `json:"offset"`      // s, still to be worked off
	ErrorBound   *float64 `json:"error_bound"` // s; null: not known
	Frequency    float64  `json:"frequency"`   // s/s
	Jitter       float64  `json:"jitter"`      // s
	State        string   `json:"state"`
	Synchronized bool     `json:"synchronized"`
	Requests     uint32   `json:"requests"` // received by the server
	Answered     uint32   `json:"answered"` // with the time
}

// Source is one source over the span.
type Source struct {
	Name    string        `json:"name"`
	Address string        `json:"address"`
	Points  []SourcePoint `json:"points"`
}

// SourcePoint is a source in one interval: its largest offset and its least use.
type SourcePoint struct {
	Age    float64  `json:"age"`    // s, before End
	Offset *float64 `json:"offset"` // s; null: not measured
	State  string   `json:"state"`
}

// View reads one span by its name, the hour if there is none of it.
func (r *Ring) View(name string, now ntptime.Instant) View {
	span := 0
	for i := range spans {
		if spans[i].name == name {
			span = i
		}
	}
	v := View{Span: spans[span].name, Interval: spans[span].slot.Seconds(), End: float64(now.Wall) / 1e9, Points: []Point{}, Sources: []Source{}}
	newest := slotOf(span, now.Raw)
	count := int64(slotsOf(span))
	for slot := newest - count + 1; slot <= newest; slot++ {
		if p := r.tracks[span].find(slot); p != nil {
			v.Points = append(v.Points, p.view(ageOf(span, slot, now)))
		}
	}
	for _, t := range r.sources {
		if points := t.view(span, newest, now); len(points) > 0 {
			v.Sources = append(v.Sources, Source{Name: t.name, Address: t.address, Points: points})
		}
	}
	return v
}

// ageOf is how long before now the middle of a slot lies, and no less than nothing.
func ageOf(span int, slot int64, now ntptime.Instant) float64 {
	middle := ntptime.Raw((slot-1)*int64(spans[span].slot) + int64(spans[span].slot)/2)
	return math.Max(0, now.Raw.Sub(middle).Seconds())
}

func (t *track) find(slot int64) *point {
	if t.points == nil || slot <= 0 {
		return nil
	}
	if p := &t.points[slot%int64(len(t.points))]; p.slot == slot {
		return p
	}
	return nil
}

func (p *point) view(age float64) Point {
	out := Point{Age: age, Offset: float64(p.offset), Frequency: float64(p.frequency), Jitter: float64(p.jitter),
		State: p.state.String(), Synchronized: p.synced, Requests: p.requests, Answered: p.answered}
	if bound := float64(p.bound); !math.IsInf(bound, 0) {
		out.ErrorBound = &bound
	}
	return out
}

func (t *sourceTrack) view(span int, newest int64, now ntptime.Instant) (points []SourcePoint) {
	slots := t.slots[span]
	if slots == nil {
		return nil
	}
	seen := slotOf(span, ntptime.Raw((t.newest-1)*int64(spans[0].slot)))
	for slot := newest - int64(len(slots)) + 1; slot <= min(newest, seen+1); slot++ {
		if slot <= 0 {
			continue
		}
		p := &slots[slot%int64(len(slots))]
		if !p.filled || p.slot != uint16(slot) {
			continue
		}
		out := SourcePoint{Age: ageOf(span, slot, now), State: p.state.String()}
		if offset := float64(p.offset); !math.IsNaN(offset) {
			out.Offset = &offset
		}
		points = append(points, out)
	}
	return points
}

// stateOf is a state by its name.
func stateOf(name string) model.State {
	for s := range model.State(model.States) {
		if s.String() == name {
			return s
		}
	}
	return model.StateWaiting
}
