package clock

import (
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func TestReleasePutsTheRateBackThatADeadDaemonHasLeft(t *testing.T) {
	for _, test := range []struct {
		name           string
		slew           ntptime.Frequency
		known, orderly bool
		want           float64 // ppm
		status         int32
		changed        bool
	}{
		{"killed in mid-slew", 0.083, true, false, 30, unix.STA_UNSYNC, true},
		{"killed in a slew that the tick has no part in", 200 * ntptime.PPM, true, false, 30, unix.STA_UNSYNC, true},
		{"killed without a slew", 0, true, false, 30, unix.STA_UNSYNC, false},
		{"ended in order", 0, true, true, 30, 0, false},
		{"the frequency is not known: what the tick adds goes", 0.083, false, false, 0, unix.STA_UNSYNC, true},
	} {
		k, h := newFakeKernel(t)
		apply(t, k, model.Correction{Frequency: 30 * ntptime.PPM, Slew: test.slew, Kernel: model.KernelState{Synchronized: true}})
		if fast := Diverging(h); fast != (test.slew > 500*ntptime.PPM) {
			t.Errorf("%s: diverging %v", test.name, fast)
		}
		r, err := Release(h, 30*ntptime.PPM, test.known, test.orderly)
		if err != nil || r.Changed != test.changed {
			t.Errorf("%s: got %+v, %v", test.name, r, err)
		}
		left := joinRate(h.timex.Tick, h.timex.Freq).PPM()
		if h.timex.Tick != nominalTick || test.known && math.Abs(left-test.want) > 1e-4 || !test.known && math.Abs(left) > 500 {
			t.Errorf("%s: got tick %d and %v ppm, want %v", test.name, h.timex.Tick, left, test.want)
		}
		if h.timex.Status&unix.STA_UNSYNC != test.status || (test.status != 0 && h.timex.Maxerror < 16_000_000) {
			t.Errorf("%s: got status %#x, maxerror %d", test.name, h.timex.Status, h.timex.Maxerror)
		}
	}
	h := newFakeHost()
	h.unable = true
	h.timex.Tick = 10833
	if _, err := Release(h, 0, true, false); !errors.Is(err, ErrPrivilege) {
		t.Errorf("without the privilege: got %v", err)
	}
	h.pass(time.Second)
}
