package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/serve"
)

// packetQueue is how many datagrams wait for one association; more are dropped,
// as the network would.
const packetQueue = 8

// longestReply is what is read of a reply: no NTP packet in use is longer.
const longestReply = 2048

// runner drives one association: its timer, its socket, and the channels to and
// from the system process. The association itself is touched by run alone.
type runner struct {
	id          model.SourceID
	name        string
	remote      netip.AddrPort
	process     *engine.PeerProcess
	clock       clock.Clock
	snapshot    *atomic.Pointer[model.Snapshot]
	steering    steering
	packets     chan model.Received  // full: dropped and counted
	timestamps  chan transmitted     // full: dropped; the daemon's own timestamp then stays
	orders      chan order           // an operator's; full: refused
	keys        chan keyOutcome      // of key exchanges; whoever sends waits
	seeker      *keySeeker           // nil: no NTS
	kept        *keptKeys            // where keys go at the end; nil: nowhere
	system      chan<- systemMessage // nil: this one is no source (a broadcast sender)
	port        *serve.Set           // sends from the NTP port; nil: there is none
	client      netio.ClientConfig
	socket      *netio.Client // open between a request and the next one
	group       *group
	log         *zap.Logger
	onEvent     func(model.Event)
	onDone      func(r *runner)
	latest      atomic.Pointer[model.SourceStatus] // as last told to the system process
	failing     bool                               // the last packet could not be sent, and the log says so
	refusal     atomic.Pointer[string]             // what the network said of the last request; nil: nothing
	lastRefusal string                             // refusal of the request before
	onRefusal   func(words string)                 // told at once; nil: nobody is
	ctx         context.Context                    // of run
	over        bool                               // the association has ended
	cancel      context.CancelFunc                 // ends run
}

// transmitted is a precise transmit timestamp that came late.
type transmitted struct {
	id   uint32
	at   ntptime.Instant
	kind model.TimestampKind
}

// run is the goroutine; it ends with ctx, or when the association has ended.
func (r *runner) run(ctx context.Context) error {
	defer r.closeSocket()
	defer r.keepKeys()
	r.ctx = ctx
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !r.over {
		timer.Reset(r.clock.Until(r.process.Deadline()))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			r.process.OnTimer(r.clock.Now(), r.snapshot.Load())
		case rx := <-r.packets:
			r.onArrival(&rx)
		case t := <-r.timestamps:
			r.process.OnTransmitted(t.id, t.at, t.kind)
		case o := <-r.orders:
			o(r.process, r.clock.Now())
		case outcome := <-r.keys:
			r.onKeys(outcome)
		case hint := <-r.steering.hints:
			r.process.OnHint(hint, r.clock.Now())
		case <-r.steering.changed:
			r.process.OnClockChanged(r.clock.Now())
		}
	}
	return nil
}

// onArrival takes the late transmit timestamps first: they belong to the request that
// the datagram answers.
func (r *runner) onArrival(rx *model.Received) {
	for pending := true; pending; {
		select {
		case t := <-r.timestamps:
			r.process.OnTransmitted(t.id, t.at, t.kind)
		default:
			pending = false
		}
	}
	r.process.OnPacket(rx, r.snapshot.Load())
}

// Record logs an event.
func (r *runner) Record(e model.Event) { r.onEvent(e) }

// Sample hands a measurement to the system process.
func (r *runner) Sample(m *model.Sample) { r.tell(newSample{*m}) }

// Status makes the association's present state visible to others.
func (r *runner) Status(status *model.SourceStatus) {
	if status.Unanswered > 0 {
		status.Network = r.lastRefusal
		if words := r.refusal.Load(); words != nil {
			status.Network = *words
		}
	}
	r.latest.Store(status)
	r.tell(newStatus{*status})
}

// Ended ends the goroutine, and tells the registry.
func (r *runner) Ended() {
	r.over = true
	r.onDone(r)
}

// tell hands a message to the system process; nobody waits for it longer than ctx.
func (r *runner) tell(message systemMessage) {
	if r.system == nil {
		return
	}
	select {
	case r.system <- message:
	case <-r.ctx.Done():
	}
}

// Send sends one datagram, from a new random port where the association asks for one
// (RFC 9109), and says when it left. The log says when nothing can be sent; an error is in
// words for people.
func (r *runner) Send(t *association.Transmit) (ntptime.Instant, model.TimestampKind, error) {
	at, err := r.send(r.ctx, t)
	if err != nil {
		err = errors.New(netio.Words(err))
	}
	if err != nil && !r.failing {
		r.log.Warn("packet not sent: "+err.Error()+"; will go on trying", zap.String("source", nameWithAddress(r.name, r.remote)))
	}
	r.failing = err != nil
	return at, model.TimestampDaemon, err
}

func (r *runner) send(ctx context.Context, t *association.Transmit) (ntptime.Instant, error) {
	if !t.FreshPort {
		if r.port == nil {
			return ntptime.Instant{}, errors.New("there is no NTP port to send from")
		}
		return r.sendFromPort(t)
	}
	if err := r.openSocket(ctx, t.ID); err != nil {
		return ntptime.Instant{}, err
	}
	return r.socket.Send(t.Data)
}

// openSocket replaces the socket by one on another random port, and starts its reader.
func (r *runner) openSocket(ctx context.Context, id uint32) error {
	r.closeSocket()
	r.lastRefusal = ""
	if words := r.refusal.Swap(nil); words != nil {
		r.lastRefusal = *words
	}
	socket, err := netio.OpenClient(r.client)
	if err != nil {
		return err
	}
	r.socket = socket
	r.group.Go("replies to "+r.name, func(context.Context) error {
		r.readReplies(ctx, socket, id)
		return nil
	})
	return nil
}

func (r *runner) closeSocket() {
	if r.socket != nil {
		_ = r.socket.Close()
		r.socket = nil
	}
}

// readReplies is the goroutine of one socket; it ends when the socket is closed.
func (r *runner) readReplies(ctx context.Context, socket *netio.Client, id uint32) {
	for {
		buffer := make([]byte, longestReply)
		var rx model.Received
		event, err := socket.Read(buffer, &rx)
		unreachable := &netio.UnreachableError{}
		switch {
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		case errors.As(err, &unreachable):
			// A hint that anybody can forge: the poll stays unanswered, and reports say so.
			words := netio.Words(unreachable.Err)
			r.refusal.Store(&words)
			if r.onRefusal != nil {
				r.onRefusal(words)
			}
		case err != nil:
			r.log.Debug("socket given up until the next poll", zap.String("source", r.name), zap.Error(err))
			return
		case event.Transmitted:
			offer(r.timestamps, transmitted{id: id, at: rx.At, kind: rx.Timestamp})
		default:
			r.refusal.Store(nil)
			r.take(&rx)
		}
	}
}

// take queues a datagram for the association, or counts that there was no room. It says
// what became of it.
func (r *runner) take(rx *model.Received) responder.Verdict {
	if offer(r.packets, *rx) {
		return responder.Verdict{Result: responder.Forwarded}
	}
	if r.port != nil {
		r.port.CountDropped()
	}
	return responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonQueue}
}

// offer puts v into c if there is room.
func offer[T any](c chan<- T, v T) bool {
	select {
	case c <- v:
		return true
	default:
		return false
	}
}
