package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
)

const (
	eventQueue   = 8    // datagrams and timestamps that wait; more are dropped, as the network would
	longestReply = 2048 // bytes: no NTP packet in use is longer
)

// asker drives the association of one probe.
type asker struct {
	reply   *Reply
	process *engine.PeerProcess
	clock   clock.Clock
	client  netio.ClientConfig
	socket  *netio.Client // open between a request and the next one
	events  chan event
	over    bool // the association has ended
}

// event is what the socket's reader has to tell.
type event struct {
	received    model.Received
	transmitted bool // received holds when the request id really left
	id          uint32
	refusal     string // what the network said of the request
}

func newAsker(reply *Reply, cfg association.Config, c clock.Clock) *asker {
	p := &reply.Probe
	a := &asker{reply: reply, clock: c, events: make(chan event, eventQueue), client: netio.ClientConfig{
		Remote: p.Remote, Local: p.Local, Interface: p.Interface, Clock: netio.Clock{Now: c.Now, At: c.At},
	}}
	a.process = engine.NewPeerProcess(cfg, a, c.Now(), random{})
	return a
}

// run asks until the reply is complete or ctx ends.
func (a *asker) run(ctx context.Context) {
	defer a.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !a.over && !a.reply.complete() {
		timer.Reset(a.clock.Until(a.process.Deadline()))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			a.process.OnTimer(a.clock.Now(), nil)
		case e := <-a.events:
			if e.refusal != "" && len(a.reply.Samples) == 0 { // one probe needs no patience with what might be forged
				a.reply.Status.Network = e.refusal
				return
			}
			a.take(e)
		}
	}
}

func (a *asker) take(e event) {
	switch {
	case e.refusal != "":
	case e.transmitted:
		a.process.OnTransmitted(e.id, e.received.At, e.received.Timestamp)
	default:
		a.process.OnPacket(&e.received, nil)
	}
}

// Send implements engine.PeerDriver: each request leaves from a new random port (RFC 9109).
func (a *asker) Send(t *association.Transmit) (ntptime.Instant, model.TimestampKind, error) {
	a.close()
	socket, err := netio.OpenClient(a.client)
	if err != nil {
		return ntptime.Instant{}, model.TimestampDaemon, errors.New(netio.Words(err))
	}
	a.socket = socket
	go a.read(socket, t.ID) // ends when the socket is closed
	at, err := socket.Send(t.Data)
	if err != nil {
		err = errors.New(netio.Words(err))
	}
	return at, model.TimestampDaemon, err
}

// read is the goroutine of one socket.
func (a *asker) read(socket *netio.Client, id uint32) {
	for {
		e := event{id: id}
		what, err := socket.Read(make([]byte, longestReply), &e.received)
		e.transmitted = what.Transmitted
		if unreachable := new(netio.UnreachableError); errors.As(err, &unreachable) {
			e.refusal = netio.Words(unreachable.Err)
		} else if err != nil {
			return
		}
		select {
		case a.events <- e:
		default:
		}
	}
}

func (a *asker) close() {
	if a.socket != nil {
		_ = a.socket.Close()
		a.socket = nil
	}
}

// Record implements engine.PeerDriver; what happens is in the status.
func (a *asker) Record(model.Event) {}

// ExchangeKeys implements engine.PeerDriver; the exchange was made before.
func (a *asker) ExchangeKeys() {}

// Sample implements engine.PeerDriver.
func (a *asker) Sample(m *model.Sample) { a.reply.Samples = append(a.reply.Samples, *m) }

// Status implements engine.PeerDriver.
func (a *asker) Status(s *model.SourceStatus) { a.reply.Status = *s }

// Ended implements engine.PeerDriver.
func (a *asker) Ended() { a.over = true }

// random draws from the system's generator: cookies must not be guessable.
type random struct{}

func (random) Uint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand ends the process instead)
	return binary.BigEndian.Uint64(b[:])
}
