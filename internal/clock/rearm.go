package clock

import (
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// The kernel forgets when an armed leap second is due as soon as the clock is set, by us or
// by somebody else, and stays in the state of one who knows (kernel/time/ntp.c: ntp_clear
// sets ntp_next_leap_sec alone). It works it out anew only after a second that it was not
// armed in. So it is disarmed whenever the clock is set, and armed again leapLapse later.
const leapLapse = 2100 * time.Millisecond

// lapse has the kernel disarmed for a while from raw on.
func (k *Kernel) lapse(raw ntptime.Raw) { k.armFrom = raw.Add(leapLapse) }

// arming is what the kernel is armed with of a leap second wanted.
func (k *Kernel) arming(wanted wire.Leap) wire.Leap {
	if k.armFrom != 0 {
		return wire.LeapNone
	}
	return wanted
}

// rearm ends a lapse that has lasted long enough.
func (k *Kernel) rearm() {
	raw := ntptime.Raw(k.sys.MonotonicRaw() - k.origin)
	if k.armFrom == 0 || raw < k.armFrom {
		return
	}
	k.armFrom = 0
	if k.owned && k.last.Kernel.Leap != wire.LeapNone {
		k.restate(raw)
	}
}
