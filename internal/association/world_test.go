package association

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// host is one party of an exchange in memory: a clock, associations, and the little of
// a daemon that they need: a responder, mobilization, a system process that believes.
type host struct {
	world  *world
	end    netip.AddrPort
	clock  clockOf
	assocs []*Association
	state  model.Snapshot

	serves    bool                                  // answers mode 3
	answers   func(request wire.Header) wire.Header // in place of serves
	key       *mac.Key                              // signs those answers, when asked so
	nts       *ntsServer                            // answers mode 3 by NTS; nil: it does not
	exchanges *ntsServer                            // whom this host makes key exchanges with; nil: they fail
	passive   *Config                               // mode 1 from unknown peers mobilizes this
	listens   *Config                               // mode 5 mobilizes this
	stateless bool                                  // mode 1 from unknown peers gets a mode 2 at once
	follows   bool                                  // the first good sample sets stratum and reference id

	samples []taken
	events  []model.Event
	ended   []string
}

// taken is a sample and the true time when it was made.
type taken struct {
	model.Sample
	when time.Duration
}

// flight is a packet on its way, and the record of one that has been sent.
type flight struct {
	when     time.Duration // it was sent
	from, to netip.AddrPort
	data     []byte
	forged   bool
	queued   time.Duration
}

// world moves packets between hosts in true time. All are equally long under way, but for those
// that a test holds up or loses: which packet that is, links of a scenario do not say.
type world struct {
	t     testing.TB
	now   time.Duration
	hosts []*host
	air   virtual.Queue[time.Duration, flight]
	log   []flight // all that hosts have sent
	delay time.Duration
	queue func() time.Duration         // from the decision to send to the transmission
	held  func(f flight) time.Duration // how much longer a packet is under way; nil: none is
	lose  func(f flight) bool
	nudge func(now time.Duration) // called before each step
	trace *trace                  // nil: nobody reads along
	seed  uint64
}

func newWorld(t testing.TB) *world {
	return &world{t: t, delay: 500 * time.Microsecond, seed: 100, queue: func() time.Duration { return 0 }}
}

// add makes a host; stratum 0 is unsynchronized.
func (w *world) add(address string, behind time.Duration, stratum uint8) *host {
	h := &host{world: w, end: netip.AddrPortFrom(netip.MustParseAddr(address), 123), clock: clockOf{start: epoch, behind: behind},
		serves: true, follows: true}
	h.synchronize(stratum, "REF"+string(rune('A'+len(w.hosts))))
	w.hosts = append(w.hosts, h)
	return h
}

// synchronize sets the host's own state; stratum 0 is unsynchronized.
func (h *host) synchronize(stratum uint8, refid string) {
	h.state = model.Snapshot{At: h.clock.at(h.world.now), Leap: wire.LeapUnknown, Stratum: wire.MaxStratum, Precision: -20,
		RootDispersion: time.Millisecond, RootDelay: time.Millisecond, DispersionRate: 15 * ntptime.PPM}
	if stratum > 0 {
		h.state.Synchronized, h.state.Leap, h.state.Stratum, h.state.State = true, wire.LeapNone, stratum, model.DisciplineSync
		h.state.ReferenceID, h.state.ReferenceTime = wire.ReferenceName(refid), h.state.At.Wall
	}
	h.tell()
}

func (h *host) tell() {
	for _, a := range h.assocs {
		a.OnSystem(&h.state)
	}
}

// mobilize starts an association.
func (h *host) mobilize(cfg Config) *Association {
	h.world.seed++
	cfg.ID = model.SourceID(len(h.assocs) + 1)
	if cfg.Remote == (netip.AddrPort{}) {
		h.world.t.Fatal("association without a remote end")
	}
	a := New(cfg, h.clock.at(h.world.now), &seeded{h.world.seed})
	a.OnSystem(&h.state)
	h.assocs = append(h.assocs, a)
	return a
}

// run lets the world go on until a true time.
func (w *world) run(until time.Duration) {
	w.t.Helper()
	for steps := 0; ; steps++ {
		if steps > 2_000_000 {
			w.t.Fatal("the world does not come to rest")
		}
		due, what := until, func() {}
		if at, some := w.air.Next(); some && at < due {
			due, what = at, w.arrive
		}
		for _, h := range w.hosts {
			for _, a := range h.assocs {
				if d := a.Deadline(); d != ntptime.Never && max(h.clock.when(d), w.now) < due {
					due, what = max(h.clock.when(d), w.now), func() { h.timer(a) }
				}
			}
		}
		w.now = max(w.now, due)
		if due >= until {
			return
		}
		what()
		if w.nudge != nil {
			w.nudge(w.now)
		}
	}
}

func (h *host) timer(a *Association) {
	var out Output
	a.OnTimer(h.clock.at(h.world.now), &out)
	h.carryOut(a, &out)
}

// carryOut does what an association wants done.
func (h *host) carryOut(a *Association, out *Output) {
	for _, t := range out.Transmit {
		from := h.end
		if t.FreshPort {
			from = netip.AddrPortFrom(h.end.Addr(), 50000+uint16(t.ID))
		}
		queued := h.world.queue()
		h.world.send(flight{from: from, to: t.To, data: append([]byte(nil), t.Data...), queued: queued})
		a.OnTransmitted(t.ID, h.clock.at(h.world.now+queued+5*time.Microsecond), model.TimestampDaemon)
		a.OnTransmitted(t.ID, h.clock.at(h.world.now+queued), model.TimestampKernel)
	}
	h.events = append(h.events, out.Events...)
	h.world.trace.output(h, out)
	if out.HasSample {
		h.samples = append(h.samples, taken{out.Sample, h.world.now})
		if h.follows && !h.state.Synchronized && out.Sample.Server.Stratum < 16 {
			h.synchronize(out.Sample.Server.Stratum+1, "")
			h.state.ReferenceID, h.state.SystemPeer = wire.ReferenceAddress(a.cfg.Remote.Addr()), a.cfg.ID
			h.tell()
		}
	}
	if out.ExchangeKeys {
		h.exchangeKeys(a)
	}
	if out.Done {
		h.ended = append(h.ended, out.Events[len(out.Events)-1].Text)
		for i := range h.assocs {
			if h.assocs[i] == a {
				h.assocs = append(h.assocs[:i:i], h.assocs[i+1:]...)
				break
			}
		}
	}
}

// exchangeKeys makes the key exchange that an association wants.
func (h *host) exchangeKeys(a *Association) {
	var out Output
	now := h.clock.at(h.world.now)
	if h.exchanges == nil {
		h.world.trace.note("    %s: the key exchange fails", h)
		a.OnKeysFailed("network", "connection refused", now, &out)
	} else {
		keys := h.exchanges.keys()
		h.world.trace.note(fmt.Sprintf("    %%s: a key exchange brings %d cookies", len(keys.Cookies)), h)
		a.OnKeys(keys, now, &out)
	}
	h.carryOut(a, &out)
}

// send puts a packet on its way.
func (w *world) send(f flight) {
	f.when = w.now
	if !f.forged {
		w.log = append(w.log, f)
	}
	if w.lose != nil && !f.forged && w.lose(f) {
		w.trace.packet(f, "lost")
		return
	}
	w.trace.packet(f, "")
	delay := w.delay + f.queued
	if w.held != nil && !f.forged {
		delay += w.held(f)
	}
	w.air.Push(w.now+delay, f)
}

// forge sends a packet that pretends to come from an end.
func (w *world) forge(h *wire.Header, key *mac.Key, from, to netip.AddrPort) {
	w.send(flight{from: from, to: to, data: encode(h, key), forged: true})
}

// replay sends a recorded packet again.
func (w *world) replay(f flight) {
	f.forged = true
	w.send(f)
}

func (w *world) arrive() {
	_, f := w.air.Pop()
	for _, h := range w.hosts {
		group := f.to.Addr().IsMulticast() && f.from.Addr() != h.end.Addr()
		if group || f.to.Addr() == h.end.Addr() {
			h.receive(f)
		}
	}
}

// receive is the daemon's dispatch (RFC 5905 §9.2).
func (h *host) receive(f flight) {
	rx := model.Received{Data: f.data, Remote: f.from, Local: f.to.Addr(), At: h.clock.at(h.world.now), Timestamp: model.TimestampKernel}
	var p wire.Packet
	if p.Decode(f.data) != wire.DefectNone {
		return
	}
	if p.Mode == wire.ModeClient {
		if h.nts != nil {
			h.world.send(flight{from: f.to, to: f.from, data: h.nts.reply(h.world.t, f.data, rx.At.Wall)})
			return
		}
		if h.answers != nil {
			reply := h.answers(p.Header)
			h.world.send(flight{from: f.to, to: f.from, data: encode(&reply, nil)})
			return
		}
		if h.serves {
			h.respond(&p, f, wire.ModeServer)
		}
		return
	}
	for _, a := range h.assocs {
		if a.cfg.Remote.Addr() == f.from.Addr() && a.cfg.Kind != KindBroadcastServer {
			h.packet(a, &rx, &p)
			return
		}
	}
	cfg := h.passive
	if p.Mode == wire.ModeBroadcast {
		cfg = h.listens
	}
	if p.Mode == wire.ModeActive && h.stateless {
		h.respond(&p, f, wire.ModePassive)
	}
	if cfg == nil {
		return
	}
	authentic := cfg.Key != nil && p.HasMAC && p.KeyID == cfg.Key.ID() && cfg.Key.Verify(p.Signed, p.Digest)
	if ok, _ := MayMobilize(Admission{Mode: p.Mode, Enabled: true, MayFollow: true, Authenticated: authentic,
		Unauthenticated: cfg.Key == nil, CryptoNAK: p.CryptoNAK(), Associations: len(h.assocs), Limit: 3}); ok {
		c := *cfg
		c.Remote, c.Dynamic = f.from, true
		h.packet(h.mobilize(c), &rx, &p)
	}
}

func (h *host) packet(a *Association, rx *model.Received, p *wire.Packet) {
	var out Output
	before := a.status.Rejected
	a.OnPacket(rx, p, &out)
	h.world.trace.refusals(h, &before, &a.status.Rejected)
	h.carryOut(a, &out)
}

// respond answers without state, as a server does.
func (h *host) respond(p *wire.Packet, f flight, mode wire.Mode) {
	now := h.clock.at(h.world.now)
	s := &h.state
	r := wire.Header{Leap: s.Leap, Version: p.Version, Mode: mode, Stratum: s.Stratum % wire.MaxStratum, Poll: p.Poll, Precision: s.Precision,
		RootDelay: ntptime.ShortOf(s.RootDelay), RootDispersion: ntptime.ShortOf(s.RootDispersion), ReferenceID: s.ReferenceID,
		ReferenceTime: s.ReferenceTime.Timestamp(), Origin: p.Transmit, Receive: now.Timestamp(), Transmit: now.Timestamp() + 1}
	var key *mac.Key
	if p.HasMAC && h.key != nil && p.KeyID == h.key.ID() {
		key = h.key
	}
	h.world.send(flight{from: f.to, to: f.from, data: encode(&r, key)})
}

// sentModes counts what a host has sent since the log began, by mode.
func (w *world) sentModes(h *host) [8]int {
	var n [8]int
	for _, f := range w.log {
		if f.from.Addr() == h.end.Addr() {
			n[f.data[0]&7]++
		}
	}
	return n
}

// offsetOf is what an exchange says: reference − local.
func offsetOf(s *model.Sample) time.Duration {
	if s.Kind == model.SampleBroadcast {
		return s.T3.Add(s.Delay).Sub(s.T4.Wall)
	}
	return s.T2.Sub(s.T1.Wall)/2 + s.T3.Sub(s.T4.Wall)/2
}

// wantOffsets fails unless all samples of a host say the offset within a tolerance.
func (h *host) wantOffsets(want, tolerance time.Duration) {
	h.world.t.Helper()
	for i := range h.samples {
		if got := offsetOf(&h.samples[i].Sample); got < want-tolerance || got > want+tolerance {
			h.world.t.Errorf("sample %d at %v says %v, want %v ± %v", i, h.samples[i].when, got, want, tolerance)
			return
		}
	}
}
