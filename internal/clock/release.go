package clock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

// A slew beyond 500 ppm is in the kernel's tick, which no kernel ends by itself: adjtime(3)
// ends what it slews, but at no more than 500 ppm. So a daemon that dies in mid-slew leaves
// a clock that runs up to 10 % fast for good. Release is what ends it from outside: after a
// daemon's end, and before the next one's first correction.

// Released is what Release found and did.
type Released struct {
	Found, Left ntptime.Frequency // rate of the clock before and after
	Changed     bool              // the rate was put back
}

// Release puts the kernel's tick and frequency back to the lasting correction that a daemon
// had in force, and says that the clock is not synchronized where the daemon did not end in
// order. Without a frequency known what the tick adds is taken off, and the rest kept.
// Without CAP_SYS_TIME the error is ErrPrivilege.
func Release(sys Syscalls, lasting ntptime.Frequency, known, orderly bool) (Released, error) {
	var t unix.Timex
	if _, err := sys.Adjtimex(&t); err != nil {
		return Released{}, fmt.Errorf("read the kernel's clock state: %w", err)
	}
	r := Released{Found: joinRate(t.Tick, t.Freq)}
	r.Left = r.Found
	set := unix.Timex{Tick: t.Tick, Freq: t.Freq}
	switch tick, freq, made := splitRate(lasting); {
	case known && (t.Tick != tick || t.Freq != freq):
		set.Modes, set.Tick, set.Freq, r.Left = unix.ADJ_TICK|unix.ADJ_FREQUENCY, tick, freq, made
	case !known && t.Tick != nominalTick:
		set.Modes, set.Tick, r.Left = unix.ADJ_TICK, nominalTick, joinRate(nominalTick, t.Freq)
	}
	r.Changed = set.Modes != 0
	if !orderly {
		set.Modes |= unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR
		set.Status = unix.STA_UNSYNC
		set.Maxerror, set.Esterror = microseconds(phaseLimit), microseconds(phaseLimit)
	}
	if set.Modes == 0 {
		return r, nil
	}
	if !sys.MaySet() {
		return Released{Found: r.Found, Left: r.Found}, ErrPrivilege
	}
	if _, err := sys.Adjtimex(&set); err != nil {
		return Released{Found: r.Found, Left: r.Found}, fmt.Errorf("put the clock's rate back: adjtimex: %w", err)
	}
	return r, nil
}

// Diverging reports whether the kernel's clock runs at a rate that no oscillator needs, as a
// daemon that died in mid-slew has left it.
func Diverging(sys Syscalls) bool {
	var t unix.Timex
	_, err := sys.Adjtimex(&t)
	return err == nil && t.Tick != nominalTick
}
