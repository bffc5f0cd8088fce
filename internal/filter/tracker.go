package filter

import "math"

// Tracker is a bank together with the protection that a single bank lacks:
// against jumps of our oscillator or of a server, which no Gaussian foresees.
// One exchange outside its window is an outlier; several running are a jump.
type Tracker struct {
	bank      Bank
	before    Bank // state before the last update, predicted to its instant
	accepted  int64
	updates   int
	conflicts int
	gain      float64 // mean of 1 − P00after/P00before: how much an update tells
}

const (
	jumpMinSpan  = 8.0  // s: two sources in disagreement shall not look like a frequency of 1000 ppm
	jumpMaxFreq  = 1e-4 // the most a jump may add to the frequency's sd
	jumpRepeat   = 4    // recover again at most every fourth conflict
	gainMemory   = 16   // updates
	fitThreshold = 0.5
)

// Outcome tells what an update did.
type Outcome struct {
	Fit      float64 // probability that the exchange was no outlier
	Conflict bool    // it lay outside of what the state allows
	Jumped   bool    // conflicts went on: the state was loosened to follow
}

// Started says whether there is any state.
func (t *Tracker) Started() bool { return t.bank.started }

// Reset forgets everything.
func (t *Tracker) Reset() { *t = Tracker{} }

// Updates returns the number of windows taken since the start.
func (t *Tracker) Updates() int { return t.updates }

// Gain returns the mean share of variance that an update removes, 0 to 1.
func (t *Tracker) Gain() float64 { return t.gain }

// Estimate returns the belief as of the last update.
func (t *Tracker) Estimate() Estimate { return t.bank.Estimate() }

// Start begins with a first window, the frequency known as freq ± freqSD (s/s).
func (t *Tracker) Start(at int64, w Window, freq, freqSD float64) {
	t.Reset()
	t.bank.start(at, w, freq, freqSD)
	t.accepted = at
	t.updates = 1
}

// Update takes a window of the raw instant at. patience is how many
// conflicting exchanges in a row make a jump: 2 for one source.
//
// A window may be older than the state (an interleaved reply tells of the
// exchange before; another source was quicker). It is then brought forward along
// the estimated frequency, its edges blurred by what that is uncertain.
func (t *Tracker) Update(at int64, w *Window, patience int) Outcome {
	if at < t.bank.at {
		late := t.bank.forward(*w, seconds(t.bank.at-at))
		w, at = &late, t.bank.at
	}
	t.bank.predict(at)
	t.before = t.bank
	t.updates++
	fit := t.bank.update(w)
	if fit >= fitThreshold {
		t.settle(at)
		return Outcome{Fit: fit}
	}
	t.conflicts++
	if t.conflicts < patience || (t.conflicts-patience)%jumpRepeat != 0 {
		return Outcome{Fit: fit, Conflict: true}
	}
	t.jump(at, w)
	return Outcome{Fit: fit, Conflict: true, Jumped: true}
}

// settle notes an accepted exchange.
func (t *Tracker) settle(at int64) {
	t.conflicts = 0
	t.accepted = at
	g := 1 - t.bank.m[t.bank.bestMember()].p00/t.before.m[t.bank.bestMember()].p00
	t.gain += (clamp(g, 0, 1) - t.gain) / math.Min(float64(t.updates), gainMemory)
}

// jump goes back before the update and loosens the state by what the conflict
// shows: an offset jump by its distance, or a frequency step that made this
// distance since the last exchange that fitted.
func (t *Tracker) jump(at int64, w *Window) {
	t.bank = t.before
	d := w.miss(t.bank.Estimate().Offset) + w.half() + w.Edge
	dt := math.Max(jumpMinSpan, seconds(at-t.accepted))
	t.bank.loosen(d, math.Min(d/dt, jumpMaxFreq))
	sure := *w
	sure.Outlier = 0
	t.bank.update(&sure)
}

// Shift moves the origin of offsets by d seconds.
func (t *Tracker) Shift(d float64) {
	t.bank.shift(d)
	t.before.shift(d)
}

func (b *Bank) bestMember() int {
	best := 0
	for i := range b.m {
		if b.m[i].lw > b.m[best].lw {
			best = i
		}
	}
	return best
}
