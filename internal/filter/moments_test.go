package filter

import (
	"math"
	"testing"
)

// integrate returns ln Z, mean and variance of likelihood × N(m, p) by brute
// force: the trapezoidal rule over the likelihood's support.
func integrate(m, p float64, lo, hi float64, ln func(x float64) float64) (lnZ, mean, variance float64) {
	const n = 400001
	dx := (hi - lo) / (n - 1)
	at := func(i int) float64 { return lo + float64(i)*dx }
	f := func(x float64) float64 { return ln(x) - (x-m)*(x-m)/(2*p) - 0.5*math.Log(2*math.Pi*p) }
	top := math.Inf(-1)
	for i := range n {
		top = math.Max(top, f(at(i)))
	}
	var z, z1, z2 float64
	ref := (lo + hi) / 2
	for i := range n {
		w := math.Exp(f(at(i)) - top)
		if i == 0 || i == n-1 {
			w /= 2
		}
		x := at(i) - ref
		z, z1, z2 = z+w, z1+w*x, z2+w*x*x
	}
	mean = z1 / z
	return top + math.Log(z*dx), ref + mean, z2/z - mean*mean
}

func near(got, want, tolerance float64) bool {
	return math.Abs(got-want) <= tolerance*math.Max(1e-12, math.Abs(want))
}

func TestMillsRatioAgreesWithItsAsymptotesAndItself(t *testing.T) {
	for x := 0.0; x < millsSwitch; x += 0.03125 {
		want := math.Sqrt(math.Pi/2) * math.Exp(x*x/2) * math.Erfc(x/math.Sqrt2)
		if got := mills(x); !near(got, want, 1e-12) {
			t.Errorf("mills(%v): got %v, want %v", x, got, want)
		}
	}
	for x := 0.01; x < 30; x += 0.37 { // the differential equation M' = xM − 1
		d := 1e-4
		got, want := (mills(x+d)-mills(x-d))/(2*d), x*mills(x)-1
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("mills'(%v): got %v, want %v", x, got, want)
		}
	}
	below, above := mills(millsSwitch-1e-9), mills(millsSwitch+1e-9)
	if !near(below, above, 1e-8) {
		t.Errorf("at the switch: got %v below and %v above", below, above)
	}
	if got := mills(1e9); !near(got, 1e-9, 1e-9) {
		t.Errorf("mills(1e9): got %v, want 1e-9", got)
	}
}

func TestIntervalMomentsEqualNumericalIntegration(t *testing.T) {
	for _, c := range []struct {
		name                string
		m, p, lo, hi, slope float64
	}{
		{"prior inside a wide interval", 0.2, 1, -3, 2, 0},
		{"prior inside an interval of its own width", 0, 1, -0.6, 0.9, 0},
		{"interval above the prior", 0, 1, 1.5, 4, 0},
		{"interval below the prior", 0, 1, -7, -2, 0},
		{"interval far above the prior", 0, 1, 8, 12, 0},
		{"tilted up", 0, 1, -2, 3, 1.3},
		{"tilted down beyond the edge", 0, 1, -1, 3, -4},
		{"tilted up beyond the edge", 0.5, 2, -1, 1.2, 6},
		{"tilted in microseconds", 3e-6, 25e-12, -10e-6, 40e-6, 1e5},
		{"steeply tilted and narrow", 0, 1, -0.1, 0.12, 30},
	} {
		s := math.Sqrt(c.p)
		got := interval(c.lo-c.m, c.hi-c.m, s, c.slope)
		h, mid := (c.hi-c.lo)/2, (c.lo+c.hi)/2
		norm := -math.Log(2*h) - lnSinhc(math.Abs(c.slope)*h)
		lnZ, mean, variance := integrate(c.m, c.p, c.lo, c.hi, func(x float64) float64 { return norm + c.slope*(x-mid) })
		if !near(got.lnZ, lnZ, 1e-4) && math.Abs(got.lnZ-lnZ) > 1e-4 {
			t.Errorf("%s: ln Z: got %v, want %v", c.name, got.lnZ, lnZ)
		}
		if m := c.m + c.p*got.g; math.Abs(m-mean) > 1e-5*s {
			t.Errorf("%s: mean: got %v, want %v", c.name, m, mean)
		}
		if v := c.p + c.p*c.p*got.k; !near(v, variance, 1e-3) {
			t.Errorf("%s: variance: got %v, want %v", c.name, v, variance)
		}
	}
}

func TestNarrowIntervalIsAGaussianOfItsVariance(t *testing.T) {
	const h = 0.2
	got := interval(0.5-h, 0.5+h, 1, 0)
	lnZ, mean, variance := integrate(0, 1, 0.5-h, 0.5+h, func(float64) float64 { return -math.Log(2 * h) })
	if math.Abs(got.lnZ-lnZ) > 1e-3 || math.Abs(got.g-mean) > 2e-3 || math.Abs(1+got.k-variance) > 2e-3 {
		t.Errorf("got ln Z %v mean %v variance %v, want %v %v %v", got.lnZ, got.g, 1+got.k, lnZ, mean, variance)
	}
}

func TestIntervalMirrors(t *testing.T) {
	for _, lambda := range []float64{0, 2, -0.7} {
		a, b := interval(0.4, 3, 1, lambda), interval(-3, -0.4, 1, -lambda)
		if !near(a.lnZ, b.lnZ, 1e-12) || !near(a.g, -b.g, 1e-12) || !near(a.k, b.k, 1e-12) {
			t.Errorf("λ=%v: got %+v, mirrored %+v", lambda, a, b)
		}
	}
}

func TestMixtureMomentsEqualNumericalIntegration(t *testing.T) {
	const share = 0.8
	tilted, flat := interval(-1, 2, 1, 1.5), interval(-1, 2, 1, 0)
	got := mix(tilted, flat, share)
	norm := -math.Log(3.0) - lnSinhc(1.5*1.5)
	lnZ, mean, variance := integrate(0, 1, -1, 2, func(x float64) float64 {
		return math.Log(share*math.Exp(norm+1.5*(x-0.5)) + (1-share)/3)
	})
	if !near(got.lnZ, lnZ, 1e-5) || math.Abs(got.g-mean) > 1e-5 || math.Abs(1+got.k-variance) > 1e-5 {
		t.Errorf("got ln Z %v mean %v variance %v, want %v %v %v", got.lnZ, got.g, 1+got.k, lnZ, mean, variance)
	}
}

func TestOutlierMixtureEqualsNumericalIntegration(t *testing.T) {
	const eps, density = 0.1, 0.02
	in := interval(1, 3, 1, 0)
	got, p := in.orNothing(math.Log(1-eps), math.Log(eps*density))
	lnZ, mean, variance := integrate(0, 1, -12, 12, func(x float64) float64 {
		l := eps * density
		if x >= 1 && x <= 3 {
			l += (1 - eps) / 2
		}
		return math.Log(l)
	})
	if !near(got.lnZ, lnZ, 1e-3) || math.Abs(got.g-mean) > 1e-3 || math.Abs(1+got.k-variance) > 1e-3 {
		t.Errorf("got ln Z %v mean %v variance %v, want %v %v %v", got.lnZ, got.g, 1+got.k, lnZ, mean, variance)
	}
	if want := 0.9 * math.Exp(in.lnZ) / math.Exp(lnZ); !near(p, want, 1e-3) {
		t.Errorf("probability of no outlier: got %v, want %v", p, want)
	}
}

func TestMomentsAreDerivativesOfTheEvidence(t *testing.T) {
	for _, c := range []struct{ lo, hi, lambda float64 }{{-1, 2, 0}, {0.5, 4, 0}, {3, 9, 0}, {-5, -3, 0.4}, {-1, 1, 5}, {2, 8, -2}} {
		const d = 1e-4
		z := func(m float64) float64 { return interval(c.lo-m, c.hi-m, 1, c.lambda).lnZ }
		got := interval(c.lo, c.hi, 1, c.lambda)
		g, k := (z(d)-z(-d))/(2*d), (z(d)-2*z(0)+z(-d))/(d*d)
		if math.Abs(got.g-g) > 1e-6 || math.Abs(got.k-k) > 1e-5 {
			t.Errorf("%+v: got g %v k %v, want %v %v", c, got.g, got.k, g, k)
		}
	}
}

func FuzzIntervalIsFinite(f *testing.F) {
	f.Add(-1.0, 2.0, 1.0, 0.0)
	f.Add(1e6, 1e-9, 1e-12, 1e9)
	f.Add(-1e9, 1e-3, 1e-9, -1e9)
	f.Add(1e-15, 0.0, 1e-15, 0.0)
	f.Fuzz(func(t *testing.T, lo, width, s, lambda float64) {
		if !(math.Abs(lo) < 1e10) || !(width >= 0 && width < 1e10) || !(s > 1e-12 && s < 1e9) || !(math.Abs(lambda) < 1e10) {
			t.Skip()
		}
		z := interval(lo, lo+width, s, lambda)
		if math.IsNaN(z.lnZ) || math.IsNaN(z.g) || math.IsNaN(z.k) || math.IsInf(z.g, 0) || math.IsInf(z.k, 0) {
			t.Errorf("interval(%v, %v, %v, %v): got %+v", lo, lo+width, s, lambda, z)
		}
	})
}
