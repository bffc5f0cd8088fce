package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/ntptime"
)

// order is an operator's wish, carried out on the goroutine of an association.
type order func(a *association.Association, now ntptime.Instant, out *association.Output)

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
				d.log.Warn("refused", zap.String("request", r.Command), zap.Stringer("by", r.Asker), zap.Error(err))
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
		return d.changeSources(ctx, r, func(g *registry, t target) bool { return g.setOnline(t, false) })
	case control.CommandOnline:
		return d.changeSources(ctx, r, func(g *registry, t target) bool { return g.setOnline(t, true) })
	case control.CommandBurst:
		return d.changeSources(ctx, r, func(_ *registry, t target) bool { return t.burst() })
	case control.CommandStep:
		return d.stepNow(ctx)
	}
	return nil, fmt.Errorf("the daemon knows no request %q; is it older than this command?", r.Command)
}

// target is what a request about sources is about: a whole line of `sources:`, or one of
// its members.
type target struct {
	entry  *entry
	member *runner // nil: the whole entry
}

// changeSources does something to one source, or to all that are asked for the time, and
// names those to which it was done.
func (d *Daemon) changeSources(ctx context.Context, r control.Request, change func(*registry, target) bool) (any, error) {
	done := control.Changed{Command: r.Command, Sources: []string{}}
	found := 0
	err := d.registry.ask(ctx, func(g *registry) {
		for _, t := range g.targets(r.Source) {
			found++
			if change(g, t) {
				done.Sources = append(done.Sources, t.name())
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case found == 0 && r.Source == "":
		return nil, errors.New("there is no source that is asked for the time")
	case found == 0:
		return nil, fmt.Errorf("no source that is asked for the time is called %q; `timeball sources` lists them", r.Source)
	}
	return done, nil
}

// targets finds what a name, an address or an id stands for; "" is every entry.
func (g *registry) targets(name string) (list []target) {
	for _, e := range g.entries {
		if name == "" || name == e.source.Name() || name == e.source.Host {
			list = append(list, target{entry: e})
			continue
		}
		for _, m := range e.members {
			if m.called(name) {
				list = append(list, target{e, m})
			}
		}
	}
	return list
}

// called says whether a member goes by an address, with or without port, or an id.
func (r *runner) called(name string) bool {
	if name == r.remote.String() || name == strconv.Itoa(int(r.id)) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap() == r.remote.Addr().Unmap()
}

func (t target) name() string {
	if t.member != nil {
		return nameWithAddress(t.member.name, t.member.remote)
	}
	return t.entry.source.Name()
}

// members are the associations that a target means.
func (t target) members() []*runner {
	if t.member != nil {
		return []*runner{t.member}
	}
	return t.entry.members
}

// setOnline lets a source be asked, or not. Of an entry that is offline no name is looked
// up and no new member begins.
func (g *registry) setOnline(t target, online bool) bool {
	changed := t.member != nil
	if t.member == nil {
		changed = t.entry.offline == online
		t.entry.offline = !online
	}
	for _, r := range t.members() {
		changed = offer(r.orders, func(a *association.Association, now ntptime.Instant, out *association.Output) {
			a.SetOnline(online, now, out)
		}) && changed
	}
	if online && t.member == nil {
		g.tendEntry(t.entry, g.d.clock.Now().Raw)
	}
	return changed
}

// burst asks for a series of exchanges; only what is asked in mode 3 makes one.
func (t target) burst() bool {
	if t.entry.source.Kind == config.Peer || t.entry.offline {
		return false
	}
	begun := false
	for _, r := range t.members() {
		begun = offer(r.orders, func(a *association.Association, now ntptime.Instant, _ *association.Output) { a.Burst(now) }) || begun
	}
	return begun
}

// stepNow sets the clock at once by what is left to correct.
func (d *Daemon) stepNow(ctx context.Context) (any, error) {
	reply := make(chan stepReply, 1)
	select {
	case d.system.inbox <- stepRequest{reply}:
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
		return control.Stepped{Offset: r.by.Seconds()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.group.ctx.Done():
		return nil, errStopping
	}
}

// stepRequest is an operator's wish that the clock be set; the answer goes into reply,
// which has room for it.
type stepRequest struct{ reply chan<- stepReply }

type stepReply struct {
	by  time.Duration
	err error
}

func (m stepRequest) deliver(l *systemLoop, now ntptime.Instant) {
	by, err := l.core.StepNow(now, &l.out)
	if err == nil {
		l.finish() // carried out here, so that the answer is what the clock did
		l.begin()
		if text := l.core.ClockRefusal(); text != "" {
			err = errors.New("the clock refused: " + text)
		}
	}
	m.reply <- stepReply{by, err}
}
