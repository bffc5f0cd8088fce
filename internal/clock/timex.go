package clock

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// The kernel's units (adjtimex(2), kernel/time/ntp.c).
const (
	userHZ      = 100                      // ticks a second as user space sees them
	nominalTick = 1_000_000 / userHZ       // µs
	tickUnit    = 1 / float64(nominalTick) // s/s of one µs a tick: 100 ppm
	freqUnit    = 1e-6 / 65536             // s/s of one unit of timex.freq
	maxFreq     = 500 * 65536              // MAXFREQ_SCALED
	maxTick     = nominalTick * 11 / 10    // the kernel refuses more than ±10 %
	minTick     = nominalTick * 9 / 10     //
	phaseLimit  = 16 * time.Second         // NTP_PHASE_LIMIT: at this maxerror the kernel says unsynchronized
	maxTAI      = 100_000                  // MAX_TAI_OFFSET
)

// splitRate divides a rate against the oscillator into the kernel's tick and freq,
// and says what rate they make together. Up to ±500 ppm the tick stays nominal, as
// other readers of adjtimex expect; beyond, the tick takes the nearest 100 ppm and
// freq the rest.
func splitRate(rate ntptime.Frequency) (tick, freq int64, made ntptime.Frequency) {
	r := float64(boundRate(rate))
	tick = nominalTick
	if math.Abs(r) > maxFreq*freqUnit {
		tick += int64(math.Round(r / tickUnit))
		tick = max(minTick, min(maxTick, tick))
	}
	rest := r - float64(tick-nominalTick)*tickUnit
	freq = int64(math.Round(rest / freqUnit))
	freq = max(-maxFreq, min(maxFreq, freq))
	return tick, freq, joinRate(tick, freq)
}

// joinRate is the rate of CLOCK_REALTIME against CLOCK_MONOTONIC_RAW that a tick and
// a freq make.
func joinRate(tick, freq int64) ntptime.Frequency {
	return ntptime.Frequency(float64(tick-nominalTick)*tickUnit + float64(freq)*freqUnit)
}

// stepTimex asks for a step, exact to the nanosecond (ADJ_SETOFFSET).
func stepTimex(by time.Duration) unix.Timex {
	seconds, nanos := int64(by/time.Second), int64(by%time.Second)
	if nanos < 0 { // the kernel wants 0 ≤ tv_usec < 10^9, also with negative seconds
		seconds, nanos = seconds-1, nanos+int64(time.Second)
	}
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	t.Time.Sec, t.Time.Usec = seconds, nanos
	return t
}

// rateTimex asks for a tick and a freq, and tells the kernel the state of its clock.
func rateTimex(tick, freq int64, state model.KernelState) unix.Timex {
	t := unix.Timex{
		Modes:    unix.ADJ_TICK | unix.ADJ_FREQUENCY | unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Tick:     tick,
		Freq:     freq,
		Status:   status(state),
		Maxerror: microseconds(state.MaxError),
		Esterror: microseconds(state.EstimatedError),
	}
	if !state.Synchronized && state.MaxError <= 0 {
		t.Maxerror = microseconds(phaseLimit)
	}
	return t
}

// errorTimex tells the kernel the state of its clock, and leaves its rate alone.
func errorTimex(state model.KernelState) unix.Timex {
	return unix.Timex{
		Modes:    unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status:   status(state),
		Maxerror: microseconds(state.MaxError),
		Esterror: microseconds(state.EstimatedError),
	}
}

// taiTimex asks for a TAI−UTC in seconds (ADJ_TAI takes it in Constant).
func taiTimex(seconds int) unix.Timex {
	return unix.Timex{Modes: unix.ADJ_TAI, Constant: int64(seconds)}
}

// status is the kernel's status word. STA_PLL is never in it: the kernel's own loop
// would steer against ours.
func status(state model.KernelState) int32 {
	var s int32
	// From the phase limit on the kernel sets STA_UNSYNC itself once a second: to clear it
	// at every correction would make it flicker.
	if !state.Synchronized || state.MaxError >= phaseLimit {
		s |= unix.STA_UNSYNC
	}
	switch state.Leap {
	case wire.LeapInsert:
		s |= unix.STA_INS
	case wire.LeapDelete:
		s |= unix.STA_DEL
	}
	return s
}

// microseconds rounds up, within 0 and the kernel's limit.
func microseconds(d time.Duration) int64 {
	d = max(0, min(phaseLimit, d))
	return int64((d + time.Microsecond - 1) / time.Microsecond)
}
