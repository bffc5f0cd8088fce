// Package filter turns the measurements of one source into what they say about
// the clock (the clock filter algorithm of RFC 5905 §10, in its place).
//
// RFC 5905 keeps the sample of lowest delay out of eight and throws the rest
// away. Here every exchange is used for what it proves: an interval for the
// offset, as wide as the packet's delay exceeds the path's least delay. A bank
// of two-state Gaussian filters (offset and frequency of the raw oscillator)
// follows these intervals by exact moment matching; what is not known of
// oscillator and network is what the members of the bank differ in, and the
// evidence weighs them. Everything lives on the raw oscillator's scale, so no
// correction of the clock ever touches the state.
package filter

import "math"

// Kind says which of an exchange's times mean something.
type Kind uint8

// The kinds of exchanges.
const (
	TwoWay    Kind = iota // both directions
	OneWay                // broadcast: only Backward
	Reference             // Forward is the offset itself, Error its standard deviation
)

// Exchange is one measurement on the raw scale. Times are relative to the
// tracker's origin.
type Exchange struct {
	At       int64   // raw ns, the middle of T1 and T4
	Forward  float64 // T2 − T1, seconds
	Backward float64 // T4 − T3, seconds
	Delay    float64 // OneWay: calibrated delay of the broadcasts, seconds
	Span     float32 // T4 − T1, seconds
	Error    float32 // OneWay: uncertainty of Delay; Reference: of the offset; seconds
	Ticks    float32 // TwoWay, OneWay: how far the timestamps may be off for ticking coarsely, seconds
	Kind     Kind
}

const (
	// Depth of the register of last exchanges, for replays.
	Depth = 64
	// sureExchanges at the start are not doubted: nothing is known to doubt them by.
	sureExchanges = 6
	outlierShare  = 1e-3 // 1e-4 to 1e-2 are within 3 %
	outlierStart  = 1e-9
	// fineTicks are no coarser than timestamps are wrong by anyway: what the jitter shows.
	fineTicks = 20e-6
	// volleySize two-way exchanges say more of a path than a calibrated delay.
	volleySize = 4
)

// Filter is the state of one source: its register, its path, and routes that
// the path took before. The zero value is ready for use.
type Filter struct {
	reg    [Depth]Exchange
	count  int // exchanges ever
	path   Path
	routes routes
	good   Bank              // state at the last exchange of little excess
	window [2]int            // the newest so many of rest are of the jitter as it is
	taken  int               // differences put into rest; the newest is at taken-1
	rest   [2][Depth]float32 // s, differences between neighbours without the frequency's part
	slope  float64           // s/s, frequency by which the register's jitter was last measured
}

// Count returns how many exchanges were taken in.
func (f *Filter) Count() int { return f.count }

// Len returns how many exchanges the register holds.
func (f *Filter) Len() int { return min(f.count, Depth) }

// Last returns the i-th last exchange, 0 the newest; i < Len().
func (f *Filter) Last(i int) *Exchange {
	return &f.reg[(f.count-1-i)%Depth]
}

// Jitter returns the mean one-way jitter of the path in seconds.
func (f *Filter) Jitter() float64 { return f.path.jitter() }

// Base returns the least round trip of the path and its standard deviation, seconds.
func (f *Filter) Base() (rtt, sd float64) {
	b, e := f.path.base()
	return math.Max(b, 0), 2 * e
}

// MinDelay returns the least round trip measured within the last hours, seconds.
func (f *Filter) MinDelay() float64 {
	low, _ := f.path.least()
	return math.Max(low, 0)
}

// Slant returns by how much the offset may be wrong for the base's sake, as a
// standard deviation in seconds. If jitter is two-sided an error of the base
// widens or narrows windows around the same middle. If it is one-sided the offset
// is read at the edge that the quiet direction shows, and half of the base's error
// is in it, the same in every exchange: no number of them averages it out.
func (f *Filter) Slant() float64 {
	p := &f.path
	_, belief := p.lean()
	low, n := p.least()
	if belief == 0 || n == 0 {
		return 0
	}
	gap := math.Min(slantGap*p.low.spread(2), math.Max(low, 0))
	return belief / 2 * math.Max(slantShare*p.excess(n), gap)
}

// OneSided returns the jitter of the one direction that has it, in seconds, as far as
// the other is known to be quiet; 0 where both have it, or too little is known.
func (f *Filter) OneSided() float64 {
	_, belief := f.path.lean()
	return belief * math.Max(f.path.scale[0], f.path.scale[1])
}

// BellShaped reports whether round trips gather around their mean and seldom come near
// the base.
func (f *Filter) BellShaped() bool {
	base, _ := f.path.base()
	_, variance := f.path.bell(base)
	return variance > 0
}

// OffMiddle returns how far the offset is from the middle of what an exchange of
// the least round trip allows, whatever the base is, seconds. No error is larger
// than that and half of the least round trip together, but for the state's own.
func (f *Filter) OffMiddle() float64 {
	_, belief := f.path.lean()
	if belief == 0 {
		return 0
	}
	base, _ := f.path.base()
	low, _ := f.path.least()
	return belief * math.Max(low-base, 0) / 2
}

// RoundTrip returns an exchange's round trip in seconds.
func (x *Exchange) RoundTrip(freq float64) float64 {
	if x.Kind == OneWay {
		return x.Delay
	}
	return x.Forward + x.Backward + freq*float64(x.Span)
}

// oneWay returns the exchange's one-way times as they would be had both packets
// passed at its middle: in between our raw clock ran at the wrong frequency. In
// symmetric modes T1 to T4 is a poll interval, so that this matters.
func (x *Exchange) oneWay(freq float64) (forward, backward float64) {
	d := freq * float64(x.Span) / 2
	return x.Forward + d, x.Backward + d
}

// Window returns what the exchange says about the offset, by the present
// knowledge of the path. index is its place since the start (0: the first), e
// the state it will meet.
func (f *Filter) Window(x *Exchange, index int, e *Estimate) Window {
	var w Window
	switch x.Kind {
	case OneWay:
		w = f.oneWayWindow(x)
	case Reference:
		noise := math.Max(float64(x.Error), scaleFloor)
		w = Window{Lo: x.Forward, Hi: x.Forward, Edge: math.Max(noise, 1.2*f.path.scale[0]), Scale: noise + f.path.scale[0]}
	default:
		forward, backward := x.oneWay(e.Freq)
		w = f.path.window(forward, backward)
		if f.suspected() { // what its jitter is like nobody knows then
			w.Bell, w.Tilt = 0, 0
		}
		w.Edge = math.Hypot(w.Edge, math.Sqrt(e.P11)*float64(x.Span)/2)
	}
	if t := float64(x.Ticks); t > fineTicks { // every offset this far off explains the timestamps too
		w.Lo, w.Hi, w.Tilt, w.Bell = w.Lo-t, w.Hi+t, 0, 0
	}
	w.Outlier = outlierShare
	if index < sureExchanges {
		w.Outlier = outlierStart
	}
	return w
}

// oneWayWindow: a broadcast bounds the offset from one side only; from the
// other side the jitter's exponential does. The base comes from the volley in
// two-way mode if this source had one, else from the delay that the
// association calibrated.
func (f *Filter) oneWayWindow(x *Exchange) Window {
	base, edge := x.Delay, float64(x.Error)
	j := math.Max(f.path.scale[1], scaleFloor)
	if f.path.inLow >= volleySize {
		_, base, edge = f.path.bases()
	} else {
		j = math.Max(j, edge)
	}
	lo := base - x.Backward
	return Window{
		Lo: lo, Hi: lo + 12*j, Edge: math.Max(edge, scaleFloor), Soft: softShare * j, Tilt: -1 / j, Scale: j,
	}
}

// replayAt says at which counts the state is worked out anew from the register,
// because base and jitter were still poor when the exchanges came.
func replayAt(count int) bool {
	switch count {
	case 12, 16, 24, 32, 48, Depth:
		return true
	}
	return count > 1 && count <= 8
}

// Result tells what became of an exchange.
type Result struct {
	Outcome
	Used        bool
	Replayed    bool // the register was replayed: whoever keeps a combined state should do so too
	RouteChange bool
	Window      Window
}

// Start is the frequency known before the first exchange, with its standard
// deviation (s/s): from the drift file, or 0 ± 100 ppm.
type Start struct{ Freq, SD float64 }

// UnknownFrequency is the start without a drift file.
var UnknownFrequency = Start{0, startSD}

// Feed takes an exchange into the path and the tracker. combined is the state of
// the other sources together, if there are any: it decides which direction of a
// path changed. patience is for the tracker's Update.
func (f *Filter) Feed(x Exchange, t *Tracker, s Start, combined *Estimate, patience int) Result {
	e := f.predicted(&x, t, s)
	f.reg[f.count%Depth] = x
	f.count++
	var r Result
	low, _ := f.path.least()
	f.routes.lowered = false
	if x.Kind == TwoWay {
		r.RouteChange = f.observe(&x, t, &e, combined)
		if f.routes.shorter > 0 {
			r.Conflict = true
			return r // faster than light: not used until it is known why
		}
	}
	now, n := f.path.least()
	lower := x.Kind == TwoWay && n > 1 && now < low
	r.Used = true
	r.Replayed = !t.Started() || replayAt(f.count)
	if x.Kind == TwoWay && !f.suspected() {
		f.measureJitter(&e, r.Replayed)
	}
	switch {
	case r.Replayed:
		Replay(t, s, Part{Filter: f})
	case r.RouteChange:
		r.Replayed = true
		f.resume(t, patience)
	default:
		r.Window = f.Window(&x, f.count-1, &e)
		if f.routes.lowered || lower && f.baseTooHigh(&r.Window, &e) {
			r.Replayed = true
			f.rebuild(t, s, &e)
			break
		}
		r.Outcome = t.Update(x.At, &r.Window, patience)
	}
	f.learn(&x, t)
	return r
}

// disproof is how many standard deviations outside of its window an exchange of
// the least round trip ever finds a state that rests on too high a base.
const disproof = 3

// baseTooHigh reports whether an exchange of the least round trip ever contradicts a
// young state: the base was too high, and the state with it. An older one can not be
// worked out anew from the register without loss; it follows at the second conflict.
func (f *Filter) baseTooHigh(w *Window, e *Estimate) bool {
	return f.count <= Depth && w.miss(e.Offset) > disproof*math.Hypot(math.Sqrt(e.P00), w.Edge)
}

// rebuild works the state out anew from the register after the base has turned
// out to be lower. A frequency learned for longer than the register reaches is kept
// as far as it may still be true.
func (f *Filter) rebuild(t *Tracker, s Start, e *Estimate) {
	if f.count > Depth {
		s = Start{Freq: e.Freq, SD: math.Min(s.SD, 1e-7+3*math.Sqrt(e.P11))}
	}
	f.measureJitter(e, true)
	Replay(t, s, Part{Filter: f})
}

// predicted returns the tracker's state at the exchange, or the start's.
func (f *Filter) predicted(x *Exchange, t *Tracker, s Start) Estimate {
	if !t.Started() {
		return Estimate{At: x.At, Freq: s.Freq, P11: s.SD * s.SD}
	}
	return t.Estimate().Extrapolate(x.At)
}

// learn follows jitter with the state after the update.
func (f *Filter) learn(x *Exchange, t *Tracker) {
	if x.Kind == TwoWay && f.path.n < scaleStart {
		return
	}
	e := t.Estimate()
	forward, backward := x.oneWay(e.Freq)
	bf, bb, _ := f.path.bases()
	switch x.Kind {
	case TwoWay:
		f.follow(forward + backward)
		if rtt := forward + backward; rtt-bf-bb < f.path.scale[0]+f.path.scale[1] {
			f.good = t.bank
		}
	case OneWay:
		f.path.count(x.At)
		f.path.learn(1, backward+e.Offset-bb)
	case Reference:
		f.path.count(x.At)
		f.path.learn(0, x.Forward-e.Offset)
		f.path.scale[1] = f.path.scale[0]
	}
}

// follow keeps the median of the round trip, to know what is usual.
func (f *Filter) follow(rtt float64) {
	p := &f.path
	if p.n == scaleStart {
		var xs [Depth]float64
		n := 0
		for i := 0; i < f.Len(); i++ {
			if x := f.Last(i); x.Kind == TwoWay {
				xs[n] = x.RoundTrip(0)
				n++
			}
		}
		p.typical = median(xs[:n])
		return
	}
	if !f.suspected() {
		j := p.scale[0] + p.scale[1]
		p.typical += 1.5 * p.rate(scaleMemory) * j * clamp((rtt-p.typical)/(0.3*j), -1, 1)
	}
}

// median sorts xs (insertion: at most 64 numbers) and returns its middle.
func median(xs []float64) float64 {
	for i := 1; i < len(xs); i++ {
		for j := i; j > 0 && xs[j] < xs[j-1]; j-- {
			xs[j], xs[j-1] = xs[j-1], xs[j]
		}
	}
	if len(xs) == 0 {
		return 0
	}
	return (xs[len(xs)/2] + xs[(len(xs)-1)/2]) / 2
}

// Shift moves the origin of offsets by d seconds, up.
func (f *Filter) Shift(d float64) {
	for i := 0; i < f.Len(); i++ {
		x := f.Last(i)
		x.Forward -= d
		if x.Kind != Reference {
			x.Backward += d
		}
	}
	f.good.shift(d)
}

// Restart forgets all exchanges but keeps what is known of the path, for a clock
// whose raw scale was broken by sleep.
func (f *Filter) Restart() {
	f.count = 0
	f.good = Bank{}
	f.routes.run, f.routes.short, f.routes.shorter, f.routes.clean = run{}, run{}, 0, clean{}
}
