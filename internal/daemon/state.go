package daemon

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/state"
)

// How often the files are written, and how often a failure to do so is logged.
const (
	saveEvery = time.Hour
	warnEvery = time.Hour
)

// firstSave comes sooner, so that a machine that is soon switched off again has learned something.
const firstSave = 10 * time.Minute

// stateFiles is what this daemon has left for its next run, and leaves again.
type stateFiles struct {
	driftPath, gatePath, timePath string // "" each: not kept

	boot  string
	gate  atomic.Bool  // open: the first correction may be of any size
	floor ntptime.Wall // no true moment is earlier
	found state.Drift
	log   *zap.Logger

	lastingPath  string            // "": not kept
	lasting      ntptime.Frequency // as written last, if lastingNoted
	lastingNoted bool

	mu     sync.Mutex
	warned time.Time
}

// openState reads what an earlier run has left. Nothing in it can stop the daemon.
func openState(cfg *config.Config, log *zap.Logger) *stateFiles {
	s := &stateFiles{driftPath: cfg.Clock.DriftFile, lastingPath: lastingPath(cfg), log: log}
	s.gate.Store(true)
	if dir := cfg.Clock.StateDir; dir != "" {
		s.gatePath, s.timePath = filepath.Join(dir, "panic-gate"), filepath.Join(dir, "last-time")
	}
	s.readDrift()
	s.readGate()
	floor, err := state.ReadTime(s.timePath)
	s.floor = floor
	if s.timePath != "" {
		s.report("last known time not used", err)
	}
	return s
}

func (s *stateFiles) readDrift() {
	if s.driftPath == "" {
		return
	}
	found, err := state.ReadDrift(s.driftPath)
	s.report("drift file not used; starting from 0 ppm", err)
	if err == nil {
		s.found = found
	}
}

// readGate asks whether this boot has had its one correction of any size. A virtual
// or observing clock has no state directory and an open gate.
func (s *stateFiles) readGate() {
	if s.gatePath == "" {
		return
	}
	boot, err := state.BootID()
	if err != nil {
		s.report("boot id not known; a restart cannot be told from a boot", err)
	}
	s.boot = boot
	open, err := state.ReadGate(s.gatePath, boot)
	s.gate.Store(open)
	s.report("panic gate file not used", err)
}

// report logs what is wrong with a file; that there is none is no fault.
func (s *stateFiles) report(what string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn(what, zap.Error(err))
	}
}

// drift is the frequency of the last run and its uncertainty, zeros if unknown.
func (s *stateFiles) drift() (frequency, uncertainty ntptime.Frequency) {
	return s.found.Frequency, s.found.Error
}

// open reports whether the panic gate is: the first correction may be of any size.
func (s *stateFiles) open() bool { return s.gate.Load() }

// close records that the first correction has been made.
func (s *stateFiles) close() {
	s.gate.Store(false)
	if s.gatePath != "" {
		if err := state.WriteGate(s.gatePath, state.Gate{Boot: s.boot, Used: true}); err != nil {
			s.log.Error("the panic gate could not be recorded: a restart before the next boot would open it again; mend clock.state_dir", zap.Error(err))
		}
	}
}

// save writes drift and time, if the daemon knows them.
func (s *stateFiles) save(snapshot *model.Snapshot) {
	if frequency, uncertainty := engine.Drift(snapshot); s.driftPath != "" && uncertainty > 0 {
		s.complain(state.WriteDrift(s.driftPath, state.Drift{Frequency: frequency, Error: uncertainty, Written: snapshot.At.Wall}))
	}
	if last := engine.LastTime(snapshot); s.timePath != "" && last != 0 {
		s.complain(state.WriteTime(s.timePath, last))
	}
}

// complain logs a failure to write, once an hour: timekeeping goes on without.
func (s *stateFiles) complain(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || (!s.warned.IsZero() && time.Since(s.warned) < warnEvery) {
		return
	}
	s.warned = time.Now()
	s.log.Warn("state not saved; time is kept all the same", zap.Error(err))
}

// keepState is a goroutine: it saves now and then. The last save is Run's.
func (d *parts) keepState(ctx context.Context) error {
	timer := time.NewTimer(firstSave)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			d.state.save(d.snapshot.Load())
			timer.Reset(saveEvery)
		}
	}
}
