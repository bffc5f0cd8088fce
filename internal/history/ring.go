// Package history remembers how the clock and its sources did over the last hour, day and
// week, in a ring of fixed size, and draws it. Times are kept on the raw oscillator's scale,
// so that a step of the clock tears no hole.
package history

import (
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Interval is how often Record is to be called.
const Interval = 10 * time.Second

// spans are what is remembered: each in slots of its own length. A slot of a longer span
// holds the worst of its time, so that what was bad for a moment can still be seen.
var spans = [...]struct {
	name        string
	slot, whole time.Duration
}{
	{"hour", Interval, time.Hour},
	{"day", 4 * time.Minute, 24 * time.Hour},
	{"week", 30 * time.Minute, 7 * 24 * time.Hour},
}

// Names are those of the spans, from the shortest.
func Names() []string {
	names := make([]string, len(spans))
	for i := range spans {
		names[i] = spans[i].name
	}
	return names
}

// MaxSources bounds the sources remembered; a busy pool's former members make room first.
const MaxSources = 64

// Ring is the memory. The zero value is ready; it is not safe for several goroutines.
type Ring struct {
	tracks  [len(spans)]track
	sources []*sourceTrack
	max     int // sources; 0: MaxSources
	served  Served
	begun   bool
}

// track is the ring of one span.
type track struct {
	points []point // slot n lies at n modulo their number
}

// point is a slot, in 32 bytes.
type point struct {
	slot      int64 // its number; 0: never filled
	offset    float32
	bound     float32 // s; +Inf: not known
	frequency float32 // s/s
	jitter    float32
	requests  uint32
	answered  uint32
	state     model.DisciplineState
	synced    bool
}

// sourceTrack is what is remembered of one source.
type sourceTrack struct {
	name, address string
	newest        int64 // slot of the first span in which it was last seen
	slots         [len(spans)][]sourcePoint
}

// sourcePoint is a slot of a source, in 8 bytes.
type sourcePoint struct {
	offset float32 // s; NaN: not measured
	slot   uint16  // low bits of its number
	state  model.State
	filled bool
}

// Served counts what the server has done since its start.
type Served struct{ Requests, Answered uint64 }

// New returns a ring that takes no more than so many bytes; nil where that is too little
// for anything.
func New(size int) *Ring {
	const fixed = 64 << 10 // the points of all spans, and what holds them
	perSource := 256
	for i := range spans {
		perSource += 8 * slotsOf(i)
	}
	if size < fixed {
		return nil
	}
	return &Ring{max: min(MaxSources, (size-fixed)/perSource)}
}

func slotsOf(span int) int { return int(spans[span].whole / spans[span].slot) }

// slotOf is the number of the slot that a moment lies in, from 1.
func slotOf(span int, at ntptime.Raw) int64 { return int64(at)/int64(spans[span].slot) + 1 }

// Record adds the present state. served is what the server has counted since its start.
func (r *Ring) Record(s *model.Snapshot, now ntptime.Instant, served Served) {
	requests, answered := r.since(served)
	for i := range spans {
		t := &r.tracks[i]
		if t.points == nil {
			t.points = make([]point, slotsOf(i))
		}
		p := t.at(slotOf(i, now.Raw))
		p.take(s, now)
		p.requests, p.answered = add32(p.requests, requests), add32(p.answered, answered)
	}
	for i := range s.Sources {
		if source := r.sourceOf(&s.Sources[i], now); source != nil {
			source.take(&s.Sources[i], now)
		}
	}
}

// since is what was served since the last call; counters that have begun anew count from 0.
func (r *Ring) since(served Served) (requests, answered uint64) {
	before := r.served
	r.served = served
	if !r.begun || served.Requests < before.Requests || served.Answered < before.Answered {
		r.begun = true
		return 0, 0
	}
	return served.Requests - before.Requests, served.Answered - before.Answered
}

func add32(sum uint32, n uint64) uint32 { return uint32(min(uint64(sum)+n, math.MaxUint32)) }

// at is the slot of a number; a new one is emptied.
func (t *track) at(slot int64) *point {
	p := &t.points[slot%int64(len(t.points))]
	if p.slot != slot {
		*p = point{slot: slot}
	}
	return p
}

// take keeps the worst of a slot: the largest offset, bound and jitter, and the state in
// which the clock was not synchronized, if it was in one. Only once a source has set the
// clock there is an offset at all.
func (p *point) take(s *model.Snapshot, now ntptime.Instant) {
	first := p.bound == 0
	bound := float32(math.Inf(1))
	if s.ErrorBound < model.UnknownBound && (s.Synchronized || s.Updates > 0) {
		bound = float32((s.ErrorBound + growth(s, now)).Seconds())
	}
	if offset := float32(s.Offset.Seconds()); first || abs32(offset) > abs32(p.offset) {
		p.offset = offset
	}
	p.bound = max(p.bound, bound, math.SmallestNonzeroFloat32)
	p.jitter = max(p.jitter, float32(s.Jitter.Seconds()))
	p.frequency = float32(s.Frequency)
	if first || p.synced {
		p.state, p.synced = s.State, s.Synchronized
	}
}

func abs32(x float32) float32 { return float32(math.Abs(float64(x))) }

// growth is what the bound has grown by since the snapshot was made.
func growth(s *model.Snapshot, now ntptime.Instant) time.Duration {
	return max(0, s.DispersionRate.Over(max(0, now.Raw.Sub(s.At.Raw))))
}

// sourceOf finds what is remembered of a source, or makes room for it; nil if there is
// none, because that many others are in use.
func (r *Ring) sourceOf(s *model.SourceReport, now ntptime.Instant) *sourceTrack {
	address := ""
	if s.Address.IsValid() {
		address = s.Address.String()
	}
	slot, oldest := slotOf(0, now.Raw), -1
	for i, t := range r.sources {
		if t.name == s.Name && (t.address == address || t.address == "") { // "": it had none yet
			t.address = address
			t.newest = slot
			return t
		}
		if oldest < 0 || t.newest < r.sources[oldest].newest {
			oldest = i
		}
	}
	made := &sourceTrack{name: s.Name, address: address, newest: slot}
	most := r.max
	if most == 0 {
		most = MaxSources
	}
	switch {
	case len(r.sources) < most:
		r.sources = append(r.sources, made)
	case oldest >= 0 && r.sources[oldest].newest < slot:
		r.sources[oldest] = made
	default:
		return nil
	}
	return made
}

func (t *sourceTrack) take(s *model.SourceReport, now ntptime.Instant) {
	for i := range spans {
		if t.slots[i] == nil {
			t.slots[i] = make([]sourcePoint, slotsOf(i))
		}
		slot := slotOf(i, now.Raw)
		p := &t.slots[i][slot%int64(len(t.slots[i]))]
		if !p.filled || p.slot != uint16(slot) {
			*p = sourcePoint{offset: float32(math.NaN()), slot: uint16(slot), state: s.State, filled: true}
		}
		p.state = min(p.state, s.State) // the states rise with their use
		if offset := float32(s.Offset.Seconds()); s.Samples > 0 && !(abs32(offset) <= abs32(p.offset)) {
			p.offset = offset
		}
	}
}
