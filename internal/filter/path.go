package filter

import "math"

// Path is what is known of the way to one source and back: the base (least)
// round trip, how it divides into the two directions, and the jitter above it.
// Nothing here depends on the poll interval or has to be configured.
type Path struct {
	buckets [minBuckets]bucket // newest first
	n       int                // exchanges ever, saturating
	low     float64            // least round trip of all buckets, and
	inLow   float64            // how many exchanges they hold
	split   split              // how the base divides into the directions
	mid     [2]float64         // median of the one-way excess, forward and backward
	scale   [2]float64         // its jitter: mean of an exponential with that spread
	mean    float64            // of the round trip
	vari    float64
	last    int64   // raw ns of the last exchange
	step    float64 // s since the one before
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
	min   float64
}

const (
	minBuckets   = 24
	bucketSpan   = 3600e9 // raw ns
	bucketCount  = 50
	scaleStart   = 16    // exchanges before the directions' scales are told apart
	scaleMemory  = 64    // exchanges
	medianToMean = 0.581 // E min(|x−median|, 1.5) of an exponential x of mean 1
	scaleFloor   = 1e-9  // stamps have no more than nanoseconds
	bellSwitch   = 4.0   // (mean/sd)² of the excess: 2 for exponential sums, more for bells
	bellMemory   = 4 * 3600.0
	leastMemory  = 64 // exchanges
	softShare    = 0.2
	tiltStart    = 1.0 // ln of the scales' ratio from which jitter counts as one-sided
	edgeShare    = 0.33
	baseExcess   = 1.75 // mean excess of the least of n round trips, 1.25 J/√n, and 3/4 of its sd: see base
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
		*b = bucket{since: at, min: rtt}
		p.sum()
		p.low = min(p.low, rtt)
	}
	b.n++
	b.min = min(b.min, rtt)
	p.low, p.inLow = min(p.low, rtt), p.inLow+1
	if frozen {
		return
	}
	eta := p.rate(bellMemory)
	d := rtt - p.mean
	p.mean += eta * d
	p.vari += eta * (d*d*(1-eta) - p.vari)
	if p.n < scaleStart {
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
func (p *Path) least() (rtt, n float64) { return p.low, p.inLow }

// sum works out least from the buckets.
func (p *Path) sum() {
	p.low, p.inLow = math.Inf(1), 0
	for i := range p.buckets {
		if b := &p.buckets[i]; b.n > 0 {
			p.low, p.inLow = min(p.low, b.min), p.inLow+float64(b.n)
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
	j := math.Sqrt(p.scale[0] * p.scale[1])
	rtt = low - math.Min(baseExcess*j/math.Sqrt(n), 0.7*math.Max(low, 0))
	edge = edgeShare * j / math.Sqrt(n)
	if n < 8 {
		edge *= 1.5
	}
	return rtt, math.Max(edge, scaleFloor/2)
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
// as far as the scales differ clearly (beyond e), because their estimates wander.
func (p *Path) tilt() float64 {
	if p.n <= scaleStart {
		return 0
	}
	r := math.Log(p.scale[0] / p.scale[1])
	if !(math.Abs(r) > tiltStart) {
		return 0
	}
	return (1 - 1/(r*r)) * (1/p.scale[0] - 1/p.scale[1])
}

// bell returns the variance of the window's middle when the round trips look
// bell-shaped, else 0. The excess E of the round trip is divided between the
// directions by a symmetric beta distribution whose shape follows from E's own:
// gamma of shape q has (mean/sd)² = q, and the middle's variance (mean/2)²/(q+1).
func (p *Path) bell(base float64) float64 {
	m := p.mean - base
	if m <= 0 || p.n < scaleStart || !(m*m > bellSwitch*p.vari) {
		return 0
	}
	q := m * m / math.Max(p.vari, scaleFloor*scaleFloor)
	return m * m / 4 / (q + 1)
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
		Scale: math.Sqrt(p.scale[0] * p.scale[1]),
		Tilt:  p.tilt(),
	}
	if v := p.bell(bf + bb); v > 0 {
		far := math.Max(0, w.half()-3*w.Scale)
		w.Bell = v + far*far/3
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
	p.buckets = [minBuckets]bucket{{since: at, n: n, min: min}}
	p.sum()
	p.split = s
	p.mean += min - low
}
