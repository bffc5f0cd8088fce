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

// judgeNTS judges a request with extension fields that asks for NTS (RFC 8915 §5.7), by its
// fields alone: a MAC behind them would not be authenticated. It is no use to its sender
// without NTS in the reply. False: the request does not ask for it.
func (s *Shard) judgeNTS(env *Env, mode wire.Mode, length, room int) (v Verdict, asks bool) {
	if s.nts == nil {
		s.nts = new(network)
	}
	v.Shown = ShownNTS
	fields := &s.nts.fields
	switch wellFormed := fields.Read(&s.packet); {
	case !wellFormed:
		v.Result, v.Reason = Ignored, ReasonMalformed
		return v, true
	case !fields.Authenticated && fields.Cookies == 0: // an identifier alone is no more than an unknown field
		return v, false
	case env.Ring == nil || s.nts.nonces == nil || mode != wire.ModeServer:
		v.Result, v.Reason = Denied, ReasonNTS
		return v, true
	}
	switch s.nts.server.Judge(env.Ring, fields, length, room) {
	case nts.Genuine:
		v.Result, v.Shown = Answered, ShownNTS|ShownProof
	case nts.Refused:
		v.Result, v.Reason = Refused, ReasonCookie
	default:
		v.Result, v.Reason = Ignored, ReasonMalformed
	}
	return v, true
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
