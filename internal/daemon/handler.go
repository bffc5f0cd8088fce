package daemon

import (
	crand "crypto/rand"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/responder"
)

// tables are what a server knows of its clients; all shards share them. They stay as
// they are until the next start.
type tables struct {
	clients *responder.Clients // nil if none are to be remembered
	stamps  *responder.Stamps
}

// makeTables makes the tables of clients, where a server needs them and there are none.
func (p *portSet) makeTables(s *config.Server) {
	if s == nil || p.tables.Load() != nil {
		return
	}
	seed := responder.Seed{cryptoRandom{}.Uint64(), cryptoRandom{}.Uint64()}
	p.tables.Store(&tables{
		clients: responder.NewClients(s.ClientLog.Size, seed, s.ClientLog.Privacy),
		stamps:  responder.NewStamps(s.ClientLog.Size, seed),
	})
}

// clients is the table of clients, nil if there is none.
func (p *portSet) clients() *responder.Clients {
	if t := p.tables.Load(); t != nil {
		return t.clients
	}
	return nil
}

// newShard makes a shard with the tables that there are.
func (p *portSet) newShard() *responder.Shard {
	settings := responder.ShardConfig{Clients: p.clients(), Random: cryptoRandom{}.Uint64(), Nonces: newNonces()}
	if t := p.tables.Load(); t != nil {
		settings.Stamps = t.stamps
	}
	return responder.NewShard(settings)
}

// newNonces is a generator for what NTS sends in clear: unpredictable, and fast.
func newNonces() nts.Random {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails (crypto/rand ends the process instead)
	return rand.NewChaCha8(seed)
}

// listener is one address listened at, with the shards that answer there.
type listener struct {
	*netio.Port
	address netip.AddrPort                    // as configured
	shards  []atomic.Pointer[responder.Shard] // one for each socket
	bare    bool                              // the shards have no tables
	zone    int                               // index of the interface that its zone names, 0: none
	gone    atomic.Pointer[string]            // why the address is not there now, "" or nil: it is
}

// newListener gives each socket of a port its shard.
func (p *portSet) newListener(port *netio.Port, address netip.AddrPort) *listener {
	l := &listener{Port: port, address: address, shards: make([]atomic.Pointer[responder.Shard], port.Workers())}
	if zone := address.Addr().Zone(); zone != "" {
		l.zone = zoneIndex(zone)
	}
	l.renew(p)
	return l
}

// renew gives the listener shards with the tables that there are now. What the old ones
// have counted is forgotten: without a server section they have answered nothing.
func (l *listener) renew(p *portSet) {
	l.bare = p.tables.Load() == nil
	for i := range l.shards {
		l.shards[i].Store(p.newShard())
	}
}

// handler answers what comes in by one socket. It runs on that socket's goroutine.
type handler struct {
	shard    *atomic.Pointer[responder.Shard]
	env      responder.Env
	snapshot *atomic.Pointer[model.Snapshot]
	policy   *atomic.Pointer[responder.Policy]
	serve    *atomic.Bool // a server section stands; else requests get silence
	ring     *atomic.Pointer[nts.Ring]
	arrived  chan<- arrival
	dropped  *atomic.Uint64
	verdict  responder.Verdict
}

func (p *portSet) newHandler(shard *atomic.Pointer[responder.Shard]) *handler {
	return &handler{
		shard:    shard,
		env:      responder.Env{Now: p.d.clock.Quick},
		snapshot: &p.d.snapshot,
		policy:   &p.d.policy,
		serve:    &p.d.serves,
		ring:     &p.d.nts.ring,
		arrived:  p.d.registry.arrived,
		dropped:  &p.dropped,
	}
}

// Handle answers a request, or hands on what is for an association. For the former
// it meets no lock, no channel and no allocation.
func (h *handler) Handle(rx *model.Received, reply []byte) int {
	h.env.Snapshot, h.env.Policy, h.env.Ring = h.snapshot.Load(), h.policy.Load(), h.ring.Load()
	h.verdict = responder.Verdict{}
	if engine.ForAssociation(rx.Data) {
		h.shard.Load().Pass(rx)
		h.pass(rx)
		return 0
	}
	if !h.serve.Load() {
		return 0
	}
	n, verdict := h.shard.Load().Respond(reply, rx, &h.env)
	h.verdict = verdict
	if verdict.What == responder.Query {
		h.pass(rx)
	}
	return n
}

// Expect has the shard look at what it knows of the senders of a batch.
func (h *handler) Expect(remotes []netip.AddrPort) { h.shard.Load().Expect(remotes) }

// pass gives a copy to the registry, if it has room. In a flood it has none, and the
// copy would be garbage: it is not made then. Several sockets may find the last place at
// once, so that offer has the last word.
func (h *handler) pass(rx *model.Received) {
	if len(h.arrived) == cap(h.arrived) {
		h.dropped.Add(1)
		return
	}
	a := arrival{data: append([]byte(nil), rx.Data...), received: *rx}
	a.received.Data = nil
	if !offer(h.arrived, a) {
		h.dropped.Add(1)
	}
}

// Stamp asks for the transmit stamp of the last reply where the responder wants it.
func (h *handler) Stamp() netio.StampRequest {
	return netio.StampRequest{Want: h.verdict.StampID != 0, ID: h.verdict.StampID}
}

// Transmitted gives a reply's transmit stamp to the responder.
func (h *handler) Transmitted(id uint32, at ntptime.Instant, _ model.StampKind) {
	h.shard.Load().Transmitted(id, at)
}

// Lead tells how long a reply written now will wait to be sent.
func (h *handler) Lead(lead time.Duration) { h.env.Lead = lead }

// stranger answers mode 1 packets that may not mobilize. It belongs to the registry.
type stranger struct {
	*handler
	reply []byte
}

// answer answers without state, as the access rights say, or not at all.
func (s *stranger) answer(p *portSet, a *arrival) {
	if !s.serve.Load() {
		return
	}
	a.received.Data = a.data
	s.env.Snapshot, s.env.Policy = s.snapshot.Load(), s.policy.Load()
	n, _ := s.shard.Load().Respond(s.reply, &a.received, &s.env)
	if n == 0 || n > len(a.data) {
		return
	}
	t := association.Transmit{To: a.received.Remote, Local: a.received.Local, Interface: a.received.Interface}
	l := p.portFor(&t)
	if l == nil {
		return
	}
	if _, err := l.Send(s.reply[:n], t.To, t.Local, t.Interface, netio.StampRequest{}); err != nil {
		p.d.log.Debug("reply not sent", zap.Error(err))
	}
}

func (p *portSet) newStranger() *stranger {
	s := &stranger{p.newHandler(new(atomic.Pointer[responder.Shard])), make([]byte, longestReply)}
	s.renew(p)
	return s
}

// renew gives the stranger a shard with the table of clients that there is now. It keeps
// no stamps: its replies leave by another way than those of the ports' goroutines.
func (s *stranger) renew(p *portSet) {
	s.shard.Store(responder.NewShard(responder.ShardConfig{Clients: p.clients(), Random: cryptoRandom{}.Uint64()}))
}
