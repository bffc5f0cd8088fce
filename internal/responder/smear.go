package responder

import (
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/smear"
	"timeball/internal/wire"
)

// smeared is the wall time of an instant as smeared clients are to have it, and by what
// it differs from UTC. Whether the leap second has happened by then is seen by how the
// disciplined time has gone against the oscillator since the snapshot: an inserted second
// gives the same wall time twice.
func smeared(at ntptime.Instant, s *model.Snapshot) (ntptime.Wall, time.Duration) {
	after := s.SmearAfter
	jumped := math.Round((at.Wall.Sub(s.At.Wall) - at.Raw.Sub(s.At.Raw)).Seconds())
	switch leap := leapOf(&s.Smear); {
	case jumped == leap:
		after = true
	case jumped == -leap:
		after = false
	}
	offset := s.Smear.Offset(at.Wall, after)
	return at.Wall.Add(offset), offset
}

// leapOf is what the leap second does to UTC, in seconds.
func leapOf(s *smear.Smear) float64 {
	if s.Delete {
		return 1
	}
	return -1
}

// prepareSmeared makes a header tell smeared time: no leap second is announced, the
// dispersion covers the difference for those who mix, and the reference id says that it
// is smeared.
func (s *Shard) prepareSmeared(at ntptime.Instant, snapshot *model.Snapshot) {
	h := &s.header
	wall, offset := smeared(at, snapshot)
	h.RootDispersion = ntptime.ShortOf(h.RootDispersion.Duration() + offset.Abs())
	if h.Leap == wire.LeapInsert || h.Leap == wire.LeapDelete {
		h.Leap = wire.LeapNone
	}
	if h.ReferenceTime != 0 {
		h.ReferenceTime = min(snapshot.ReferenceTime.Add(offset), wall).Timestamp()
	}
	if h.Stratum != wire.StratumKiss {
		h.ReferenceID = smear.ReferenceID(offset)
	}
}
