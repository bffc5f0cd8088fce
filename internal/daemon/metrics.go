package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/history"
	"timeball/internal/logging"
	"timeball/internal/metrics"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/ntske"
)

// metricsService is the HTTP listener of metrics and status page, where there is one.
type metricsService struct {
	listener net.Listener
	server   *http.Server
	pages    atomic.Pointer[http.Handler] // changed by a reload that leaves the address
	failed   func(name string, err error)
}

// openMetrics opens the listener that a configuration names.
func openMetrics(d *Daemon, cfg *config.Config) (*metricsService, error) {
	if cfg.Metrics == nil {
		return nil, nil
	}
	listener, err := net.Listen("tcp", cfg.Metrics.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	m := &metricsService{listener: listener, failed: d.besideFailed}
	m.show(d, cfg)
	m.server = metrics.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*m.pages.Load()).ServeHTTP(w, r) }))
	return m, nil
}

// show makes the pages what a configuration says.
func (m *metricsService) show(d *Daemon, cfg *config.Config) {
	pages := metrics.New(metricsSource{d}, cfg.Metrics.Hosts)
	m.pages.Store(&pages)
}

func (m *metricsService) start(g *group) {
	if m == nil {
		return
	}
	g.GoBeside("metrics", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, m.close)()
		if err := m.server.Serve(patient{m.listener, ctx}); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, m.failed)
}

// patient is a listener that goes on after an error: descriptors, memory and connections
// that were gone before they were taken come and go, and only its closing ends it.
type patient struct {
	net.Listener
	ctx context.Context
}

// Accept implements net.Listener.
func (l patient) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
			return conn, err
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (m *metricsService) close() {
	if m != nil {
		_ = m.server.Close()
		_ = m.listener.Close()
	}
}

// metricsChange is what a reload does to the listener: nothing, other pages at the same
// address, or another listener.
type metricsChange struct {
	d     *Daemon
	pages *config.Config // of the pages at the address that stays; nil: no change
	swap  bool
	next  *metricsService
}

// prepareMetrics opens the new listener, if its address is to change. One that is awaited
// is opened, once it is there, with the configuration then in force.
func (d *Daemon) prepareMetrics(plan *config.Plan, old, next *config.Config) (*metricsChange, error) {
	change := &metricsChange{d: d}
	if !plan.Has("metrics") {
		return change, nil
	}
	if old.Metrics != nil && next.Metrics != nil && old.Metrics.Listen == next.Metrics.Listen {
		change.pages = next
		return change, nil
	}
	var err error
	change.swap = true
	change.next, err = openMetrics(d, next)
	if errors.Is(err, syscall.EADDRINUSE) && old.Metrics != nil && old.Metrics.Listen.Port == next.Metrics.Listen.Port {
		err = fmt.Errorf("metrics.listen: %s overlaps the address listened at now, or another program has it; the first takes a restart", next.Metrics.Listen)
	}
	return change, err
}

// discard closes what was opened for a reload that does not happen.
func (c *metricsChange) discard() { c.next.close() }

func (c *metricsChange) commit(g *group) {
	if m := c.d.metrics.Load(); c.pages != nil && m != nil {
		m.show(c.d, c.pages)
	}
	if !c.swap {
		return
	}
	old := c.d.metrics.Swap(c.next)
	old.close()
	c.next.start(g)
}

// metricsSource shows the daemon to the collector.
type metricsSource struct{ d *Daemon }

func (s metricsSource) Snapshot() *model.Snapshot { return s.d.snapshot.Load() }

func (s metricsSource) Now() ntptime.Instant { return s.d.clock.Now() }

func (s metricsSource) Process() metrics.Process {
	d := s.d
	at, good := d.reloads.succeeded()
	return metrics.Process{
		Version: d.opts.Version, Revision: d.opts.Revision, Uptime: time.Since(d.started),
		LastReload: ntptime.WallOf(at), ReloadFailed: !good, AssociationDrops: d.ports.Dropped(), LogLinesLost: logging.Lost(),
		ReloadError: d.reloads.problem(), Host: d.hostName, Clock: string(d.driver), Machine: d.machine(),
	}
}

func (s metricsSource) History(span string) (history.View, bool) {
	return s.d.history.view(span, s.d.clock.Now())
}

// machine is machineOffset, nil where the machine's clock is the one disciplined.
func (d *Daemon) machine() *time.Duration {
	if offset, observed := d.machineOffset(); observed {
		return &offset
	}
	return nil
}

func (s metricsSource) Server() *metrics.Server {
	p := s.d.ports
	if !s.d.serves.Load() {
		return nil
	}
	server := &metrics.Server{Broadcast: s.d.broadcastsSent()}
	for _, l := range p.NotListening() {
		server.NotListening = append(server.NotListening, l.Address.String())
		server.NotListeningWhy = append(server.NotListeningWhy, l.Why)
	}
	for _, l := range p.Listeners() {
		sockets := l.SocketCounters()
		server.Listeners = append(server.Listeners, metrics.Listener{
			Address: l.Name(), Counters: l.Counters(),
			SendErrors: sockets.SendErrors, Overflow: sockets.Overflow, Stale: sockets.Stale, Truncated: sockets.Truncated,
			IgnoredInterface: sockets.Ignored, Overlong: sockets.Overlong, Unresolved: sockets.Unresolved,
		})
	}
	if c, there := s.d.fastPath.counts(); there {
		server.FastPath = map[string]uint64{"answered": c.Answered, "rate_kod": c.RateKoD, "limited": c.Limited, "forwarded": c.Forwarded, "redirected": c.Redirected}
		lost := s.d.fastPath.workerCounts()
		server.FastPathLost = map[string]uint64{"overflow": lost.Overflow, "stale": lost.Stale, "malformed": lost.Malformed, "overlong": lost.Overlong, "send_error": lost.SendErrors}
	}
	server.NTS = ntsMetrics(s.d.nts.report(s.d.clock.Now().Wall))
	if clients := p.Clients(); clients != nil {
		server.Clients = clients.Totals(time.Hour, s.d.clock.Now().Raw)
	}
	return server
}

// ntsMetrics is the state of the NTS server; nil where there is none.
func ntsMetrics(state *ntsState) *metrics.NTS {
	if state == nil {
		return nil
	}
	out := &metrics.NTS{Connections: map[string]uint64{}, KeyAge: state.keyAge}
	for outcome, count := range state.outcomes {
		out.Connections[ntske.Outcome(outcome).String()] = count
	}
	if !state.expires.IsZero() {
		out.CertificateExpiry = ntptime.WallOf(state.expires)
	}
	return out
}

// broadcastsSent counts what the broadcast and multicast senders have sent.
func (d *Daemon) broadcastsSent() uint64 {
	var sum uint64
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := d.registry.ask(ctx, func(g *registry) {
		for _, status := range g.senderStates() {
			sum += status.Sent
		}
	})
	if err != nil {
		d.log.Debug("broadcasts not counted", zap.Error(err))
	}
	return sum
}
