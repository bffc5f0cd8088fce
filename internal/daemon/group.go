package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// group runs the daemon's goroutines, each under a name. The first that fails
// ends all of them: a daemon that has lost a part must not look alive.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup
}

func newGroup(parent context.Context) *group {
	ctx, cancel := context.WithCancelCause(parent)
	return &group{ctx: ctx, cancel: cancel}
}

// Go starts work under a name. It ends when its context does; any other end with
// an error ends the group with that error.
func (g *group) Go(name string, work func(context.Context) error) {
	g.wait.Add(1)
	go func() {
		defer g.wait.Done()
		if err := work(g.ctx); err != nil && g.ctx.Err() == nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

// GoBeside starts work that is beside the clock: a report, a listener of people's. It ends when
// its context does. An error is for failed to tell, after which the work begins again; it
// never ends the group.
func (g *group) GoBeside(name string, work func(context.Context) error, failed func(name string, err error)) {
	g.Go(name, func(ctx context.Context) error {
		for {
			err := work(ctx)
			if err == nil || ctx.Err() != nil {
				return nil
			}
			failed(name, err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(besideAgain):
			}
		}
	})
}

// every does something again and again, the first time after a while; it ends with ctx.
func every(ctx context.Context, while time.Duration, do func()) error {
	ticker := time.NewTicker(while)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			do()
		}
	}
}

// besideAgain is the pause after work beside the clock has failed.
const besideAgain = time.Second

// Wait returns when all have ended: the error that ended them, or nil after an
// orderly stop.
func (g *group) Wait() error {
	<-g.ctx.Done()
	g.wait.Wait()
	cause := context.Cause(g.ctx)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return nil
	}
	return cause
}
