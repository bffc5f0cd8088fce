package lab

import (
	"context"
	"sync"
	"time"

	"timeball/internal/scenario"
)

// Plays reports whether the lab does an event: the daemon of a host stops and starts, and
// somebody sets its clock. The others, and the links, are the simulator's.
func Plays(e *scenario.Event) bool {
	return e.Kind == scenario.Stop || e.Kind == scenario.Start && e.Reboot == nil || e.Kind == scenario.OffsetStep
}

// eventsOf picks the events of a host that the lab plays, in order of time as the scenario has them.
func eventsOf(s *scenario.Scenario, host string) []scenario.Event {
	var events []scenario.Event
	for i := range s.Events {
		if e := &s.Events[i]; e.Host == host && Plays(e) {
			events = append(events, *e)
		}
	}
	return events
}

// live runs a host's daemon and plays the host's events, one after the other as the scenario
// has them: the daemon stops and starts, and somebody sets its clock. It ends with ctx, or
// when the daemon fails.
func (l *Lab) live(ctx context.Context, h *host) error {
	running := h.start(ctx)
	for _, e := range h.events {
		if !running.sleepUntil(ctx, l.started.Add(e.At)) {
			return running.stop()
		}
		switch {
		case e.Kind == scenario.OffsetStep:
			h.clock.Set(e.Value)
		case e.Kind == scenario.Stop && running != nil:
			if err := running.stop(); err != nil {
				return err
			}
			running = nil
			h.daemon.Store(nil)
		case e.Kind == scenario.Start && running == nil:
			if err := l.boot(h); err != nil {
				return err
			}
			running = h.start(ctx)
		}
	}
	running.sleepUntil(ctx, time.Time{})
	return running.stop()
}

// service is a host's daemon at work; nil: it is stopped.
type service struct {
	wait   sync.WaitGroup
	cancel context.CancelFunc
	ended  chan struct{} // closed when it has
	err    error         // then
}

// start has a host's daemon work until ctx ends.
func (h *host) start(ctx context.Context) *service {
	ctx, cancel := context.WithCancel(ctx)
	r, d := &service{cancel: cancel, ended: make(chan struct{})}, h.daemon.Load()
	r.wait.Go(func() {
		defer close(r.ended)
		r.err = d.Run(ctx)
	})
	return r
}

// stop ends the daemon and says how it ended.
func (r *service) stop() error {
	if r == nil {
		return nil
	}
	r.cancel()
	<-r.ended
	return r.err
}

// sleepUntil waits for a moment, the zero time for ever; false: ctx or the daemon ended first.
func (r *service) sleepUntil(ctx context.Context, at time.Time) bool {
	var reached <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		reached = timer.C
	}
	var ended chan struct{}
	if r != nil {
		ended = r.ended
	}
	select {
	case <-reached:
		return true
	case <-ended:
		return false
	case <-ctx.Done():
		return false
	}
}
