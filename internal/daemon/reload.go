package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/engine"
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

// prepare does everything that can fail and returns what cannot.
func (d *Daemon) prepare(plan *config.Plan, old, next *config.Config) (swap func(*registry), err error) {
	keys, err := engine.Keys(next)
	if err != nil {
		return nil, err
	}
	ports, err := d.ports.Prepare(listenSettings(next, d.opts.Port))
	if err != nil {
		return nil, fmt.Errorf("server.listen: %w", err)
	}
	metrics, err := d.prepareMetrics(plan, old, next)
	if err != nil {
		ports.Discard()
		return nil, err
	}
	network, err := d.nts.prepare(next)
	if err != nil {
		ports.Discard()
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
		ports.Commit()
		metrics.commit(d.group)
		network.commit()
		d.nts.start(d.group)
		g.reload(plan, next, keys)
		g.reconfigure()
	}, nil
}

// setLevel takes over the log's level.
func (d *parts) setLevel(cfg *config.Config) {
	if d.opts.Level != nil {
		_ = d.opts.Level.UnmarshalText([]byte(cfg.Log.Level)) // checked with the configuration
	}
}
