package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"timeball/internal/clock"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

// jumpCheck is how often the clock driver is asked whether somebody else has set
// the clock: well within two polls of any source (threats R25).
const jumpCheck = time.Second

// systemLoop is the goroutine that owns the system process and the clock: samples
// come in, corrections go straight to the clock, and what the clock really did
// comes back before the next sample is looked at. Nobody else touches either.
type systemLoop struct {
	core     *system.System
	clock    clock.Clock
	inbox    chan systemMessage // senders wait: nothing here is to be lost
	snapshot *atomic.Pointer[model.Snapshot]
	steering map[model.SourceID]steering
	onEvent  func(model.Event)
	gate     *stateFiles // which remembers that the panic gate has been used
	out      system.Output
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
)

func (m addSource) deliver(l *systemLoop, now ntptime.Instant) {
	l.steering[m.id] = m.steering
	l.core.AddSource(now, m.id, m.options)
}

func (m removeSource) deliver(l *systemLoop, now ntptime.Instant) {
	delete(l.steering, m.id)
	l.core.RemoveSource(now, m.id, &l.out)
}

func (m newSample) deliver(l *systemLoop, now ntptime.Instant) {
	l.core.OnSample(now, &m.sample, &l.out)
}

func (m newStatus) deliver(l *systemLoop, now ntptime.Instant) {
	l.core.OnStatus(now, &m.status, &l.out)
}

// The panic gate stays as it is: it is read at the start only.
func (m reconfigure) deliver(l *systemLoop, now ntptime.Instant) {
	l.core.Reconfigure(m.config, now)
	l.out.Changed = true
}

// run is the goroutine; it ends with ctx.
func (l *systemLoop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	jumps := time.NewTicker(jumpCheck)
	defer jumps.Stop()
	l.publish()
	for {
		timer.Reset(l.clock.Until(l.core.Deadline()))
		select {
		case <-ctx.Done():
			return nil
		case message := <-l.inbox:
			l.checkClock()
			message.deliver(l, l.clock.Now())
		case <-timer.C:
			l.checkClock()
			l.core.OnTimer(l.clock.Now(), &l.out)
		case <-jumps.C:
			l.checkClock()
		}
		l.finish()
	}
}

// begin empties the output for the next turn.
func (l *systemLoop) begin() { l.out.Reset() }

// checkClock begins a turn. It tells the core what the clock has done unasked: somebody
// else has set it, the machine slept, or the leap second that was armed has happened.
// That comes before anything else: taken for the sources' doing, an hour that somebody
// has set the clock by would be a panic.
func (l *systemLoop) checkClock() {
	l.begin()
	if applied, leapt := l.clock.LeapDone(); leapt {
		l.core.OnApplied(applied, &l.out)
		l.tellChanged()
	}
	if jump, jumped := l.clock.CheckJump(); jumped {
		l.core.OnClockJump(jump, &l.out)
		l.tellChanged()
	}
	l.finish()
	l.begin()
}

// finish carries out what the core wants: hints, events, the correction with its
// answer, and a new snapshot. Applying a correction may bring forth another (the
// clock did less than it was asked for), so it goes round until nothing is left.
func (l *systemLoop) finish() {
	changed := false
	for {
		l.deliverHints()
		l.deliverEvents()
		changed = changed || l.out.Changed || l.out.HasCorrection
		if !l.out.HasCorrection {
			break
		}
		correction := l.out.Correction
		applied := l.clock.Apply(correction)
		if correction.Step != 0 && applied.Err == "" {
			l.tellChanged()
		}
		l.begin()
		l.core.OnApplied(applied, &l.out)
	}
	if changed {
		l.publish()
	}
}

func (l *systemLoop) deliverHints() {
	for _, hint := range l.out.Hints {
		if s, known := l.steering[hint.Source]; known {
			replace(s.hints, hint)
		}
	}
}

func (l *systemLoop) deliverEvents() {
	for _, event := range l.out.Events {
		l.onEvent(event)
	}
	if l.out.GateUsed {
		l.gate.close()
	}
}

// tellChanged makes every association drop its pending exchange: its T1 was read
// from a clock that no longer exists.
func (l *systemLoop) tellChanged() {
	for _, s := range l.steering { //order: each gets the same word, none waits
		replace(s.changed, struct{}{})
	}
}

// publish makes the present state visible to responder, reports and metrics.
func (l *systemLoop) publish() {
	l.snapshot.Store(l.core.Snapshot(l.clock.Now()))
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
