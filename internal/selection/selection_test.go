package selection

import (
	"math"
	"math/rand/v2"
	"testing"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// good is a source in best health at an offset, with a distance, in seconds.
func good(id model.SourceID, offset, distance float64) Candidate {
	return Candidate{ID: id, Reach: 255, Stratum: 2, Samples: 20, Offset: offset, Distance: distance, Jitter: 1e-4}
}

func with(c Candidate, f func(c *Candidate)) Candidate { f(&c); return c }

var policy = Policy{MinSources: 1, MaxDistance: 1.5}

func TestVerdicts(t *testing.T) {
	const (
		sel, com, sur, fal = model.StateSelected, model.StateCombined, model.StateSurvivor, model.StateFalseticker
	)
	far := func(c *Candidate) { c.Distance = 2 }
	slews := func(c *Candidate) { c.Slewing = true }
	for _, c := range []struct {
		name   string
		policy Policy
		in     []Candidate
		want   []model.State
		cause  Cause // of the last one
	}{
		{"one source alone is followed", policy, []Candidate{good(1, 0, 0.01)}, []model.State{sel}, CauseUsed},
		{"three that agree are combined, the nearest is the peer", policy,
			[]Candidate{good(1, 0, 0.03), good(2, 0.001, 0.01), good(3, -0.001, 0.02)}, []model.State{com, sel, com}, CauseUsed},
		{"one of three is wrong", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0.001, 0.02), good(3, 0.5, 0.02)}, []model.State{sel, com, fal}, CauseMajority},
		{"two of five are wrong, together", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0, 0.02), good(3, 0, 0.03), good(4, 0.5, 0.02), good(5, 0.5, 0.02)},
			[]model.State{sel, com, com, fal, fal}, CauseMajority},
		{"two that disagree have no majority", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0.5, 0.01)}, []model.State{fal, fal}, CauseNoMajority},
		{"two against two have no majority", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0, 0.01), good(3, 1, 0.01), good(4, 1, 0.01)}, []model.State{fal, fal, fal, fal}, CauseNoMajority},
		{"touching intervals agree", policy,
			[]Candidate{good(1, 0, 0.25), good(2, 1, 0.75)}, []model.State{sel, com}, CauseUsed},
		{"a wide interval hides no liar among narrow ones", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0.001, 0.01), good(3, 0.2, 0.05)}, []model.State{sel, com, fal}, CauseMajority},
		{"too distant", policy, []Candidate{good(1, 0, 0.01), with(good(2, 0, 0), far)}, []model.State{sel, model.StateDistant}, CauseDistance},
		{"distance that is no number", policy,
			[]Candidate{good(1, 0, 0.01), with(good(2, 0, 0), func(c *Candidate) { c.Distance = math.NaN() })},
			[]model.State{sel, model.StateDistant}, CauseDistance},
		{"min_sources", Policy{MinSources: 3, MaxDistance: 1.5}, []Candidate{good(1, 0, 0.01), good(2, 0, 0.01)}, []model.State{sur, sur}, CauseMinimum},
		{"require not met", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0, 0.01), with(good(3, 0.5, 0.01), func(c *Candidate) { c.Require = true })},
			[]model.State{sur, sur, fal}, CauseMajority},
		{"prefer is followed alone", policy,
			[]Candidate{good(1, 0, 0.001), with(good(2, 0, 0.02), func(c *Candidate) { c.Prefer = true })}, []model.State{sur, sel}, CauseUsed},
		{"a fallback is not used beside others", policy,
			[]Candidate{good(1, 0, 0.01), with(good(2, 0.001, 0.001), func(c *Candidate) { c.Fallback = true })}, []model.State{sel, model.StateExcluded}, CauseFallback},
		{"a fallback has no vote against one that is right or wrong", policy,
			[]Candidate{good(1, 0, 0.01), with(good(2, 0.5, 0.001), func(c *Candidate) { c.Fallback = true })}, []model.State{sel, model.StateExcluded}, CauseFallback},
		{"a fallback is used where the others have no majority", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0.5, 0.01), with(good(3, 0, 0.02), func(c *Candidate) { c.Fallback = true })}, []model.State{sel, fal, com}, CauseUsed},
		{"a fallback is used alone", policy,
			[]Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Reach = 0; c.Unanswered = 9 }),
				with(good(2, 0, 0.02), func(c *Candidate) { c.Fallback = true })}, []model.State{model.StateUnreachable, sel}, CauseUsed},
		{"prefer does not save a liar", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0, 0.02), with(good(3, 0.5, 0.02), func(c *Candidate) { c.Prefer = true })},
			[]model.State{sel, com, fal}, CauseMajority},
		{"trust outvotes a majority", policy,
			[]Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Trust = true }), good(2, 0.5, 0.01), good(3, 0.5, 0.01)},
			[]model.State{sel, fal, fal}, CauseMajority},
		{"no_select", policy, []Candidate{good(1, 0, 0.01), with(good(2, 0, 0.001), func(c *Candidate) { c.NoSelect = true })},
			[]model.State{sel, model.StateExcluded}, CausePolicy},
		{"loop", policy, []Candidate{good(1, 0, 0.01), with(good(2, 0, 0.001), func(c *Candidate) { c.Loop = true })},
			[]model.State{sel, model.StateExcluded}, CauseLoop},
		{"another orphan", policy, []Candidate{good(1, 0, 0.01), with(good(2, 0, 0.001), func(c *Candidate) { c.Orphan = true })},
			[]model.State{sel, model.StateExcluded}, CauseOrphan},
		{"no answer yet", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Reach, c.Samples = 0, 0 })},
			[]model.State{model.StateWaiting}, CauseNoAnswer},
		{"unreachable", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Reach, c.Unanswered = 0, 8 })},
			[]model.State{model.StateUnreachable}, CauseUnreachable},
		{"denied", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Denied = true })},
			[]model.State{model.StateUnreachable}, CauseUnreachable},
		{"leap 3", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Leap = wire.LeapUnknown })},
			[]model.State{model.StateUnsynchronized}, CauseUnsync},
		{"stratum 16", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Stratum = 16 })},
			[]model.State{model.StateUnsynchronized}, CauseUnsync},
		{"heard but not measured", policy, []Candidate{with(good(1, 0, 0.01), func(c *Candidate) { c.Samples = 0 })},
			[]model.State{model.StateWaiting}, CauseNoSample},
		{"running away from two others", policy,
			[]Candidate{good(1, 0, 0.01), good(2, 0, 0.02), with(good(3, 0.005, 0.01), func(c *Candidate) { c.Diverging = true })},
			[]model.State{sel, com, model.StateOutlier}, CauseInconsistent},
		{"of two, nobody runs away from anybody", policy,
			[]Candidate{good(1, 0, 0.01), with(good(2, 0.005, 0.02), func(c *Candidate) { c.Diverging = true })}, []model.State{sel, com}, CauseUsed},
		{"a server that slews is not combined with one that does not", policy,
			[]Candidate{good(1, 0, 0.02), with(good(2, 0.005, 0.01), slews)}, []model.State{sel, model.StateOutlier}, CauseInconsistent},
		{"of two that slew the nearer is the peer", policy,
			[]Candidate{with(good(1, 0, 0.02), slews), with(good(2, 0.005, 0.01), slews)}, []model.State{com, sel}, CauseUsed},
		{"a preferred server that slews is used", policy,
			[]Candidate{good(1, 0, 0.01), with(good(2, 0.005, 0.02), func(c *Candidate) { c.Slewing, c.Prefer = true, true })}, []model.State{sur, sel}, CauseUsed},
		{"servers that slew are used where the one that does not runs away", policy,
			[]Candidate{with(good(1, 0, 0.01), slews), with(good(2, 0, 0.02), slews), with(good(3, 0.005, 0.01), func(c *Candidate) { c.Diverging = true })},
			[]model.State{sel, com, model.StateOutlier}, CauseInconsistent},
	} {
		var s Selector
		s.Select(c.in, c.policy)
		for i, want := range c.want {
			if got := c.in[i].Verdict.State; got != want {
				t.Errorf("%s: source %d: got %v, want %v", c.name, i+1, got, want)
			}
		}
		if got := c.in[len(c.in)-1].Verdict.Cause; got != c.cause {
			t.Errorf("%s: got cause %d, want %d", c.name, got, c.cause)
		}
	}
}

// TestRFC5905_11_2_1_Intersection is the example of the intersection algorithm:
// three correctness intervals with a common part, one without.
func TestRFC5905_11_2_1_Intersection(t *testing.T) {
	cs := []Candidate{good(1, 1, 2), good(2, 2.5, 1.5), good(3, 2, 1), good(4, 9, 1)}
	for i := range cs {
		cs[i].Distance *= 0.1
		cs[i].Offset *= 0.1
	}
	var s Selector
	sum := s.Select(cs, policy)
	if math.Abs(sum.Low-0.1) > 1e-12 || math.Abs(sum.High-0.3) > 1e-12 {
		t.Errorf("got [%v, %v], want [0.1, 0.3]", sum.Low, sum.High)
	}
	if sum.Truechimers != 3 || sum.Majority != 3 || !sum.Usable {
		t.Errorf("got %+v, want 3 truechimers of a majority of 3", sum)
	}
}

func TestAtMostTenAreCombined(t *testing.T) {
	var cs []Candidate
	for i := range 14 {
		cs = append(cs, good(model.SourceID(i+1), 0, 0.01+float64(i)*0.001))
	}
	var s Selector
	if got := s.Select(cs, policy).Combined; got != MaxCombined {
		t.Errorf("got %d combined, want %d", got, MaxCombined)
	}
	if got := cs[13].Verdict; got.State != model.StateSurvivor || got.Cause != CauseCrowd {
		t.Errorf("the farthest: got %+v, want a survivor that is one too many", got)
	}
}

func TestSystemPeerIsKeptUntilAnotherIsClearlyNearer(t *testing.T) {
	var s Selector
	cs := []Candidate{good(1, 0, 0.010), good(2, 0, 0.011)}
	if got := s.Select(cs, policy).SystemPeer; got != 1 {
		t.Fatalf("got peer %d, want 1", got)
	}
	cs[1].Distance = 0.009
	if got := s.Select(cs, policy).SystemPeer; got != 1 {
		t.Errorf("10 %% nearer: got peer %d, want 1 kept", got)
	}
	cs[1].Distance = 0.007
	if got := s.Select(cs, policy).SystemPeer; got != 2 {
		t.Errorf("30 %% nearer: got peer %d, want 2", got)
	}
}

func TestFalsetickerIsOnProbation(t *testing.T) {
	var s Selector
	cs := []Candidate{good(1, 0, 0.01), good(2, 0, 0.01), good(3, 0.5, 0.01)}
	s.Select(cs, policy)
	cs[2].Offset = 0
	for i := range probation {
		s.Select(cs, policy)
		want := model.StateFalseticker
		if i == probation-1 {
			want = model.StateCombined
		}
		if got := cs[2].Verdict.State; got != want {
			t.Errorf("agreeing for %d: got %v, want %v", i+1, got, want)
		}
	}
}

func TestWeightsSumToOneAndFavourLittleJitter(t *testing.T) {
	var s Selector
	cs := []Candidate{good(1, 0, 0.01), good(2, 0, 0.01), good(3, 0.5, 0.01)}
	cs[1].Jitter = 3e-4
	s.Select(cs, policy)
	if got := cs[0].Verdict.Weight + cs[1].Verdict.Weight; math.Abs(got-1) > 1e-12 {
		t.Errorf("got a sum of %v, want 1", got)
	}
	if got := cs[0].Verdict.Weight; math.Abs(got-0.75) > 1e-12 {
		t.Errorf("got weight %v, want 0.75", got)
	}
	if got := cs[2].Verdict.Weight; got != 0 {
		t.Errorf("falseticker: got weight %v, want 0", got)
	}
}

// TestOrderDoesNotMatter: the verdicts are those of the sources, not of places.
func TestOrderDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := 1 + r.IntN(8)
		a := make([]Candidate, n)
		for i := range a {
			a[i] = good(model.SourceID(i+1), 0.01*math.Round(4*r.NormFloat64()), 0.005*float64(1+r.IntN(6)))
			a[i].Prefer, a[i].Require, a[i].Trust = r.IntN(9) == 0, r.IntN(9) == 0, r.IntN(9) == 0
			a[i].NoSelect, a[i].Diverging = r.IntN(9) == 0, r.IntN(5) == 0
		}
		p := r.Perm(n)
		b := make([]Candidate, n)
		for i := range p {
			b[i] = a[p[i]]
		}
		var s, u Selector
		x, y := s.Select(a, policy), u.Select(b, policy)
		if x != y {
			t.Fatalf("got %+v, in another order %+v", x, y)
		}
		for i := range p {
			got, want := b[i].Verdict, a[p[i]].Verdict
			if got.State != want.State || got.Cause != want.Cause || math.Abs(got.Weight-want.Weight) > 1e-12 {
				t.Fatalf("source %d: got %+v, in another order %+v", b[i].ID, want, got)
			}
		}
	}
}

// TestNoMinorityOfLiarsEverWins: with more than half of the sources honest (their
// interval holds 0), nobody is combined whose interval misses all of theirs.
func TestNoMinorityOfLiarsEverWins(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		liars := r.IntN(4)
		n := 2*liars + 1 + r.IntN(3)
		cs := make([]Candidate, n)
		for i := range cs {
			d := 0.01 * (0.1 + r.Float64())
			cs[i] = good(model.SourceID(i+1), d*(2*r.Float64()-1), d)
			if i < liars {
				cs[i].Offset = 0.1 + 0.01*r.NormFloat64()
			}
		}
		var s Selector
		s.Select(cs, policy)
		for i := range cs {
			if used := cs[i].Verdict.Weight > 0; used && i < liars {
				t.Fatalf("%d liars of %d: source %d was combined", liars, n, i+1)
			} else if !used && i >= liars && cs[i].Verdict.Cause != CauseCrowd {
				// An honest interval holds 0, and so does the majority's.
				t.Fatalf("%d liars of %d: honest source %d was not: %+v", liars, n, i+1, cs[i].Verdict)
			}
		}
	}
}

func FuzzSelect(f *testing.F) {
	f.Add(0.0, 0.1, 0.5, 0.1, uint8(3))
	f.Add(math.Inf(1), math.NaN(), -1.0, 0.0, uint8(255))
	f.Fuzz(func(t *testing.T, o1, d1, o2, d2 float64, flags uint8) {
		cs := []Candidate{good(1, o1, d1), good(2, o2, d2), good(3, 0, 0.1)}
		cs[0].Trust, cs[1].Prefer, cs[2].Require = flags&1 != 0, flags&2 != 0, flags&4 != 0
		var s Selector
		sum := s.Select(cs, policy)
		for i := range cs {
			if w := cs[i].Verdict.Weight; !(w >= 0 && w <= 1) {
				t.Errorf("source %d: got weight %v", i+1, w)
			}
		}
		if sum.Usable && sum.SystemPeer == 0 {
			t.Errorf("got %+v, usable without a peer", sum)
		}
	})
}
