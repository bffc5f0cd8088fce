package clock

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func TestQuickIsNowWithoutASystemCall(t *testing.T) {
	virtual, virtualHost := newFakeVirtual(VirtualConfig{Offset: time.Second, Frequency: 1e-5})
	kernel, kernelHost := newFakeKernel(t)
	for _, test := range []struct {
		name  string
		clock Clock
		host  *fakeHost
	}{{"virtual", virtual, virtualHost}, {"kernel", kernel, kernelHost}} {
		t.Run(test.name, func(t *testing.T) {
			for i, c := range []model.Correction{{}, {Frequency: 2e-5}, {Step: 3 * time.Millisecond}, {Step: -2 * time.Millisecond, Slew: 1e-3}} {
				test.clock.Apply(c)
				test.host.pass(900 * time.Millisecond)
				test.clock.CheckJump()
				test.host.pass(100 * time.Millisecond)
				now, quick := test.clock.Now(), test.clock.Quick()
				if d := quick.Wall.Sub(now.Wall); d.Abs() > 2*time.Microsecond {
					t.Errorf("correction %d: got a wall reading %v off, want within 2µs", i, d)
				}
				if at := test.clock.AtLatest(ntptime.Wall(test.host.realtime())); at.Wall.Sub(now.Wall).Abs() > 2*time.Microsecond {
					t.Errorf("correction %d: got a timestamp mapped to %v, want within 2µs of %v", i, at.Wall, now.Wall)
				}
				if d := quick.Raw.Sub(now.Raw); d.Abs() > 2*time.Microsecond {
					t.Errorf("correction %d: got a raw reading %v off, want within 2µs", i, d)
				}
			}
		})
	}
}
