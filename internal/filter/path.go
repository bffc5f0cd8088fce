package filter

import "math"

// Path is what is known of the way to one source and back: the base (least)
// round trip, how it divides into the two directions, and the jitter above it.
// Nothing here depends on the poll interval or has to be configured.
type Path struct {
	buckets     [minBuckets]bucket // newest first
	n           int                // exchanges ever, saturating
	low         lowest             // least round trips of all buckets, and
	inLow       float64            // how many exchanges they hold
	split       split              // how the base divides into the directions
	mid         [2]float64         // median of the one-way excess, of one-way and reference sources
	scale       [2]float64         // jitter, forward and backward: mean of an exponential with that spread
	differences int                // how many the scales rest on; 0: on the round trips alone
	recent      [2]float64         // as scale, of the last dozen differences alone
	lasting     float64            // ≥ 1, how much more than neighbours distant round trips differ; 0: not known
	typical     float64            // median of the round trip
	mean        float64            // of the round trip
	vari        float64
	last        int64   // raw ns of the last exchange
	step        float64 // s since the one before
}

// split is what is known of how the base round trip divides. Nothing at first:
// half each. After a route change one direction's base is known from before, and
// the other has whatever the round trip leaves; or the difference is known.
type split struct {
	by    splitKind
	value float64 // s
}

type splitKind uint8

const (
	byDifference splitKind = iota // value = base_f − base_b
	byForward                     // value = base_f
	byBackward                    // value = base_b
)

// bucket holds the least round trip of at least an hour and 50 exchanges. There
// are 24 of them, so that congestion of a whole working day does not raise the
// minimum (8 of them: 1 % more RMS).
type bucket struct {
	since int64 // raw ns
	n     int32
	low   lowest
}

// lowest are the least round trips, in order. How close they lie tells how often
// the path comes near its base, whatever the shape of its jitter.
type lowest [lowestKept]float64

const lowestKept = 12

// spread is how far the one in the given place, 0 the least, lies above the least.
func (l *lowest) spread(place int) float64 { return l[place] - l[0] }

// noLowest holds none but those given.
func noLowest(rtts ...float64) (l lowest) {
	for i := range l {
		l[i] = math.Inf(1)
	}
	copy(l[:], rtts)
	return l
}

func (l *lowest) add(rtt float64) {
	for i := len(l) - 1; i >= 0 && rtt < l[i]; i-- {
		if i+1 < len(l) {
			l[i+1] = l[i]
		}
		l[i] = rtt
	}
}

const (
	minBuckets   = 24
	bucketSpan   = 3600e9 // raw ns
	bucketCount  = 50
	scaleStart   = 16    // exchanges before the directions' scales are told apart
	scaleMemory  = 64    // exchanges
	medianToMean = 0.581 // E min(|x−median|, 1.5) of an exponential x of mean 1
	scaleFloor   = 1e-9  // timestamps have no more than nanoseconds
	bellSwitch   = 4.0   // (mean/sd)² of the excess: 2 for exponential sums, more for bells
	bellMemory   = 4 * 3600.0
	leastMemory  = 64 // exchanges
	softShare    = 0.2
	tiltStart    = 1.0 // ln of the scales' ratio from which jitter counts as one-sided
	edgeShare    = 0.233
	edgeGap      = 0.6
	slantShare   = 0.8
	slantGap     = 1.5
	baseGap      = 3.0
	cleanJitter  = 0.6
	cleanRange   = 6.0   // times the quiet direction's jitter: no farther apart are clean round trips
	apartFrom    = 6.0   // u: a gap that exponential jitter leaves once in 400 times. 8: rarely clean paths 4 % worse
	spreadPlace  = 7     // the eighth least
	lowSpread    = 1.2   // times what is expected or more: 0.9 costs the rows of long paths 1 %, up to 20 % in one
	baseExcess   = 1.237 // mean excess of the least of n round trips, 1.25 J/√n, and 3/4 of its sd: see base
)

// observe takes a round trip (s) at a raw instant into minimum and moments.
// frozen keeps the moments as they are: the path is under suspicion.
func (p *Path) observe(at int64, rtt float64, frozen bool) {
	p.count(at)
	b := &p.buckets[0]
	if b.n == 0 || (at-b.since >= bucketSpan && b.n >= bucketCount) {
		if b.n > 0 {
			copy(p.buckets[1:], p.buckets[:minBuckets-1])
		}
		*b = bucket{since: at, low: noLowest()}
		p.sum()
	}
	b.n++
	b.low.add(rtt)
	p.low.add(rtt)
	p.inLow++
	if frozen {
		return
	}
	eta := p.rate(bellMemory)
	d := rtt - p.mean
	p.mean += eta * d
	p.vari += eta * (d*d*(1-eta) - p.vari)
	if p.n < scaleStart && p.differences < fewest {
		s := 0.0
		if p.n > 1 {
			low, _ := p.least()
			s = (p.mean - low) / 2 * float64(p.n) / float64(p.n-1)
		}
		s = math.Max(s, scaleFloor)
		p.scale = [2]float64{s, s}
	}
}

// count notes that there was an exchange.
func (p *Path) count(at int64) {
	p.n++
	p.step, p.last = seconds(at-p.last), at
}

// least returns the least round trip of the window and the number of exchanges in it.
func (p *Path) least() (rtt, n float64) { return p.low[0], p.inLow }

// sum works out least from the buckets.
func (p *Path) sum() {
	p.low, p.inLow = noLowest(), 0
	for i := range p.buckets {
		b := &p.buckets[i]
		if b.n == 0 {
			continue
		}
		p.inLow += float64(b.n)
		for _, rtt := range b.low {
			p.low.add(rtt)
		}
	}
}

// base returns the base round trip and the standard deviation of one edge (half
// the base's). The least of n sums of two exponentials of means Jf, Jb exceeds
// the base by J√(π/2n) on average, with a standard deviation of 0.66 J/√n,
// J = √(Jf Jb). The base is taken somewhat lower than that: windows too wide lose
// a little, windows too narrow contradict each other. (1.25 J/√n alone: 2 % more
// RMS, 2.25: 2 % more.) One exchange says only that base is between nothing and it.
func (p *Path) base() (rtt, edge float64) {
	low, n := p.least()
	if n == 0 {
		return 0, 0 // one-way and reference sources have none
	}
	if n <= 1 && p.n <= 1 {
		return low / 2, math.Abs(low) / 8
	}
	u := p.excess(n)
	excess := baseExcess * u
	edge = edgeShare * u
	if _, belief := p.lean(); belief > 0 {
		gap, apart := p.cleanGap(), p.apart(u)
		excess += belief * (min(excess, baseGap*gap, baseExcess*apart) - excess)
		edge += belief * (min(edge, edgeGap*gap, edgeShare*apart) - edge)
	}
	rtt = low - math.Min(excess, 0.7*math.Max(low, 0))
	if n < 8 {
		edge *= 1.5
	}
	return rtt, math.Max(edge, scaleFloor/2)
}

// excess is the scale of the least of n round trips' excess over the base. A sum of
// two exponentials is below x with probability x²/2JfJb if x is small against
// both, and x/J if the other is small against x; between the two
//
//	u = √(2 Jf Jb/n + (J/n)²)
//
// and the eighth least is above the least by 1.9 u to 7 u. Where it is much nearer, the
// scales speak of something else than of how often the path comes near its base: of
// bursts, which make them large and have no part in the least.
func (p *Path) excess(n float64) float64 {
	j := math.Max(p.scale[0], p.scale[1]) / n
	u := math.Max(p.lasting, 1) * math.Sqrt(2*p.scale[0]*p.scale[1]/n+j*j)
	return math.Min(u, lowSpread*p.low.spread(spreadPlace))
}

// cleanGap is what the least round trips of one-sided jitter tell of the distance to the
// base: three that lie together are it, and so are two that differ by no more than clean
// exchanges do, by the quiet direction's jitter.
func (p *Path) cleanGap() float64 {
	clean := math.Max(p.low.spread(1), cleanJitter*math.Min(p.scale[0], p.scale[1]))
	return math.Min(p.low.spread(2), clean)
}

// apart is the scale of the least round trip's excess where queues stand in one direction
// and the least few round trips stand apart from all others: these found no queue, so that
// both directions had the quiet one's jitter. Infinite where they do not stand apart, or
// differ by more than such jitter makes them.
func (p *Path) apart(u float64) float64 {
	quiet := math.Min(p.scale[0], p.scale[1])
	for m := 1; m < lowestKept && p.low.spread(m-1) <= cleanRange*quiet; m++ {
		if n := float64(m); p.low[m]-p.low[m-1] > apartFrom*u {
			return quiet * math.Sqrt(2/n+1/(n*n))
		}
	}
	return math.Inf(1)
}

// bases returns the least one-way delays, forward and backward.
func (p *Path) bases() (forward, backward, edge float64) {
	b, edge := p.base()
	d := p.split.value
	switch p.split.by {
	case byForward:
		d = 2*d - b
	case byBackward:
		d = b - 2*d
	}
	d = clamp(d, -math.Abs(b), math.Abs(b)) // no direction takes less than nothing
	return (b + d) / 2, (b - d) / 2, edge
}

// tilt returns λ for one-sided jitter. Inside the window the likelihood of an
// offset is exp(−(u−θ)/Jf) exp(−(θ−l)/Jb), so λ = 1/Jf − 1/Jb; it is taken only
// as far as the scales differ clearly, because their estimates wander, and as far as
// those of the last dozen still lean to the same side: queues come and go.
func (p *Path) tilt() float64 {
	r, belief := p.lean()
	if belief == 0 {
		return 0
	}
	belief *= clamp(2*math.Log(p.recent[0]/p.recent[1])/r, 0, 1)
	return belief * (1/p.scale[0] - 1/p.scale[1])
}

// bell returns where in the window, as a share of its width, the offset lies and
// with what variance, when the round trips look bell-shaped; else variance 0. The
// excess E of the round trip is divided between the directions by a beta
// distribution whose shape follows from E's own: gamma of shape q has
// (mean/sd)² = q. Of equal jitter the share is a half, and the variance
// (mean/2)²/(q+1); a quiet direction has no share in E.
func (p *Path) bell(base float64) (share, variance float64) {
	m := p.mean - base
	if m <= 0 || p.n < scaleStart || !(m*m > bellSwitch*p.vari) {
		return 0.5, 0
	}
	q := m * m / math.Max(p.vari, scaleFloor*scaleFloor)
	r, belief := p.lean()
	share = 1 / (1 + math.Exp(r*belief)) // of the backward direction
	return share, m*m*share*(1-share)/(q+1) + scaleFloor*scaleFloor
}

// window makes the window of an exchange whose one-way times are forward and
// backward (both moved to the same instant).
func (p *Path) window(forward, backward float64) Window {
	bf, bb, edge := p.bases()
	lo, hi := bb-backward, forward-bf
	if hi < lo {
		lo = (lo + hi) / 2
		hi = lo
	}
	w := Window{
		Lo: lo, Hi: hi, Edge: edge,
		Soft:  softShare * math.Min(p.scale[0], p.scale[1]),
		Scale: p.jitter(),
		Tilt:  p.tilt(),
	}
	if share, v := p.bell(bf + bb); v > 0 {
		far := math.Max(0, w.half()-3*w.Scale)
		w.Bell = v + far*far/3*4*share*(1-share)
		w.Middle = lo + share*(hi-lo)
	}
	return w
}

// rate returns the weight of a new exchange in a mean that is to remember the
// given seconds, and not less than 64 exchanges. Congestion lasts for minutes
// whatever the poll interval: a memory counted in exchanges alone would take
// every queue for the path's nature at quick polls.
func (p *Path) rate(memory float64) float64 {
	return math.Max(1/float64(max(p.n, 1)), math.Min(1.0/leastMemory, math.Max(p.step, 0)/memory))
}

// learn follows the one-way excess of one direction: its median, and from the
// deviations around that its scale. Deviations, not the excess itself, so that
// an error of the offset can not feed back through the tilt.
func (p *Path) learn(direction int, excess float64) {
	j, m := &p.scale[direction], &p.mid[direction]
	eta := p.rate(scaleMemory)
	d := excess - *m
	*m += 1.5 * eta * *j * clamp(d/(0.3**j), -1, 1)
	*j += eta * (math.Min(math.Abs(d), 1.5**j)/medianToMean - *j)
	*j = clamp(*j, scaleFloor, 1e3)
}

// restart makes the path a new one: least round trip min seen n times.
func (p *Path) restart(at int64, min float64, n int32, s split) {
	low, _ := p.least()
	p.buckets = [minBuckets]bucket{{since: at, n: n, low: noLowest(min)}}
	p.sum()
	p.split = s
	p.mean += min - low
	p.typical += min - low
}
