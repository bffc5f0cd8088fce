package system

import (
	"math"

	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func sqrt(x float64) float64 { return math.Sqrt(math.Max(x, 0)) }

const (
	maxSpan      = 3e13 // ns: T1 to T4 of a symmetric exchange, 8 h
	maxOffset    = 9e9  // s: 285 years; more does not fit, and is no time but a fault
	jumpStartup  = 6    // where the startup burst begins again after a jump
	conflictSoon = 2.0
)

// OnSample takes a checked measurement through the whole chain.
func (s *System) OnSample(now ntptime.Instant, m *model.Sample, out *Output) {
	src := s.find(m.Source)
	if src == nil {
		return
	}
	src.server = m.Server
	src.reference = m.Kind == model.SampleReference
	x, ok := s.exchange(src, m)
	if !ok {
		s.discard(now, src, out)
		return
	}
	if s.leap.straddles(m) || s.rival.acrossJump(now.Raw, m) {
		return
	}
	if !s.heard {
		s.heard, s.firstHeard, s.fallbackFrom = true, now.Raw, now.Raw.Add(fallbackWait)
	}
	src.samples++
	src.last, src.answered = m.T4, true
	src.dispersion = math.Max(m.Dispersion.Seconds(), src.grid.tick(m))
	src.fall.note(m.T4.Raw, m.Server.RootDispersion.Seconds(), src.samples)
	x.Ticks = float32(math.Max(src.dispersion, src.spread.width))
	r := s.feed(src, x)
	src.sure.note(&x, src.filter.Count() <= 1)
	src.noteSpread(x)
	src.delay = s.shownDelay(x.RoundTrip(src.lastEst.Freq))
	src.note(&x, s.correction(m.T4))
	if r.RouteChange {
		s.event(out, now, model.EventRouteChange, src.id, dur(src.delay), "")
	}
	changed := s.reselect(now, src, out)
	used := s.take(src, &x, &r, changed)
	if !s.combined.Started() {
		s.combinedSince = ntptime.Never
	} else if s.combinedSince == ntptime.Never {
		s.combinedSince = m.T1.Raw
	}
	s.noteContradiction(src, &x, &r)
	s.rebase()
	s.track(now, src, used, &r, out)
	out.Changed = true
}

// discard counts a sample that no time can be made of, and says so once.
func (s *System) discard(now ntptime.Instant, src *source, out *Output) {
	if src.discarded++; src.discarded == 1 {
		s.event(out, now, model.EventRefused, src.id, 0, "its samples are discarded: its time and this clock's are too far apart, or its exchange took hours")
	}
	out.Changed = true
}

// shownDelay is a round trip as reports have it: no less than our precision (RFC 5905
// §8). Timestamps are wrong by some microseconds, and a transmit timestamp is taken ahead of the
// sending, so that the round trip of a short path may come out negative. The filter is
// given it as it is: what is cut off at one side would have a bias.
func (s *System) shownDelay(seconds float64) float64 {
	least := 0.0
	if s.cfg.Precision < 0 { // 0: not known
		least = s.cfg.Precision.Seconds()
	}
	return math.Max(seconds, least)
}

// exchange puts a sample on the raw scale.
func (s *System) exchange(src *source, m *model.Sample) (filter.Exchange, bool) {
	t1, t4 := int64(m.T1.Raw), int64(m.T4.Raw)
	if m.Kind == model.SampleBroadcast {
		t1 = t4
	}
	span := t4 - t1
	if span < 0 || span > maxSpan {
		return filter.Exchange{}, false
	}
	fix := src.opt.Offset.Seconds()
	x := filter.Exchange{At: t1 + span/2, Span: float32(float64(span) * 1e-9)}
	if m.Kind != model.SampleBroadcast {
		x.Forward = float64(int64(m.T2)-t1-s.origin)*1e-9 + fix
	}
	x.Backward = float64(t4-int64(m.T3)+s.origin)*1e-9 - fix
	switch m.Kind {
	case model.SampleBroadcast:
		x.Kind, x.Delay, x.Error = filter.OneWay, m.Delay.Seconds(), float32(m.DelayError.Seconds())
	case model.SampleReference:
		x.Kind, x.Error = filter.Reference, float32(m.DelayError.Seconds())
	}
	if x.Kind == filter.TwoWay && math.Abs(float64(m.T3)-float64(m.T2)) > maxSpan { // of different eras
		return x, false
	}
	return x, math.Abs(x.Forward) < maxOffset && math.Abs(x.Backward) < maxOffset
}

// feed is the clock filter (RFC 5905 §10): the exchange goes into the source's
// own state, or into the combined one if there is only this source.
func (s *System) feed(src *source, x filter.Exchange) filter.Result {
	t := s.tracker(src)
	var others *filter.Estimate
	if src != s.soleSource && s.othersIn(src) > 0 && s.combined.Started() {
		e := s.combined.Estimate()
		others = &e
	}
	start := s.coldStart()
	if src != s.soleSource {
		start = s.start()
	}
	r := src.filter.Feed(x, t, start, others, patience)
	src.lastEst = t.Estimate()
	src.certain.note(&x, driftOf(src.lastEst, &s.combined))
	return r
}

// patience is how many conflicting exchanges in a row are a jump: two of one
// source; of several, two more than there are, so that a single liar does not do.
const patience = 2

// othersIn counts the combined sources besides src.
func (s *System) othersIn(src *source) int {
	n := 0
	for _, o := range s.sources {
		if o.inCombined && o != src {
			n++
		}
	}
	return n
}

// take puts the exchange into the combined state (RFC 5905 §11.2.3, combine).
func (s *System) take(src *source, x *filter.Exchange, r *filter.Result, replay bool) bool {
	s.updateBias(src)
	if !src.inCombined {
		if replay {
			s.replayCombined()
		}
		return replay
	}
	if src == s.soleSource {
		return r.Used
	}
	if replay || (r.Replayed && !r.RouteChange && s.registersHoldCombined()) || !s.combined.Started() {
		s.replayCombined()
		return true
	}
	if !r.Used || src.bias.outliers > 0 && s.summary.Combined > 2 {
		return false // it may be running away: its exchanges wait until that is clear
	}
	e := s.combined.Estimate().Extrapolate(x.At)
	w := src.filter.Window(x, src.filter.Count()-1, &e).Shifted(src.bias.applied)
	w.Edge = math.Hypot(w.Edge, src.filter.Slant())
	r.Outcome = s.combined.Update(x.At, &w, patience+s.othersIn(src)+1)
	return true
}

// registersHoldCombined reports whether the registers of the combined sources still hold most of
// what the combined state was made of: only then working it out anew from them, to better what
// a young source has said, loses nothing. Sources that were removed have taken theirs along.
func (s *System) registersHoldCombined() bool {
	held := 0
	for _, src := range s.sources {
		if src.inCombined {
			part := src.part()
			held += part.Len()
		}
	}
	return !s.partial && s.combined.Updates() <= 2*held
}

// replayCombined works the combined state out anew from the registers of the combined
// sources: somebody was in it who should not have been.
func (s *System) replayCombined() {
	s.parts = s.parts[:0]
	for _, src := range s.sources {
		if src.inCombined {
			s.parts = append(s.parts, src.part())
		}
	}
	if len(s.parts) == 0 {
		return
	}
	filter.Replay(&s.combined, s.replayStart(), s.parts...)
}

// part is what a source has to say in a replay: nothing of what it said while it was false.
func (src *source) part() filter.Part {
	return filter.Part{Filter: &src.filter, Bias: src.bias.applied, Since: int64(src.trusted)}
}

// replayStart is what is known of the frequency without those who are out: the
// best own state among those who are in, somewhat widened, since its exchanges
// will come again.
func (s *System) replayStart() filter.Start {
	best := s.coldStart()
	if s.partial && s.kept.SD < best.SD {
		best = s.kept
	}
	for _, src := range s.sources {
		if !src.inCombined || src.estimate == nil || src.filter.Count() <= filter.Depth {
			continue
		}
		e := src.estimate.Estimate()
		if sd := 3 * sqrt(e.P11+e.Wander*e.Wander*4096); sd < best.SD {
			best = filter.Start{Freq: e.Freq, SD: sd}
		}
	}
	return best
}

// rebase keeps offsets small.
func (s *System) rebase() {
	if !s.combined.Started() {
		return
	}
	if d := s.combined.Estimate().Offset; math.Abs(d) > rebaseAt {
		s.shiftOrigin(math.Round(d))
	}
}

// shiftOrigin moves the origin by whole seconds: every offset gets smaller by d.
func (s *System) shiftOrigin(d float64) {
	s.origin += int64(d) * 1e9
	s.combined.Shift(d)
	s.peer.own.Offset -= d
	s.peer.certain.shift(d)
	for _, src := range s.sources {
		if src.estimate != nil {
			src.estimate.Shift(d)
		}
		src.filter.Shift(d)
		src.spread.shift(d)
		src.sure.mid -= d
		src.lastEst.Offset -= d
		src.certain.shift(d)
	}
}

// note keeps a sample for reports; correction is disciplined − raw − origin.
func (src *source) note(x *filter.Exchange, correction float64) {
	copy(src.history[1:], src.history[:historyDepth-1])
	base, _ := src.filter.Base()
	p := point{at: ntptime.Raw(x.At), delay: src.delay, err: math.Max(src.delay-base, 0) / 2}
	switch x.Kind {
	case filter.TwoWay:
		p.offset = (x.Forward-x.Backward)/2 - correction
	case filter.OneWay:
		p.offset = x.Delay - x.Backward - correction
	default:
		p.offset, p.err = x.Forward-correction, float64(x.Error)
	}
	src.history[0] = p
}
