package system

import (
	"errors"
	"fmt"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/ntptime"
)

// StepNow sets the clock at once by what is left to correct, as an operator wishes,
// whatever the thresholds say. It is refused while no usable source tells the time, and
// beyond clock.panic, as any correction is. The result is what the clock is set by,
// positive forward.
func (s *System) StepNow(now ntptime.Instant, out *Output) (time.Duration, error) {
	if !s.summary.Usable || !s.combined.Started() || s.updates == 0 {
		return 0, errors.New("no usable source tells by how much; `timeball explain` says why")
	}
	r, e := s.residualFor(now)
	d := s.discipline.StepNow(now, r)
	s.carryOut(now, d, e, out)
	s.setState(now, out)
	if d.Kind == discipline.Refuse {
		return 0, fmt.Errorf("the clock is off by %s, and clock.panic allows %s; check the sources, then `timeball accept-correction`", dur(d.Left), s.cfg.Panic)
	}
	return d.Correction.Step, nil
}

// ClockRefusal is why the clock would not do the last correction, "" if it did.
func (s *System) ClockRefusal() string { return s.lastRefusal }
