package system

import (
	"math"
	"math/rand"
	"testing"

	"timeball/internal/filter"
)

// However the delays divide, the true offset is within what the exchanges have in common, and
// that gets no wider than the last of them.
func TestNoExchangeRulesTheTruthOut(t *testing.T) {
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		frequency := 1e-4 * r.NormFloat64()
		d := drift{frequency, 1e-8}
		var c certain
		at, offset, base := int64(1), r.NormFloat64(), [2]float64{1e-3 * r.Float64(), 1e-3 * r.Float64()}
		for range 100 {
			span := 1 + 1000*r.Float64()
			at += int64(span * 1e9)
			offset += frequency * span
			there, back := base[0]+1e-2*r.ExpFloat64()*r.Float64(), base[1]+1e-2*r.ExpFloat64()*r.Float64()
			c.note(&filter.Exchange{At: at, Forward: offset + there, Backward: back - offset}, d)
			if c.lo > offset || c.hi < offset {
				t.Fatalf("seed %d: the true offset is %.9f s, outside of [%.9f, %.9f]", seed, offset, c.lo, c.hi)
			}
			if width := c.hi - c.lo; width > there+back+3*certainNoise {
				t.Fatalf("seed %d: %.9f s wide after a round trip of %.9f", seed, width, there+back)
			}
			if got, want := c.beyond(at, offset, d), math.Max(c.hi-offset, offset-c.lo); got != want {
				t.Fatalf("seed %d: got %v, want %v", seed, got, want)
			}
		}
	}
}

// A broadcast may be late by anything: the least late one tells, with what is not known of its delay.
func TestABroadcastOnlySaysHowLateItIsNot(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	var c certain
	for k := range int64(100) {
		late := 3e-3 + 5e-3*r.ExpFloat64()
		c.note(&filter.Exchange{Kind: filter.OneWay, At: k * 1e9, Backward: late - 0.5, Delay: 4e-3, Error: 4e-3}, drift{})
		if c.lo > 0.5 || c.hi < 0.5 || c.hi-c.lo > 8.1e-3 {
			t.Fatalf("the true offset is 0.5 s: [%.6f, %.6f] after %d", c.lo, c.hi, k+1)
		}
	}
}

// Exchanges that contradict each other, as after a jump of the server, begin anew.
func TestAJumpLeavesTheNewestExchange(t *testing.T) {
	var c certain
	c.note(&filter.Exchange{At: 1e9, Forward: 1e-3, Backward: 1e-3}, drift{})
	c.note(&filter.Exchange{At: 2e9, Forward: 1.001, Backward: -0.999}, drift{})
	if c.lo > 1 || c.hi < 1 || c.lo < 0.99 {
		t.Errorf("got [%.6f, %.6f], want about 1", c.lo, c.hi)
	}
	c.shift(1)
	if c.lo > 0 || c.hi < 0 {
		t.Errorf("shifted by 1 s: got [%.6f, %.6f], want about 0", c.lo, c.hi)
	}
}
