package virtual

import (
	"fmt"
	"math"
	"testing"
	"time"

	"timeball/internal/scenario"
)

// freeRun advances an oscillator alone and calls f after each second's draw.
func freeRun(clock scenario.Clock, steps []scenario.Event, seed uint64, seconds int, f func(k int, err float64)) {
	o := NewOscillator(clock, steps, NewStream(seed, "oscillator"))
	for k := range seconds {
		o.Draw()
		f(k, o.TimeError())
	}
}

// The Allan deviation of random-walk frequency is w·√(τ/3) (reference tables, section 2;
// updates once a second add half a per cent at τ = 16 s).
func TestOscillatorHasTheAllanDeviationOfItsWander(t *testing.T) {
	const wander, seconds = 1e-9, 1 << 20
	x := make([]float64, seconds)
	freeRun(scenario.Clock{Wander: wander}, nil, 1, seconds, func(k int, err float64) { x[k] = err })
	for _, tau := range []int{16, 64, 256, 1024} {
		sum, n := 0.0, 0
		for i := 0; i+2*tau < seconds; i += tau / 8 {
			d := x[i+2*tau] - 2*x[i+tau] + x[i]
			sum += d * d
			n++
		}
		deviation := math.Sqrt(sum / float64(2*n) / float64(tau*tau))
		near(t, fmt.Sprintf("Allan deviation at %d s", tau), deviation, wander*math.Sqrt(float64(tau)/3), 0.08)
	}
}

// Without data the offset grows by w·T^1.5/√3: 0.3 µs at 64 s, 19 µs at 1024 s, 0.35 ms at 2 h.
func TestHoldoverGrowsWithThePowerOfThreeHalves(t *testing.T) {
	for _, c := range []struct {
		seconds int
		want    float64
	}{{64, 0.296e-6}, {1024, 18.9e-6}, {7200, 353e-6}} {
		sum := 0.0
		const runs = 2000
		for seed := range uint64(runs) {
			freeRun(scenario.Clock{Wander: 1e-9}, nil, seed, c.seconds+1, func(k int, err float64) {
				if k == c.seconds {
					sum += err * err
				}
			})
		}
		near(t, fmt.Sprintf("deviation after %d s", c.seconds), math.Sqrt(sum/runs), c.want, 0.06)
	}
}

func TestOscillatorAddsSineAndStepsToItsFrequency(t *testing.T) {
	clock := scenario.Clock{Frequency: 1e-5, Sine: scenario.Sine{Amplitude: 1e-7, Period: 100 * time.Second}}
	o := NewOscillator(clock, []scenario.Event{{At: 120 * time.Second, Kind: scenario.FrequencyStep, Frequency: 5e-6}}, NewStream(1, "x"))
	for _, c := range []struct {
		k    int64
		want float64
	}{{0, 1e-5}, {25, 1e-5 + 1e-7}, {50, 1e-5}, {75, 1e-5 - 1e-7}, {119, 1e-5 + 1e-7*math.Sin(2*math.Pi*0.19)}, {120, 1.5e-5 + 1e-7*math.Sin(2*math.Pi*0.2)}, {150, 1.5e-5}, {225, 1.5e-5 + 1e-7}} {
		for o.Second() < c.k {
			o.Draw()
		}
		near(t, fmt.Sprintf("frequency in second %d", c.k), o.Frequency(), c.want, 1e-9)
	}
}

func TestOscillatorIntegratesExactlyWithinASecond(t *testing.T) {
	o := NewOscillator(scenario.Clock{Frequency: 1e-4}, nil, NewStream(1, "x"))
	o.Draw()
	for _, at := range []int64{1, 500_000_000, 999_999_999, nsPerSecond} {
		o.Advance(at)
		near(t, fmt.Sprintf("error at %d ns", at), o.TimeError(), 1e-4*float64(at)*1e-9, 1e-12)
	}
}

// Each direction adds base + J·E; lost packets do not come.
func TestNetworkHasTheMomentsOfItsDistributions(t *testing.T) {
	const us = 1e3
	for _, c := range []struct {
		jitter          string
		mean, deviation float64 // µs
	}{
		{"{distribution: exponential, mean: 10us}", 10, 10},
		{"{distribution: normal, mean: 50us, deviation: 5us}", 50, 5},
		{"{distribution: uniform, from: 10us, to: 22us}", 16, 12 / math.Sqrt(12)},
		{"{distribution: gamma, mean: 12us, shape: 4}", 12, 6},
		{"{distribution: gamma, mean: 12us, shape: 0.5}", 12, 12 * math.Sqrt2},
		{"{distribution: pareto, mean: 10us, shape: 6}", 10, 10 / math.Sqrt(24)},
		{"{distribution: exponential, mean: 10us, correlation: 1ms}", 10, 10},
		{"[{distribution: exponential, mean: 10us}, {distribution: exponential, mean: 20us, probability: 0.05}]", 11, math.Sqrt(100 + 0.05*800 - 1)},
	} {
		t.Run(c.jitter, func(t *testing.T) {
			s := parse(t, "duration: 1s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], delay: 100us, jitter: "+c.jitter+"}]")
			d := NewNetwork(s, 7).Direction(0, 1)
			sum, squares := 0.0, 0.0
			const n = 400_000
			for i := range int64(n) {
				delay, arrives := d.Send(i * 1_000_000)
				if !arrives || delay < 100*us {
					t.Fatalf("got delay %d ns, arrives %v; want at least the base", delay, arrives)
				}
				x := (float64(delay) - 100*us) / us
				sum += x
				squares += x * x
			}
			mean := sum / n
			near(t, "mean", mean, c.mean, 0.02)
			near(t, "deviation", math.Sqrt(squares/n-mean*mean), c.deviation, 0.03)
		})
	}
}

func TestCorrelatedJitterLastsForItsTime(t *testing.T) {
	s := parse(t, "duration: 1s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], jitter: {distribution: exponential, mean: 10us, correlation: 10s}}]")
	d := NewNetwork(s, 3).Direction(0, 1)
	same, last := 0, int64(-1)
	const n = 50_000
	for i := range int64(n) {
		delay, _ := d.Send(i * 10 * nsPerSecond)
		if delay == last {
			same++
		}
		last = delay
	}
	near(t, "share of packets with the delay of the one before", float64(same)/n, math.Exp(-1), 0.03)
}

func TestLaterRowsOfLinksWinInWhatTheyState(t *testing.T) {
	s := parse(t, small)
	n := NewNetwork(s, 1)
	back := n.Direction(0, 1)
	back.rows[0].path.Loss = nil
	var sum time.Duration
	for _, at := range []time.Duration{0, 26000 * time.Second} {
		d, arrives := back.Send(int64(at))
		if !arrives {
			t.Fatal("a packet got lost without loss")
		}
		sum = time.Duration(d)
		low := 100 * time.Microsecond
		if at > 0 {
			low = 5100 * time.Microsecond
		}
		if sum <= low || sum > low+time.Millisecond {
			t.Errorf("at %v: got delay %v, want some microseconds above %v: the jitter of the first row stays", at, sum, low)
		}
	}
	if got := *s.Links[0].Forward.Delay; got != 100*time.Microsecond {
		t.Errorf("got forward delay %v, want that of the row", got)
	}
}

// near fails unless got is within a share of want.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > share*math.Abs(want) {
		t.Errorf("%s: got %.4g, want %.4g within %.1f %%", what, got, want, share*100)
	}
}

// small is a link whose later row states the way back anew, for an hour.
const small = `duration: 20000s
hosts:
  reference: {clock: {}, config: {local: {stratum: 1}, server: {}}}
  client: {clock: {}, config: {sources: [{server: reference}]}}
links:
  - {between: [client, reference], delay: 100us, jitter: {distribution: exponential, mean: 10us}, backward: {loss: 0.2}}
  - {between: [client, reference], interval: [25000s, 28600s], backward: {delay: 5.1ms}}
`

// parse reads a scenario.
func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
