package responder

import (
	"net/netip"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// ntpPort is where servers and symmetric peers are (RFC 5905 §7.2).
const ntpPort = 123

// Respond answers the datagram rx as Decide does, and counts the verdict, but for a control
// query: whoever answers that counts it. So every datagram is counted once.
func (s *Shard) Respond(dst []byte, rx *model.Received, env *Env) (int, Verdict) {
	n, v := s.Decide(dst, rx, env)
	if v.Result != Query {
		s.Count(rx, v)
	}
	return n, v
}

// Count counts what became of a datagram that came in by the shard's socket, where it was
// not Respond's to decide. Any goroutine may call it.
func (s *Shard) Count(rx *model.Received, v Verdict) {
	version, mode := wire.Peek(rx.Data)
	c := &s.counters
	c.packets[v.Result][version&7][mode&7].Add(1)
	if v.Reason != ReasonNone {
		c.whys[v.Reason].Add(1)
	}
	if v.Signed() {
		c.signed.Add(1)
	}
	if v.NTS() {
		c.nts[v.Result].Add(1)
	}
}

// Decide writes the reply to rx into dst and returns its length, 0 for none, with the
// verdict. The reply is never longer than rx.Data. Nothing is allocated.
func (s *Shard) Decide(dst []byte, rx *model.Received, env *Env) (int, Verdict) {
	if !possibleSource(rx, env.Policy) {
		return 0, Verdict{Result: Ignored, Reason: ReasonSource}
	}
	mode, why := replyMode(rx, env.Policy)
	if why != ReasonNone {
		if env.Policy.Queries(rx) {
			return 0, Verdict{Result: Query}
		}
		return 0, Verdict{Result: Ignored, Reason: why}
	}
	switch s.packet.Decode(rx.Data) {
	case wire.DefectNone:
	case wire.DefectVersion:
		return 0, Verdict{Result: Ignored, Reason: ReasonVersion}
	default:
		return 0, Verdict{Result: Ignored, Reason: ReasonMalformed}
	}
	// Only a manycast server answers what was sent to more than it (RFC 5905 §3.1).
	if rx.Local.IsMulticast() || rx.Local == broadcastIPv4 {
		return 0, Verdict{Result: Ignored, Reason: ReasonGroup}
	}
	grant := env.Policy.Grant(rx.Remote.Addr())
	if !grant.Right.Time() {
		return 0, Verdict{Result: Denied, Reason: ReasonAccess}
	}
	admission, at := s.clients.admit(rx.Remote.Addr(), &s.packet.Header, rx.At.Raw, env.Policy.Limit, &s.chance)
	if admission == limited {
		return 0, Verdict{Result: Limited, Reason: ReasonRate}
	}
	key, v := s.authenticate(env, mode, grant.Require, len(rx.Data), len(dst))
	n := 0
	switch {
	case v.Result == Refused && env.Snapshot != nil:
		n = s.refuse(dst)
	case v.Result != Answered:
	case env.Snapshot == nil, env.Policy.SilentUntilSynchronized && !env.Snapshot.Synchronized && env.Snapshot.Updates == 0:
		v = Verdict{Result: Ignored, Reason: ReasonStarting}
	case len(dst) < wire.HeaderSize+len(rx.Data)-len(s.packet.Signed): // header, and a trailer as long as the request's
		v = Verdict{Result: Ignored, Reason: ReasonSpace}
	default:
		smearing := env.Snapshot // by which this socket's time is smeared; nil: it is not
		if !env.Smeared || smearing.Smear.Leap == 0 {
			smearing = nil
		}
		s.prepare(mode, rx, env.Snapshot, smearing)
		if v.NTS() {
			s.nts.server.Prepare(env.Ring, s.nts.nonces)
		}
		if admission == kissed {
			s.kiss(env.Policy.Limit)
			v.Result, v.Reason = RateKoD, ReasonRate
		}
		n, v = s.finish(dst, rx, env, smearing, key, at, v)
	}
	if n > len(rx.Data) { // never so, and not to be left to reasoning (threats 5)
		return 0, Verdict{Result: Ignored, Reason: ReasonSpace}
	}
	return n, v
}

// possibleSource reports whether anybody can have asked from there: not from port 0,
// a group, or no address, and not from a loopback address by another interface.
func possibleSource(rx *model.Received, policy *Policy) bool {
	addr := rx.Remote.Addr()
	switch {
	case rx.Remote.Port() == 0, !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast():
		return false
	case addr.IsLoopback() || addr.Is4In6() && addr.Unmap().IsLoopback():
		return policy.LoopbackInterface == 0 || rx.Interface == 0 || rx.Interface == policy.LoopbackInterface
	}
	return addr != broadcastIPv4
}

var broadcastIPv4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// replyMode says in which mode a datagram is to be answered by its own (RFC 5905
// Figure 20 for a packet that no association takes), or why it draws no answer.
// A mode 0 packet never leaves.
func replyMode(rx *model.Received, policy *Policy) (wire.Mode, Reason) {
	switch version, mode := wire.Peek(rx.Data); {
	case len(rx.Data) == 0:
		return 0, ReasonMalformed
	case mode == wire.ModeClient:
		return wire.ModeServer, ReasonNone
	case mode == wire.ModeReserved && version == 1 && rx.Remote.Port() != ntpPort:
		// RFC 1059 has no modes: from a high port it is a client's question, from
		// port 123 a symmetric peer's, or a reply.
		return wire.ModeServer, ReasonNone
	case mode == wire.ModeActive && policy.AnswerActive:
		return wire.ModePassive, ReasonNone
	}
	return 0, ReasonMode
}

// authenticate checks what the request shows of its sender. The verdict is Answered
// with the key to sign the reply by, if there is one; Refused for an answer by NTSN; else
// silence: a crypto-NAK (RFC 5905 §9.2) would help nobody authenticate, and chronyd and
// ntpsec send none either.
func (s *Shard) authenticate(env *Env, mode wire.Mode, require Require, length, room int) (*mac.Key, Verdict) {
	p := &s.packet
	if len(p.Fields) > 0 {
		if v, asks := s.judgeNTS(env, mode, length, room); asks {
			return nil, v
		}
	}
	if !p.HasMAC {
		if require != RequireNone {
			return nil, Verdict{Result: Denied, Reason: ReasonUnsigned}
		}
		return nil, Verdict{Result: Answered}
	}
	if p.CryptoNAK() {
		return nil, Verdict{Result: Ignored, Reason: ReasonNAK}
	}
	if len(p.Signed) > mac.MaxMessage { // the Signer would have to allocate
		return nil, Verdict{Result: Ignored, Reason: ReasonMalformed}
	}
	switch key := env.Policy.Keys.Key(p.KeyID); {
	case key == nil:
		return nil, Verdict{Result: Denied, Reason: ReasonUnknownKey}
	case !s.signer.Verify(key, p.Signed, p.Digest):
		return nil, Verdict{Result: Denied, Reason: ReasonBadMAC}
	case require == RequireNTS:
		return nil, Verdict{Result: Denied, Reason: ReasonUnsigned}
	default:
		return key, Verdict{Result: Answered, Shown: ShownProof}
	}
}

// prepare fills the header of a reply but for the transmit timestamp (RFC 5905
// Figure 31). Root dispersion has grown since the snapshot (§12: PHI).
func (s *Shard) prepare(mode wire.Mode, rx *model.Received, snapshot, smearing *model.Snapshot) {
	request := &s.packet.Header
	wall := rx.At.Wall
	if smearing != nil {
		wall, _ = smeared(rx.At, smearing)
	}
	// Receive timestamps differ and rise even if the clock's tick is coarse: clients tell
	// replies apart by them, and interleaved mode keys on them.
	receive := wall.Timestamp()
	if behind := s.latest - receive; behind <= timestampSpread {
		receive = s.latest + 1
	}
	s.latest = receive
	age := max(rx.At.Raw.Sub(snapshot.At.Raw), 0)
	s.header = wire.Header{
		Leap: wire.LeapUnknown, Version: request.Version, Mode: mode, Stratum: wire.StratumKiss,
		Poll: request.Poll, Precision: snapshot.Precision,
		RootDelay:      ntptime.ShortOf(snapshot.RootDelay),
		RootDispersion: ntptime.ShortOf(snapshot.RootDispersion + snapshot.DispersionRate.Over(age)),
		ReferenceTime:  referenceTime(snapshot, rx.At.Wall),
		Origin:         request.Transmit,
		Receive:        receive,
	}
	if snapshot.Synchronized && !snapshot.Unsteady && snapshot.Stratum < wire.MaxStratum {
		s.header.Leap, s.header.Stratum, s.header.ReferenceID = snapshot.Leap, snapshot.Stratum, snapshot.ReferenceID
	}
	if smearing != nil {
		s.prepareSmeared(rx.At, smearing)
	}
}

// referenceTime is when the clock was last set, never later than the request came.
func referenceTime(snapshot *model.Snapshot, receive ntptime.Wall) ntptime.Timestamp {
	if snapshot.ReferenceTime == 0 {
		return 0
	}
	return min(snapshot.ReferenceTime, receive).Timestamp()
}

// timestampSpread, in units of 2^-32 s, is how close a receive timestamp may come before
// the last one and be put behind it: about a microsecond. Two packets of one burst
// come so close; a clock that was set back is further off.
const timestampSpread = 4295

// kiss makes the header a RATE kiss-o'-death that names a poll interval the limit
// allows (RFC 5905 §7.4). It holds no time.
func (s *Shard) kiss(limit *RateLimit) {
	h := &s.header
	h.Leap, h.Stratum, h.ReferenceID = wire.LeapUnknown, wire.StratumKiss, wire.KissRATE
	h.RootDelay, h.RootDispersion, h.ReferenceTime = 0, 0, 0
	h.Poll = max(h.Poll, ntptime.Log2Of(limit.Interval))
}

// finish writes the reply: the transmit timestamp is the last thing read, and only
// the MAC comes after it.
func (s *Shard) finish(dst []byte, rx *model.Received, env *Env, smearing *model.Snapshot, key *mac.Key, at place, v Verdict) (int, Verdict) {
	h, request := &s.header, &s.packet.Header
	var kept slot
	var earlier ntptime.Timestamp
	// A request may be one of interleaved mode when it has our last receive timestamp for its
	// origin, and receive and transmit timestamps that differ (RFC 9769 §2). One of basic mode
	// mostly has origin 0.
	if v.Result == Answered && h.Mode == wire.ModeServer && s.timestamps != nil && env.Policy.Interleaved &&
		request.Origin != 0 && request.Receive != request.Transmit {
		var interleaved bool
		earlier, kept, interleaved = s.timestamps.exchange(rx.Remote.Addr(), request.Origin, h.Receive, rx.At.Raw)
		if interleaved {
			v.Result = Interleaved
			h.Origin = request.Receive
		}
	}
	h.Put(dst)
	h.Transmit = s.transmitTime(dst, rx, env, smearing)
	if v.Result == Interleaved {
		wire.PutTransmit(dst, earlier)
		v.TimestampID = s.await(kept)
		s.smeared = smearing
	} else {
		wire.PutTransmit(dst, h.Transmit)
	}
	if kept.index != 0 {
		s.timestamps.sent(kept, h.Transmit)
	}
	var flags clientFlags
	if v.Signed() {
		flags |= clientSigned
	}
	if v.Result == Interleaved {
		flags |= clientInterleaved
	}
	s.clients.mark(at, flags)
	reply := dst[:wire.HeaderSize]
	switch {
	case v.NTS():
		reply = s.nts.server.AppendReply(reply, s.nts.nonces)
	case key != nil:
		reply = s.signer.AppendMAC(reply, key, len(s.packet.Digest))
	}
	return len(reply), v
}

// transmitTime reads the clock for the transmit timestamp. Should the clock have been
// stepped back since the request came, the receive timestamp is moved to its new
// scale, by way of the oscillator, which nobody steps.
func (s *Shard) transmitTime(dst []byte, rx *model.Received, env *Env, smearing *model.Snapshot) ntptime.Timestamp {
	now, received := env.Now(), rx.At.Wall
	if smearing != nil {
		received, _ = smeared(rx.At, smearing)
		now.Wall, _ = smeared(now, smearing)
	}
	if now.Wall < received {
		spent := max(now.Raw.Sub(rx.At.Raw), 0)
		receive := now.Wall.Add(-spent)
		s.header.Receive = receive.Timestamp()
		if s.header.ReferenceTime != 0 {
			s.header.ReferenceTime = referenceTime(env.Snapshot, receive)
		}
		s.header.Put(dst)
	}
	transmit := now.Wall.Add(max(env.Lead, 0)).Timestamp()
	if transmit.Sub(s.header.Receive) < 0 || transmit == s.header.Receive {
		transmit = s.header.Receive + 1
	}
	return transmit
}

// Queries reports whether rx is a control query (mode 6, RFC 9327) from an address
// with the right to it: by the access lists, or, without any, from this host alone.
// Responses and errors are none: they never draw anything.
func (p *Policy) Queries(rx *model.Received) bool {
	const response, controlHead = 0x80 | 0x40 | 0x20, 12 // R, E and M bits
	if _, mode := wire.Peek(rx.Data); mode != wire.ModeControl || len(rx.Data) < controlHead || rx.Data[1]&response != 0 {
		return false
	}
	if !possibleSource(rx, p) || rx.Local.IsMulticast() || rx.Local == broadcastIPv4 {
		return false
	}
	if p.Access == nil {
		return rx.Remote.Addr().Unmap().IsLoopback()
	}
	return p.Grant(rx.Remote.Addr()).Right.Query()
}
