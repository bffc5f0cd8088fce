package system

import (
	"math"

	"timeball/internal/filter"
)

// certain is where a source's offset lies whatever its path has done: no packet arrives
// before it was sent, so that each exchange leaves [−backward, forward] for it, and all of
// them what they have in common. The state is mostly in the middle of that, and half of the
// least round trip is in the bound for it; where a belief about the path (queues in
// one direction, which of them a change of route has made longer) or other sources have
// drawn it to one side, the true offset may be at the other end.
type certain struct {
	at     int64   // raw ns; 0: nothing known
	lo, hi float64 // s, on the raw scale
}

const (
	certainNoise = 1e-6 // s: how wrong timestamps may be beside their ticks
	certainDrift = 1    // standard deviations of the frequency by which the interval widens with time
	certainShare = 0.02 // of the least round trip, which no direction is without
)

// drift is how a clock runs against our oscillator, s/s: freq, give or take off.
type drift struct{ freq, off float64 }

// driftOf is that of a source whose own state is e. The oscillator's part is known better by
// all sources together, if there are others, but for a source whose clock runs otherwise.
func driftOf(e filter.Estimate, combined *filter.Tracker) drift {
	own := sqrt(e.P11)
	if combined.Started() {
		c := combined.Estimate()
		if sd := sqrt(c.P11); sd < own {
			return drift{c.Freq, certainDrift*sd + math.Max(math.Abs(e.Freq-c.Freq)-boundSigmas*own, 0)}
		}
	}
	return drift{e.Freq, certainDrift * own}
}

// note takes an exchange.
func (c *certain) note(x *filter.Exchange, d drift) {
	slack := certainNoise + float64(x.Ticks) + d.off*float64(x.Span)/2
	turn := d.freq * float64(x.Span) / 2 // our raw clock ran at the wrong frequency meanwhile
	n := certain{at: x.At, lo: -(x.Backward + turn) - slack, hi: x.Forward + turn + slack}
	known := c.later(x.At, d)
	switch x.Kind {
	case filter.OneWay: // it may have been late by anything, but for the least late one
		n.lo, n.hi = x.Delay-float64(x.Error)-x.Backward-slack, x.Delay+float64(x.Error)-x.Backward+slack
		if known.at != 0 && known.lo > n.lo {
			n = known
		}
	case filter.TwoWay:
		if lo, hi := math.Max(n.lo, known.lo), math.Min(n.hi, known.hi); known.at != 0 && lo < hi {
			n.lo, n.hi = lo, hi
		}
	default:
		n = certain{}
	}
	*c = n
}

// later is the interval at another moment.
func (c certain) later(at int64, d drift) certain {
	if c.at == 0 {
		return c
	}
	span := float64(at-c.at) * 1e-9
	grown := d.off * math.Abs(span)
	return certain{at: at, lo: c.lo + d.freq*span - grown, hi: c.hi + d.freq*span + grown}
}

// beyond is how far from an offset the true one may be at most at a moment, in seconds.
func (c certain) beyond(at int64, offset float64, d drift) float64 {
	if c.at == 0 {
		return 0
	}
	c = c.later(at, d)
	return math.Max(c.hi-offset, offset-c.lo)
}

// shift moves the origin of offsets by d seconds, up.
func (c *certain) shift(d float64) {
	c.lo -= d
	c.hi -= d
}
