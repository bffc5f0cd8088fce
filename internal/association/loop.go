package association

import (
	"net/netip"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// loopTest tells whether the other end takes its time from us: then its time is our own,
// and to follow it would make a loop (RFC 5905 §11.2.1). Only who serves can be in one.
type loopTest struct {
	served [4]reference // newest first: what we have served lately
	peer   bool         // the other end may always follow us
	local  netip.Addr   // our address in the last client exchange, of a broadcast client
}

// reference is what a server says of where its time comes from. No two servers that have
// set their clocks by themselves agree in all of it.
type reference struct {
	id        wire.ReferenceID
	stratum   uint8
	time      ntptime.Timestamp
	rootDelay ntptime.Short
}

// onSystem keeps what we serve now: a reply that comes in may have been made a little
// earlier.
func (l *loopTest) onSystem(s *model.Snapshot) {
	if !s.Serves || !s.Synchronized || s.ReferenceTime == 0 {
		return
	}
	now := reference{s.ReferenceID, s.Stratum, s.ReferenceTime.Timestamp(), ntptime.ShortOf(s.RootDelay)}
	if now == l.served[0] {
		return
	}
	copy(l.served[1:], l.served[:])
	l.served[0] = now
}

// loops reports whether packet p comes from somebody who follows our clock, or is our own
// server's by another address: its reference id is the address that we had in this very
// exchange (RFC 5905 §7.3), or reference id, stratum, reference time and root delay are
// those that we serve ourselves. An address of ours on another link may well be
// somebody else's on his.
func (a *Association) loops(p *wire.Packet, local netip.Addr) bool {
	if !a.system.Serves && !a.loop.peer || p.Stratum < wire.StratumPrimary || p.Stratum >= wire.MaxStratum {
		return false
	}
	if p.Mode == wire.ModeBroadcast {
		local = a.loop.local // that of p is the group's
	}
	if p.Stratum > wire.StratumPrimary && local.IsValid() && p.ReferenceID == wire.ReferenceAddress(local) {
		return true
	}
	theirs := reference{p.ReferenceID, p.Stratum, p.ReferenceTime, p.RootDelay}
	for i := range a.loop.served {
		if ours := &a.loop.served[i]; ours.time != 0 && *ours == theirs {
			return true
		}
	}
	return false
}
