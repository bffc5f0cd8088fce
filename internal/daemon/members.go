package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

// cryptoRandom draws from the system's generator: cookies must not be guessable.
type cryptoRandom struct{}

func (cryptoRandom) Uint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand ends the process instead)
	return binary.BigEndian.Uint64(b[:])
}

// startMember mobilizes an association of an entry with one address.
func (g *registry) startMember(e *entry, addr netip.Addr) *runner {
	s := &e.source
	kind := association.KindClient
	if s.Kind == config.Peer {
		kind = association.KindActive
	}
	r := g.newRunner(association.Config{
		Name:        s.Name(),
		Kind:        kind,
		Remote:      netip.AddrPortFrom(addr, s.Port),
		Local:       s.SourceAddress,
		Interface:   s.Interface,
		Version:     s.Version,
		MinPoll:     ntptime.Log2(s.MinPoll),
		MaxPoll:     ntptime.Log2(s.MaxPoll),
		IBurst:      s.IBurst,
		Burst:       s.Burst,
		Key:         g.key(s.Key),
		Interleaved: interleave(s.Interleaved),
		MaxDelay:    s.MaxDelay,
	})
	if kind == association.KindActive {
		g.dynamic[dynamicKey{remote: r.remote}] = r
	}
	g.launch(r, engine.SourceOptions(s))
	return r
}

// stopMember ends an association of an entry.
func (g *registry) stopMember(e *entry, r *runner) {
	e.drop(r, g.d.clock.Now().Raw)
	g.stop(r)
}

func interleave(i config.Interleaved) association.Interleave {
	switch i {
	case config.InterleavedOn:
		return association.InterleaveOn
	case config.InterleavedAuto:
		return association.InterleaveAuto
	}
	return association.InterleaveOff
}

// key finds a configured key; the configuration has been checked, so an id that is
// not 0 has one.
func (g *registry) key(id uint32) *mac.Key {
	if id == 0 {
		return nil
	}
	return g.d.keys.Load().Key(id)
}

// keyID is the id of a key, 0 for none.
func keyID(k *mac.Key) uint32 {
	if k == nil {
		return 0
	}
	return k.ID()
}

// newRunner makes an association with its channels. It does not run yet.
func (g *registry) newRunner(cfg association.Config) *runner {
	g.nextID++
	cfg.ID = g.nextID
	if bound := g.d.boundAddress(); !cfg.Local.IsValid() && bound.Is4() == cfg.Remote.Addr().Is4() {
		cfg.Local = bound
	}
	cfg.PivotFloor = g.d.state.floor
	cfg.InterfaceIndex = interfaceIndex(cfg.Interface)
	r := &runner{
		id:       cfg.ID,
		name:     cfg.Name,
		kind:     cfg.Kind,
		key:      keyID(cfg.Key),
		remote:   cfg.Remote,
		assoc:    association.New(cfg, g.d.clock.Now(), cryptoRandom{}),
		clock:    g.d.clock,
		snapshot: &g.d.snapshot,
		steering: newSteering(),
		packets:  make(chan arrival, packetQueue),
		stamps:   make(chan transmitted, packetQueue),
		orders:   make(chan order, orderQueue),
		system:   g.d.system.inbox,
		port:     g.d.ports,
		client: netio.ClientConfig{
			Remote: cfg.Remote, Local: cfg.Local, Interface: cfg.Interface, Clock: g.d.netClock(), Hardware: g.d.hardware,
		},
		group:  g.d.group,
		log:    g.d.log,
		onDone: g.ended,
	}
	name := nameWithAddress(r.name, r.remote)
	r.onEvent = func(e model.Event) { g.d.logEvent(e, name) }
	return r
}

// launch makes the system process know the source, and starts its goroutine.
func (g *registry) launch(r *runner, options system.SourceOptions) {
	ctx, cancel := context.WithCancel(g.d.group.ctx)
	r.cancel = cancel
	g.runners[r.id] = r
	select {
	case g.d.system.inbox <- addSource{r.id, options, r.steering}:
	case <-ctx.Done():
		return
	}
	g.d.group.Go("association "+r.name, func(context.Context) error { return r.run(ctx) })
}

// launchSender starts a broadcast sender: it is no source, so the system process does
// not hear of it.
func (g *registry) launchSender(r *runner) {
	ctx, cancel := context.WithCancel(g.d.group.ctx)
	r.cancel, r.system = cancel, nil
	g.runners[r.id] = r
	g.d.group.Go(r.name, func(context.Context) error { return r.run(ctx) })
}

// stop ends an association and makes the system process forget it.
func (g *registry) stop(r *runner) {
	r.cancel()
	delete(g.runners, r.id)
	if r.onEnd != nil {
		r.onEnd()
	}
	for key, other := range g.dynamic { //order: at most one is deleted
		if other == r {
			delete(g.dynamic, key)
		}
	}
	if r.system == nil {
		return
	}
	select {
	case g.d.system.inbox <- removeSource{r.id}:
	case <-g.d.group.ctx.Done():
	}
}

// ended is called on an association's goroutine when it has demobilized itself.
func (g *registry) ended(r *runner) {
	g.tell(g.d.group.ctx, func(g *registry) {
		if g.runners[r.id] != r {
			return
		}
		for _, e := range g.entries {
			for _, m := range e.members {
				if m == r {
					e.drop(r, g.d.clock.Now().Raw)
				}
			}
		}
		g.stop(r)
	})
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
func (d *Daemon) netClock() netio.Clock {
	return netio.Clock{Now: d.clock.Quick, At: d.clock.At, AtLatest: d.clock.AtLatest}
}
