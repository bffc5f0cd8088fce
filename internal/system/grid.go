package system

import (
	"math"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// grid finds the interval that all of a source's last timestamps are multiples of,
// apart from a constant. Polls that keep step with coarse ticks get samples that are all wrong by as
// much, and so contradict nothing (see spread): what shows it are the timestamps themselves.
type grid struct {
	taken [gridMemory]gridTimes
	n     int
}

// gridTimes are the timestamps of a sample, ns: T1 on the raw scale, T2 and T3 since 1970.
type gridTimes struct{ t1, t2, t3 int64 }

const (
	gridMemory   = 8    // samples
	gridFew      = 3    // so many requests have to have left off the grid
	gridOff      = 20e3 // ns that they are off it
	gridExact    = 1000 // ns: timestamps cut to ticks are multiples of them but for a rounding
	gridFinest   = 1e5  // ns: below it chance makes multiples, and the scatter shows it
	gridCoarsest = 1e9  // ns: clocks tick seconds or finer
)

// tick takes a sample and returns how coarsely the source's clock ticks, s; 0 if that does
// not show. Only answers that are on a grid while their requests are off it show anything:
// polls are as regular as timers are, and broadcasts are nothing else.
func (g *grid) tick(m *model.Sample) float64 {
	if m.Kind != model.SampleExchange {
		return 0
	}
	g.taken[g.n%gridMemory] = gridTimes{int64(m.T1.Raw), int64(m.T2), int64(m.T3)}
	g.n++
	taken := g.taken[:min(g.n, gridMemory)]
	first, unit := taken[0], int64(0)
	for _, x := range taken {
		unit = commonUnit(commonUnit(unit, x.t2-first.t2), x.t3-first.t3)
	}
	if unit > gridCoarsest { // few samples, whose intervals have a part in common: a part of a second then
		unit = commonUnit(unit, gridCoarsest)
	}
	if unit < gridFinest {
		return 0
	}
	off := 0
	for _, x := range taken {
		if r := (x.t1 - first.t1) % unit; min(max(r, -r), unit-max(r, -r)) > gridOff {
			off++
		}
	}
	if off < gridFew {
		return 0
	}
	return float64(unit) * 1e-9
}

// commonUnit is the largest number of which a and b are multiples, within gridExact.
func commonUnit(a, b int64) int64 {
	a, b = max(a, -a), max(b, -b)
	for b > gridExact {
		r := a % b
		a, b = b, min(r, b-r)
	}
	return a
}

// window is how far off the state may be, by the windows of a source's samples: each holds the
// true offset. Where clocks tick coarsely the state may be anywhere in windows that are two
// ticks wide, and polls that keep step with the ticks get no others.
type window struct {
	at  ntptime.Raw
	off float64 // s; 0: nothing known
}

// note takes a sample, off which the state is at most off seconds; it may have run away by
// drift seconds a second since the one before.
func (w *window) note(at ntptime.Raw, off, drift float64) {
	if w.off > 0 {
		off = math.Min(off, w.off+drift*math.Max(at.Sub(w.at).Seconds(), 0))
	}
	w.at, w.off = at, off
}

// tickError is how wrong the state may be for what clocks tick, in seconds: up to the ticks that
// the samples may be off and as much again that the state is off the samples.
func (src *source) tickError() float64 {
	ticks := src.ownDispersion()
	return math.Min(math.Max(ticks, src.window.off), 2*ticks)
}
