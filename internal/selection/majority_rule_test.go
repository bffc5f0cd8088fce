package selection

import (
	"math/rand/v2"
	"slices"
	"testing"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// source is a candidate in good health, with its offset and distance in seconds.
func source(id int, offset, distance float64) Candidate {
	return Candidate{ID: model.SourceID(id), Reach: 255, Stratum: 2, Samples: 8, Offset: offset, Distance: distance, Jitter: 1e-4}
}

// sources gives each offset a candidate, numbered from 1, 10 ms from the reference.
func sources(offsets ...float64) (cs []Candidate) {
	for i, offset := range offsets {
		cs = append(cs, source(i+1, offset, 0.01))
	}
	return cs
}

var usual = Policy{MinSources: 1, MaxDistance: 1.5}

// used are the sources that the clock follows, in order.
func used(cs []Candidate) (ids []int) {
	for i := range cs {
		if s := cs[i].Verdict.State; s == model.StateSelected || s == model.StateCombined {
			ids = append(ids, int(cs[i].ID))
		}
	}
	slices.Sort(ids)
	return ids
}

// With liars in the minority the others are used; without a majority nobody is.
func TestRFC5905_11_2_1_MajorityOrNothing(t *testing.T) {
	for _, test := range []struct {
		name    string
		offsets []float64
		want    []int
	}{
		{"one source is a majority of one", []float64{0}, []int{1}},
		{"two that agree", []float64{0, 0.005}, []int{1, 2}},
		{"two that disagree: nobody knows who lies", []float64{0, 1}, nil},
		{"one liar of three", []float64{0, 0.005, 1}, []int{1, 2}},
		{"two liars of five, in concert", []float64{0, 1, 0.005, 1, -0.005}, []int{1, 3, 5}},
		{"three liars of seven, in concert", []float64{0, 1, 0, 1, 0, 1, 0}, []int{1, 3, 5, 7}},
		{"half of four", []float64{0, 0, 1, 1}, nil},
		{"everybody says something else", []float64{0, 1, 2, 3, 4}, nil},
		{"a liar on either side", []float64{-1, 0, 1, 0.001, -0.001}, []int{2, 4, 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cs := sources(test.offsets...)
			sum := new(Selector).Select(cs, usual)
			if got := used(cs); !slices.Equal(got, test.want) {
				t.Errorf("used: got %v, want %v", got, test.want)
			}
			if got, want := sum.Usable, len(test.want) > 0; got != want {
				t.Errorf("usable: got %v, want %v", got, want)
			}
			for i := range cs {
				lies := !slices.Contains(test.want, int(cs[i].ID))
				if got := cs[i].Verdict.State == model.StateFalseticker; got != lies {
					t.Errorf("source %d is a falseticker: got %v, want %v", cs[i].ID, got, lies)
				}
			}
		})
	}
}

// RFC 5905 §11.2.1 and fit() of §A.5.5.3: who is no candidate has no vote.
func TestRFC5905_11_2_1_WhoIsNoCandidate(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(c *Candidate)
		want  model.State
		cause Cause
	}{
		{"leap 3", func(c *Candidate) { c.Leap = wire.LeapUnknown }, model.StateUnsynchronized, CauseUnsync},
		{"stratum 16", func(c *Candidate) { c.Stratum = 16 }, model.StateUnsynchronized, CauseUnsync},
		{"stratum 0", func(c *Candidate) { c.Stratum = 0 }, model.StateUnsynchronized, CauseUnsync},
		{"root distance at the limit", func(c *Candidate) { c.Distance = 1.5 }, model.StateDistant, CauseDistance},
		{"a loop", func(c *Candidate) { c.Loop = true }, model.StateExcluded, CauseLoop},
		{"eight polls without an answer", func(c *Candidate) { c.Reach, c.Unanswered = 0, 8 }, model.StateUnreachable, CauseUnreachable},
		{"it denied us", func(c *Candidate) { c.Denied = true }, model.StateUnreachable, CauseUnreachable},
		{"no_select", func(c *Candidate) { c.NoSelect = true }, model.StateExcluded, CausePolicy},
		{"nothing measured yet", func(c *Candidate) { c.Samples = 0 }, model.StateWaiting, CauseNoSample},
	} {
		t.Run(test.name, func(t *testing.T) {
			cs := sources(0, 1)
			test.spoil(&cs[1])
			sum := new(Selector).Select(cs, usual)
			if got := cs[1].Verdict; got.State != test.want || got.Cause != test.cause {
				t.Errorf("got %v by cause %d, want %v by %d", got.State, got.Cause, test.want, test.cause)
			}
			if got := used(cs); !slices.Equal(got, []int{1}) || sum.Majority != 1 {
				t.Errorf("got %v used with a majority of %d, want source 1 alone with 1", got, sum.Majority)
			}
		})
	}
}

// NMIN of RFC 5905 §11.2.1 as a setting: too few that agree set no clock.
func TestRFC5905_11_2_1_MinSources(t *testing.T) {
	for agree := 1; agree <= 4; agree++ {
		cs := sources(make([]float64, agree)...)
		sum := new(Selector).Select(cs, Policy{MinSources: 3, MaxDistance: 1.5})
		if got, want := sum.Usable, agree >= 3; got != want {
			t.Errorf("%d that agree, 3 wanted: usable: got %v, want %v", agree, got, want)
		}
	}
}

// The order of the sources changes nothing.
func TestOrderOfSourcesDoesNotShow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var cs []Candidate
		for i := range 2 + random.IntN(8) {
			cs = append(cs, source(i+1, float64(random.IntN(4))*0.015, 0.005+0.01*random.Float64()))
		}
		shuffled := slices.Clone(cs)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, want := new(Selector).Select(shuffled, usual), new(Selector).Select(cs, usual)
		if got != want || !slices.Equal(used(shuffled), used(cs)) {
			t.Fatalf("shuffled: got %v and %+v, want %v and %+v", used(shuffled), got, used(cs), want)
		}
	}
}

// RFC 5905 §11.2.2's anti-clockhop: another source must be nearer by a good part
// before it takes the place of the system peer.
func TestRFC5905_11_2_2_ClockHop(t *testing.T) {
	s := new(Selector)
	for _, test := range []struct {
		name     string
		distance float64 // of source 2; that of source 1 stays 10 ms
		want     model.SourceID
	}{
		{"the nearer of two", 0.011, 1},
		{"a little nearer is not enough", 0.009, 1},
		{"nearer by a fifth and more", 0.0079, 2},
		{"and back by as much only", 0.011, 2},
		{"as it was", 0.014, 1},
	} {
		cs := sources(0, 0)
		cs[1].Distance = test.distance
		if sum := s.Select(cs, usual); sum.SystemPeer != test.want {
			t.Errorf("%s: got system peer %d, want %d", test.name, sum.SystemPeer, test.want)
		}
	}
}
