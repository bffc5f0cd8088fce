package daemon

import (
	"math"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// leftClock is a kernel's clock as a dead daemon has left it.
type leftClock struct {
	clock.Syscalls
	timex unix.Timex
}

func (l *leftClock) MaySet() bool { return true }

func (l *leftClock) Adjtimex(t *unix.Timex) (int, error) {
	if t.Modes&unix.ADJ_TICK != 0 {
		l.timex.Tick = t.Tick
	}
	if t.Modes&unix.ADJ_FREQUENCY != 0 {
		l.timex.Freq = t.Freq
	}
	if t.Modes&unix.ADJ_STATUS != 0 {
		l.timex.Status = t.Status
	}
	modes := t.Modes
	*t = l.timex
	t.Modes = modes
	return 0, nil
}

func TestADeadDaemonsSlewIsTakenOffTheClock(t *testing.T) {
	cfg := &config.Config{}
	cfg.Clock.Driver, cfg.Clock.StateDir = config.ClockKernel, t.TempDir()
	s := &stateFiles{lastingPath: lastingPath(cfg), log: zap.NewNop()}
	s.noteLasting(model.Correction{Frequency: 12 * ntptime.PPM, Slew: 0.08})
	s.noteLasting(model.Correction{Frequency: 99 * ntptime.PPM, Slew: ntptime.PPM}) // too small to matter
	for _, orderly := range []bool{false, true} {
		k := &leftClock{timex: unix.Timex{Tick: 10833, Freq: 12 << 16}}
		if orderly {
			k.timex.Tick = 10000
		}
		if err := release(k, cfg, orderly, zap.NewNop()); err != nil {
			t.Fatal(err)
		}
		if got := float64(k.timex.Freq) / 65536; k.timex.Tick != 10000 || math.Abs(got-12) > 0.01 {
			t.Errorf("orderly %v: got tick %d, %v ppm, want 10000, 12", orderly, k.timex.Tick, got)
		}
		if unsync := k.timex.Status&unix.STA_UNSYNC != 0; unsync == orderly {
			t.Errorf("orderly %v: said unsynchronized %v", orderly, unsync)
		}
	}
}
