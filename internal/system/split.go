package system

import (
	"math"

	"timeball/internal/filter"
)

// splitBound is how wrong the clock is if the source that is furthest from it should be
// the right one, in seconds, and how quickly that grows; e is the combined state of now.
// What that was made of when the sources parted is of both sides, and nobody knows which
// was right; both go on being asked.
func (s *System) splitBound(left float64, e filter.Estimate) (bound, rate float64) {
	for _, src := range s.sources {
		t := s.tracker(src)
		if src.opt.NoSelect || src.samples == 0 || !t.Started() {
			continue
		}
		theirs := t.Estimate().Extrapolate(e.At)
		off := math.Abs(theirs.Offset - e.Offset + left)
		bound = math.Max(bound, off+src.serverDistance()+src.filter.MinDelay()/2+uncertainty(src.ownDispersion(), sqrt(theirs.P00)))
		rate = math.Max(rate, math.Abs(theirs.Freq-s.discipline.Frequency())+boundSigmas*sqrt(theirs.P11))
	}
	return bound, rate
}
