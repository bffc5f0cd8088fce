package virtual

import "testing"

func TestStreamsAreKeyedBySeedAndPurpose(t *testing.T) {
	first := func(seed uint64, what string) uint64 { return NewStream(seed, what).Uint64() }
	seen := map[uint64]string{}
	for seed := range uint64(50) {
		for _, what := range []string{"oscillator a", "oscillator b", "link a b", "link b a", ""} {
			v := first(seed, what)
			if other, doubled := seen[v]; doubled {
				t.Errorf("stream %d %q begins like %s", seed, what, other)
			}
			seen[v] = what
			if again := first(seed, what); again != v {
				t.Errorf("stream %d %q: got %d and then %d, want the same", seed, what, v, again)
			}
		}
	}
}

func TestGammaHasMeanOneAndVarianceOneOverItsShape(t *testing.T) {
	s := NewStream(1, "gamma")
	for _, shape := range []float64{0.3, 1, 2.5, 40} {
		sum, squares := 0.0, 0.0
		const n = 300_000
		for range n {
			x := s.gamma(shape)
			sum += x
			squares += x * x
		}
		mean := sum / n
		near(t, "mean", mean, 1, 0.02)
		near(t, "variance", squares/n-mean*mean, 1/shape, 0.05)
	}
}
