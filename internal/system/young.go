package system

import (
	"math"

	"timeball/internal/filter"
	"timeball/internal/ntptime"
)

// A bound must hold where an estimate is merely likely. The filter's variance assumes that
// it knows the path and the oscillator; of a state that is young neither is so:
//
//   - the least round trip of two or three exchanges says little of the path's own, and two
//     offsets that are wrong by a part of it each make a frequency out of nothing;
//   - how much the oscillator wanders shows only with time.
//
// So while it is young a state's frequency is known no better than half the round trip over
// the time since it began, and the oscillator wanders as bad ones do.
const (
	youngUpdates = 16     // exchanges until the path is known
	youngCap     = 1.5    // times the standard deviation of the frequency at the start: the estimate may have moved by that itself
	youngSpan    = 2000.0 // s until the oscillator is
	youngWander  = 8e-9   // s/s per √s: of a virtual machine, or a PC in a draught
)

// matured returns an estimate of the combined state as the bound may use it.
func (s *System) matured(e filter.Estimate) filter.Estimate {
	span := ntptime.Raw(e.At).Sub(s.combinedSince).Seconds()
	if n := s.combined.Updates(); n < youngUpdates {
		share := 1 - float64(n)/youngUpdates
		sd := math.Min(youngCap*s.coldStart().SD, share*s.peer.roundTrip/2/math.Max(span, 1))
		e.P11 = math.Max(e.P11, sd*sd)
	}
	if span < youngSpan {
		e.Wander = math.Max(e.Wander, youngWander*(1-math.Max(span, 0)/youngSpan))
	}
	return e
}
