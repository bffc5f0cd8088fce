package daemon

import (
	"net/netip"
	"slices"
	"time"

	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// pace is how often the registry looks after its entries, and how long things last.
type pace struct {
	tend          time.Duration // between looks at every entry
	retiredFor    time.Duration // a member that was replaced is not taken again while others are left
	resolveAgain  time.Duration // names are asked again this often, to learn of new addresses
	resolveAtMost time.Duration // and never more often than this, however many members die
	replaceAtMost time.Duration // one member at a time, this far apart
}

// usualPace is that of a daemon; tests hurry.
var usualPace = pace{
	tend: 5 * time.Second, retiredFor: time.Hour,
	resolveAgain: time.Hour, resolveAtMost: time.Minute, replaceAtMost: 30 * time.Second,
}

const (
	deadAfterPolls  = 8 // polls without an answer until a member counts as dead
	lyingAfterPolls = 8 // samples as falseticker until a pool's member counts as lying
)

// entry is one line of `sources:` that names machines to ask: a pool, a server or
// a peer. It keeps as many members in use as are wanted, out of the addresses that
// the name has. An address alone is a name that never needs asking.
type entry struct {
	source   config.Source
	pace     *pace
	literal  bool // an address, not a name: never resolved and never replaced
	known    []netip.Addr
	members  []*runner
	retired  map[netip.Addr]ntptime.Raw // until when
	asking   bool                       // the resolver is at work
	askedAt  ntptime.Raw
	lastSwap ntptime.Raw
	asks     int  // how many times the name was asked
	offline  bool // an operator wished that it is not asked
	// falseRuns counts the samples since a member became a falseticker, falseSamples
	// is the member's sample count at the last of them.
	falseRuns    map[model.SourceID]int
	falseSamples map[model.SourceID]uint64
}

func newEntry(source config.Source, p *pace) *entry {
	e := &entry{source: source, pace: p, retired: map[netip.Addr]ntptime.Raw{}, falseRuns: map[model.SourceID]int{}, falseSamples: map[model.SourceID]uint64{}}
	if addr, err := netip.ParseAddr(source.Host); err == nil {
		e.literal, e.known = true, []netip.Addr{addr}
	}
	return e
}

// want is how many members are to be in use.
func (e *entry) want() int {
	if e.source.Kind == config.Pool {
		return e.source.Count
	}
	return 1
}

// learn takes the addresses that the name has now. Members whose address is gone
// stay: a working server is not given up because DNS rotates (threats 22).
func (e *entry) learn(addrs []netip.Addr, now ntptime.Raw) {
	e.asking, e.askedAt = false, now
	if len(addrs) > 0 {
		e.known = addrs
	}
}

// mayAsk reports whether the name may be resolved (again) now.
func (e *entry) mayAsk(now ntptime.Raw) bool {
	return !e.literal && !e.asking && (e.asks == 0 || now.Sub(e.askedAt) >= e.pace.resolveAtMost)
}

// wantsAsk reports whether the name should be resolved: it never was, members are
// missing, or the last answer is old.
func (e *entry) wantsAsk(now ntptime.Raw) bool {
	return e.asks == 0 || len(e.members) < e.want() || now.Sub(e.askedAt) >= e.pace.resolveAgain
}

// candidate returns an address that may become a member now. Retired ones are
// taken only when the name has nothing else.
func (e *entry) candidate(now ntptime.Raw, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for _, again := range []bool{false, true} {
		for _, addr := range e.known {
			until, retired := e.retired[addr]
			if until == ntptime.Never {
				continue
			}
			if retired = retired && now < until; retired != again || e.uses(addr) || taken(addr) {
				continue
			}
			if again && len(e.members) > 0 {
				continue
			}
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func (e *entry) uses(addr netip.Addr) bool {
	return slices.ContainsFunc(e.members, func(r *runner) bool { return r.remote.Addr() == addr })
}

// drop forgets a member, and keeps its address away for a while; for good if the
// server does not want to be asked (RFC 5905 §7.4: DENY, RSTR).
func (e *entry) drop(r *runner, now ntptime.Raw) {
	e.members = slices.DeleteFunc(e.members, func(m *runner) bool { return m == r })
	e.retired[r.remote.Addr()] = now.Add(e.pace.retiredFor)
	if status := r.latest.Load(); status != nil && status.Denied {
		e.retired[r.remote.Addr()] = ntptime.Never
	}
	delete(e.falseRuns, r.id)
	delete(e.falseSamples, r.id)
}

// replaceable returns the member to be replaced, if there is one: dead, or (in a pool)
// telling another time than the majority for long. One at a time, so that a poisoned answer of the DNS cannot change all at once.
func (e *entry) replaceable(now ntptime.Raw) (worst *runner, why string) {
	if e.literal || (e.lastSwap != 0 && now.Sub(e.lastSwap) < e.pace.replaceAtMost) {
		return nil, ""
	}
	for _, r := range e.members {
		status := r.latest.Load()
		switch {
		case status == nil:
		case status.Reach == 0 && status.Unanswered >= deadAfterPolls:
			return r, "no answer"
		case e.source.Kind == config.Pool && e.falseRuns[r.id] >= lyingAfterPolls:
			return r, "disagrees with the majority"
		}
	}
	return nil, ""
}
