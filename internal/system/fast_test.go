package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"timeball/internal/ntptime"
)

func TestFast(t *testing.T) {
	if os.Getenv("TB_FAST") == "" {
		t.Skip()
	}
	loop := link{base: 20e-6, draw: func(r *rand.Rand) float64 {
		d := 5e-6 * r.ExpFloat64()
		if r.Float64() < 0.02 {
			d += 1e-3 * r.ExpFloat64()
		}
		return d
	}}
	for _, poll := range []ntptime.Log2{-4, -2, 0, 2} {
		for n, l := range map[string]link{"loop": loop, "quiet": quiet(), "busy": lanLink(), "pareto": with(lanLink(), func(l *link) { l.draw = paretoDraw(20e-6) })} {
			r := base(n, 1e-9, l)
			r.duration, r.settle = 3000, 600
			r.noise = 50e-9
			r.minPoll, r.maxPoll = poll, poll
			f := r.medians(1, 3)
			fmt.Printf("%3d %-8s rms %.3f max %.2f freq %.4f cover %.4f pk %.0f c1 %.0f\n", poll, n, f.rms*1e6, f.max*1e6, f.freq*1e6, f.covered, f.packets, f.toHundred)
		}
	}
}
