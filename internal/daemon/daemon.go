// Package daemon runs timeball in real time: it starts the goroutines, owns the
// channels between them, mobilizes associations, reloads the configuration and
// stops. The protocol and the estimator are the core's; here are only their edges.
package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/footprint"
	"timeball/internal/history"
	"timeball/internal/leapfile"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/resolve"
	"timeball/internal/responder"
	"timeball/internal/serve"
)

// stopIn bounds an orderly stop.
const stopIn = 1500 * time.Millisecond

// Options are what surrounds a daemon. The zero value, with a logger, is the service.
type Options struct {
	Log *zap.Logger
	// Level is the log's level, for a reload to change; may be nil.
	Level *zap.AtomicLevel
	// Path of the configuration, read again at a reload; "" where there is none.
	Path string
	// Version is shown in reports and metrics.
	Version, Revision string
	// Clock replaces the one that the configuration names.
	Clock clock.Clock
	// Lookup replaces the system's resolver; nil: that one.
	Lookup resolve.Lookup
	// Port is where to listen when there is no server section but an association needs
	// the NTP port; the zero value is port 123 of every address.
	Port netip.AddrPort
	// Groups makes the port receive broadcasts and groups by sockets of their own, for
	// hosts that listen at one address of the loopback interface (the lab).
	Groups bool
	// Notify tells the supervisor of READY, RELOADING, WATCHDOG, STOPPING and STATUS; it may
	// not wait.
	Notify func(state string)
	// Watchdog is how often the supervisor wants to hear from us; 0: not at all.
	Watchdog time.Duration
}

// parts are what the goroutines of a daemon work with: the clock, the state that they
// publish, the ways to each other. Each is made before whoever uses it and knows of nobody
// above; the daemon and its registry hold them, and no part holds the daemon.
type parts struct {
	opts       Options
	log        *zap.Logger
	config     atomic.Pointer[config.Config]
	policy     atomic.Pointer[responder.Policy]
	keys       atomic.Pointer[mac.KeyRing]
	addresses  atomic.Pointer[[]netip.Addr] // our own; they change with the interfaces
	snapshot   atomic.Pointer[model.Snapshot]
	clock      clock.Clock
	hardware   *netio.Hardware // nil: no NIC timestamps
	state      *stateFiles
	resolver   *resolve.Resolver
	system     *systemLoop
	bounds     *boundFiles // nil: none
	fastPath   *fastPath   // nil: none is configured
	statistics *statisticsFiles
	ports      *serve.Set
	kept       *keptKeys
	group      *group
	serves     atomic.Bool    // a server section stands
	leaps      *leapfile.List // the registry's, once it runs; nil: none
	started    time.Time
}

// Daemon is one timeball.
type Daemon struct {
	*parts
	registry *registry
	nts      *ntsServer
	control  *controlService
	chrony   *chronyService
	metrics  atomic.Pointer[metricsService]
	history  past
	begun    *config.Config // as read at the start
	hostName string
	driver   config.ClockDriver
	queries  chan model.Received // control queries that may be answered; full: dropped and counted
	running  chan struct{}       // closed when Run has started every part
	reloads  reloadState
}

// New makes a daemon of a checked configuration. Everything that can fail at the
// start fails here: the clock, the sockets, the key file; an error says which and
// what to do. Close what was made with Run, or with Close if Run is never called.
func New(cfg *config.Config, opts Options) (*Daemon, error) {
	p := &parts{opts: opts, log: opts.Log, started: time.Now()}
	d := &Daemon{parts: p, running: make(chan struct{}), queries: make(chan model.Received, 64)}
	if d.log == nil {
		d.log = zap.NewNop()
	}
	if d.opts.Lookup == nil {
		d.opts.Lookup = resolve.System
	}
	d.nts, d.kept = &ntsServer{parts: p}, &keptKeys{cfg.NTS.State, d.log}
	d.kept.tidy(time.Now())
	d.config.Store(cfg)
	d.begun = cfg
	d.reloads.note(nil)
	if err := d.openAll(cfg); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// openAll makes the parts in the order in which they need each other.
func (d *Daemon) openAll(cfg *config.Config) error {
	if err := d.openClock(cfg); err != nil {
		return err
	}
	d.state = openState(cfg, d.log)
	if err := d.usePolicy(cfg); err != nil {
		return err
	}
	var err error
	if d.hardware, err = openHardware(d, cfg); err != nil {
		return err
	}
	d.setAddresses()
	d.driver, d.leaps = cfg.Clock.Driver, leapList(cfg, d.log)
	d.serves.Store(cfg.Server != nil)
	d.history.ring = history.New(cfg.History.Size)
	d.hostName, _ = os.Hostname() // "" is shown as it is
	if d.bounds, err = openBoundFiles(cfg, d.machineOffset, d.log); err != nil {
		return err
	}
	if d.statistics, err = openStatistics(d, cfg); err != nil {
		return err
	}
	d.newSystemLoop(cfg)
	d.resolver = resolve.New(d.opts.Lookup)
	d.registry = newRegistry(d.parts, cfg)
	ports, err := openPorts(d, cfg)
	if err != nil {
		return err
	}
	d.ports = ports
	d.fastPath = openFastPath(cfg, d.clock.Quick, d.log)
	d.system.fastPath = d.fastPath
	change, err := d.nts.prepare(cfg)
	if err != nil {
		return err
	}
	change.commit()
	if d.control, err = openControl(d, cfg); err != nil {
		return err
	}
	if d.chrony, err = openChrony(d, cfg); err != nil {
		return err
	}
	return d.openMetricsOrWait(cfg)
}

// openClock makes the clock driver that the configuration names.
func (d *parts) openClock(cfg *config.Config) error {
	if d.clock = d.opts.Clock; d.clock != nil {
		return nil
	}
	switch cfg.Clock.Driver {
	case config.ClockVirtual:
		d.clock = clock.NewVirtual(clock.VirtualConfig{
			Offset:    cfg.Clock.Virtual.Offset,
			Frequency: ntptime.Frequency(cfg.Clock.Virtual.Frequency),
		})
	case config.ClockObserve:
		d.clock = clock.NewObserve()
	default:
		if clock.Diverging(clock.System()) {
			if err := release(clock.System(), cfg, false, d.log); err != nil {
				return err
			}
		}
		kernel, err := clock.NewKernel(clock.System())
		if err != nil {
			return err // and no clock: a nil *Kernel in the interface would be one
		}
		d.clock = kernel
	}
	return nil
}

func (d *parts) newSystemLoop(cfg *config.Config) {
	d.system = &systemLoop{
		clock:      d.clock,
		inbox:      make(chan systemMessage, 256),
		snapshot:   &d.snapshot,
		steering:   map[model.SourceID]steering{},
		onEvent:    d.logSystemEvent,
		gate:       d.state,
		bounds:     d.bounds,
		statistics: d.statistics,
	}
	if d.opts.Notify != nil {
		d.system.standing = &standing{notify: d.opts.Notify, name: d.nameOf, observed: cfg.Clock.Driver == config.ClockObserve}
	}
	d.system.process = engine.NewSystemProcess(engine.System(cfg, d.host()), d.system, d.clock.Now())
}

// settled is when all parts have done for the first time what they go on doing.
const settled = 15 * time.Second

// settleLater gives back what the first seconds have touched: more than the start itself. It
// ends after that, or with ctx.
func settleLater(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(settled):
		_ = footprint.Settle() // said at the start, if it cannot be done
		return nil
	}
}

// Run works until ctx ends or a part fails, and then stops in order: no more
// requests, drift written, slew ended. It takes less than two seconds to stop.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	d.group = newGroup(ctx)
	d.startParts()
	close(d.running)
	if err := footprint.Settle(); err != nil {
		d.log.Debug("memory of the start not given back", zap.Error(err))
	}
	d.group.Go("footprint", settleLater)
	d.notify("READY=1")
	d.log.Info("timeball runs", zap.String("version", d.opts.Version), zap.String("clock", string(d.driver)))

	<-d.group.ctx.Done()
	d.notify("STOPPING=1")
	err := waitAtMost(d.group, stopIn)
	d.notify("STATUS=stopped")
	d.state.save(d.snapshot.Load())
	d.log.Info("timeball stops", zap.Error(err))
	return err
}

// startParts starts every goroutine; each ends when the group's context does.
func (d *Daemon) startParts() {
	d.group.Go("system", d.system.run)
	d.ports.Start(d.group.Go)
	d.group.Go("interfaces", d.watchInterfaces)
	d.group.Go("associations", d.registry.run)
	d.group.Go("address of the metrics", d.awaitMetrics)
	d.group.GoBeside("fast path", d.runFastPath, d.besideFailed)
	d.fastPath.start(d.group, d.ports, d.log)
	d.group.Go("control queries", d.answerQueries)
	d.nts.start(d.group)
	d.group.GoBeside("NTS", d.nts.look, d.besideFailed)
	d.control.start(d.group)
	d.chrony.start(d.group, d.besideFailed)
	d.statistics.start(d.group)
	d.metrics.Load().start(d.group)
	d.group.GoBeside("NICs", d.followNICs, d.besideFailed)
	d.group.GoBeside("state", d.keepState, d.besideFailed)
	d.group.GoBeside("history", d.keepHistory, d.besideFailed)
	d.group.Go("supervisor", d.feedWatchdog)
}

// waitAtMost waits for the goroutines, but not for ever: a hanging one is named by
// the supervisor's own deadline, not by a stuck stop.
func waitAtMost(g *group, limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("a part did not stop within %s", limit)
	}
}

// Close gives back what New took. It may be called more than once.
func (d *Daemon) Close() {
	if d.ports != nil {
		_ = d.ports.Close()
	}
	d.nts.close()
	d.control.close()
	d.chrony.close()
	d.metrics.Load().close()
	d.closeHardware()
	d.bounds.close()
	d.fastPath.close()
	if d.clock != nil && d.opts.Clock == nil {
		if err := d.clock.Close(); err != nil {
			d.log.Warn("clock not left in order", zap.Error(err))
		}
	}
}

// Snapshot is the system process as last published.
func (d *Daemon) Snapshot() *model.Snapshot { return d.snapshot.Load() }

// Addresses are those at which the port listens, with the ports really taken.
func (d *Daemon) Addresses() []netip.AddrPort { return d.ports.Addresses() }

func (d *Daemon) notify(state string) {
	if d.opts.Notify != nil {
		d.opts.Notify(state)
	}
}

// feedWatchdog is a goroutine: it tells the supervisor that the system process is
// alive, by way of the system process.
func (d *Daemon) feedWatchdog(ctx context.Context) error {
	if d.opts.Watchdog <= 0 {
		<-ctx.Done()
		return nil
	}
	return every(ctx, d.opts.Watchdog/2, func() {
		select {
		case d.system.inbox <- alive{func() { d.notify("WATCHDOG=1") }}:
		case <-ctx.Done():
		}
	})
}

// alive is a message that comes back: whoever sent it knows that the loop turns.
type alive struct{ say func() }

func (m alive) deliver(*systemLoop, ntptime.Instant) { m.say() }
