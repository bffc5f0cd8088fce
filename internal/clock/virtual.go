package clock

import (
	"sync"
	"time"

	"timeball/internal/ntptime"
)

// VirtualConfig says how wrong a virtual clock starts.
type VirtualConfig struct {
	Offset    time.Duration     // reference − local: positive, the clock starts behind true time
	Frequency ntptime.Frequency // of its oscillator: positive, it runs too fast; within ±10 %
}

// Virtual is a clock in software whose error is known: an oscillator that runs
// Frequency fast, with a disciplined timeline on top. True time is the line that
// CLOCK_MONOTONIC_RAW draws from the machine's civil time at the process's first
// virtual clock, so all of a process share one truth.
type Virtual struct {
	software
	truth epoch
}

var _ Clock = (*Virtual)(nil)

// truth is the true time of all virtual clocks of this process.
var truth = sync.OnceValue(func() epoch { return readEpoch(System()) })

// NewVirtual returns a virtual clock over this machine's oscillator.
func NewVirtual(c VirtualConfig) *Virtual { return newVirtual(System(), truth(), c) }

func newVirtual(host Host, e epoch, c VirtualConfig) *Virtual {
	v := &Virtual{truth: e}
	v.start(host, e, -c.Offset, boundRate(c.Frequency))
	return v
}

// TrueError returns disciplined − true time: positive, the clock is ahead.
func (v *Virtual) TrueError() time.Duration {
	v.mu.Lock()
	slept := v.slept
	v.mu.Unlock()
	hostRaw := v.host.MonotonicRaw()
	return v.instant(hostRaw).Wall.Sub(v.truth.civil(hostRaw, slept))
}

// Set sets the clock as somebody else would, without a word to whoever disciplines it:
// reference − local grows by offset, so the clock goes back by it. CheckJump will notice.
func (v *Virtual) Set(offset time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notice()
	v.jump(-offset, 0)
}

// Observe is a disciplined timeline in software over the machine's own oscillator. It
// starts at CLOCK_REALTIME and never touches the kernel's clock.
type Observe struct {
	software
}

var _ Clock = (*Observe)(nil)

// NewObserve returns the timeline of this machine.
func NewObserve() *Observe { return newObserve(System()) }

// MachineOffset is how far the machine's own clock, which nobody here sets, is from this
// timeline now: disciplined − CLOCK_REALTIME; positive means that the machine is behind.
func (o *Observe) MachineOffset() time.Duration {
	p := readPair(o.host, o.tight)
	return o.instant(p.raw).Wall.Sub(p.real)
}

func newObserve(host Host) *Observe {
	o := &Observe{}
	o.start(host, readEpoch(host), 0, 0)
	return o
}
