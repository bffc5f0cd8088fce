package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/leapfile"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/smear"
	"timeball/internal/system"
)

// Host is what a driver knows of the machine that the core runs on. The zero value is
// a host of which nothing is known.
type Host struct {
	Precision ntptime.Log2 // of reading its clock (RFC 5905 §7.3)
	Addresses []netip.Addr // its own
	// Broadcasts are the broadcast addresses of its networks: no machine has them.
	Broadcasts []netip.Addr
	// Listening is where its NTP port is open; an invalid address stands for all.
	Listening []netip.AddrPort
	// Source is the one address that all is sent from; invalid: the route's.
	Source netip.Addr
	// Floor is a time known to have passed: eras are resolved against it (RFC 5905 §6).
	Floor ntptime.Wall
	// Frequency and FrequencyError are what an earlier run has learned; error 0: nothing.
	Frequency, FrequencyError ntptime.Frequency
	PanicGateOpen             bool           // no correction has passed the panic gate yet
	Leaps                     *leapfile.List // as read, not expired; nil: none
	Loopback                  int            // index of the loopback interface; 0: unknown
	// InterfaceIndex finds an interface by its name, 0: it is not there. nil: none is.
	InterfaceIndex func(name string) int
	// KeysOf is what an earlier run has kept of a source with NTS at an address; nil: nothing.
	KeysOf func(name string, remote netip.AddrPort) *association.Keys
	// NameOf is what reports call an address that no configuration names; nil: itself.
	NameOf func(netip.Addr) string
}

// index is the number of an interface, 0 for none.
func (h *Host) index(name string) int {
	if name == "" || h.InterfaceIndex == nil {
		return 0
	}
	return h.InterfaceIndex(name)
}

func (h *Host) nameOf(addr netip.Addr) string {
	if h.NameOf == nil {
		return addr.String()
	}
	return h.NameOf(addr)
}

// Keys makes the keys of a configuration. An error names the key that cannot be made.
func Keys(cfg *config.Config) (*mac.KeyRing, error) {
	var keys []*mac.Key
	for _, k := range cfg.Keys {
		kind, err := mac.ParseType(string(k.Type))
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", k.ID, err)
		}
		key, err := mac.NewKey(k.ID, kind, k.Secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return mac.NewKeyRing(keys...)
}

// Key is the key with an id; nil for 0, and for one that the ring does not hold.
func Key(ring *mac.KeyRing, id uint32) *mac.Key {
	if id == 0 || ring == nil {
		return nil
	}
	return ring.Key(id)
}

// System is what the system process needs of a configuration and of the host.
func System(cfg *config.Config, host *Host) system.Config {
	c := system.Config{
		MinSources:     cfg.Selection.MinSources,
		MaxDistance:    cfg.Selection.MaxDistance,
		Required:       required(cfg),
		StepThreshold:  cfg.Clock.Step.Threshold,
		StepUpdates:    cfg.Clock.Step.Updates,
		MaxSlew:        ntptime.Frequency(cfg.Clock.MaxSlew),
		Panic:          cfg.Clock.Panic,
		PanicGateOpen:  host.PanicGateOpen,
		AccuracyGoal:   cfg.Clock.AccuracyGoal,
		Frequency:      host.Frequency,
		FrequencyError: host.FrequencyError,
		Precision:      host.Precision,
		Addresses:      host.Addresses,
		Serves:         cfg.Serves(),
		Leap:           leap(cfg, host.Leaps),
		Named:          named(cfg),
	}
	if l := cfg.Local; l != nil {
		c.Local = &system.Local{Stratum: l.Stratum, Activate: cfg.LocalActivate(), Orphan: l.Orphan, Awaits: !cfg.Alone()}
	}
	return c
}

// required reports whether any line of `sources:` says `require`: one that does not resolve
// holds the clock back as one that does not answer.
func required(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Sources, func(s config.Source) bool { return s.Require })
}

// named counts the lines of `sources:` with a vote.
func named(cfg *config.Config) (lines system.Missing) {
	for i := range cfg.Sources {
		if votes(&cfg.Sources[i]) {
			lines.Add(cfg.Sources[i].Fallback)
		}
	}
	return lines
}

// WantsLeapFile is the list of leap seconds that is to be read; "": none.
func WantsLeapFile(cfg *config.Config) string {
	if cfg.Clock.Leap.Mode == config.LeapIgnore {
		return ""
	}
	return cfg.Clock.Leap.File
}

func leap(cfg *config.Config, list *leapfile.List) system.LeapConfig {
	spread := cfg.Clock.Leap.Smear
	c := system.LeapConfig{Mode: leapModes[cfg.Clock.Leap.Mode], Window: spread.Window}
	if spread.Shape == config.SmearCosine {
		c.Shape = smear.Cosine
	}
	if list == nil || WantsLeapFile(cfg) == "" {
		return c
	}
	c.Expires = list.Expires
	for _, entry := range list.Entries {
		c.Table = append(c.Table, system.LeapEntry{At: entry.At, TAI: entry.TAI})
	}
	return c
}

var leapModes = map[config.LeapMode]system.LeapMode{
	config.LeapKernel: system.LeapKernel,
	config.LeapStep:   system.LeapStep,
	config.LeapSlew:   system.LeapSlew,
	config.LeapIgnore: system.LeapIgnore,
	config.LeapSmear:  system.LeapSmear,
}

// Policy says how requests are answered, running for so long since the start. Without a
// server section mode 3 gets silence: the port is open for associations alone.
func Policy(cfg *config.Config, keys *mac.KeyRing, host *Host, running time.Duration) *responder.Policy {
	p := &responder.Policy{Keys: keys, LoopbackInterface: host.Loopback}
	s := cfg.Server
	if s == nil {
		return p
	}
	p.Access = responder.NewAccess(responder.AccessLists{
		Peer: accessRules(s, s.Access.Peer), Server: accessRules(s, s.Access.Server),
		Synchronization: accessRules(s, s.Access.Synchronization), Query: accessRules(s, s.Access.Query),
	})
	if limit := s.RateLimit; limit != nil {
		p.Limit = &responder.RateLimit{Interval: limit.Interval, Burst: limit.Burst, Leak: limit.Leak, Kiss: true}
	}
	p.Require = requirements[s.Require]
	p.AnswerActive = true
	p.Interleaved = s.Interleaved
	p.SilentUntilSynchronized = mayStaySilent(cfg, running)
	return p
}

// accessRules are the rules of one list; those that do not say what they require, require
// what the server does.
func accessRules(s *config.Server, list []config.AccessRule) []responder.AccessRule {
	var rules []responder.AccessRule
	for _, r := range list {
		require := r.Require
		if require == "" {
			require = s.Require
		}
		for _, network := range r.Networks {
			rules = append(rules, responder.AccessRule{Network: network, Require: requirements[require], Deny: r.Deny})
		}
	}
	return rules
}

var requirements = map[config.Require]responder.Require{
	config.RequireNone: responder.RequireNone,
	config.RequireKey:  responder.RequireKey,
	config.RequireNTS:  responder.RequireNTS,
}

// mayStaySilent reports whether requests may go unanswered while there is no time to
// tell: for a while after the start, and only where somebody may come to tell us.
func mayStaySilent(cfg *config.Config, running time.Duration) bool {
	return cfg.Server != nil && !cfg.Alone() && running < cfg.Server.SilentStart
}

// EndSilence is the policy from now on, synchronized or not, once the silence of the
// start has lasted long enough; false: p stays in force.
func EndSilence(cfg *config.Config, p *responder.Policy, running time.Duration) (*responder.Policy, bool) {
	if !p.SilentUntilSynchronized || mayStaySilent(cfg, running) {
		return p, false
	}
	speaking := *p
	speaking.SilentUntilSynchronized = false
	return &speaking, true
}

// AnyDate reports whether certificates are taken whatever their dates, since the clock that
// would tell is not set (nts.cold_start); snapshot is the present system state, nil: none yet.
func AnyDate(cfg *config.Config, snapshot *model.Snapshot) bool {
	return cfg.NTS.ColdStart && (snapshot == nil || snapshot.Updates == 0)
}

// knownFrequency is the frequency error below which a frequency is worth a drift file.
const knownFrequency = 10 * ntptime.PPM

// Drift is what the next run should begin with; error 0: nothing is known yet.
func Drift(s *model.Snapshot) (frequency, frequencyError ntptime.Frequency) {
	if s == nil || s.Updates == 0 || s.FrequencyError >= knownFrequency {
		return 0, 0
	}
	return s.Frequency, s.FrequencyError
}

// LastTime is a moment known to have passed, which the next run has for its Host.Floor; 0:
// none is.
func LastTime(s *model.Snapshot) ntptime.Wall {
	if s == nil || s.Updates == 0 || !s.Synchronized {
		return 0
	}
	return s.At.Wall
}

// SourceOptions are a source's settings that concern the system process.
func SourceOptions(s *config.Source) system.SourceOptions {
	return system.SourceOptions{
		Name:     s.Name(),
		Prefer:   s.Prefer,
		Trust:    s.Trust,
		NoSelect: s.NoSelect,
		Fallback: s.Fallback,
		Require:  s.Require,
		MinPoll:  ntptime.Log2(s.MinPoll),
		MaxPoll:  ntptime.Log2(s.MaxPoll),
		Offset:   s.Offset,
	}
}

// unicast is the association of a pool's member, a server or a peer at an address.
func unicast(s *config.Source, addr netip.Addr, key *mac.Key) association.Config {
	kind := association.KindClient
	if s.Kind == config.Peer {
		kind = association.KindActive
	}
	return association.Config{
		Name:        s.Name(),
		Kind:        kind,
		Remote:      netip.AddrPortFrom(addr, s.Port),
		Local:       s.SourceAddress,
		Interface:   s.Interface,
		Version:     s.Version,
		MinPoll:     ntptime.Log2(s.MinPoll),
		MaxPoll:     ntptime.Log2(s.MaxPoll),
		IBurst:      s.IBurst,
		Burst:       s.Burst,
		Key:         key,
		Interleaved: interleaves[s.Interleaved],
		MaxDelay:    s.MaxDelay,
		NTS:         s.NTS != nil,
	}
}

var interleaves = map[config.Interleaved]association.Interleave{
	config.InterleavedOff:  association.InterleaveOff,
	config.InterleavedOn:   association.InterleaveOn,
	config.InterleavedAuto: association.InterleaveAuto,
}

// A passive association follows the poll of the active side, within these.
const (
	passiveMinPoll ntptime.Log2 = -4
	passiveMaxPoll ntptime.Log2 = 17
)

// passive is the association that a mode 1 packet mobilizes (RFC 5905 §9.2, NEWPS).
func passive(name string, remote netip.AddrPort, local netip.Addr, version uint8, key *mac.Key) association.Config {
	return association.Config{
		Name: name, Kind: association.KindPassive, Remote: remote, Local: local, Version: version,
		MinPoll: passiveMinPoll, MaxPoll: passiveMaxPoll, Key: key, Dynamic: true,
	}
}

func passiveOptions(name string) system.SourceOptions {
	return system.SourceOptions{Name: name, MinPoll: passiveMinPoll, MaxPoll: passiveMaxPoll}
}

// broadcastClient is the association that a mode 5 packet mobilizes (RFC 5905 §9.2, NEWBC).
func broadcastClient(s *config.Source, remote netip.AddrPort, version uint8, key *mac.Key) association.Config {
	return association.Config{
		Name: s.Name(), Kind: association.KindBroadcastClient, Remote: remote, Interface: s.Interface, Version: version,
		MinPoll: ntptime.Log2(config.MinPoll), MaxPoll: ntptime.Log2(config.MaxPoll), Key: key, MaxDelay: s.MaxDelay,
		Dynamic: true,
	}
}

// broadcastServers are the senders of mode 5, broadcast before multicast.
func broadcastServers(cfg *config.Config, keys *mac.KeyRing) []association.Config {
	if cfg.Server == nil {
		return nil
	}
	var list []association.Config
	for i := range cfg.Server.Broadcast {
		b := &cfg.Server.Broadcast[i]
		list = append(list, association.Config{
			Name: senderName("broadcast", b.Address, b.Interface), Kind: association.KindBroadcastServer,
			Remote: netip.AddrPortFrom(b.Address, b.Port), Interface: b.Interface,
			Interval: b.Interval, Key: Key(keys, b.Key), Version: b.Version,
		})
	}
	for i := range cfg.Server.Multicast {
		m := &cfg.Server.Multicast[i]
		list = append(list, association.Config{
			Name: senderName("multicast", m.Group, m.Interface), Kind: association.KindBroadcastServer,
			Remote: netip.AddrPortFrom(m.Group, m.Port), Interface: m.Interface,
			Interval: m.Interval, Key: Key(keys, m.Key), Version: m.Version,
		})
	}
	return list
}

// senderName is what reports call a sender: what it does, where to, by which interface.
func senderName(kind string, to netip.Addr, ifname string) string {
	name := kind + " " + to.String()
	if ifname != "" {
		name += " " + ifname
	}
	return name
}

// onHost completes a configuration with what the host is: the floor of eras, the interface's number, and the address it is bound to, if it is to one.
func onHost(c association.Config, host *Host) association.Config {
	c.PivotFloor = host.Floor
	if c.NTS && host.KeysOf != nil {
		c.Keys = host.KeysOf(c.Name, c.Remote)
	}
	c.InterfaceIndex = host.index(c.Interface)
	if !c.Local.IsValid() && host.Source.IsValid() && host.Source.Is4() == c.Remote.Addr().Is4() {
		c.Local = host.Source
	}
	return c
}
