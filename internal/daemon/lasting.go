package daemon

import (
	"math"
	"path/filepath"

	"go.uber.org/zap"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/state"
)

// A slew outlives the daemon that dies in it (clock.Release). So the frequency to go back to
// is written down before one, where it matters and has changed.
const (
	slewWorthNoting    = 20 * ntptime.PPM
	lastingWorthNoting = ntptime.PPM / 2
)

// lastingPath is where the lasting frequency is kept; "": nowhere.
func lastingPath(cfg *config.Config) string {
	if cfg.Clock.StateDir == "" {
		return ""
	}
	return filepath.Join(cfg.Clock.StateDir, "lasting-frequency")
}

// noteLasting writes the lasting frequency down before a correction that slews.
func (s *stateFiles) noteLasting(c model.Correction) {
	slew, change := math.Abs(float64(c.Slew)), math.Abs(float64(c.Frequency-s.lasting))
	if s.lastingPath == "" || slew < float64(slewWorthNoting) || s.lastingNoted && change < float64(lastingWorthNoting) {
		return
	}
	s.lasting, s.lastingNoted = c.Frequency, true
	s.complain(state.WriteLasting(s.lastingPath, c.Frequency))
}

// ReleaseClock puts the kernel's clock back to the lasting frequency of a daemon that is no
// more, and says that it is not synchronized where that did not end in order. With another
// clock driver there is nothing to do.
func ReleaseClock(cfg *config.Config, orderly bool, log *zap.Logger) error {
	if cfg.Clock.Driver != config.ClockKernel {
		return nil
	}
	return release(clock.System(), cfg, orderly, log)
}

func release(sys clock.Syscalls, cfg *config.Config, orderly bool, log *zap.Logger) error {
	frequency, err := state.ReadLasting(lastingPath(cfg))
	if err != nil {
		var drift state.Drift
		if drift, err = state.ReadDrift(cfg.Clock.DriftFile); err == nil {
			frequency = drift.Frequency
		}
	}
	// After an end in order the rate is right already, and newer than any file.
	known := err == nil && !orderly
	r, err := clock.Release(sys, frequency, known, orderly)
	if err != nil {
		return err
	}
	if r.Changed {
		log.Warn("a slew was left in force; the clock's rate was put back",
			zap.Stringer("found", r.Found), zap.Stringer("left", r.Left))
	}
	return nil
}
