package system

import (
	"fmt"
	"os"
	"testing"
)

func TestDebug(t *testing.T) {
	name := os.Getenv("TB_ROW")
	if name == "" {
		t.Skip()
	}
	rows := table()
	if f := beyond()[name]; f != nil {
		b := f()
		b.name = name
		rows = append(rows, tableRow{row: b})
	}
	for _, r := range rows {
		if r.name != name {
			continue
		}
		p := 2
		fmt.Sscan(os.Getenv("TB_POLL"), &p)
		from, to := 0.0, 200.0
		fmt.Sscan(os.Getenv("TB_RANGE"), &from, &to)
		r.minPoll, r.maxPoll = polls[p][0], polls[p][1]
		r.duration = int(to)
		r.settle = 0
		last := uint64(0)
		ev := 0
		r.probe = func(h *host, t float64) {
			if h.sys.updates != last && t >= from {
				last = h.sys.updates
				e := h.sys.joint.Estimate()
				f := &h.sys.sources[0].filter
				b, sd := f.Base()
				fmt.Printf("%7.0f upd %d err %9.2f us  sd %9.2f y %9.4f (true %9.4f) ysd %8.4f ppm wander %.1e slew %8.3f ppm  base %.2f±%.2f J %.2f gain %.2f tau %.0f conf %v set %d\n", t, last, h.errorAt(t)*1e6, sqrt(e.P00)*1e6, e.Freq*1e6, -h.osc.freq[int(t)]*1e6, sqrt(e.P11)*1e6, e.Wander, h.sys.clock.slew*1e6,
					b*1e6, sd*1e6, f.Jitter()*1e6, h.sys.joint.Gain(), h.sys.poll.Interval(), h.sys.joint.InConflict(), h.sys.summary.Joint)
			}
			for ; ev < len(h.log); ev++ {
				fmt.Println(t, h.log[ev].Kind, h.log[ev].Source, h.log[ev].Value, h.log[ev].Text)
			}
		}
		seed := 1
		fmt.Sscan(os.Getenv("TB_SEED"), &seed)
		r.run(uint64(seed))
	}
}
