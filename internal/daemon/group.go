package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// Stop ends every goroutine of the group, for no error of its own.
func (g *group) Stop() { g.cancel(nil) }

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
