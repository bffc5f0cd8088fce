package system

import "timeball/internal/model"

// grid finds the unit that all of a source's last timestamps are multiples of, apart from
// a constant. Polls that keep step with coarse ticks get samples that are all wrong by as
// much, and so contradict nothing (see spread): what shows it are the timestamps themselves.
type grid struct {
	taken [gridMemory]gridTimes
	n     int
}

// gridTimes are the timestamps of a sample, ns: T1 on the raw scale, T2 and T3 since 1970.
type gridTimes struct{ t1, t2, t3 int64 }

const (
	gridMemory = 8    // samples
	gridFew    = 3    // fewer say nothing
	gridExact  = 2000 // ns: timestamps cut to ticks are multiples of them but for a rounding
	gridFinest = 1e5  // ns: below it chance makes multiples, and the scatter shows it
)

// tick takes a sample and returns how coarsely the source's clock ticks, s; 0 if that does
// not show. Requests that left on such a grid themselves say nothing of the answers.
func (g *grid) tick(m *model.Sample) float64 {
	if m.Kind == model.SampleReference {
		return 0
	}
	g.taken[g.n%gridMemory] = gridTimes{int64(m.T1.Raw), int64(m.T2), int64(m.T3)}
	g.n++
	if g.n < gridFew {
		return 0
	}
	var requests, answers int64
	first := g.taken[0]
	for _, x := range g.taken[:min(g.n, gridMemory)] {
		requests = commonUnit(requests, x.t1-first.t1)
		answers = commonUnit(commonUnit(answers, x.t2-first.t2), x.t3-first.t3)
	}
	if answers < gridFinest || requests >= min(answers, gridFinest) {
		return 0
	}
	return float64(answers) * 1e-9
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
