package engine

import (
	"net/netip"
	"slices"
	"strconv"

	"timeball/internal/config"
)

// Target is what an operator's wish is about: a whole line of `sources:` that names
// machines to ask, or one of its members.
type Target struct {
	Name    string
	Whole   bool           // the line, not only Members
	Members []*Association // one where not Whole
	Bursts  bool           // it is asked in mode 3, and not offline
	group   *sourceGroup
}

// Targets finds what a name, an address (with or without port) or an id stands for; ""
// is every line.
func (s *Associations) Targets(name string) (list []Target) {
	for _, g := range s.groups {
		bursts := g.source.Kind != config.Peer && !g.offline
		if name == "" || name == g.source.Name() || name == g.source.Host || name == strconv.Itoa(int(g.id)) {
			list = append(list, Target{g.source.Name(), true, slices.Clone(g.members), bursts, g})
			continue
		}
		for _, a := range g.members {
			if a.called(name) {
				list = append(list, Target{a.Config.Name, false, []*Association{a}, bursts, g})
			}
		}
	}
	return list
}

// called says whether an association goes by an address, with or without port, or an id.
func (a *Association) called(name string) bool {
	if name == a.Config.Remote.String() || name == strconv.Itoa(int(a.ID())) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap() == a.Config.Remote.Addr().Unmap()
}

// SetOnline lets a whole line be asked, or not, and reports whether that was a change. Of
// a line that is offline no name is looked up and no new member begins; the driver tells
// the members.
func (s *Associations) SetOnline(t Target, online bool) bool {
	changed := t.group.offline == online
	t.group.offline = !online
	return changed
}
