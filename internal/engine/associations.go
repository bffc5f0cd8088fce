package engine

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// Timing is how often a driver calls Tend, and how long things last.
type Timing struct {
	Tend          time.Duration // between calls of Tend
	Cooldown      time.Duration // an address that was replaced is not taken again while others are left
	ResolveAgain  time.Duration // names are asked again this often, to learn of new addresses
	ResolveAtMost time.Duration // and never more often than this, however many servers die
	ReplaceAtMost time.Duration // one member of a group at a time, this far apart
}

// UsualTiming is that of a daemon; tests hurry.
var UsualTiming = Timing{
	Tend: 5 * time.Second, Cooldown: time.Hour,
	ResolveAgain: time.Hour, ResolveAtMost: time.Minute, ReplaceAtMost: 30 * time.Second,
}

// Association is one association of a host, as the driver is to make it.
type Association struct {
	Config  association.Config
	Options system.SourceOptions // for the system process, where IsSource
	Source  *config.Source       // the line of the configuration that it comes from; nil: none, or one that listens
}

// ID is the association's number, unique for the life of the set.
func (a *Association) ID() model.SourceID { return a.Config.ID }

// IsSource reports whether the system process is to know of it: not of what only sends.
func (a *Association) IsSource() bool { return a.Config.Kind != association.KindBroadcastServer }

// keyID is the id of its key, 0 for none.
func (a *Association) keyID() uint32 {
	if a.Config.Key == nil {
		return 0
	}
	return a.Config.Key.ID()
}

// Changes is what the set wants done. The driver carries it out in the order of the
// fields: what stops makes room for what starts.
type Changes struct {
	Stop    []model.SourceID
	Start   []*Association
	Options []*Association // whose Options are others now
	// StartClock are reference clocks; each is a source, and stops as associations do.
	StartClock []*ReferenceClock
	Resolve    []string   // names to look up, each until there is an outcome; Resolved takes it
	Forget     []string   // names that need not be looked up any more
	Replaced   []Replaced // of those in Stop, for the log
	Idle       bool       // what Idle returns may have changed
}

// Replaced is a source that makes room for another address of its name.
type Replaced struct {
	Name    string
	Address netip.AddrPort
	Why     string
}

// Reset empties c and keeps its memory.
func (c *Changes) Reset() {
	*c = Changes{Stop: c.Stop[:0], Start: c.Start[:0], Options: c.Options[:0], StartClock: c.StartClock[:0], Resolve: c.Resolve[:0], Forget: c.Forget[:0], Replaced: c.Replaced[:0]}
}

// Any reports whether there is anything to do.
func (c *Changes) Any() bool {
	return len(c.StartClock) > 0 || len(c.Stop)+len(c.Start)+len(c.Options)+len(c.Resolve)+len(c.Forget)+len(c.Replaced) > 0 || c.Idle
}

// Setup is what a set of associations rests on; a reload brings another one.
type Setup struct {
	Config *config.Config
	Keys   *mac.KeyRing
	Access *responder.Access // whom we may follow; nil: everybody
}

// Associations is the set of associations of a host: what the configuration names, what
// arrives in modes 1 and 5 may mobilize, and the upkeep of pools and names. It is not safe
// for concurrent use.
type Associations struct {
	Setup
	host      Host
	timing    Timing
	status    func(model.SourceID) *model.SourceStatus
	groups    []*sourceGroup // in the file's order
	ranked    []*sourceGroup // the same, in the order in which they choose addresses
	listening []*listeningSource
	senders   []*Association
	clocks    []*ReferenceClock
	all       map[model.SourceID]*Association
	from      map[origin]*Association
	lastID    model.SourceID
	idle      bool // Idle had rows
	packet    wire.Packet
}

// origin finds the association that a packet from the NTP port belongs to.
type origin struct {
	remote    netip.AddrPort
	broadcast bool
}

// NewAssociations makes an empty set. status gives what an association has last told of
// itself; nil: nothing yet.
func NewAssociations(setup Setup, host *Host, timing Timing, status func(model.SourceID) *model.SourceStatus) *Associations {
	return &Associations{
		Setup: setup, host: *host, timing: timing, status: status,
		all: map[model.SourceID]*Association{}, from: map[origin]*Association{},
	}
}

// Start mobilizes the sources that the configuration names, as far as their addresses
// are known.
func (s *Associations) Start(now ntptime.Raw, out *Changes) {
	for _, source := range s.Config.Sources {
		s.addSource(source, out)
	}
	s.tendGroups(now, out)
	out.Idle = true
}

func (s *Associations) addSource(source config.Source, out *Changes) {
	s.lastID++
	switch source.Kind {
	case config.Pool, config.ServerSource, config.Peer:
		s.groups = append(s.groups, newSourceGroup(s.lastID, source, &s.timing))
	case config.BroadcastClient, config.MulticastClient:
		s.listening = append(s.listening, newListeningSource(s.lastID, source))
	case config.RefclockSource:
		s.addClock(source, out)
	}
	s.rank()
	s.SetHost(&s.host)
}

// StartSenders mobilizes the broadcast and multicast servers of the configuration.
func (s *Associations) StartSenders(now ntptime.Raw, out *Changes) {
	for _, cfg := range broadcastServers(s.Config, s.Keys) {
		s.senders = append(s.senders, s.mobilize(cfg, system.SourceOptions{}, now, out))
	}
}

// SetHost takes over what has changed of the machine: its addresses and interfaces.
func (s *Associations) SetHost(host *Host) {
	s.host = *host
	for _, l := range s.listening {
		l.index = s.host.index(l.source.Interface)
	}
}

// Senders are the broadcast and multicast servers that there are now.
func (s *Associations) Senders() []*Association { return s.senders }

// Dynamic are the associations that operation has mobilized, by id.
func (s *Associations) Dynamic() []*Association {
	return slices.DeleteFunc(s.sorted(), func(a *Association) bool { return !a.Config.Dynamic })
}

// Count is how many associations of a kind there are.
func (s *Associations) Count(kind association.Kind) (n int) {
	for _, a := range s.all { //order: a count has none
		if a.Config.Kind == kind {
			n++
		}
	}
	return n
}

// mobilize adds an association to the set, in place of an ephemeral one with that end.
func (s *Associations) mobilize(cfg association.Config, options system.SourceOptions, now ntptime.Raw, out *Changes) *Association {
	s.lastID++
	cfg.ID = s.lastID
	a := &Association{Config: onHost(cfg, &s.host), Options: options}
	s.all[cfg.ID] = a
	switch cfg.Kind {
	case association.KindActive, association.KindPassive, association.KindBroadcastClient:
		key := origin{cfg.Remote, cfg.Kind == association.KindBroadcastClient}
		if before := s.from[key]; before != nil {
			s.demobilize(before, now, out)
		}
		s.from[key] = a
	}
	out.Start = append(out.Start, a)
	out.Idle = true
	return a
}

// demobilize takes an association out of the set and has the driver end it.
func (s *Associations) demobilize(a *Association, now ntptime.Raw, out *Changes) {
	s.remove(a, now)
	out.Stop = append(out.Stop, a.ID())
	out.Idle = true
}

func (s *Associations) remove(a *Association, now ntptime.Raw) {
	delete(s.all, a.ID())
	for _, key := range [...]origin{{a.Config.Remote, false}, {a.Config.Remote, true}} {
		if s.from[key] == a {
			delete(s.from, key)
		}
	}
	for _, l := range s.listening {
		if l.active[a.Config.Remote] == a {
			l.ended(s, a, now)
		}
	}
}

// Ended tells that an association has ended by itself; the driver forgets it.
func (s *Associations) Ended(id model.SourceID, now ntptime.Raw, out *Changes) {
	a := s.all[id]
	if a == nil {
		return
	}
	for _, g := range s.groups {
		if slices.Contains(g.members, a) {
			g.drop(a, s.status(id), now)
		}
	}
	s.remove(a, now)
	out.Idle = true
}

// Tend looks after everything: names to ask, members to add, members to replace.
func (s *Associations) Tend(now ntptime.Raw, snapshot *model.Snapshot, out *Changes) {
	s.countFalsetickers(snapshot)
	s.tendGroups(now, out)
	out.Idle = out.Idle || s.idle // their reasons say how long until they are tried again
}

// Reload makes the set that of a new configuration; associations that have not changed
// stay, with filter and poll.
func (s *Associations) Reload(plan *config.Plan, next Setup, now ntptime.Raw, out *Changes) {
	old := s.Config
	s.Setup = next
	for _, i := range plan.Stop {
		s.stopSource(&old.Sources[i], now, out)
	}
	changed := ChangedKeys(old, next.Config)
	for _, g := range s.groups {
		if changed[g.source.Key] { // the old key must not be believed any more
			s.stopMembers(g, now, out)
		}
	}
	s.stopUnwelcome(changed, now, out)
	for _, j := range plan.Start {
		s.addSource(next.Config.Sources[j], out)
	}
	if slices.ContainsFunc([]string{"keys", "server", "server.broadcast", "server.multicast", "server.listen"}, plan.Has) {
		for _, a := range s.senders {
			s.demobilize(a, now, out)
		}
		s.senders = nil
		s.StartSenders(now, out)
	}
	s.tendGroups(now, out)
	out.Idle = true
}

// ChangedKeys gives the ids whose key is another one now, or none any more.
func ChangedKeys(old, next *config.Config) map[uint32]bool {
	changed := map[uint32]bool{}
	for _, k := range old.Keys {
		same := func(n config.Key) bool { return reflect.DeepEqual(n, k) }
		if !slices.ContainsFunc(next.Keys, same) {
			changed[k.ID] = true
		}
	}
	return changed
}

// stopSource ends the associations of one line of the old configuration.
func (s *Associations) stopSource(source *config.Source, now ntptime.Raw, out *Changes) {
	s.groups = slices.DeleteFunc(s.groups, func(g *sourceGroup) bool {
		if !reflect.DeepEqual(&g.source, source) {
			return false
		}
		s.stopMembers(g, now, out)
		if g.asking && !s.named(g.source.Host, g) {
			out.Forget = append(out.Forget, g.source.Host)
		}
		return true
	})
	s.clocks = slices.DeleteFunc(s.clocks, func(c *ReferenceClock) bool {
		if !reflect.DeepEqual(&c.source, source) {
			return false
		}
		out.Stop = append(out.Stop, c.ID())
		return true
	})
	s.listening = slices.DeleteFunc(s.listening, func(l *listeningSource) bool {
		if !reflect.DeepEqual(&l.source, source) {
			return false
		}
		for _, a := range slices.SortedFunc(maps.Values(l.active), byID) {
			s.demobilize(a, now, out)
		}
		return true
	})
	s.rank()
}

// named reports whether another group has the same name.
func (s *Associations) named(host string, but *sourceGroup) bool {
	return slices.ContainsFunc(s.groups, func(g *sourceGroup) bool { return g != but && g.source.Host == host })
}

func (s *Associations) stopMembers(g *sourceGroup, now ntptime.Raw, out *Changes) {
	for _, a := range g.members {
		s.demobilize(a, now, out)
	}
	g.members = nil
	clear(g.falsetickers)
}

// stopUnwelcome ends the associations mobilized by operation that the configuration,
// which is in force already, would not mobilize now.
func (s *Associations) stopUnwelcome(changed map[uint32]bool, now ntptime.Raw, out *Changes) {
	settings := &s.Config.Symmetric
	for _, a := range s.Dynamic() {
		stays := s.mayFollow(a.Config.Remote.Addr()) && !changed[a.keyID()]
		if a.Config.Kind == association.KindPassive {
			byKey := a.keyID() != 0 && slices.Contains(settings.Keys, a.keyID())
			stays = stays && settings.Passive && (byKey || settings.Unauthenticated && a.keyID() == 0)
		}
		if !stays {
			s.demobilize(a, now, out)
		}
	}
}

// sorted lists the set by id.
func (s *Associations) sorted() []*Association {
	return slices.SortedFunc(maps.Values(s.all), byID)
}

func byID(a, b *Association) int { return cmp.Compare(a.ID(), b.ID()) }
