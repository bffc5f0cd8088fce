package daemon

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/resolve"
	"timeball/internal/wire"
)

// registry is the goroutine that owns the set of associations: it mobilizes what
// the configuration names, what arrives in modes 1 and 5 may mobilize, and looks
// after pools. Everything that changes the set goes through its inbox.
type registry struct {
	d       *Daemon
	config  *config.Config
	pace    pace
	entries []*entry
	runners map[model.SourceID]*runner
	senders []*runner // broadcast and multicast
	dynamic map[dynamicKey]*runner
	listens []*listenEntry
	nextID  model.SourceID
	inbox   chan func(*registry) // senders wait, until their context or the daemon ends
	arrived chan arrival         // from port 123, modes 1, 2, 4 and 5; full: dropped and counted
	packet  wire.Packet
}

// dynamicKey finds the association that a packet from port 123 belongs to.
type dynamicKey struct {
	remote    netip.AddrPort
	broadcast bool
}

func newRegistry(d *Daemon, cfg *config.Config) *registry {
	return &registry{
		d:       d,
		config:  cfg,
		pace:    usualPace,
		runners: map[model.SourceID]*runner{},
		dynamic: map[dynamicKey]*runner{},
		inbox:   make(chan func(*registry), 64),
		arrived: make(chan arrival, 256),
	}
}

// run is the goroutine; it ends with ctx, and the look-ups with it.
func (g *registry) run(ctx context.Context) error {
	defer g.d.resolver.Close()
	ticker := time.NewTicker(g.pace.tend)
	defer ticker.Stop()
	g.start()
	g.tendAll()
	for {
		select {
		case <-ctx.Done():
			return nil
		case task := <-g.inbox:
			task(g)
		case a := <-g.arrived:
			g.route(a)
		case result := <-g.d.resolver.Results():
			g.resolved(result)
		case <-ticker.C:
			g.tendAll()
		}
	}
}

// ask runs task on the registry's goroutine and waits for it.
func (g *registry) ask(ctx context.Context, task func(*registry)) error {
	done := make(chan struct{})
	stopped := g.d.group.ctx.Done()
	select {
	case g.inbox <- func(g *registry) { task(g); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-stopped:
		return errStopping
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stopped:
		return errStopping
	}
}

// errStopping is the answer of a daemon that is about to end.
var errStopping = errors.New("the daemon is stopping")

// tell runs task on the registry's goroutine later.
func (g *registry) tell(ctx context.Context, task func(*registry)) {
	select {
	case g.inbox <- task:
	case <-ctx.Done():
	}
}

// start mobilizes everything that the configuration names.
func (g *registry) start() {
	for _, source := range g.config.Sources {
		g.startSource(source)
	}
	g.startSenders()
}

func (g *registry) startSource(source config.Source) {
	switch source.Kind {
	case config.Pool, config.ServerSource, config.Peer:
		g.entries = append(g.entries, newEntry(source, &g.pace))
	case config.BroadcastClient, config.MulticastClient:
		g.listens = append(g.listens, newListenEntry(source))
	}
}

// interfacesChanged takes over that interfaces or addresses have come or gone: our own
// addresses, by which loops are found, and the interfaces that listening sources name.
func (g *registry) interfacesChanged() {
	g.d.setAddresses()
	g.lookAtAddresses()
	g.tendListens()
	g.reconfigure()
}

// reconfigure shows the system process the present settings.
func (g *registry) reconfigure() {
	select {
	case g.d.system.inbox <- reconfigure{engine.System(g.config, g.d.host())}:
	case <-g.d.group.ctx.Done():
	}
}

// tendAll looks after every entry: names to ask, members to add, members to replace.
func (g *registry) tendAll() {
	now := g.d.clock.Now().Raw
	g.d.endSilence(g.config)
	g.lookAtAddresses()
	g.countFalsetickers()
	for _, e := range g.entries {
		g.tendEntry(e, now)
	}
	g.tendListens()
}

func (g *registry) tendEntry(e *entry, now ntptime.Raw) {
	if e.offline {
		return
	}
	if r, why := e.replaceable(now); r != nil {
		if _, spare := e.candidate(now, g.inUse); spare {
			g.d.log.Info("source replaced", zap.String("source", r.name), zap.Stringer("address", r.remote), zap.String("reason", why))
			e.lastSwap = now
			g.stopMember(e, r)
		} else if e.mayAsk(now) {
			g.resolve(e, now)
		}
	}
	for len(e.members) < e.want() {
		addr, ok := e.candidate(now, g.inUse)
		if !ok {
			break
		}
		e.members = append(e.members, g.startMember(e, addr))
	}
	if e.wantsAsk(now) && e.mayAsk(now) {
		g.resolve(e, now)
	}
}

// inUse reports whether some other entry asks this address already: one machine
// must not have two votes.
func (g *registry) inUse(addr netip.Addr) bool {
	for _, e := range g.entries {
		if e.uses(addr) {
			return true
		}
	}
	return false
}

// resolve asks for the addresses of an entry's name, in the background. The resolver
// tries until there is an answer.
func (g *registry) resolve(e *entry, now ntptime.Raw) {
	e.asking, e.askedAt = true, now
	e.asks++
	g.d.resolver.Resolve(e.source.Host)
}

// resolved takes one outcome of a look-up to every entry of that name.
func (g *registry) resolved(result resolve.Result) {
	if result.Err != nil {
		g.d.log.Warn("name not resolved; will try again", zap.String("name", result.Name),
			zap.Duration("in", result.Retry), zap.Error(result.Err))
		return
	}
	now := g.d.clock.Now().Raw
	for _, e := range g.entries {
		if e.asking && e.source.Host == result.Name {
			e.learn(result.Addresses, now)
			g.tendEntry(e, now)
		}
	}
}

// countFalsetickers keeps how long each member of a pool has been telling another
// time than the majority.
func (g *registry) countFalsetickers() {
	snapshot := g.d.snapshot.Load()
	if snapshot == nil {
		return
	}
	for i := range snapshot.Sources {
		report := &snapshot.Sources[i]
		for _, e := range g.entries {
			for _, r := range e.members {
				if r.id == report.Source {
					e.countFalse(r.id, report)
				}
			}
		}
	}
}

// countFalse counts samples, not looks: a source polled seldom is not judged sooner.
func (e *entry) countFalse(id model.SourceID, report *model.SourceReport) {
	if report.State != model.StateFalseticker {
		delete(e.falseRuns, id)
		delete(e.falseSamples, id)
		return
	}
	if e.falseSamples[id] != report.Samples {
		e.falseSamples[id] = report.Samples
		e.falseRuns[id]++
	}
}
