package simulate

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// A request and its answer survive with (1−p)².
func TestLossHitsEachDirectionByItself(t *testing.T) {
	answers := 0
	r := figuresOf(t, pair("200000s", "0s", "", "delay: 1ms, loss: 0.2", 1, ""),
		kalmanClient(time.Second, 1e-9, 1e-12, func(float64) { answers++ }))
	near(t, "share answered", float64(answers)/200000, 0.64, 0.01)
	near(t, "packets an hour", r.Hosts[1].Median.PacketsSentPerHour, 3600, 0.001)
}

// The offset measured errs by J·(E1−E2)/2: mean 0, variance J²/2.
func TestExchangeErrsByHalfTheDifferenceOfTheJitters(t *testing.T) {
	var n, sum, squares float64
	figuresOf(t, pair("200000s", "0s", "", "delay: 100us, jitter: {distribution: exponential, mean: 100us}", 1, ""),
		kalmanClient(time.Second, 1e-9, 1e-12, func(offset float64) { n++; sum += offset; squares += offset * offset }))
	near(t, "variance", squares/n, 1e-8/2, 0.02)
	if mean := sum / n; math.Abs(mean) > 1e-6 {
		t.Errorf("got mean %.3g s, want 0", mean)
	}
}

// Section 8 of the reference tables gives the exact RMS error of the linear Kalman filter.
func TestLinearKalmanReachesItsLimit(t *testing.T) {
	for _, c := range []struct {
		jitter string
		j, w   float64
		poll   time.Duration
		want   float64
	}{
		{"10us", 10e-6, 1e-9, 16 * time.Second, 2.6e-6},
		{"100us", 100e-6, 1e-9, 64 * time.Second, 24.5e-6},
		{"1ms", 1e-3, 1e-9, 1024 * time.Second, 392e-6},
		{"10us", 10e-6, 1e-8, 64 * time.Second, 8.25e-6},
		{"1ms", 1e-3, 1e-10, 64 * time.Second, 77.6e-6},
	} {
		name := fmt.Sprintf("J=%s w=%g poll=%v", c.jitter, c.w, c.poll)
		t.Run(name, func(t *testing.T) {
			text := pair("1000000s", "50000s", fmt.Sprintf("offset: 10ms, frequency: 10ppm, wander: %g", c.w),
				"delay: 10ms, jitter: {distribution: exponential, mean: "+c.jitter+"}", 2, "")
			r := figuresOf(t, text, kalmanClient(c.poll, c.w, c.j*c.j/2, nil))
			near(t, "RMS error", r.Hosts[1].Median.RMSError, c.want, 0.1)
		})
	}
}
