package logging

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Threats 35: a flood does not fill the log, and what was left out is told.
func TestTheLogIsNotFilledByOneMessage(t *testing.T) {
	inner, logged := observer.New(zapcore.InfoLevel)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := &handClock{now}
	log := zap.New(limitLog(inner), zap.WithClock(clock))
	named := log.With(zap.String("host", "a"))
	for i := range 1000 {
		named.Info("mobilized", zap.Int("i", i))
		clock.now = clock.now.Add(10 * time.Millisecond)
	}
	log.Warn("step")
	log.Debug("mobilized")
	if got, want := logged.FilterMessage("mobilized").Len(), logLines; got != want {
		t.Errorf("got %d lines, want %d", got, want)
	}
	if got := logged.FilterMessage("step").Len(); got != 1 {
		t.Errorf("another message: got %d lines, want 1", got)
	}
	clock.now = clock.now.Add(logWindow)
	log.Info("mobilized")
	left := logged.FilterMessage("lines left out").All()
	if len(left) != 1 || left[0].ContextMap()["count"] != int64(1000-logLines) || left[0].ContextMap()["message"] != "mobilized" {
		t.Errorf("got %v, want one line that tells of %d", left, 1000-logLines)
	}
	if got, want := logged.FilterMessage("mobilized").Len(), logLines+1; got != want {
		t.Errorf("in the next minute: got %d lines, want %d", got, want)
	}
}

func TestTheMessagesRememberedAreBounded(t *testing.T) {
	l := &logLimit{seen: map[string]*logCount{}}
	for i := range 3 * maxMessages {
		l.admit(string(rune(i+1)), time.Time{})
	}
	if got := len(l.seen); got > maxMessages {
		t.Errorf("got %d, want at most %d", got, maxMessages)
	}
}

// handClock is a zapcore.Clock moved by hand.
type handClock struct{ now time.Time }

func (c *handClock) Now() time.Time { return c.now }

func (c *handClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
