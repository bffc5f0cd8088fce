package system

import (
	"fmt"
	"math"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/selection"
	"timeball/internal/wire"
)

// peerState is what we hand on of the system peer (RFC 5905 Figure 25). It stays
// when the peer is lost: the clock still goes back to it.
type peerState struct {
	stratum    uint8
	refid      wire.ReferenceID
	delay      float64         // s, root delay of ours
	roundTrip  float64         // s, least one to the peer
	server     float64         // s, its own root distance
	dispersion float64         // s, the peer's root dispersion
	ticks      float64         // s, what its samples may be off for the precision of clocks
	certain    certain         // where its offset lies
	own        filter.Estimate // its own state; zero where that is the combined one, or none
	apart      float64         // s, how far the combined state is from that, beyond their noise
	fall       fall            // of the peer's root dispersion
	jitter     float64
}

func (s *System) refreshPeer() {
	p := s.find(s.summary.SystemPeer)
	if p == nil {
		return
	}
	base, _ := p.filter.Base()
	least := math.Max(base, p.filter.MinDelay())
	s.peer = peerState{
		stratum: p.server.Stratum + 1, refid: wire.ReferenceAddress(p.status.Address.Addr()),
		delay:      p.server.RootDelay.Seconds() + least,
		roundTrip:  least,
		server:     p.server.RootDelay.Seconds()/2 + p.server.RootDispersion.Seconds(),
		dispersion: p.server.RootDispersion.Seconds() + p.filter.OffMiddle(),
		ticks:      p.tickError(),
		own:        s.ownState(p),
		certain:    p.certain,
		apart:      s.apart(p),
		fall:       p.fall,
		jitter:     p.filter.Jitter(),
	}
	if p.reference {
		s.peer.stratum, s.peer.refid = 1, p.server.ReferenceID
	}
}

// ownState is what a source says by itself, where that is not the combined state.
func (s *System) ownState(src *source) filter.Estimate {
	if src == s.soleSource || !src.estimate.Started() {
		return filter.Estimate{}
	}
	return src.estimate.Estimate()
}

// apart is how far the combined state is from a source's own, in seconds, beyond what their
// uncertainty explains: what a source says of its distance is of its own offset.
func (s *System) apart(src *source) float64 {
	theirs := s.ownState(src)
	if theirs.At == 0 || !s.combined.Started() {
		return 0
	}
	ours := s.combined.Estimate().Extrapolate(theirs.At)
	return math.Max(math.Abs(theirs.Offset-ours.Offset)-boundSigmas*math.Sqrt(theirs.P00+ours.P00), 0)
}

// hard is how wrong the combined state may be by what is certain of the peer, in seconds.
func (s *System) hard(e *filter.Estimate) float64 {
	own := s.peer.own
	if own.At == 0 {
		own = *e
	}
	return s.peer.certain.beyond(e.At, e.Offset, driftOf(own, &s.combined)) - certainShare*s.peer.roundTrip + s.peer.server
}

// boundSigmas is how many standard deviations the error bound holds.
const boundSigmas = 3

// quality is how wrong the clock may be.
type quality struct {
	dispersion, bound, estimated time.Duration
	rate                         ntptime.Frequency
}

// slant is what one-sided jitter leaves unknown of the offset, as a standard
// deviation in seconds: of the combined source that has least of it.
func (s *System) slant() float64 {
	least := math.Inf(1)
	for _, src := range s.sources {
		if src.inCombined {
			least = math.Min(least, src.filter.Slant())
		}
	}
	if math.IsInf(least, 1) {
		return 0
	}
	return least
}

// quality works out root dispersion and error bound with left seconds still to
// be worked off. RFC 5905 lets dispersion grow by 15 ppm; here it grows as the
// state says: 3 sd of the offset, its growth from the frequency's uncertainty
// and the oscillator's wander. Path asymmetry, which no measurement shows, is
// in the root delay: half of it is added to the bound, and more where the state is not in
// the middle of what is certain.
func (s *System) quality(left float64, e filter.Estimate) quality {
	spread := discipline.Spread{P00: e.P00, P01: e.P01, P11: e.P11, Wander: e.Wander}
	sd, slant := sqrt(e.P00), s.slant()
	dispersion := s.peer.dispersion + s.peer.apart + uncertainty(s.peer.ticks, sd) + math.Abs(left) + s.contradiction.widens(ntptime.Raw(e.At)) + s.peer.fall.overshoot(ntptime.Raw(e.At))
	drift := s.peer.fall.rate + s.contradiction.rate
	rate := drift
	for t := 4.0; t <= 32; t *= 2 { // until the next snapshot, 16 s from now, and as long again
		rate = math.Max(rate, drift+boundSigmas*(sqrt(spread.Variance(t))-sd)/t)
	}
	dispersion = math.Max(dispersion, s.hard(&e)+math.Abs(left)-s.peer.delay/2)
	if s.split {
		bound, grows := s.splitBound(left, e)
		dispersion, rate = math.Max(dispersion, bound-s.peer.delay/2), math.Max(rate, grows)
	}
	return quality{
		dispersion: dur(dispersion), bound: dur(dispersion + s.peer.delay/2),
		estimated: dur(math.Hypot(math.Hypot(sd, slant), left)), rate: ntptime.Frequency(rate),
	}
}

// Snapshot makes a report of everything, never to be changed again.
func (s *System) Snapshot(now ntptime.Instant) *model.Snapshot {
	steps := s.discipline.Record()
	n := &model.Snapshot{
		At: now, State: s.state, Synchronized: s.synced, Leap: s.leapOf(now), Stratum: wire.MaxStratum,
		Serves: s.cfg.Serves, Precision: s.cfg.Precision, SystemPeer: s.summary.SystemPeer,
		Frequency: ntptime.Frequency(s.discipline.Frequency()), Slew: ntptime.Frequency(s.discipline.SlewRate()),
		PollInterval: time.Duration(s.pollInterval()), LastUpdate: s.lastUpdate, Updates: s.updates,
		Steps: steps.Steps, StepsTotal: steps.Total, LastStep: steps.Last,
		PanicOffset: dur(s.discipline.Refused()), TAI: s.leap.tai, LeapPending: s.leap.at,
		Unsteady:       math.Abs(s.discipline.SlewRate()) > float64(s.cfg.MaxFrequency),
		RootDispersion: 16 * time.Second, ErrorBound: model.UnknownBound,
	}
	if s.combined.Started() {
		left, e := s.residual(now)
		q := s.quality(left, e)
		n.Offset, n.FrequencyError = dur(left), ntptime.Frequency(sqrt(e.P11))
		n.RootDispersion, n.ErrorBound, n.EstimatedError, n.DispersionRate = q.dispersion, q.bound, q.estimated, q.rate
		n.RootDelay, n.Jitter = dur(s.peer.delay), dur(s.peer.jitter)
		n.ReferenceTime = s.lastUpdate.Wall
	}
	if s.synced {
		n.Stratum, n.ReferenceID = min(s.peer.stratum, wire.MaxStratum), s.peer.refid
	}
	if s.local.active {
		s.localSnapshot(now, n)
	}
	n.Smear, n.SmearAfter = s.smear(now.Wall)
	n.Rival = s.rival.active
	n.Disruptions, n.LastDisruption = s.disruptions, s.lastDisruption
	n.Sources = s.reports(now)
	return n
}

func (s *System) reports(now ntptime.Instant) []model.SourceReport {
	rs := make([]model.SourceReport, len(s.sources))
	for i, src := range s.sources {
		s.report(now, src, &rs[i])
	}
	return rs
}

func (s *System) report(now ntptime.Instant, src *source, r *model.SourceReport) {
	r.SourceStatus = src.status
	verdict := s.shown(now, src)
	r.State = verdict.State
	r.Weight = verdict.Weight
	r.Samples, r.LastSample = src.samples, src.last
	r.Delay = dur(src.delay)
	if src.samples > 0 {
		r.MinDelay = dur(s.shownDelay(src.filter.MinDelay()))
	}
	r.Jitter = dur(src.filter.Jitter())
	if t := s.tracker(src); src.samples > 0 && t.Started() {
		e := t.Estimate().Extrapolate(int64(now.Raw))
		r.Offset = dur(e.Offset - s.correction(now))
		r.Frequency = ntptime.Frequency(e.Freq)
		r.Error = dur(src.serverDistance() + src.filter.MinDelay()/2 + uncertainty(src.ownDispersion(), sqrt(e.P00)))
	}
	r.Filter = src.samplesFor(now)
	r.Reason, r.Checks = selection.Explain(&verdict, s.facts(src))
	switch quorum := int(verdict.Limit); {
	case verdict.Cause == selection.CauseMinimum && quorum > s.cfg.MinSources:
		r.Reason = fmt.Sprintf("the clock is not set, so the dates of NTS certificates are not checked yet: %d independent sources must agree before it is, and %.0f do",
			quorum, verdict.Value)
	case verdict.Cause == selection.CauseFallback && !s.summary.Usable:
		r.Reason = "a fallback: the other sources have time to answer first"
	case verdict.Cause == selection.CausePolicy && !src.opt.NoSelect:
		r.Reason = "the clock is not set, so the dates of NTS certificates are not checked yet: another source with this one's host or certificate has the vote of both"
	}
	if r.NTS {
		r.Checks = append([]model.Check{securityCheck(now.Raw, &r.Security)}, r.Checks...)
	}
}

// samplesFor lists the last samples, newest first.
func (src *source) samplesFor(now ntptime.Instant) []model.FilterSample {
	n := min(int(src.samples), historyDepth)
	fs := make([]model.FilterSample, n)
	for i := range fs {
		p := &src.history[i]
		fs[i] = model.FilterSample{Age: now.Raw.Sub(p.at), Offset: dur(p.offset), Delay: dur(p.delay), Error: dur(p.err)}
	}
	return fs
}
