package system

import (
	"math"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/smear"
	"timeball/internal/wire"
)

// LeapMode says what to do at a leap second.
type LeapMode uint8

// The modes.
const (
	LeapKernel LeapMode = iota // the kernel inserts or deletes it
	LeapStep                   // we step the clock at that moment
	LeapSlew                   // we slew it afterwards
	LeapIgnore                 // nothing: the sources' second is found like any other error
	LeapSmear                  // as LeapKernel for our own clock; what is served is smeared
)

// byKernel reports whether the kernel makes the leap second.
func (m LeapMode) byKernel() bool { return m == LeapKernel || m == LeapSmear }

// LeapEntry is a row of the leap-second list: TAI−UTC from a moment on.
type LeapEntry struct {
	At  ntptime.Wall
	TAI int
}

// LeapConfig is the operator's choice and the list, if there is one.
type LeapConfig struct {
	Mode  LeapMode
	Table []LeapEntry // in order of time
	// Expires is until when the table tells of every leap second there is; 0: it does
	// not say, and the sources are asked where it has no entry.
	Expires ntptime.Wall
	// Window and Shape say how LeapSmear spreads it.
	Window time.Duration
	Shape  smear.Shape
}

// leapState is the leap second to come.
type leapState struct {
	at   ntptime.Wall // first moment after it; 0: none
	sign int          // +1 inserted, −1 deleted
	due  ntptime.Raw
	done ntptime.Wall // first moment after the last one
	told wire.Leap    // what the kernel was told
	tai  int
}

const (
	leapWindow = 24 * time.Hour // announced on its last day only (RFC 5905 §7.3)
	leapGuard  = 2 * time.Second
	// The kernel makes the leap second at the first tick after it, up to 10 ms late with
	// 100 of them a second. To take it for made before would have the next correction
	// disarm it.
	leapLate = 50 * time.Millisecond
	// A clock that is so far off is not what tells when the leap second is.
	leapOff = 1.0 // s
)

// armed is the indicator to show at a moment.
func (l *leapState) armed(now ntptime.Wall) wire.Leap {
	switch {
	case l.at == 0 || l.at.Sub(now) > leapWindow:
		return wire.LeapNone
	case l.sign > 0:
		return wire.LeapInsert
	}
	return wire.LeapDelete
}

// straddles says whether an exchange lies across a leap second: its four
// timestamps are then of two scales.
func (l *leapState) straddles(m *model.Sample) bool {
	near := func(at, w ntptime.Wall) bool { return at != 0 && at.Sub(w).Abs() < leapGuard }
	return near(l.at, m.T3) || near(l.at, m.T4.Wall) || near(l.done, m.T3) || near(l.done, m.T4.Wall)
}

// monthEnd returns the first moment of the month after now.
func monthEnd(now ntptime.Wall) ntptime.Wall {
	t := now.Time()
	return ntptime.WallOf(time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC))
}

// leapClock is the time by which the leap second comes: the clock's, or what it should
// read where it is far off, because somebody has set it or it is yet to be corrected.
// Nobody else is asked while a correction is refused.
func (s *System) leapClock(now ntptime.Instant) ntptime.Wall {
	if !s.combined.Started() || s.discipline.Refused() != 0 {
		return now.Wall
	}
	left, _ := s.residual(now)
	if s.cfg.Leap.Mode.byKernel() && math.Abs(left) < leapOff {
		return now.Wall // by which the kernel goes
	}
	return now.Wall.Add(dur(left))
}

// leapVote looks for a leap second at the end of this month: the list says so,
// or, without a list that reaches as far, the majority of the combined sources on
// the last day.
func (s *System) leapVote(now ntptime.Instant, out *Output) {
	clock := s.leapClock(now)
	end := monthEnd(clock)
	sign, known := s.leapListed(end)
	if !known {
		sign = 0
		if end.Sub(clock) <= leapWindow && leapMonth(clock) && s.summary.Usable {
			sign = s.leapMajority()
		}
	}
	if end == s.leap.done {
		sign = 0 // we are in the inserted second
	}
	switch {
	case sign == 0 && s.leap.at == end:
		s.leap.at, s.leap.due = 0, ntptime.Never
	case sign != 0 && s.leap.at != end && !s.inLeap(now.Raw):
		s.leap.at, s.leap.sign = end, sign
		s.event(out, now, model.EventLeapArmed, 0, time.Duration(sign)*time.Second, "")
	}
	if !s.inLeap(now.Raw) {
		s.leapSchedule(now)
	}
	if armed := s.leap.armed(s.leapClock(now)); armed != s.leap.told {
		s.leap.told = armed
		if s.cfg.Leap.Mode.byKernel() {
			s.tellKernel(now, out)
		}
		out.Changed = true
	}
}

// leapListed looks the end of the month up in the list. known is false when the
// list does not reach so far: only then the sources may say otherwise.
func (s *System) leapListed(end ntptime.Wall) (sign int, known bool) {
	table := s.cfg.Leap.Table
	s.leap.tai = 0
	for i := range table {
		if table[i].At <= end.Add(-time.Second) {
			s.leap.tai = table[i].TAI
		}
		if i > 0 && table[i].At == end {
			return table[i].TAI - table[i-1].TAI, true
		}
	}
	return 0, len(table) > 0 && end <= s.cfg.Leap.Expires
}

// leapMonth says whether sources are believed that announce a leap second in this
// month: all there ever were came at the end of June or December (threats 49).
func leapMonth(now ntptime.Wall) bool {
	month := now.Time().Month()
	return month == time.June || month == time.December
}

func (s *System) leapMajority() int {
	insert, remove, n := 0, 0, 0
	for _, src := range s.sources {
		if !src.inCombined {
			continue
		}
		n++
		switch src.server.Leap {
		case wire.LeapInsert:
			insert++
		case wire.LeapDelete:
			remove++
		}
	}
	switch {
	case 2*insert > n:
		return 1
	case 2*remove > n:
		return -1
	}
	return 0
}

// leapSchedule sets the timer to the leap second itself, or to when the kernel has made it.
// It is on the raw scale, and so to be set anew whenever the other is.
func (s *System) leapSchedule(now ntptime.Instant) {
	s.leap.due = ntptime.Never
	if s.leap.at == 0 {
		return
	}
	moment := s.leap.at
	if s.leap.sign < 0 {
		moment = moment.Add(-time.Second)
	}
	s.leap.due = now.Raw.Add(s.untilClockReads(moment.Sub(s.leapClock(now)), now.Raw))
	if s.cfg.Leap.Mode.byKernel() {
		s.leap.due = s.leap.due.Add(leapLate)
	}
}

// untilClockReads is how long it takes on the raw scale until the clock has gone on by d: a
// clock that is slewed back by 1 % needs 60 ms more for the last six seconds of a day.
func (s *System) untilClockReads(d time.Duration, now ntptime.Raw) time.Duration {
	frequency, slew := s.discipline.Frequency(), s.discipline.SlewRate()
	if slew == 0 {
		return time.Duration(float64(d) / (1 + frequency))
	}
	slewed := max(s.discipline.Deadline().Sub(now), 0)
	if all := time.Duration(float64(d) / (1 + frequency + slew)); all <= slewed {
		return all
	}
	rest := float64(d) - float64(slewed)*(1+frequency+slew)
	return slewed + time.Duration(rest/(1+frequency))
}

// inLeap reports whether the kernel is just about to make the leap second, or has made it
// and we have not yet followed: nothing is to be corrected then.
func (s *System) inLeap(now ntptime.Raw) bool {
	return s.leap.at != 0 && s.cfg.Leap.Mode.byKernel() && now < s.leap.due && now >= s.leap.due.Add(-leapLate)
}

// afterLeap puts a deadline that lies in there behind it.
func (s *System) afterLeap(deadline ntptime.Raw) ntptime.Raw {
	if s.inLeap(deadline) {
		return s.leap.due
	}
	return deadline
}

// leapApplied follows the leap second that the clock says it has made.
func (s *System) leapApplied(a model.Applied, out *Output) {
	made := a.Correction.Step + time.Duration(s.leap.sign)*time.Second
	if s.inLeap(a.At.Raw) && made.Abs() < 100*time.Millisecond {
		s.leap.due = a.At.Raw
		s.leapTimer(a.At, out)
	}
}

// leapClockSet looks at the leap second anew when the clock was set. One that the clock has
// been set past without anybody who knows better is no more.
func (s *System) leapClockSet(now ntptime.Instant) {
	if s.leap.at != 0 && s.leapClock(now) > s.leap.at.Add(leapGuard) {
		s.leap.at, s.leap.told = 0, wire.LeapNone
	}
	s.leapSchedule(now)
}

// leapTimer does the leap second. All offsets shift with it: the references'
// second is 1 s longer or shorter, so the origin moves.
func (s *System) leapTimer(now ntptime.Instant, out *Output) {
	if s.leap.at == 0 || now.Raw < s.leap.due {
		return
	}
	by := time.Duration(s.leap.sign) * time.Second
	s.event(out, now, model.EventLeapDone, 0, by, "")
	out.Changed = true
	s.leap.tai += s.leap.sign
	s.leap.done, s.leap.at, s.leap.due, s.leap.told = s.leap.at, 0, ntptime.Never, wire.LeapNone
	if s.cfg.Leap.Mode == LeapIgnore {
		return
	}
	s.origin -= int64(by)
	if s.cfg.Leap.Mode.byKernel() {
		return
	}
	r, e := discipline.Residual{Offset: -by.Seconds(), Frequency: s.discipline.Frequency()}, filter.Estimate{}
	if s.combined.Started() {
		r, e = s.residualFor(now)
	}
	s.carryOut(now, s.discipline.Leap(now, r, by, s.cfg.Leap.Mode == LeapStep), e, out)
}

// smear is the leap second that is smeared at now, and whether it has happened.
func (s *System) smear(now ntptime.Wall) (sm smear.Smear, after bool) {
	if s.cfg.Leap.Mode != LeapSmear {
		return sm, false
	}
	sm, after = s.leapWithin(now, s.cfg.Leap.Window)
	sm.Shape = s.cfg.Leap.Shape
	return sm, after
}

// leapWithin is the leap second in whose window of smearing we are, and whether it has
// happened; the zero value: in none. After it the list tells of it, too: we may have been
// started since.
func (s *System) leapWithin(now ntptime.Wall, window time.Duration) (sm smear.Smear, after bool) {
	sm = smear.Smear{Leap: s.leap.at, Delete: s.leap.sign < 0, Window: window}
	if sm.Active(now) {
		return sm, false
	}
	if sm.Leap = s.leap.done; sm.Active(now) {
		return sm, true
	}
	table := s.cfg.Leap.Table
	for i := range table {
		if i > 0 && table[i].At <= now {
			sm = smear.Smear{Leap: table[i].At, Delete: table[i].TAI < table[i-1].TAI, Window: window}
			if sm.Active(now) {
				return sm, true
			}
		}
	}
	return smear.Smear{}, false
}
