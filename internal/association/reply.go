package association

import (
	"net/netip"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// onReply takes a mode 4 packet (RFC 5905 §8, §9.2 PROC): every test first, then the
// change of state, then the sample.
func (a *Association) onReply(rx *model.Received, p *wire.Packet, out *Output) {
	if reason := a.testReply(rx, p); reason != model.RejectNone {
		a.reject(reason)
		return
	}
	// The reply is the server's, to this request: from here on the request is answered,
	// and a second copy is bogus.
	x := a.pending
	a.pending = exchange{}
	if kiss, ok := kissOf(p); ok {
		a.onKiss(kiss, p, rx.At, out)
		return
	}
	answeredInterleaved := x.state == interleaved && p.Origin == x.receive
	a.loop.local = rx.Local
	server := a.serverState(p, rx)
	a.heard(p, server, rx)
	reason := testServer(p)
	if a.poll.answered() {
		a.poll.reschedule(rx.At, a.random)
	}
	a.role.answered(a, reason == model.RejectNone, rx.At, out)
	if reason != model.RejectNone && !a.cfg.Unsynchronized {
		a.reject(reason)
		a.last.valid = false
		return
	}
	if x.state == interleaved {
		a.client.noteInterleaved(answeredInterleaved)
	}
	a.status.Accepted++
	a.measure(&x, rx, p, server, answeredInterleaved, out)
}

// testReply makes the packet tests 1 to 5 (RFC 5905 Figure 22) on a reply. They
// change nothing: an attacker who cannot see our requests knows no origin, and one
// who has no key makes no MAC.
func (a *Association) testReply(rx *model.Received, p *wire.Packet) model.RejectReason {
	x := &a.pending
	isBasic := x.state != idle && p.Origin == x.transmit
	isInterleaved := x.state == interleaved && p.Origin == x.receive
	switch {
	case !sameEnd(rx.Remote, a.cfg.Remote): // TEST4: nobody else may answer
		return model.RejectAccess
	case p.Version > a.cfg.Version: // an older one is an older server's (RFC 5905 §7.3)
		return model.RejectVersion
	case a.duplicate(p, isBasic): // TEST1
		return model.RejectDuplicate
	case !isBasic && !isInterleaved: // TEST2
		return model.RejectBogus
	case !a.authentic(p): // TEST5
		return model.RejectAuth
	}
	if _, ok := kissOf(p); ok {
		return model.RejectNone // its timestamps are never used as time (RFC 5905 §7.4)
	}
	if p.Receive.IsZero() || p.Transmit.IsZero() { // TEST3; origin is ours
		return model.RejectInvalid
	}
	return model.RejectNone
}

// duplicate is TEST1 (RFC 5905 Figure 22). The transmit timestamp of an interleaved reply
// may well be that of the basic one before, where the server has no better timestamps
// than it took itself; only both timestamps together tell a copy then.
func (a *Association) duplicate(p *wire.Packet, isBasic bool) bool {
	if !a.last.valid || p.Transmit != a.last.sent {
		return false
	}
	return isBasic || p.Receive == a.last.received
}

// authentic is TEST5 (RFC 5905 Figure 22): with a key configured, the MAC must be
// there, and of that key alone (CVE-2015-7974). A crypto-NAK is a failed check, also
// without a key (CVE-2015-7871).
func (a *Association) authentic(p *wire.Packet) bool {
	if a.security != nil {
		return a.genuine(p)
	}
	if a.cfg.Key == nil {
		return !p.CryptoNAK()
	}
	return p.HasMAC && p.KeyID == a.cfg.Key.ID() && a.signer.Verify(a.cfg.Key, p.Signed, p.Digest)
}

// testServer makes the packet tests 6 and 7 (RFC 5905 Figure 22): whether a server
// that is known to have sent p has time to give.
func testServer(p *wire.Packet) model.RejectReason {
	if p.Leap == wire.LeapUnknown || p.Stratum == wire.StratumKiss || p.Stratum >= wire.MaxStratum { // TEST6
		return model.RejectUnsync
	}
	// TEST7. An interleaved packet's transmit timestamp is that of the packet before, so
	// its receive timestamp bounds the reference time too. Zero means unknown: orphans.
	newest := p.Transmit
	if p.Receive != 0 && p.Receive.Sub(newest) > 0 {
		newest = p.Receive
	}
	if !p.ReferenceTime.IsZero() && p.ReferenceTime.Sub(newest) > 0 {
		return model.RejectHeader
	}
	if p.RootDelay.Duration()/2+p.RootDispersion.Duration() >= maxDispersion {
		return model.RejectHeader
	}
	return model.RejectNone
}

// serverState reads the header of packet p, which came in as rx.
func (a *Association) serverState(p *wire.Packet, rx *model.Received) model.ServerState {
	s := model.ServerState{Leap: p.Leap, Stratum: p.Stratum, Precision: p.Precision, ReferenceID: p.ReferenceID,
		RootDelay: p.RootDelay.Duration(), RootDispersion: p.RootDispersion.Duration(), Loop: a.loops(p, rx.Local)}
	if s.Stratum == wire.StratumKiss || s.Stratum > wire.MaxStratum {
		s.Stratum = wire.MaxStratum
	}
	if !p.ReferenceTime.IsZero() {
		s.ReferenceTime = p.ReferenceTime.Wall(a.pivot(rx.At.Wall))
	}
	return s
}

// measure makes the sample of an accepted reply (RFC 5905 §8): of this exchange, or,
// interleaved, of the one before with a better T3 (RFC 9769 §2).
func (a *Association) measure(x *exchange, rx *model.Received, p *wire.Packet, server model.ServerState,
	isInterleaved bool, out *Output) {
	pivot := a.pivot(rx.At.Wall)
	before := a.last
	a.last = lastExchange{sentPacket: x.sentPacket, valid: true, arrival: arrived{rx.At, rx.Timestamp},
		received: p.Receive, sent: p.Transmit, t2: p.Receive.Wall(pivot)}
	s := model.Sample{Source: a.cfg.ID, Kind: model.SampleExchange, T1: x.at, T2: a.last.t2, T3: p.Transmit.Wall(pivot), T4: rx.At,
		Server: server, Authenticated: a.cfg.Key != nil || a.security != nil, Interleaved: isInterleaved, Dispersion: a.dispersion(server.Precision)}
	if isInterleaved {
		if !before.valid || before.sampled {
			return // that exchange has given its sample: one fact is not two
		}
		s.T1, s.T2, s.T4 = before.at, before.t2, before.arrival.at
	}
	if reason := a.testDelay(&s); reason != model.RejectNone {
		a.reject(reason)
		return
	}
	a.last.sampled = !isInterleaved
	out.Sample, out.HasSample = s, true
	a.status.Timestamps = min(x.kind, rx.Timestamp)
	a.status.Refusals = model.Refusals{}
	a.role.measured(a, rx.At, out)
}

// sameEnd reports whether two addresses are the same end; an IPv4 address mapped
// into IPv6 is the IPv4 address.
func sameEnd(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}
