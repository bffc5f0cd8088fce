package system

import (
	"errors"
	"math"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

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
	e := s.matured(s.combined.Estimate()).Extrapolate(int64(now.Raw))
	return e.Offset - s.correction(now), e
}

// track is what follows an update of the state (RFC 5905 §11.3): the poll
// interval, the correction, and what the sources are to do next.
func (s *System) track(now ntptime.Instant, src *source, used bool, r *filter.Result, out *Output) {
	soon := src.soon(r)
	if soon == 0 {
		soon = s.stillUnclear(src)
	}
	s.interval = s.updateInterval()
	usable := s.summary.Usable && s.combined.Started()
	if usable && used && src.inCombined {
		s.updates++
		s.lastUpdate = now
		s.pollUpdate(r, now, src, out)
		s.interval = s.updateInterval()
		if soon > 0 {
			s.interval = math.Min(s.interval, soon)
		}
		s.correct(now, out)
	}
	s.setState(now, out)
	s.hints(src, soon, out)
}

// correct has the discipline decide about the error of now.
func (s *System) correct(now ntptime.Instant, out *Output) {
	r, e := s.residualFor(now)
	jumped := s.beforeJump(now, r)
	d := s.discipline.Update(now, r)
	if jumped {
		s.tellJump(now, d, out)
	}
	s.carryOut(now, d, e, out)
}

// residualFor is the error of now with what the discipline wants to know of it.
func (s *System) residualFor(now ntptime.Instant) (discipline.Residual, filter.Estimate) {
	offset, e := s.residual(now)
	return discipline.Residual{
		Offset: offset, SD: sqrt(e.P00), Frequency: e.Freq, Interval: s.interval, Gain: s.combined.Gain(), Updates: s.combined.Updates(),
	}, e
}

// carryOut tells of a decision and emits its correction. There is no other way to one.
func (s *System) carryOut(now ntptime.Instant, d discipline.Decision, e filter.Estimate, out *Output) {
	switch {
	case d.Kind == discipline.Nothing:
		return
	case d.Kind == discipline.Step:
		s.event(out, now, model.EventStep, s.summary.SystemPeer, d.Correction.Step, "")
	case d.Kind == discipline.Refuse && d.First:
		s.event(out, now, model.EventPanic, s.summary.SystemPeer, dur(d.Left), refusedText)
	}
	out.GateUsed = out.GateUsed || d.GateClosed
	out.HasCorrection = true
	out.Correction = d.Correction
	out.Correction.Kernel = s.kernelState(now, d.Left, e)
	out.Changed = true
}

// refusedText names the way out of a panic.
const refusedText = "correction refused: larger than clock.panic; check the sources and this clock, then `timeball accept-correction` lets it through"

// kernelUnknown is what the kernel is told while nobody knows how wrong its clock is:
// its NTP_PHASE_LIMIT, at which it says unsynchronized by itself.
const kernelUnknown = 16 * time.Second

// kernelState keeps adjtimex(2) honest.
func (s *System) kernelState(now ntptime.Instant, left float64, e filter.Estimate) model.KernelState {
	k := model.KernelState{MaxError: kernelUnknown, EstimatedError: kernelUnknown, TAI: s.leap.tai}
	if s.combined.Started() {
		q := s.quality(left, e)
		k.MaxError, k.EstimatedError = q.bound, q.estimated
		k.Synchronized = s.synchronized(now) || s.local.active
	}
	k.Leap = s.kernelLeap(now, left)
	return k
}

// endSlew ends a slew that has done its work, or whose end nobody knows any more.
func (s *System) endSlew(now ntptime.Instant, out *Output) {
	if !s.combined.Started() {
		s.carryOut(now, s.discipline.Stop(), filter.Estimate{}, out)
		return
	}
	r, e := s.residualFor(now)
	s.carryOut(now, s.discipline.SlewEnd(now, r), e, out)
}

// AcceptCorrection lets the correction through that the panic gate refuses, and only
// that: size is what the operator has seen. The error says why not, in words for them.
func (s *System) AcceptCorrection(now ntptime.Instant, size time.Duration, out *Output) (time.Duration, error) {
	if !s.combined.Started() {
		return 0, errors.New("no correction is being refused")
	}
	r, e := s.residualFor(now)
	d, err := s.discipline.Accept(now, r, size)
	if err != nil {
		return 0, err
	}
	s.carryOut(now, d, e, out)
	s.setState(now, out)
	return d.Correction.Step, nil
}

// OnApplied takes what the clock really did.
func (s *System) OnApplied(a model.Applied, out *Output) {
	if a.Err != "" && a.Err != s.lastRefusal {
		s.event(out, a.At, model.EventClockRefused, 0, a.Correction.Step, a.Err)
	}
	s.lastRefusal = a.Err
	s.leapApplied(a, out)
	if !s.inLeap(a.At.Raw) {
		s.leapSchedule(a.At) // the clock runs at another rate now
	}
	out.Changed = true
}

// OnClockJump takes note that somebody else set the clock, or the machine slept.
// The state is on the raw scale and survives a clock that was set: the next
// correction undoes it, by a step if it is beyond the threshold. Sleep stops the
// raw oscillator, so offsets are lost then; the frequency is kept.
func (s *System) OnClockJump(j model.ClockJump, out *Output) {
	s.event(out, j.At, model.EventClockJump, 0, j.By, jumpText(j))
	s.disruptions, s.lastDisruption = s.disruptions+1, j.At
	if j.Slept == 0 && s.rival.noteJump(j.At.Raw) {
		s.event(out, j.At, model.EventRival, 0, j.By, "")
	}
	s.discipline.ExternalStep(j.By - j.Slept)
	if j.Slept != 0 {
		s.forget()
		s.carryOut(j.At, s.discipline.Stop(), filter.Estimate{}, out)
	}
	s.leapClockSet(j.At)
	s.poll.Hurry(s.lowPoll())
	for _, src := range s.sources {
		src.startupDone = 1
	}
	s.setState(j.At, out)
	s.tellKernel(j.At, out) // whoever has set the clock has told it that nobody knows the time
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
	if s.combined.Started() {
		e := s.combined.Estimate()
		s.cfg.Frequency, s.cfg.FrequencyError = ntptime.Frequency(e.Freq), ntptime.Frequency(1e-7+3*sqrt(e.P11))
	}
	s.combined.Reset()
	s.heard = false
	for _, src := range s.sources {
		src.filter.Restart()
		src.certain = certain{}
		src.samples = 0
		src.inCombined = false
		src.bias = bias{}
		if src.estimate != nil {
			src.estimate.Reset()
		}
	}
}

// Deadline returns when OnTimer is due.
func (s *System) Deadline() ntptime.Raw {
	d := min(s.afterLeap(s.next), s.afterLeap(s.discipline.Deadline()), s.leap.due, s.afterLeap(s.local.due))
	if s.waiting() {
		d = min(d, s.firstHeard.Add(startupWait))
	}
	return d
}

// waiting says whether first answers are held back for those of others.
func (s *System) waiting() bool { return s.heard && s.soleSource == nil && !s.combined.Started() }

// OnTimer does what is due.
func (s *System) OnTimer(now ntptime.Instant, out *Output) {
	if s.recall {
		s.recall = false
		if !s.combined.Started() {
			s.carryOut(now, s.discipline.Start(float64(s.cfg.Frequency)), filter.Estimate{}, out)
		}
	}
	if s.waiting() && now.Raw >= s.firstHeard.Add(startupWait) {
		s.firstSelection(now, out)
	}
	s.leapTimer(now, out)
	if s.inLeap(now.Raw) {
		return
	}
	if now.Raw >= s.discipline.Deadline() {
		s.endSlew(now, out)
	}
	if now.Raw >= s.local.due {
		s.next = now.Raw // serve it at once: setState decides
	}
	if now.Raw >= s.next {
		s.next = now.Raw.Add(republish)
		s.leapVote(now, out)
		s.setState(now, out)
		s.rival.isOver(now.Raw)
		out.Changed = true
	}
}

// firstSelection goes ahead without the sources that have not answered.
func (s *System) firstSelection(now ntptime.Instant, out *Output) {
	s.reselect(now, nil, out)
	s.replayCombined()
	if s.summary.Usable && s.combined.Started() {
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
// usable source, not so long ago that nothing is known any more, and it is no further
// off than a source may be (selection.max_distance).
func (s *System) synchronized(now ntptime.Instant) bool {
	if s.discipline.Refused() != 0 || s.updates == 0 || !s.combined.Started() {
		return false
	}
	if !s.summary.Usable && now.Raw.Sub(s.lastUsable) >= holdoverLimit {
		return false
	}
	return s.quality(s.residual(now)).bound <= s.cfg.MaxDistance
}

// holdoverLimit is how long the last estimate serves without any source: RFC
// 5905's 15 ppm reach MAXDIST after about as long.
const holdoverLimit = 24 * time.Hour

// setState works out the state for reports, and tells of changes.
func (s *System) setState(now ntptime.Instant, out *Output) {
	old, wasSynced := s.state, s.synced
	s.synced = s.synchronized(now)
	s.localTimer(now)
	switch {
	case s.discipline.Refused() != 0:
		s.state = model.DisciplinePanic
	case s.local.active:
		s.state = model.DisciplineLocal
	case s.synced && !s.summary.Usable:
		s.state = model.DisciplineHoldover
	case s.synced && s.combined.Updates() < 8:
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
		s.event(out, now, model.EventUnsynchronized, 0, 0, s.whyUnsynchronized())
		s.tellKernel(now, out)
	case s.state != old && s.state == model.DisciplineHoldover:
		s.event(out, now, model.EventHoldover, 0, 0, "")
	}
	if s.state != old && s.state == model.DisciplineLocal {
		s.event(out, now, model.EventLocal, 0, 0, "")
	}
}

// whyUnsynchronized says why the clock is not called right, "" where no source is usable.
func (s *System) whyUnsynchronized() string {
	switch {
	case s.discipline.Refused() != 0:
		return "a correction beyond clock.panic is refused"
	case s.summary.Usable:
		return "its error may be above selection.max_distance"
	}
	return ""
}

// tellKernel repeats the correction in force with the quality of now. Without a
// state that is the drift file's frequency.
func (s *System) tellKernel(now ntptime.Instant, out *Output) {
	if out.HasCorrection {
		left := 0.0
		if s.combined.Started() {
			left, _ = s.residual(now)
			left -= out.Correction.Step.Seconds()
		}
		out.Correction.Kernel.Leap = s.kernelLeap(now, left)
		return
	}
	if s.combined.Started() {
		left, e := s.residual(now)
		s.carryOut(now, s.discipline.Restate(left), e, out)
	} else if s.local.active {
		s.carryOut(now, s.discipline.Start(float64(s.cfg.Frequency)), filter.Estimate{}, out)
	}
}

// kernelLeap is what the kernel is armed with: nothing, unless it does the leap, and its
// clock, with left seconds still to be corrected, knows when.
func (s *System) kernelLeap(now ntptime.Instant, left float64) wire.Leap {
	if !s.cfg.Leap.Mode.byKernel() || math.Abs(left) >= leapOff && s.discipline.Refused() == 0 {
		return wire.LeapNone
	}
	return s.leap.armed(s.leapClock(now))
}

// leapOf is LeapUnknown while the clock is not synchronized.
func (s *System) leapOf(now ntptime.Instant) wire.Leap {
	if !s.synced && !s.local.active {
		return wire.LeapUnknown
	}
	return s.leap.armed(s.leapClock(now))
}
