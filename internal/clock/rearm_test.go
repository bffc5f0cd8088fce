package clock

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// A leap second that was armed is made although the clock has been set since: the kernel
// forgets it then, until it was disarmed for a second.
func TestLeapSecondOutlivesAClockThatIsSet(t *testing.T) {
	for name, set := range map[string]func(k *Kernel, h *fakeHost){
		"by nobody":   func(*Kernel, *fakeHost) {},
		"by our step": func(k *Kernel, h *fakeHost) { apply(t, k, armed(-3*time.Second)) },
		"by another": func(k *Kernel, h *fakeHost) {
			h.set(-30 * time.Second)
			if _, jumped := k.CheckJump(); !jumped {
				t.Error("by another: no jump told")
			}
			apply(t, k, armed(0)) // as the core answers to that
		},
	} {
		k, h := newFakeKernel(t)
		midnight := nextMidnight(ntptime.Wall(h.realtime()))
		h.pass(midnight.Sub(ntptime.Wall(h.realtime())) - 60*time.Second)
		k.CheckJump()
		apply(t, k, armed(0))
		wait := func(n int) {
			for range n {
				h.pass(time.Second)
				k.CheckJump()
			}
		}
		wait(10)
		set(k, h)
		wait(100)
		if _, made := k.LeapDone(); !made {
			t.Errorf("set %s: the leap second was not made", name)
		}
	}
}

func armed(step time.Duration) model.Correction {
	return model.Correction{Step: step, Kernel: model.KernelState{Synchronized: true, Leap: wire.LeapInsert}}
}
