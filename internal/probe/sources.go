package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

// Sources asks each unicast source of a configuration once, from a host of which that much
// is known, and lets the system process select among the replies. ready completes the probe
// of a source: with the key exchange of NTS, for one. The faults are what was wrong with single sources.
func Sources(ctx context.Context, cfg *config.Config, host *engine.Host, lookup func(context.Context, string) ([]netip.Addr, error),
	ready func(*Probe, *config.Source)) (snapshot *model.Snapshot, faults []error, err error) {
	c := clock.NewObserve()
	sources, idle, err := engine.ProbeSources(cfg, host, func(name string) ([]netip.Addr, error) {
		addrs, err := lookup(ctx, name)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: name not resolved: %w", name, err))
		}
		return addrs, err
	})
	switch {
	case err != nil:
		return nil, append(faults, err), errors.New("no source to be asked")
	case len(sources) == 0:
		return nil, faults, errors.New("no source to be asked")
	}
	replies := make([]Reply, len(sources))
	errs := make([]error, len(sources))
	var wait sync.WaitGroup
	for i, a := range sources {
		s := &a.Config
		p := Probe{Name: s.Name, Remote: s.Remote, Local: s.Local, Interface: s.Interface, Version: s.Version, Key: s.Key}
		ready(&p, a.Source)
		wait.Go(func() { replies[i], errs[i] = Ask(ctx, p, c) })
	}
	wait.Wait()
	core := system.New(engine.ProbeSystem(cfg, c.Precision()), c.Now())
	var out system.Output
	for i := range replies {
		replies[i].deliver(core, c.Now(), sources[i].ID(), sources[i].Options, &out)
		if errs[i] != nil {
			faults = append(faults, errs[i])
		}
	}
	snapshot = core.Snapshot(c.Now())
	snapshot.Sources = append(snapshot.Sources, idle...)
	return snapshot, faults, nil
}

// deliver hands the reply to the system process under an id of its own.
func (r *Reply) deliver(core *system.System, at ntptime.Instant, id model.SourceID, options system.SourceOptions, out *system.Output) {
	r.Status.Source = id
	if len(r.Samples) > 0 {
		at = r.Samples[0].T4
	}
	core.AddSource(at, id, options)
	out.Reset()
	core.OnStatus(at, &r.Status, out)
	for i := range r.Samples {
		r.Samples[i].Source = id
		out.Reset()
		core.OnSample(r.Samples[i].T4, &r.Samples[i], out)
	}
}
