package system

import (
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
)

func (l *leapState) init() { l.due = ntptime.Never }

// armed is the indicator to show at a moment.
func (l *leapState) armed(now ntptime.Wall) wire.Leap {
	switch {
	case l.at == 0 || l.at.Sub(now) > leapWindow || now >= l.at:
		return wire.LeapNone
	case l.sign > 0:
		return wire.LeapInsert
	}
	return wire.LeapDelete
}

func (l *leapState) pending() ntptime.Wall { return l.at }

// straddles says whether an exchange lies across a leap second: its four
// stamps are then of two scales.
func (l *leapState) straddles(m *model.Sample) bool {
	near := func(at, w ntptime.Wall) bool { return at != 0 && at.Sub(w).Abs() < leapGuard }
	return near(l.at, m.T3) || near(l.at, m.T4.Wall) || near(l.done, m.T3) || near(l.done, m.T4.Wall)
}

// monthEnd returns the first moment of the month after now.
func monthEnd(now ntptime.Wall) ntptime.Wall {
	t := now.Time()
	return ntptime.WallOf(time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC))
}

// leapVote looks for a leap second at the end of this month: the list says so,
// or, without a list that reaches as far, the majority of the joint sources on
// the last day.
func (s *System) leapVote(now ntptime.Instant, out *Output) {
	end := monthEnd(now.Wall)
	sign, known := s.leapListed(end)
	if !known {
		sign = 0
		if end.Sub(now.Wall) <= leapWindow && leapMonth(now.Wall) && s.summary.Usable {
			sign = s.leapMajority()
		}
	}
	if end == s.leap.done {
		sign = 0 // we are in the inserted second
	}
	switch {
	case sign == 0 && s.leap.at == end:
		s.leap.at, s.leap.due = 0, ntptime.Never
	case sign != 0 && s.leap.at != end:
		s.leap.at, s.leap.sign = end, sign
		s.event(out, now, model.EventLeapArmed, 0, time.Duration(sign)*time.Second, "")
	}
	s.leapSchedule(now)
	if armed := s.leap.armed(now.Wall); armed != s.leap.told {
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
		if !src.inJoint {
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

// leapSchedule sets the timer to the leap second itself, as the clock reads now.
func (s *System) leapSchedule(now ntptime.Instant) {
	s.leap.due = ntptime.Never
	if s.leap.at == 0 {
		return
	}
	moment := s.leap.at
	if s.leap.sign < 0 {
		moment = moment.Add(-time.Second)
	}
	s.leap.due = now.Raw.Add(moment.Sub(now.Wall))
}

// leapTimer does the leap second. All offsets shift with it: the references'
// second is 1 s longer or shorter, so the origin moves.
func (s *System) leapTimer(now ntptime.Instant, out *Output) {
	if s.leap.at == 0 || now.Raw < s.leap.due {
		return
	}
	by := time.Duration(s.leap.sign) * time.Second
	s.event(out, now, model.EventLeapDone, 0, by, "")
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
	if s.joint.Started() {
		r, e = s.residualFor(now)
	}
	s.carryOut(now, s.discipline.Leap(now, r, by, s.cfg.Leap.Mode == LeapStep), e, out)
}

// smear is the leap second that is smeared at now, and whether it has happened. After it
// the list tells of it, too: we may have been started since.
func (s *System) smear(now ntptime.Wall) (sm smear.Smear, after bool) {
	if s.cfg.Leap.Mode != LeapSmear {
		return sm, false
	}
	sm = smear.Smear{Leap: s.leap.at, Delete: s.leap.sign < 0, Window: s.cfg.Leap.Window, Shape: s.cfg.Leap.Shape}
	if sm.Active(now) {
		return sm, false
	}
	if sm.Leap = s.leap.done; sm.Active(now) {
		return sm, true
	}
	table := s.cfg.Leap.Table
	for i := range table {
		if i > 0 && table[i].At <= now {
			sm.Leap, sm.Delete = table[i].At, table[i].TAI < table[i-1].TAI
			if sm.Active(now) {
				return sm, true
			}
		}
	}
	return smear.Smear{}, false
}
