package engine

import (
	"time"

	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/reference"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// ReferenceClock is one reference clock of a host, as the driver is to make it.
type ReferenceClock struct {
	Config  reference.Config
	Options system.SourceOptions
	Device  *config.Refclock // what to read, and how

	source config.Source
}

// ID is the clock's number, from the same row as the associations'.
func (c *ReferenceClock) ID() model.SourceID { return c.Config.ID }

// Locked returns the reference clock that numbers c's pulses, nil for none.
func (s *Associations) Locked(c *ReferenceClock) *ReferenceClock {
	if c.Config.Lock == 0 {
		return nil
	}
	for _, other := range s.clocks {
		if other != c && other.Config.RefID == c.Config.Lock {
			return other
		}
	}
	return nil
}

// referenceClock is what a line of the configuration means.
func referenceClock(s *config.Source) reference.Config {
	r := s.Refclock
	c := reference.Config{
		Name: s.Name(), RefID: wire.ReferenceName(r.RefID), Stratum: r.Stratum, Poll: ntptime.Log2(s.MinPoll),
		Offset: r.Offset, Delay: r.Delay, Precision: r.Precision, Period: time.Second / time.Duration(max(r.Rate, 1)),
		MinReadings: r.MinReadings, LearnBurst: r.Driver == config.RefclockNMEA,
	}
	if r.Lock != "" {
		c.Lock = wire.ReferenceName(r.Lock)
	}
	return c
}

// addClock mobilizes a reference clock.
func (s *Associations) addClock(source config.Source, out *Changes) {
	c := &ReferenceClock{Config: referenceClock(&source), Options: SourceOptions(&source), Device: source.Refclock, source: source}
	c.Config.ID = s.lastID
	s.clocks = append(s.clocks, c)
	out.StartClock = append(out.StartClock, c)
}

// ReferenceDriver is what one reference clock needs done.
type ReferenceDriver interface {
	Record(model.Event)
	// Sample and Status go to the system process, in this order.
	Sample(*model.Sample)
	Status(*model.SourceStatus)
}

// ReferenceProcess is one reference clock with the duty of carrying out what it wants: in
// the order events, sample, status.
type ReferenceProcess struct {
	clock  *reference.Clock
	driver ReferenceDriver
	out    reference.Output
}

// NewReferenceProcess makes one whose first poll begins at now.
func NewReferenceProcess(cfg reference.Config, driver ReferenceDriver, now ntptime.Instant) *ReferenceProcess {
	return &ReferenceProcess{clock: reference.New(cfg, now), driver: driver}
}

// Deadline is when OnTimer is due.
func (p *ReferenceProcess) Deadline() ntptime.Raw { return p.clock.Deadline() }

// Lock is what the clock says to those whose pulses it numbers.
func (p *ReferenceProcess) Lock() reference.Lock { return p.clock.Lock() }

// Late is how far the clock that numbers these pulses stood off them over this poll.
func (p *ReferenceProcess) Late() (time.Duration, bool) { return p.clock.Late() }

// OnBurst takes what pulses have shown the clock to stand off by.
func (p *ReferenceProcess) OnBurst(late time.Duration) { p.clock.OnBurst(late) }

// Begin makes the clock's state visible before its first poll has ended.
func (p *ReferenceProcess) Begin() {
	status := *p.clock.Status()
	p.driver.Status(&status)
}

// OnTimer ends a poll that is due; snapshot is the present system state, nil: none yet.
func (p *ReferenceProcess) OnTimer(now ntptime.Instant, snapshot *model.Snapshot) {
	p.begin(snapshot)
	p.clock.OnTimer(now, &p.out)
	p.carryOut()
}

// OnReading takes what the device said; lock is the present word of the clock that numbers
// its pulses.
func (p *ReferenceProcess) OnReading(r *reference.Reading, lock reference.Lock, snapshot *model.Snapshot) {
	p.begin(snapshot)
	p.clock.OnReading(r, lock, &p.out)
	p.carryOut()
}

// OnFailure tells why the device cannot be read.
func (p *ReferenceProcess) OnFailure(why string) {
	p.out.Reset()
	p.clock.OnFailure(why, &p.out)
	p.carryOut()
}

// OnClockChanged tells that our clock was stepped or set.
func (p *ReferenceProcess) OnClockChanged(now ntptime.Instant) { p.clock.OnClockChanged(now) }

func (p *ReferenceProcess) begin(snapshot *model.Snapshot) {
	p.out.Reset()
	if snapshot != nil {
		p.clock.OnSystem(snapshot)
	}
}

func (p *ReferenceProcess) carryOut() {
	for _, event := range p.out.Events {
		p.driver.Record(event)
	}
	if p.out.HasSample {
		p.driver.Sample(&p.out.Sample)
	}
	if p.out.StatusChanged {
		status := *p.clock.Status()
		p.driver.Status(&status)
	}
}
