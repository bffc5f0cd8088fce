package system

import (
	"math"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// steering is the discipline's own state.
type steering struct {
	end        ntptime.Raw // when the present slew has done its work; Never without one
	gateOpen   bool        // the first correction may be of any size
	accepted   int         // corrections since the start, or since somebody else set the clock
	foreign    float64     // s that others have moved the clock by and we have not undone
	refused    float64     // s, the correction refused by the panic gate; 0: none
	steps      uint64
	stepsTotal time.Duration
	lastStep   ntptime.Instant
	lastErr    string
}

func dur(seconds float64) time.Duration {
	const limit = float64(math.MaxInt64) / 1e9
	if !(math.Abs(seconds) < limit) {
		seconds = math.Copysign(limit*0.999, seconds)
	}
	return time.Duration(math.Round(seconds * 1e9))
}

// residual returns what is to be corrected now: reference − disciplined clock,
// with the state it comes from.
func (s *System) residual(now ntptime.Instant) (float64, filter.Estimate) {
	e := s.joint.Estimate().Extrapolate(int64(now.Raw))
	return e.Offset - s.correction(now), e
}

// track is what follows an update of the state (RFC 5905 §11.3): the poll
// interval, the correction, and what the sources are to do next.
func (s *System) track(now ntptime.Instant, src *source, used bool, r *filter.Result, out *Output) {
	soon := src.soon(r)
	s.gap = s.poll.Interval()
	usable := s.summary.Usable && s.joint.Started()
	if usable && used && src.inJoint {
		s.updates++
		s.lastUpdate = now
		s.pollUpdate(r, now, src, out)
		s.gap = s.poll.Interval()
		if soon > 0 {
			s.gap = math.Min(s.gap, soon)
		}
		s.correct(now, out)
	}
	s.setState(now, out)
	s.hints(src, soon, out)
}

// correct decides between panic, step and slew, and emits the Correction.
func (s *System) correct(now ntptime.Instant, out *Output) {
	offset, e := s.residual(now)
	if s.panics(now, offset, out) {
		return
	}
	if s.steer.gateOpen {
		s.steer.gateOpen = false
		out.GateUsed = true
	}
	s.steer.accepted++
	budget := s.cfg.StepUpdates < 0 || s.steer.accepted <= s.cfg.StepUpdates
	if s.cfg.StepThreshold > 0 && budget && math.Abs(offset) > s.cfg.StepThreshold.Seconds() {
		s.step(now, offset, e, out)
		return
	}
	s.slew(now, offset, e, out)
}

// panics refuses a correction beyond the panic limit and says so once. RFC 5905
// §11.3 ends the process there; ended processes are started again, and then an
// attacker has a fresh gate (CVE-2015-5300). What others did to the clock, and
// we saw, is not counted: undoing it is no trust in the network.
func (s *System) panics(now ntptime.Instant, offset float64, out *Output) bool {
	limit := s.cfg.Panic.Seconds()
	if limit <= 0 || s.steer.gateOpen || math.Abs(offset+s.steer.foreign) <= limit {
		s.steer.refused = 0
		return false
	}
	if s.steer.refused == 0 {
		s.event(out, now, model.EventPanic, s.summary.SystemPeer, dur(offset), "correction refused: larger than clock.panic")
	}
	s.steer.refused = offset
	return true
}

func (s *System) step(now ntptime.Instant, offset float64, e filter.Estimate, out *Output) {
	d := dur(offset)
	s.steer.end = ntptime.Never
	s.steer.steps++
	s.steer.stepsTotal += d.Abs()
	s.steer.lastStep = now
	s.steer.foreign = 0
	s.event(out, now, model.EventStep, s.summary.SystemPeer, d, "")
	s.emit(now, out, d, s.frequency(e.Freq), 0, 0, e)
}

// slew works the offset off within the discipline's slew time. The frequency
// itself is applied at once: it is the oscillator's, not the offset's.
func (s *System) slew(now ntptime.Instant, offset float64, e filter.Estimate, out *Output) {
	res := discipline.Residual{
		Offset: offset, SD: sqrt(e.P00), Interval: s.gap, Gain: s.joint.Gain(),
		Updates: s.joint.Updates(), MaxSlew: float64(s.cfg.MaxSlew),
	}
	if math.Abs(offset) < 1e-3 {
		s.steer.foreign = 0
	}
	d := res.SlewTime()
	s.steer.end = now.Raw.Add(dur(d))
	s.emit(now, out, 0, s.frequency(e.Freq), offset/d, offset, e)
}

// frequency bounds the lasting correction (RFC 5905 §11.3: MAXFREQ).
func (s *System) frequency(f float64) float64 {
	limit := float64(s.cfg.MaxFrequency)
	return math.Max(-limit, math.Min(limit, f))
}

func (s *System) emit(now ntptime.Instant, out *Output, step time.Duration, freq, slew, left float64, e filter.Estimate) {
	s.clock.freq, s.clock.slew = freq, slew
	out.HasCorrection = true
	out.Correction = model.Correction{Step: step, Frequency: ntptime.Frequency(freq), Slew: ntptime.Frequency(slew)}
	out.Correction.Kernel = s.kernelState(now, left, e)
	out.Changed = true
}

// kernelState keeps adjtimex(2) honest.
func (s *System) kernelState(now ntptime.Instant, left float64, e filter.Estimate) model.KernelState {
	q := s.quality(left, e)
	k := model.KernelState{
		Synchronized: s.synchronized(now.Raw) || s.local.active, MaxError: q.bound, EstimatedError: q.estimated, TAI: s.leap.tai,
	}
	k.Leap = s.kernelLeap(now)
	return k
}

// endSlew stops a slew that has done its work. If the timer was late, or the
// clock did not do as told, what is left is slewed in turn.
func (s *System) endSlew(now ntptime.Instant, out *Output) {
	s.steer.end = ntptime.Never
	if !s.joint.Started() {
		return
	}
	offset, e := s.residual(now)
	if math.Abs(offset) > 3*sqrt(e.P00)+1e-6 {
		s.slew(now, offset, e, out)
		return
	}
	s.emit(now, out, 0, s.frequency(e.Freq), 0, offset, e)
}

// OnApplied takes what the clock really did.
func (s *System) OnApplied(a model.Applied, out *Output) {
	s.clock.at, s.clock.rate = a.At.Raw, float64(a.Rate)
	s.clock.offset = int64(a.At.Wall) - int64(a.At.Raw)
	if a.Err != "" && a.Err != s.steer.lastErr {
		s.event(out, a.At, model.EventClockRefused, 0, a.Correction.Step, a.Err)
	}
	s.steer.lastErr = a.Err
	out.Changed = true
}

// OnClockJump takes note that somebody else set the clock, or the machine slept.
// The state is on the raw scale and survives a clock that was set: the next
// correction undoes it, by a step if it is beyond the threshold. Sleep stops the
// raw oscillator, so offsets are lost then; the frequency is kept.
func (s *System) OnClockJump(j model.ClockJump, out *Output) {
	s.event(out, j.At, model.EventClockJump, 0, j.By, jumpText(j))
	s.steer.accepted = 0
	s.clock.at, s.clock.offset = j.At.Raw, int64(j.At.Wall)-int64(j.At.Raw)
	s.steer.foreign += (j.By - j.Slept).Seconds()
	if j.Slept != 0 {
		s.forget()
	}
	s.poll.Hurry(s.lowPoll())
	for _, src := range s.sources {
		src.volley = 1
	}
	s.setState(j.At, out)
	out.Changed = true
}

func jumpText(j model.ClockJump) string {
	if j.Slept != 0 {
		return "the machine slept: offsets are measured anew"
	}
	return "somebody else set the clock"
}

// forget drops all offsets and keeps the frequency.
func (s *System) forget() {
	if s.joint.Started() {
		e := s.joint.Estimate()
		s.cfg.Frequency, s.cfg.FrequencyError = ntptime.Frequency(e.Freq), ntptime.Frequency(1e-7+3*sqrt(e.P11))
	}
	s.joint.Reset()
	s.steer.end = ntptime.Never
	s.heard = false
	for _, src := range s.sources {
		src.filter.Restart()
		src.samples = 0
		src.inJoint = false
		src.bias = bias{}
		if src.own != nil {
			src.own.Reset()
		}
	}
}

// Deadline returns when OnTimer is due.
func (s *System) Deadline() ntptime.Raw {
	d := min(s.next, s.steer.end, s.leap.due, s.local.due)
	if s.waiting() {
		d = min(d, s.firstHeard.Add(hearing))
	}
	return d
}

// waiting says whether first answers are held back for those of others.
func (s *System) waiting() bool { return s.heard && s.direct == nil && !s.joint.Started() }

// OnTimer does what is due.
func (s *System) OnTimer(now ntptime.Instant, out *Output) {
	if s.waiting() && now.Raw >= s.firstHeard.Add(hearing) {
		s.firstSelection(now, out)
	}
	s.leapTimer(now, out)
	if now.Raw >= s.steer.end {
		s.endSlew(now, out)
	}
	if now.Raw >= s.local.due {
		s.next = now.Raw // serve it at once: setState decides
	}
	if now.Raw >= s.next {
		s.next = now.Raw.Add(republish)
		s.leapVote(now, out)
		s.setState(now, out)
		out.Changed = true
	}
}

// firstSelection goes ahead without the sources that have not answered.
func (s *System) firstSelection(now ntptime.Instant, out *Output) {
	s.reselect(now, nil, out)
	s.replayJoint()
	if s.summary.Usable && s.joint.Started() {
		s.updates++
		s.lastUpdate = now
		s.poll.Hurry(s.lowPoll())
		s.correct(now, out)
	} else {
		s.firstHeard = now.Raw // try again with the next samples
	}
	s.setState(now, out)
}

// synchronized says whether the clock may be called right: it was corrected by a
// usable source, and not so long ago that nothing is known any more.
func (s *System) synchronized(now ntptime.Raw) bool {
	if s.steer.refused != 0 {
		return false
	}
	if s.summary.Usable && s.joint.Started() && s.updates > 0 {
		return true
	}
	return s.updates > 0 && s.joint.Started() && now.Sub(s.lastUsable) < holdoverLimit
}

// holdoverLimit is how long the last estimate serves without any source: RFC
// 5905's 15 ppm reach MAXDIST after about as long.
const holdoverLimit = 24 * time.Hour

// setState works out the state for reports, and tells of changes.
func (s *System) setState(now ntptime.Instant, out *Output) {
	old, wasSynced := s.state, s.synced
	s.synced = s.synchronized(now.Raw)
	s.localTimer(now)
	switch {
	case s.steer.refused != 0:
		s.state = model.DisciplinePanic
	case s.local.active:
		s.state = model.DisciplineLocal
	case s.synced && !s.summary.Usable:
		s.state = model.DisciplineHoldover
	case s.synced && s.joint.Updates() < 8:
		s.state = model.DisciplineStarting
	case s.synced:
		s.state = model.DisciplineSync
	default:
		s.state = model.DisciplineUnset
	}
	switch {
	case s.synced && !wasSynced:
		s.event(out, now, model.EventSynchronized, s.summary.SystemPeer, 0, "")
	case !s.synced && wasSynced:
		s.event(out, now, model.EventUnsynchronized, 0, 0, "")
		s.tellKernel(now, out)
	case s.state != old && s.state == model.DisciplineHoldover:
		s.event(out, now, model.EventHoldover, 0, 0, "")
	}
	if s.state != old && s.state == model.DisciplineLocal {
		s.event(out, now, model.EventLocal, 0, 0, "")
	}
}

// tellKernel repeats the correction in force with the quality of now. Without a
// state that is the drift file's frequency.
func (s *System) tellKernel(now ntptime.Instant, out *Output) {
	if out.HasCorrection {
		out.Correction.Kernel.Leap = s.kernelLeap(now)
		return
	}
	if s.joint.Started() {
		left, e := s.residual(now)
		s.emit(now, out, 0, s.clock.freq, s.clock.slew, left, e)
	} else if s.local.active {
		s.emit(now, out, 0, s.frequency(float64(s.cfg.Frequency)), 0, 0, filter.Estimate{})
	}
}

// kernelLeap is what the kernel is armed with: nothing, unless it does the leap.
func (s *System) kernelLeap(now ntptime.Instant) wire.Leap {
	if s.cfg.Leap.Mode != LeapKernel {
		return wire.LeapNone
	}
	return s.leap.armed(now.Wall)
}

// leapOf is LeapUnknown while the clock is not synchronized.
func (s *System) leapOf(now ntptime.Instant) wire.Leap {
	if !s.synced && !s.local.active {
		return wire.LeapUnknown
	}
	return s.leap.armed(now.Wall)
}
