package system

import (
	"fmt"
	"math"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

const (
	jumpLeast  = 0.128 // s: STEPT of RFC 5905 Figure 27; less is slewed without a word
	jumpGrowth = 2.0   // times the error known before
)

// beforeJump looks whether the sources show an error that came from nowhere, as a machine
// that was paused, or restored, or moved to another host does: no clock of its own shows
// that. Where all of them agree on it, steps are allowed as at the start, within
// clock.panic, as where somebody else has set the clock. It reports whether it is new.
func (s *System) beforeJump(now ntptime.Instant, r discipline.Residual) bool {
	size := math.Abs(r.Offset)
	if size < jumpLeast || s.updates <= 1 {
		s.known = size
		return false
	}
	if s.stepsLater(r.Offset) && s.allAgree(now, r.Offset) {
		s.discipline.AllowSteps()
	}
	fresh := size > jumpGrowth*s.known && s.discipline.External() == 0
	s.known = size
	return fresh
}

// stepsLater reports whether an error that is slewed will be stepped as soon as all sources
// agree on it.
func (s *System) stepsLater(offset float64) bool {
	return s.cfg.StepThreshold > 0 && s.cfg.StepUpdates != 0 && math.Abs(offset) > s.cfg.StepThreshold.Seconds()
}

// allAgree reports whether every source that answers says that the clock is off by so
// many seconds, give or take its error.
func (s *System) allAgree(now ntptime.Instant, offset float64) bool {
	asked := 0
	for _, src := range s.sources {
		if src.opt.NoSelect || src.samples == 0 || src.status.Reach == 0 && src.heard {
			continue
		}
		t := s.tracker(src)
		if !t.Started() {
			return false
		}
		theirs := t.Estimate().Extrapolate(int64(now.Raw))
		if math.Abs(theirs.Offset-s.correction(now)-offset) > src.distance+math.Abs(offset)/8 {
			return false
		}
		asked++
	}
	return asked > 0
}

// tellJump says by how much the clock is off all of a sudden, and what will be done about it.
func (s *System) tellJump(now ntptime.Instant, d discipline.Decision, out *Output) {
	text := ""
	switch d.Kind {
	case discipline.Slew:
		takes := time.Duration(d.Takes * float64(time.Second)).Round(time.Second)
		text = fmt.Sprintf("the sources say so since now; was the machine paused or restored? It is slewed, which takes %s at clock.max_slew", takes)
		if s.stepsLater(d.Left) {
			text += ", or until all sources say so: then the rest is stepped"
		}
	case discipline.Step:
		text = "the sources say so since now; was the machine paused or restored? It is corrected at once"
	default:
		return
	}
	offset := d.Left
	if d.Kind == discipline.Step {
		offset = d.Correction.Step.Seconds()
	}
	s.event(out, now, model.EventTimeJump, s.summary.SystemPeer, dur(offset), text)
}
