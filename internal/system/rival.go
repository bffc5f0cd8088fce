package system

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

const (
	rivalTimes = 3                // so often within
	rivalSpan  = time.Minute      // that, somebody keeps setting the clock;
	rivalOver  = 10 * time.Minute // and not any more after so long without
)

// rivalState watches for somebody who keeps setting the clock against us.
type rivalState struct {
	at     [rivalTimes]ntptime.Raw // of the last jumps, newest first; 0: none
	active bool
}

// noteJump takes note of a clock that somebody has set. It reports whether that makes a rival.
func (r *rivalState) noteJump(now ntptime.Raw) bool {
	copy(r.at[1:], r.at[:rivalTimes-1])
	r.at[0] = now
	if r.active || r.at[rivalTimes-1] == 0 || now.Sub(r.at[rivalTimes-1]) > rivalSpan {
		return false
	}
	r.active = true
	return true
}

// isOver ends it when there was no jump for long.
func (r *rivalState) isOver(now ntptime.Raw) {
	if r.active && now.Sub(r.at[0]) > rivalOver {
		r.active = false
	}
}

// acrossJump reports whether a sample's timestamps may be of both sides of a clock that was
// set: its exchange had begun before that was noticed, or the kernel's timestamps, which
// come on the other scale, were put on ours by how the two were related before. Taken for
// true they would be a frequency that the oscillator does not have.
func (r *rivalState) acrossJump(now ntptime.Raw, m *model.Sample) bool {
	if r.at[0] == 0 || now.Sub(r.at[0]) > time.Hour {
		return false
	}
	return m.T1.Raw < r.at[0] || m.T4.Raw > now.Add(time.Millisecond)
}
