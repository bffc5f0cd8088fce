package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"timeball/internal/bound"
	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/serve"
	"timeball/internal/wire"
)

// controlService is the control socket, where there is one.
type controlService struct {
	server *control.Server
	failed func(name string, err error)
}

// besideFailed says that something beside the clock has failed, and goes on.
func (d *Daemon) besideFailed(name string, err error) {
	d.log.Warn("a part beside the clock has failed; will try again", zap.String("part", name), zap.Error(err))
}

// openControl opens the control socket. At the default path it may be missing: without
// a service's run directory there is no place for it, and the daemon runs all the same.
func openControl(d *Daemon, cfg *config.Config) (*controlService, error) {
	if cfg.Control.Socket == "" {
		return nil, nil
	}
	server, err := control.Listen(cfg.Control.Socket, fs.FileMode(cfg.Control.Mode), control.HandlerFunc(d.answer))
	if err != nil {
		if !cfg.Control.SocketGiven && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
			d.log.Warn("no control socket, so no reports; set control.socket to a place that can be written to", zap.Error(err))
			return nil, nil
		}
		return nil, err
	}
	return &controlService{server, d.besideFailed}, nil
}

func (c *controlService) start(g *group) {
	if c != nil {
		g.GoBeside("control", c.server.Serve, c.failed)
	}
}

func (c *controlService) close() {
	if c != nil {
		_ = c.server.Close()
	}
}

// defaultClients is how many clients a report names that does not say.
const defaultClients = 20

// answer answers one request of the control socket from the present snapshot.
func (d *Daemon) answer(ctx context.Context, r control.Request) (any, error) {
	snapshot, now := d.snapshot.Load(), d.clock.Now()
	switch r.Command {
	case control.CommandPing:
		return "pong", nil
	case control.CommandVersion:
		return d.about(), nil
	case control.CommandStatus:
		report := control.StatusReport(snapshot, now, d.about())
		d.addMachine(&report.Tracking)
		return report, nil
	case control.CommandSources:
		return control.SourcesReport(snapshot, now), nil
	case control.CommandExplain:
		return control.ExplainReport(snapshot, r.Source)
	case control.CommandTracking:
		report := control.TrackingReport(snapshot, now)
		d.addMachine(&report)
		return report, nil
	case control.CommandAssociations:
		return d.associations(ctx, snapshot)
	case control.CommandServerStats:
		return d.serverStats(), nil
	case control.CommandClients:
		return d.clientsReport(r.Args, now.Raw)
	case control.CommandNow:
		return bound.At(snapshot, d.clock.Now()), nil
	case control.CommandHistory:
		return d.historyReport(r.Args["span"])
	case control.CommandTrace:
		return d.trace(ctx, snapshot)
	}
	if control.Changes(r.Command) {
		return d.obey(ctx, r)
	}
	return nil, fmt.Errorf("the daemon has no report %q; is it older than this command?", r.Command)
}

// machineOffset is the time worked out minus the machine's clock, where that is only
// observed, and not set.
func (d *parts) machineOffset() (offset time.Duration, observed bool) {
	machine, observed := d.clock.(interface{ MachineOffset() time.Duration })
	if !observed {
		return 0, false
	}
	return machine.MachineOffset(), true
}

func (d *Daemon) addMachine(t *control.Tracking) {
	if served, observed := d.machineOffset(); observed && t.LastUpdateAge != nil {
		t.Observed(served)
	}
}

// about is what the process says of itself.
func (d *Daemon) about() control.Daemon {
	return control.Daemon{
		Version: d.opts.Version, Revision: d.opts.Revision, Uptime: time.Since(d.started).Seconds(),
		Configuration: d.opts.Path, ReloadError: d.reloads.problem(), Clock: string(d.driver), FastPath: d.fastPath.report(),
		NotListening: d.notListening(),
		NTS:          ntsReport(d.nts.report(d.clock.Now().Wall)),
	}
}

// associations reports the sources and, besides, the broadcast senders.
func (d *Daemon) associations(ctx context.Context, snapshot *model.Snapshot) (any, error) {
	all := *snapshot
	all.Sources = slices.Clone(snapshot.Sources)
	err := d.registry.ask(ctx, func(g *registry) {
		for _, status := range g.senderStates() {
			all.Sources = append(all.Sources, model.SourceReport{SourceStatus: *status})
		}
	})
	if err != nil {
		return nil, err
	}
	return control.AssociationsReport(&all, d.clock.Now()), nil
}

// serverStats reports what has been done with requests.
func (d *Daemon) serverStats() control.ServerStats {
	stats := control.ServerStats{AssociationDrops: d.ports.Dropped(), NotListening: d.notListening(), Listeners: []control.Listener{}, Packets: []control.PacketCount{}}
	stats.FastPath = d.fastPath.report()
	counted := d.ports.Counters()
	for _, l := range d.ports.Listeners() {
		stats.Listeners = append(stats.Listeners, listenerReport(l))
	}
	for what := range responder.Result(responder.Results) {
		for version := range counted.Packets[what] {
			for mode, count := range counted.Packets[what][version] {
				if count > 0 {
					stats.Packets = append(stats.Packets, control.PacketCount{
						Mode: wire.Mode(mode).String(), Version: version, Result: what.String(), Count: count,
					})
				}
			}
		}
	}
	return stats
}

// clientsReport reports who asks us: args "count" and "order" (rate, recent, drops).
func (d *Daemon) clientsReport(args map[string]string, now ntptime.Raw) (control.Clients, error) {
	server, clients := d.config.Load().Server, d.ports.Clients()
	if clients == nil || server == nil {
		return control.Clients{Clients: []control.Client{}, Unavailable: "there is no server section, or server.client_log.size is 0"}, nil
	}
	count := defaultClients
	if text := args["count"]; text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 1 || count > 10000 {
			return control.Clients{}, fmt.Errorf("count %q is not a number from 1 to 10000", text)
		}
	}
	order, known := clientOrders[args["order"]]
	if !known {
		return control.Clients{}, fmt.Errorf("order %q is not known; use rate, recent, hits or drops", args["order"])
	}
	return control.ClientsReport(clients.Top(count, order, now), clients.Totals(time.Hour, now), server.ClientLog.Privacy), nil
}

// listenerReport is what has been counted at one address.
func listenerReport(l *serve.Listener) control.Listener {
	counted := l.Counters()
	sockets := l.SocketCounters()
	granted, asked := l.ReceiveBuffer()
	return control.Listener{
		ReceiveBuffer: granted, ReceiveBufferAsked: asked, SendBuffer: l.SendBuffer(),
		Address:        l.Name(),
		Received:       counted.Received(),
		Accepted:       counted.Sum(responder.Answered) + counted.Sum(responder.Interleaved),
		Denied:         counted.Sum(responder.Denied) + counted.Sum(responder.Refused),
		Ignored:        counted.Sum(responder.Ignored),
		Control:        counted.Sum(responder.Query),
		Passed:         counted.Sum(responder.Forwarded),
		RateLimited:    counted.Sum(responder.Limited) + counted.Sum(responder.RateKoD),
		SendErrors:     sockets.SendErrors,
		Interleaved:    counted.Sum(responder.Interleaved),
		NTSReceived:    counted.NTSReceived(),
		NTSAccepted:    counted.NTS[responder.Answered] + counted.NTS[responder.Interleaved],
		NTSDenied:      counted.NTS[responder.Denied] + counted.NTS[responder.Ignored],
		NTSRateLimited: counted.NTS[responder.Limited] + counted.NTS[responder.RateKoD],
		NTSNAK:         counted.NTS[responder.Refused],
		Dropped:        sockets.Overflow + sockets.Stale,
		Drops: control.Drops{
			Overflow: sockets.Overflow, Stale: sockets.Stale, Truncated: sockets.Truncated,
			IgnoredInterface: sockets.Ignored, Overlong: sockets.Overlong, Unresolved: sockets.Unresolved,
		},
	}
}

// clientOrders are the orders that a report of clients can be asked in.
var clientOrders = map[string]responder.Order{
	"": responder.ByRate, "rate": responder.ByRate, "hits": responder.ByHits,
	"drops": responder.ByDrops, "recent": responder.ByRecent,
}
