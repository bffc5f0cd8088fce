// Package selection finds the truechimers among the sources (RFC 5905 §11.2.1),
// those of them whose measurements are combined (§11.2.2, §11.2.3), and the
// system peer; and it says of every source why it is or is not used.
//
// Two things differ from RFC 5905. The width of a source's interval comes from
// its own filter's state and from its distance, not from 15 ppm of age, so that
// a falseticker stands out at long polls too. And combining is not a weighted
// mean of offsets: every truechimer's exchanges go into one combined state, where
// each counts for what it proves; the cluster algorithm therefore only bounds
// how many there are.
package selection

import (
	"slices"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// Cause is the test that decided about a source.
type Cause uint8

// The causes, in the order in which they are tried.
const (
	CauseNone         Cause = iota
	CausePolicy             // no_select
	CauseLoop               // it follows us
	CauseOrphan             // another orphan, which has to follow us, or is not needed
	CauseNoAnswer           // nothing accepted yet
	CauseUnreachable        // eight polls without an answer
	CauseUnsync             // leap 3 or stratum 16
	CauseNoSample           // heard, but no measurement yet
	CauseDistance           // root distance beyond the limit
	CauseFallback           // a reserve, and others are in use
	CauseSmear              // it smears a leap second, and more of the others do not
	CauseNoSmear            // it does not, and more of the others do
	CauseMajority           // its interval does not meet the majority's
	CauseNoMajority         // no majority agrees on anything
	CauseProbation          // agrees again, but not for long enough
	CauseMinimum            // fewer sources agree than selection.min_sources
	CauseRequired           // no source with `require` is among the truechimers
	CauseNotPreferred       // others are preferred
	CauseCrowd              // more truechimers than are combined
	CauseInconsistent       // its offset runs away from the others'
	CauseUsed
)

// Candidate is what selection knows of a source.
type Candidate struct {
	ID         model.SourceID
	NoSelect   bool
	Prefer     bool
	Trust      bool
	Require    bool
	Fallback   bool // used only while no other is
	Smears     bool // it tells smeared time at present
	Loop       bool
	Orphan     bool // it serves as an orphan and is not the one to follow
	Denied     bool
	Reach      uint8
	Unanswered int
	Leap       wire.Leap
	Stratum    uint8
	Samples    int
	Offset     float64 // s, on any scale common to all
	Distance   float64 // s, half width of the interval that holds the true offset
	Jitter     float64 // s
	Diverging  bool    // its offset moves against the others'
	Slewing    bool    // it says that its clock is being slewed: it moves as long as that lasts

	Verdict Verdict // of the last Select; State also tells the next one who was a falseticker
}

// Verdict is the outcome for one source, with the numbers of the deciding test.
type Verdict struct {
	State     model.State
	Cause     Cause
	Value     float64
	Limit     float64
	Weight    float64 // share in the combined state, 0 to 1
	agreeing  int     // selections in a row in which a former falseticker agreed
	WasLiar   bool    // falseticker before, still on probation
	Intersect bool    // its interval meets the majority's
}

// Policy is the configuration of the selection.
type Policy struct {
	MinSources int
	// MinWithFallback is MinSources where the fallback sources have a vote.
	MinWithFallback int
	HoldFallback    bool    // they have none yet: the others may still answer
	MaxDistance     float64 // s
	// Required: no update without a source with `require`, also while there is none.
	Required bool
}

// Summary is the outcome for the system.
type Summary struct {
	Selectable   int // sources that passed the tests of their own
	Truechimers  int
	Combined     int // combined
	Majority     int // how many would have to agree
	Low, High    float64
	Usable       bool
	SystemPeer   model.SourceID
	PeerDistance float64
}

const (
	// MaxCombined bounds how many sources are combined: the tenth adds 5 % at most.
	MaxCombined = 10
	// probation is how many selections a falseticker must agree before it counts
	// again; a source at the very edge shall not go in and out.
	probation = 8
	// keepPeer: another system peer must be nearer by this factor (RFC 5905's
	// anti-clockhop).
	keepPeer = 0.8
	// peerPatience is in how many selections in a row some other source must be nearer
	// before it becomes the system peer.
	peerPatience = 32
)

// Selector runs the selection; it keeps its working space between runs.
type Selector struct {
	edges []edge
	saved []Verdict
	order []int
	peer  model.SourceID
	// steady: a truechimer that may be combined says that its clock is not being slewed.
	steady bool
	// challenges counts the selections in a row in which another one was nearer than peer.
	challenges int
}

// edge is one end of an interval: +1 opens, −1 closes.
type edge struct {
	at   float64
	kind int8
}

// Select judges every candidate and fills its Verdict. Fallback sources have a vote, and
// are used, only where the others alone give no result.
func (s *Selector) Select(cs []Candidate, p Policy) Summary {
	s.saved = s.saved[:0]
	reserve := false
	for i := range cs {
		s.saved = append(s.saved, cs[i].Verdict)
		reserve = reserve || cs[i].Fallback
	}
	peer := s.peer
	sum := s.selectAmong(cs, p, !reserve)
	if reserve && !sum.Usable && !p.HoldFallback {
		for i := range cs {
			cs[i].Verdict = s.saved[i]
		}
		s.peer = peer
		p.MinSources = max(p.MinSources, p.MinWithFallback)
		sum = s.selectAmong(cs, p, true)
	}
	return sum
}

// selectAmong judges every candidate, with the fallback ones or without.
func (s *Selector) selectAmong(cs []Candidate, p Policy, fallback bool) Summary {
	var sum Summary
	trusted := false
	for i := range cs {
		c := &cs[i]
		c.Verdict.Weight, c.Verdict.Intersect = 0, false
		c.judgeAlone(p)
		if c.Fallback && !fallback && c.Verdict.Cause == CauseNone {
			c.Verdict.State, c.Verdict.Cause, c.Verdict.Value, c.Verdict.Limit = model.StateExcluded, CauseFallback, 0, 0
		}
		if c.Verdict.Cause == CauseNone {
			sum.Selectable++
			trusted = trusted || c.Trust
		}
	}
	s.separate(cs, &sum)
	s.intersect(cs, trusted, &sum)
	s.truechimers(cs, &sum)
	s.policy(cs, p, &sum)
	s.combine(cs, &sum)
	return sum
}

// separate keeps smeared time and UTC apart: round a leap second they differ by up to half
// a second, and in between by what a path's asymmetry may be, so that they would be mixed.
// The larger group stays; of equal ones UTC.
func (s *Selector) separate(cs []Candidate, sum *Summary) {
	smeared, plain := 0, 0
	for i := range cs {
		switch c := &cs[i]; {
		case c.Verdict.Cause != CauseNone:
		case c.Smears:
			smeared++
		default:
			plain++
		}
	}
	if smeared == 0 || plain == 0 {
		return
	}
	out, cause := true, CauseSmear
	if smeared > plain {
		out, cause = false, CauseNoSmear
	}
	for i := range cs {
		if c := &cs[i]; c.Verdict.Cause == CauseNone && c.Smears == out {
			c.Verdict.State, c.Verdict.Cause = model.StateExcluded, cause
			sum.Selectable--
		}
	}
}

// Alone judges a candidate by the tests that need no other source. A Cause of CauseNone:
// it passes them.
func Alone(c Candidate, p Policy) Verdict {
	c.judgeAlone(p)
	return c.Verdict
}

// judgeAlone makes the tests that need no other source (RFC 5905 §11.2.1:
// fit(), §A.5.5.3's accept()).
func (c *Candidate) judgeAlone(p Policy) {
	v := &c.Verdict
	set := func(state model.State, cause Cause, value, limit float64) {
		v.State, v.Cause, v.Value, v.Limit = state, cause, value, limit
	}
	switch {
	case c.NoSelect:
		set(model.StateExcluded, CausePolicy, 0, 0)
	case c.Loop:
		set(model.StateExcluded, CauseLoop, 0, 0)
	case c.Orphan:
		set(model.StateExcluded, CauseOrphan, float64(c.Stratum), 0)
	case c.Denied:
		set(model.StateUnreachable, CauseUnreachable, 0, 1)
	case c.Reach == 0 && c.Samples == 0 && c.Unanswered < 8:
		set(model.StateWaiting, CauseNoAnswer, float64(c.Unanswered), 8)
	case c.Reach == 0:
		set(model.StateUnreachable, CauseUnreachable, float64(c.Unanswered), 8)
	case c.Leap == wire.LeapUnknown || c.Stratum == 0 || c.Stratum >= wire.MaxStratum:
		set(model.StateUnsynchronized, CauseUnsync, float64(c.Stratum), wire.MaxStratum)
	case c.Samples == 0:
		set(model.StateWaiting, CauseNoSample, 0, 1)
	case !(c.Distance < p.MaxDistance): // also catches NaN
		set(model.StateDistant, CauseDistance, c.Distance, p.MaxDistance)
	default:
		set(model.StateWaiting, CauseNone, 0, 0)
	}
}

// intersect finds the smallest interval that holds the points common to the
// largest number of sources (Marzullo's algorithm, RFC 5905 §11.2.1). Where
// some sources are trusted, only they have a vote.
func (s *Selector) intersect(cs []Candidate, trusted bool, sum *Summary) {
	s.edges = s.edges[:0]
	voters := 0
	for i := range cs {
		c := &cs[i]
		if c.Verdict.Cause != CauseNone || (trusted && !c.Trust) {
			continue
		}
		voters++
		s.edges = append(s.edges, edge{c.Offset - c.Distance, 1}, edge{c.Offset + c.Distance, -1})
	}
	slices.SortFunc(s.edges, func(a, b edge) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return int(b.kind) - int(a.kind) // touching intervals meet
	})
	sum.Majority = voters/2 + 1
	depth, best := 0, 0
	for _, e := range s.edges {
		depth += int(e.kind)
		if e.kind > 0 && depth > best {
			best, sum.Low = depth, e.at
		}
		if e.kind < 0 && depth+1 == best {
			sum.High = e.at
		}
	}
	sum.Truechimers = best
}

// truechimers marks who meets the majority's interval.
func (s *Selector) truechimers(cs []Candidate, sum *Summary) {
	agree := sum.Truechimers >= sum.Majority
	n := 0
	for i := range cs {
		c := &cs[i]
		v := &c.Verdict
		if v.Cause != CauseNone {
			v.agreeing = 0
			continue
		}
		v.Intersect = agree && c.Offset+c.Distance >= sum.Low && c.Offset-c.Distance <= sum.High
		switch {
		case !agree:
			v.State, v.Cause, v.Value, v.Limit = model.StateFalseticker, CauseNoMajority, float64(sum.Truechimers), float64(sum.Majority)
			v.agreeing = 0
		case !v.Intersect:
			v.State, v.Cause, v.Limit = model.StateFalseticker, CauseMajority, c.Distance
			v.Value = c.Offset - clamp(c.Offset, sum.Low, sum.High)
			v.agreeing, v.WasLiar = 0, true
		case v.WasLiar && v.agreeing+1 < probation:
			v.agreeing++
			v.State, v.Cause, v.Value, v.Limit = model.StateFalseticker, CauseProbation, float64(v.agreeing), probation
		default:
			v.WasLiar, v.agreeing = false, 0
			v.State, v.Cause, v.Value, v.Limit = model.StateSurvivor, CauseNone, float64(sum.Truechimers), float64(sum.Majority)
			n++
		}
	}
	sum.Truechimers = n
}

// policy applies min_sources and require.
func (s *Selector) policy(cs []Candidate, p Policy, sum *Summary) {
	required, met := p.Required, false
	for i := range cs {
		required = required || cs[i].Require
		met = met || (cs[i].Require && cs[i].Verdict.State == model.StateSurvivor)
	}
	cause := CauseNone
	value, limit := float64(sum.Truechimers), float64(p.MinSources)
	switch {
	case sum.Truechimers < max(p.MinSources, 1):
		cause = CauseMinimum
	case required && !met:
		cause, value, limit = CauseRequired, 0, 1
	default:
		sum.Usable = true
		return
	}
	for i := range cs {
		if v := &cs[i].Verdict; v.State == model.StateSurvivor {
			v.Cause, v.Value, v.Limit = cause, value, limit
		}
	}
}

// combine chooses who is combined and who is system peer, and the weights
// (RFC 5905 §11.2.2 cluster and §11.2.3 combine).
func (s *Selector) combine(cs []Candidate, sum *Summary) {
	if !sum.Usable {
		s.peer = 0
		return
	}
	s.order = s.order[:0]
	preferred := false
	s.steady = false
	for i := range cs {
		if cs[i].Verdict.State == model.StateSurvivor {
			s.order = append(s.order, i)
			preferred = preferred || cs[i].Prefer
		}
	}
	for _, i := range s.order {
		s.steady = s.steady || !cs[i].Slewing && cs[i].Prefer == preferred && !s.runsAway(&cs[i])
	}
	slices.SortFunc(s.order, func(a, b int) int { return s.nearer(&cs[a], &cs[b]) })
	s.keep(cs)
	total := 0.0
	for _, i := range s.order {
		c := &cs[i]
		v := &c.Verdict
		switch {
		case preferred && !c.Prefer:
			v.Cause = CauseNotPreferred
		case sum.Combined >= MaxCombined:
			v.Cause, v.Value, v.Limit = CauseCrowd, float64(sum.Combined+1), MaxCombined
		case s.runsAway(c):
			v.State, v.Cause = model.StateOutlier, CauseInconsistent
		default:
			sum.Combined++
			v.State, v.Cause = model.StateCombined, CauseUsed
			v.Weight = 1 / max(c.Jitter, 1e-9)
			total += v.Weight
			if sum.SystemPeer == 0 {
				v.State, sum.SystemPeer, sum.PeerDistance = model.StateSelected, c.ID, c.Distance
			}
		}
	}
	for _, i := range s.order {
		cs[i].Verdict.Weight /= max(total, 1e-300)
	}
	s.peer = sum.SystemPeer
	sum.Usable = sum.Combined > 0
}

// runsAway reports whether a truechimer moves against the others: a majority of them shows it,
// or it says so itself and another one stands still.
func (s *Selector) runsAway(c *Candidate) bool {
	return c.Diverging && len(s.order) > 2 || c.Slewing && s.steady
}

// keep leaves the system peer first unless another one, of the same preference, is nearer
// by more than twice the jitter of both, or has been nearer for long: among equals, whose
// distances come and go, the peer does not change.
func (s *Selector) keep(cs []Candidate) {
	at := slices.IndexFunc(s.order, func(i int) bool { return cs[i].ID == s.peer && !s.runsAway(&cs[i]) })
	if at <= 0 {
		s.challenges = 0
		return
	}
	other, present := &cs[s.order[0]], &cs[s.order[at]]
	if other.Prefer != present.Prefer || other.Distance+2*(other.Jitter+present.Jitter) < present.Distance {
		s.challenges = 0
		return
	}
	if s.challenges++; s.challenges > peerPatience {
		s.challenges = 0
		return
	}
	peer := s.order[at]
	s.order = slices.Insert(slices.Delete(s.order, at, at+1), 0, peer)
}

// nearer orders truechimers: preferred first, then by distance, the present
// system peer with a bonus; equal ones by number, so that order never shows.
func (s *Selector) nearer(a, b *Candidate) int {
	if a.Prefer != b.Prefer {
		if a.Prefer {
			return -1
		}
		return 1
	}
	da, db := a.Distance, b.Distance
	if a.ID == s.peer {
		da *= keepPeer
	}
	if b.ID == s.peer {
		db *= keepPeer
	}
	switch {
	case da < db:
		return -1
	case da > db:
		return 1
	}
	return int(a.ID) - int(b.ID)
}

func clamp(x, lo, hi float64) float64 { return min(max(x, lo), hi) }
