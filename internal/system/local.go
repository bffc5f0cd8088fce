package system

import (
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// localState is the local clock as a reference (and orphan mode).
type localState struct {
	active bool
	due    ntptime.Raw
}

var (
	localReference  = wire.ReferenceAddress(netip.AddrFrom4([4]byte{127, 127, 1, 1}))
	orphanReference = wire.ReferenceAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
)

// localTimer decides whether the local clock serves: when no source has been
// usable for as long as configured.
func (s *System) localTimer(now ntptime.Instant) {
	s.local.due = ntptime.Never
	l := s.cfg.Local
	if l == nil || s.summary.Usable {
		s.local.active = false
		return
	}
	since := s.started
	if s.lastUsable > since {
		since = s.lastUsable
	}
	at := since.Add(l.Activate)
	s.local.active = now.Raw >= at
	if !s.local.active {
		s.local.due = at
	}
}

// localSnapshot is what the local clock shows of itself.
func (s *System) localSnapshot(now ntptime.Instant, n *model.Snapshot) {
	l := s.cfg.Local
	n.Synchronized = true
	n.Stratum, n.ReferenceID = l.Stratum, localReference
	if l.Orphan {
		n.ReferenceID = orphanReference
	}
	if l.Stratum == 1 {
		n.ReferenceID = wire.ReferenceName("LOCL")
	}
	n.SystemPeer = 0
	if !s.combined.Started() { // never set: how wrong it is nobody knows
		n.RootDelay, n.RootDispersion, n.EstimatedError = 0, s.unsetDispersion(), 0
	}
	n.ReferenceTime = now.Wall.Add(-time.Second)
}

// unsetDispersion is what a local clock that no source has ever set says on the wire. A
// reference by declaration, which asks nobody, defines what is right. One that waits for
// its sources says that it may be as wrong as clients just follow (RFC 5905 §11.2:
// MAXDIST 1.5 s), so that an island keeps together and nobody relies on it.
func (s *System) unsetDispersion() time.Duration {
	if len(s.sources) == 0 && !s.cfg.Local.Awaits {
		return 0
	}
	return time.Second
}

// orphaned says whether a source has no true time to give, as it and we both run
// in orphan mode. Of several orphans of one stratum the one with the lowest
// address is followed; and none, while a source of a lower stratum answers.
func (s *System) orphaned(src *source) bool {
	l := s.cfg.Local
	if l == nil || !l.Orphan || src.server.Stratum < l.Stratum || src.server.Stratum >= wire.MaxStratum {
		return false
	}
	for _, o := range s.sources {
		if o.status.Reach != 0 && o.samples > 0 && o.server.Stratum < l.Stratum && !o.opt.NoSelect {
			return true
		}
	}
	theirs := src.status.Address.Addr()
	for _, ours := range s.cfg.Addresses {
		if ours.Is4() == theirs.Is4() && ours.Less(theirs) {
			return true
		}
	}
	return false
}
