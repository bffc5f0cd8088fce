package filter

import "math"

// The jitter of each direction is measured without the state: from one exchange
// to the next the oscillator runs at its frequency y and nothing else, so that
//
//	Δ(T2−T1) − y dt   and   Δ(T4−T3) + y dt
//
// are differences of two draws of that direction's jitter alone. An offset that a
// queue in one direction has pulled away has no say in them; deviations from the
// state would be pulled with it, and the asymmetry be learned in hours. For the
// same reason they are those of the register, not a mean that forgets slowly: a
// queue that ends is forgotten with the exchanges that it held up.
const (
	huber         = 1.5   // differences beyond so many scales count as that many
	huberMean     = 0.777 // E min(x, 1.5) of an exponential x of mean 1
	fewest        = 3     // differences before they say anything
	scaleRounds   = 24    // of the fixed point, from nothing known
	scaleRefine   = 2     // from the scale before this exchange
	scaleAgrees   = 1.6   // a scale of so many times what was known is another one
	scaleSlow     = 32.0  // exchanges over which one that agrees is refined
	changeCount   = 12    // differences that show, by
	changeFactor  = 10.0  // this factor, that jitter has changed
	ratioSpread   = 1.77  // sd of ln of the ratio of two scales from n differences is about 1.77/√n
	lastingLeast  = 2.0   // times the difference of neighbours: less is chance
	lastingRounds = 4
	lastingEvery  = 4 // exchanges, to save time
	ratioSigmas   = 3.0
	scaleShrink   = 0.3 // n differences can not show a direction to be quieter than 0.3/n² of the other
)

// differences are those between neighbouring two-way exchanges of the register,
// and by how many seconds of the oscillator's frequency each is off.
type differences struct {
	oneWay [2][Depth]float64 // s
	span   [2][Depth]float64 // s
	n      int
}

// between returns the difference between two exchanges, x the later, as it
// would be of an oscillator of no frequency error, and the seconds by which
// that counts.
func between(x, y *Exchange) (oneWay, span [2]float64) {
	dt, stretch := seconds(x.At-y.At), float64(x.Span-y.Span)/2
	return [2]float64{x.Forward - y.Forward, x.Backward - y.Backward}, [2]float64{dt - stretch, -dt - stretch}
}

// differences collects those of the register, the newest first.
func (f *Filter) differences(d *differences) {
	d.n = 0
	for i := 1; i < f.Len(); i++ {
		x, y := f.Last(i-1), f.Last(i)
		if x.Kind != TwoWay || y.Kind != TwoWay {
			continue
		}
		o, t := between(x, y)
		for direction := range o {
			d.oneWay[direction][d.n], d.span[direction][d.n] = o[direction], t[direction]
		}
		d.n++
	}
}

// scale returns the jitter of one direction if the frequency is freq.
func (d *differences) scale(direction int, freq, start float64, rounds int) float64 {
	var rest [Depth]float32
	d.rest(direction, freq, &rest)
	return scaleOf(rest[:d.n], start, rounds)
}

// rest fills in what the frequency leaves of the differences.
func (d *differences) rest(direction int, freq float64, rest *[Depth]float32) {
	for i, x := range d.oneWay[direction][:d.n] {
		rest[i] = float32(math.Abs(x - freq*d.span[direction][i]))
	}
}

// scaleOf returns the mean of an exponential whose differences are as large as
// xs. It solves J = mean(min(x, 1.5 J))/0.777 from start, or from above.
func scaleOf(xs []float32, start float64, rounds int) float64 {
	j := start
	if j <= 0 {
		j = math.MaxFloat32 / huber
	}
	for ; rounds > 0; rounds-- {
		next := sumUpTo(xs, float32(huber*j)) / (huberMean * float64(len(xs)))
		if math.Abs(next-j) < 1e-3*j {
			return next
		}
		j = next
	}
	return j
}

// sumUpTo adds numbers up, each taken for no more than limit: in four sums at a time, as
// none has to wait for another's.
func sumUpTo(xs []float32, limit float32) float64 {
	var a, b, c, d float64
	for ; len(xs) >= 4; xs = xs[4:] {
		a += float64(min(xs[0], limit))
		b += float64(min(xs[1], limit))
		c += float64(min(xs[2], limit))
		d += float64(min(xs[3], limit))
	}
	for _, x := range xs {
		a += float64(min(x, limit))
	}
	return a + b + (c + d)
}

// frequency returns the frequency that explains both directions best: for
// exponential differences the likelihood of scales Jf and Jb is (Jf Jb)^−n, so
// the least product wins. A quiet direction decides it alone. Candidates are the
// slopes between exchanges of either direction and the state's own.
func (d *differences) frequency(freq float64) float64 {
	best, least := freq, d.product(freq)
	for direction := range d.oneWay {
		for _, lag := range [...]int{1, max(2, d.n/2)} {
			x, t := 0.0, 0.0
			for i := 0; i < d.n; i++ {
				x, t = x+d.oneWay[direction][i], t+d.span[direction][i]
				if i >= lag {
					x, t = x-d.oneWay[direction][i-lag], t-d.span[direction][i-lag]
				}
				if i < lag-1 || math.Abs(t) < 1e-3 {
					continue
				}
				if p := d.product(x / t); p < least {
					best, least = x/t, p
				}
			}
		}
	}
	return best
}

func (d *differences) product(freq float64) float64 {
	return max(d.scale(0, freq, 0, 4), scaleFloor) * max(d.scale(1, freq, 0, 4), scaleFloor)
}

// measureJitter sets the path's scales from the register. Until it wraps, the
// frequency is searched anew where the state is worked out anew; afterwards each
// difference is taken with the state's frequency at its time, so that neither
// wander nor a step of it makes jitter of what is none.
func (f *Filter) measureJitter(e *Estimate, anew bool) {
	if f.count > Depth && !anew {
		f.followJitter(e)
		return
	}
	var d differences
	f.differences(&d)
	if d.n < fewest {
		return
	}
	if anew {
		f.slope = d.frequency(e.Freq)
	}
	for direction := range f.rest {
		var rest [Depth]float32
		d.rest(direction, f.slope, &rest)
		for i := range d.n { // there the newest is first, here last
			f.rest[direction][i] = rest[d.n-1-i]
		}
		if f.window[direction] == 0 {
			f.window[direction] = d.n
		}
		f.window[direction] = min(f.window[direction]+1, d.n) // what a change has dropped stays so
	}
	f.taken = d.n
	f.setScales(0, scaleRounds)
	f.measureLasting(d.n + 1)
}

// followJitter takes the newest difference in place of the oldest.
func (f *Filter) followJitter(e *Estimate) {
	if f.Last(0).Kind != TwoWay || f.Last(1).Kind != TwoWay || f.taken == 0 {
		return
	}
	o, t := between(f.Last(0), f.Last(1))
	for direction := range f.rest {
		f.rest[direction][f.taken%Depth] = float32(math.Abs(o[direction] - e.Freq*t[direction]))
		f.window[direction] = min(f.window[direction]+1, Depth-1)
	}
	f.taken++
	f.setScales(1, scaleRefine)
	if f.taken%lastingEvery == 0 {
		f.measureLasting(f.path.differences + 1)
	}
}

// measureLasting finds how much more the last n round trips differ from those half of
// them earlier than from their neighbours. A queue that changes slowly has little to
// show between neighbours; and it comes near nothing as seldom as it changes, so that
// the least of many round trips means no more than the least of a few.
func (f *Filter) measureLasting(n int) {
	var rtt, near, far [Depth]float32
	n = min(n, f.Len())
	for i := range n {
		x := f.Last(i)
		rtt[i] = float32(x.Forward + x.Backward - f.path.low[0])
	}
	half := n / 2
	for i := range n - 1 {
		near[i] = max(rtt[i]-rtt[i+1], rtt[i+1]-rtt[i])
	}
	for i := range n - half {
		far[i] = max(rtt[i]-rtt[i+half], rtt[i+half]-rtt[i])
	}
	f.path.lasting = 1
	if half > fewest {
		a, b := scaleOf(near[:n-1], 0, lastingRounds), scaleOf(far[:n-half], 0, lastingRounds)
		f.path.lasting = max(1, b/max(lastingLeast*a, scaleFloor))
	}
}

// latest copies the last n differences of a direction, in any order.
func (f *Filter) latest(direction, n int, into *[Depth]float32) []float32 {
	for i := range n {
		into[i] = f.rest[direction][(f.taken-1-i)%Depth]
	}
	return into[:n]
}

// setScales works the scales out of the differences that the frequency has left.
// What is known, with weight keep, is only refined as long as it agrees with them;
// and when the last dozen speaks of another jitter, those before it are dropped.
func (f *Filter) setScales(keep float64, rounds int) {
	p := &f.path
	var j [2]float64
	var rest [Depth]float32
	changed := false
	for i := range j {
		now := 0.0
		if n := f.window[i]; n > changeCount+changeCount/2 {
			now = scaleOf(f.latest(i, changeCount, &rest), keep*p.scale[i], rounds+scaleRefine)
			if now > changeFactor*p.scale[i] || p.scale[i] > changeFactor*max(now, scaleFloor) {
				f.window[i], changed = changeCount, keep > 0
			}
		}
		j[i] = scaleOf(f.latest(i, f.window[i], &rest), keep*p.scale[i], rounds)
		if now == 0 {
			now = j[i]
		}
		p.recent[i] = max(now, scaleFloor)
	}
	p.differences = min(f.window[0], f.window[1])
	least := max(scaleShrink/float64(p.differences*p.differences)*max(j[0], j[1]), scaleFloor)
	for i := range j {
		next := clamp(j[i], least, 1e3)
		if was := p.scale[i]; keep > 0 && !changed && next < scaleAgrees*was && was < scaleAgrees*next {
			next = was + (next-was)/scaleSlow
		}
		p.scale[i] = next
	}
}

// lean tells how far jitter is one-sided: r = ln(Jf/Jb), and how much of it is to
// be believed, 0 to 1. Nothing is below a ratio of e, or of what chance makes of
// so few differences.
func (p *Path) lean() (r, belief float64) {
	if p.differences < fewest {
		return 0, 0
	}
	r = math.Log(p.scale[0] / p.scale[1])
	least := max(tiltStart, ratioSigmas*ratioSpread/math.Sqrt(float64(p.differences)))
	if !(math.Abs(r) > least) {
		return r, 0
	}
	return r, 1 - least*least/(r*r)
}

// jitter returns the mean of both directions' scales, seconds.
func (p *Path) jitter() float64 { return (p.scale[0] + p.scale[1]) / 2 }
