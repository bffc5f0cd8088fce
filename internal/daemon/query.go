package daemon

import (
	"context"
	"crypto/rand"
	"time"

	"timeball/internal/model"
	"timeball/internal/responder"
)

// newMonitor makes what answers control queries, with a secret of this start.
func newMonitor() *responder.Monitor {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand ends the process instead)
	return responder.NewMonitor(secret)
}

// answerQueries is the goroutine that answers control queries: reading a large table of
// clients must keep no packet from its association.
func (d *Daemon) answerQueries(ctx context.Context) error {
	monitor := newMonitor()
	for {
		select {
		case <-ctx.Done():
			return nil
		case rx := <-d.queries:
			d.answerQuery(monitor, &rx)
		}
	}
}

// answerQuery answers a control query (mode 6, RFC 9327) that the access rights have
// let in. The replies leave from the address that was asked.
func (d *Daemon) answerQuery(monitor *responder.Monitor, rx *model.Received) {
	local, ok := d.ports.LocalOf(rx)
	if !ok {
		d.ports.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonQueue})
		return
	}
	view := &responder.ControlView{
		Snapshot: d.snapshot.Load(),
		Now:      d.clock.Now(),
		Local:    local,
		Version:  "timeball",
		Clients:  d.ports.Clients(),
		Counts:   d.counts,
	}
	datagrams, verdict := monitor.Answer(rx.Data, rx.Remote.Addr(), view)
	d.ports.Count(rx, verdict)
	for _, datagram := range datagrams {
		if !d.ports.SendBack(datagram, rx) {
			return
		}
	}
}

// counts are the numbers of this process that control queries ask for.
func (d *Daemon) counts() responder.Counts {
	c := responder.Counts{Counters: d.ports.Counters(), Uptime: time.Since(d.started), Keys: len(d.config.Load().Keys)}
	for _, l := range d.ports.Listeners() {
		sockets := l.SocketCounters()
		c.Lost += sockets.Overflow + sockets.Stale
		c.Shut += sockets.Ignored
		c.SendErrors += sockets.SendErrors
	}
	lost := d.fastPath.workerCounts()
	c.Lost += lost.Overflow + lost.Stale
	c.SendErrors += lost.SendErrors
	c.Sent = c.Sum(responder.Answered) + c.Sum(responder.Interleaved) + c.Sum(responder.RateKoD)
	return c
}
