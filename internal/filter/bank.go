package filter

import "math"

// Wanders of the bank: what is not known of an oscillator is how fast its
// frequency walks. 1e-10 is a good oven, 1e-6 a crystal in a draught; a clock
// outside the range is served by the nearest. Steps of √10 cost 1 % of RMS at
// most (5 values instead of 9: 1 % more).
const (
	wanders = 9
	kinds   = 3
	members = wanders * kinds
)

// A member takes a measurement as one of three things.
const (
	kindHard = iota // interval with sharp edges (up to the base's uncertainty)
	kindSoft        // interval with edges blurred by a fifth of the jitter
	kindBell        // Gaussian, while the round trips look bell-shaped
)

const (
	forget     = 0.995 // memory of the weights, 200 exchanges: 0.99 costs 1 %, 0.999 nothing
	weightLow  = -8.0  // a member this far behind adopts the mixture and waits for its hour
	startSD    = 1e-4  // unknown frequency at start: 100 ppm
	maxStartSD = 1e-3
	minVarP00  = 1e-24 // (1 ps)²: below any timestamp's resolution
	minVarP11  = 1e-30
	maxVarP00  = 1e18
	maxVarP11  = 1e-2 // a frequency error of 10 %, the most a kernel can correct
	// A wander between two of the bank's is as likely any of half a step: without
	// measurements, time brings the upper end of that out.
	wanderUnsure = 1.33
	tiltEnds     = 0.01 // probability that one-sided jitter ends between two exchanges: 0.003 to 0.02 are within 3 %
	tiltBegins   = 0.05 // and that it holds again
	maxAge       = 1e7  // seconds: a prediction over more is as good as none
)

var wanderOf = func() (w [wanders]float64) {
	for i := range w {
		w[i] = math.Pow(10, -10+float64(i)/2)
	}
	return w
}()

// member is one small Kalman-like filter: a Gaussian over offset and
// frequency of the raw oscillator.
type member struct {
	theta, y      float64 // s; s/s
	p00, p01, p11 float64 // covariance
	lw, weight    float64 // ln of its weight, best = 0; and the weight itself
}

// Bank is the set of filters over wander and kind of measurement, weighted by
// how well each predicted what came (RFC 5905 has a fixed PHI of 15 ppm and
// NSTAGE 8 samples in their place; §10).
type Bank struct {
	at      int64 // raw nanoseconds
	started bool
	known   bool    // mixture is that of the members
	tilt    float64 // probability that jitter is one-sided as its scales say
	mixture Estimate
	m       [members]member
}

// Estimate is a Gaussian belief about the oscillator at one raw instant.
type Estimate struct {
	At            int64   // raw ns
	Offset        float64 // s, reference − raw − origin
	Freq          float64 // s/s
	P00, P01, P11 float64
	Wander        float64 // s/s per √s, typical
}

// start begins with a first window: its middle is the offset, the
// frequency freq ± freqSD.
func (b *Bank) start(at int64, w Window, freq, freqSD float64) {
	b.at, b.started, b.known, b.tilt = at, true, false, 1-tiltEnds
	width := w.Hi - w.Lo + 2*w.Edge
	for i := range b.m {
		wander := wanderOf[i/kinds]
		lw := 0.0
		if wander > 3e-8 { // no quartz at room temperature is that bad: a mild prior
			lw = -2 * math.Log(wander/3e-8)
		}
		b.m[i] = member{
			theta: (w.Lo + w.Hi) / 2, y: freq, lw: lw, weight: math.Exp(lw),
			p00: math.Max(width*width, minVarP00), p11: clamp(freqSD*freqSD, minVarP11, maxVarP11),
		}
	}
}

// predict moves every member to the raw instant at: offset follows frequency,
// frequency walks with the member's wander w (white noise w² per second):
//
//	θ += y dt;  P00 += 2dt P01 + dt² P11 + w²dt³/3;  P01 += dt P11 + w²dt²/2;  P11 += w²dt
//
// Going back in time (an exchange that was answered late) changes nothing.
func (b *Bank) predict(at int64) {
	dt := math.Min(seconds(at-b.at), maxAge)
	if dt <= 0 {
		return
	}
	b.at, b.known = at, false
	for i := 0; i < wanders; i++ {
		q := wanderOf[i] * wanderOf[i] * dt
		q1, q0 := q*dt/2, q*dt*dt/3
		for j := i * kinds; j < (i+1)*kinds; j++ {
			m := &b.m[j]
			m.theta += m.y * dt
			m.p00 = min(m.p00+dt*(2*m.p01+dt*m.p11)+q0, maxVarP00)
			m.p01 += dt*m.p11 + q1
			m.p11 = min(m.p11+q, maxVarP11)
			m.bound()
		}
	}
}

// bound keeps the covariance positive definite: P11 > P01²/P00.
func (m *member) bound() {
	m.p00 = clamp(m.p00, minVarP00, maxVarP00)
	m.p11 = clamp(m.p11, minVarP11, maxVarP11)
	if lim := math.Sqrt(m.p00 * m.p11 * (1 - 1e-9)); math.Abs(m.p01) > lim {
		m.p01 = math.Copysign(lim, m.p01)
	}
}

// update takes one measurement into every member and weighs them anew. It
// returns the mixture's probability that the measurement was no outlier.
func (b *Bank) update(w *Window) float64 {
	fit, norm, best := 0.0, 0.0, math.Inf(-1)
	w.prepare(b.tilt)
	for i := range b.m {
		m := &b.m[i]
		z, p := w.against(m, i%kinds)
		fit += m.weight * p
		norm += m.weight
		m.apply(z)
		m.lw = forget*m.lw + z.lnZ
		best = max(best, m.lw)
	}
	b.known = false
	for i := range b.m {
		m := &b.m[i]
		m.lw -= best
		m.weight = math.Exp(m.lw)
	}
	b.adopt()
	b.believe(w)
	return fit / norm
}

// believe follows whether jitter is still one-sided as its scales say. Queues begin, end
// and turn, and those scales are of the last hour: the direction that was quiet is then
// late in one exchange after the other, which to each of them alone looks like an
// oscillator that runs away. So it is one question for all of them: either the tilt
// explains what came, by what the bank held before, or it has ended some time ago and the
// interval is all there is.
func (b *Bank) believe(w *Window) {
	if w.flat == 0 { // nobody was asked
		b.tilt += tiltBegins * (1 - b.tilt)
		return
	}
	q := b.tilt * w.tilted / (b.tilt*w.tilted + (1-b.tilt)*w.flat)
	b.tilt = q*(1-tiltEnds) + (1-q)*tiltBegins
}

// apply moves a member by the moments of a measurement of its offset.
func (m *member) apply(z moments) {
	k := clamp(z.k, -(1-1e-6)/m.p00, 0)
	m.theta += m.p00 * z.g
	m.y += m.p01 * z.g
	p00, p01 := m.p00, m.p01
	m.p00 += p00 * p00 * k
	m.p01 += p00 * p01 * k
	m.p11 += p01 * p01 * k
	m.bound()
}

// adopt gives members that have fallen far behind the mixture's state, so
// that they are ready when conditions change.
func (b *Bank) adopt() {
	var e Estimate
	for i := range b.m {
		m := &b.m[i]
		if m.lw > weightLow {
			continue
		}
		if e.P00 == 0 {
			e = b.Estimate()
		}
		*m = member{theta: e.Offset, y: e.Freq, p00: e.P00, p01: e.P01, p11: e.P11, lw: weightLow, weight: weightOfLow}
		m.bound()
		b.known = false
	}
}

var weightOfLow = math.Exp(weightLow)

// Estimate returns the mixture's mean and covariance, the spread between the
// members' means included.
func (b *Bank) Estimate() Estimate {
	if !b.known {
		b.mixture, b.known = b.mix(), true
	}
	return b.mixture
}

func (b *Bank) mix() Estimate {
	var sum, lnW float64
	e := Estimate{At: b.at}
	base := b.m[0].theta // differences keep precision when the offset is large
	for i := range b.m {
		m := &b.m[i]
		sum += m.weight
		e.Offset += m.weight * (m.theta - base)
		e.Freq += m.weight * m.y
		lnW += m.weight * float64(i/kinds)
	}
	e.Offset, e.Freq = base+e.Offset/sum, e.Freq/sum
	e.Wander = math.Exp(math.Ln10 * (-10 + lnW/sum/2)) // geometric mean, as wanderOf is laid out
	for i := range b.m {
		m := &b.m[i]
		g, dt, dy := m.weight/sum, m.theta-e.Offset, m.y-e.Freq
		e.P00 += g * (m.p00 + dt*dt)
		e.P01 += g * (m.p01 + dt*dy)
		e.P11 += g * (m.p11 + dy*dy)
	}
	return e
}

// loosen is what a jump of the clock or of a server demands: all members take
// the mixture's mean, the offset may be off by d and the frequency by dy.
func (b *Bank) loosen(d, dy float64) {
	e := b.Estimate()
	b.known = false
	for i := range b.m {
		m := &b.m[i]
		m.theta, m.y = e.Offset, e.Freq
		m.p00 += d * d
		m.p11 += dy * dy
		m.lw = max(m.lw, -4)
		m.weight = math.Exp(m.lw)
		m.bound()
	}
}

// shift moves the origin of offsets: every offset becomes smaller by d.
func (b *Bank) shift(d float64) {
	b.known = false
	for i := range b.m {
		b.m[i].theta -= d
	}
}

// At extrapolates the belief to a raw instant without a measurement.
func (e Estimate) Extrapolate(at int64) Estimate {
	dt := clamp(seconds(at-e.At), -maxAge, maxAge)
	w := wanderUnsure * e.Wander
	r, q := e, w*w*math.Abs(dt)
	r.At = at
	r.Offset += e.Freq * dt
	r.P00 += dt*(2*e.P01+dt*e.P11) + q*dt*dt/3
	r.P01 += dt*e.P11 + q*dt/2
	r.P11 += q
	if !(r.P00 > minVarP00) {
		r.P00 = minVarP00
	}
	return r
}

func seconds(ns int64) float64 { return float64(ns) * 1e-9 }

func clamp(x, lo, hi float64) float64 {
	if !(x > lo) { // also catches NaN
		return lo
	}
	if x > hi {
		return hi
	}
	return x
}

// forward brings a window of age seconds ago to the state's instant.
func (b *Bank) forward(w Window, age float64) Window {
	e := b.Estimate()
	age = min(age, maxAge)
	blur := math.Sqrt(e.P11)*age + e.Wander*math.Sqrt(age*age*age/3)
	w.Edge = math.Hypot(w.Edge, blur)
	return w.Shifted(-e.Freq * age)
}
