package vm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The clock at the start of the daemon, whatever it reads: systemd alone does not let
// it start before its own day of birth. The gate of clock.panic is open as after a boot.
func TestStartFarOff(t *testing.T) {
	g := guest(t)
	for _, start := range []string{"1970-01-02 00:00:00", "2035-06-01 12:00:00"} {
		t.Run(start, func(t *testing.T) {
			g.ready(t)
			g.does(t, "systemctl stop timeball; rm -f /var/lib/timeball/panic-gate /var/lib/timeball/last-time; date -s '"+start+"'; systemctl start timeball")
			g.right(t, 5*time.Millisecond, 2*time.Minute)
		})
	}
}

// Somebody sets the clock by hand.
func TestSetByAnother(t *testing.T) {
	g := guest(t)
	for _, by := range []time.Duration{5 * time.Second, -5 * time.Second, time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			g.ready(t)
			mark := g.mark(t)
			g.Set(t, by)
			comes(t, "it is told", 20*time.Second, func() bool { return g.saying(mark, "warning", "changed by", "somebody else") != "" })
			// An hour is more than clock.panic; but a correction of what another has set is none of our doubt.
			g.right(t, 20*time.Millisecond, 3*time.Minute)
		})
	}
}

// Set sets the guest's clock ahead of the truth, as another program would, and waits for
// readings from after that. The daemon may have put it right before the first of them.
func (g *Guest) Set(t *testing.T, ahead time.Duration) {
	t.Helper()
	at := g.Truth().Add(ahead)
	g.does(t, fmt.Sprintf("date -s @%d.%09d", at.Unix(), at.Nanosecond()))
	mark := g.Clock.Mark()
	comes(t, "the clock is read", time.Minute, func() bool { return g.Clock.Mark() >= mark+2 })
}

// Step sets the guest's clock ahead of what it reads, exactly.
func (g *Guest) Step(t *testing.T, by time.Duration) {
	t.Helper()
	if out, err := g.ask(10*time.Second, map[string]any{"Step": by}); err != nil {
		t.Fatal(err, out)
	}
}

// file writes a file of the guest.
func (g *Guest) file(t *testing.T, path, text string) {
	t.Helper()
	g.does(t, "cat > "+path+" <<'END OF FILE'\n"+text+"END OF FILE")
}

// Whoever is killed in the middle of a slew leaves a clock that does not run on at the
// slew's rate (up to 8 %), and that is not called synchronized.
func TestKilledInSlew(t *testing.T) {
	g := guest(t)
	g.does(t, "mkdir -p /run/systemd/system/timeball.service.d; printf '[Service]\\nRestartSec=20s\\n' > /run/systemd/system/timeball.service.d/late.conf; systemctl daemon-reload")
	defer func() {
		g.does(t, "rm -r /run/systemd/system/timeball.service.d; systemctl daemon-reload")
		g.ready(t)
	}()
	g.ready(t)
	// Less than clock.step.threshold, and past its updates: it is slewed.
	time.Sleep(15 * time.Second)
	g.Set(t, 800*time.Millisecond)
	comes(t, "a slew", time.Minute, func() bool { return slewing(g.Clock.Last()) })
	g.does(t, "systemctl kill -s KILL --kill-whom=main timeball")
	comes(t, "the rate is put back, and unsynchronized", 15*time.Second, func() bool {
		r := g.Clock.Last()
		return !slewing(r) && r.Unsynchronized()
	})
	g.right(t, 5*time.Millisecond, 3*time.Minute)
}

func slewing(r Reading) bool {
	const limit = 400 << 16 // 400 ppm: no oscillator's
	return r.Page.Tick != 10000 || r.Page.Freq > limit || r.Page.Freq < -limit
}

// A machine that was paused is behind by that, and no clock of its own shows it. By more
// than clock.panic it waits for the operator.
func TestPause(t *testing.T) {
	pause := time.Minute
	if long() {
		pause = 20 * time.Minute
	}
	g := guest(t)
	g.ready(t)
	mark := g.mark(t)
	if err := g.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pause)
	if err := g.Resume(); err != nil {
		t.Fatal(err)
	}
	comes(t, "the clock is behind", 20*time.Second, func() bool { return g.Clock.Last().Error < -pause/2 })
	if pause > 1000*time.Second { // clock.panic
		comes(t, "refused, with the way out", 2*time.Minute, func() bool { return g.saying(mark, "err", "refused", "accept-correction") != "" })
		comes(t, "unsynchronized", 20*time.Second, func() bool { return g.Clock.Last().Unsynchronized() })
		g.does(t, "timeball accept-correction +"+pause.String())
		g.right(t, 20*time.Millisecond, time.Minute)
		return
	}
	g.right(t, 20*time.Millisecond, 2*time.Minute)
	line := g.saying(mark, "warning", "behind", "paused")
	if !strings.Contains(line, "stepped") && !strings.Contains(line, "at once") {
		t.Errorf("no warning of how far the clock is behind, and that it is stepped: %q", line)
	}
}

func TestNetworkCut(t *testing.T) {
	g := guest(t)
	g.ready(t)
	g.Net.Cut(true)
	comes(t, "holdover is told", 4*time.Minute, func() bool { return g.estimate().State == "holdover" })
	if r := g.Clock.Last(); r.Error.Abs() > 20*time.Millisecond {
		t.Errorf("without the network: %v", r)
	}
	g.Net.Cut(false)
	comes(t, "synchronized again", 3*time.Minute, func() bool {
		return g.estimate().State == "sync"
	})
	g.right(t, 5*time.Millisecond, time.Minute)
}

// Another daemon sets the clock again and again: it is named, and once it is gone the
// clock is right.
func TestRival(t *testing.T) {
	g := guest(t)
	g.ready(t)
	mark := g.mark(t)
	before := g.estimate().Frequency
	const unit = "chrony.service"
	// The name is one of those known; the conflict of the units is taken away as an administrator may.
	g.does(t, `mkdir -p /run/systemd/system; printf '[Service]\nExecStart=/bin/sh -c "while sleep 4; do date -s +3seconds; done"\nCapabilityBoundingSet=CAP_SYS_TIME\n' > /run/systemd/system/`+unit+`
mkdir -p /run/systemd/system/timeball.service.d; systemctl cat timeball | grep -v -e ^Conflicts -e '^#' > /run/timeball.unit; cp /run/timeball.unit /etc/systemd/system/timeball.service
systemctl daemon-reload; systemctl start `+unit)
	defer g.does(t, "rm -f /etc/systemd/system/timeball.service; systemctl daemon-reload")
	comes(t, "the rival is named", 2*time.Minute, func() bool {
		return g.saying(mark, "err", "somebody else", unit) != ""
	})
	if status := first(g.Run("timeball status")); !strings.Contains(status, "KEEPS SETTING THE CLOCK") {
		t.Errorf("status does not say that somebody sets the clock:\n%s", status)
	}
	g.does(t, "systemctl stop "+unit)
	g.right(t, 20*time.Millisecond, 3*time.Minute)
	time.Sleep(10 * time.Second)
	// Not the kernel's, which has a slew in it.
	if change := g.estimate().Frequency - before; change > 20e-6 || change < -20e-6 {
		t.Errorf("frequency is spoiled by %.1f ppm", change*1e6)
	}
}

// estimate is what the daemon says of the clock (status --json).
func (g *Guest) estimate() (report struct {
	State          string
	Frequency      float64 // s/s
	FrequencyError float64 `json:"frequency_error"`
}) {
	_ = json.Unmarshal([]byte(first(g.Run("timeball status --json"))), &report)
	return report
}

// mark is now on the guest's monotonic clock, in seconds, for told: the journal's order
// does not outlive a clock that is set back.
func (g *Guest) mark(t *testing.T) float64 {
	t.Helper()
	var at float64
	if _, err := fmt.Sscan(g.does(t, "cat /proc/uptime"), &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// saying gives the first line that timeball has logged since mark, at that priority or
// worse, with all these words; "" for none.
func (g *Guest) saying(mark float64, priority string, words ...string) string {
	out := first(g.Run("journalctl -b -u timeball -o short-monotonic -p " + priority))
lines:
	for line := range strings.Lines(out) {
		var at float64
		if _, err := fmt.Sscanf(line, "[%f]", &at); err != nil || at < mark {
			continue
		}
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		return strings.TrimSpace(line)
	}
	return ""
}
