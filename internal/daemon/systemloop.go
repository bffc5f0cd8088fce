package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"timeball/internal/clock"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

// jumpCheck is how often the clock driver is asked whether somebody else has set
// the clock: well within two polls of any source (threat 51).
const jumpCheck = time.Second

// systemLoop is the goroutine that owns the system process and the clock: samples
// come in, corrections go straight to the clock, and what the clock really did
// comes back before the next sample is looked at. Nobody else touches either.
type systemLoop struct {
	process    *engine.SystemProcess
	clock      clock.Clock
	inbox      chan systemMessage // senders wait: nothing here is to be lost
	snapshot   *atomic.Pointer[model.Snapshot]
	steering   map[model.SourceID]steering
	onEvent    func(model.Event)
	bounds     *boundFiles      // nil: none
	fastPath   *fastPath        // nil: none
	statistics *statisticsFiles // nil: none
	standing   *standing        // nil: nobody wants to know
	gate       *stateFiles      // which remembers that the panic gate has been used
}

// steering is the way back from the system process to one association.
type steering struct {
	hints   chan model.Hint // one place; the newest wins
	changed chan struct{}   // one place; the clock was stepped or set
}

func newSteering() steering {
	return steering{hints: make(chan model.Hint, 1), changed: make(chan struct{}, 1)}
}

// systemMessage is what the system process can be told.
type systemMessage interface {
	deliver(l *systemLoop, now ntptime.Instant)
}

// The messages.
type (
	addSource struct {
		id       model.SourceID
		options  system.SourceOptions
		steering steering
	}
	removeSource struct{ id model.SourceID }
	newSample    struct{ sample model.Sample }
	newStatus    struct{ status model.SourceStatus }
	reconfigure  struct{ config system.Config }
	setIdle      struct{ idle engine.Idle }
)

func (m addSource) deliver(l *systemLoop, now ntptime.Instant) {
	l.steering[m.id] = m.steering
	l.process.AddSource(now, m.id, m.options)
}

func (m removeSource) deliver(l *systemLoop, now ntptime.Instant) {
	delete(l.steering, m.id)
	l.process.RemoveSource(now, m.id)
}

func (m newSample) deliver(l *systemLoop, now ntptime.Instant) {
	l.process.OnSample(now, &m.sample)
	l.statistics.sample(&m.sample, l.snapshot.Load())
}

func (m newStatus) deliver(l *systemLoop, now ntptime.Instant) { l.process.OnStatus(now, &m.status) }

func (m reconfigure) deliver(l *systemLoop, now ntptime.Instant) {
	l.process.Reconfigure(m.config, now)
}

func (m setIdle) deliver(l *systemLoop, now ntptime.Instant) { l.process.SetIdle(m.idle, now) }

// run is the goroutine; it ends with ctx.
func (l *systemLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	jumps := time.NewTicker(jumpCheck)
	defer jumps.Stop()
	for {
		timer.Reset(l.clock.Until(l.process.Deadline()))
		select {
		case <-ctx.Done():
			return nil
		case message := <-l.inbox:
			l.checkClock()
			message.deliver(l, l.clock.Now())
		case <-timer.C:
			l.checkClock()
			l.process.OnTimer(l.clock.Now())
		case <-jumps.C:
			l.checkClock()
		}
	}
}

// checkClock begins a turn. It tells the core what the clock has done unasked: somebody
// else has set it, the machine slept, or the leap second that was armed has happened.
func (l *systemLoop) checkClock() {
	if applied, leapt := l.clock.LeapDone(); leapt {
		l.process.OnLeapDone(applied)
	}
	if jump, jumped := l.clock.CheckJump(); jumped {
		l.process.OnClockJump(jump)
	}
}

// Apply corrects the clock.
func (l *systemLoop) Apply(c model.Correction) model.Applied {
	l.gate.noteLasting(c)
	return l.clock.Apply(c)
}

// Hint leaves a hint for an association, over an older one.
func (l *systemLoop) Hint(hint model.Hint) {
	if s, known := l.steering[hint.Source]; known {
		replace(s.hints, hint)
	}
}

// Record logs an event.
func (l *systemLoop) Record(e model.Event) { l.onEvent(e) }

// CloseGate writes down that the panic gate has been used.
func (l *systemLoop) CloseGate() { l.gate.close() }

// ClockChanged makes every association drop its pending exchange: its T1 was read
// from a clock that no longer exists.
func (l *systemLoop) ClockChanged(ntptime.Instant) {
	for _, s := range l.steering { //order: each gets the same word, none waits
		replace(s.changed, struct{}{})
	}
}

// Publish makes a state visible to responder, reports and metrics.
func (l *systemLoop) Publish(s *model.Snapshot) {
	l.snapshot.Store(s)
	l.bounds.publish(s)
	l.fastPath.publish()
	l.statistics.publish(s)
	l.standing.publish(s)
}

// replace puts v into a channel of one place, over an older value that nobody has
// taken yet. Only one goroutine may send to the channel.
func replace[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}
