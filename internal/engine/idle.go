package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// Idle has a row for each line of the configuration that has no association now, with the
// reason: a name that does not resolve, an address that another line has, one of our own,
// a server that wants no requests, a broadcast that nobody sends. They are no sources of
// the system process, but nothing that is configured may be missing from a report.
func (s *Associations) Idle(now ntptime.Raw) Idle {
	rows, missing := make([]model.SourceReport, 0, len(s.groups)+len(s.listening)), system.Missing{}
	for _, g := range s.groups {
		if len(g.members) == 0 && g.want() > 0 {
			rows = append(rows, s.idleGroup(g, now))
			if votes(&g.source) && !g.offline {
				missing.Add(g.source.Fallback)
			}
		}
	}
	for _, l := range s.listening {
		if len(l.active) == 0 {
			row := idleRow(l.id, &l.source, model.StateWaiting, l.waiting())
			row.Broadcast = true
			row.Poll, row.Interval = unheardPoll, unheardPoll.Duration()
			rows = append(rows, row)
		}
	}
	s.idle = len(rows) > 0
	return Idle{Rows: rows, Missing: missing, Configured: len(s.groups) + len(s.listening) + len(s.clocks)}
}

// unheardPoll is how often a server is taken to broadcast until it says so itself: every 64 s.
const unheardPoll = ntptime.Log2(6)

// Idle is what is configured and not in use, of so many lines of `sources:`. Missing are
// those of Rows that would have a vote, whatever keeps them from it but the operator: a
// name that somebody answers with nothing, or with another line's address, is no less named.
type Idle struct {
	Rows       []model.SourceReport
	Missing    system.Missing
	Configured int
}

// votes says whether a line names machines whose time counts.
func votes(source *config.Source) bool {
	switch source.Kind {
	case config.Pool, config.ServerSource, config.Peer:
		return !source.NoSelect
	}
	return false
}

func idleRow(id model.SourceID, source *config.Source, state model.State, why string) model.SourceReport {
	row := model.SourceReport{State: state, Reason: why}
	row.Source, row.Name, row.Idle = id, source.Name(), true
	row.Mode, row.KeyID, row.Version, row.Interface = wire.ModeClient, source.Key, source.Version, source.Interface
	if source.Kind == config.Peer {
		row.Mode = wire.ModeActive
	}
	row.Poll = ntptime.Log2(source.MinPoll)
	row.Interval = row.Poll.Duration()
	row.Server = model.ServerState{Leap: wire.LeapUnknown, Stratum: wire.MaxStratum}
	row.Checks = []model.Check{{Name: "in use", Text: why}}
	return row
}

func (s *Associations) idleGroup(g *sourceGroup, now ntptime.Raw) model.SourceReport {
	state, why := model.StateExcluded, ""
	var at netip.Addr
	for _, addr := range g.known {
		if at = addr; why == "" || s.holder(addr) != nil {
			why = s.whyNot(g, addr, now)
		}
	}
	switch {
	case g.offline:
		state, why = model.StateWaiting, "offline, as an operator wished; `timeball online` ends that"
	case g.failure != "":
		state, why = model.StateWaiting, "the name does not resolve: "+g.failure+"; "+askedAgain(g.again, now)
	case len(g.known) == 0 && g.asks == 0 || g.asking && len(g.known) == 0:
		state, why = model.StateWaiting, "the name is being looked up"
	case len(g.known) == 0:
		state, why = model.StateWaiting, "the name has no addresses; "+askedAgain(g.askedAt.Add(g.timing.ResolveAtMost), now)
	}
	row := idleRow(g.id, &g.source, state, why)
	if len(g.known) == 1 {
		row.Address = netip.AddrPortFrom(at, g.source.Port)
	}
	return row
}

// whyNot says why a group does not use an address that it has.
func (s *Associations) whyNot(g *sourceGroup, addr netip.Addr, now ntptime.Raw) string {
	remote := netip.AddrPortFrom(addr, g.source.Port)
	if s.isOurs(remote) {
		return fmt.Sprintf("%s is this daemon's own address: nobody sets a clock by itself", addr)
	}
	if slices.Contains(s.host.Broadcasts, addr) {
		return fmt.Sprintf("%s is the broadcast address of a network of this machine, not a server's", addr)
	}
	if other := s.holder(addr); other != nil {
		text := fmt.Sprintf("%s is in use by %s %s: one machine has one vote", addr, other.source.Kind, other.source.Name())
		if compareRank(&other.source, &g.source) > 0 {
			return text + "; that line says more of it (named, key, require, trust, prefer)"
		}
		return text + ", the line that comes first"
	}
	until, replaced := g.cooldown[addr]
	switch {
	case until == ntptime.Never:
		return fmt.Sprintf("%s wants no requests (kiss code DENY or RSTR), and gets none until the next start", addr)
	case replaced && now < until:
		return fmt.Sprintf("%s was given up; %s", addr, askedAgain(until, now))
	}
	return fmt.Sprintf("%s is about to be used", addr)
}

// askedAgain says when, to the second.
func askedAgain(at, now ntptime.Raw) string {
	wait := at.Sub(now)
	if wait < time.Second {
		return "asked again soon"
	}
	return "asked again in " + wait.Round(time.Second).String()
}
