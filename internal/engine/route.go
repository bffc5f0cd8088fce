package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Action says what becomes of a packet that came to the NTP port.
type Action uint8

// The actions.
const (
	Drop    Action = iota
	Deliver        // an association takes it
	Answer         // the responder may answer it, without state (RFC 5905 Figure 20)
)

// Decision is what becomes of a packet, and why.
type Decision struct {
	Action      Action
	Association *Association // Deliver
	Why         string       // Drop, Answer: "" or why there is no association
	Malformed   bool         // Drop: it is no packet
}

// ForAssociation reports whether a packet's mode is one that associations take from the
// NTP port: 1, 2, 4 and 5, in versions that have a mode. All else is the responder's.
func ForAssociation(data []byte) bool {
	if len(data) == 0 || data[0]>>3&7 < 2 {
		return false
	}
	switch wire.Mode(data[0] & 7) {
	case wire.ModeActive, wire.ModePassive, wire.ModeServer, wire.ModeBroadcast:
		return true
	}
	return false
}

// Route finds the association that a packet of mode 1, 2, 4 or 5 belongs to, or looks
// whether it may have one (RFC 5905 §9.2): then out tells the driver to start it first.
func (s *Associations) Route(rx *model.Received, now ntptime.Raw, out *Changes) Decision {
	if s.packet.Decode(rx.Data) != wire.DefectNone {
		return Decision{Why: "malformed", Malformed: true}
	}
	mode := s.packet.Mode
	if a := s.destination(rx.Remote, mode); a != nil {
		return Decision{Action: Deliver, Association: a}
	}
	switch association.Dispatch(association.KindNone, mode) {
	case association.ActionMobilizePassive:
		return s.onUnknownPeer(rx, now, out)
	case association.ActionMobilizeBroadcastClient:
		return s.onUnknownBroadcast(rx, now, out)
	}
	return Decision{Why: "no association waits for mode " + mode.String()}
}

// destination finds who waits for a packet. A server's reply that comes to the NTP port
// answers the volley of a broadcast client or the first exchange of a peer.
func (s *Associations) destination(remote netip.AddrPort, mode wire.Mode) *Association {
	a := s.from[origin{remote, mode == wire.ModeBroadcast}]
	if a != nil || mode != wire.ModeServer {
		return a
	}
	return s.from[origin{remote, true}]
}

// onUnknownPeer handles mode 1 from somebody we have no association with: a passive one,
// if the configuration wants it, and else a stateless answer or silence (RFC 5905 §9.2).
func (s *Associations) onUnknownPeer(rx *model.Received, now ntptime.Raw, out *Changes) Decision {
	if s.holder(rx.Remote.Addr()) != nil { // one machine has one vote
		return Decision{Action: Answer, Why: "a source of the configuration has this address"}
	}
	settings := &s.Config.Symmetric
	key := s.verified(settings.Keys)
	may, why := association.MayMobilize(association.Admission{
		Mode:            wire.ModeActive,
		Enabled:         settings.Passive,
		MayFollow:       s.mayFollow(rx.Remote.Addr()),
		Authenticated:   key != nil,
		Unauthenticated: settings.Unauthenticated && !s.packet.HasMAC,
		CryptoNAK:       s.packet.CryptoNAK(),
		Own:             s.isOwnAddress(rx.Remote.Addr()),
		Associations:    s.Count(association.KindPassive),
		Limit:           settings.MaxAssociations,
	})
	if !may {
		return Decision{Action: Answer, Why: why}
	}
	cfg := passive(s.host.nameOf(rx.Remote.Addr()), rx.Remote, rx.Local, s.packet.Version, key)
	return Decision{Action: Deliver, Association: s.mobilize(cfg, passiveOptions(cfg.Name), now, out)}
}

// onUnknownBroadcast handles mode 5 from a server that nobody follows yet.
func (s *Associations) onUnknownBroadcast(rx *model.Received, now ntptime.Raw, out *Changes) Decision {
	why := "no source listens for it"
	for _, l := range s.listening {
		if !l.hears(rx) {
			continue
		}
		if now < l.silent[rx.Remote] {
			return Decision{Why: "it answered no volley"}
		}
		var wanted []uint32
		if l.source.Key != 0 {
			wanted = []uint32{l.source.Key}
		}
		key := s.verified(wanted)
		var may bool
		may, why = association.MayMobilize(association.Admission{
			Mode:            wire.ModeBroadcast,
			Enabled:         true,
			MayFollow:       s.mayFollow(rx.Remote.Addr()),
			Authenticated:   key != nil,
			Unauthenticated: l.source.Unauthenticated,
			CryptoNAK:       s.packet.CryptoNAK(),
			Own:             s.isOwnAddress(rx.Remote.Addr()),
			Associations:    len(l.active),
			Limit:           s.Config.Symmetric.MaxAssociations,
		})
		if may {
			return Decision{Action: Deliver, Association: s.follow(l, rx.Remote, key, now, out)}
		}
		l.refusedFrom, l.refusedWhy = rx.Remote.Addr(), why
	}
	return Decision{Why: why}
}

// follow mobilizes a broadcast client for a server.
func (s *Associations) follow(l *listeningSource, remote netip.AddrPort, key *mac.Key, now ntptime.Raw, out *Changes) *Association {
	cfg := broadcastClient(&l.source, remote, s.packet.Version, key)
	cfg.LastTransmit, cfg.MustAnswer = l.newest[remote], l.answered(s.status)
	a := s.mobilize(cfg, SourceOptions(&l.source), now, out)
	l.active[remote] = a
	l.refusedFrom = netip.Addr{}
	return a
}

// verified returns the key that signed the packet, if it is one of those wanted and the
// MAC is right (threat 16: a key counts only where it is named).
func (s *Associations) verified(wanted []uint32) *mac.Key {
	p := &s.packet
	if !p.HasMAC || !slices.Contains(wanted, p.KeyID) {
		return nil
	}
	if key := Key(s.Keys, p.KeyID); key != nil && key.Verify(p.Signed, p.Digest) {
		return key
	}
	return nil
}

// mayFollow reports whether the access rights let us synchronize to an address.
func (s *Associations) mayFollow(addr netip.Addr) bool { return s.Access.Right(addr).Follow() }

// isOwnAddress reports whether an address is one of ours.
func (s *Associations) isOwnAddress(addr netip.Addr) bool {
	return slices.Contains(s.host.Addresses, addr.Unmap().WithZone(""))
}

// isOurs reports whether whoever asks there asks us.
func (s *Associations) isOurs(remote netip.AddrPort) bool { return s.host.IsOurs(remote) }

// IsOurs reports whether whoever asks there asks this host's daemon: an own address, at a
// port that it listens at. Another server on the machine, at another port, may be a source.
func (h *Host) IsOurs(remote netip.AddrPort) bool {
	addr := remote.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(h.Listening, func(l netip.AddrPort) bool {
		switch at := l.Addr().Unmap().WithZone(""); {
		case l.Port() != remote.Port():
			return false
		case !at.IsValid() || at.IsUnspecified():
			return addr.IsLoopback() || addr.IsUnspecified() || slices.Contains(h.Addresses, addr)
		default:
			return at == addr
		}
	})
}

// listeningSource is a broadcast_client or multicast_client line: it mobilizes an
// association for each server that it hears.
type listeningSource struct {
	id     model.SourceID // of its row in reports, while it follows nobody
	source config.Source
	index  int // of the interface, 0: any, or not there
	// newest remembers the newest timestamp believed from servers that have fallen silent:
	// yesterday's packets are not to be believed again today (threat 20).
	newest map[netip.AddrPort]ntptime.Timestamp
	active map[netip.AddrPort]*Association
	// silent are the servers that answered no volley while another one did: until when
	// they are not listened to again.
	silent map[netip.AddrPort]ntptime.Raw
	// refusedFrom sent the last broadcast that was refused; none since somebody was followed.
	refusedFrom netip.Addr
	refusedWhy  string
}

// waiting is why nobody is followed.
func (l *listeningSource) waiting() string {
	if !l.refusedFrom.IsValid() {
		return "no broadcast yet from a server that may be followed"
	}
	why := fmt.Sprintf("broadcasts are heard and refused, the last from %s: %s", l.refusedFrom, l.refusedWhy)
	if l.source.Key != 0 {
		why += fmt.Sprintf("; do both sides have key %d, of the same type and secret?", l.source.Key)
	}
	return why
}

func newListeningSource(id model.SourceID, source config.Source) *listeningSource {
	return &listeningSource{id: id, source: source, newest: map[netip.AddrPort]ntptime.Timestamp{},
		active: map[netip.AddrPort]*Association{}, silent: map[netip.AddrPort]ntptime.Raw{}}
}

// maxRemembered bounds the memory of servers gone.
const maxRemembered = 1000

// hears reports whether a mode 5 packet is meant for this line: it came to its group
// (or to any address, for broadcasts), by its interface.
func (l *listeningSource) hears(rx *model.Received) bool {
	if l.source.Interface != "" && rx.Interface != l.index {
		return false
	}
	if l.source.Kind == config.MulticastClient {
		return rx.Local.WithZone("") == l.source.Group
	}
	return !rx.Local.IsMulticast()
}

// answered reports whether a server of this line has answered its volley. From then on
// others must, too: packets of the true server, sent again from addresses where nobody
// answers, must not outvote it (threat 20).
func (l *listeningSource) answered(statusOf func(model.SourceID) *model.SourceStatus) bool {
	for _, a := range l.active { //order: one is enough
		if status := statusOf(a.ID()); status != nil && status.Calibrated {
			return true
		}
	}
	return false
}

// silentFor is how long a server that answers nothing, beside one that does, is not
// listened to again: nobody's address is to be asked for ever on a forger's word.
const silentFor = time.Hour

// ended takes over what is to be remembered of an association that is no more: the newest
// timestamp believed, and that it answered no volley while another server did.
func (l *listeningSource) ended(s *Associations, a *Association, now ntptime.Raw) {
	remote := a.Config.Remote
	delete(l.active, remote)
	status := s.status(a.ID())
	if status == nil {
		return
	}
	if len(l.newest) >= maxRemembered {
		clear(l.newest)
	}
	l.newest[remote] = status.LastTransmit
	if status.Gone && !status.Calibrated && l.answered(s.status) {
		l.silence(remote, now)
	}
}

// silence stops listening to a server for a while.
func (l *listeningSource) silence(remote netip.AddrPort, now ntptime.Raw) {
	if len(l.silent) >= maxRemembered {
		clear(l.silent)
	}
	l.silent[remote] = now.Add(silentFor)
}
