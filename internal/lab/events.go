package lab

import (
	"context"
	"time"

	"timeball/internal/scenario"
)

// Plays reports whether the lab does an event: the daemon of a host stops and starts, and
// somebody sets its clock. The others, and the links, are the simulator's.
func Plays(e *scenario.Event) bool { return isLife(e) || isSetting(e) }

func isLife(e *scenario.Event) bool {
	return e.Kind == scenario.Stop || e.Kind == scenario.Start && e.Reboot == nil
}

func isSetting(e *scenario.Event) bool { return e.Kind == scenario.OffsetStep }

// eventsOf picks a host's events of a sort, in order of time as the scenario has them.
func eventsOf(s *scenario.Scenario, host string, sort func(*scenario.Event) bool) []scenario.Event {
	var events []scenario.Event
	for i := range s.Events {
		if e := &s.Events[i]; e.Host == host && sort(e) {
			events = append(events, *e)
		}
	}
	return events
}

// disturb sets a host's clock as somebody else would, when its events say so, until ctx
// ends. Its daemon may run or not.
func (l *Lab) disturb(ctx context.Context, h *host) {
	for _, e := range h.settings {
		if !sleepUntil(ctx, l.started.Add(e.At)) {
			return
		}
		h.clock.Set(e.Value)
	}
}

// live runs a host's daemon, stopping and starting it when its events say so, until
// ctx ends or the daemon fails.
func (l *Lab) live(ctx context.Context, h *host) error {
	for _, e := range h.events {
		at := l.started.Add(e.At)
		running := h.daemon.Load()
		switch {
		case e.Kind == scenario.Stop && running != nil:
			if err := runUntil(ctx, at, running.Run); err != nil || ctx.Err() != nil {
				return err
			}
			h.daemon.Store(nil)
		case e.Kind == scenario.Start && running == nil:
			if !sleepUntil(ctx, at) {
				return nil
			}
			if err := l.boot(h); err != nil {
				return err
			}
		}
	}
	if running := h.daemon.Load(); running != nil {
		return running.Run(ctx)
	}
	<-ctx.Done()
	return nil
}

// runUntil gives run a context that ends at a moment.
func runUntil(ctx context.Context, at time.Time, run func(context.Context) error) error {
	ctx, cancel := context.WithDeadline(ctx, at)
	defer cancel()
	return run(ctx)
}

// sleepUntil waits for a moment; false: ctx ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
