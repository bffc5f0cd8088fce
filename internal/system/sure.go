package system

import (
	"math"

	"timeball/internal/filter"
)

// sure is what one of a source's first exchanges leaves for its offset: none errs by more
// than half of its round trip. The estimate made of them all may lie outside of it, as one
// of a late answer and a good one does.
type sure struct {
	at        int64   // raw ns; 0: no exchange yet
	mid, half float64 // s, on the raw scale
}

// sureShare of the round trip: a half, and what timestamps may be wrong by.
const sureShare = 0.75

// note takes an exchange: the one that leaves least by now is kept.
func (s *sure) note(x *filter.Exchange, first bool) {
	if first {
		*s = sure{}
	}
	if x.Kind != filter.TwoWay {
		return
	}
	n := sure{x.At, (x.Forward - x.Backward) / 2, sureShare * math.Max(x.RoundTrip(0), 0)}
	if s.at == 0 || n.half <= s.halfAt(x.At) {
		*s = n
	}
}

// halfAt is how far from mid the offset may be at a later moment, in seconds.
func (s *sure) halfAt(raw int64) float64 {
	return s.half + drifted(raw-s.at)
}

// drifted is what the oscillator may gain in so many ns while its frequency is not known.
func drifted(ns int64) float64 {
	return boundSigmas * filter.UnknownFrequency.SD * math.Max(float64(ns)*1e-9, 0)
}
