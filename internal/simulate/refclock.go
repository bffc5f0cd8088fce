package simulate

import (
	"math"

	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/reference"
	"timeball/internal/scenario"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// refclock is one reference clock of a core, with its device.
type refclock struct {
	c       *core
	process *engine.ReferenceProcess
	*engine.ReferenceClock
	device *scenario.Receiver // nil: there is none
	random virtual.Stream
	locked *refclock // numbers its pulses
	next   int64     // number of the next reading
}

// addClock mobilizes a reference clock and waits for its device.
func (c *core) addClock(now ntptime.Instant, rc *engine.ReferenceClock) {
	r := &refclock{c: c, ReferenceClock: rc, random: virtual.NewStream(c.m.world.seed, "receiver "+c.m.host.Name+" "+rc.Device.RefID)}
	r.device = c.m.host.Receiver(rc.Device.RefID)
	r.process = engine.NewReferenceProcess(rc.Config, r, now)
	c.clocks = append(c.clocks, r)
	c.system.AddSource(now, rc.ID(), rc.Options)
	r.process.Begin()
	if r.device != nil {
		r.next = c.m.world.now/int64(r.device.Interval) + 1
		r.await()
	}
}

// await waits for the next reading.
func (r *refclock) await() {
	d := r.device
	at := float64(r.next*int64(d.Interval) + int64(d.Late))
	for i := range d.Jitter {
		at += r.random.Jitter(&d.Jitter[i])
	}
	m := r.c.m
	m.world.events.Push(max(int64(math.Round(at)), m.world.now), happening{kind: doReading, machine: m.index, generation: m.life, source: r.ID()})
}

// reading lets a device tell its time.
func (m *machine) reading(e *happening) {
	c, is := m.program.(*core)
	if !is || e.generation != m.life {
		return
	}
	for _, r := range c.clocks {
		if r.ID() == e.source {
			c.present = m.timestamp()
			r.read(c.present)
			m.schedule()
			return
		}
	}
}

// read takes the reading that is due: what the device tells is when it should have told it.
func (r *refclock) read(now ntptime.Instant) {
	d := r.device
	told := r.next * int64(d.Interval)
	r.next++
	defer r.await()
	if d.Loss > 0 && r.random.Float64() < d.Loss || r.c.m.world.now < r.c.m.asleep {
		return
	}
	world := r.c.m.world.scenario
	reading := reference.Reading{At: now, Reference: world.Start + ntptime.Wall(told+leapsBy(world, told)*second)}
	if reading.Pulse = d.Pulse; d.Pulse { // only the place within the period is told
		reading.Reference = ntptime.Wall(int64(reading.Reference) % int64(r.Config.Period))
	}
	reading.Leap = wire.LeapNone
	lock := reference.Lock{At: ntptime.Never}
	if r.locked = r.c.clock(r.c.set.Locked(r.ReferenceClock)); r.locked != nil {
		lock = r.locked.process.Lock()
	}
	r.process.OnReading(&reading, lock, r.c.snapshot)
}

// poll ends a poll that is due.
func (r *refclock) poll(now ntptime.Instant) {
	if late, ok := r.process.Late(); ok && r.locked != nil {
		r.locked.process.OnBurst(late)
	}
	r.process.OnTimer(now, r.c.snapshot)
}

// clock finds the running form of a reference clock.
func (c *core) clock(of *engine.ReferenceClock) *refclock {
	for _, r := range c.clocks {
		if r.ReferenceClock == of {
			return r
		}
	}
	return nil
}

// Record keeps an event for the report.
func (r *refclock) Record(e model.Event) { r.c.Record(e) }

// Sample hands a measurement to the system process.
func (r *refclock) Sample(sample *model.Sample) {
	r.c.toSystem(func() { r.c.system.OnSample(r.c.present, sample) })
}

// Status tells the system process what the clock knows of itself.
func (r *refclock) Status(status *model.SourceStatus) {
	r.c.toSystem(func() { r.c.system.OnStatus(r.c.present, status) })
}
