package daemon

import (
	"crypto/rand"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/netio"
	"timeball/internal/responder"
)

// newMonitor makes what answers control queries, with a secret of this start.
func newMonitor() *responder.Monitor {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand ends the process instead)
	return responder.NewMonitor(secret)
}

// answerQuery answers a control query (mode 6, RFC 9327) that the access rights have
// let in. The replies leave from the address that was asked. It runs on the registry's
// goroutine.
func (d *Daemon) answerQuery(a *arrival) {
	t := association.Transmit{To: a.received.Remote, Local: a.received.Local, Interface: a.received.Interface}
	l := d.ports.portFor(&t)
	if l == nil {
		return
	}
	view := &responder.ControlView{
		Snapshot: d.snapshot.Load(),
		Now:      d.clock.Now(),
		Local:    netip.AddrPortFrom(a.received.Local, l.LocalAddr().Port()),
		Version:  "timeball",
		Clients:  d.ports.clients(),
		Counts:   d.counts,
	}
	datagrams, _ := d.monitor.Answer(a.data, a.received.Remote.Addr(), view)
	for _, datagram := range datagrams {
		if _, err := l.Send(datagram, t.To, t.Local, t.Interface, netio.StampRequest{}); err != nil {
			d.log.Debug("control reply not sent", zap.Error(err))
			return
		}
	}
}

// counts are the numbers of this process that control queries ask for.
func (d *Daemon) counts() responder.Counts {
	c := responder.Counts{Counters: d.ports.counters(), Uptime: time.Since(d.started), Keys: len(d.config.Load().Keys)}
	for _, l := range d.ports.list() {
		sockets := l.Counters()
		c.Lost += sockets.Overflow + sockets.Stale
		c.Shut += sockets.Ignored
		c.SendErrors += sockets.SendErrors
	}
	c.Sent = c.Sum(responder.Answered) + c.Sum(responder.Interleaved) + c.Sum(responder.Kissed)
	return c
}
