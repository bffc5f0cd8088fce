package vm

import (
	"testing"
	"time"
)

// A leap second that a majority of the sources announces is inserted at the end of the
// day: CLOCK_TAI goes on, and the clock is right before and after.
func TestLeapByMajority(t *testing.T) {
	g := guest(t)
	g.ready(t)
	defer func() {
		g.does(t, "systemctl stop timeball; rm -f /var/lib/timeball/leap* /var/lib/timeball/last-time")
		g.Net.All(Behaviour{})
		g.Move(time.Now())
		g.Set(t, 0)
		g.ready(t)
	}()
	g.does(t, "systemctl stop timeball")
	midnight := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	g.Move(midnight.Add(-150 * time.Second))
	g.Set(t, 0)
	g.Net.All(Behaviour{Leap: 1})
	g.does(t, "systemctl start timeball")
	g.right(t, 5*time.Millisecond, time.Minute)
	comes(t, "the kernel knows of the leap second (STA_INS)", time.Minute, func() bool { return g.Clock.Last().Page.Status&0x10 != 0 })
	before := g.Clock.Last()
	if g.Truth().After(midnight.Add(-5 * time.Second)) {
		t.Fatal("too late for a leap second")
	}
	time.Sleep(midnight.Sub(g.Truth()))
	g.Add(-time.Second) // 23:59:60
	g.Net.All(Behaviour{})
	mark := g.Clock.Mark()
	time.Sleep(10 * time.Second)
	for _, r := range g.Clock.Since(mark) {
		if r.Truth.Before(midnight.Add(500 * time.Millisecond)) {
			continue
		}
		if r.Error.Abs() > 20*time.Millisecond {
			t.Errorf("after the leap second: %v", r)
			break
		}
	}
	after := g.Clock.Last()
	if jump := (after.Page.TAI - after.Page.Raw) - (before.Page.TAI - before.Page.Raw); jump < -1e8 || jump > 1e8 {
		t.Errorf("CLOCK_TAI jumps by %v", time.Duration(jump))
	}
	if got := after.Page.TAIOffset - before.Page.TAIOffset; got != 1 {
		t.Errorf("the kernel's offset of TAI grows by %d, want 1", got)
	}
}
