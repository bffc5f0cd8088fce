package model

import (
	"fmt"

	"timeball/internal/wire"
)

// Refusals are the packets of a source that were refused since its last sample:
// what tells "it answers, and we do not believe it" from silence.
type Refusals struct {
	Count uint64
	Last  RejectReason
	Kiss  wire.ReferenceID // code of the last kiss-o'-death among them; 0: none
	Polls uint8            // a register like Reach: the polls in which a packet was refused
}

// Recent reports whether a packet was refused within the last eight polls.
func (r *Refusals) Recent() bool { return r.Count > 0 && r.Polls != 0 }

// refusalCauses say what was wrong with a packet refused and what to do, by the reason.
var refusalCauses = [RejectReasons]string{
	RejectMalformed:    "not NTP packets; is this an NTP server?",
	RejectMode:         "of a mode that this kind of source does not send; is it a server or a peer, as the configuration says?",
	RejectDuplicate:    "copies of an earlier packet",
	RejectBogus:        "they are not to our requests (origin timestamp); does something on the way rewrite them?",
	RejectInvalid:      "timestamps of zero; is its clock set?",
	RejectAccess:       "from an address that may not answer, or that has no right to be followed (server.access)",
	RejectUnsync:       "it says itself that it is not synchronized",
	RejectHeader:       "impossible root distance or reference time; is its clock right?",
	RejectDelay:        "the round trip was negative, or longer than max_delay; raise max_delay, or use a nearer server",
	RejectReplay:       "no newer than the packet before",
	RejectRate:         "earlier than their interval allows",
	RejectUncalibrated: "the delay is not known yet, since it answers no request; is UDP port 123 open to it?",
	RejectLoop:         "it is this host, or follows it: following it would be a loop",
}

// Refused says why a source's packets are refused and what to do, in words: "14 answers,
// all refused: MAC missing or wrong; do both sides have key 10?". "" if none was since the
// last one accepted.
func (s *SourceStatus) Refused() string {
	r := &s.Refusals
	if r.Count == 0 {
		return ""
	}
	words := "1 answer, refused: "
	if r.Count > 1 {
		words = fmt.Sprintf("%d answers, all refused: ", r.Count)
	}
	if s.Broadcast {
		words = fmt.Sprintf("%d of its packets refused: ", r.Count)
	}
	return words + s.refusalCause()
}

// refusalCause is what was wrong with the last packet refused.
func (s *SourceStatus) refusalCause() string {
	r := &s.Refusals
	switch {
	case r.Last == RejectAuth && s.KeyID != 0:
		return fmt.Sprintf("MAC missing or wrong; do both sides have key %d, of the same type and secret?", s.KeyID)
	case r.Last == RejectAuth && s.Security.Asked() && r.Kiss == wire.KissNTSN:
		return "kiss code NTSN, it cannot open our cookies; another key exchange follows by itself"
	case r.Last == RejectAuth && s.Security.Asked():
		return "not authenticated by the keys of the NTS key exchange; does something on the way rewrite them?"
	case r.Last == RejectAuth:
		return "a crypto-NAK: it wants a MAC or takes ours for wrong; agree on a key with it and set `key`"
	case r.Last == RejectVersion:
		return fmt.Sprintf("of another NTP version than the %d asked for; set `version` to the one it speaks", s.Version)
	case r.Last == RejectKiss && r.Kiss == wire.KissRATE:
		return "kiss code RATE, it is asked too often; raise min_poll, or wait: the interval grows by itself"
	case r.Last == RejectKiss:
		return fmt.Sprintf("kiss code %s, it does not serve this host; ask its operator, or use another server", r.Kiss.Text())
	}
	return refusalCauses[r.Last]
}
