package clock

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// fakeHost is a machine whose clocks are numbers. Every reading takes tick of true
// time, as real ones do; the kernel's timex follows kernel/time/ntp.c as far as
// adjtimex(2) tells it.
type fakeHost struct {
	tick time.Duration // a reading takes this long

	raw, monotonic, real float64 // fractions below the nanosecond kept
	realBase             int64   // real counts from here
	boot                 time.Duration
	grown                time.Duration // true time not yet counted into maxerror

	timex    unix.Timex // as adjtimex would show it; Freq, Tick, Status, ...
	pllSlew  float64    // s/s left by another daemon's loop
	forbid   error      // what setting answers
	unable   bool       // no CAP_SYS_TIME
	setCalls []unix.Timex
	state    int
	pending  bool // the kernel has seen the leap second armed (time_state TIME_INS or TIME_DEL)
	forgot   bool // and then the clock was set (ntp_next_leap_sec TIME64_MAX)
}

const fakeStart = int64(1_800_000_000) * 1e9 // 2027-01-15 08:00:00 UTC

func newFakeHost() *fakeHost {
	h := &fakeHost{tick: 25, realBase: fakeStart, raw: 5e9, monotonic: 7e9, boot: 100 * time.Second}
	h.timex.Tick = 10000
	h.timex.Status = unix.STA_UNSYNC
	h.timex.Maxerror = 16_000_000
	return h
}

// pass lets true time go by.
func (h *fakeHost) pass(d time.Duration) {
	for d > 0 { // in stretches that keep float64 exact enough
		part := min(d, time.Hour)
		rate := float64(h.timex.Tick-10000)*100e-6 + float64(h.timex.Freq)/65536*1e-6 + h.pllSlew
		h.raw += float64(part)
		h.monotonic += float64(part) * (1 + rate)
		h.leap(float64(part) * (1 + rate))
		h.grown += part
		if whole := h.grown / time.Second; whole > 0 { // MAXFREQ: 500 µs a second
			h.timex.Maxerror = min(16_000_000, h.timex.Maxerror+500*int64(whole))
			h.grown -= whole * time.Second
		}
		d -= part
	}
}

// leap moves real on, and makes a leap second at the end of the UTC day if one is armed.
func (h *fakeHost) leap(by float64) {
	before := h.realtime()
	h.real += by
	armed := h.timex.Status&(unix.STA_INS|unix.STA_DEL) != 0
	if before/1e9 != h.realtime()/1e9 && armed != h.pending { // second_overflow
		h.pending, h.forgot = armed, false
	}
	if !h.pending || h.forgot {
		return
	}
	const day = int64(24 * time.Hour)
	midnight := before - before%day + day
	switch {
	case h.state == unix.TIME_WAIT:
	case h.timex.Status&unix.STA_INS != 0 && h.realtime() >= midnight:
		h.real -= 1e9
		h.state = unix.TIME_WAIT
	case h.timex.Status&unix.STA_DEL != 0 && h.realtime() >= midnight-int64(time.Second):
		h.real += 1e9
		h.state = unix.TIME_WAIT
	}
}

// sleep is a suspend: the oscillator stands still, the kernel sets CLOCK_REALTIME on.
func (h *fakeHost) sleep(d time.Duration) {
	h.boot += d
	h.real += float64(d)
}

// set is somebody else's clock_settime: by is added.
func (h *fakeHost) set(by time.Duration) {
	h.realBase += int64(by)
	h.timex.Status |= unix.STA_UNSYNC
	h.forgot = h.pending
}

func (h *fakeHost) realtime() int64 { return h.realBase + int64(math.Floor(h.real)) }

func (h *fakeHost) Realtime() (int64, int64) {
	h.pass(h.tick)
	return h.realtime(), int64(math.Floor(h.monotonic))
}

func (h *fakeHost) MonotonicRaw() int64 { h.pass(h.tick); return int64(math.Floor(h.raw)) }

func (h *fakeHost) Boottime() int64 {
	h.pass(h.tick)
	return int64(math.Floor(h.monotonic)) + int64(h.boot)
}

func (h *fakeHost) MaySet() bool { return !h.unable }

func (h *fakeHost) Adjtimex(t *unix.Timex) (int, error) {
	h.pass(h.tick)
	if t.Modes != 0 {
		if h.forbid != nil {
			return -1, h.forbid
		}
		h.setCalls = append(h.setCalls, *t)
		if err := h.adjust(t); err != nil {
			return -1, err
		}
	}
	modes := t.Modes
	*t = h.timex
	t.Modes = modes
	now := h.realtime()
	t.Time.Sec, t.Time.Usec = now/1e9, now%1e9/1000
	return h.state, nil
}

// adjust checks as the kernel does, then does what the modes say.
func (h *fakeHost) adjust(t *unix.Timex) error {
	if t.Modes&unix.ADJ_TICK != 0 && (t.Tick < 9000 || t.Tick > 11000) {
		return unix.EINVAL
	}
	if t.Modes&unix.ADJ_SETOFFSET != 0 {
		limit := int64(1e6)
		if t.Modes&unix.ADJ_NANO != 0 {
			limit = 1e9
		}
		if t.Time.Usec < 0 || t.Time.Usec >= limit {
			return unix.EINVAL
		}
		h.realBase += t.Time.Sec*1e9 + t.Time.Usec*(1e9/limit)
		h.timex.Status |= unix.STA_UNSYNC // ntp_clear
		h.forgot = h.pending
		h.timex.Maxerror, h.timex.Esterror = 16_000_000, 16_000_000
		h.pllSlew = 0
	}
	h.modes(t)
	return nil
}

func (h *fakeHost) modes(t *unix.Timex) {
	if t.Modes&unix.ADJ_STATUS != 0 {
		const readOnly = unix.STA_PPSSIGNAL | unix.STA_PPSJITTER | unix.STA_PPSWANDER | unix.STA_PPSERROR |
			unix.STA_CLOCKERR | unix.STA_NANO | unix.STA_MODE | unix.STA_CLK
		h.timex.Status = h.timex.Status&readOnly | t.Status&^readOnly
		if t.Status&(unix.STA_INS|unix.STA_DEL) == 0 {
			h.state = unix.TIME_OK
		}
	}
	if t.Modes&unix.ADJ_FREQUENCY != 0 {
		h.timex.Freq = max(-500<<16, min(500<<16, t.Freq))
	}
	if t.Modes&unix.ADJ_TICK != 0 {
		h.timex.Tick = t.Tick
	}
	if t.Modes&unix.ADJ_MAXERROR != 0 {
		h.timex.Maxerror = t.Maxerror
	}
	if t.Modes&unix.ADJ_ESTERROR != 0 {
		h.timex.Esterror = t.Esterror
	}
	if t.Modes&unix.ADJ_TAI != 0 {
		h.timex.Tai = int32(t.Constant)
	}
}
