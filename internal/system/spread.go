package system

import (
	"math"
	"slices"

	"timeball/internal/filter"
)

// spread is how far a source's samples contradict each other. Those of an honest one
// hardly do: each is an interval that holds the true offset. A source whose timestamps
// are cut to coarse ticks, and that claims a precision which it does not have, is
// believed no better than its samples are scattered.
type spread struct {
	taken [spreadMemory]interval // newest anywhere
	n     int
	width float64 // s, what its samples show beyond what it claims; 0: nothing
}

// interval is what one sample says of the offset, on the raw scale.
type interval struct {
	at        int64   // raw ns
	mid, half float64 // s
}

const (
	spreadMemory = 16    // samples
	spreadFew    = 5     // so many of them that contradict their neighbours are no chance
	spreadFirst  = 3     // at the start: all of them, if they are so many
	spreadNoise  = 20e-6 // s: timestamps may be wrong by as much whatever a source claims
	spreadKeep   = 0.98  // of the width found is kept with each sample
	// Timestamps cut to ticks of q are up to q off the line between their neighbours, and
	// half of that where poll and tick keep step; the clock that follows them errs by more.
	spreadTick  = 1.2
	spreadShare = 3.0
)

// note takes a sample, for an oscillator of some wander (s/s per √s).
func (s *spread) note(x interval, wander float64) {
	s.taken[s.n%spreadMemory] = x
	s.n++
	count := max(min(s.n, spreadMemory)-2, 0)
	var all [spreadMemory - 2]float64
	off, contrary := all[:count], 0
	for i := range off {
		a, b, c := s.last(i), s.last(i+1), s.last(i+2)
		span := float64(a.at-c.at) * 1e-9
		if !(span > 0) {
			continue
		}
		share := float64(a.at-b.at) * 1e-9 / span
		off[i] = math.Abs(b.mid - (a.mid + (c.mid-a.mid)*share))
		allowed := b.half + (1-share)*a.half + share*c.half + 3*wander*math.Sqrt(span*span*span)
		if off[i] > allowed {
			contrary++
		}
	}
	s.width *= spreadKeep
	if contrary >= spreadFew || count < spreadFew && contrary == count && count >= spreadFirst {
		slices.Sort(off)
		s.width = max(s.width, spreadTick*off[len(off)-2])
	}
}

// shift moves the origin of offsets by d seconds, up.
func (s *spread) shift(d float64) {
	for i := range s.taken {
		s.taken[i].mid -= d
	}
}

// last returns the i-th last sample, 0 the newest.
func (s *spread) last(i int) *interval { return &s.taken[(s.n-1-i)%spreadMemory] }

// noteSpread has a sample compared with those before it.
func (src *source) noteSpread(x filter.Exchange) {
	if x.Kind == filter.Reference {
		return
	}
	e := src.lastEst.Extrapolate(x.At)
	x.Ticks = 0 // by what its timestamps and its precision say, not by how far they are believed
	w := src.filter.Window(&x, src.filter.Count()-1, &e)
	src.spread.note(interval{x.At, (w.Lo + w.Hi) / 2, (w.Hi-w.Lo)/2 + 3*w.Edge + src.dispersion + spreadNoise}, e.Wander)
}

// ownDispersion is what a source adds to its own root distance: the precision of its
// clock and of ours (RFC 5905 §8), or what its samples show where that is more.
func (src *source) ownDispersion() float64 {
	return math.Max(src.dispersion, spreadShare*src.spread.width)
}

// uncertainty is how wrong an estimate may be with a standard deviation of sd seconds. What
// clocks tick is in that already, where it matters: the filter's windows are widened by it.
func uncertainty(ticks, sd float64) float64 { return math.Max(ticks, boundSigmas*sd) }
