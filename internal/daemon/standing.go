package daemon

import (
	"fmt"
	"math"
	"time"

	"timeball/internal/model"
)

// standing tells the supervisor in one line how the clock stands, whenever that changes
// (STATUS= of sd_notify(3), which `systemctl status` shows).
type standing struct {
	notify   func(state string)
	name     func(id model.SourceID) string
	observed bool // it is not the machine's clock that stands so

	told  string
	bound time.Duration // the error bound in it
}

// boundHolds is how long a bound that is told is to hold: until the next snapshot comes, at
// the latest.
const boundHolds = 32 * time.Second

// publish tells of a snapshot.
func (st *standing) publish(s *model.Snapshot) {
	if st == nil {
		return
	}
	if line := st.line(s); line != st.told {
		st.told = line
		st.notify("STATUS=" + line)
	}
}

func (st *standing) line(s *model.Snapshot) string {
	line := ""
	switch answering, all := reachable(s); {
	case s.PanicOffset != 0:
		line = "not synchronized: a correction of " + signed(s.PanicOffset.Round(time.Millisecond)) + " is refused (clock.panic)"
	case !s.Synchronized:
		line = fmt.Sprintf("not synchronized; %d of %d sources answer", answering, all)
	case s.SystemPeer != 0 && s.State != model.DisciplineLocal:
		line = "synchronized to " + st.name(s.SystemPeer) + st.atMost(s)
	case s.State == model.DisciplineHoldover:
		line = "holding over without a source" + st.atMost(s)
	default:
		line = "serving the local clock" + st.atMost(s)
	}
	if s.Rival {
		line += "; somebody else keeps setting the clock"
	}
	if st.observed {
		line = "only observing the machine's clock; " + line
	}
	return line
}

// reachable counts the sources that answer, and all of them.
func reachable(s *model.Snapshot) (answering, all int) {
	for i := range s.Sources {
		if s.Sources[i].Reach != 0 {
			answering++
		}
	}
	return answering, len(s.Sources)
}

// atMost says how wrong the clock may be: another bound only where the one told is exceeded
// or much too large, so that the line is still until something has happened.
func (st *standing) atMost(s *model.Snapshot) string {
	if s.ErrorBound >= model.UnknownBound {
		return ", error not known"
	}
	bound := s.ErrorBound + s.DispersionRate.Over(boundHolds)
	if bound > st.bound || bound < st.bound/6 {
		st.bound = roundUp(bound + bound/2)
	}
	return ", error at most " + short(st.bound)
}

// roundUp gives the next of 1, 2, 5, 10, 20, ... µs.
func roundUp(d time.Duration) time.Duration {
	for unit := time.Microsecond; ; unit *= 10 {
		for _, digit := range []time.Duration{1, 2, 5} {
			if digit*unit >= d || unit > math.MaxInt64/100 {
				return digit * unit
			}
		}
	}
}

// short is a rounded time in its largest whole unit.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%d s", d/time.Second)
	case d >= time.Millisecond:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	}
	return fmt.Sprintf("%d µs", d/time.Microsecond)
}
