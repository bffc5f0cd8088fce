package probe

import (
	"context"
	"fmt"
	"net/netip"

	"timeball/internal/clock"
	"timeball/internal/model"
	"timeball/internal/wire"
)

// longestChain bounds a chain: there are 15 strata.
const longestChain = 15

// Step is one server of a chain, or why the chain goes no further.
type Step struct {
	Name   string
	Remote netip.AddrPort // invalid: nobody was asked
	Sample *model.Sample  // nil where Err says why there is none
	Err    string
}

// Chain walks from a server up to the primary reference, asking each whom it follows. It
// ends where a reference id is no address that may be asked.
func Chain(ctx context.Context, first Probe, c clock.Clock) (steps []Step, err error) {
	next := first
	seen := map[netip.Addr]bool{next.Remote.Addr(): true}
	for range longestChain {
		if !next.Remote.IsValid() {
			break
		}
		reply, err := Ask(ctx, next, c)
		step := Step{Name: next.Name, Remote: next.Remote}
		if err != nil {
			step.Err = err.Error()
			steps = append(steps, step)
			break
		}
		step.Sample = &reply.Samples[0]
		steps = append(steps, step)
		above, why := upstream(step.Sample.Server, next.Remote.Addr())
		if why != "" {
			steps = append(steps, Step{Err: why})
		}
		if seen[above] {
			break
		}
		seen[above] = true
		next = Probe{Remote: netip.AddrPortFrom(above, next.Remote.Port()), Local: first.Local}
	}
	return steps, ctx.Err()
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
		// somebody else's IPv4 address.
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
