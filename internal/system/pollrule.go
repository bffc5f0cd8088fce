package system

import (
	"math"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

const (
	hintChange    = 1.1 // a change of an interval by less is not worth telling
	extraBudget   = 4.0 // extra exchanges in a row, and
	extraRecovery = 16  // exchanges without trouble that earn one more
)

// lowPoll returns the shortest mean interval between exchanges of the combined
// sources together, in seconds: each at its minimum.
func (s *System) lowPoll() float64 {
	rate := 0.0
	for _, src := range s.sources {
		if src.inCombined || len(s.sources) == 1 {
			rate += 1 / src.opt.MinPoll.Seconds()
		}
	}
	if rate == 0 {
		return 64
	}
	return 1 / rate
}

// pollUpdate runs the poll rule after an update of the combined state.
func (s *System) pollUpdate(r *filter.Result, now ntptime.Instant, src *source, out *Output) {
	e := s.combined.Estimate()
	low, slant := s.lowPoll(), s.slant()
	high := low
	for _, src := range s.sources {
		if src.inCombined {
			high = math.Max(high, src.opt.MaxPoll.Seconds())
		}
	}
	s.poll.Update(discipline.Spread{P00: e.P00 + slant*slant, P01: e.P01, P11: e.P11, Wander: e.Wander}, s.goal(), low, high)
	if r.Jumped {
		s.poll.Hurry(low)
		s.event(out, now, model.EventFrequencyJump, src.id, dur(r.Window.Hi-e.Offset), "")
	}
}

// updateInterval is the expected time until the next update in seconds: that of the poll
// rule, or of a reference clock, which gives its samples whatever the rule says.
func (s *System) updateInterval() float64 {
	interval := s.poll.Interval()
	for _, src := range s.sources {
		if src.inCombined && src.reference {
			interval = math.Min(interval, src.opt.MinPoll.Seconds())
		}
	}
	return interval
}

// hints tells the associations how to poll. One budget is shared: the combined
// interval tau is divided so that a source of little jitter is asked more often.
// Who is not used is watched at half of its longest interval.
func (s *System) hints(src *source, extra float64, out *Output) {
	inverse := 0.0
	for _, o := range s.sources {
		if o.inCombined {
			inverse += 1 / math.Max(o.filter.Jitter(), 1e-9)
		}
	}
	for _, o := range s.sources {
		soon := 0.0
		if o == src {
			soon = extra
		}
		low, high := o.opt.MinPoll.Seconds(), math.Max(o.opt.MinPoll.Seconds(), o.opt.MaxPoll.Seconds())
		interval := high / 2
		switch {
		case o.inCombined:
			interval = s.poll.Interval() * math.Max(o.filter.Jitter(), 1e-9) * inverse
		case o.samples < 8 || !s.combined.Started():
			interval = low
		}
		interval = math.Min(math.Max(interval, low), high)
		if soon == 0 && o.hint > 0 && math.Max(interval/o.hint, o.hint/interval) < hintChange {
			continue
		}
		o.hint = interval
		if soon >= interval {
			soon = 0
		}
		out.Hints = append(out.Hints, model.Hint{Source: o.id, Interval: dur(interval), Soon: dur(soon)})
	}
}

// soon returns after how many seconds an extra exchange is worth its packets:
// at the start, after a jump, and at once when an exchange contradicts the state.
// The contradictions have a budget: one that does not end is a matter of the
// source, and more packets do not cure it.
func (o *source) soon(r *filter.Result) float64 {
	if o.samples == 1 {
		o.startupDone, o.budget = 0, extraBudget
	}
	if r.Jumped && o.inCombined {
		o.hurry()
	}
	if o.bias.outliers > 0 || (o.inCombined && r.Conflict && !r.Jumped) {
		if o.budget >= 1 {
			o.budget--
			return conflictSoon
		}
		return 0
	}
	o.budget = min(o.budget+1.0/extraRecovery, extraBudget)
	o.startupDone++
	return discipline.StartupInterval(o.startupDone)
}

const (
	unclearMost    = 32   // exchanges that a start asks for beyond its startup burst
	unclearSlanted = 8.0  // s between them while no clean exchange has shown the base,
	unclearNoisy   = 16.0 // and while nothing ever comes near the base, so that only averaging helps
	unclearGoals   = 2.0  // times the goal: below, the usual interval will do
)

// stillUnclear returns after how many seconds a start whose startup burst has ended asks
// again because the offset is not known well, 0 for no sooner than usual. There are
// some dozens of such exchanges once, so that a day's mean stays below 60 an hour.
func (s *System) stillUnclear(src *source) float64 {
	if !src.inCombined || src.samples > 2*uint64(discipline.StartupExchanges)+unclearMost || src.startupDone <= discipline.StartupExchanges ||
		src.startupDone > discipline.StartupExchanges+unclearMost {
		return 0
	}
	goal := unclearGoals * s.goal()
	switch {
	case src.filter.Slant() > goal || src.filter.OneSided() > goal:
		return unclearSlanted
	case src.filter.BellShaped() && sqrt(s.combined.Estimate().P00) > goal:
		return unclearNoisy
	}
	return 0
}

// goal is the accuracy that is worth polling for, in seconds.
func (s *System) goal() float64 {
	if goal := s.cfg.AccuracyGoal.Seconds(); goal > 0 {
		return goal
	}
	least := math.Inf(1)
	for _, src := range s.sources {
		if src.inCombined {
			least = math.Min(least, src.filter.MinDelay())
		}
	}
	return discipline.Goal(least)
}

// pollInterval is the interval of the system peer as last asked for.
func (s *System) pollInterval() ntptime.Raw {
	if p := s.find(s.summary.SystemPeer); p != nil {
		return ntptime.Raw(dur(p.hint))
	}
	return 0
}

// hurry begins a startup burst anew after a jump, at most once in as many
// exchanges as it has.
func (o *source) hurry() {
	if o.startupDone > discipline.StartupExchanges+jumpStartup {
		o.startupDone = jumpStartup
	}
}
