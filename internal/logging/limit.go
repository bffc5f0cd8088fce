package logging

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What one message may fill of the log: a flood of forged packets must not (threats 35).
const (
	logWindow = time.Minute
	logLines  = 60 // of one message in a window; the rest is counted
)

// limitedCore lets each message through logLines times a minute, and says afterwards
// how many were left out.
type limitedCore struct {
	zapcore.Core
	limit *logLimit
}

// logLimit is shared by a logger and all that are made of it by With.
type logLimit struct {
	mu   sync.Mutex
	seen map[string]*logCount
}

// logCount is one message in the present window.
type logCount struct {
	began   time.Time
	written int
	left    int
}

// maxMessages bounds the messages remembered; ours are a few dozen constants.
const maxMessages = 1000

// limitLog wraps a core.
func limitLog(core zapcore.Core) zapcore.Core {
	return &limitedCore{core, &logLimit{seen: map[string]*logCount{}}}
}

// With implements zapcore.Core.
func (c *limitedCore) With(fields []zapcore.Field) zapcore.Core {
	return &limitedCore{c.Core.With(fields), c.limit}
}

// Check implements zapcore.Core.
func (c *limitedCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write implements zapcore.Core.
func (c *limitedCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	write, left := c.limit.admit(e.Message, e.Time)
	if left > 0 {
		summary := e
		summary.Message = "lines left out"
		if err := c.Core.Write(summary, []zapcore.Field{zap.String("message", e.Message), zap.Int("count", left)}); err != nil {
			return err
		}
	}
	if !write {
		return nil
	}
	return c.Core.Write(e, fields)
}

// admit says whether a message may be written now, and how many were left out of the
// window that has ended with it.
func (l *logLimit) admit(message string, now time.Time) (write bool, left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.seen[message]
	if count == nil {
		if len(l.seen) >= maxMessages {
			clear(l.seen)
		}
		count = &logCount{began: now}
		l.seen[message] = count
	}
	if now.Sub(count.began) >= logWindow {
		left = count.left
		*count = logCount{began: now}
	}
	if count.written >= logLines {
		count.left++
		return false, left
	}
	count.written++
	return true, left
}
