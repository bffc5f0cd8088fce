package filter

import "math"

// The formulas of this file all answer one question: a Gaussian belief about
// the offset, N(m, P), meets a likelihood; what are mean and variance of the
// product? For any likelihood L with Z(m) = ∫ L(θ) N(θ; m, P) dθ the answer
// needs only the first two derivatives of ln Z to m (Tweedie, or Gaussian
// filtering in general):
//
//	mean' = m + P g          g = d ln Z / dm
//	var'  = P + P² k         k = d² ln Z / dm²
//
// A Kalman filter is the case L Gaussian: g = innovation/S, k = −1/S.

const (
	lnSqrt2Pi   = 0.9189385332046727 // ln √(2π)
	invSqrt2Pi  = 0.3989422804014327 // 1/√(2π)
	logFloor    = -1e9               // stands for the logarithm of nothing
	narrow      = 0.3                // below 0.3 sd an interval acts as a Gaussian of the same variance (error < 0.1 %)
	millsSwitch = 8.0                // from here on the continued fraction converges in ten terms
	noTail      = 8.5                // what lies beyond is less than what rounding takes from one
)

// moments is what one likelihood says about one Gaussian belief: the logarithm
// of its evidence and the two derivatives of that by the belief's mean.
type moments struct {
	lnZ float64
	g   float64 // per second
	k   float64 // per second squared
}

// mills returns Mills' ratio (1−Φ(x))/φ(x) for x ≥ 0: the tail of the normal
// distribution without its tiny factor, so that tails can be subtracted. Up to millsSwitch
// it is a ratio of polynomials, fitted to be nowhere off by more than 1.1e-13 of its value:
// each member of the bank asks twice in each exchange, and erfc takes two exponentials.
func mills(x float64) float64 {
	if x < millsSwitch {
		y := x * x
		above := 1.2533141373156179774 + y*(0.74099856475417902172+y*(0.048976328866211119977+y*0.00033297319993988734236)) +
			x*(1.3691813435290304748+y*(0.24084015764353874104+y*0.0059019338520227034598))
		below := 1 + y*(1.599499001711833965+y*(0.2467528843764177595+y*0.0059019551358594398375)) +
			x*(1.8903332157573624865+y*(0.78917311705672320919+y*(0.049308697092386555483+y*0.00033297284767607636479)))
		return above / below
	}
	f := x // Laplace's continued fraction 1/(x+1/(x+2/(x+3/(x+…
	for i := 10; i > 0; i-- {
		f = x + float64(i)/f
	}
	return 1 / f
}

// lnSinhc returns ln(sinh(x)/x) for x ≥ 0.
func lnSinhc(x float64) float64 {
	if x < 0.05 {
		return x * x / 6
	}
	return x + math.Log(-math.Expm1(-2*x)/(2*x))
}

// gauss is the moments of a Gaussian likelihood: the belief's mean lies at
// distance d below its centre, v is the sum of both variances (11.3 in RFC 5905
// has no such step; it is the Kalman update).
func gauss(d, v float64) moments {
	return moments{lnZ: -d*d/(2*v) - math.Log(v)/2 - lnSqrt2Pi, g: d / v, k: -1 / v}
}

// interval is the moments of a likelihood that is zero outside [lo, hi] and
// proportional to exp(λθ) inside, with its edges blurred by the same Gaussian
// as the belief: s² is the belief's variance plus that of the edges. lo and hi
// are relative to the belief's mean, in seconds; hi ≥ lo; s > 0.
//
// With A = (lo−λs²)/s and C = (hi−λs²)/s and D = Φ(C)−Φ(A):
//
//	ln Z = ln D − ln 2h − λ(lo+hi)/2 + λ²s²/2 − ln(sinh(λh)/(λh))
//	g    = λ + (φ(A)−φ(C))/(sD)
//	k    = −(g−λ)² + (Aφ(A)−Cφ(C))/(s²D)
//
// which for λ = 0 are the moments of the truncated normal distribution.
func interval(lo, hi, s, lambda float64) moments {
	h, c := (hi-lo)/2, (lo+hi)/2
	if h < narrow*s && math.Abs(lambda)*h < narrow {
		// The second condition matters: a steep tilt moves the mean by s²λ,
		// which no narrow Gaussian does.
		return gauss(c+lambda*h*h/3, s*s+h*h/3)
	}
	a, b := lo/s-lambda*s, hi/s-lambda*s
	switch {
	case a > 0:
		return upperTail(lo, a, b, h, c, s, lambda)
	case b < 0:
		m := upperTail(-hi, -b, -a, h, -c, s, -lambda)
		m.g = -m.g
		return m
	}
	// The interval holds the (tilted) mean: both tails are subtracted from one.
	pa, pb := density(a), density(b)
	d := 1 - pa*mills(-a) - pb*mills(b)
	gs := (pa - pb) / (s * d)
	ln := math.Log(d / (2 * h))
	if lambda != 0 {
		ln += lambda*lambda*s*s/2 - lambda*c - lnSinhc(math.Abs(lambda)*h)
	}
	return moments{lnZ: ln, g: lambda + gs, k: -gs*gs + (a*pa-b*pb)/(s*s*d)}
}

// density is that of the standard normal distribution, 0 from noTail on.
func density(x float64) float64 {
	if math.Abs(x) > noTail {
		return 0
	}
	return invSqrt2Pi * math.Exp(-x*x/2)
}

// upperTail is interval for the case that the whole interval lies above the
// (tilted) mean. Φ(C)−Φ(A) = φ(A)(M(A) − e·M(C)) with e = φ(C)/φ(A), so that no
// two tiny numbers are subtracted, and −A²/2 + λ²s²/2 is combined on paper.
func upperTail(lo, a, b, h, c, s, lambda float64) moments {
	e := math.Exp(-(2 * h / s) * (c/s - lambda*s))
	d := mills(a) - e*mills(b)
	if !(d > 0) { // a is beyond 1e15: nothing is left of the belief there
		return moments{lnZ: logFloor, g: a / s, k: -1 / (s * s)}
	}
	gs := (1 - e) / (s * d)
	t := lo / s
	ln := -t*t/2 - lambda*h - lnSinhc(math.Abs(lambda)*h) + math.Log(d) - lnSqrt2Pi - math.Log(2*h)
	k := -gs*gs + (a-b*e)/(s*s*d)
	return moments{lnZ: math.Max(ln, logFloor), g: lambda + gs, k: k}
}

// bell is the moments of a Gaussian likelihood of variance v around d that ends
// at the bounds lo and hi, which are blurred by edge; d, lo and hi are relative to
// the belief's mean, whose variance is p. First the Gaussian, then the interval
// meets what that leaves: N(m', P') with m' = m + κ'd; by the chain rule, with
// κ = dm'/dm = V/(P+V),
//
//	g = g₁ + κ g₂      k = k₁ + κ² k₂
//
// lnInside is ln of the Gaussian's share inside of its own bounds.
func bell(d, v, lo, hi, p, edge, lnInside float64) moments {
	z := gauss(d, p+v)
	keep := v / (p + v)
	moved := (1 - keep) * d
	s := math.Sqrt(keep*p + edge*edge)
	if lo < moved-4*s && hi > moved+4*s || hi-lo < 1e-3*s {
		z.lnZ -= lnInside
		return z // no bound is near
	}
	in := interval(lo-moved, hi-moved, s, 0)
	return moments{
		lnZ: z.lnZ + math.Min(in.lnZ+math.Log(hi-lo), 0) - lnInside,
		g:   z.g + keep*in.g,
		k:   z.k + keep*keep*in.k,
	}
}

// mix combines two likelihoods, p of the first and 1−p of the second: the
// evidence is the weighted sum, g its weighted mean, and k gains the variance
// of g between the two.
func mix(x, y moments, p float64) moments {
	r := math.Exp(y.lnZ-x.lnZ) * (1 - p) / p // odds of the second
	if !(r < math.MaxFloat64) {
		return moments{y.lnZ + math.Log(1-p), y.g, y.k}
	}
	q := 1 / (1 + r)
	d := x.g - y.g
	return moments{
		lnZ: x.lnZ + math.Log(p) + math.Log1p(r),
		g:   q*x.g + (1-q)*y.g,
		k:   q*x.k + (1-q)*y.k + q*(1-q)*d*d,
	}
}

// orNothing combines a likelihood with that of an outlier, which is flat: its
// moments are zero. lnIn is ln of the likelihood's share, lnOut ln of the
// outliers' share and density. It also returns the probability of no outlier.
func (x moments) orNothing(lnIn, lnOut float64) (moments, float64) {
	l := x.lnZ + lnIn
	r := math.Exp(lnOut - l)
	if !(r < math.MaxFloat64) {
		return moments{lnZ: lnOut}, 0
	}
	q := 1 / (1 + r)
	return moments{lnZ: l + math.Log1p(r), g: q * x.g, k: q*x.k + q*(1-q)*x.g*x.g}, q
}
