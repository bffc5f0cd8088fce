package responder

import (
	"timeball/internal/nts"
	"timeball/internal/wire"
)

// network is what a shard needs for NTS (RFC 8915): the fields of the request, and the
// working space of the server's end.
type network struct {
	server nts.Server
	fields nts.Fields
	nonces nts.Random
}

// asksNTS reports whether the request has what NTS wants answered: a cookie or an
// authenticator. An identifier alone is no more than an unknown field.
func (s *Shard) asksNTS() (asks, wellFormed bool) {
	if len(s.packet.Fields) == 0 {
		return false, true
	}
	n := &s.network().fields
	wellFormed = n.Read(&s.packet)
	return !wellFormed || n.Authenticated || n.Cookies > 0, wellFormed
}

// network is the shard's, made at the first request with fields where there is none.
func (s *Shard) network() *network {
	if s.nts == nil {
		s.nts = new(network)
	}
	return s.nts
}

// network judges a request with NTS (RFC 8915 §5.7) by its fields alone: a MAC behind
// them would not be authenticated. It is no use to its sender without NTS in the reply.
func (s *Shard) judgeNTS(env *Env, mode wire.Mode, length, room int) Verdict {
	v := Verdict{Shown: ShownNTS}
	if env.Ring == nil || s.nts.nonces == nil || mode != wire.ModeServer {
		v.Result, v.Reason = Denied, ReasonNTS
		return v
	}
	switch s.nts.server.Judge(env.Ring, &s.nts.fields, length, room) {
	case nts.Genuine:
		v.Result, v.Shown = Answered, ShownNTS|ShownProof
	case nts.Refused:
		v.Result, v.Reason = Refused, ReasonCookie
	default:
		v.Result, v.Reason = Ignored, ReasonMalformed
	}
	return v
}

// refuse writes the kiss-o'-death NTSN, which returns the request's identifier and holds
// no time (RFC 8915 §5.7).
func (s *Shard) refuse(dst []byte) int {
	request := &s.packet.Header
	h := wire.Header{
		Leap: wire.LeapUnknown, Version: request.Version, Mode: wire.ModeServer, Stratum: wire.StratumKiss,
		Poll: request.Poll, ReferenceID: wire.KissNTSN, Origin: request.Transmit,
		Receive: s.latest, Transmit: s.latest,
	}
	h.Put(dst)
	return len(s.nts.server.AppendNAK(dst[:wire.HeaderSize]))
}
