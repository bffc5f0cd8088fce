package system

import (
	"math"
	"os"
	"slices"
	"testing"

	"timeball/internal/ntptime"
)

// chain runs strata 2, 3, …, each following the recorded error of the one above.
func chain(l link, poll [2]ntptime.Log2, hops int, seed uint64) []float64 {
	out := make([]float64, hops)
	var above func(t float64) float64
	for i := range out {
		r := base("chain", 1e-9, with(l, func(l *link) { l.offset = above }))
		r.minPoll, r.maxPoll = poll[0], poll[1]
		var errs []float64
		r.probe = func(h *host, t float64) { errs = append(errs, h.errorAt(t)) }
		out[i] = r.run(seed*100 + uint64(i)).rms
		above = func(t float64) float64 { return errs[min(int(t), len(errs)-1)] }
	}
	return out
}

func TestChainOnDemand(t *testing.T) {
	if os.Getenv("TIMEBALL_CHAIN") == "" {
		t.Skip("on demand: set TIMEBALL_CHAIN")
	}
	for name, l := range map[string]link{"lan": lanLink(), "wan": wanLink()} {
		for _, p := range polls {
			t.Log(name, p, chainMedians(l, p, 10))
		}
	}
}

func chainMedians(l link, p [2]ntptime.Log2, seeds int) [3]float64 {
	var v [3][]float64
	for s := range seeds {
		for i, x := range chain(l, p, 3, uint64(s+1)) {
			v[i] = append(v[i], x*1e6)
		}
	}
	var m [3]float64
	for i := range v {
		slices.Sort(v[i])
		m[i] = math.Round(v[i][seeds/2]*100) / 100
	}
	return m
}
