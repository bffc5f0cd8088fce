package simulate

import (
	"net/netip"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/virtual"
)

// core is one life of the NTP core on a machine: the daemon's engine, driven in virtual
// time. What it is told comes from the machine's clock and from packets; the true time is
// not among it.
type core struct {
	m       *machine
	set     *engine.Associations
	system  *engine.SystemProcess
	members []*member
	clocks  []*refclock
	server  *server // nil: mode 3 is not answered
	keys    *mac.KeyRing
	random  virtual.Stream
	started ntptime.Raw

	snapshot *model.Snapshot
	changes  engine.Changes
	present  ntptime.Instant // what the clock reads in the present turn
	busy     bool            // the system process is at work: what it brings forth waits
}

// member is one association and what the driver keeps beside it.
type member struct {
	c       *core
	process *engine.PeerProcess
	*engine.Association
	port    uint16 // the port of the last request in mode 3
	seeking bool   // a key exchange is wanted
	changed bool   // its status is to be told to the system process
	ended   bool
}

// ntpPort is the daemon's port (RFC 5905 §7.2).
const ntpPort = 123

// boot starts the core on a machine as its configuration has it.
func boot(m *machine) program {
	now := m.timestamp()
	keys, err := engine.Keys(m.config)
	if err != nil {
		panic("simulate: keys of a checked configuration: " + err.Error())
	}
	host := m.engineHost()
	policy := engine.Policy(m.config, keys, host, 0)
	c := &core{m: m, present: now, started: now.Raw, keys: keys, random: virtual.NewStream(m.world.seed, "core "+m.host.Name)}
	c.system = engine.NewSystemProcess(engine.System(m.config, host), c, now)
	c.serveBy(m.config, policy)
	setup := engine.Setup{Config: m.config, Keys: keys, Access: policy.Access}
	c.set = engine.NewAssociations(setup, host, engine.UsualTiming, c.statusOf)
	c.set.Start(now.Raw, &c.changes)
	c.carryOut(now)
	c.set.StartSenders(now.Raw, &c.changes)
	c.carryOut(now)
	m.tendLater(engine.UsualTiming.Tend)
	c.beginReplays(now)
	return c
}

// tend looks after pools and names, as the daemon does now and then.
func (c *core) tend(now ntptime.Instant) {
	c.present = now
	c.set.Tend(now.Raw, c.snapshot, &c.changes)
	c.carryOut(now)
	c.m.tendLater(engine.UsualTiming.Tend)
}

// reload takes another configuration, as the daemon does on SIGHUP.
func (c *core) reload(next *config.Config, now ntptime.Instant) {
	c.present = now
	keys, err := engine.Keys(next)
	if err != nil {
		panic("simulate: keys of a checked configuration: " + err.Error())
	}
	host := c.m.engineHost()
	policy := engine.Policy(next, keys, host, now.Raw.Sub(c.started))
	setup := engine.Setup{Config: next, Keys: keys, Access: policy.Access}
	plan := config.Diff(c.set.Config, next)
	c.keys = keys
	c.serveBy(next, policy)
	c.set.Reload(&plan, setup, now.Raw, &c.changes)
	c.carryOut(now)
	c.system.Reconfigure(engine.System(next, host), now)
}

func (c *core) statusOf(id model.SourceID) *model.SourceStatus {
	if a := c.member(id); a != nil {
		status := a.process.Status()
		return &status
	}
	return nil
}

// carryOut does what the set of associations wants, by the engine's contract. Names are
// those of hosts, and resolve at once.
func (c *core) carryOut(now ntptime.Instant) {
	for c.changes.Any() {
		changes := c.changes
		c.changes = engine.Changes{}
		for _, id := range changes.Stop {
			c.remove(id, now)
		}
		for _, rc := range changes.StartClock {
			c.addClock(now, rc)
		}
		for _, a := range changes.Start {
			c.add(now, a)
		}
		for _, a := range changes.Options {
			c.system.AddSource(now, a.ID(), a.Options)
		}
		for _, name := range changes.Resolve {
			c.set.Resolved(name, []netip.Addr{c.m.addressOf(name)}, now.Raw, &c.changes)
		}
		if changes.Idle {
			c.system.SetIdle(c.set.Idle(now.Raw), now)
		}
	}
}

// add mobilizes an association. One that only sends is no source of the system process.
func (c *core) add(now ntptime.Instant, a *engine.Association) {
	member := &member{c: c, Association: a}
	member.process = engine.NewPeerProcess(a.Config, member, now, c.random)
	c.members = append(c.members, member)
	if a.IsSource() {
		c.system.AddSource(now, a.ID(), a.Options)
	}
}

// remove forgets an association.
func (c *core) remove(id model.SourceID, now ntptime.Instant) {
	for i, r := range c.clocks {
		if r.ID() == id {
			c.clocks = append(c.clocks[:i], c.clocks[i+1:]...)
			c.toSystem(func() { c.system.RemoveSource(now, id) })
			return
		}
	}
	for i, a := range c.members {
		if a.ID() == id {
			c.members = append(c.members[:i], c.members[i+1:]...)
			c.toSystem(func() { c.system.RemoveSource(now, id) })
			return
		}
	}
}

func (c *core) deadline() ntptime.Raw {
	due := c.system.Deadline()
	for _, a := range c.members {
		due = min(due, a.process.Deadline())
	}
	for _, r := range c.clocks {
		due = min(due, r.process.Deadline())
	}
	return due
}

func (c *core) timer(now ntptime.Instant) {
	c.present = now
	for i := 0; i < len(c.members); i++ {
		if a := c.members[i]; a.process.Deadline() <= now.Raw {
			a.process.OnTimer(now, c.snapshot)
			c.bury(now)
		}
	}
	c.exchangeKeys(now)
	for _, r := range c.clocks {
		if r.process.Deadline() <= now.Raw {
			r.poll(now)
		}
	}
	if c.system.Deadline() <= now.Raw {
		c.toSystem(func() { c.system.OnTimer(now) })
	}
}

// toSystem calls the system process, and then tells it the status of the associations
// whose clock it has changed.
func (c *core) toSystem(call func()) {
	c.busy = true
	call()
	for again := true; again; {
		again = false
		for _, a := range c.members {
			if a.changed {
				a.changed, again = false, true
				status := a.process.Status()
				c.system.OnStatus(c.present, &status)
			}
		}
	}
	c.busy = false
}

// bury forgets the associations that have ended.
func (c *core) bury(now ntptime.Instant) {
	for i := 0; i < len(c.members); i++ {
		if a := c.members[i]; a.ended {
			c.set.Ended(a.ID(), now.Raw, &c.changes)
			c.remove(a.ID(), now)
			i--
		}
	}
	c.carryOut(now)
}

// Send sends a packet: a machine of the simulation has no delay of its own, so the
// timestamp is exact but for its clock.
func (a *member) Send(t *association.Transmit) (ntptime.Instant, model.TimestampKind, error) {
	port := uint16(ntpPort)
	if t.FreshPort {
		a.port = 49152 + uint16(a.c.random.Uint64()>>50) // one of the 16384 ephemeral ports (RFC 6335 §6)
		port = a.port
	}
	a.c.m.send(port, t.To, t.Data)
	return a.c.m.timestamp(), model.TimestampKernel, nil
}

// Record keeps an event for the report.
func (a *member) Record(e model.Event) { a.c.Record(e) }

// Sample hands a measurement to the system process.
func (a *member) Sample(sample *model.Sample) {
	a.c.toSystem(func() { a.c.system.OnSample(a.c.present, sample) })
}

// Status tells the system process what the association knows of itself.
func (a *member) Status(status *model.SourceStatus) {
	switch {
	case !a.IsSource():
	case a.c.busy:
		a.changed = true
	default:
		a.c.toSystem(func() { a.c.system.OnStatus(a.c.present, status) })
	}
}

// Ended marks the association for burial.
func (a *member) Ended() { a.ended = true }

// Apply corrects the machine's clock.
func (c *core) Apply(correction model.Correction) model.Applied {
	applied := c.m.apply(correction)
	c.present = applied.At
	return applied
}

// Hint tells an association how to poll.
func (c *core) Hint(hint model.Hint) {
	if a := c.member(hint.Source); a != nil {
		a.process.OnHint(hint, c.present)
	}
}

// ClockChanged makes every association drop its pending exchange: its T1 was read
// from a clock that is no more.
func (c *core) ClockChanged(at ntptime.Instant) {
	c.present = at
	for _, a := range c.members {
		a.process.OnClockChanged(at)
	}
	for _, r := range c.clocks {
		r.process.OnClockChanged(at)
	}
}

// Record keeps an event for the report.
func (c *core) Record(e model.Event) {
	if len(c.m.events) < maxEvents {
		c.m.events = append(c.m.events, Happened{time.Duration(c.m.world.now), e})
	}
}

// CloseGate writes on the machine's disk that the panic gate has been used.
func (c *core) CloseGate() { c.m.memory.gateUsed = true }

// Publish makes a state visible to the server, the associations and the statistics.
func (c *core) Publish(s *model.Snapshot) {
	c.snapshot = s
	c.m.stats.bound = bound{
		valid: s.Synchronized && s.ErrorBound < model.UnknownBound, at: c.m.world.now, value: s.ErrorBound.Seconds(), rate: float64(s.DispersionRate),
	}
	if c.server != nil {
		c.server.publish(s)
	}
}

func (c *core) member(id model.SourceID) *member {
	for _, a := range c.members {
		if a.ID() == id {
			return a
		}
	}
	return nil
}

func (c *core) jumped(by, slept time.Duration, now ntptime.Instant) {
	c.present = now
	c.toSystem(func() { c.system.OnClockJump(model.ClockJump{At: now, By: by, Slept: slept}) })
}

// leaped tells the core that the kernel has made the leap second that it was armed for.
func (c *core) leaped(step time.Duration, before ntptime.Wall, now ntptime.Instant) {
	c.present = now
	applied := model.Applied{
		At: now, BeforeWall: before, Rate: ntptime.Frequency(c.m.clock.Frequency + c.m.clock.Slew),
		Correction: model.Correction{
			Step: step, Frequency: ntptime.Frequency(c.m.clock.Frequency), Slew: ntptime.Frequency(c.m.clock.Slew),
		},
	}
	c.toSystem(func() { c.system.OnLeapDone(applied) })
}

func (c *core) report(now ntptime.Instant) *model.Snapshot { return c.system.Snapshot(now) }

// stop leaves behind what the daemon's files would hold.
func (c *core) stop() {
	s := c.system.Snapshot(c.m.timestamp())
	if frequency, uncertainty := engine.Drift(s); uncertainty > 0 {
		c.m.memory.frequency, c.m.memory.frequencyError = frequency, uncertainty
	}
	if last := engine.LastTime(s); last != 0 {
		c.m.memory.lastTime = last
	}
	c.m.stats.bound.valid = false
}
