package system

import (
	"math"

	"timeball/internal/filter"
	"timeball/internal/selection"
)

// Every path is asymmetric, and no NTP client can see by how much; but several
// sources together show how their asymmetries differ. Without care the combined
// state is torn between windows that contradict each other. So each source has
// a bias, a small Kalman filter of one state:
//
//	prior        N(0, σ²), σ = 2 % of the round trip to the primary reference
//	measurement  own state − combined state, variance P_own + P_combined, counted once
//	             per memory of the own state (its errors live as long)
//
// and its windows are shifted by it before they go into the combined state. Common
// to all biases there is a part that no difference shows: it is set so that the
// mean of the biases, weighted by 1/σ², is zero. That makes the clock the mean
// of the sources, near ones first, instead of a copy of one of them, and it does
// not jump when a source comes or goes.
//
// A source whose difference runs away is none of this: its clock is wrong, or
// its path changed. It leaves the combined state until it has stood still again.
type bias struct {
	applied   float64 // s, taken off its windows
	variance  float64 // s²; 0: not begun
	at        int64   // raw ns of the last update
	n         int     // updates
	diverging bool
	outliers  int // exchanges in a row that were too far off
	inliers   int // exchanges in a row that were not, while out
}

const (
	asymmetry       = 0.02         // σ of a path's asymmetry, share of the round trip
	biasMemory      = 100 * 86400. // s over which a bias may change by σ
	normalizeStep   = 1.0 / 32     // share of the common part that is taken off per update
	divergingSigmas = 4.0
	divergingCount  = 4  // exchanges in a row
	inlierCount     = 32 // exchanges in a row
	matureCount     = 16 // updates until a bias has its full say
	outsideGain     = 1.0 / 16
)

// updateBias compares a source's own state with the combined one.
func (s *System) updateBias(src *source) {
	if src == s.soleSource || !src.estimate.Started() || !s.combined.Started() {
		return
	}
	if s.othersIn(src) == 0 {
		s.normalizeBiases() // alone: what is left of its bias goes
		return
	}
	e := src.lastEst
	j := s.combined.Estimate().Extrapolate(e.At)
	b := &src.bias
	b.predict(e.At, src.asymmetrySD())
	src.limitBias()
	if at, p, ok := s.middle(e.At); ok && (b.n >= matureCount || b.diverging) {
		b.judge(e.Offset-b.applied-at, math.Sqrt(e.P00+p+b.variance))
	}
	r := e.Offset - j.Offset - b.applied
	noise := e.P00 + j.P00
	if b.diverging {
		b.applied += outsideGain * r
		return
	}
	memory := math.Min(1/math.Max(src.estimate.Gain(), 1e-3), filter.Depth)
	k := b.variance / (b.variance + noise*memory)
	b.applied += k * r
	b.variance -= k * b.variance
	b.n++
	s.normalizeBiases()
}

// middle returns the weighted median of the combined sources' own states, biases
// taken off, and its variance: what one liar, or two of five, can not move. With
// less than three nobody is in the middle.
func (s *System) middle(at int64) (offset, variance float64, ok bool) {
	var xs [selection.MaxCombined]opinion
	n, total := 0, 0.0
	for _, src := range s.sources {
		if !src.inCombined || src.estimate == nil || !src.estimate.Started() || n == len(xs) {
			continue
		}
		e := src.lastEst.Extrapolate(at)
		x := opinion{e.Offset - src.bias.applied, e.P00 + src.bias.variance}
		i := n
		for ; i > 0 && xs[i-1].offset > x.offset; i-- {
			xs[i] = xs[i-1]
		}
		xs[i] = x
		n++
		total += 1 / x.variance
	}
	if n < 3 {
		return 0, 0, false
	}
	sum := 0.0
	for i := range xs[:n] {
		if sum += 1 / xs[i].variance; sum >= total/2 {
			return xs[i].offset, xs[i].variance, true
		}
	}
	return 0, 0, false
}

// opinion is one source's offset, and its variance.
type opinion struct{ offset, variance float64 }

// limitBias takes off the bias of a server that slews, or did lately, what neither the path, by
// half of the least round trip, nor the server, by what it says of itself now, can be wrong
// by any more. What was learned while its clock was far off, as it said, is not to outlive
// the slew: it would carry ours along.
func (src *source) limitBias() {
	if b := &src.bias; src.fall.rate > 0 && !b.diverging {
		most := src.serverDistance() + src.filter.MinDelay()/2
		b.applied = math.Min(math.Max(b.applied, -most), most)
	}
}

// asymmetrySD is what a source's offset may be off by for good, in seconds: the
// asymmetry of the whole path to the primary reference, what its own servers say of
// its clock (three standard deviations, as we do), and one-sided jitter.
func (src *source) asymmetrySD() float64 {
	base, _ := src.filter.Base()
	path := asymmetry * (base + src.server.RootDelay.Seconds())
	sd := math.Hypot(path, src.server.RootDispersion.Seconds()/boundSigmas)
	return math.Max(math.Hypot(sd, src.filter.Slant()), 1e-9)
}

func (b *bias) predict(at int64, sd float64) {
	if b.variance == 0 {
		b.variance = sd * sd
	} else {
		b.variance += sd * sd * math.Min(math.Max(float64(at-b.at)*1e-9, 0)/biasMemory, 1)
	}
	b.at = at
}

// judge decides about running away from a residual and its standard deviation.
func (b *bias) judge(r, sd float64) {
	far := math.Abs(r) > divergingSigmas*sd
	switch {
	case !b.diverging && far:
		if b.outliers++; b.outliers >= divergingCount {
			b.diverging, b.inliers, b.outliers = true, 0, 0
		}
	case !b.diverging:
		b.outliers = 0
	case far:
		b.inliers = 0
	default:
		if b.inliers++; b.inliers >= inlierCount {
			*b = bias{applied: b.applied, at: b.at, variance: sd * sd}
		}
	}
}

// resetBiases drops the biases that were learned while somebody spoilt the combined
// state, except those that had been learned for long before.
func (s *System) resetBiases() {
	for _, src := range s.sources {
		if !src.bias.diverging && (!src.inCombined || src.bias.n < matureCount) {
			src.bias = bias{}
		}
	}
}

// normalizeBiases takes the common part off the biases of the combined sources.
func (s *System) normalizeBiases() {
	sum, weight := 0.0, 0.0
	for _, src := range s.sources {
		if !src.inCombined || src.bias.variance == 0 {
			continue
		}
		sd := src.asymmetrySD()
		w := min(float64(src.bias.n)/matureCount, 1) / (sd * sd)
		if z := math.Abs(src.bias.applied) / sd; z > 2 { // Huber: the far one has no say beyond 2 σ
			w *= 2 / z
		}
		sum += w * src.bias.applied
		weight += w
	}
	if weight == 0 {
		return
	}
	step := normalizeStep
	if s.combined.Updates() < filter.Depth {
		step = 1
	}
	for _, src := range s.sources {
		if src.bias.variance != 0 {
			src.bias.applied -= step * sum / weight
		}
	}
}
