package daemon

import (
	"context"
	"net/netip"

	"timeball/internal/control"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/wire"
)

// longestChain bounds a trace: there are 15 strata.
const longestChain = 15

// trace walks from the system peer up to the primary reference, asking each server
// whom it follows. An IPv6 server's reference id is a digest, so there the walk ends.
func (d *Daemon) trace(ctx context.Context, snapshot *model.Snapshot) (control.Trace, error) {
	trace := control.Trace{Steps: []control.TraceStep{}}
	next, name, key := d.peerAddress(snapshot)
	seen := map[netip.Addr]bool{next.Addr(): true}
	for range longestChain {
		if !next.IsValid() {
			break
		}
		answer, err := Ask(ctx, Question{Name: name, Remote: next, Local: d.boundAddress(), Key: key}, d.clock)
		step := control.TraceStep{Address: next.String(), Name: name, Stratum: wire.MaxStratum}
		if err != nil {
			step.Error = err.Error()
			trace.Steps = append(trace.Steps, step)
			break
		}
		m := &answer.Samples[0]
		step.Stratum, step.Leap = int(m.Server.Stratum), m.Server.Leap.String()
		step.ReferenceID = m.Server.ReferenceID.Format(m.Server.Stratum)
		step.Offset, step.Delay = Offset(m).Seconds(), Delay(m).Seconds()
		step.RootDelay, step.RootDispersion = m.Server.RootDelay.Seconds(), m.Server.RootDispersion.Seconds()
		trace.Steps = append(trace.Steps, step)
		next, name, key = netip.AddrPortFrom(upstream(m.Server), next.Port()), "", nil
		if seen[next.Addr()] {
			break
		}
		seen[next.Addr()] = true
	}
	return trace, ctx.Err()
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

// upstream is the address that a reference id of stratum 2 and more stands for;
// invalid for a primary server, for the local clock and for what is no unicast address.
func upstream(s model.ServerState) netip.Addr {
	if s.Stratum <= wire.StratumPrimary || s.Stratum >= wire.MaxStratum {
		return netip.Addr{}
	}
	id := s.ReferenceID
	addr := netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
	if addr.IsUnspecified() || addr.IsMulticast() || localReference.Contains(addr) {
		return netip.Addr{}
	}
	return addr
}

// localReference holds the pseudo addresses of reference clocks, 127.127.t.u.
var localReference = netip.MustParsePrefix("127.127.0.0/16")
