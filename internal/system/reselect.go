package system

import (
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/selection"
	"timeball/internal/wire"
)

// startupWait is how long the first source that answers waits for the others, so
// that no single one of several is believed alone at the start.
const startupWait = 3 * time.Second

// fallbackWait is how long at the start fallback sources wait for the others. A key exchange
// (RFC 8915) over a slow path takes longer than startupWait, and who delays one must not gain
// that those are believed whom nobody authenticates.
const fallbackWait = 15 * time.Second

// fewSamples of a source say little of its spread.
const fewSamples = 4

// OnStatus takes what an association says of itself.
func (s *System) OnStatus(now ntptime.Instant, st *model.SourceStatus, out *Output) {
	src := s.find(st.Source)
	if src == nil {
		return
	}
	old := src.status
	src.status, src.heard, src.answered = *st, true, false
	if src.status.Name == "" {
		src.status.Name = src.opt.Name
	}
	if st.LastPacket != (ntptime.Instant{}) {
		src.server = st.Server
	}
	s.reachEvents(now, &old, st, out)
	if old.Reach == 0 != (st.Reach == 0) || old.Server.Stratum != st.Server.Stratum || old.Server.Leap != st.Server.Leap ||
		old.Denied != st.Denied || old.Server.ReferenceID != st.Server.ReferenceID {
		if s.reselect(now, nil, out) {
			s.replayCombined()
		}
		s.setState(now, out)
	}
	out.Changed = true // reports show what only misses change too: polls, packets, what was refused
}

func (s *System) reachEvents(now ntptime.Instant, old, st *model.SourceStatus, out *Output) {
	switch {
	case old.Reach == 0 && st.Reach != 0:
		s.event(out, now, model.EventReachable, st.Source, 0, "")
	case old.Reach != 0 && st.Reach == 0:
		s.event(out, now, model.EventUnreachable, st.Source, 0, "")
	}
}

// reselect runs the selection and takes its outcome over. It returns true when
// the combined state has to be worked out anew. fed is the source whose sample is
// about to enter the combined state, if any.
func (s *System) reselect(now ntptime.Instant, fed *source, out *Output) bool {
	s.candidates = s.candidates[:0]
	for _, src := range s.sources {
		s.candidates = append(s.candidates, s.candidate(now.Raw, src))
	}
	if s.soleSource == nil && !s.combined.Started() && s.inStartupWait(now.Raw) {
		return false
	}
	before := s.summary
	policy := s.policy()
	policy.HoldFallback = s.holdsFallback(now.Raw)
	s.summary = s.selector.Select(s.candidates, policy)
	replay := s.adopt(now, out)
	if s.summary.Usable {
		s.lastUsable = now.Raw
	}
	if s.summary.SystemPeer != before.SystemPeer && s.summary.SystemPeer != 0 {
		s.event(out, now, model.EventSelected, s.summary.SystemPeer, 0, "")
	}
	s.refreshPeer()
	s.leapVote(now, out)
	return replay
}

// policy is the configuration of the selection.
func (s *System) policy() selection.Policy {
	return selection.Policy{MinSources: max(s.cfg.MinSources, s.undatedQuorum(false)), MinWithFallback: max(s.cfg.MinSources, s.undatedQuorum(true)),
		MaxDistance: s.cfg.MaxDistance.Seconds(), Required: s.cfg.Required}
}

// undatedQuorum is how many sources must agree while certificates were taken without their
// dates, since the clock is not set (nts.cold_start): a majority of the independent ones
// that the configuration names, those included that have no address yet, as who answers no
// look-up would otherwise make one source a majority; 0: none was. Fallback sources count
// only where they are in use: else those that nobody authenticates would be, as soon as
// the others are fewer than half of all.
func (s *System) undatedQuorum(fallback bool) int {
	undated, independent := false, s.missing.Regular
	if fallback {
		independent += s.missing.Fallback
	}
	for _, src := range s.sources {
		if src.opt.NoSelect || src.opt.Fallback && !fallback {
			continue
		}
		undated = undated || src.status.Security.Undated
		if !s.repeated(src) {
			independent++
		}
	}
	if !undated {
		return 0
	}
	return independent/2 + 1
}

// repeated reports whether a source whose certificate's dates are not checked has the host
// or the certificate of another one that speaks for both: together they have one vote.
func (s *System) repeated(src *source) bool {
	own := &src.status.Security
	if !own.Undated || own.Identity == 0 {
		return false
	}
	before := true
	for _, other := range s.sources {
		if other == src {
			before = false
			continue
		}
		its := &other.status.Security
		same := its.Identity == own.Identity || its.Exchanger == own.Exchanger && own.Exchanger.IsValid()
		if !same || other.opt.NoSelect || other.opt.Fallback && !src.opt.Fallback {
			continue
		}
		if speaks := other.speaks(); speaks == src.speaks() && before || speaks && !src.speaks() {
			return true
		}
	}
	return false
}

// speaks reports whether a source can have a vote now: it answers, and has the time.
func (src *source) speaks() bool {
	return src.samples > 0 && src.status.Reach != 0 && src.server.Leap != wire.LeapUnknown && src.server.Stratum < wire.MaxStratum
}

// inStartupWait says whether to wait for the other sources' first answers, those included
// whose names are still being looked up.
func (s *System) inStartupWait(now ntptime.Raw) bool {
	voters, heard := s.missing.all(), 0
	for _, src := range s.sources {
		if src.opt.NoSelect {
			continue
		}
		voters++
		if src.samples > 0 {
			heard++
		}
	}
	return heard < voters && now < s.firstHeard.Add(startupWait)
}

// holdsFallback reports whether fallback sources wait, at the start, for others that may still
// answer.
func (s *System) holdsFallback(now ntptime.Raw) bool {
	if s.combined.Started() || s.soleSource != nil || now >= s.fallbackFrom {
		return false
	}
	const enough = 4 // polls in vain, or one key exchange
	for _, src := range s.sources {
		st := &src.status
		if !src.opt.NoSelect && !src.opt.Fallback && src.samples == 0 && !st.Denied && !st.Offline && st.Unanswered < enough && st.Security.FailureKind == "" {
			return true
		}
	}
	return s.missing.Regular > 0
}

// candidate collects what the selection needs to know. Without any status yet
// (a sample came first) a source counts as reachable.
func (s *System) candidate(now ntptime.Raw, src *source) selection.Candidate {
	c := selection.Candidate{
		ID: src.id, NoSelect: src.opt.NoSelect || s.repeated(src), Prefer: src.opt.Prefer, Trust: src.opt.Trust, Require: src.opt.Require,
		Fallback: src.opt.Fallback,
		Denied:   src.status.Denied, Reach: src.status.Reach, Unanswered: src.status.Unanswered,
		Leap: src.server.Leap, Stratum: src.server.Stratum, Samples: src.filter.Count(),
		Loop: src.server.Loop, Orphan: s.orphaned(src), Diverging: src.bias.diverging, Slewing: src.fall.slews,
		Verdict: src.verdict,
	}
	if src.reference && c.Stratum == 0 {
		c.Stratum = 1 // a reference clock is stratum 0 and as good as its leap says
	}
	c.Smears = s.smears(src, now)
	if src.samples > 0 && (!src.heard || src.answered || (c.Reach == 0 && src.status.Unanswered < 8)) {
		c.Reach = 1
	}
	if t := s.tracker(src); c.Samples > 0 && t.Started() {
		e := t.Estimate().Extrapolate(int64(now))
		base, _ := src.filter.Base()
		c.Offset = e.Offset
		c.Jitter = src.filter.Jitter()
		least := math.Max(base, src.filter.MinDelay())
		c.Distance = src.serverDistance() + least/2 + uncertainty(src.ownDispersion(), sqrt(e.P00))
		if c.Samples < fewSamples {
			// What the estimate says of itself is not to be relied on yet: two exchanges that are
			// late by the same, one on each way, look like a clock that runs 400 ppm fast.
			first := src.serverDistance() + src.ownDispersion() + src.firstError(now, e.Offset, least)
			if src.sure.at != 0 || first < c.Distance {
				c.Distance = first
			}
		}
	}
	return c
}

// firstError is how far an estimate of the first exchanges may be off for all that the path
// has done to them, in seconds; least is their least round trip.
func (src *source) firstError(now ntptime.Raw, offset, least float64) float64 {
	if src.sure.at != 0 {
		return math.Abs(offset-src.sure.mid) + src.sure.halfAt(int64(now))
	}
	return sureShare*least + drifted(int64(now.Sub(src.last.Raw)))
}

// serverDistance is the source's own root distance in seconds, and how far one-sided
// jitter on the way to it puts the offset off the middle.
func (src *source) serverDistance() float64 {
	return src.server.RootDelay.Seconds()/2 + src.server.RootDispersion.Seconds() + src.filter.OffMiddle()
}

// adopt takes the verdicts over and says whether somebody left the combined state
// who had spoilt it. A source that merely fell silent taught the truth; one that
// comes in later adds to what is known.
func (s *System) adopt(now ntptime.Instant, out *Output) bool {
	spoilt, added, parted := false, false, false
	for i, src := range s.sources {
		v := s.candidates[i].Verdict
		was := src.inCombined
		src.inCombined = v.State == model.StateSelected || v.State == model.StateCombined
		if was && !src.inCombined && (v.State == model.StateFalseticker || v.State == model.StateOutlier) && v.Cause != selection.CauseNoMajority {
			spoilt = true
		}
		if src.inCombined && !was && src.wasFalse {
			src.trusted, src.wasFalse = now.Raw, false // what it said while it was false is not to come back
		}
		src.wasFalse = src.wasFalse || v.State == model.StateFalseticker && v.Cause != selection.CauseNoMajority
		added = added || (src.inCombined && !was)
		parted = parted || v.Cause == selection.CauseNoMajority
		switch was := src.verdict.State; {
		case v.State == was:
		case v.State == model.StateFalseticker:
			s.event(out, now, model.EventFalseticker, src.id, 0, "")
		case was == model.StateFalseticker:
			s.event(out, now, model.EventTruechimer, src.id, 0, "")
		}
		src.verdict, src.distance = v, s.candidates[i].Distance
	}
	s.split = !s.summary.Usable && (s.split || parted)
	if s.soleSource != nil || !s.summary.Usable {
		return false
	}
	if spoilt {
		s.resetBiases()
	}
	return spoilt || (added && (!s.combined.Started() || s.combined.Updates() < 64 && s.registersHoldCombined()))
}
