package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"timeball/internal/control"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/wire"
)

// longestChain bounds a trace: there are 15 strata.
const longestChain = 15

// trace walks from the system peer up to the primary reference, asking each server
// whom it follows. It ends where a reference id is no address that may be asked.
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
		step.Offset, step.Delay = Offset(m).Seconds(), Delay(m, d.clock.Precision()).Seconds()
		step.RootDelay, step.RootDispersion = m.Server.RootDelay.Seconds(), m.Server.RootDispersion.Seconds()
		trace.Steps = append(trace.Steps, step)
		above, why := upstream(m.Server, next.Addr())
		if why != "" {
			trace.Steps = append(trace.Steps, control.TraceStep{Stratum: wire.MaxStratum, Error: why})
		}
		next, name, key = netip.AddrPortFrom(above, next.Port()), "", nil
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

// upstream is the address that the reference id of a server asked at from stands for. It
// is invalid for a server that follows nobody, and where nobody may be asked: why then
// says so.
func upstream(s model.ServerState, from netip.Addr) (addr netip.Addr, why string) {
	if s.Stratum <= wire.StratumPrimary || s.Stratum >= wire.MaxStratum {
		return netip.Addr{}, ""
	}
	id := s.ReferenceID
	addr = netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
	if from = from.Unmap(); from.Is6() {
		// RFC 5905 §7.3: of an IPv6 source it is the start of a digest, which looks like
		// the IPv4 address of a stranger.
		return netip.Addr{}, fmt.Sprintf("its reference id %s may be the digest of an IPv6 address, so nobody is asked", addr)
	}
	switch {
	case localReference.Contains(addr):
		why = "names a reference clock of its own"
	case addr.IsLoopback() && !from.IsLoopback():
		why = "is a loopback address of its own host"
	case addr.IsMulticast():
		why = "is a multicast group"
	case thisNetwork.Contains(addr), reserved.Contains(addr):
		why = "is no address of a host"
	default:
		return addr, ""
	}
	return netip.Addr{}, fmt.Sprintf("its reference id %s %s, so nobody is asked", addr, why)
}

var (
	// localReference holds the pseudo addresses of reference clocks, 127.127.t.u.
	localReference = netip.MustParsePrefix("127.127.0.0/16")
	// thisNetwork and reserved are addresses that no host has (RFC 6890 §2.2.2); the
	// second holds the limited broadcast too.
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	reserved    = netip.MustParsePrefix("240.0.0.0/4")
)
