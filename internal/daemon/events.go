package daemon

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"timeball/internal/config"
	"timeball/internal/model"
)

// NewLogger makes the logger that a configuration asks for, which writes to stderr,
// and its level, which a reload may change.
func NewLogger(cfg config.Log) (*zap.Logger, *zap.AtomicLevel, error) {
	settings := zap.NewProductionConfig()
	settings.Encoding = string(cfg.Format)
	settings.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	settings.EncoderConfig.EncodeDuration = zapcore.StringDurationEncoder
	settings.EncoderConfig.TimeKey = "time"
	settings.DisableCaller = true
	settings.DisableStacktrace = true
	settings.Sampling = nil
	settings.OutputPaths = []string{"stderr"}
	if cfg.Format == config.FormatConsole {
		settings.EncoderConfig.EncodeLevel = zapcore.CapitalLevelEncoder
	}
	level, err := zapcore.ParseLevel(string(cfg.Level))
	if err != nil {
		return nil, nil, fmt.Errorf("log level: %w", err)
	}
	settings.Level = zap.NewAtomicLevelAt(level)
	log, err := settings.Build()
	return log, &settings.Level, err
}

// alarms are the events that an operator should be woken by, or at least see at
// the level of warnings.
var alarms = map[model.EventKind]zapcore.Level{
	model.EventPanic:          zapcore.ErrorLevel,
	model.EventClockRefused:   zapcore.ErrorLevel,
	model.EventUnsynchronized: zapcore.WarnLevel,
	model.EventHoldover:       zapcore.WarnLevel,
	model.EventClockJump:      zapcore.WarnLevel,
	model.EventFalseticker:    zapcore.WarnLevel,
	model.EventUnreachable:    zapcore.WarnLevel,
	model.EventKiss:           zapcore.WarnLevel,
	model.EventLimit:          zapcore.WarnLevel,
	model.EventStep:           zapcore.WarnLevel,
}

// logEvent writes one line for a change of state, in the words of the metrics.
func (d *Daemon) logEvent(e model.Event) {
	level, alarm := alarms[e.Kind]
	if !alarm {
		level = zapcore.InfoLevel
	}
	line := d.log.Check(level, e.Kind.String())
	if line == nil {
		return
	}
	var fields []zap.Field
	if e.Source != 0 {
		fields = append(fields, zap.String("source", d.nameOf(e.Source)))
	}
	if e.Value != 0 {
		fields = append(fields, zap.Duration("value", e.Value))
	}
	if e.Text != "" {
		fields = append(fields, zap.String("text", e.Text))
	}
	line.Write(fields...)
}

// nameOf is what the log calls a source.
func (d *Daemon) nameOf(id model.SourceID) string {
	if s := d.snapshot.Load(); s != nil {
		for i := range s.Sources {
			if r := &s.Sources[i]; r.Source == id {
				return sourceName(&r.SourceStatus)
			}
		}
	}
	return fmt.Sprintf("#%d", id)
}

// sourceName is the configured name, with the address where that says more.
func sourceName(s *model.SourceStatus) string {
	address := s.Address.Addr().String()
	if !s.Address.IsValid() || s.Name == address {
		return s.Name
	}
	return s.Name + " (" + address + ")"
}

// notBuilt is the error for a configuration that asks for what does not exist yet.
func notBuilt(features []string) error {
	return fmt.Errorf("this configuration needs what timeball does not have yet:\n  %s\nremove it, or wait for a version that has it",
		strings.Join(features, "\n  "))
}
