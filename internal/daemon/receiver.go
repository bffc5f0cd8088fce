package daemon

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/refclock"
	"timeball/internal/reference"
)

const (
	// readingQueue is how many readings wait for a reference clock; more are dropped.
	readingQueue = 16
	// A device that cannot be opened is tried again after this long, and one that has
	// just been lost at once.
	reopenAfter = 5 * time.Second
)

// receiver drives one reference clock: its device, its polls, and the channels to and
// from the system process. The clock itself is touched by run alone.
type receiver struct {
	of       *engine.ReferenceClock
	id       model.SourceID
	name     string
	device   refclock.Config
	process  *engine.ReferenceProcess
	clock    clock.Clock
	snapshot *atomic.Pointer[model.Snapshot]
	steering steering
	readings chan refclock.Reading    // full: dropped
	failures chan string              // why the device cannot be read; the newest counts
	bursts   chan time.Duration       // by how much pulses find it late; the newest counts
	locked   atomic.Pointer[receiver] // numbers our pulses; nil: nobody
	lock     atomic.Pointer[reference.Lock]
	system   chan<- systemMessage
	log      *zap.Logger
	onEvent  func(model.Event)
	refused  [model.ReadingRefusals]uint64 // by the driver, as last told
	ctx      context.Context               // of run
	cancel   context.CancelFunc
}

// deviceOf is what a configuration says of a device.
func deviceOf(d *config.Refclock) refclock.Config {
	return refclock.Config{
		Driver: string(d.Driver), Unit: d.Unit, Device: d.Device, Clear: d.Edge == config.EdgeClear,
		TAI: d.TAI, Baud: d.Baud, Mode: d.Mode, Counters: new(refclock.Counters),
	}
}

// LookAtClocks says of each reference clock of a configuration, by its name, what is wrong
// with its device on this machine now (nil: it could be read), and what is risky in it.
func LookAtClocks(cfg *config.Config, tell func(name string, fault error, risk string)) {
	for i := range cfg.Sources {
		if s := &cfg.Sources[i]; s.Kind == config.RefclockSource {
			device := deviceOf(s.Refclock)
			tell(s.Name(), refclock.Look(device), refclock.Warning(device))
		}
	}
}

// newReceiver makes a reference clock with its channels. It does not run yet.
func (g *registry) newReceiver(c *engine.ReferenceClock) *receiver {
	device := deviceOf(c.Device)
	device.Every, device.NotBefore = c.Config.Period, g.state.floor
	r := &receiver{
		of: c, id: c.ID(), name: c.Config.Name, device: device,
		clock: g.clock, snapshot: &g.snapshot, steering: newSteering(),
		readings: make(chan refclock.Reading, readingQueue), failures: make(chan string, 1), bursts: make(chan time.Duration, 1),
		system: g.system.inbox, log: g.log,
	}
	r.onEvent = func(e model.Event) { g.logEvent(e, r.name) }
	r.process = engine.NewReferenceProcess(c.Config, r, g.clock.Now())
	return r
}

// launchReceivers makes the system process know new reference clocks, and starts their
// goroutines. All are made before the first begins; those that run already are told too who
// numbers their pulses now.
func (g *registry) launchReceivers(clocks []*engine.ReferenceClock) {
	for _, c := range clocks {
		g.receivers[c.ID()] = g.newReceiver(c)
	}
	for _, r := range g.receivers { //order: each by itself
		if other := g.set.Locked(r.of); other != nil {
			r.locked.Store(g.receivers[other.ID()])
		}
	}
	for _, c := range clocks {
		r := g.receivers[c.ID()]
		ctx, cancel := context.WithCancel(g.group.ctx)
		r.cancel = cancel
		g.toSystem(addSource{r.id, c.Options, r.steering})
		g.group.Go("reference clock "+r.name, func(context.Context) error { return r.run(ctx) })
		g.group.Go("device of "+r.name, func(context.Context) error { r.readDevice(ctx); return nil })
	}
}

// stopReceiver ends a reference clock and makes the system process forget it.
func (g *registry) stopReceiver(r *receiver) {
	r.cancel()
	delete(g.receivers, r.id)
	g.toSystem(removeSource{r.id})
}

// run is the goroutine of the clock; it ends with ctx.
func (r *receiver) run(ctx context.Context) error {
	r.ctx = ctx
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.process.Begin()
	for {
		timer.Reset(r.clock.Until(r.process.Deadline()))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			r.shareBurst()
			r.process.OnTimer(r.clock.Now(), r.snapshot.Load())
		case reading := <-r.readings:
			r.onReading(&reading)
		case why := <-r.failures:
			r.process.OnFailure(why)
		case late := <-r.bursts:
			r.process.OnBurst(late)
		case <-r.steering.hints: // a reference clock is polled as configured
		case <-r.steering.changed:
			r.process.OnClockChanged(r.clock.Now())
		}
	}
}

// onReading puts a reading on both of our scales.
func (r *receiver) onReading(reading *refclock.Reading) {
	lock := reference.Lock{At: ntptime.Never}
	if locked := r.locked.Load(); locked != nil {
		if told := locked.lock.Load(); told != nil {
			lock = *told
		}
	}
	r.process.OnReading(&reference.Reading{
		At: r.clock.At(reading.Realtime), Reference: reading.Reference, ReadingFlags: reading.ReadingFlags, Error: reading.Error,
	}, lock, r.snapshot.Load())
	told := r.process.Lock()
	r.lock.Store(&told)
}

// shareBurst tells the clock that numbers our pulses by how much it is late, before the
// poll ends.
func (r *receiver) shareBurst() {
	locked := r.locked.Load()
	if locked == nil || r.clock.Until(r.process.Deadline()) > 0 {
		return
	}
	if late, ok := r.process.Late(); ok {
		replace(locked.bursts, late)
	}
}

// Record logs an event.
func (r *receiver) Record(e model.Event) { r.onEvent(e) }

// Sample hands a measurement to the system process.
func (r *receiver) Sample(m *model.Sample) { r.tell(newSample{*m}) }

// Status makes the clock's present state visible to others.
func (r *receiver) Status(status *model.SourceStatus) {
	before := r.refused
	r.refused = r.device.Counters.Refused()
	status.Readings = r.refused
	if status.Waiting != "" && status.Unanswered > 0 {
		status.Waiting = refusals(&before, &r.refused, status.Waiting)
	}
	r.tell(newStatus{*status})
}

// refusals says what the driver has refused since the last time, or what the clock says
// itself where that is nothing.
func refusals(before, now *[model.ReadingRefusals]uint64, otherwise string) string {
	most, why := uint64(0), model.ReadingRefusal(0)
	for i := range now {
		if n := now[i] - before[i]; n > most {
			most, why = n, model.ReadingRefusal(i)
		}
	}
	switch {
	case most == 0:
		return otherwise
	case why == model.ReadingNoise:
		return "something comes on the serial line, and it is no NMEA: has the line the receiver's speed (baud), and does the receiver send NMEA?"
	}
	return fmt.Sprintf("the receiver's readings are refused: %s (%d since the last poll)", why, most)
}

func (r *receiver) tell(message systemMessage) {
	select {
	case r.system <- message:
	case <-r.ctx.Done():
	}
}

// readDevice is the goroutine that waits for the device; it ends with ctx. A device that
// is not there, or has gone, is opened again when it comes back.
func (r *receiver) readDevice(ctx context.Context) {
	said := ""
	for {
		device, err := refclock.Open(r.device)
		if err == nil {
			r.log.Info("reference clock opened", zap.String("source", r.name))
			said = ""
			if risk := refclock.Warning(r.device); risk != "" {
				r.log.Warn(risk, zap.String("source", r.name))
			}
			err = r.readFrom(ctx, device)
		}
		if ctx.Err() != nil {
			return
		}
		if why := err.Error(); why != said {
			said = why
			r.log.Warn("reference clock cannot be read, and is tried again: "+why, zap.String("source", r.name))
			replace(r.failures, why)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reopenAfter):
		}
	}
}

// readFrom hands on what an open device says, until it fails.
func (r *receiver) readFrom(ctx context.Context, device refclock.Driver) error {
	defer device.Close()
	stop := context.AfterFunc(ctx, func() { _ = device.Close() })
	defer stop()
	for {
		reading, err := device.Read(ctx)
		if err != nil {
			return err
		}
		offer(r.readings, reading)
	}
}

var _ engine.ReferenceDriver = (*receiver)(nil)
