package engine

import (
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/test/golden"
)

// trace writes down what the set of associations wants done.
type trace struct {
	golden.Trace
	w     *world
	names map[uint32]string // of associations, by id
}

// note writes the changes down, and answers what is asked of the names.
func (r *trace) note() {
	c := &r.w.changes
	for len(c.Replaced)+len(c.Stop)+len(c.Start)+len(c.Options)+len(c.StartClock)+len(c.Resolve)+len(c.Forget) > 0 {
		line := func(format string, args ...any) { r.Line(r.w.now.Sub(at(0)), format, args...) }
		for _, x := range c.Replaced {
			line("replaced: %s at %s: %s", x.Name, x.Address, x.Why)
		}
		for _, id := range c.Stop {
			line("stop     %s", r.names[uint32(id)])
		}
		for _, x := range c.StartClock {
			r.names[uint32(x.ID())] = "reference clock " + x.Config.Name
			line("start    %s", r.names[uint32(x.ID())])
		}
		for _, a := range c.Start {
			r.names[uint32(a.ID())] = a.Config.Kind.String() + " " + a.Config.Name + " at " + a.Config.Remote.String()
			line("start    %s", r.names[uint32(a.ID())])
		}
		for _, a := range c.Options {
			line("options  of %s", r.names[uint32(a.ID())])
		}
		for _, name := range c.Forget {
			line("forget   %s", name)
		}
		asked := c.Resolve
		c.Reset()
		for _, name := range asked {
			line("look up  %s", name)
			if found := r.w.dns[name]; found != nil {
				r.w.set.Resolved(name, found, r.w.now, c)
			} else {
				r.w.set.NotResolved(name, "no such name", time.Minute, r.w.now, c)
			}
		}
	}
}

// The life of a reload, docs/WALK.md 6: what stops, what starts, what stays.
func TestTraceReload(t *testing.T) {
	w := begin(t, keyed+`
sources:
  - {server: a.example}
  - {server: b.example, key: 10}
  - {pool: p.example, count: 2}
  - refclock: {driver: shm, unit: 0, refid: GPS}
`)
	r := &trace{Trace: golden.Trace{Width: 8}, w: w, names: map[uint32]string{}}
	w.dns["a.example"], w.dns["b.example"] = addrs("192.0.2.1"), addrs("192.0.2.2")
	w.dns["p.example"] = addrs("192.0.2.1", "192.0.2.3", "192.0.2.4", "192.0.2.5")
	reload := func(text string) {
		next := setupOf(t, text)
		plan := config.Diff(w.set.Config, next.Config)
		w.now = w.now.Add(time.Minute)
		w.set.Reload(&plan, next, w.now, &w.changes)
		r.note()
	}
	r.Say("Four lines; the pool leaves the address of a.example to it.")
	r.note()
	r.Say("A line more, of a machine that the pool has in use: whoever names it has it.")
	lines := []string{"  - {server: a.example}\n", "  - {server: b.example, key: 10}\n", "  - {pool: p.example, count: 2}\n", "  - refclock: {driver: shm, unit: 0, refid: GPS}\n"}
	all := keyed + "sources:\n" + strings.Join(lines, "")
	reload(all + "  - {server: 192.0.2.3, prefer: true}\n")
	r.Say("Another secret of key 10: only who uses it begins anew.")
	reload(strings.Replace(all, "ten-tenths", "another secret", 1) + "  - {server: 192.0.2.3, prefer: true}\n")
	r.Say("The clock reads another segment, a.example is gone; its address is free for the pool, which has no need of it.")
	reload(strings.Replace(strings.Replace(strings.Replace(all, "ten-tenths", "another secret", 1), lines[0], "", 1), "unit: 0", "unit: 1", 1) + "  - {server: 192.0.2.3, prefer: true}\n")
	r.Compare(t, "reload")
}
