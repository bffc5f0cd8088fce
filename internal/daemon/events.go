package daemon

import (
	"fmt"
	"net/netip"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"timeball/internal/clock"
	"timeball/internal/model"
)

// alarms are the events that an operator should be woken by, or at least see at
// the level of warnings.
var alarms = map[model.EventKind]zapcore.Level{
	model.EventPanic:          zapcore.ErrorLevel,
	model.EventClockRefused:   zapcore.ErrorLevel,
	model.EventUnsynchronized: zapcore.WarnLevel,
	model.EventHoldover:       zapcore.WarnLevel,
	model.EventClockJump:      zapcore.WarnLevel,
	model.EventTimeJump:       zapcore.WarnLevel,
	model.EventRival:          zapcore.ErrorLevel,
	model.EventFalseticker:    zapcore.WarnLevel,
	model.EventUnreachable:    zapcore.WarnLevel,
	model.EventKiss:           zapcore.WarnLevel,
	model.EventLimit:          zapcore.WarnLevel,
	model.EventRefused:        zapcore.WarnLevel,
	model.EventStep:           zapcore.WarnLevel,
	model.EventKeysFailed:     zapcore.WarnLevel,
}

// logSystemEvent logs what the system process has to say. Whether a source is reached
// its association tells too, with the reason; that is the line that stays.
func (d *parts) logSystemEvent(e model.Event) {
	if e.Kind == model.EventRival {
		e.Text = "likely " + likelyRivals(clock.Rivals("/"))
	}
	switch {
	case e.Kind == model.EventReachable || e.Kind == model.EventUnreachable:
	case e.Source == 0:
		d.logEvent(e, "")
	default:
		d.logEvent(e, d.nameOf(e.Source))
	}
}

// logEvent writes one sentence for a change of state; the fields have the same for
// programs, in the words of the metrics. source names the one that it is about, "" if it is
// about none.
func (d *parts) logEvent(e model.Event, source string) {
	level, alarm := alarms[e.Kind]
	if !alarm {
		level = zapcore.InfoLevel
	}
	line := d.log.Check(level, sentence(&e, source))
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("event", e.Kind.String())}
	if source != "" {
		fields = append(fields, zap.String("source", source))
	}
	if e.Value != 0 {
		fields = append(fields, zap.Float64("seconds", e.Value.Seconds()))
	}
	line.Write(fields...)
}

// nameOf is what the log calls a source.
func (d *parts) nameOf(id model.SourceID) string {
	if s := d.snapshot.Load(); s != nil {
		for i := range s.Sources {
			if r := &s.Sources[i]; r.Source == id {
				return nameWithAddress(r.Name, r.Address)
			}
		}
	}
	return fmt.Sprintf("#%d", id)
}

// nameWithAddress is a source's configured name, with the address where the name does
// not say it already.
func nameWithAddress(name string, address netip.AddrPort) string {
	addr := address.Addr()
	if !address.IsValid() || name == addr.String() || name == address.String() || strings.Contains(name, " "+addr.String()) {
		return name
	}
	return name + " (" + addr.String() + ")"
}

// likelyRivals says who may be setting the clock.
func likelyRivals(names []string) string {
	if len(names) == 0 {
		return "somebody by hand, or a program that this service may not see; look for who holds CAP_SYS_TIME or port 123"
	}
	return strings.Join(names, ", ")
}
