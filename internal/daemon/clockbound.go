package daemon

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"timeball/internal/clockbound"
	"timeball/internal/config"
	"timeball/internal/model"
)

// boundFiles tells programs of this machine how wrong its clock is, by ClockBound's
// shared memory. The system process's goroutine writes it.
type boundFiles struct {
	files   []*clockbound.File
	machine func() (time.Duration, bool) // how far the machine's clock is off ours, if it is only observed
	log     *zap.Logger
	failing bool
}

// openBoundFiles opens what the configuration names; nil: nothing.
func openBoundFiles(cfg *config.Config, machine func() (time.Duration, bool), log *zap.Logger) (*boundFiles, error) {
	c := cfg.ClockBound
	if c == nil {
		return nil, nil
	}
	b := &boundFiles{machine: machine, log: log}
	for version, path := range []string{1: c.Version1, 2: c.Version2} {
		if path == "" {
			continue
		}
		f, err := clockbound.Open(path, version)
		if err != nil {
			b.close()
			return nil, err
		}
		b.files = append(b.files, f)
	}
	return b, nil
}

// publish writes the bound of a state that has just been made.
func (b *boundFiles) publish(s *model.Snapshot) {
	if b == nil {
		return
	}
	told := clockbound.Of(s)
	if off, observed := b.machine(); observed {
		told.Error += off.Abs()
	}
	var errs []error
	for _, f := range b.files {
		errs = append(errs, f.Write(told))
	}
	if err := errors.Join(errs...); err != nil && !b.failing {
		b.failing = true
		b.log.Error("clockbound: nothing can be written", zap.Error(err))
	}
}

func (b *boundFiles) close() {
	if b == nil {
		return
	}
	for _, f := range b.files {
		_ = f.Close()
	}
}
