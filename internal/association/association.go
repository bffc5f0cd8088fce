// Package association is one NTP association as a pure state machine: the on-wire
// protocol and the poll process of RFC 5905 (§8, §9, §13) for modes 1 to 5. Time
// comes in with every call and packets go out in an Output; nothing here reads a
// clock, waits or sends.
package association

import (
	"net/netip"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Kind says what an association is for; the numbers are the association modes of
// RFC 5905 Figure 20.
type Kind uint8

// The kinds. KindNone and KindServer are rows of the dispatch table only: a server
// keeps no association (RFC 5905 §3).
const (
	KindNone            Kind = iota
	KindActive               // symmetric active, mode 1
	KindPassive              // symmetric passive, mode 2: mobilized by a mode 1 packet
	KindClient               // mode 3
	KindServer               // mode 4
	KindBroadcastServer      // mode 5 to a broadcast address or a group
	KindBroadcastClient      // mobilized by a mode 5 packet, follows the next ones
	kinds               = iota
)

var kindNames = [kinds]string{"none", "active", "passive", "client", "server", "broadcast server", "broadcast client"}

// String returns the word used in reports.
func (k Kind) String() string { return kindNames[k] }

// Interleave says whether interleaved modes (RFC 9769) are used.
type Interleave uint8

// The settings. A client with InterleaveAuto asks at intervals of up to 4 s only, and
// stops asking servers that only answer in basic mode; a symmetric association with it
// follows what its peer does.
const (
	InterleaveOff Interleave = iota
	InterleaveOn
	InterleaveAuto
)

// Random gives 64 uniformly distributed bits that an outsider cannot predict.
type Random interface{ Uint64() uint64 }

// Config is what an association is told when it is made. Zero values mean what
// New's documentation says.
type Config struct {
	ID             model.SourceID
	Name           string // for reports: a host name or an address
	Kind           Kind
	Remote         netip.AddrPort // the other end; for KindBroadcastServer the group or broadcast address
	Local          netip.Addr     // source address of what we send; invalid: the route's
	Interface      string         // name, for reports
	InterfaceIndex int            // 0: the route's
	Version        uint8          // 1 to 4, sent; default 4
	MinPoll        ntptime.Log2   // −4 to 17; where MaxPoll < MinPoll, MaxPoll counts as MinPoll
	MaxPoll        ntptime.Log2
	IBurst         bool          // a startup burst
	Burst          bool          // several exchanges at each poll
	Key            *mac.Key      // nil: none. Only this key is believed
	Interleaved    Interleave    //
	MaxDelay       time.Duration // longer round trips give no sample; 0: no bound
	Interval       time.Duration // KindBroadcastServer: between packets, 62.5 ms to 2^17 s; default 64 s
	Delay          time.Duration // KindBroadcastClient: one-way delay while the server answers no exchange; default 4 ms
	Dynamic        bool          // mobilized by operation: ends when the other end is silent
	Unsynchronized bool          // KindClient: servers without the time give samples too, to be shown and never used
	// MustAnswer ends a KindBroadcastClient whose server answers no volley, in place of
	// the fallback delay: for servers that turn up beside one that does answer (threat 20).
	MustAnswer bool

	// NTS asks with Network Time Security alone (RFC 8915), KindClient only; Keys are those
	// of an earlier run, nil: none.
	NTS  bool
	Keys *Keys
	// PivotFloor is a time known to have passed (the build's date or a saved one): the
	// era of a timestamp is resolved against it while our clock reads less.
	PivotFloor ntptime.Wall
	// LastTransmit is the newest mode 5 timestamp that was ever believed from this server
	// (see model.SourceStatus): older ones are replays. 0: none is known.
	LastTransmit ntptime.Timestamp
}

// Transmit is a packet to send.
type Transmit struct {
	ID        uint32 // to name it in OnTransmitted and OnSendError
	Data      []byte // with its MAC
	To        netip.AddrPort
	Local     netip.Addr // invalid: the route's
	Interface int        // 0: the route's
	FreshPort bool       // from a random port of its own (RFC 9109); else from the daemon's NTP port
}

// Output is what an entry point wants done. Its slices are valid until the next Reset.
type Output struct {
	Transmit      []Transmit
	Sample        model.Sample
	HasSample     bool
	StatusChanged bool // the system process wants to see Status
	ExchangeKeys  bool // a key exchange is wanted; its outcome goes to OnKeys or OnKeysFailed
	Events        []model.Event
	Done          bool // the association has ended; its last event says why

	bytes []byte // what Transmit[i].Data point into
}

// Reset empties o for the next call and keeps its memory.
func (o *Output) Reset() {
	clear(o.Transmit)
	clear(o.Events)
	o.Transmit, o.Events, o.bytes = o.Transmit[:0], o.Events[:0], o.bytes[:0]
	o.HasSample, o.StatusChanged, o.ExchangeKeys, o.Done = false, false, false, false
}

// Association is one association. It is not safe for concurrent use.
type Association struct {
	cfg      Config
	random   Random
	signer   *mac.Signer // working space for the key; nil without one
	security *security   // of NTS; nil without
	status   model.SourceStatus
	system   model.Snapshot // our own state, as last told; Sources is left out
	loop     loopTest

	poll    pollProcess
	pending exchange
	last    lastExchange // newest good exchange
	lastID  uint32

	role            role // one of the four
	client          client
	symmetric       symmetric
	broadcastClient broadcastClient
	broadcastServer broadcastServer

	ephemeral  bool    // requests leave from random ports of their own (RFC 9109)
	showsPoll  bool    // the status has the poll process's interval; else the broadcasts'
	latency    latency // of modes 1, 2 and 5
	reachState reachState
	// refusalTold is the last refusal that an event told of, RejectNone once a packet was accepted.
	refusalTold model.RejectReason
	announced   bool
	done        bool
}

// Defaults and bounds of a Config.
const (
	defaultVersion  = 4
	defaultInterval = 64 * time.Second
	defaultDelay    = 4 * time.Millisecond // BDELAY of RFC 5905's code skeleton
	lowestPoll      = ntptime.Log2(-4)
	highestPoll     = ntptime.Log2(17)
)

// New makes an association that is due at once. It panics on a kind that keeps no
// association; everything else in cfg is brought into its bounds.
func New(cfg Config, now ntptime.Instant, random Random) *Association {
	cfg = bounded(cfg)
	a := &Association{cfg: cfg, random: random}
	a.system.Leap, a.system.Stratum, a.system.Precision = wire.LeapUnknown, wire.MaxStratum, -20 // until OnSystem
	if cfg.Key != nil {
		a.signer = new(mac.Signer)
	}
	a.initStatus()
	a.role = roleOf(a)
	a.role.start(a, now)
	return a
}

func bounded(cfg Config) Config {
	if cfg.Version < 1 || cfg.Version > 4 {
		cfg.Version = defaultVersion
	}
	cfg.MinPoll = min(max(cfg.MinPoll, lowestPoll), highestPoll)
	cfg.MaxPoll = min(max(cfg.MaxPoll, cfg.MinPoll), highestPoll)
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Delay <= 0 {
		cfg.Delay = defaultDelay
	}
	return cfg
}

// Deadline is when OnTimer is due; Never once the association has ended.
func (a *Association) Deadline() ntptime.Raw {
	if a.done || a.status.Offline {
		return ntptime.Never
	}
	return a.role.deadline(a)
}

// OnTimer does what is due at now; called early, it does nothing.
func (a *Association) OnTimer(now ntptime.Instant, out *Output) {
	if a.done {
		return
	}
	if !a.announced {
		a.announce(now, out)
	}
	if now.Raw >= a.Deadline() {
		a.role.onDeadline(a, now, out)
	}
}

// OnPacket takes a packet from the other end, or from somebody who pretends to be.
// rx.Data must still hold the bytes that p was decoded from. A packet that fails a
// test changes nothing but the counter of its reason.
func (a *Association) OnPacket(rx *model.Received, p *wire.Packet, out *Output) {
	if a.done {
		return
	}
	if !a.announced {
		a.announce(rx.At, out)
	}
	// An active association that makes its first exchanges, and a broadcast client in its
	// volley, are clients too (RFC 5905 §9.2 on NEWBC).
	kind := a.cfg.Kind
	if p.Mode == wire.ModeServer && a.pending.state != idle {
		kind = KindClient
	}
	switch Dispatch(kind, p.Mode) {
	case ActionProcess:
	case ActionError:
		a.onError(rx, p, out)
		return
	default:
		a.reject(model.RejectMode)
		return
	}
	if p.Mode == wire.ModeServer {
		a.onReply(rx, p, out)
		return
	}
	a.role.onPacket(a, rx, p, out)
}

// OnMalformed counts bytes from the other end that did not decode.
func (a *Association) OnMalformed() { a.reject(model.RejectMalformed) }

// OnTransmitted tells when packet id really left; better timestamps replace earlier ones,
// also after the reply has come.
func (a *Association) OnTransmitted(id uint32, at ntptime.Instant, kind model.TimestampKind) {
	a.pending.takeTimestamp(id, at, kind)
	a.last.takeTimestamp(id, at, kind)
	if t := a.role.packetSent(id); t != nil && t.takeTimestamp(id, at, kind) {
		a.latency.note(&t.sentPacket)
	}
}

// OnSendError tells that packet id did not leave: its poll has failed at once, and
// the next one is not put off for long.
func (a *Association) OnSendError(id uint32, now ntptime.Instant, out *Output) {
	if a.done {
		return
	}
	if a.status.Sent > 0 {
		a.status.Sent--
	}
	if a.pending.state != idle && a.pending.id == id {
		a.missed(now, out)
	}
	a.poll.retry(now)
}

// OnHint tells how the system process wants this source polled.
func (a *Association) OnHint(h model.Hint, now ntptime.Instant) {
	a.poll.onHint(h, now, a.random)
	a.notePoll()
}

// OnSystem tells our own state: for the headers of modes 1, 2 and 5, and for the
// rules that say which of two peers sets the other.
func (a *Association) OnSystem(s *model.Snapshot) {
	a.system = *s
	a.system.Sources = nil // not ours to keep alive
	a.loop.onSystem(&a.system)
}

// OnClockChanged tells that our clock was stepped, or found changed: timestamps from
// before and after do not go together. Exchanges under way are dropped, and new
// ones made soon.
func (a *Association) OnClockChanged(now ntptime.Instant, out *Output) {
	if a.done {
		return
	}
	a.pending, a.last = exchange{}, lastExchange{}
	a.role.onClockChanged(a, now, out)
}

// nextID numbers packets; 0 is none.
func (a *Association) nextID() uint32 {
	if a.lastID++; a.lastID == 0 {
		a.lastID = 1
	}
	return a.lastID
}

// emit hands header h, with its MAC, to the driver. It returns the packet's number.
func (a *Association) emit(h *wire.Header, freshPort bool, out *Output) uint32 {
	start := len(out.bytes)
	out.bytes = append(out.bytes, make([]byte, wire.HeaderSize)...)
	h.Put(out.bytes[start:])
	if a.security != nil {
		request, ok := a.security.client.AppendRequest(out.bytes[start:], a.random)
		if !ok { // never so: no request is due without keys. And never without NTS
			out.bytes = out.bytes[:start]
			return a.nextID()
		}
		out.bytes = append(out.bytes[:start], request...)
		a.noteSecurity()
	}
	if a.cfg.Key != nil {
		signed := a.signer.AppendMAC(out.bytes[start:], a.cfg.Key, a.cfg.Key.Type().SizeFor(h.Version))
		out.bytes = append(out.bytes[:start], signed...)
	}
	id := a.nextID()
	out.Transmit = append(out.Transmit, Transmit{ID: id, Data: out.bytes[start:len(out.bytes):len(out.bytes)], To: a.cfg.Remote,
		Local: a.cfg.Local, Interface: a.cfg.InterfaceIndex, FreshPort: freshPort})
	a.status.Sent++
	return id
}

// pivot is what the era of a timestamp received at wall time w is resolved against.
// A clock that reads a later era than this program can be run in is not asked: half an era
// on, it would take every right server for one of 136 years from now (RFC 5905 §6).
func (a *Association) pivot(w ntptime.Wall) ntptime.Wall {
	return min(max(w, a.cfg.PivotFloor), ntptime.LatestPivot)
}
