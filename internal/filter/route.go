package filter

import "math"

// Changes of the path. A longer path looks like congestion at first: the window
// gets wide, but stays true, so there is time. A shorter one makes windows that
// contradict physics, so it is acted on at once.
const (
	runLength   = 12         // exchanges of a longer path, and
	runSpan     = 1800e9     // as long (ns): twelve alone made routes of ten-minute bursts
	runForever  = 6 * 3600e9 // ns
	runTight    = 2.0        // and their spread, in units of the jitter: congestion is loose
	runExcess   = 0.8        // excess over the usual, in units of both scales' sum
	runFreeze   = 4          // from here on a tight run does not change what is known of the jitter
	shortRun    = 4          // exchanges below the base, within
	shortWithin = 8          // as many
	oldRoutes   = 4
	cleanRun    = 2     // more short ones than this in a row are no clean exchanges between late ones
	cleanAgain  = Depth // exchanges within which a path known for longer must show it twice
)

// route is a path that was in use before.
type route struct {
	min   float64
	n     int32
	split split
}

// routes watches for changes of the path.
type routes struct {
	old     [oldRoutes]route // newest first
	run     run
	shorter int // exchanges in short running, 0: none
	gap     int // exchanges since the last of them
	short   run
	clean   clean
	lowered bool // by the exchange at hand, further than its own round trip or the state allow
}

// clean remembers exchanges below the base that were followed by long ones.
type clean struct {
	n     int     // so far
	count int     // of exchanges when the last of them came
	least float64 // their least round trip, s
}

// run sums exchanges of a suspected new path. Minima instead of the exchanges
// themselves: the offset at each is taken from a state that the path can not
// have spoilt.
type run struct {
	n                 int
	since             int64
	sum, min          float64 // round trip
	forward, backward float64 // least one-way times, of the reference offset freed
	variance          float64 // of the reference offset at the end
	jitter            float64 // both scales' sum when it began
}

func (r *run) add(at int64, forward, backward, jitter float64, ref *Estimate) {
	f, b := forward-ref.Offset, backward+ref.Offset
	rtt := forward + backward
	if r.n == 0 {
		*r = run{since: at, min: rtt, forward: f, backward: b, jitter: jitter}
	}
	r.n++
	r.sum += rtt
	r.min = math.Min(r.min, rtt)
	r.forward, r.backward = math.Min(r.forward, f), math.Min(r.backward, b)
	r.variance = ref.P00
}

// established says whether the run is a route rather than congestion: long, and
// with no more spread than the path had before. If it has lasted for hours, the
// new path may well have a jitter of its own.
func (r *run) established(at int64, jitter float64) bool {
	if at-r.since < runForever {
		jitter = r.jitter
	}
	return r.n >= runLength && at-r.since >= runSpan && r.sum/float64(r.n)-r.min < runTight*jitter
}

// observe takes an exchange's round trip into the path and looks for a change
// of route. It returns true when the path was made anew.
func (f *Filter) observe(x *Exchange, t *Tracker, e, combined *Estimate) bool {
	forward, backward := x.oneWay(e.Freq)
	rtt := forward + backward
	if f.path.n >= scaleStart {
		if done, changed := f.watch(x.At, forward, backward, combined, e); done {
			return changed
		}
	}
	f.path.observe(x.At, rtt, f.suspected())
	return false
}

// watch returns done when the exchange is not to enter the path's minimum.
func (f *Filter) watch(at int64, forward, backward float64, combined, own *Estimate) (done, changed bool) {
	rtt := forward + backward
	base, _ := f.path.base()
	both := f.path.scale[0] + f.path.scale[1]
	if f.path.tooFast(rtt) {
		return f.tooShort(at, forward, backward, combined, own)
	}
	if f.routes.shorter > 0 && f.wasClean(at, rtt) {
		return true, false
	}
	f.routes.gap++
	if f.routes.gap > shortWithin {
		f.routes.short.n = 0
	}
	f.routes.shorter = 0
	if rtt-base <= f.path.usual(base)+runExcess*both {
		f.routes.run.n = 0
		return false, false
	}
	ref := f.reference(at, combined)
	if ref == nil {
		return false, false
	}
	f.routes.run.add(at, forward, backward, both, ref)
	if !f.routes.run.established(at, both) {
		return false, false
	}
	f.adoptRoute(at, &f.routes.run)
	f.routes.run.n = 0
	return true, true
}

// usual returns the round trip's median excess over the base.
func (p *Path) usual(base float64) float64 { return math.Max(p.typical-base, 0) }

// suspected says whether a run is under way that looks like another route.
func (f *Filter) suspected() bool {
	r := &f.routes.run
	return r.n >= runFreeze && r.sum/float64(r.n)-r.min < runTight*(f.path.scale[0]+f.path.scale[1])
}

// reference returns an offset that the suspected path had no part in: the other
// sources', or our own state before the run, extrapolated.
func (f *Filter) reference(at int64, combined *Estimate) *Estimate {
	if combined != nil {
		e := combined.Extrapolate(at)
		return &e
	}
	if !f.good.started {
		return nil
	}
	e := f.good.Estimate().Extrapolate(at)
	return &e
}

// tooShort handles an exchange faster than the base allows.
func (f *Filter) tooShort(at int64, forward, backward float64, combined, own *Estimate) (done, changed bool) {
	rtt := forward + backward
	f.routes.run.n = 0
	if f.returnTo(at, rtt) {
		f.routes.short.n, f.routes.shorter = 0, 0
		f.path.observe(at, rtt, false)
		return true, false
	}
	ref := own
	if combined != nil {
		j := combined.Extrapolate(at)
		ref = &j
	}
	f.routes.gap = 0
	f.routes.short.add(at, forward, backward, 0, ref)
	f.routes.shorter++
	if disproves(forward, backward, own) {
		f.lower(at, rtt)
		return true, false
	}
	if f.routes.short.n < shortRun {
		return true, false
	}
	f.adoptRoute(at, &f.routes.short)
	f.routes.short.n, f.routes.shorter = 0, 0
	return true, false
}

// wasClean decides what one or two exchanges below the base were that a long one
// has followed: the path as it is when nothing queues, and the base was too high
// all along. A path that has been known for longer than the register shows it twice.
func (f *Filter) wasClean(at int64, rtt float64) bool {
	r := &f.routes
	if r.shorter > cleanRun || r.short.n > cleanRun {
		return false
	}
	if r.clean.n == 0 || f.count-r.clean.count > cleanAgain {
		r.clean = clean{least: r.short.min}
	}
	r.clean.n++
	r.clean.count, r.clean.least = f.count, math.Min(r.clean.least, r.short.min)
	if f.path.n > Depth && r.clean.n < 2 {
		return false
	}
	f.lower(at, r.clean.least)
	f.path.observe(at, rtt, f.suspected())
	return true
}

// lower sets the base to a round trip that the path has proved to be possible.
func (f *Filter) lower(at int64, rtt float64) {
	f.routes.short.n, f.routes.shorter, f.routes.clean = 0, 0, clean{}
	f.path.observe(at, rtt, f.suspected())
	f.routes.lowered = true
}

// disproves says whether an exchange leaves no room for the state whatever the
// base is: an offset outside of [−backward, forward] needs a packet that
// arrives before it was sent. Together with a round trip below the base it is the
// base that was wrong, and with it the state; a jump of a clock does not shorten the way.
func disproves(forward, backward float64, e *Estimate) bool {
	sd := disproof * math.Sqrt(e.P00)
	return forward+backward > 0 && (e.Offset-sd > forward || e.Offset+sd < -backward)
}

// returnTo takes up a route that was in use before, exactly as it was, so that
// going back and forth adds no error.
func (f *Filter) returnTo(at int64, rtt float64) bool {
	low, _ := f.path.least()
	j := f.Jitter()
	for i := range f.routes.old {
		r := f.routes.old[i]
		if r.n == 0 || r.min >= low {
			continue
		}
		if rtt > math.Max((r.min+low)/2, low-3*j) || rtt < r.min-4*j {
			continue
		}
		f.remember(i)
		f.path.restart(at, r.min, r.n, r.split)
		return true
	}
	return false
}

// remember puts the present route first among the old ones, in place of number i.
func (f *Filter) remember(i int) {
	min, n := f.path.least()
	copy(f.routes.old[1:i+1], f.routes.old[:i])
	f.routes.old[0] = route{min: min, n: int32(math.Min(n, 1e6)), split: f.path.split}
}

// adoptRoute makes the run's path the present one. Usually one direction
// changed: the one whose least one-way time still fits its old base is the
// anchor, and the other takes what is left of the new round trip. If that does
// not decide it, the offset held so far does.
func (f *Filter) adoptRoute(at int64, r *run) {
	bf, bb, edge := f.path.bases()
	n := float64(r.n)
	df := r.forward - f.path.scale[0]/n - bf
	db := r.backward - f.path.scale[1]/n - bb
	jf, jb := f.path.scale[0]/n, f.path.scale[1]/n
	fitF := df*df < 9*(r.variance+jf*jf+edge*edge)
	fitB := db*db < 9*(r.variance+jb*jb+edge*edge)
	f.remember(oldRoutes - 1)
	next := split{byDifference, (bf + df) - (bb + db)}
	switch {
	case fitF && !fitB:
		next = split{byForward, bf}
	case fitB && !fitF:
		next = split{byBackward, bb}
	}
	f.path.restart(at, r.min, int32(r.n), next)
}

// impossible says whether an exchange was made on another, shorter path than
// the present one or is of no use for another reason.
func (f *Filter) impossible(x *Exchange, freq float64) bool {
	if x.Kind != TwoWay || f.path.n < scaleStart {
		return false
	}
	return f.path.tooFast(x.RoundTrip(freq))
}

// tooFast says whether a round trip is below the base by more than its
// uncertainty and half the jitter.
func (p *Path) tooFast(rtt float64) bool {
	base, edge := p.base()
	return rtt < base-math.Max(4*edge, (p.scale[0]+p.scale[1])/2)
}
