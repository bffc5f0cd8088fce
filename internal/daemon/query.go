package daemon

import (
	"net/netip"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/netio"
	"timeball/internal/responder"
)

// answerQuery answers a control query (mode 6, RFC 9327) that the access rights have
// let in. The replies leave from the address that was asked.
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
	}
	for _, datagram := range responder.Control(a.data, view) {
		if _, err := l.Send(datagram, t.To, t.Local, t.Interface, netio.StampRequest{}); err != nil {
			d.log.Debug("control reply not sent", zap.Error(err))
			return
		}
	}
}
