package association

import "timeball/internal/ntptime"

// SetOnline lets the association poll, or not: an operator knows before its packets do that
// a network is gone, or is back. Offline it sends nothing and forgets the request under
// way; reach register, samples and estimate stay as they are and age. Online again it
// polls at once. It reports whether that was a change. What only listens, or sends mode 5,
// is neither (false).
func (a *Association) SetOnline(online bool, now ntptime.Instant, out *Output) bool {
	if !a.polls() || a.done || a.status.Offline == !online {
		return false
	}
	a.status.Offline = !online
	out.StatusChanged = true
	if online {
		a.poll.restart(now)
	} else {
		a.pending = exchange{}
	}
	return true
}

// Burst makes a series of eight exchanges 2 s apart (closer where min_poll is below that),
// the first at once: an operator wants a good measurement now. It reports whether there
// will be one: only clients make bursts, not offline, and not where the server has asked
// for a slower pace (RATE).
func (a *Association) Burst(now ntptime.Instant) bool {
	if a.cfg.Kind != KindClient || a.done || a.status.Offline || a.poll.rateFloor > 0 {
		return false
	}
	a.poll.enterBurst(burstCount, now)
	return true
}

// polls reports whether the association asks the other end by a timer of its own.
func (a *Association) polls() bool { return a.cfg.Kind == KindClient || a.cfg.Kind == KindActive }
