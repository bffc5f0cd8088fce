package daemon

import (
	"context"
	"net/netip"

	"timeball/internal/control"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/probe"
	"timeball/internal/wire"
)

// trace walks from the system peer up to the primary reference.
func (d *Daemon) trace(ctx context.Context, snapshot *model.Snapshot) (control.Trace, error) {
	trace := control.Trace{Steps: []control.TraceStep{}}
	remote, name, key := d.peerAddress(snapshot)
	steps, err := probe.Chain(ctx, probe.Probe{Name: name, Remote: remote, Local: d.boundAddress(), Key: key}, d.clock)
	for i := range steps {
		trace.Steps = append(trace.Steps, d.traceStep(&steps[i]))
	}
	return trace, err
}

func (d *Daemon) traceStep(s *probe.Step) control.TraceStep {
	step := control.TraceStep{Name: s.Name, Stratum: wire.MaxStratum, Error: s.Err}
	if s.Remote.IsValid() {
		step.Address = s.Remote.String()
	}
	if m := s.Sample; m != nil {
		step.Stratum, step.Leap = int(m.Server.Stratum), m.Server.Leap.String()
		step.ReferenceID = m.Server.ReferenceID.Format(m.Server.Stratum)
		step.Offset, step.Delay = probe.Offset(m).Seconds(), probe.Delay(m, d.clock.Precision()).Seconds()
		step.RootDelay, step.RootDispersion = m.Server.RootDelay.Seconds(), m.Server.RootDispersion.Seconds()
	}
	return step
}

// peerAddress is where the walk begins, with the key that we share with that server.
func (d *Daemon) peerAddress(s *model.Snapshot) (addr netip.AddrPort, name string, key *mac.Key) {
	for i := range s.Sources {
		if r := &s.Sources[i]; s.SystemPeer != 0 && r.Source == s.SystemPeer {
			addr, name = r.Address, r.Name
			if r.KeyID != 0 {
				key = d.keys.Load().Key(r.KeyID)
			}
		}
	}
	return addr, name, key
}
