package simulate

import (
	"math"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/reference"
	"timeball/internal/wire"
)

// Receiver is a device of a host: what a reference clock of its configuration, which has
// the same reference id, reads there.
type Receiver struct {
	RefID    string
	Interval time.Duration // between readings, > 0
	Late     time.Duration // from what is told to the telling of it
	Jitter   []Jitter      // of the telling, summed
	Loss     float64       // probability of each reading not to come
	Pulse    bool          // tells where a second begins, and not which
	Line     int
	Column   int
}

func (r *reader) receiver(n *yaml.Node, path string) Receiver {
	d := Receiver{Interval: time.Second, Line: n.Line, Column: n.Column}
	var p Path
	r.mapping(n, path, []field{
		{"refid", r.words(&d.RefID, "a reference id")},
		{"interval", r.duration(&d.Interval, time.Millisecond, time.Hour)},
		{"late", r.duration(&d.Late, 0, time.Minute)},
		{"jitter", func(n *yaml.Node, path string) { r.jitters(n, path, &p) }},
		{"loss", r.number(&d.Loss, 0, 1)},
		{"pulse", func(n *yaml.Node, path string) { d.Pulse, _ = r.boolean(n, path) }},
	})
	if d.RefID == "" {
		r.fail(n, path, "has no refid; write that of the host's reference clock that reads it")
	}
	d.Jitter = p.Jitter
	return d
}

// checkReceivers finds devices that nobody reads.
func (r *reader) checkReceivers(s *Scenario) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		for j := range h.Receivers {
			d := &h.Receivers[j]
			read := false
			for k := range h.Config.Sources {
				c := h.Config.Sources[k].Refclock
				read = read || c != nil && c.RefID == d.RefID
			}
			if !read {
				r.fail(&yaml.Node{Line: d.Line, Column: d.Column}, "hosts."+h.Name+".receivers", "no refclock of this host has the refid %s", d.RefID)
			}
		}
	}
}

// receiver finds a device, nil if there is none.
func (h *Host) receiver(refid string) *Receiver {
	for i := range h.Receivers {
		if h.Receivers[i].RefID == refid {
			return &h.Receivers[i]
		}
	}
	return nil
}

// refclock is one reference clock of a core, with its device.
type refclock struct {
	c       *core
	process *engine.ReferenceProcess
	*engine.ReferenceClock
	device *Receiver // nil: there is none
	random stream
	locked *refclock // numbers its pulses
	next   int64     // number of the next reading
}

// addClock mobilizes a reference clock and waits for its device.
func (c *core) addClock(now ntptime.Instant, rc *engine.ReferenceClock) {
	r := &refclock{c: c, ReferenceClock: rc, random: newStream(c.m.world.seed, "receiver "+c.m.host.Name+" "+rc.Device.RefID)}
	r.device = c.m.host.receiver(rc.Device.RefID)
	r.process = engine.NewReferenceProcess(rc.Config, r, now)
	c.clocks = append(c.clocks, r)
	c.system.AddSource(now, rc.ID(), rc.Options)
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
		at += r.random.jitter(&d.Jitter[i])
	}
	m := r.c.m
	m.world.heap.push(happening{
		at: max(int64(math.Round(at)), m.world.now), kind: doReading, machine: m.index, generation: m.life, source: r.ID(),
	})
}

// reading lets a device tell its time.
func (m *machine) reading(e *happening) {
	c, is := m.program.(*core)
	if !is || e.generation != m.life {
		return
	}
	for _, r := range c.clocks {
		if r.ID() == e.source {
			c.present = m.stamp()
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
	scenario := r.c.m.world.scenario
	reading := reference.Reading{At: now, Reference: scenario.Start + ntptime.Wall(told+scenario.leapsBy(told)*second)}
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
