package system

import (
	"math"

	"timeball/internal/ntptime"
	"timeball/internal/smear"
)

const (
	// A smear is told from our time by its shape once it is off by smearSeen, to within
	// smearMisses of it: the clouds begin at noon and gain 42 ms in the first hour.
	smearSeen   = 5e-3 // s
	smearMisses = 0.1
)

// smears reports whether a source tells smeared time: its reference id says so, or its
// offset is what one of the usual shapes makes of the leap second that is known.
func (s *System) smears(src *source, now ntptime.Raw) bool {
	if smear.Tells(src.server.ReferenceID) {
		return true
	}
	t := s.tracker(src)
	if src == s.soleSource || src.samples == 0 || !t.Started() || !s.combined.Started() {
		return false
	}
	wall := ntptime.Wall(s.origin + int64(now) + int64(s.combined.Estimate().Extrapolate(int64(now)).Offset*1e9))
	leap, after := s.leapWithin(wall, smear.DefaultWindow)
	if leap.Leap == 0 {
		return false
	}
	off := t.Estimate().Extrapolate(int64(now)).Offset - s.combined.Estimate().Extrapolate(int64(now)).Offset
	for _, shape := range []smear.Shape{smear.Linear, smear.Cosine} {
		leap.Shape = shape
		if want := leap.Offset(wall, after).Seconds(); math.Abs(want) > smearSeen && math.Abs(off-want) < smearMisses*math.Abs(want) {
			return true
		}
	}
	return false
}
