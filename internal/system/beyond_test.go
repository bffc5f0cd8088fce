package system

import (
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"timeball/internal/ntptime"
)

// Rows outside the models that the estimator was thought out for: nothing in it
// may depend on exponential jitter, white noise or honest sources.

func gammaDraw(mean float64, shape int) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		s := 0.0
		for range shape {
			s += r.ExpFloat64()
		}
		return s * mean / float64(shape)
	}
}

func normalDraw(mean, sd float64) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return math.Max(0, mean+sd*r.NormFloat64()) }
}

// paretoDraw has a tail of index 1.5: no variance.
func paretoDraw(scale float64) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return scale * (math.Pow(1-r.Float64(), -1/1.5) - 1) }
}

// queue is correlated jitter: an AR(1) level of time constant tau with an exponential on top.
func queue(mean, tau float64) func(t float64, r *rand.Rand) float64 {
	level, last := 0.0, 0.0
	return func(t float64, r *rand.Rand) float64 {
		if t < last {
			level, last = 0, t
		}
		a := math.Exp(-(t - last) / tau)
		last = t
		level = a*level + math.Sqrt(1-a*a)*r.NormFloat64()
		return mean * level * level
	}
}

func beyond() map[string]func() row {
	lan := func(f func(l *link)) link { return with(lanLink(), f) }
	wan := func(f func(l *link)) link { return with(wanLink(), f) }
	m := map[string]func() row{
		"gamma4-lan": func() row { return base("", 1e-9, lan(func(l *link) { l.draw = gammaDraw(100e-6, 4) })) },
		"pareto-lan": func() row { return base("", 1e-9, lan(func(l *link) { l.draw = paretoDraw(100e-6) })) },
		"gauss-lan":  func() row { return base("", 1e-9, lan(func(l *link) { l.draw = normalDraw(200e-6, 40e-6) })) },
		"uniform-lan": func() row {
			return base("", 1e-9, lan(func(l *link) { l.draw = func(r *rand.Rand) float64 { return 200e-6 * r.Float64() } }))
		},
		"queue-lan": func() row {
			return base("", 1e-9, lan(func(l *link) { l.forward, l.backward = queue(300e-6, 300), queue(300e-6, 300) }))
		},
		"queue-wan": func() row {
			return base("", 1e-9, wan(func(l *link) { l.forward, l.backward = queue(3e-3, 1000), queue(3e-3, 1000) }))
		},
		"onoff-wan": func() row {
			return base("", 1e-9, wan(func(l *link) {
				l.backward = func(t float64, r *rand.Rand) float64 {
					if math.Mod(t, 7200) < 3600 {
						return 5e-3 + 10e-3*r.ExpFloat64()
					}
					return 0
				}
			}))
		},
		"noise50ns-lan":  func() row { r := base("", 1e-9, link{base: 50e-6, jitter: 1e-6}); r.noise = 50e-9; return r },
		"noise5us-lan":   func() row { r := base("", 1e-9, link{base: 50e-6, jitter: 1e-6}); r.noise = 5e-6; return r },
		"turnaround-lan": func() row { r := base("", 1e-9, lanLink()); r.turnaround = 0.2; return r },
		"wander-change":  func() row { return wanderChange() },
		"temp-steps":     func() row { return temperature() },
		"asym-const-wan": func() row {
			return base("", 1e-9, wan(func(l *link) { l.backward = func(float64, *rand.Rand) float64 { return 1e-3 } }))
		},
		"freqstep-50ppm": func() row { return freqStep(50e-6) },
		"freqstep-wan":   func() row { r := freqStep(5e-6); r.links = []link{wanLink()}; return r },
		"serverstep-10ms": func() row {
			return base("", 1e-9, lan(func(l *link) { l.offset = func(t float64) float64 { return stepAt(t, 10e-3) } }))
		},
		"route-lan-shorter": func() row {
			return base("", 1e-9, lan(func(l *link) {
				l.base = 50e-6
				l.forward = func(t float64, _ *rand.Rand) float64 { return 1e-3 - stepAt(t, 1e-3) }
			}))
		},
		"liars-2of5-wan": func() row {
			ls := times(5, wanLink())
			ls[3].offset = func(float64) float64 { return 50e-3 }
			ls[4].offset = func(float64) float64 { return -80e-3 }
			return base("", 1e-9, ls...)
		},
		"liar-1of3-lan": func() row {
			ls := times(3, lanLink())
			ls[0].offset = func(float64) float64 { return 50e-3 }
			return base("", 1e-9, ls...)
		},
		"slow-liar-1of4-wan": func() row {
			ls := times(4, wanLink())
			ls[1].offset = func(t float64) float64 { return math.Max(0, t-12000) * 1e-6 }
			return base("", 1e-9, ls...)
		},
		"bias4-wan": func() row {
			ls := times(4, wanLink())
			for i, d := range []float64{0.3e-3, 1.0e-3, -0.7e-3, 1.5e-3} {
				ls[i].offset = func(float64) float64 { return d }
			}
			return base("", 1e-9, ls...)
		},
		"near-mid-far": func() row { return base("", 1e-9, lanLink(), wanLink(), farLink()) },
		"two-lan":      func() row { return base("", 1e-9, times(2, lanLink())...) },
		"three-lan":    func() row { return base("", 1e-9, times(3, lanLink())...) },
	}
	return m
}

func stepAt(t, by float64) float64 {
	if t >= 25000 {
		return by
	}
	return 0
}

func freqStep(by float64) row {
	r := base("", 1e-9, lanLink())
	r.extra = func(k int) float64 { return stepAt(float64(k), by) }
	return r
}

// wanderChange: the oscillator gets 30 times worse for three hours.
func wanderChange() row {
	r := base("", 1e-10, lanLink())
	g, walk := rand.New(rand.NewPCG(7, 7)), 0.0
	xs := make([]float64, r.duration+2)
	for k := range xs {
		if k >= 20000 && k < 31000 {
			walk += 3e-9 * g.NormFloat64()
		}
		xs[k] = walk
	}
	r.extra = func(k int) float64 { return xs[min(k, len(xs)-1)] }
	return r
}

// temperature: an air conditioner of 20 minutes, exponential steps of 0.2 ppm.
func temperature() row {
	r := base("", 1e-9, lanLink())
	r.extra = func(k int) float64 {
		phase := math.Mod(float64(k), 1200)
		if phase < 600 {
			return 2e-7 * (1 - math.Exp(-phase/120))
		}
		return 2e-7 * math.Exp(-(phase-600)/120)
	}
	return r
}

// TestBeyondTheModels runs some of these rows with few seeds. Limits are RMS in µs
// at 16 s and 64 s; bias4 and asym are what the servers' own errors leave.
func TestBeyondTheModels(t *testing.T) {
	if underRace || testing.Short() {
		t.Skip("long")
	}
	for name, want := range map[string][2]float64{
		"gamma4-lan": {13, 22}, "pareto-lan": {6, 15}, "gauss-lan": {12, 20}, "queue-lan": {36, 50}, "queue-wan": {300, 500},
		"onoff-wan": {60, 150}, "noise50ns-lan": {0.5, 1.2}, "noise5us-lan": {2.5, 4.5}, "wander-change": {7, 17}, "temp-steps": {15, 33},
		"freqstep-50ppm": {40, 150}, "slow-liar-1of4-wan": {40, 80}, "bias4-wan": {700, 700}, "near-mid-far": {8, 15}, "liars-2of5-wan": {20, 42},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, poll := range []ntptime.Log2{4, 6} {
				all := make([]figures, 3)
				for k := range all {
					r := beyond()[name]()
					r.minPoll, r.maxPoll = poll, poll
					all[k] = r.run(uint64(k + 1))
				}
				if got := medianOf(all).rms * 1e6; got > want[i] {
					t.Errorf("poll %d: RMS: got %.2f µs, want at most %.2f", poll, got, want[i])
				}
			}
		})
	}
}

// TestBeyond prints these rows on demand, like TestTable (TIMEBALL_BEYOND=seeds[,name]).
func TestBeyond(t *testing.T) {
	spec := os.Getenv("TIMEBALL_BEYOND")
	if spec == "" {
		t.Skip("on demand: set TIMEBALL_BEYOND to the number of seeds")
	}
	parts := strings.Split(spec, ",")
	seeds, _ := strconv.Atoi(parts[0])
	all := beyond()
	names := make([]string, 0, len(all))
	for n := range all {
		if len(parts) < 2 || strings.Contains(n, parts[1]) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	out := make([][3]figures, len(names))
	var wg sync.WaitGroup
	gate := make(chan bool, runtime.NumCPU())
	for i, n := range names {
		for p := range polls {
			wg.Add(1)
			go func() {
				gate <- true
				all := make([]figures, seeds)
				for k := range all {
					r := beyond()[n]()
					r.minPoll, r.maxPoll = polls[p][0], polls[p][1]
					all[k] = r.run(uint64(k + seedFrom()))
				}
				out[i][p] = medianOf(all)
				<-gate
				wg.Done()
			}()
		}
	}
	wg.Wait()
	t.Logf("%-20s %28s %28s %28s", "RMS, max µs, pkt/h, cover", "default", "16 s", "64 s")
	for i, n := range names {
		line := ""
		for p := range 3 {
			f := out[i][p]
			line += " " + strconv.FormatFloat(f.rms*1e6, 'f', 2, 64) + " " + strconv.FormatFloat(f.max*1e6, 'f', 0, 64) + " " + strconv.FormatFloat(f.packets, 'f', 0, 64) + " " + strconv.FormatFloat(f.covered, 'f', 3, 64) + " " + strconv.FormatFloat(f.freq*1e6, 'f', 3, 64) + " |"
		}
		t.Logf("%-20s %s", n, line)
	}
}
