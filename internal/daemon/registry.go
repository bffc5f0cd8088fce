package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/resolve"
	"timeball/internal/responder"
)

// registry is the goroutine that owns the set of associations: it starts and stops what
// the engine says, hands on what comes to the NTP port, and looks names up. Everything
// that changes the set goes through its inbox.
type registry struct {
	*parts
	config    *config.Config
	timing    engine.Timing
	set       *engine.Associations
	runners   map[model.SourceID]*runner
	receivers map[model.SourceID]*receiver // reference clocks
	changes   engine.Changes
	inbox     chan func(*registry) // senders wait, until their context or the daemon ends
	arrived   chan model.Received  // from port 123, modes 1, 2, 4 and 5; full: dropped and counted
}

func newRegistry(p *parts, cfg *config.Config) *registry {
	return &registry{
		parts:     p,
		config:    cfg,
		timing:    engine.UsualTiming,
		runners:   map[model.SourceID]*runner{},
		receivers: map[model.SourceID]*receiver{},
		inbox:     make(chan func(*registry), 64),
		arrived:   make(chan model.Received, 256),
	}
}

// run is the goroutine; it ends with ctx, and the look-ups with it.
func (g *registry) run(ctx context.Context) error {
	defer g.resolver.Close()
	ticker := time.NewTicker(g.timing.Tend)
	defer ticker.Stop()
	g.start()
	for {
		select {
		case <-ctx.Done():
			return nil
		case task := <-g.inbox:
			task(g)
		case rx := <-g.arrived:
			g.route(&rx)
		case result := <-g.resolver.Results():
			g.resolved(result)
		case <-ticker.C:
			g.tendAll()
		}
	}
}

// ask runs task on the registry's goroutine and waits for it.
func (g *registry) ask(ctx context.Context, task func(*registry)) error {
	done := make(chan struct{})
	stopped := g.group.ctx.Done()
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

// setup is what the set of associations rests on.
func (g *registry) setup(cfg *config.Config, keys *mac.KeyRing) engine.Setup {
	return engine.Setup{Config: cfg, Keys: keys, Access: g.policy.Load().Access}
}

// start mobilizes everything that the configuration names.
func (g *registry) start() {
	g.set = engine.NewAssociations(g.setup(g.config, g.keys.Load()), g.host(), g.timing, g.statusOf)
	g.listenToGroups(nil, g.config)
	g.setTTLs()
	now := g.clock.Now().Raw
	g.set.Start(now, &g.changes)
	g.set.StartSenders(now, &g.changes)
	g.carryOut()
}

// statusOf is what an association has last told of itself, nil: nothing yet.
func (g *registry) statusOf(id model.SourceID) *model.SourceStatus {
	if r := g.runners[id]; r != nil {
		return r.latest.Load()
	}
	return nil
}

// tendAll looks after addresses, groups, names and members.
func (g *registry) tendAll() {
	g.endSilence(g.config)
	g.lookAtAddresses()
	g.set.SetHost(g.host())
	g.set.Tend(g.clock.Now().Raw, g.snapshot.Load(), &g.changes)
	g.carryOut()
}

// interfacesChanged takes over that interfaces or addresses have come or gone: our own
// addresses, by which loops are found, and the interfaces that listening sources name.
func (g *registry) interfacesChanged() {
	g.setAddresses()
	g.tendAll()
	g.reconfigure()
}

// reconfigure shows the system process the present settings.
func (g *registry) reconfigure() { g.toSystem(reconfigure{engine.System(g.config, g.host())}) }

// toSystem hands a message to the system process.
func (g *registry) toSystem(message systemMessage) {
	select {
	case g.system.inbox <- message:
	case <-g.group.ctx.Done():
	}
}

// carryOut does what the set of associations wants, by the engine's contract.
func (g *registry) carryOut() {
	for _, replaced := range g.changes.Replaced {
		g.log.Info("source replaced", zap.String("source", replaced.Name), zap.Stringer("address", replaced.Address),
			zap.String("reason", replaced.Why))
	}
	for _, id := range g.changes.Stop {
		if r := g.runners[id]; r != nil {
			g.stop(r)
		}
		if r := g.receivers[id]; r != nil {
			g.stopReceiver(r)
		}
	}
	g.launchReceivers(g.changes.StartClock)
	for _, a := range g.changes.Start {
		g.launch(g.newRunner(a), a)
	}
	for _, a := range g.changes.Options {
		if r := g.runners[a.ID()]; r != nil {
			g.toSystem(addSource{r.id, a.Options, r.steering})
		}
	}
	for _, name := range g.changes.Forget { // before Resolve: a line that has changed may name the same
		g.resolver.Forget(name)
	}
	for _, name := range g.changes.Resolve {
		g.resolver.Resolve(name)
	}
	if g.changes.Idle {
		g.toSystem(setIdle{g.set.Idle(g.clock.Now().Raw)})
	}
	g.changes.Reset()
}

// resolved takes one outcome of a look-up. The resolver tries until there is an answer.
func (g *registry) resolved(result resolve.Result) {
	now := g.clock.Now().Raw
	if result.Err != nil {
		g.log.Warn("name not resolved; will try again", zap.String("name", result.Name),
			zap.Duration("in", result.Retry), zap.Error(result.Err))
		g.set.NotResolved(result.Name, result.Err.Error(), result.Retry, now, &g.changes)
	} else {
		g.set.Resolved(result.Name, result.Addresses, now, &g.changes)
	}
	g.carryOut()
}

// route gives a packet of mode 1, 2, 4 or 5 to its association, or to the responder.
func (g *registry) route(rx *model.Received) {
	decision := g.set.Route(rx, g.clock.Now().Raw, &g.changes)
	g.carryOut()
	if decision.Action == engine.Deliver {
		if r := g.runners[decision.Association.ID()]; r != nil {
			g.ports.Count(rx, r.take(rx))
		} else {
			g.ports.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonNoAssociation})
		}
		return
	}
	if line := g.log.Check(zap.DebugLevel, "no association for a packet"); line != nil {
		line.Write(zap.Stringer("address", rx.Remote), zap.String("reason", decision.Why))
	}
	switch {
	case decision.Action == engine.Answer:
		g.ports.Answer(rx)
	case decision.Malformed:
		g.ports.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonMalformed})
	default:
		g.ports.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonNoAssociation})
	}
}

// newRunner makes an association with its channels. It does not run yet.
func (g *registry) newRunner(a *engine.Association) *runner {
	cfg := &a.Config
	r := &runner{
		id:         cfg.ID,
		name:       cfg.Name,
		remote:     cfg.Remote,
		clock:      g.clock,
		snapshot:   &g.snapshot,
		steering:   newSteering(),
		packets:    make(chan model.Received, packetQueue),
		timestamps: make(chan transmitted, packetQueue),
		orders:     make(chan order, orderQueue),
		keys:       make(chan keyOutcome),
		seeker:     g.newKeySeeker(a.Source, cfg),
		port:       g.ports,
		client: netio.ClientConfig{
			Remote: cfg.Remote, Local: cfg.Local, Interface: cfg.Interface, Clock: g.netClock(), Hardware: g.hardware,
		},
		group:  g.group,
		log:    g.log,
		onDone: g.ended,
	}
	if a.IsSource() {
		r.system = g.system.inbox
	}
	name := nameWithAddress(r.name, r.remote)
	r.onEvent = func(e model.Event) { g.logEvent(e, name) }
	r.process = engine.NewPeerProcess(*cfg, r, g.clock.Now(), cryptoRandom{})
	if r.seeker != nil {
		r.kept, r.client.Remote = g.kept, r.process.Status().Address
	}
	return r
}

// launch makes the system process know the source, and starts its goroutine.
func (g *registry) launch(r *runner, a *engine.Association) {
	ctx, cancel := context.WithCancel(g.group.ctx)
	r.cancel = cancel
	g.runners[r.id] = r
	if a.IsSource() {
		g.toSystem(addSource{r.id, a.Options, r.steering})
	}
	g.group.Go("association "+r.name, func(context.Context) error { return r.run(ctx) })
}

// stop ends an association and makes the system process forget it.
func (g *registry) stop(r *runner) {
	r.cancel()
	delete(g.runners, r.id)
	if r.system != nil {
		g.toSystem(removeSource{r.id})
	}
}

// ended is called on an association's goroutine when it has demobilized itself.
func (g *registry) ended(r *runner) {
	g.tell(g.group.ctx, func(g *registry) {
		if g.runners[r.id] != r {
			return
		}
		g.set.Ended(r.id, g.clock.Now().Raw, &g.changes)
		g.stop(r)
		g.carryOut()
	})
}

// reload makes the set of associations that of a new configuration.
func (g *registry) reload(plan *config.Plan, next *config.Config, keys *mac.KeyRing) {
	g.listenToGroups(g.config, next)
	g.config = next
	g.setTTLs()
	g.set.SetHost(g.host())
	g.set.Reload(plan, g.setup(next, keys), g.clock.Now().Raw, &g.changes)
	g.carryOut()
	g.tendAll()
}

// sent counts the packets of the broadcast and multicast servers, and gives their states.
func (g *registry) senderStates() (states []*model.SourceStatus) {
	for _, a := range g.set.Senders() {
		if status := g.statusOf(a.ID()); status != nil {
			states = append(states, status)
		}
	}
	return states
}

// cryptoRandom draws from the system's generator: cookies must not be guessable.
type cryptoRandom struct{}

func (cryptoRandom) Uint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand ends the process instead)
	return binary.BigEndian.Uint64(b[:])
}

// interfaceIndex is 0 for no interface, and for one that is not there (yet).
func interfaceIndex(name string) int {
	if name == "" {
		return 0
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return i.Index
}

// netClock is the daemon's clock as the sockets see it.
func (d *parts) netClock() netio.Clock {
	return netio.Clock{Now: d.clock.Quick, At: d.clock.At, AtLatest: d.clock.AtLatest}
}

var _ engine.PeerDriver = (*runner)(nil)
var _ association.Random = cryptoRandom{}
