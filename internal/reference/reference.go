// Package reference is one reference clock as a pure state machine: readings of its
// driver come in, one sample a poll goes out. It takes the place that an association
// has for a source of packets (RFC 5905 §3: a reference clock is a source of stratum 0).
//
// What a poll's readings say is their mean: offsets drift by the oscillator's frequency
// within a poll, but the mean of the offsets at the mean of their times does not care.
// Readings that stand far off the line through the others are left out of it.
package reference

import (
	"fmt"
	"math"
	"slices"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Config is what the operator says of a reference clock.
type Config struct {
	ID        model.SourceID
	Name      string           // for reports
	RefID     wire.ReferenceID // shown to clients of stratum 1
	Stratum   uint8            // of the clock itself, 0 to 14; we serve one more
	Poll      ntptime.Log2     // one sample in 2^Poll seconds, −4 to 17
	Offset    time.Duration    // added to each reading: a known delay of the receiver
	Delay     time.Duration    // the unknown part of it, ≥ 0: half goes into every bound
	Precision time.Duration    // least error of a sample, ≥ 0
	// Period is the distance of pulses; 0: a second.
	Period time.Duration
	// MinReadings are needed in a poll for a sample, 1 to 64; default 1.
	MinReadings int
	// Lock numbers the pulses by another clock of this host, by its RefID; 0: by our own
	// time, once that is synchronized.
	Lock wire.ReferenceID
	// LearnBurst takes off what pulses that are locked to this clock show it to be late by.
	LearnBurst bool
}

// Reading is one reading of the driver, on both of our scales.
type Reading struct {
	At        ntptime.Instant // when
	Reference ntptime.Wall    // the reference's time then
	model.ReadingFlags
	Error time.Duration // of the reading itself
}

// Output is what an entry point wants done. The caller owns and reuses it.
type Output struct {
	Sample        model.Sample
	HasSample     bool
	StatusChanged bool
	Events        []model.Event
}

// Reset empties o for the next call and keeps its memory.
func (o *Output) Reset() {
	o.HasSample, o.StatusChanged, o.Events = false, false, o.Events[:0]
}

// Lock is what a clock tells those whose pulses it numbers.
type Lock struct {
	At    ntptime.Raw   // when this was so; Never: there is nothing yet
	Since time.Duration // reference − Raw at At, nanoseconds since 1970
}

const (
	maxReadings = 64
	// ambiguous is the share of a period by which a pulse may be off the clock that
	// numbers it: at half a period it might be either.
	ambiguous = 0.3
	// lockLasts is how long a clock that fell silent goes on numbering pulses, by the
	// oscillator alone: 100 ppm of it are 6.4 ms.
	lockLasts = 64 * time.Second
	// burstPolls are needed of pulses before a burst delay is believed.
	burstPolls  = 4
	burstMemory = 16.0
)

// Clock is one reference clock. It is not safe for concurrent use.
type Clock struct {
	cfg    Config
	status model.SourceStatus
	next   ntptime.Raw
	taken  []point // of this poll
	recent [5]int64
	count  int // readings ever
	last   ntptime.Raw
	leap   wire.Leap
	sys    system
	why    string // why the last reading of this poll was not used; "": it was

	failure string // why the device cannot be read, "": it can
	burst   float64
	bursts  int
	late    []int64 // lock − pulse of this poll, ns
}

// point is a reading, as reference − raw in ns.
type point struct {
	raw   ntptime.Raw
	since int64
	err   time.Duration
}

// system is what is kept of our own state.
type system struct {
	synchronized bool
	bound        time.Duration
	offset       time.Duration
	tai          int
}

// New makes a clock that is due a poll from now.
func New(cfg Config, now ntptime.Instant) *Clock {
	if cfg.Period <= 0 {
		cfg.Period = time.Second
	}
	cfg.MinReadings = min(max(cfg.MinReadings, 1), maxReadings)
	c := &Clock{cfg: cfg, taken: make([]point, 0, maxReadings), late: make([]int64, 0, maxReadings)}
	c.status = model.SourceStatus{Source: cfg.ID, Name: cfg.Name, Reference: true, Poll: cfg.Poll, Interval: cfg.Poll.Duration()}
	c.status.Server = model.ServerState{Leap: wire.LeapUnknown, Stratum: wire.MaxStratum, ReferenceID: cfg.RefID}
	c.next = now.Raw.Add(cfg.Poll.Duration())
	return c
}

// Config is the configuration in force.
func (c *Clock) Config() Config { return c.cfg }

// Status is what the clock knows of itself; valid until the next call.
func (c *Clock) Status() *model.SourceStatus { return &c.status }

// Deadline is when OnTimer is due.
func (c *Clock) Deadline() ntptime.Raw { return c.next }

// OnSystem tells our own state, by which pulses are numbered and TAI becomes UTC.
func (c *Clock) OnSystem(s *model.Snapshot) {
	c.sys = system{synchronized: s.Synchronized, bound: s.ErrorBound, offset: s.Offset, tai: s.TAI}
}

// OnClockChanged tells that the clock was stepped: the readings of this poll stand on
// the raw scale, which a step does not touch, but one may lie across it.
func (c *Clock) OnClockChanged(ntptime.Instant) { c.taken, c.late = c.taken[:0], c.late[:0] }

// OnFailure tells why the device cannot be read.
func (c *Clock) OnFailure(why string, out *Output) {
	if c.failure != why {
		c.failure = why
		c.status.Waiting = why
		out.StatusChanged = true
	}
}

// OnReading takes a reading. lock is what the clock that numbers pulses said last.
func (c *Clock) OnReading(r *Reading, lock Lock, out *Output) {
	c.OnFailure("", out)
	reference, why := r.Reference, ""
	if r.TAI {
		if c.sys.tai == 0 {
			why = "it counts TAI, and TAI − UTC is not known: set clock.leap.file"
		}
		reference = reference.Add(-time.Duration(c.sys.tai) * time.Second)
	}
	since := int64(reference) - int64(r.At.Raw) + int64(c.cfg.Offset)
	if r.Pulse && why == "" {
		since, why = c.number(since, r, lock)
	}
	c.why = why
	if why != "" {
		c.status.Rejected[model.RejectUncalibrated]++
		return
	}
	c.status.Accepted++
	c.last, c.leap = r.At.Raw, r.Leap
	c.recent[c.count%len(c.recent)] = since
	c.count++
	if len(c.taken) == maxReadings { // a rate above the poll's: the oldest make room
		copy(c.taken, c.taken[1:])
		c.taken = c.taken[:maxReadings-1]
	}
	c.taken = append(c.taken, point{raw: r.At.Raw, since: since - int64(c.burst), err: r.Error})
	c.status.LastPacket = r.At
}

// number finds the period that a pulse began: the one nearest to what another clock of
// this host, or our own time, says of that moment.
func (c *Clock) number(since int64, r *Reading, lock Lock) (int64, string) {
	var expected int64
	if c.cfg.Lock != 0 {
		if lock.At == ntptime.Never || lock.At == 0 || r.At.Raw.Sub(lock.At) > lockLasts {
			return 0, fmt.Sprintf("%s, which numbers its pulses, gives no time", c.cfg.Lock.Text())
		}
		expected = int64(lock.Since)
	} else {
		if !c.sys.synchronized {
			return 0, "no source says which second its pulses begin: give it lock: REFID, or another source"
		}
		if float64(c.sys.bound) > ambiguous*float64(c.cfg.Period) {
			return 0, fmt.Sprintf("our own time is too uncertain (± %v) to number its pulses", c.sys.bound)
		}
		expected = int64(r.At.Wall) + int64(c.sys.offset) - int64(r.At.Raw)
	}
	period := int64(c.cfg.Period)
	off := since - expected
	periods := int64(math.Round(float64(off) / float64(period)))
	since -= periods * period
	if rest := since - expected; math.Abs(float64(rest)) > ambiguous*float64(period) {
		return 0, fmt.Sprintf("its pulses come %v from what numbers them: the second is ambiguous", time.Duration(rest))
	}
	if len(c.late) < maxReadings {
		c.late = append(c.late, expected-since)
	}
	return since, ""
}

// Lock is what this clock says to those whose pulses it numbers: the middle of its last
// readings, without what pulses have taught about it.
func (c *Clock) Lock() Lock {
	n := min(c.count, len(c.recent))
	if n == 0 {
		return Lock{At: ntptime.Never}
	}
	last := slices.Clone(c.recent[:n])
	slices.Sort(last)
	return Lock{At: c.last, Since: time.Duration(last[n/2])}
}

// Late is how far the clock that numbers these pulses stood off them over the last poll
// (its reference − the pulse's; negative: it is told late). ok is false while nothing can
// be said.
func (c *Clock) Late() (d time.Duration, ok bool) {
	if c.cfg.Lock == 0 || len(c.late) < c.cfg.MinReadings || len(c.late) == 0 {
		return 0, false
	}
	xs := slices.Clone(c.late)
	slices.Sort(xs)
	return time.Duration(xs[len(xs)/2]), true
}

// OnBurst takes what a pulse showed this clock to stand off by (see Late): a serial
// receiver tells the time behind its second, by a delay of its own.
func (c *Clock) OnBurst(late time.Duration) {
	if !c.cfg.LearnBurst {
		return
	}
	if c.bursts++; c.bursts > burstPolls {
		c.burst += (float64(late) - c.burst) / math.Min(float64(c.bursts-burstPolls), burstMemory)
	}
}

// OnTimer ends a poll: its readings become a sample, if there are enough.
func (c *Clock) OnTimer(now ntptime.Instant, out *Output) {
	if now.Raw < c.next {
		return
	}
	for c.next <= now.Raw {
		c.next = c.next.Add(c.cfg.Poll.Duration())
	}
	c.status.Sent++
	good := len(c.taken) >= c.cfg.MinReadings
	c.shiftReach(good, now, out)
	if good {
		c.sample(out)
	}
	c.taken, c.late = c.taken[:0], c.late[:0]
}

// shiftReach enters the poll into the reach register (RFC 5905 §13).
func (c *Clock) shiftReach(good bool, now ntptime.Instant, out *Output) {
	before := c.status.Reach
	c.status.Reach <<= 1
	out.StatusChanged = true
	c.status.Server.Leap, c.status.Server.Stratum = wire.LeapUnknown, wire.MaxStratum
	if c.count > 0 {
		c.status.Server.Leap, c.status.Server.Stratum = c.leap, c.cfg.Stratum
	}
	if good {
		c.status.Reach |= 1
		c.status.Unanswered = 0
		c.status.Waiting = ""
		return
	}
	c.status.Unanswered++
	c.status.Waiting = c.whyNothing()
	if before != 0 && c.status.Reach == 0 {
		out.Events = append(out.Events, model.Event{At: now, Kind: model.EventUnreachable, Source: c.cfg.ID, Text: c.status.Waiting})
	}
}

// whyNothing says, for reports, why a poll gave no sample.
func (c *Clock) whyNothing() string {
	switch {
	case c.failure != "":
		return c.failure
	case c.why != "":
		return c.why
	case len(c.taken) > 0:
		return fmt.Sprintf("%d readings in a poll, %d needed", len(c.taken), c.cfg.MinReadings)
	}
	return "no readings: has the receiver a fix, and does its daemon write here?"
}

// sample is the mean of a poll's readings.
func (c *Clock) sample(out *Output) {
	raw, since, sd := mean(c.taken)
	worst := time.Duration(0)
	for _, p := range c.taken {
		worst = max(worst, p.err)
	}
	uncertain := math.Max(sd, math.Max(float64(worst), float64(c.cfg.Precision)))
	at := ntptime.Instant{Raw: raw, Wall: c.status.LastPacket.Wall.Add(raw.Sub(c.status.LastPacket.Raw))}
	reference := ntptime.Wall(int64(raw) + since)
	c.status.Server = model.ServerState{
		Leap: c.leap, Stratum: c.cfg.Stratum, Precision: log2Of(c.cfg.Precision), ReferenceID: c.cfg.RefID,
		ReferenceTime: reference, RootDelay: c.cfg.Delay, RootDispersion: max(worst, c.cfg.Precision),
	}
	out.Sample = model.Sample{
		Source: c.cfg.ID, Kind: model.SampleReference, T1: at, T4: at, T2: reference, T3: reference,
		DelayError: time.Duration(math.Ceil(uncertain)), Server: c.status.Server,
	}
	out.HasSample = true
}

// log2Of is the exponent of the least power of two of seconds that is not below d.
func log2Of(d time.Duration) ntptime.Log2 {
	if d <= 0 {
		return -30
	}
	return ntptime.Log2(min(max(math.Ceil(math.Log2(d.Seconds())), -30), 17))
}

// outlying is how many mean deviations a reading may stand off the others' line.
const outlying = 5

// mean returns the mean time and offset of the readings that agree, and the mean's
// standard deviation in ns.
func mean(ps []point) (at ntptime.Raw, since int64, sd float64) {
	first := ps[0]
	xs, ys := make([]float64, len(ps)), make([]float64, len(ps))
	for i, p := range ps {
		xs[i], ys[i] = float64(p.raw-first.raw), float64(p.since-first.since)
	}
	slope, level := line(xs, ys)
	rest := make([]float64, len(ps))
	for i := range ps {
		rest[i] = math.Abs(ys[i] - level - slope*xs[i])
	}
	limit := outlying*middle(slices.Clone(rest)) + 1
	var n, x, y, square float64
	for i := range ps {
		if rest[i] <= limit {
			n, x, y, square = n+1, x+xs[i], y+ys[i], square+rest[i]*rest[i]
		}
	}
	at = first.raw + ntptime.Raw(math.Round(x/n))
	since = first.since + int64(math.Round(y/n))
	if n > 2 {
		sd = math.Sqrt(square / (n - 2) / n)
	}
	return at, since, sd
}

// line is the line that half of all pairs are steeper than and half of all points lie
// above (Theil and Sen): outliers do not bend it.
func line(xs, ys []float64) (slope, level float64) {
	slopes := make([]float64, 0, len(xs)*(len(xs)-1)/2)
	for i := range xs {
		for j := range i {
			if xs[i] != xs[j] {
				slopes = append(slopes, (ys[i]-ys[j])/(xs[i]-xs[j]))
			}
		}
	}
	slope = middle(slopes)
	levels := make([]float64, len(xs))
	for i := range xs {
		levels[i] = ys[i] - slope*xs[i]
	}
	return slope, middle(levels)
}

// middle sorts and returns the median; 0 of nothing.
func middle(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return (xs[len(xs)/2] + xs[(len(xs)-1)/2]) / 2
}
