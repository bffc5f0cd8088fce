package vm

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/leapfile"
)

// A leap second that a majority of the sources announces is inserted at the end of the
// day: CLOCK_TAI goes on, and the clock is right before and after.
func TestLeapByMajority(t *testing.T) {
	g := guest(t)
	midnight := g.eve(t, time.Minute, "", Behaviour{Leap: 1})
	g.leaps(t, midnight)
}

// Nobody announces it, but the list has it. A slew ends after the leap second was due and
// before the kernel, at its next tick, has made it: the correction that ends the slew must
// not disarm it.
func TestLeapByListWhereASlewEnds(t *testing.T) {
	const rate = 0.01 // of clock.max_slew
	g := guest(t)
	for range 3 {
		midnight := g.eve(t, 110*time.Second, "  leap: {file: /etc/timeball/leap-seconds.list}\n  max_slew: 10000ppm\n", Behaviour{})
		comes(t, "the kernel knows TAI", time.Minute, func() bool { return g.Clock.Last().Page.TAIOffset == 37 })
		g.rest(midnight.Add(-70 * time.Second))
		zero := middle(g.Clock.Since(g.Clock.Mark() - 50)) // what it takes for right
		g.Step(t, 400*time.Millisecond)
		g.rest(midnight.Add(-35 * time.Second))
		r := g.Clock.Last()
		if !slewing(r) {
			t.Fatalf("not slewing: %v", r)
		}
		end := midnight.Add(2 * time.Millisecond) // the kernel ticks every 4 ms
		g.Step(t, zero+time.Duration(rate*float64(end.Sub(r.Truth)))-r.Error)
		g.rest(midnight.Add(-5 * time.Second))
		g.Net.Cut(true) // the end of the slew stands
		g.rest(midnight.Add(-time.Second))
		r = g.Clock.Last()
		g.leaps(t, midnight)
		into := r.Truth.Add(time.Duration(float64(r.Error-zero) / rate)).Sub(midnight)
		t.Logf("the slew ends %v after the day", into)
		if slewing(r) && 0 <= into && into < 50*time.Millisecond || t.Failed() {
			return
		}
	}
	t.Error("no slew of three has ended there")
}

// eve starts the daemon so long before the end of 2026, with lines added to `clock:`, and waits until the kernel knows of the leap second to come. After the test all
// is as before.
func (g *Guest) eve(t *testing.T, before time.Duration, lines string, b Behaviour) (midnight time.Time) {
	t.Helper()
	g.ready(t)
	g.does(t, "systemctl stop timeball")
	t.Cleanup(func() {
		g.file(t, "/etc/timeball/timeball.yaml", configuration)
		g.does(t, "systemctl stop timeball; rm -f /var/lib/timeball/leap* /var/lib/timeball/last-time")
		g.Net.All(Behaviour{})
		g.Move(time.Now())
		g.Set(t, 0)
		g.ready(t)
	})
	midnight = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	g.file(t, "/etc/timeball/leap-seconds.list", leapList(midnight))
	g.file(t, "/etc/timeball/timeball.yaml", strings.Replace(configuration, "clock:\n", "clock:\n"+lines, 1))
	g.Move(midnight.Add(-before))
	g.Set(t, 0)
	g.Net.Cut(false)
	g.Net.All(b)
	g.does(t, "rm -f /var/lib/timeball/last-time; systemctl start timeball")
	g.right(t, 5*time.Millisecond, time.Minute)
	comes(t, "the kernel knows of the leap second (STA_INS)", time.Minute, func() bool { return g.Clock.Last().Page.Status&0x10 != 0 })
	return midnight
}

// leaps goes over the leap second at midnight.
func (g *Guest) leaps(t *testing.T, midnight time.Time) {
	t.Helper()
	before := g.Clock.Last()
	if g.Truth().After(midnight.Add(-500 * time.Millisecond)) {
		t.Fatal("too late for a leap second")
	}
	g.rest(midnight)
	g.Add(-time.Second) // 23:59:60
	g.Net.Cut(false)
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

// rest sleeps until a moment of the guest's world.
func (g *Guest) rest(until time.Time) { time.Sleep(until.Sub(g.Truth())) }

// middle is the median of the errors.
func middle(readings []Reading) time.Duration {
	slices.SortFunc(readings, func(a, b Reading) int { return int(a.Error - b.Error) })
	return readings[len(readings)/2].Error
}

// leapList is a leap-seconds.list with one more at a moment; it is good for a year.
func leapList(at time.Time) string {
	const from1900 = 2208988800
	digest, text := sha1.New(), ""
	add := func(prefix string, words ...any) {
		text += prefix + fmt.Sprintln(words...)
		digest.Write([]byte(fmt.Sprint(words[0])))
		if len(words) > 1 {
			digest.Write([]byte(fmt.Sprint(words[1])))
		}
	}
	add("#$ ", at.AddDate(0, -1, 0).Unix()+from1900)
	add("#@ ", at.AddDate(1, 0, 0).Unix()+from1900)
	add("", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC).Unix()+from1900, 37)
	add("", at.Unix()+from1900, 38)
	sum := digest.Sum(nil)
	return text + fmt.Sprintf("#h %x %x %x %x %x\n", sum[0:4], sum[4:8], sum[8:12], sum[12:16], sum[16:20])
}

// The list that the guest gets is one.
func TestLeapListIsGood(t *testing.T) {
	at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	l, err := leapfile.Parse(leapList(at))
	if err != nil || len(l.Entries) != 2 || l.Entries[1].At.Time() != at || l.Entries[1].TAI != 38 {
		t.Errorf("got %v, %v", l, err)
	}
}
