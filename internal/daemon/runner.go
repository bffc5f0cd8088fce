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
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// packetQueue is how many datagrams wait for one association; more are dropped,
// as the network would.
const packetQueue = 8

// longestReply is what is read of a reply: no NTP packet in use is longer.
const longestReply = 2048

// runner drives one association: its timer, its socket, and the channels to and
// from the system process. The association itself is touched by run alone.
type runner struct {
	id           model.SourceID
	name         string
	kind         association.Kind
	key          uint32 // id of the key that is believed, 0: none
	remote       netip.AddrPort
	assoc        *association.Association
	clock        clock.Clock
	snapshot     *atomic.Pointer[model.Snapshot]
	steering     steering
	packets      chan arrival         // full: dropped and counted
	stamps       chan transmitted     // full: dropped; the daemon's own stamp then stays
	orders       chan order           // an operator's; full: refused
	system       chan<- systemMessage // nil: this one is no source (a broadcast sender)
	port         *portSet             // sends from the NTP port; nil: there is none
	client       netio.ClientConfig
	socket       *netio.Client // open between a request and the next one
	group        *group
	log          *zap.Logger
	onEvent      func(model.Event)
	onDone       func(r *runner)
	onEnd        func()                             // of the registry, when the association is gone
	lastTransmit atomic.Uint64                      // newest mode 5 stamp believed
	latest       atomic.Pointer[model.SourceStatus] // as last told to the system process
	sendError    string                             // why the last packet could not be sent, "": it was
	refusal      atomic.Pointer[string]             // what the network said of the last request; nil: nothing
	lastRefusal  string                             // refusal of the request before
	onRefusal    func(words string)                 // told at once; nil: nobody is
	out          association.Output
	packet       wire.Packet
	cancel       context.CancelFunc // ends run
}

// arrival is a datagram on its way to an association.
type arrival struct {
	data     []byte
	received model.Received
}

// transmitted is a precise transmit stamp that came late.
type transmitted struct {
	id   uint32
	at   ntptime.Instant
	kind model.StampKind
}

// run is the goroutine; it ends with ctx, or when the association has ended.
func (r *runner) run(ctx context.Context) error {
	defer r.closeSocket()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(r.clock.Until(r.assoc.Deadline()))
		if !r.turn(ctx, timer) {
			return nil
		}
		if r.out.Done {
			r.note()
			r.onDone(r)
			return nil
		}
	}
}

// turn waits for one thing to happen and carries out what follows from it.
func (r *runner) turn(ctx context.Context, timer *time.Timer) bool {
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		r.begin()
		r.assoc.OnTimer(r.clock.Now(), &r.out)
	case a := <-r.packets:
		r.begin()
		r.onArrival(a)
	case t := <-r.stamps:
		r.begin()
		r.assoc.OnTransmitted(t.id, t.at, t.kind)
	case o := <-r.orders:
		r.begin()
		o(r.assoc, r.clock.Now(), &r.out)
	case hint := <-r.steering.hints:
		r.begin()
		r.assoc.OnHint(hint, r.clock.Now())
	case <-r.steering.changed:
		r.begin()
		r.assoc.OnClockChanged(r.clock.Now(), &r.out)
	}
	return r.finish(ctx)
}

// begin empties the output and shows the association the present system state.
func (r *runner) begin() {
	r.out.Reset()
	if s := r.snapshot.Load(); s != nil {
		r.assoc.OnSystem(s)
	}
}

// onArrival takes the late transmit stamps first: they belong to the request that
// the datagram answers.
func (r *runner) onArrival(a arrival) {
	for pending := true; pending; {
		select {
		case t := <-r.stamps:
			r.assoc.OnTransmitted(t.id, t.at, t.kind)
		default:
			pending = false
		}
	}
	a.received.Data = a.data
	if defect := r.packet.Decode(a.data); defect != wire.DefectNone {
		r.assoc.OnMalformed()
		return
	}
	r.assoc.OnPacket(&a.received, &r.packet, &r.out)
}

// finish sends what is to be sent and tells the system process what is new. It
// reports false when ctx ended meanwhile.
func (r *runner) finish(ctx context.Context) bool {
	for i := range r.out.Transmit {
		r.transmit(ctx, &r.out.Transmit[i])
	}
	for _, event := range r.out.Events {
		r.onEvent(event)
	}
	if r.out.HasSample && !r.tell(ctx, newSample{r.out.Sample}) {
		return false
	}
	if !r.out.StatusChanged {
		return true
	}
	return r.tell(ctx, newStatus{r.note()})
}

// note makes the association's present status visible to others.
func (r *runner) note() model.SourceStatus {
	status := *r.assoc.Status()
	status.SendError = r.sendError
	if status.Unanswered > 0 {
		status.Network = r.lastRefusal
		if words := r.refusal.Load(); words != nil {
			status.Network = *words
		}
	}
	r.latest.Store(&status)
	r.lastTransmit.Store(uint64(r.assoc.LastTransmit()))
	return status
}

// tell hands a message to the system process.
func (r *runner) tell(ctx context.Context, message systemMessage) bool {
	if r.system == nil {
		return true
	}
	select {
	case r.system <- message:
		return true
	case <-ctx.Done():
		return false
	}
}

// transmit sends one datagram, from a new random port where the association asks
// for one (RFC 9109), and tells it when it left.
func (r *runner) transmit(ctx context.Context, t *association.Transmit) {
	at, err := r.send(ctx, t)
	r.noteSending(err)
	if err != nil {
		r.assoc.OnSendError(t.ID, r.clock.Now(), &r.out)
		return
	}
	r.assoc.OnTransmitted(t.ID, at, model.StampDaemon)
}

// noteSending keeps why nothing could be sent, for the reports, and says when it begins.
func (r *runner) noteSending(err error) {
	if err == nil {
		r.sendError = ""
		return
	}
	if r.sendError == "" {
		r.log.Warn("packet not sent: "+netio.Words(err)+"; will go on trying", zap.String("source", nameWithAddress(r.name, r.remote)))
	}
	if words := netio.Words(err); words != r.sendError {
		r.sendError, r.out.StatusChanged = words, true
	}
}

func (r *runner) send(ctx context.Context, t *association.Transmit) (ntptime.Instant, error) {
	if !t.FreshPort {
		if r.port == nil {
			return ntptime.Instant{}, errors.New("there is no NTP port to send from")
		}
		return r.port.Send(r, t)
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
		var a arrival
		event, err := socket.Read(buffer, &a.received)
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
			offer(r.stamps, transmitted{id: id, at: a.received.At, kind: a.received.Stamp})
		default:
			r.refusal.Store(nil)
			a.data = a.received.Data
			r.take(a)
		}
	}
}

// take queues a datagram for the association, or counts that there was no room.
func (r *runner) take(a arrival) {
	if !offer(r.packets, a) && r.port != nil {
		r.port.dropped.Add(1)
	}
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
