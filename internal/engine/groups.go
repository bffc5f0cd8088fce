package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

const (
	deadAfterPolls  = 8 // polls without an answer until a member counts as dead
	lyingAfterPolls = 8 // samples as falseticker until a pool's member counts as lying
)

// sourceGroup is one line of `sources:` that names machines to ask: a pool, a server or
// a peer. It keeps as many members in use as are wanted, out of the addresses that the
// name has. An address alone is a name that never needs asking.
type sourceGroup struct {
	id           model.SourceID // of its row in reports, while it has no member
	source       config.Source
	timing       *Timing
	literal      bool // an address, not a name: never resolved and never replaced
	known        []netip.Addr
	members      []*Association
	cooldown     map[netip.Addr]ntptime.Raw // until when an address is not taken again
	asking       bool                       // the resolver is at work
	askedAt      ntptime.Raw
	failure      string      // why the name has no addresses, "": it has some, or was never asked
	again        ntptime.Raw // when the resolver tries again, after a failure
	lastSwap     ntptime.Raw
	asks         int  // how many times the name was asked
	offline      bool // an operator wished that it is not asked: no look-up, and no new member
	falsetickers map[model.SourceID]falseticker
}

// falseticker counts the samples since a member became one.
type falseticker struct {
	run     int
	samples uint64 // that the member had given at the last of them
}

func newSourceGroup(id model.SourceID, source config.Source, timing *Timing) *sourceGroup {
	g := &sourceGroup{id: id, source: source, timing: timing, cooldown: map[netip.Addr]ntptime.Raw{},
		falsetickers: map[model.SourceID]falseticker{}}
	if addr, err := netip.ParseAddr(source.Host); err == nil {
		g.literal, g.known = true, []netip.Addr{addr.Unmap()}
	}
	return g
}

// want is how many members are to be in use.
func (g *sourceGroup) want() int {
	if g.source.Kind == config.Pool {
		return g.source.Count
	}
	return 1
}

// learn takes the addresses that the name has now. Members whose address is gone
// stay: a working server is not given up because DNS rotates (threat 22).
func (g *sourceGroup) learn(addrs []netip.Addr, now ntptime.Raw) {
	g.asking, g.askedAt, g.failure = false, now, ""
	if len(addrs) > 0 {
		g.known = addrs
	}
}

// mayAsk reports whether the name may be resolved (again) now.
func (g *sourceGroup) mayAsk(now ntptime.Raw) bool {
	return !g.literal && !g.asking && (g.asks == 0 || now.Sub(g.askedAt) >= g.timing.ResolveAtMost)
}

// wantsAsk reports whether the name should be resolved: it never was, members are
// missing, or the last answer is old.
func (g *sourceGroup) wantsAsk(now ntptime.Raw) bool {
	return g.asks == 0 || len(g.members) < g.want() || now.Sub(g.askedAt) >= g.timing.ResolveAgain
}

// candidate returns an address that may become a member now. Those in their cooldown are
// taken only when the name has nothing else.
func (g *sourceGroup) candidate(now ntptime.Raw, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for _, cooling := range []bool{false, true} {
		for _, addr := range g.known {
			until, replaced := g.cooldown[addr]
			if until == ntptime.Never {
				continue
			}
			if replaced = replaced && now < until; replaced != cooling || g.uses(addr) || taken(addr) {
				continue
			}
			if cooling && len(g.members) > 0 {
				continue
			}
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func (g *sourceGroup) uses(addr netip.Addr) bool { return g.member(addr) != nil }

// member is the association with an address, nil if there is none.
func (g *sourceGroup) member(addr netip.Addr) *Association {
	for _, a := range g.members {
		if a.Config.Remote.Addr() == addr {
			return a
		}
	}
	return nil
}

// drop forgets a member, and keeps its address away for a while; for good if the
// server does not want to be asked (RFC 5905 §7.4: DENY, RSTR).
func (g *sourceGroup) drop(a *Association, status *model.SourceStatus, now ntptime.Raw) {
	g.release(a)
	addr := a.Config.Remote.Addr()
	g.cooldown[addr] = now.Add(g.timing.Cooldown)
	if status != nil && status.Denied {
		g.cooldown[addr] = ntptime.Never
	}
}

// release forgets a member without a word against its address.
func (g *sourceGroup) release(a *Association) {
	g.members = slices.DeleteFunc(g.members, func(m *Association) bool { return m == a })
	delete(g.falsetickers, a.ID())
}

// replaceable returns the member to be replaced, if there is one: dead, or (in a pool)
// telling another time than the majority for long. One at a time, so that a poisoned
// answer of the DNS cannot change all at once (threat 22).
func (g *sourceGroup) replaceable(now ntptime.Raw, statusOf func(model.SourceID) *model.SourceStatus) (worst *Association, why string) {
	if g.literal || (g.lastSwap != 0 && now.Sub(g.lastSwap) < g.timing.ReplaceAtMost) {
		return nil, ""
	}
	for _, a := range g.members {
		status := statusOf(a.ID())
		switch {
		case status == nil:
		case status.Reach == 0 && status.Unanswered >= deadAfterPolls:
			return a, "no answer"
		case g.source.Kind == config.Pool && g.falsetickers[a.ID()].run >= lyingAfterPolls:
			return a, "disagrees with the majority"
		}
	}
	return nil, ""
}

// countFalse counts samples, not looks: a source polled seldom is not judged sooner.
func (g *sourceGroup) countFalse(id model.SourceID, report *model.SourceReport) {
	if report.State != model.StateFalseticker {
		delete(g.falsetickers, id)
		return
	}
	if f := g.falsetickers[id]; f.samples != report.Samples {
		g.falsetickers[id] = falseticker{f.run + 1, report.Samples}
	}
}

// countFalsetickers keeps how long each member of a pool has been telling another
// time than the majority.
func (s *Associations) countFalsetickers(snapshot *model.Snapshot) {
	if snapshot == nil {
		return
	}
	for i := range snapshot.Sources {
		report := &snapshot.Sources[i]
		for _, g := range s.groups {
			for _, a := range g.members {
				if a.ID() == report.Source {
					g.countFalse(a.ID(), report)
				}
			}
		}
	}
}

// rank orders the groups in which they choose addresses: one machine must not have two
// votes, and whoever says most of it has it. A line that names the machine goes before a
// pool, one with a key or NTS before one without, then `require`, `trust` and `prefer`,
// and of equals the first in the file.
func (s *Associations) rank() {
	s.ranked = slices.Clone(s.groups)
	slices.SortStableFunc(s.ranked, func(a, b *sourceGroup) int { return -compareRank(&a.source, &b.source) })
}

// compareRank is positive if a goes before b by what the lines say.
func compareRank(a, b *config.Source) int {
	bit := func(x, y bool) int { return cmp.Compare(asInt(x), asInt(y)) }
	return cmp.Or(
		bit(a.Kind != config.Pool, b.Kind != config.Pool),
		bit(a.Key != 0 || a.NTS != nil, b.Key != 0 || b.NTS != nil),
		bit(a.Require, b.Require), bit(a.Trust, b.Trust), bit(a.Prefer, b.Prefer),
		bit(!a.NoSelect, !b.NoSelect),
	)
}

func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// beats reports whether g may take an address that h uses. Two pools of one rank leave
// each other's working members alone (threat 22).
func (s *Associations) beats(g, h *sourceGroup) bool {
	if g.source.Kind == config.Pool && compareRank(&g.source, &h.source) == 0 {
		return false
	}
	return slices.Index(s.ranked, g) < slices.Index(s.ranked, h)
}

// holder is the group that has an address in use, nil: none.
func (s *Associations) holder(addr netip.Addr) *sourceGroup {
	for _, g := range s.groups {
		if g.uses(addr) {
			return g
		}
	}
	return nil
}

// tendGroups looks after every group, the first in rank first.
func (s *Associations) tendGroups(now ntptime.Raw, out *Changes) {
	for _, g := range s.ranked {
		s.tendGroup(g, now, out)
	}
	for _, g := range s.ranked {
		for _, a := range g.members {
			if options := s.options(g, a.Config.Remote.Addr()); options != a.Options {
				a.Options = options
				out.Options = append(out.Options, a)
			}
		}
	}
}

// options are those of a group's member at an address: with `require` also where a line
// says so that has no association because this one has its address.
func (s *Associations) options(g *sourceGroup, addr netip.Addr) system.SourceOptions {
	o := SourceOptions(&g.source)
	for _, h := range s.groups {
		if h != g && len(h.members) == 0 && h.source.Kind != config.Pool && slices.Contains(h.known, addr) {
			o.Require = o.Require || h.source.Require
		}
	}
	return o
}

func (s *Associations) tendGroup(g *sourceGroup, now ntptime.Raw, out *Changes) {
	for _, a := range slices.Clone(g.members) {
		if s.isOurs(a.Config.Remote) {
			g.release(a)
			s.demobilize(a, now, out)
		}
	}
	if g.offline {
		return
	}
	if a, why := g.replaceable(now, s.status); a != nil {
		if _, spare := g.candidate(now, s.takenFor(g, false)); spare {
			out.Replaced = append(out.Replaced, Replaced{a.Config.Name, a.Config.Remote, why})
			g.lastSwap = now
			g.drop(a, s.status(a.ID()), now)
			s.demobilize(a, now, out)
		} else if g.mayAsk(now) {
			s.ask(g, now, out)
		}
	}
	for len(g.members) < g.want() {
		addr, ok := g.candidate(now, s.takenFor(g, false))
		if !ok {
			if addr, ok = g.candidate(now, s.takenFor(g, true)); !ok {
				break
			}
			other := s.holder(addr)
			a := other.member(addr)
			other.release(a)
			s.demobilize(a, now, out)
		}
		a := s.mobilize(unicast(&g.source, addr, Key(s.Keys, g.source.Key)), s.options(g, addr), now, out)
		a.Source = &g.source
		g.members = append(g.members, a)
	}
	if g.wantsAsk(now) && g.mayAsk(now) {
		s.ask(g, now, out)
	}
}

// takenFor says which addresses a group may not use: our own, broadcast addresses, and those of other groups;
// with takeOver it may have those of groups that it beats.
func (s *Associations) takenFor(g *sourceGroup, takeOver bool) func(netip.Addr) bool {
	return func(addr netip.Addr) bool {
		if s.isOurs(netip.AddrPortFrom(addr, g.source.Port)) || slices.Contains(s.host.Broadcasts, addr) {
			return true
		}
		other := s.holder(addr)
		return other != nil && !(takeOver && s.beats(g, other))
	}
}

// ask has the name of a group looked up, in the background.
func (s *Associations) ask(g *sourceGroup, now ntptime.Raw, out *Changes) {
	g.asking, g.askedAt = true, now
	g.asks++
	out.Resolve = append(out.Resolve, g.source.Host)
	out.Idle = true
}

// Resolved takes the addresses that a name has to every group of that name.
func (s *Associations) Resolved(name string, addrs []netip.Addr, now ntptime.Raw, out *Changes) {
	for _, g := range s.groups {
		if g.asking && g.source.Host == name {
			g.learn(addrs, now)
			out.Idle = true
		}
	}
	s.tendGroups(now, out)
}

// NotResolved takes why a name has no addresses; the driver asks again after retry.
func (s *Associations) NotResolved(name, why string, retry time.Duration, now ntptime.Raw, out *Changes) {
	for _, g := range s.groups {
		if g.asking && g.source.Host == name {
			g.failure, g.again = why, now.Add(retry)
			out.Idle = true
		}
	}
}
