package serve

import (
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// longestReply bounds what is sent: no NTP packet in use is longer.
const longestReply = 2048

// Sender owns the tokens of what it sends by Set.Send.
type Sender interface {
	// Transmitted tells when the packet that it knows by an id really left. It is called on
	// a socket's goroutine and must not block.
	Transmitted(id uint32, at ntptime.Instant, kind model.TimestampKind)
}

// handler answers what comes in by one socket. It runs on that socket's goroutine.
type handler struct {
	shard   *atomic.Pointer[responder.Shard]
	env     *Env
	respond responder.Env
	smeared *atomic.Bool
	dropped *atomic.Uint64
}

func (s *Set) newHandler(l *Listener, worker int) *handler {
	return &handler{shard: &l.shards[worker], smeared: &l.smeared, env: &s.env, respond: responder.Env{Now: s.env.Clock.Now}, dropped: &s.dropped}
}

// Expect has the shard look at what it knows of the senders of a batch.
func (h *handler) Expect(remotes []netip.AddrPort) { h.shard.Load().Expect(remotes) }

// Handle answers a request, or hands on what is for an association. For the former
// it meets no lock, no channel and no allocation.
func (h *handler) Handle(rx *model.Received, lead time.Duration, reply []byte) (int, netio.Token) {
	if engine.ForAssociation(rx.Data) {
		h.pass(rx, h.env.Arrived)
		return 0, netio.Token{}
	}
	if !h.env.Serves.Load() {
		h.shard.Load().Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonNotServing})
		return 0, netio.Token{}
	}
	h.respond.Snapshot, h.respond.Policy, h.respond.Ring = h.env.Snapshot.Load(), h.env.Policy.Load(), h.env.Ring.Load()
	h.respond.Lead, h.respond.Smeared = lead, h.smeared.Load()
	n, verdict := h.shard.Load().Respond(reply, rx, &h.respond)
	if verdict.Result == responder.Query {
		h.pass(rx, h.env.Queries)
	}
	return n, netio.Token{ID: verdict.TimestampID}
}

// Sent gives a transmit timestamp to the association that waits for it, or to the responder.
func (h *handler) Sent(token netio.Token, at ntptime.Instant, kind model.TimestampKind) {
	if sender, ok := token.Owner.(Sender); ok {
		sender.Transmitted(token.ID, at, kind)
		return
	}
	h.shard.Load().Transmitted(token.ID, at)
}

// pass hands on a copy, if there is room. In a flood there is none, and the copy would be
// garbage: it is not made then. Several sockets may find the last place at once, so that
// the channel has the last word.
func (h *handler) pass(rx *model.Received, to chan<- model.Received) {
	if len(to) < cap(to) {
		copied := *rx
		copied.Data = append([]byte(nil), rx.Data...)
		select {
		case to <- copied:
			return
		default:
		}
	}
	h.dropped.Add(1)
	h.shard.Load().Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonQueue})
}

// stateless answers mode 1 packets that may not mobilize. It belongs to the goroutine that
// mobilizes.
type stateless struct {
	shard   atomic.Pointer[responder.Shard]
	respond responder.Env
	reply   []byte
}

func (s *Set) newStateless() *stateless {
	a := &stateless{respond: responder.Env{Now: s.env.Clock.Now}, reply: make([]byte, longestReply)}
	a.renew(s)
	return a
}

// renew gives it a shard with the table of clients that there is now. It keeps no transmit
// timestamps: its replies leave by another way than those of the sockets' goroutines.
func (a *stateless) renew(s *Set) {
	a.shard.Store(responder.NewShard(responder.ShardConfig{Clients: s.Clients(), Random: random()}))
}

// Answer answers a packet that may not mobilize without state, as the access rights say,
// or not at all.
func (s *Set) Answer(rx *model.Received) {
	if !s.env.Serves.Load() {
		s.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonNotServing})
		return
	}
	a := s.stateless
	a.respond.Snapshot, a.respond.Policy = s.env.Snapshot.Load(), s.env.Policy.Load()
	n, verdict := a.shard.Load().Decide(a.reply, rx, &a.respond)
	s.Count(rx, verdict)
	if n > 0 {
		s.SendBack(a.reply[:n], rx)
	}
}

// Count counts what became of a packet that was handed on, at the address that it came to.
func (s *Set) Count(rx *model.Received, v responder.Verdict) {
	if l := s.listenerFor(rx.Remote.Addr(), rx.Local); l != nil {
		l.shards[0].Load().Count(rx, v)
		return
	}
	s.stateless.shard.Load().Count(rx, v) // it was closed meanwhile
}

// LocalOf is where a packet was sent to, with the port that answers it; false: none does.
func (s *Set) LocalOf(rx *model.Received) (netip.AddrPort, bool) {
	l := s.listenerFor(rx.Remote.Addr(), rx.Local)
	if l == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(rx.Local, l.LocalAddr().Port()), true
}

// SendBack sends to where a packet came from, from the address that it was sent to, and
// reports whether it left.
func (s *Set) SendBack(b []byte, rx *model.Received) bool {
	if _, err := s.Send(b, rx.Remote, rx.Local, rx.Interface, netio.Token{}); err != nil {
		s.env.Log.Debug("reply not sent", zap.Error(err))
		return false
	}
	return true
}
