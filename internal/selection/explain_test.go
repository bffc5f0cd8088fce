package selection

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"timeball/internal/model"
)

// healthy are the facts of one of three sources that agree.
var healthy = Facts{Reach: 0b01110110, Unanswered: 1, Stratum: 2, Samples: 8, Distance: 4.28e-6, MaxDistance: 1.5, Truechimers: 3, Majority: 2, MinSources: 1}

func changed(f func(f *Facts)) Facts { facts := healthy; f(&facts); return facts }

// lines are the checks as people see them.
func lines(checks []model.Check) (list []string) {
	for _, c := range checks {
		mark := "NO "
		if c.Passed {
			mark = "ok "
		}
		list = append(list, mark+c.Name+": "+c.Text)
	}
	return list
}

func TestTheChainOfASourceInUse(t *testing.T) {
	used := Verdict{State: model.StateCombined, Cause: CauseUsed}
	for _, c := range []struct {
		name  string
		facts Facts
		want  []string
	}{
		{"one of three that agree", healthy, []string{
			"ok reachable: 5 of the last 8 polls answered",
			"ok synchronized: stratum 2, not synchronized from 16 on",
			"ok measured: 8 samples",
			"ok distance: 4.28 µs, limit 1.5 s",
			"ok majority: 3 sources agree, 2 are needed",
			"ok agreement: its offset ± 4.28 µs meets what the majority allows",
			"ok consistency: its offset keeps with the others'",
		}},
		{"alone, nothing is compared with others", changed(func(f *Facts) { f.Truechimers, f.Majority, f.Samples, f.Reach = 1, 1, 1, 1 }), []string{
			"ok reachable: 1 of the last 8 polls answered",
			"ok synchronized: stratum 2, not synchronized from 16 on",
			"ok measured: 1 sample",
			"ok distance: 4.28 µs, limit 1.5 s",
			"ok majority: 1 source has a vote, so 1 is enough",
		}},
		{"after a step, a minimum, a bias, others on probation", changed(func(f *Facts) {
			f.Reach, f.MinSources, f.Bias, f.Truechimers, f.Majority = 0, 2, -0.0012, 2, 3
		}), []string{
			"ok reachable: asked anew, 1 poll unanswered; unreachable from 8 on",
			"ok synchronized: stratum 2, not synchronized from 16 on",
			"ok measured: 8 samples",
			"ok distance: 4.28 µs, limit 1.5 s",
			"ok majority: 2 sources agree, 3 needed, those on probation counted",
			"ok agreement: its offset ± 4.28 µs meets what the majority allows",
			"ok min_sources: 2 sources agree, selection.min_sources is 2",
			"ok consistency: -1.2 ms against the others, steady: taken off its measurements",
		}},
	} {
		_, checks := Explain(&used, c.facts)
		if got := lines(checks); !slices.Equal(got, c.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestWhatDecidedAndWhatWouldChangeIt(t *testing.T) {
	for _, c := range []struct {
		verdict      Verdict
		line, reason string // both are parts of what is said
	}{
		{Verdict{Cause: CausePolicy}, "policy: no_select is set; it would be used without", "no_select"},
		{Verdict{Cause: CauseLoop}, "loop: it takes its time from this host", "loop"},
		{Verdict{Cause: CauseOrphan, Value: 5}, "orphan: stratum 5, an orphan", "orphan"},
		{Verdict{Cause: CauseNoAnswer, Limit: 8}, "reachable: no poll has been sent and waited for yet", "waiting for its first answer"},
		{Verdict{Cause: CauseNoAnswer, Value: 3, Limit: 8}, "reachable: 3 polls unanswered, unreachable from 8 on; one answer", "first answer: 3 polls unanswered"},
		{Verdict{Cause: CauseUnreachable, Value: 42, Limit: 8}, "reachable: no answer to the last 42 polls; one answer", "no answer to the last 42 polls"},
		{Verdict{Cause: CauseUnreachable, Limit: 1}, "reachable: it answered DENY or RSTR", "it refused us (DENY or RSTR)"},
		{Verdict{Cause: CauseUnsync, Value: 16, Limit: 16}, "synchronized: stratum 16 (not synchronized); it would be used once", "stratum 16"},
		{Verdict{Cause: CauseUnsync, Value: 3, Limit: 16}, "synchronized: leap indicator 3 (not synchronized), stratum 3", "leap indicator 3"},
		{Verdict{Cause: CauseNoSample, Limit: 1}, "measured: no sample yet; it would be judged after one answer", "first measurement"},
		{Verdict{Cause: CauseDistance, Value: 2.25, Limit: 1.5}, "distance: 2.25 s, limit 1.5 s; it would be used once its root distance is below", "2.25 s, limit 1.5 s"},
		{Verdict{Cause: CauseNoMajority, Value: 1, Limit: 2}, "majority: no two sources agree, 2 have to; it would be used if", "1 of 2"},
		{Verdict{Cause: CauseNoMajority, Value: 2, Limit: 3}, "majority: no more than 2 sources agree, 3 have to", "2 of 3"},
		{Verdict{Cause: CauseMajority, Value: 0.25, Limit: 0.0012}, "agreement: its offset, +250 ms ± 1.2 ms from what the majority allows, misses it by 248.8 ms; it would be used again after agreeing 8 selections in a row",
			"+250 ms ± 1.2 ms outside"},
		{Verdict{Cause: CauseMajority, Value: -0.25, Limit: 0.0012}, "-250 ms ± 1.2 ms from what the majority allows, misses it by 248.8 ms", "-250 ms"},
		{Verdict{Cause: CauseProbation, Value: 3, Limit: 8}, "agreement: it agrees again, 3 selections in a row; it would be used from the 8th on", "3 of 8"},
		{Verdict{Cause: CauseMinimum, Value: 1, Limit: 3}, "min_sources: 1 source agrees, selection.min_sources is 3; it would be used once 3 agree", "1 of 3"},
		{Verdict{Cause: CauseRequired, Limit: 1}, "require: no source with `require` agrees; it would be used once one does", "no required source"},
		{Verdict{Cause: CauseNotPreferred, Value: 3, Limit: 2}, "prefer: sources with `prefer` agree and are used alone; it would be used", "others are preferred"},
		{Verdict{Cause: CauseCrowd, Value: 11, Limit: 10}, "crowd: 10 nearer sources are used already; it would be used", "ten nearer"},
		{Verdict{Cause: CauseInconsistent, Value: 3, Limit: 2}, "consistency: its offset moves away from the others'; it would be used again", "runs away"},
	} {
		reason, checks := Explain(&c.verdict, healthy)
		got := lines(checks)
		last := len(got) - 1
		if last < 0 || checks[last].Passed || !strings.Contains(got[last], c.line) {
			t.Errorf("cause %d: got\n%s\nwant it to end in a failed %q", c.verdict.Cause, strings.Join(got, "\n"), c.line)
		}
		if !strings.Contains(got[last], ";") {
			t.Errorf("cause %d: %q does not say what would change it", c.verdict.Cause, got[last])
		}
		for _, line := range got[:max(last, 0)] {
			if !strings.HasPrefix(line, "ok ") {
				t.Errorf("cause %d: %q on the way, want it passed", c.verdict.Cause, line)
			}
		}
		if !strings.Contains(reason, c.reason) {
			t.Errorf("cause %d: got reason %q, want %q in it", c.verdict.Cause, reason, c.reason)
		}
	}
}

// Programs get the numbers beside the words, in the unit that stands there.
func TestTheNumbersOfTheChecks(t *testing.T) {
	find := func(v Verdict, name string) model.Check {
		_, checks := Explain(&v, changed(func(f *Facts) { f.MinSources, f.Bias = 2, 1e-3 }))
		for _, c := range checks {
			if c.Name == name {
				c.Text = ""
				return c
			}
		}
		return model.Check{}
	}
	used := Verdict{Cause: CauseUsed}
	for _, c := range []struct {
		verdict Verdict
		want    model.Check
	}{
		{used, model.Check{Name: "reachable", Value: 1, Limit: 8, Unit: "polls", Passed: true}},
		{used, model.Check{Name: "synchronized", Value: 2, Limit: 16, Unit: "stratum", Passed: true}},
		{used, model.Check{Name: "measured", Value: 8, Limit: 1, Unit: "samples", Passed: true}},
		{used, model.Check{Name: "distance", Value: 4.28e-6, Limit: 1.5, Unit: "s", Passed: true}},
		{used, model.Check{Name: "majority", Value: 3, Limit: 2, Unit: "sources", Passed: true}},
		{used, model.Check{Name: "agreement", Limit: 4.28e-6, Unit: "s", Passed: true}},
		{used, model.Check{Name: "min_sources", Value: 3, Limit: 2, Unit: "sources", Passed: true}},
		{used, model.Check{Name: "consistency", Value: 1e-3, Unit: "s", Passed: true}},
		{Verdict{Cause: CauseDistance, Value: 2.25, Limit: 1.5}, model.Check{Name: "distance", Value: 2.25, Limit: 1.5, Unit: "s"}},
		// What an earlier test of the same selection left in the verdict is not theirs.
		{Verdict{Cause: CauseInconsistent, Value: 3, Limit: 2}, model.Check{Name: "consistency", Value: 1e-3, Unit: "s"}},
		{Verdict{Cause: CauseNotPreferred, Value: 3, Limit: 2}, model.Check{Name: "prefer"}},
	} {
		if got := find(c.verdict, c.want.Name); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func TestEveryCauseHasItsWordsAndItsTest(t *testing.T) {
	for c := CausePolicy; c < CauseUsed; c++ {
		if reasons[c] == "" {
			t.Errorf("cause %d has no reason in words", c)
		}
		found := false
		for i := range tests {
			found = found || tests[i].decided(c)
		}
		if !found {
			t.Errorf("cause %d belongs to no test", c)
		}
	}
}

func TestDurationsHaveAUnit(t *testing.T) {
	for _, c := range []struct {
		seconds float64
		want    string
	}{
		{0, "0 ns"}, {1e-9, "1 ns"}, {4.28e-6, "4.28 µs"}, {999.99e-6, "1000 µs"}, {0.0012, "1.2 ms"}, {0.249993, "250 ms"},
		{1.5, "1.5 s"}, {-0.25, "-250 ms"}, {86400, "86400 s"}, {math.NaN(), "unknown"},
	} {
		if got := duration(c.seconds); got != c.want {
			t.Errorf("%v: got %q, want %q", c.seconds, got, c.want)
		}
	}
}

// FuzzExplain: whatever the numbers, every check has a text and no sentence a hole.
func FuzzExplain(f *testing.F) {
	f.Add(uint8(CauseMajority), 0.25, 1e-3, uint8(255), 3, 2)
	f.Add(uint8(CauseUnreachable), math.Inf(1), math.NaN(), uint8(0), -1, 0)
	f.Fuzz(func(t *testing.T, cause uint8, value, limit float64, reach uint8, agreeing, majority int) {
		v := Verdict{Cause: Cause(cause), Value: value, Limit: limit}
		reason, checks := Explain(&v, Facts{Reach: reach, Distance: value, MaxDistance: limit, Truechimers: agreeing, Majority: majority, Bias: value})
		for _, line := range append(lines(checks), reason) {
			if strings.HasSuffix(line, ": ") || strings.Contains(line, "%!") || !utf8.ValidString(line) {
				t.Errorf("got %q", line)
			}
		}
	})
}

// Who cannot send does not say that the other side is silent.
func TestASourceThatCannotBeAskedSaysWhy(t *testing.T) {
	facts := Facts{SendError: "network is unreachable"}
	for _, v := range []Verdict{{Cause: CauseNoAnswer, Value: 3, Limit: 8}, {Cause: CauseUnreachable, Value: 9, Limit: 8}} {
		reason, checks := Explain(&v, facts)
		if want := "it cannot be asked: network is unreachable"; reason != want {
			t.Errorf("cause %v: got %q, want %q", v.Cause, reason, want)
		}
		if got, want := checks[len(checks)-1].Text, "could not be sent: network is unreachable"; !strings.Contains(got, want) {
			t.Errorf("cause %v: got %q, want %q in it", v.Cause, got, want)
		}
	}
	refusal := Verdict{Cause: CauseUnreachable, Limit: 1}
	if reason, _ := Explain(&refusal, facts); !strings.Contains(reason, "DENY") {
		t.Errorf("refused: got %q, want the refusal", reason)
	}
	used := Verdict{State: model.StateSelected, Cause: CauseUsed}
	if reason, _ := Explain(&used, changed(func(f *Facts) { f.SendError = "x" })); strings.Contains(reason, "asked") {
		t.Errorf("in use: got %q, want that it is the system peer", reason)
	}
}
