package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"timeball/internal/control"
	"timeball/internal/engine"
	"timeball/internal/ntptime"
)

// order is an operator's wish, carried out on the goroutine of an association.
type order func(p *engine.PeerProcess, now ntptime.Instant)

// orderQueue is how many orders wait for one association.
const orderQueue = 4

// obey carries out a request that changes the daemon. Whether the asker may was looked at
// by the control socket; who it was is logged, with what came of it.
func (d *Daemon) obey(ctx context.Context, r control.Request) (answer any, err error) {
	planOnly := r.Command == control.CommandReload && r.Args["plan"] == "true"
	if !planOnly {
		d.log.Info("asked for by an operator", zap.String("request", strings.TrimSpace(r.Command+" "+r.Source)), zap.Stringer("by", r.Asker))
		defer func() {
			if err != nil && r.Command != control.CommandReload { // which logs its own refusal
				d.log.Warn("an operator's request was refused", zap.String("request", r.Command), zap.Stringer("by", r.Asker), zap.Error(err))
			}
		}()
	}
	switch r.Command {
	case control.CommandReload:
		if planOnly {
			_, _, plan, err := d.planReload(d.config.Load())
			return plan, err
		}
		return d.Reload(ctx)
	case control.CommandOffline:
		return d.changeSources(ctx, r, func(g *registry, t engine.Target) bool { return g.setOnline(t, false) })
	case control.CommandOnline:
		return d.changeSources(ctx, r, func(g *registry, t engine.Target) bool { return g.setOnline(t, true) })
	case control.CommandBurst:
		return d.changeSources(ctx, r, func(g *registry, t engine.Target) bool { return g.burst(t) })
	case control.CommandStep:
		return d.setNow(ctx, func(p *engine.SystemProcess, now ntptime.Instant) (time.Duration, error) { return p.StepNow(now) })
	case control.CommandAccept:
		size, err := time.ParseDuration(r.Args["size"])
		if err != nil {
			return nil, errors.New("accept-correction wants the size of the correction that is refused")
		}
		return d.setNow(ctx, func(p *engine.SystemProcess, now ntptime.Instant) (time.Duration, error) {
			return p.AcceptCorrection(now, size)
		})
	}
	return nil, fmt.Errorf("the daemon knows no request %q; is it older than this command?", r.Command)
}

// changeSources does something to one source, or to all that are asked for the time, and
// names those to which it was done.
func (d *Daemon) changeSources(ctx context.Context, r control.Request, change func(*registry, engine.Target) bool) (any, error) {
	done := control.Changed{Command: r.Command, Sources: []string{}}
	found, reference := 0, false
	err := d.registry.ask(ctx, func(g *registry) {
		for _, clock := range g.receivers {
			reference = reference || r.Source == "" || clock.name == r.Source
		}
		for _, t := range g.set.Targets(r.Source) {
			found++
			if change(g, t) {
				done.Sources = append(done.Sources, targetName(t))
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case found == 0 && reference && r.Source != "":
		return nil, fmt.Errorf("%s is a reference clock, which is read and not asked: take its line out of sources and reload, or give it no_select: true", r.Source)
	case found == 0 && reference:
		return nil, errors.New("there are reference clocks only, which are read and not asked; no source is asked for the time")
	case found == 0 && r.Source == "":
		return nil, errors.New("there is no source that is asked for the time")
	case found == 0:
		return nil, fmt.Errorf("no source that is asked for the time is called %q; `timeball sources` lists them", r.Source)
	}
	return done, nil
}

// targetName is what the answer calls a target.
func targetName(t engine.Target) string {
	if t.Whole {
		return t.Name
	}
	return nameWithAddress(t.Name, t.Members[0].Config.Remote)
}

// setOnline lets a source be asked, or not.
func (g *registry) setOnline(t engine.Target, online bool) bool {
	changed := !t.Whole || g.set.SetOnline(t, online)
	for _, a := range t.Members {
		changed = g.order(a, func(p *engine.PeerProcess, now ntptime.Instant) { p.SetOnline(online, now) }) && changed
	}
	g.set.Tend(g.clock.Now().Raw, g.snapshot.Load(), &g.changes)
	g.carryOut()
	return changed
}

// burst asks for a series of exchanges; only what is asked in mode 3 makes one.
func (g *registry) burst(t engine.Target) bool {
	if !t.Bursts {
		return false
	}
	begun := false
	for _, a := range t.Members {
		begun = g.order(a, func(p *engine.PeerProcess, now ntptime.Instant) { p.Burst(now) }) || begun
	}
	return begun
}

// order hands an operator's wish to an association, if it has room for it.
func (g *registry) order(a *engine.Association, o order) bool {
	r := g.runners[a.ID()]
	return r != nil && offer(r.orders, o)
}

// setNow has the clock set at once, and says by how much it was.
func (d *Daemon) setNow(ctx context.Context, set func(*engine.SystemProcess, ntptime.Instant) (time.Duration, error)) (any, error) {
	reply := make(chan stepReply, 1)
	select {
	case d.system.inbox <- stepRequest{set, reply}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.group.ctx.Done():
		return nil, errStopping
	}
	select {
	case r := <-reply:
		if r.err != nil {
			return nil, r.err
		}
		_, observed := d.machineOffset()
		return control.Stepped{Offset: r.by.Seconds(), Observed: observed}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.group.ctx.Done():
		return nil, errStopping
	}
}

// stepRequest is an operator's wish that the clock be set; the answer goes into reply,
// which has room for it.
type stepRequest struct {
	set   func(*engine.SystemProcess, ntptime.Instant) (time.Duration, error)
	reply chan<- stepReply
}

type stepReply struct {
	by  time.Duration
	err error
}

func (m stepRequest) deliver(l *systemLoop, now ntptime.Instant) {
	by, err := m.set(l.process, now)
	m.reply <- stepReply{by, err}
}
