package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/engine"
	"timeball/internal/netio"
)

// reloadState is how the last reload went.
type reloadState struct {
	mu      sync.Mutex
	at      time.Time
	failure string
	turn    sync.Mutex // held by the reload under way
}

func (r *reloadState) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = ""
	if err != nil {
		r.failure = err.Error()
		return
	}
	r.at = time.Now()
}

// problem is why the last reload was refused, "" if it was not.
func (r *reloadState) problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// succeeded is when the running configuration was read.
func (r *reloadState) succeeded() (at time.Time, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at, r.failure == ""
}

// Reload reads the configuration again. If anything is wrong with it the running one
// stays in force, whole, and the log says why; else what has changed is taken over,
// and associations that have not changed keep filter and poll. The answer says what was
// done. A call before the daemon runs waits until it does; two at once take turns.
func (d *Daemon) Reload(ctx context.Context) (*control.ReloadPlan, error) {
	select {
	case <-d.running:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.reloads.turn.Lock()
	defer d.reloads.turn.Unlock()
	d.notify("RELOADING=1")
	defer d.notify("READY=1")
	report, err := d.reload(ctx)
	d.reloads.note(err)
	if err != nil {
		d.log.Error("reload refused; the running configuration stays in force", zap.Error(err))
		return nil, err
	}
	d.log.Info("configuration reloaded")
	return report, nil
}

func (d *Daemon) reload(ctx context.Context) (*control.ReloadPlan, error) {
	old := d.config.Load()
	next, plan, report, err := d.planReload(old)
	if err != nil {
		return nil, err
	}
	for _, warning := range report.Warnings {
		d.log.Warn("configuration: " + warning)
	}
	report.Applied = true
	d.nts.reload()
	if plan.Empty() {
		return report, nil
	}
	swap, err := d.prepare(&plan, old, next)
	if err != nil {
		return nil, err
	}
	if err := d.registry.ask(ctx, swap); err != nil {
		return nil, err
	}
	for _, late := range report.Restart {
		d.log.Warn("change takes effect at the next start", zap.String("section", late.Section), zap.String("reason", late.Why))
	}
	return report, nil
}

// late names what changed of the server that sockets already open cannot take over.
func (p *portSet) late(plan *config.Plan, old *config.Config) (sections []string) {
	if old.Server == nil {
		return nil
	}
	for _, section := range []string{"server.workers", "server.interfaces", "server.client_log"} {
		if plan.Has(section) && p.d.serves.Load() {
			sections = append(sections, section)
		}
	}
	return sections
}

// prepare does everything that can fail and returns what cannot.
func (d *Daemon) prepare(plan *config.Plan, old, next *config.Config) (swap func(*registry), err error) {
	keys, err := engine.Keys(next)
	if err != nil {
		return nil, err
	}
	ports, err := d.preparePorts(next)
	if err != nil {
		return nil, err
	}
	metrics, err := d.prepareMetrics(plan, next)
	if err != nil {
		ports.discard()
		return nil, err
	}
	network, err := d.nts.prepare(next)
	if err != nil {
		ports.discard()
		metrics.discard()
		return nil, err
	}
	return func(g *registry) {
		d.keys.Store(keys)
		d.policy.Store(d.newPolicy(next, keys))
		d.config.Store(next)
		d.serves.Store(next.Server != nil)
		d.leaps = leapList(next, d.log)
		d.setLevel(next)
		ports.commit(d.group)
		metrics.commit(d.group)
		network.commit()
		d.nts.start(d.group)
		g.reload(plan, next, keys)
		g.reconfigure()
	}, nil
}

// setLevel takes over the log's level.
func (d *Daemon) setLevel(cfg *config.Config) {
	if d.opts.Level != nil {
		_ = d.opts.Level.UnmarshalText([]byte(cfg.Log.Level)) // checked with the configuration
	}
}

// portChange is the addresses that are wanted after a reload, and the sockets opened for it.
type portChange struct {
	set    *portSet
	wanted []netip.AddrPort
	opened []*listener
}

// preparePorts opens what is new; an address that stays keeps its sockets, or is waited
// for as it was. One that is new must be there: a reload takes all or nothing.
func (d *Daemon) preparePorts(next *config.Config) (*portChange, error) {
	change := &portChange{set: d.ports, wanted: listenAddresses(next, d.opts.Port)}
	d.ports.makeTables(next.Server)
	for _, address := range change.wanted {
		if d.ports.listens(address) || d.ports.awaits(address) {
			continue
		}
		l, err := d.ports.open(next, address)
		if err != nil {
			change.discard()
			if errors.Is(err, netio.ErrInUse) && change.closes(address.Port()) {
				return nil, fmt.Errorf("server.listen: %s overlaps an address listened at now; that change takes a restart", address)
			}
			return nil, fmt.Errorf("server.listen: %w", err)
		}
		change.opened = append(change.opened, l)
	}
	return change, nil
}

// listens reports whether there are sockets of an address.
func (p *portSet) listens(address netip.AddrPort) bool {
	return slices.ContainsFunc(p.list(), func(l *listener) bool { return l.address == address })
}

// closes reports whether a socket with this port is to be closed.
func (c *portChange) closes(port uint16) bool {
	return slices.ContainsFunc(c.set.list(), func(l *listener) bool {
		return !slices.Contains(c.wanted, l.address) && l.LocalAddr().Port() == port
	})
}

// discard closes what was opened for a reload that does not happen.
func (c *portChange) discard() {
	for _, l := range c.opened {
		_ = l.Close()
	}
}

// commit serves what was opened and closes what is no longer wanted. Addresses may have
// come and gone since it was prepared; both changes are made by the registry's goroutine.
func (c *portChange) commit(g *group) {
	var kept, closed []*listener
	for _, l := range c.set.list() {
		if slices.Contains(c.wanted, l.address) {
			kept = append(kept, l)
		} else {
			closed = append(closed, l)
		}
	}
	c.set.setList(slices.Concat(kept, c.opened))
	c.set.awaitOnly(c.wanted)
	for _, l := range kept {
		if l.bare && c.set.tables.Load() != nil {
			l.renew(c.set)
			c.set.stranger.renew(c.set)
		}
	}
	for _, l := range c.opened {
		c.set.serve(g, l)
	}
	for _, l := range closed {
		if err := l.Close(); err != nil {
			c.set.d.log.Warn("socket not closed in order", zap.Error(err))
		}
	}
}
