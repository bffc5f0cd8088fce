package virtual

import (
	"math"
	"math/rand/v2"

	"timeball/internal/scenario"
)

// Stream is a generator of its own for one thing that is drawn: what is drawn for
// one link never shifts what is drawn for another, or for a clock.
type Stream struct {
	*rand.Rand
}

// NewStream keys a generator by the seed of the run and by what it is for, through
// FNV-1a and the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func NewStream(seed uint64, what string) Stream {
	hash := uint64(14695981039346656037)
	for i := range len(what) {
		hash = (hash ^ uint64(what[i])) * 1099511628211
	}
	return Stream{rand.New(rand.NewPCG(mix(hash+mix(seed)), mix(hash^mix(seed+1))))}
}

// mix spreads every bit of x over all 64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// gamma draws from the gamma distribution of a shape > 0 and mean 1 (Marsaglia and
// Tsang 2000; a shape below 1 by way of shape+1).
func (s Stream) gamma(shape float64) float64 {
	boost := 1.0
	k := shape
	if k < 1 {
		boost = math.Pow(1-s.Float64(), 1/k)
		k++
	}
	d := k - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := s.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if u := 1 - s.Float64(); math.Log(u) < x*x/2+d-d*v+d*math.Log(v) {
			return boost * d * v / shape
		}
	}
}

// Jitter draws one part of a delay, in ns.
func (s Stream) Jitter(j *scenario.Jitter) float64 {
	if j.Probability < 1 && s.Float64() >= j.Probability {
		return 0
	}
	switch j.Distribution {
	case scenario.Exponential:
		return float64(j.Mean) * s.ExpFloat64()
	case scenario.Normal:
		return float64(j.Mean) + float64(j.Deviation)*s.NormFloat64()
	case scenario.Uniform:
		return float64(j.From) + float64(j.To-j.From)*s.Float64()
	case scenario.Gamma:
		return float64(j.Mean) * s.gamma(j.Shape)
	case scenario.Pareto:
		// Scale m of a mean m·a/(a−1); 1−U lies in (0, 1].
		scale := float64(j.Mean) * (j.Shape - 1) / j.Shape
		return min(scale*math.Pow(1-s.Float64(), -1/j.Shape), float64(scenario.MaxDelay))
	}
	return 0
}
