package simulate

import (
	"net/netip"
	"time"

	"timeball/internal/association"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// core is one life of the NTP core on a machine: the daemon's association, system
// and responder, driven in virtual time. What it is told comes from the machine's
// clock and from packets; the true time is not among it.
type core struct {
	m       *machine
	system  *system.System
	members []*member
	nextID  model.SourceID
	server  *server // nil: mode 3 is not answered
	keys    *mac.KeyRing
	signer  mac.Signer
	random  stream

	snapshot *model.Snapshot
	out      association.Output
	changed  association.Output // of OnClockChanged, while out is still being read
	sysOut   system.Output
	packet   wire.Packet
}

// member is one association and what the driver keeps beside it.
type member struct {
	id      model.SourceID
	assoc   *association.Association
	kind    association.Kind
	remote  netip.AddrPort
	port    uint16 // the port of the last request in mode 3
	dynamic bool
	changed bool // its status is to be told to the system process
}

// ntpPort is the daemon's port (RFC 5905 §7.2).
const ntpPort = 123

// boot starts the core on a machine as its configuration has it.
func boot(m *machine) program {
	now := m.stamp()
	keys, err := engine.Keys(m.host.Config)
	if err != nil {
		panic("simulate: keys of a checked configuration: " + err.Error())
	}
	c := &core{
		m: m, keys: keys, random: newStream(m.world.seed, "core "+m.host.Name),
		system: system.New(engine.System(m.host.Config, m.engineHost()), now),
	}
	if m.host.Config.Server != nil {
		c.server = newServer(c, now.Raw)
	}
	c.publish(now)
	for i := range m.host.Config.Sources {
		if cfg, client := m.associationOf(&m.host.Config.Sources[i], c.keys); client {
			c.add(now, cfg, engine.SourceOptions(&m.host.Config.Sources[i]))
		}
	}
	for _, cfg := range m.broadcasters(c.keys) {
		c.add(now, cfg, system.SourceOptions{NoSelect: true})
	}
	return c
}

// add mobilizes an association. One that only sends is no source of the system process.
func (c *core) add(now ntptime.Instant, cfg association.Config, options system.SourceOptions) *member {
	c.nextID++
	cfg.ID = c.nextID
	a := &member{id: cfg.ID, kind: cfg.Kind, remote: cfg.Remote, dynamic: cfg.Dynamic}
	a.assoc = association.New(cfg, now, c.random)
	c.members = append(c.members, a)
	if cfg.Kind != association.KindBroadcastServer {
		c.system.AddSource(now, cfg.ID, options)
	}
	return a
}

func (c *core) deadline() ntptime.Raw {
	due := c.system.Deadline()
	for _, a := range c.members {
		due = min(due, a.assoc.Deadline())
	}
	return due
}

func (c *core) timer(now ntptime.Instant) {
	for i := 0; i < len(c.members); i++ {
		if a := c.members[i]; a.assoc.Deadline() <= now.Raw {
			c.begin(a)
			a.assoc.OnTimer(now, &c.out)
			c.end(a, now)
		}
	}
	if c.system.Deadline() <= now.Raw {
		c.sysOut.Reset()
		c.system.OnTimer(now, &c.sysOut)
		c.finish(now)
	}
}

// begin empties the output and shows the association the present system state.
func (c *core) begin(a *member) {
	c.out.Reset()
	a.assoc.OnSystem(c.snapshot)
}

// end carries out what an association wants: packets first, then what the system
// process is to know.
func (c *core) end(a *member, now ntptime.Instant) {
	for i := range c.out.Transmit {
		c.transmit(a, &c.out.Transmit[i])
	}
	c.note(c.out.Events)
	if c.out.HasSample {
		c.sysOut.Reset()
		c.system.OnSample(now, &c.out.Sample, &c.sysOut)
		c.finish(now)
	}
	if c.out.StatusChanged && a.kind != association.KindBroadcastServer {
		c.sysOut.Reset()
		c.system.OnStatus(now, a.assoc.Status(), &c.sysOut)
		c.finish(now)
	}
	if c.out.Done {
		c.remove(a, now)
	}
}

// transmit sends a packet and tells the association when it left: a machine of the
// simulation has no delay of its own, so the stamp is exact but for its clock.
func (c *core) transmit(a *member, t *association.Transmit) {
	port := uint16(ntpPort)
	if t.FreshPort {
		a.port = 49152 + uint16(c.random.Uint64()>>50) // one of the 16384 ephemeral ports (RFC 6335 §6)
		port = a.port
	}
	c.m.send(port, t.To, t.Data)
	a.assoc.OnTransmitted(t.ID, c.m.stamp(), model.StampKernel)
}

// remove demobilizes an association that has ended.
func (c *core) remove(a *member, now ntptime.Instant) {
	for i, other := range c.members {
		if other == a {
			c.members = append(c.members[:i], c.members[i+1:]...)
			break
		}
	}
	c.sysOut.Reset()
	c.system.RemoveSource(now, a.id, &c.sysOut)
	c.finish(now)
}

// finish carries out what the system process wants. Applying a correction may bring
// forth another, so it goes round until nothing is left.
func (c *core) finish(now ntptime.Instant) {
	changed := false
	for {
		for _, hint := range c.sysOut.Hints {
			if a := c.member(hint.Source); a != nil {
				a.assoc.OnHint(hint, now)
			}
		}
		c.note(c.sysOut.Events)
		if c.sysOut.GateUsed {
			c.m.memory.gateUsed = true
		}
		changed = changed || c.sysOut.Changed || c.sysOut.HasCorrection
		if !c.sysOut.HasCorrection {
			if c.tellStatus(now) {
				continue
			}
			break
		}
		applied := c.m.apply(c.sysOut.Correction)
		if applied.Correction.Step != 0 {
			c.clockChanged(applied.At)
		}
		now = applied.At
		c.sysOut.Reset()
		c.system.OnApplied(applied, &c.sysOut)
	}
	if changed {
		c.publish(now)
	}
}

// tellStatus hands on the status of the next association whose clock has changed.
func (c *core) tellStatus(now ntptime.Instant) bool {
	for _, a := range c.members {
		if a.changed && a.kind != association.KindBroadcastServer {
			a.changed = false
			c.sysOut.Reset()
			c.system.OnStatus(now, a.assoc.Status(), &c.sysOut)
			return true
		}
	}
	return false
}

// note keeps the events for the report.
func (c *core) note(events []model.Event) {
	for _, e := range events {
		if len(c.m.events) < maxEvents {
			c.m.events = append(c.m.events, Happened{time.Duration(c.m.world.now), e})
		}
	}
}

func (c *core) member(id model.SourceID) *member {
	for _, a := range c.members {
		if a.id == id {
			return a
		}
	}
	return nil
}

// clockChanged makes every association drop its pending exchange: its T1 was read
// from a clock that is no more.
func (c *core) clockChanged(now ntptime.Instant) {
	for _, a := range c.members {
		c.changed.Reset()
		a.assoc.OnClockChanged(now, &c.changed)
		a.changed = a.changed || c.changed.StatusChanged
		for i := range c.changed.Transmit {
			c.transmit(a, &c.changed.Transmit[i])
		}
	}
}

// publish makes the present state visible to the server, the associations and the
// statistics.
func (c *core) publish(now ntptime.Instant) {
	c.snapshot = c.system.Snapshot(now)
	s := c.snapshot
	c.m.stats.bound = bound{
		valid: s.Synchronized, at: c.m.world.now, value: s.ErrorBound.Seconds(), rate: float64(s.DispersionRate),
	}
	if c.server != nil {
		c.server.publish(s)
	}
}

func (c *core) jumped(by, slept time.Duration, now ntptime.Instant) {
	c.clockChanged(now)
	c.sysOut.Reset()
	c.system.OnClockJump(model.ClockJump{At: now, By: by, Slept: slept}, &c.sysOut)
	c.finish(now)
}

// leaped tells the core that the kernel has made the leap second that it was armed for.
func (c *core) leaped(step time.Duration, before ntptime.Wall, now ntptime.Instant) {
	applied := model.Applied{
		At: now, BeforeWall: before, Rate: ntptime.Frequency(c.m.clock.frequency + c.m.clock.slew),
		Correction: model.Correction{
			Step: step, Frequency: ntptime.Frequency(c.m.clock.frequency), Slew: ntptime.Frequency(c.m.clock.slew),
		},
	}
	c.clockChanged(now)
	c.sysOut.Reset()
	c.system.OnApplied(applied, &c.sysOut)
	c.finish(now)
	c.publish(now)
}

func (c *core) report(now ntptime.Instant) *model.Snapshot { return c.system.Snapshot(now) }

// worthKeeping is the frequency error below which the daemon writes its drift file.
const worthKeeping = 10 * ntptime.PPM

// stop leaves behind what the daemon's files would hold.
func (c *core) stop() {
	s := c.system.Snapshot(c.m.stamp())
	if s.Updates > 0 && s.FrequencyError > 0 && s.FrequencyError < worthKeeping {
		c.m.memory.frequency, c.m.memory.frequencyError, c.m.memory.hasDrift = s.Frequency, s.FrequencyError, true
	}
	c.m.stats.bound.valid = false
}
