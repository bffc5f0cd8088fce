package filter

import "math"

// Window is what one exchange says about the offset. With a = T2−T1 and
// b = T4−T3 (T1, T4 raw) and the one-way base delays of the path
//
//	base_b − b ≤ θ ≤ a − base_f
//
// because no packet is faster than its base. RFC 5905 §8 takes the middle of
// this interval as the offset and half its width into the dispersion; inside,
// symmetric exponential jitter makes every offset equally likely, so the
// interval itself is all that is known, and intersecting such intervals beats
// averaging their middles.
type Window struct {
	Lo, Hi  float64 // seconds, Lo ≤ Hi
	Edge    float64 // standard deviation of both edges: uncertainty of the base and of the timestamps
	Soft    float64 // blur of the edges for the soft kind
	Tilt    float64 // λ: likelihood exp(λθ) inside, for one-sided jitter; 0 when symmetric
	Bell    float64 // variance of Middle for the bell kind; 0: round trips are not bell-shaped
	Middle  float64 // where the bell kind expects the offset
	Scale   float64 // jitter of the path, for the outliers' density
	Outlier float64 // probability that the exchange means nothing; 0: certainly means something

	share, tilted, flat float64 // of the tilt in the likelihood; what the bank finds for it and against it
	lnOut, lnIn, lnBell float64 // ln of the outliers' evidence times their share; ln of the others' share
}

// prepare works out what all members need alike. tilt is the probability that the tilt
// holds at all.
func (w *Window) prepare(tilt float64) {
	w.share, w.tilted, w.flat = (1-flatShare)*tilt, 0, 0
	if w.Outlier > 0 {
		w.lnOut = math.Log(w.Outlier / (w.Hi - w.Lo + 20*w.Scale + 1e-6))
		w.lnIn = math.Log1p(-w.Outlier)
	}
	w.lnBell = 0
	if w.Bell > 0 && w.Hi > w.Lo {
		blur := w.bellEdge()
		s := math.Sqrt(w.Bell + w.Edge*w.Edge + blur*blur)
		if z := interval(w.Lo-w.Middle, w.Hi-w.Middle, s, 0); w.half() > 1e-3*s {
			w.lnBell = math.Min(z.lnZ+math.Log(w.Hi-w.Lo), 0)
		}
	}
}

// flatShare is how much of a tilted likelihood stays flat in any exchange: tilt is a belief
// about jitter, the interval a fact. Without it, congestion that sets in makes
// conflicts out of nothing.
const flatShare = 0.2

// leastSay is the weight from which a member has a say in whether the tilt holds.
const leastSay = 1e-3

// against returns the moments of the window for one member, and the
// probability that it was no outlier.
func (w *Window) against(m *member, kind int) (moments, float64) {
	lo, hi := w.Lo-m.theta, w.Hi-m.theta
	v := m.p00 + w.Edge*w.Edge
	var z moments
	if kind == kindBell && w.Bell > 0 {
		z = bell(w.Middle-m.theta, w.Bell+w.Edge*w.Edge, lo, hi, m.p00, w.bellEdge(), w.lnBell)
	} else {
		switch kind {
		case kindSoft:
			v += w.Soft * w.Soft
		case kindBell:
			v += 9 * w.Soft * w.Soft
		}
		s := math.Sqrt(v)
		z = interval(lo, hi, s, 0)
		if w.Tilt != 0 {
			t := interval(lo, hi, s, w.Tilt)
			if m.weight > leastSay {
				w.flat += m.weight
				w.tilted += m.weight * math.Exp(math.Min(t.lnZ-z.lnZ, 50))
			}
			z = mix(t, z, w.share)
		}
	}
	if w.Outlier <= 0 {
		return z, 1
	}
	return z.orNothing(w.lnIn, w.lnOut)
}

// bellEdge is the blur of a bell's bounds: jitter that is bell-shaped seldom comes
// near the base, so that nobody knows where that is.
func (w *Window) bellEdge() float64 { return math.Hypot(w.Edge, 2*math.Sqrt(w.Bell)) }

// miss returns how far the offset lies outside the window.
func (w *Window) miss(offset float64) float64 {
	return max(0, w.Lo-offset, offset-w.Hi)
}

func (w *Window) half() float64 { return (w.Hi - w.Lo) / 2 }

// Shifted returns the window for a clock whose offset is less by d.
func (w Window) Shifted(d float64) Window {
	w.Lo -= d
	w.Hi -= d
	w.Middle -= d
	return w
}
