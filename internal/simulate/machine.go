package simulate

import (
	"math"
	"net/netip"
	"time"

	"timeball/internal/config"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/internal/smear"
	"timeball/internal/virtual"
	"timeball/internal/wire"
)

// second is one in nanoseconds.
const second = int64(time.Second)

// rawOrigin is what the raw scale reads at the start: not zero, because a zero
// Instant stands for "never".
const rawOrigin = ntptime.Raw(time.Second)

// machine is one host: an oscillator, the clock steered over it, and the program
// that runs there. The program sees readings of the clocks and nothing else.
type machine struct {
	world   *world
	index   int
	host    *scenario.Host
	config  *config.Config // the program's file; a reload brings another
	address netip.Addr
	osc     *virtual.Oscillator
	clock   virtual.SteeredClock
	noise   virtual.Stream
	boot    func(*machine) program
	program program // nil while stopped

	suspended  time.Duration // that the raw scale stood still so far
	asleep     int64         // until when; packets are lost
	jump       time.Duration // made by somebody else and not yet noticed
	slept      time.Duration
	armed      wire.Leap
	due        ntptime.Raw // deadline that the timer is set for
	timerGen   uint32      // generation of the timer
	life       uint32      // counts the program's starts
	midnightAt uint32      // generation of the leap's timer
	stats      statistics
	smeared    *smear.Smear     // the time that it is to follow; nil: UTC
	record     *scenario.Record // that knows the true time of this machine, which is none of the world's; nil: none
	plain      plain
	marks      []mark
	events     []Happened
	memory     memory // what the program keeps on the machine's disk
}

// mark is something worth showing in a picture of the run.
type mark struct {
	at   int64
	what string
}

func newMachine(w *world, index int, address netip.Addr, series bool) *machine {
	h := &w.scenario.Hosts[index]
	var steps []scenario.Event
	for _, e := range w.scenario.Events {
		if e.Host == h.Name && (e.Kind == scenario.FrequencyStep || e.Kind == scenario.WanderChange) {
			steps = append(steps, e)
		}
	}
	m := &machine{
		world: w, index: index, host: h, config: h.Config, address: address,
		osc:    virtual.NewOscillator(h.Clock, steps, virtual.NewStream(w.seed, "oscillator "+h.Name)),
		clock:  virtual.SteeredClock{Ahead: -h.Clock.Offset.Seconds()},
		noise:  virtual.NewStream(w.seed, "reading "+h.Name),
		stats:  newStatistics(w.scenario, h.Name, series),
		record: truth(h),
		plain:  plain{stats: newStatistics(w.scenario, "", false)},
		due:    ntptime.Never,
	}
	if h.Smeared != nil {
		m.smeared = &smear.Smear{Leap: w.scenario.Leap.At, Delete: w.scenario.Leap.Delete, Window: h.Smeared.Window}
		if h.Smeared.Shape == config.SmearCosine {
			m.smeared.Shape = smear.Cosine
		}
	}
	m.stats.unknown = len(h.Replays) > 0 && m.record == nil
	return m
}

// begin starts the program at the present moment.
func (m *machine) begin() {
	m.life++
	m.program = m.boot(m)
	m.due = ntptime.Never
	m.schedule()
}

// advance moves the machine to true time t, drawing the frequency of each second it
// passes and taking the statistics right after the draw.
func (m *machine) advance(t int64) {
	o := m.osc
	for next := o.Next(); next <= t; next += second {
		o.Draw()
		raw := float64(next)*1e-9 + o.TimeError()
		rate := m.clock.Frequency + m.clock.Slew
		m.stats.sample(o.Second(), m.trueError(next, raw), (1+o.Frequency())*(1+rate)*(1-m.trueRate(next))-1)
		if m.record != nil {
			m.plain.sample(o.Second())
		}
	}
	o.Advance(t)
}

// raw is the oscillator's reading at t in seconds since the start, as if the machine
// had never slept. The oscillator must have been advanced to t.
func (m *machine) raw(t int64) float64 { return float64(t)*1e-9 + m.osc.TimeError() }

// trueError is the clock's reading minus the true time, in seconds.
func (m *machine) trueError(t int64, raw float64) float64 {
	x := m.osc.TimeError() + m.clock.At(raw)
	if m.record != nil {
		offset, _ := m.record.At(t)
		x -= offset
	}
	if m.clock.Leap != 0 || m.world.scenario.Leap != nil {
		x += float64(m.clock.Leap - leapsBy(m.world.scenario, t))
	}
	return x - m.smearAt(t)
}

// smearAt is what the time that the machine is to follow is ahead of UTC, in seconds.
func (m *machine) smearAt(t int64) float64 {
	if m.smeared == nil {
		return 0
	}
	leaps := leapsBy(m.world.scenario, t)
	return m.smeared.Offset(m.world.scenario.Start+ntptime.Wall(t+leaps*second), leaps != 0).Seconds()
}

// trueRate is by how much the true time of a record runs faster than its oscillator, or
// smeared time faster than UTC.
func (m *machine) trueRate(t int64) float64 {
	if m.smeared != nil {
		s := m.world.scenario
		return m.smearAt(t) - m.smearAt(t-second) + float64(leapsBy(s, t)-leapsBy(s, t-second))
	}
	if m.record == nil {
		return 0
	}
	_, rate := m.record.At(t)
	return rate
}

// leapsBy is the whole seconds by which UTC has been set back (−1) or forward (+1)
// at t since the start.
func leapsBy(s *scenario.Scenario, t int64) int64 {
	switch {
	case s.Leap == nil:
	case s.Leap.Delete && t >= int64(s.Leap.At-s.Start)-second:
		return 1
	case !s.Leap.Delete && t >= int64(s.Leap.At-s.Start):
		return -1
	}
	return 0
}

// read gives both readings of the clock now, each rounded to the nanosecond and
// without the noise of reading.
func (m *machine) read() ntptime.Instant {
	t := m.world.now
	m.advance(t)
	ahead := m.osc.TimeError() + m.clock.At(m.raw(t))
	return ntptime.Instant{
		Wall: m.world.scenario.Start + ntptime.Wall(t+m.clock.Leap*second) + ntptime.Wall(math.Round(ahead*1e9)),
		Raw:  rawOrigin + ntptime.Raw(t) + ntptime.Raw(math.Round(m.osc.TimeError()*1e9)) - ntptime.Raw(m.suspended),
	}
}

// timestamp is a reading as a program gets it: with the clock's noise of reading, the
// same on both scales.
func (m *machine) timestamp() ntptime.Instant {
	now := m.read()
	if deviation := m.host.Clock.ReadNoise; deviation > 0 {
		noise := time.Duration(math.Round(float64(deviation) * m.noise.NormFloat64()))
		now.Wall, now.Raw = now.Wall.Add(noise), now.Raw.Add(noise)
	}
	if tick := int64(m.host.Clock.Tick); tick > 0 {
		now.Wall -= ntptime.Wall(int64(now.Wall) % tick)
		now.Raw -= ntptime.Raw(int64(now.Raw) % tick)
	}
	return now
}
