package selection

import (
	"fmt"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// Facts are the numbers behind the tests that a source went through.
type Facts struct {
	Reach                             uint8
	Unanswered                        int
	Stratum                           uint8
	Samples                           int
	Distance, MaxDistance             float64 // s
	Truechimers, Majority, MinSources int
	Bias                              float64 // s, taken off its measurements
}

// tests are the chain in its order, each with the cause that stands for its
// failure and what would change the verdict.
var tests = [...]struct {
	name   string
	unit   string
	causes [2]Cause
	text   string
}{
	{"policy", "", [2]Cause{CausePolicy}, "excluded by no_select; remove that option to use it"},
	{"loop", "", [2]Cause{CauseLoop}, "its reference is this host: it follows us, and following it would be a loop"},
	{"orphan", "stratum", [2]Cause{CauseOrphan}, "of several servers without a source, the one with the lowest address is followed, and none while there is a true source"},
	{"reachable", "polls", [2]Cause{CauseNoAnswer, CauseUnreachable}, "it has to answer one of eight polls"},
	{"synchronized", "stratum", [2]Cause{CauseUnsync}, "it has to be synchronized itself (leap below 3, stratum below 16)"},
	{"measured", "samples", [2]Cause{CauseNoSample}, "it has to pass the packet tests once"},
	{"distance", "s", [2]Cause{CauseDistance}, "root distance has to be below selection.max_distance"},
	{"majority", "sources", [2]Cause{CauseNoMajority}, "more than half of the sources have to agree"},
	{"agreement", "s", [2]Cause{CauseMajority, CauseProbation}, "its interval has to meet the one on which the majority agrees"},
	{"min_sources", "sources", [2]Cause{CauseMinimum}, "selection.min_sources have to agree"},
	{"require", "", [2]Cause{CauseRequired}, "a source with `require` has to be among those that agree"},
	{"prefer", "", [2]Cause{CauseNotPreferred}, "sources with `prefer` agree and are used alone"},
	{"crowd", "sources", [2]Cause{CauseCrowd}, "the nearest ten are combined"},
	{"consistency", "s", [2]Cause{CauseInconsistent}, "its offset must not run away from the others'"},
}

// reasons say the outcome in words.
var reasons = map[Cause]string{
	CausePolicy: "excluded by configuration (no_select)", CauseLoop: "excluded: loop, it is synchronized to this host",
	CauseOrphan:   "excluded: another orphan server, not the one to follow",
	CauseNoAnswer: "waiting for its first answer", CauseUnreachable: "no answer to the last eight polls",
	CauseUnsync: "it says itself that it is not synchronized", CauseNoSample: "waiting for its first measurement",
	CauseDistance: "root distance beyond max_distance", CauseMajority: "it disagrees with the majority",
	CauseNoMajority: "no majority of the sources agrees", CauseProbation: "it agrees again, but not for long enough yet",
	CauseMinimum: "fewer sources agree than min_sources", CauseRequired: "no required source agrees",
	CauseNotPreferred: "agrees, but others are preferred", CauseCrowd: "agrees, but ten nearer sources are combined",
	CauseInconsistent: "its offset runs away from the others'", CauseNone: "not judged yet",
}

// Explain returns the reason in words, and the tests with their numbers up to
// the one that decided.
func Explain(v *Verdict, f Facts) (string, []model.Check) {
	checks := make([]model.Check, 0, len(tests))
	for i := range tests {
		t := &tests[i]
		failed := v.Cause != CauseNone && v.Cause != CauseUsed && (v.Cause == t.causes[0] || v.Cause == t.causes[1])
		c := model.Check{Name: t.name, Unit: t.unit, Passed: !failed, Text: t.text}
		c.Value, c.Limit = f.numbers(t.name)
		if failed {
			c.Value, c.Limit = v.Value, v.Limit
		}
		checks = append(checks, c)
		if failed {
			break
		}
	}
	return reason(v), checks
}

func reason(v *Verdict) string {
	switch v.State {
	case model.StateSelected:
		return "system peer: the nearest of those that agree"
	case model.StateCombined:
		return "agrees, and is combined with the others"
	}
	switch v.Cause {
	case CauseMajority:
		return fmt.Sprintf("%s: %+.6f s outside of what the majority allows", reasons[v.Cause], v.Value)
	case CauseDistance:
		return fmt.Sprintf("%s: %.6f s, limit %.3f s", reasons[v.Cause], v.Value, v.Limit)
	case CauseMinimum:
		return fmt.Sprintf("%s: %.0f of %.0f", reasons[v.Cause], v.Value, v.Limit)
	}
	return reasons[v.Cause]
}

// numbers are those of a test that was passed.
func (f *Facts) numbers(name string) (value, limit float64) {
	switch name {
	case "reachable":
		return float64(f.Unanswered), 8
	case "synchronized":
		return float64(f.Stratum), wire.MaxStratum
	case "measured":
		return float64(f.Samples), 1
	case "distance":
		return f.Distance, f.MaxDistance
	case "majority":
		return float64(f.Truechimers), float64(f.Majority)
	case "agreement":
		return 0, f.Distance
	case "min_sources":
		return float64(f.Truechimers), float64(f.MinSources)
	case "consistency":
		return f.Bias, 0
	}
	return 0, 0
}
