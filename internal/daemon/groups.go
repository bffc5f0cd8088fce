package daemon

import (
	"reflect"
	"slices"

	"go.uber.org/zap"

	"timeball/internal/config"
)

// groupListener makes the port receive what one broadcast_client or multicast_client line
// listens for. The registry owns it.
type groupListener struct {
	source config.Source
	joined bool
	missed bool // it could not be joined, and the log says so
}

// groupListeners are those of a configuration.
func groupListeners(cfg *config.Config) (list []*groupListener) {
	for _, source := range cfg.Sources {
		if source.Kind == config.BroadcastClient || source.Kind == config.MulticastClient {
			list = append(list, &groupListener{source: source})
		}
	}
	return list
}

// adoptGroups leaves the groups that a new configuration does not name; those that stay
// are not joined anew.
func (g *registry) adoptGroups(next *config.Config) {
	list := groupListeners(next)
	for _, old := range g.groups {
		same := func(l *groupListener) bool { return reflect.DeepEqual(l.source, old.source) }
		if at := slices.IndexFunc(list, same); at >= 0 {
			list[at] = old
			continue
		}
		g.d.ports.stopListening(&old.source)
	}
	g.groups = list
}

// joinGroups joins the groups that are not joined yet, and says once what is in the way; it
// is tried again at every turn.
func (g *registry) joinGroups() {
	for _, l := range g.groups {
		if l.joined {
			continue
		}
		err := g.d.ports.listenTo(&l.source)
		if l.joined = err == nil; l.joined {
			l.missed = false
			continue
		}
		if !l.missed {
			l.missed = true
			g.d.log.Warn("not listening to a group yet; will go on trying", zap.Stringer("group", groupOf(&l.source)), zap.Error(err))
		}
	}
}
