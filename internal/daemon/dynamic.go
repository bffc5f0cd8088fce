package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// listenEntry is a broadcast_client or multicast_client line: it mobilizes an
// association for each server that it hears.
type listenEntry struct {
	source config.Source
	index  int  // of the interface, 0: any, or not there
	joined bool // the group, where there is one to join
	missed bool // it could not be joined, and the log says so
	// newest remembers the newest stamp believed from servers that have fallen silent:
	// yesterday's packets are not to be believed again today (threats 20).
	newest map[netip.AddrPort]ntptime.Timestamp
	active map[netip.AddrPort]*runner
	// silent are the servers that answered no volley while another one did: until when
	// they are not listened to again.
	silent map[netip.AddrPort]ntptime.Raw
}

func newListenEntry(source config.Source) *listenEntry {
	return &listenEntry{source: source, newest: map[netip.AddrPort]ntptime.Timestamp{},
		active: map[netip.AddrPort]*runner{}, silent: map[netip.AddrPort]ntptime.Raw{}}
}

// answered reports whether a server of this line has answered its volley. From then on
// others must, too: packets of the true server, sent again from addresses where nobody
// answers, must not outvote it (threats 20).
func (l *listenEntry) answered() bool {
	for _, r := range l.active { //order: one is enough
		if status := r.latest.Load(); status != nil && status.Calibrated {
			return true
		}
	}
	return false
}

// silentFor is how long a server that answers nothing, beside one that does, is not
// listened to again: nobody's address is to be asked for ever on a forger's word.
const silentFor = time.Hour

// silence stops listening to a server for a while.
func (l *listenEntry) silence(remote netip.AddrPort, now ntptime.Raw) {
	if len(l.silent) >= maxRemembered {
		clear(l.silent)
	}
	l.silent[remote] = now.Add(silentFor)
}

// hears reports whether a mode 5 packet is meant for this line: it came to its group
// (or to any address, for broadcasts), by its interface.
func (l *listenEntry) hears(a *arrival) bool {
	s := &l.source
	if s.Interface != "" && a.received.Interface != l.index {
		return false
	}
	local := a.received.Local
	if s.Kind == config.MulticastClient {
		return local.WithZone("") == s.Group
	}
	return !local.IsMulticast()
}

// route gives a packet of mode 1, 2, 4 or 5 to its association, or looks whether it
// may have one (RFC 5905 §9.2).
func (g *registry) route(a arrival) {
	a.received.Data = a.data
	if a.data[0]&7 == byte(wire.ModeControl) {
		g.d.answerQuery(&a)
		return
	}
	if g.packet.Decode(a.data) != wire.DefectNone {
		return
	}
	key := dynamicKey{a.received.Remote, g.packet.Mode == wire.ModeBroadcast}
	if r := g.associationFor(key, g.packet.Mode); r != nil {
		r.take(a)
		return
	}
	switch g.packet.Mode {
	case wire.ModeActive:
		g.onStranger(&a)
	case wire.ModeBroadcast:
		g.onBroadcast(&a)
	}
}

// associationFor finds who waits for a packet. A server's reply that comes to the NTP
// port answers the volley of a broadcast client or the first exchange of a peer.
func (g *registry) associationFor(key dynamicKey, mode wire.Mode) *runner {
	if r := g.dynamic[key]; r != nil || mode != wire.ModeServer {
		return r
	}
	return g.dynamic[dynamicKey{key.remote, true}]
}

// onStranger handles mode 1 from somebody we have no association with: a passive one,
// if the configuration wants it, and else a stateless answer or silence.
func (g *registry) onStranger(a *arrival) {
	settings := &g.config.Symmetric
	key := g.verified(a, settings.Keys)
	may, why := association.MayMobilize(association.Admission{
		Mode:            wire.ModeActive,
		Enabled:         settings.Passive,
		MayFollow:       g.mayFollow(a.received.Remote.Addr()),
		Authenticated:   key != nil,
		Unauthenticated: settings.Unauthenticated && !g.packet.HasMAC,
		CryptoNAK:       g.packet.CryptoNAK(),
		Own:             g.isOwn(a.received.Remote),
		Associations:    g.passives(),
		Limit:           settings.MaxAssociations,
	})
	if !may {
		if line := g.d.log.Check(zap.DebugLevel, "no association for a peer"); line != nil {
			line.Write(zap.Stringer("address", a.received.Remote), zap.String("reason", why))
		}
		g.d.ports.stranger.answer(g.d.ports, a)
		return
	}
	r := g.newRunner(association.Config{
		Name:    a.received.Remote.Addr().String(),
		Kind:    association.KindPassive,
		Remote:  a.received.Remote,
		Local:   a.received.Local,
		Version: g.packet.Version,
		MinPoll: passiveMinPoll,
		MaxPoll: passiveMaxPoll,
		Key:     key,
		Dynamic: true,
	})
	g.dynamic[dynamicKey{remote: r.remote}] = r
	g.launch(r, system.SourceOptions{Name: r.name, MinPoll: passiveMinPoll, MaxPoll: passiveMaxPoll})
	r.take(*a)
}

// A passive association follows the poll of the active side, within these.
const (
	passiveMinPoll ntptime.Log2 = -4
	passiveMaxPoll ntptime.Log2 = 17
)

// passives counts the ephemeral passive associations.
func (g *registry) passives() int {
	count := 0
	for _, r := range g.dynamic { //order: a count has none
		if r.kind == association.KindPassive {
			count++
		}
	}
	return count
}

// onBroadcast handles mode 5 from a server that nobody follows yet.
func (g *registry) onBroadcast(a *arrival) {
	for _, l := range g.listens {
		if !l.hears(a) {
			continue
		}
		if g.d.clock.Now().Raw < l.silent[a.received.Remote] {
			return
		}
		s := &l.source
		var wanted []uint32
		if s.Key != 0 {
			wanted = []uint32{s.Key}
		}
		key := g.verified(a, wanted)
		may, why := association.MayMobilize(association.Admission{
			Mode:            wire.ModeBroadcast,
			Enabled:         true,
			MayFollow:       g.mayFollow(a.received.Remote.Addr()),
			Authenticated:   key != nil,
			Unauthenticated: s.Unauthenticated,
			CryptoNAK:       g.packet.CryptoNAK(),
			Own:             g.isOwn(a.received.Remote),
			Associations:    len(l.active),
			Limit:           g.config.Symmetric.MaxAssociations,
		})
		if may {
			g.follow(l, a, key)
			return
		}
		g.d.log.Debug("broadcast server not followed", zap.Stringer("address", a.received.Remote), zap.String("reason", why))
	}
}

// follow mobilizes a broadcast client for a server.
func (g *registry) follow(l *listenEntry, a *arrival, key *mac.Key) {
	s, remote := &l.source, a.received.Remote
	r := g.newRunner(association.Config{
		Name:         s.Name(),
		Kind:         association.KindBroadcastClient,
		Remote:       remote,
		Interface:    s.Interface,
		Version:      g.packet.Version,
		MinPoll:      ntptime.Log2(config.MinPoll),
		MaxPoll:      ntptime.Log2(config.MaxPoll),
		Key:          key,
		MaxDelay:     s.MaxDelay,
		Dynamic:      true,
		Group:        s.Kind == config.MulticastClient,
		LastTransmit: l.newest[remote],
		MustAnswer:   l.answered(),
	})
	r.onEnd = func() { l.remember(r) }
	l.active[remote] = r
	g.dynamic[dynamicKey{remote, true}] = r
	g.launch(r, engine.SourceOptions(s))
	r.take(*a)
}

// verified returns the key that signed a packet, if it is one of those wanted and the
// MAC is right (threats 16: a key counts only where it is named).
func (g *registry) verified(a *arrival, wanted []uint32) *mac.Key {
	p := &g.packet
	for _, id := range wanted {
		if !p.HasMAC || p.KeyID != id {
			continue
		}
		if key := g.key(id); key != nil && key.Verify(p.Signed, p.Digest) {
			return key
		}
	}
	return nil
}

// mayFollow reports whether the access rights let us synchronize to an address.
func (g *registry) mayFollow(addr netip.Addr) bool {
	return g.d.policy.Load().Access.Right(addr).Follow()
}

// isOwn reports whether a packet comes from ourselves.
func (g *registry) isOwn(remote netip.AddrPort) bool {
	return slices.Contains(*g.d.addresses.Load(), remote.Addr().Unmap())
}

// tendListens joins the groups that are not joined yet and forgets what has ended.
func (g *registry) tendListens() {
	for _, l := range g.listens {
		l.index = interfaceIndex(l.source.Interface)
		if !l.joined {
			g.listenTo(l)
		}
	}
	g.dropEnded()
}

// dropEnded forgets the associations of listening sources that have ended.
func (g *registry) dropEnded() {
	for _, l := range g.listens {
		for remote, r := range l.active { //order: each is looked at by itself
			if g.runners[r.id] != r {
				delete(l.active, remote)
			}
		}
	}
}

// listenTo makes the port receive what a listening source is about, and says once
// what is in the way; it is tried again at every turn.
func (g *registry) listenTo(l *listenEntry) {
	err := g.d.ports.listenTo(&l.source)
	if l.joined = err == nil; l.joined {
		l.missed = false
		return
	}
	if !l.missed {
		l.missed = true
		g.d.log.Warn("not listening to a group yet; will go on trying", zap.Stringer("group", groupOf(&l.source)), zap.Error(err))
	}
}

// remember keeps the newest stamp believed from a broadcast server that has ended.
// It runs on the registry's goroutine.
func (l *listenEntry) remember(r *runner) {
	if len(l.newest) >= maxRemembered {
		clear(l.newest)
	}
	l.newest[r.remote] = ntptime.Timestamp(r.lastTransmit.Load())
	if status := r.latest.Load(); status != nil && status.Gone && !status.Calibrated && l.answered() {
		l.silence(r.remote, r.clock.Now().Raw)
	}
}

// maxRemembered bounds the memory of servers gone.
const maxRemembered = 1000

// startSenders mobilizes the broadcast and multicast senders.
func (g *registry) startSenders() {
	server := g.config.Server
	if server == nil {
		return
	}
	g.setTTLs()
	for i := range server.Broadcast {
		b := &server.Broadcast[i]
		g.startSender(association.Config{
			Name: senderName("broadcast", b.Address, b.Interface), Remote: netip.AddrPortFrom(b.Address, b.Port), Interface: b.Interface,
			Interval: b.Interval, Key: g.key(b.Key), Version: b.Version,
		})
	}
	for i := range server.Multicast {
		m := &server.Multicast[i]
		g.startSender(association.Config{
			Name: senderName("multicast", m.Group, m.Interface), Remote: netip.AddrPortFrom(m.Group, m.Port), Interface: m.Interface,
			Interval: m.Interval, Key: g.key(m.Key), Version: m.Version,
		})
	}
}

// senderName is what reports call a sender: what it does, where to, by which interface.
func senderName(kind string, to netip.Addr, ifname string) string {
	return strings.TrimRight(kind+" "+to.String()+" "+ifname, " ")
}

func (g *registry) startSender(cfg association.Config) {
	cfg.Kind = association.KindBroadcastServer
	r := g.newRunner(cfg)
	g.senders = append(g.senders, r)
	g.launchSender(r)
}
