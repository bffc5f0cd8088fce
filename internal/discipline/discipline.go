package discipline

import (
	"fmt"
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Config is what the operator decides about corrections. The zero value steps never,
// and has no limits but those of the clock driver.
type Config struct {
	StepThreshold time.Duration     // larger errors are stepped, while steps are allowed; 0: none is
	StepUpdates   int               // steps only in the first so many corrections; < 0: always
	MaxSlew       ntptime.Frequency // > 0
	MaxFrequency  ntptime.Frequency // > 0; RFC 5905 §11.3: MAXFREQ, 500 ppm
	Panic         time.Duration     // larger corrections are refused (RFC 5905 §11.3: PANICT); 0: none is
	GateOpen      bool              // the first correction may be of any size
}

// Discipline makes the corrections of the clock (RFC 5905 §11.3 and §12), and nobody
// else does. Its states, with the method that leaves each:
//
//	          Update, within the limit           SlewEnd, at Deadline
//	steady ─────────────────────────▶ slewing ─────────────────────▶ steady
//	  │  ▲                               │
//	  │  └───── Update, within ──────┐   │ Update, SlewEnd, Leap: beyond the limit
//	  └──────────────────────────▶ refusing ◀┘
//
// Every correction passes one gate (decide). While one is refused the clock's rate is
// the oscillator's last lasting correction and nothing else: a slew under way ends.
type Discipline struct {
	cfg       Config
	gateOpen  bool        // the first correction may be of any size
	taken     int         // corrections since the start, or since steps were allowed anew
	external  float64     // s that others have moved the clock by and we have not undone
	moved     float64     // s that we have moved the clock by since it was last settled
	settled   int         // updates in a row that found it so
	within    int         // updates in a row that asked for no more than the panic limit
	slewSince ntptime.Raw // since when the present slew is counted into moved
	refused   float64     // s, the correction refused; 0: none
	slewEnd   ntptime.Raw // when the present slew has done its work; Never without one
	frequency float64     // s/s, lasting part in force
	slew      float64     // s/s, momentary part in force
	record    Record
}

// Record counts the steps made.
type Record struct {
	Steps uint64
	Total time.Duration   // sum of |step|
	Last  ntptime.Instant // of the last one
}

// Kind says what the discipline has decided.
type Kind uint8

// The kinds of decisions.
const (
	Nothing Kind = iota // the correction in force is right
	Hold                // no phase correction: the frequency alone
	Slew
	Step
	Refuse // beyond the panic limit: the frequency in force alone
)

// Decision is what is to be done to the clock now. Correction counts unless Kind is Nothing.
type Decision struct {
	Kind       Kind
	Correction model.Correction // without its Kernel
	Left       float64          // s, reference − clock right after it
	Takes      float64          // s, Slew: until it is done
	GateClosed bool             // this was the first correction: the gate is to stay closed
	First      bool             // Refuse: it was not refused before
}

// New returns a discipline that has not corrected anything yet.
func New(cfg Config) Discipline {
	return Discipline{cfg: cfg, gateOpen: cfg.GateOpen, slewEnd: ntptime.Never}
}

// Reconfigure takes new limits; GateOpen is of the start and stays. A slew under way is
// looked at anew with the next Deadline, which is now.
func (d *Discipline) Reconfigure(cfg Config, now ntptime.Raw) {
	d.cfg = cfg
	if d.slew != 0 {
		d.slewEnd = min(d.slewEnd, now)
	}
}

// Deadline is when SlewEnd is due.
func (d *Discipline) Deadline() ntptime.Raw { return d.slewEnd }

// Refused returns the correction refused by the panic gate in seconds, 0 without one.
func (d *Discipline) Refused() float64 { return d.refused }

// Frequency is the lasting correction in force, in s/s.
func (d *Discipline) Frequency() float64 { return d.frequency }

// SlewRate is the momentary one.
func (d *Discipline) SlewRate() float64 { return d.slew }

// Record returns the steps made so far.
func (d *Discipline) Record() Record { return d.record }

// Update decides between panic, step and slew after an update of the estimate. It counts
// what the clock has been moved by: an estimate that follows a jump of the sources by parts,
// each within the panic limit, asks for a correction beyond it all the same. What was moved
// counts until the clock has been found settled.
func (d *Discipline) Update(now ntptime.Instant, r Residual) Decision {
	mayStep := d.cfg.StepThreshold > 0 && (d.cfg.StepUpdates < 0 || d.taken < d.cfg.StepUpdates)
	step := mayStep && math.Abs(r.Offset) > d.cfg.StepThreshold.Seconds()
	d.count(now.Raw)
	if d.settled++; !d.small(r.Offset) {
		d.settled = 0
	}
	if d.within++; d.beyond(r.Offset) {
		d.within = 0
	}
	if d.settled >= settledUpdates {
		d.moved = 0
	}
	result := d.decide(now, r, step)
	if result.Kind != Refuse {
		d.taken++
	}
	return result
}

const (
	settledOffset  = 0.128 // s: STEPT of RFC 5905 Figure 27
	settledUpdates = 16
	withinUpdates  = 24 // that end a refusal, where they are not so small that they do at once
)

// small reports whether an error is that of a clock that is settled.
func (d *Discipline) small(offset float64) bool {
	return math.Abs(offset) <= math.Max(settledOffset, d.cfg.Panic.Seconds()/8)
}

// beyond reports whether a correction, with what has been moved already, is too large.
func (d *Discipline) beyond(offset float64) bool {
	limit := d.cfg.Panic.Seconds()
	return limit > 0 && math.Abs(offset+d.external+d.moved) > limit
}

// count takes what has been slewed so far.
func (d *Discipline) count(now ntptime.Raw) {
	if d.slew != 0 {
		d.moved += d.slew * now.Sub(d.slewSince).Seconds()
	}
	d.slewSince = now
}

// SlewEnd ends a slew that has done its work. If the timer was late, or the clock did
// not do as told, what is left is slewed in turn.
func (d *Discipline) SlewEnd(now ntptime.Instant, r Residual) Decision {
	d.count(now.Raw)
	d.slewEnd = ntptime.Never
	if math.Abs(r.Offset) > 3*r.SD+1e-6 {
		return d.decide(now, r, false)
	}
	return d.hold(r.Offset, r.Frequency)
}

// StepNow makes the correction by a step, because an operator wants it at once. It passes
// the gate as any other does.
func (d *Discipline) StepNow(now ntptime.Instant, r Residual) Decision { return d.decide(now, r, true) }

// Leap makes good for a leap second that has moved the reference by −by: with step at
// once, else by a slew. That second is no error and does not count for the panic limit.
func (d *Discipline) Leap(now ntptime.Instant, r Residual, by time.Duration, step bool) Decision {
	d.external += by.Seconds()
	return d.decide(now, r, step)
}

// Restate returns the correction in force again, for what goes to the kernel with it.
func (d *Discipline) Restate(left float64) Decision {
	return Decision{Kind: Hold, Left: left, Correction: d.inForce(0)}
}

// Stop ends a slew whose end is not known any more.
func (d *Discipline) Stop() Decision {
	if d.slew == 0 {
		d.slewEnd = ntptime.Never
		return Decision{}
	}
	return d.hold(0, d.frequency)
}

// Start puts a frequency known beforehand in force, while there is no estimate.
func (d *Discipline) Start(frequency float64) Decision { return d.hold(0, frequency) }

// ExternalStep notes that somebody else has moved the clock by so much, so that undoing
// it is no trust in the network, and allows steps as at the start.
func (d *Discipline) ExternalStep(by time.Duration) {
	d.external += by.Seconds()
	d.AllowSteps()
}

// External is by how many seconds others have moved the clock, not undone yet.
func (d *Discipline) External() float64 { return d.external }

// AllowSteps allows steps as at the start, within the panic limit.
func (d *Discipline) AllowSteps() { d.taken = 0 }

// acceptTolerance is how far the size that an operator has accepted may be from the
// correction: what people type is whole seconds.
const acceptTolerance = time.Second

// Accept makes the correction that was refused, by a step, because the operator has
// seen its size and wants it. The gate stays as it is for all others. Errors: nothing is
// refused, or it has another size by now.
func (d *Discipline) Accept(now ntptime.Instant, r Residual, size time.Duration) (Decision, error) {
	switch seen := dur(r.Offset); {
	case d.refused == 0:
		return Decision{}, fmt.Errorf("no correction is being refused")
	case (seen - size).Abs() > acceptTolerance:
		return Decision{}, fmt.Errorf("the correction refused is %+.3f s, not %+.3f s; type that size if it is right", seen.Seconds(), size.Seconds())
	}
	result := d.step(now, r)
	d.moved = 0
	return result, nil
}

// decide is the gate that every phase correction passes. RFC 5905 §11.3 ends the process
// beyond the panic limit; ended processes are started again, and then an attacker has a
// fresh gate (CVE-2015-5300). So the correction is refused, whoever asks for it.
func (d *Discipline) decide(now ntptime.Instant, r Residual, step bool) (result Decision) {
	d.count(now.Raw)
	// An estimate torn between sources that jumped passes through what would be allowed.
	torn := d.refused != 0 && !d.small(r.Offset+d.external) && d.within < withinUpdates
	if !d.gateOpen && (d.beyond(r.Offset) || torn) {
		return d.refuse(r.Offset)
	}
	closed := d.gateOpen
	d.gateOpen = false
	if step {
		result = d.step(now, r)
	} else {
		result = d.slewOff(now, r)
	}
	result.GateClosed = closed
	if closed {
		d.moved, d.settled = 0, 0 // the one correction of any size
	}
	return result
}

// refuse leaves the clock to its oscillator.
func (d *Discipline) refuse(offset float64) Decision {
	first := d.refused == 0
	d.refused, d.slew, d.slewEnd = offset, 0, ntptime.Never
	return Decision{Kind: Refuse, Correction: d.inForce(0), Left: offset, First: first}
}

func (d *Discipline) step(now ntptime.Instant, r Residual) Decision {
	by := dur(r.Offset)
	d.moved += r.Offset + d.external
	d.refused, d.external, d.slew, d.slewEnd = 0, 0, 0, ntptime.Never
	d.frequency = d.bounded(r.Frequency)
	d.record.Steps++
	d.record.Total += by.Abs()
	d.record.Last = now
	return Decision{Kind: Step, Correction: d.inForce(by)}
}

// slewOff works the offset off within its slew time. The frequency itself is applied at
// once: it is the oscillator's, not the offset's.
func (d *Discipline) slewOff(now ntptime.Instant, r Residual) Decision {
	if math.Abs(r.Offset) < 1e-3 {
		d.moved += d.external
		d.external = 0
	}
	takes := r.SlewTime(float64(d.cfg.MaxSlew))
	d.refused, d.slewEnd = 0, now.Raw.Add(dur(takes))
	d.frequency, d.slew = d.bounded(r.Frequency), r.Offset/takes
	return Decision{Kind: Slew, Correction: d.inForce(0), Left: r.Offset, Takes: takes}
}

// hold puts a frequency in force without a slew.
func (d *Discipline) hold(left, frequency float64) Decision {
	d.slew, d.slewEnd = 0, ntptime.Never
	if d.refused == 0 {
		d.frequency = d.bounded(frequency)
	}
	return Decision{Kind: Hold, Correction: d.inForce(0), Left: left}
}

func (d *Discipline) inForce(step time.Duration) model.Correction {
	return model.Correction{Step: step, Frequency: ntptime.Frequency(d.frequency), Slew: ntptime.Frequency(d.slew)}
}

// bounded keeps the lasting correction within MAXFREQ (RFC 5905 §11.3).
func (d *Discipline) bounded(f float64) float64 {
	limit := float64(d.cfg.MaxFrequency)
	return math.Max(-limit, math.Min(limit, f))
}

// dur returns seconds as a duration, within what that can hold.
func dur(seconds float64) time.Duration {
	const limit = float64(math.MaxInt64) / 1e9
	if !(math.Abs(seconds) < limit) {
		seconds = math.Copysign(limit*0.999, seconds)
	}
	return time.Duration(math.Round(seconds * 1e9))
}
