package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/serve"
)

// openPorts opens the sockets that a configuration needs; none without a server, a
// peer or a broadcast client. Addresses that this machine does not have are waited for.
func openPorts(d *Daemon, cfg *config.Config) (*serve.Set, error) {
	return serve.Open(serve.Env{
		Log: d.log, Clock: d.netClock(), Hardware: d.hardware,
		Snapshot: &d.snapshot, Policy: &d.policy, Serves: &d.serves, Ring: &d.nts.ring,
		Arrived: d.registry.arrived, Queries: d.queries, GroupSockets: d.opts.Groups,
	}, listenSettings(cfg, d.opts.Port))
}

// listenSettings are where the port is to be opened, and for whom; otherwise is where, when
// there is no server but a source speaks from the port.
func listenSettings(cfg *config.Config, otherwise netip.AddrPort) serve.Settings {
	if s := cfg.Server; s != nil {
		settings := serve.Settings{
			Workers: s.Workers, Ignore: s.Ignore,
			Clients: &serve.ClientTable{Size: s.ClientLog.Size, Privacy: s.ClientLog.Privacy},
		}
		for _, l := range s.Listen {
			address := netip.AddrPortFrom(l.Addr, l.Port)
			settings.Listen = append(settings.Listen, address)
			if l.Smear {
				settings.Smeared = append(settings.Smeared, address)
			}
		}
		return settings
	}
	if !needsPort(cfg) {
		return serve.Settings{}
	}
	if !otherwise.IsValid() && otherwise.Port() == 0 {
		otherwise = netip.AddrPortFrom(netip.Addr{}, config.NTPPort)
	}
	return serve.Settings{Listen: []netip.AddrPort{otherwise}, Workers: 1}
}

// needsPort reports whether a source speaks from the NTP port.
func needsPort(cfg *config.Config) bool {
	for i := range cfg.Sources {
		switch cfg.Sources[i].Kind {
		case config.Peer, config.BroadcastClient, config.MulticastClient:
			return true
		}
	}
	return false
}

// watchInterfaces is a goroutine: it lets NICs and registry know when interfaces or
// addresses have come or gone.
func (d *Daemon) watchInterfaces(ctx context.Context) error {
	return d.ports.Watch(ctx, func() {
		d.refreshNICs()
		d.registry.tell(ctx, (*registry).interfacesChanged)
		d.registry.tell(ctx, func(g *registry) { d.openMissingMetrics(g.config) })
	})
}

// late names what changed of the server that sockets already open cannot take over.
func (d *Daemon) late(plan *config.Plan, old *config.Config) (sections []string) {
	if old.Server == nil {
		return nil
	}
	for _, section := range []string{"server.workers", "server.interfaces", "server.client_log"} {
		if plan.Has(section) && d.serves.Load() {
			sections = append(sections, section)
		}
	}
	return sections
}

// sendFromPort sends a packet of the association from the NTP port.
func (r *runner) sendFromPort(t *association.Transmit) (ntptime.Instant, error) {
	index := t.Interface
	if name := r.client.Interface; name != "" { // it may have come, or come back under another index
		if index = interfaceIndex(name); index == 0 {
			return ntptime.Instant{}, fmt.Errorf("interface %s is not there", name)
		}
	}
	return r.port.Send(t.Data, t.To, t.Local, index, netio.Token{Owner: r, ID: t.ID})
}

// Transmitted implements serve.Sender: when a packet sent from the NTP port really left.
func (r *runner) Transmitted(id uint32, at ntptime.Instant, kind model.TimestampKind) {
	offer(r.timestamps, transmitted{id, at, kind})
}

// notListening are the addresses and groups at which nothing is heard now, and why.
func (d *Daemon) notListening() (list []control.NotListening) {
	for _, m := range d.ports.NotListening() {
		list = append(list, control.NotListening{Address: m.Address.String(), Reason: m.Why})
	}
	for _, m := range d.ports.NotJoined() {
		list = append(list, control.NotListening{Address: m.Group.String(), Reason: m.Why})
	}
	return list
}

// openMetricsOrWait opens the listener of the metrics at the start; its address may come later.
func (d *Daemon) openMetricsOrWait(cfg *config.Config) error {
	m, err := openMetrics(d, cfg)
	if err != nil {
		why := serve.Absence(err, netip.AddrPortFrom(cfg.Metrics.Listen.Addr, cfg.Metrics.Listen.Port))
		if why == "" {
			return err
		}
		d.log.Warn("no metrics yet; will serve them once their address is there", zap.Stringer("address", cfg.Metrics.Listen), zap.String("reason", why))
		return nil
	}
	d.metrics.Store(m)
	return nil
}

// awaitMetrics is a goroutine: it tries again to open the listener of the metrics, as often
// as the registry looks after the rest.
func (d *Daemon) awaitMetrics(ctx context.Context) error {
	return every(ctx, d.registry.timing.Tend, func() {
		d.registry.tell(ctx, func(g *registry) { d.openMissingMetrics(g.config) })
	})
}

// openMissingMetrics tries again. It runs on the registry's goroutine.
func (d *Daemon) openMissingMetrics(cfg *config.Config) {
	if cfg.Metrics == nil || d.metrics.Load() != nil {
		return
	}
	m, err := openMetrics(d, cfg)
	if err != nil {
		return // said at the start
	}
	d.metrics.Store(m)
	m.start(d.group)
	d.log.Info("serving metrics at an address that has come", zap.Stringer("address", cfg.Metrics.Listen))
}

// lookAtAddresses takes over which of the listening addresses have come or gone; senders
// then use the new sockets.
func (g *registry) lookAtAddresses() {
	if g.ports.Look() {
		g.setTTLs()
	}
}

// setTTLs gives the sockets the hop limits of the multicast senders.
func (g *registry) setTTLs() {
	if g.config.Server == nil {
		return
	}
	for i := range g.config.Server.Multicast {
		m := &g.config.Server.Multicast[i]
		g.ports.SetMulticastTTL(m.Group, m.TTL)
	}
}
