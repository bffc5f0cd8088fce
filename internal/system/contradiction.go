package system

import (
	"math"

	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// contradiction is how far the clock lies outside of what its source says now. The state
// waits with believing it, as for one outlier it should; the bound does not.
type contradiction struct {
	by     model.SourceID // the only one of several combined sources that says so; 0: none
	at     ntptime.Raw    // of the sample
	reach  float64        // s, what the bound is widened by at that moment
	rate   float64        // s/s, how quickly it may go on growing
	agreed int            // samples in a row that did not contradict
}

const (
	contradictionKeep = 0.75 // stays in the bound with each sample that agrees
	contradictionSame = 0.1  // of it at least is the same one still
	contradictionOver = 2    // so many that agree in a row end it
	contradictionRate = 1e-3 // s/s: who departs more quickly was set, and does not go on
	contradictionSD   = 3.0  // standard deviations outside of a sample's window contradict it
)

// noteContradiction compares the state, with the sample taken into it, to the sample. What
// the filter says of a conflict is of the state before: one that was worked out anew from
// the register, or that has followed only a part of the way, may still be outside.
func (s *System) noteContradiction(src *source, x *filter.Exchange, r *filter.Result) {
	if !src.inCombined || !s.combined.Started() {
		return
	}
	c := &s.contradiction
	before := src.agreedAt
	e := s.combined.Estimate().Extrapolate(x.At)
	w := src.filter.Window(x, src.filter.Count()-1, &e).Shifted(src.bias.applied)
	miss := math.Max(w.Lo-e.Offset, e.Offset-w.Hi)
	off := math.Max(w.Hi-e.Offset, e.Offset-w.Lo) + contradictionSD*w.Edge // at most, if the sample is true
	src.fall.narrow(off)
	src.window.note(ntptime.Raw(x.At), off, contradictionSD*sqrt(e.P11))
	if src.id == s.summary.SystemPeer {
		s.peer.fall, s.peer.ticks = src.fall, src.tickError()
	}
	contrary := r.Conflict || miss > contradictionSD*math.Hypot(w.Edge, sqrt(e.P00))
	if !contrary {
		src.agreedAt = ntptime.Raw(x.At)
	}
	if contrary && s.summary.Combined > 2 && (c.by == 0 || c.by == src.id) {
		c.by = src.id // one of several: the others do not say so
		return
	}
	if !contrary && c.by == src.id {
		c.by = 0
	}
	if contrary && 2*miss > c.reach*contradictionSame {
		c.reach, c.agreed = math.Max(c.reach, 2*miss), 0 // twice: nobody knows when it began
		span := math.Max(ntptime.Raw(x.At).Sub(before).Seconds(), 1)
		c.rate = math.Max(c.rate, math.Min(miss/span, contradictionRate))
		c.at = ntptime.Raw(x.At)
		return
	}
	if c.agreed++; c.agreed >= contradictionOver {
		c.reach, c.rate = 0, 0
	}
	c.reach *= contradictionKeep
	c.rate *= contradictionKeep
}

// widens is what the contradiction adds to the bound at now, in seconds.
func (c *contradiction) widens(now ntptime.Raw) float64 {
	return c.reach + c.rate*math.Max(now.Sub(c.at).Seconds(), 0)
}
