package selection

import (
	"fmt"
	"math"
	"math/bits"

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
	SendError                         string  // why the last request could not be sent, "": it was
	Refused                           string  // why its answers are refused, and what to do; "": none is
	RefusedNow                        bool    // so it was within the last eight polls
	Device                            string  // why a reference clock gave no sample in the last poll; "": it did
	Network                           string  // what the network said of the last request; "": nothing
}

// Explain returns the reason in words, and the tests that applied, with their
// numbers, up to the one that decided. The text of a test that was passed is what
// was found; that of the one that failed also says what would change the verdict.
func Explain(v *Verdict, f Facts) (string, []model.Check) {
	checks := make([]model.Check, 0, len(tests))
	for i := range tests {
		t := &tests[i]
		failed := t.decided(v.Cause)
		if !failed && (t.passed == nil || t.passed(&f) == "") {
			continue // it was not put to this source
		}
		c := model.Check{Name: t.name, Unit: t.unit, Passed: !failed}
		c.Value, c.Limit = f.numbers(t.name)
		if failed {
			if t.unit != "" && v.Cause != CauseInconsistent { // that one has no numbers of its own
				c.Value, c.Limit = v.Value, v.Limit
			}
			c.Text = t.failed(v, &f)
		} else {
			c.Text = t.passed(&f)
		}
		checks = append(checks, c)
		if failed {
			break
		}
	}
	if f.SendError != "" && (v.Cause == CauseNoAnswer || v.Cause == CauseUnreachable) && !refused(v) {
		return "it cannot be asked: " + f.SendError, checks
	}
	return f.reason(v), checks
}

// reason is the outcome in a few words. Of a source that gives no sample it says that its
// answers are refused, or what the network says, where that is known: silence is neither.
func (f *Facts) reason(v *Verdict) string {
	silent := v.Cause == CauseNoAnswer || v.Cause == CauseUnreachable
	switch {
	case refused(v) || !silent && v.Cause != CauseNoSample:
	case f.Device != "":
		return f.Device
	case f.Refused != "" && (f.RefusedNow || !silent):
		return f.Refused
	case f.Refused != "":
		return reason(v) + "; before that " + f.Refused
	case f.Network != "" && silent:
		return reason(v) + ": " + f.Network
	}
	return reason(v)
}

// test is one of the chain, with the causes that stand for its failure.
type test struct {
	name, unit string
	causes     [2]Cause
	passed     func(f *Facts) string             // nil or "": where it is not the one that decided, it did not apply
	failed     func(v *Verdict, f *Facts) string // also what would change the verdict
}

// decided says whether a cause is this test's failure.
func (t *test) decided(c Cause) bool {
	return c != CauseNone && c != CauseUsed && (c == t.causes[0] || c == t.causes[1])
}

// always is the text of a test without numbers.
func always(text string) func(*Verdict, *Facts) string {
	return func(*Verdict, *Facts) string { return text }
}

// tests are the chain in its order.
var tests = [...]test{
	{"policy", "", [2]Cause{CausePolicy}, nil,
		always("no_select is set; it would be used without that option")},
	{"loop", "", [2]Cause{CauseLoop}, nil,
		always("it takes its time from this host, so to follow it would be a loop; it would be used once it follows somebody else")},
	{"orphan", "stratum", [2]Cause{CauseOrphan}, nil, failedOrphan},
	{"reachable", "polls", [2]Cause{CauseNoAnswer, CauseUnreachable}, passedReachable, failedReachable},
	{"synchronized", "stratum", [2]Cause{CauseUnsync}, passedSynchronized, failedSynchronized},
	{"measured", "samples", [2]Cause{CauseNoSample}, func(f *Facts) string { return plural(f.Samples, "sample", "samples") },
		failedMeasured},
	{"distance", "s", [2]Cause{CauseDistance}, passedDistance, failedDistance},
	{"fallback", "", [2]Cause{CauseFallback}, nil,
		always("it is a fallback, and other sources are in use; it would be used if none of them were")},
	{"smear", "", [2]Cause{CauseSmear}, nil,
		always("it spreads a leap second over hours, and others tell UTC: they are never mixed; it would be used if more sources smeared than not")},
	{"no smear", "", [2]Cause{CauseNoSmear}, nil,
		always("it tells UTC, and more of the others spread a leap second over hours: they are never mixed; it would be used if no more sources smeared than not")},
	{"majority", "sources", [2]Cause{CauseNoMajority}, passedMajority, failedMajority},
	{"agreement", "s", [2]Cause{CauseMajority, CauseProbation}, passedAgreement, failedAgreement},
	{"min_sources", "sources", [2]Cause{CauseMinimum}, passedMinimum, failedMinimum},
	{"require", "", [2]Cause{CauseRequired}, nil,
		always("no source with `require` agrees; it would be used once one does")},
	{"prefer", "", [2]Cause{CauseNotPreferred}, nil,
		always("sources with `prefer` agree and are used alone; it would be used with `prefer` too, or if none of them agreed")},
	{"crowd", "sources", [2]Cause{CauseCrowd}, nil,
		always(fmt.Sprintf("%d nearer sources are used already; it would be used in the place of one of them", MaxCombined))},
	{"consistency", "s", [2]Cause{CauseInconsistent}, passedConsistency,
		always("its offset moves away from the others'; it would be used again once it stays where they are")},
}

func failedOrphan(v *Verdict, _ *Facts) string {
	return fmt.Sprintf("stratum %.0f, an orphan: a server without a source; it would be used if no source had the time and its address were the lowest of the orphans'",
		v.Value)
}

// pollsKept is the width of the reachability register (RFC 5905 §13).
const pollsKept = 8

func passedReachable(f *Facts) string {
	if f.Reach == 0 { // the register was cleared, the measurements were kept
		return fmt.Sprintf("asked anew, %s unanswered; unreachable from %d on", plural(f.Unanswered, "poll", "polls"), pollsKept)
	}
	return fmt.Sprintf("%d of the last %d polls answered", bits.OnesCount8(f.Reach), pollsKept)
}

func failedReachable(v *Verdict, f *Facts) string {
	switch {
	case refused(v):
		return "it answered DENY or RSTR, so it is not asked any more; it would be used if it let this host in and timeball were restarted"
	case f.Device != "":
		return plural(f.Unanswered, "poll", "polls") + " without a sample: " + f.Device + "; one sample is enough to be judged"
	case f.SendError != "":
		return "the last request could not be sent: " + f.SendError + "; one answer is enough to be judged"
	case f.Refused != "" && f.RefusedNow:
		return f.Refused + "; one answer that passes the packet tests is enough to be judged"
	case f.Refused != "":
		return unanswered(v) + ", and before that " + f.Refused
	case f.Network != "":
		return unanswered(v) + ": " + f.Network + "; one answer is enough to be judged"
	case v.Cause == CauseNoAnswer && v.Value == 0:
		return "no poll has been sent and waited for yet; one answer is enough"
	case v.Cause == CauseNoAnswer:
		return fmt.Sprintf("%s unanswered, unreachable from %.0f on; one answer is enough", plural(int(v.Value), "poll", "polls"), v.Limit)
	}
	return unanswered(v) + "; one answer is enough to be judged again"
}

// refused says whether the server wants no packets from us (RFC 5905 §7.4): it has
// then no number of polls as its limit.
func refused(v *Verdict) bool { return v.Cause == CauseUnreachable && v.Limit < pollsKept }

func unanswered(v *Verdict) string {
	if v.Cause == CauseNoAnswer {
		return plural(int(v.Value), "poll", "polls") + " unanswered"
	}
	return fmt.Sprintf("no answer to the last %.0f polls", math.Max(v.Value, pollsKept))
}

func failedMeasured(_ *Verdict, f *Facts) string {
	text := "no sample yet; it would be judged after one answer that passes the packet tests"
	if f.Refused != "" {
		return text + ": " + f.Refused
	}
	return text + " (`timeball associations` counts those refused)"
}

func passedSynchronized(f *Facts) string {
	return fmt.Sprintf("stratum %d, not synchronized from %d on", f.Stratum, wire.MaxStratum)
}

func failedSynchronized(v *Verdict, _ *Facts) string {
	return says(v) + "; it would be used once it has the time itself"
}

// says is how a server tells that it has no time.
func says(v *Verdict) string {
	if v.Value > 0 && v.Value < wire.MaxStratum {
		return fmt.Sprintf("leap indicator 3 (not synchronized), stratum %.0f", v.Value)
	}
	return fmt.Sprintf("stratum %.0f (not synchronized)", v.Value)
}

func passedDistance(f *Facts) string {
	return fmt.Sprintf("%s, limit %s", duration(f.Distance), duration(f.MaxDistance))
}

func failedDistance(v *Verdict, _ *Facts) string {
	return fmt.Sprintf("%s, limit %s; it would be used once its root distance is below that, or with a larger selection.max_distance",
		duration(v.Value), duration(v.Limit))
}

func passedMajority(f *Facts) string {
	switch {
	case f.Majority <= 1:
		return "1 source has a vote, so 1 is enough"
	case f.Truechimers < f.Majority: // the rest has only just begun to agree
		return fmt.Sprintf("%s, %d needed, those on probation counted", agree(f.Truechimers), f.Majority)
	}
	return fmt.Sprintf("%s, %d are needed", agree(f.Truechimers), f.Majority)
}

func failedMajority(v *Verdict, _ *Facts) string {
	return fmt.Sprintf("%s, %.0f have to; it would be used if more agreed with it, or with `trust` on the sources known to be right", largest(v), v.Limit)
}

// largest is the size of the largest group that agrees.
func largest(v *Verdict) string {
	if v.Value <= 1 {
		return "no two sources agree"
	}
	return fmt.Sprintf("no more than %.0f sources agree", v.Value)
}

func passedAgreement(f *Facts) string {
	if f.Majority <= 1 && f.Truechimers <= 1 {
		return "" // nobody to agree with
	}
	return fmt.Sprintf("its offset ± %s meets what the majority allows", duration(f.Distance))
}

func failedAgreement(v *Verdict, _ *Facts) string {
	if v.Cause == CauseProbation {
		return fmt.Sprintf("it agrees again, %.0f selections in a row; it would be used from the %dth on", v.Value, probation)
	}
	return fmt.Sprintf("its offset, %s ± %s from what the majority allows, misses it by %s; it would be used again after agreeing %d selections in a row",
		signed(v.Value), duration(v.Limit), duration(math.Abs(v.Value)-v.Limit), probation)
}

func passedMinimum(f *Facts) string {
	if f.MinSources <= 1 {
		return "" // met by any source that agrees
	}
	return fmt.Sprintf("%s, selection.min_sources is %d", agree(f.Truechimers), f.MinSources)
}

func failedMinimum(v *Verdict, _ *Facts) string {
	return fmt.Sprintf("%s, selection.min_sources is %.0f; it would be used once %.0f agree, or with a smaller selection.min_sources",
		agree(int(v.Value)), v.Limit, v.Limit)
}

func passedConsistency(f *Facts) string {
	switch {
	case f.Bias != 0:
		return fmt.Sprintf("%s against the others, steady: taken off its measurements", signed(f.Bias))
	case f.Truechimers > 2:
		return "its offset keeps with the others'"
	}
	return "" // of two, nobody can say which one moves
}

// reasons say the outcome in words, where there is no number to it.
var reasons = map[Cause]string{
	CauseFallback: "a fallback: other sources are in use",
	CauseSmear:    "smearing: it spreads a leap second over hours, and other sources do not",
	CauseNoSmear:  "not smearing: more of the other sources spread a leap second over hours",
	CausePolicy:   "excluded by configuration (no_select)", CauseLoop: "excluded: loop, it takes its time from this host",
	CauseOrphan:   "excluded: another orphan server, not the one to follow",
	CauseNoAnswer: "waiting for its first answer", CauseUnreachable: "no answer",
	CauseUnsync: "it says itself that it is not synchronized", CauseNoSample: "waiting for its first measurement",
	CauseDistance: "root distance beyond max_distance", CauseMajority: "it disagrees with the majority",
	CauseNoMajority: "no majority of the sources agrees", CauseProbation: "it agrees again, but not for long enough yet",
	CauseMinimum: "fewer sources agree than selection.min_sources", CauseRequired: "no required source agrees",
	CauseNotPreferred: "agrees, but others are preferred", CauseCrowd: "agrees, but ten nearer sources are combined",
	CauseInconsistent: "its offset runs away from the others'", CauseNone: "not judged yet",
}

// reason is the outcome in a few words, with the number that decided.
func reason(v *Verdict) string {
	switch v.State {
	case model.StateSelected:
		return "system peer: the nearest of those that agree"
	case model.StateCombined:
		return "agrees, and is combined with the others"
	}
	words := reasons[v.Cause]
	switch v.Cause {
	case CauseUnreachable:
		if refused(v) {
			return "it refused us (DENY or RSTR)"
		}
		return unanswered(v)
	case CauseNoAnswer:
		if v.Value > 0 {
			return fmt.Sprintf("%s: %s unanswered", words, plural(int(v.Value), "poll", "polls"))
		}
	case CauseUnsync:
		return words + ": " + says(v)
	case CauseMajority:
		return fmt.Sprintf("%s: %s ± %s outside of what it allows", words, signed(v.Value), duration(v.Limit))
	case CauseDistance:
		return fmt.Sprintf("%s: %s, limit %s", words, duration(v.Value), duration(v.Limit))
	case CauseNoMajority, CauseMinimum, CauseProbation:
		return fmt.Sprintf("%s: %.0f of %.0f", words, v.Value, v.Limit)
	}
	return words
}

// numbers are those of a test that was passed.
func (f *Facts) numbers(name string) (value, limit float64) {
	switch name {
	case "reachable":
		return float64(f.Unanswered), pollsKept
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

// agree is "1 source agrees", "3 sources agree".
func agree(n int) string { return plural(n, "source agrees", "sources agree") }

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// signed is a time in seconds with its sign and unit.
func signed(seconds float64) string {
	if seconds >= 0 {
		return "+" + duration(seconds)
	}
	return duration(seconds)
}

// duration is a time in seconds with four digits and the unit that leaves one to
// three before the point: 4.28 µs, 1.5 s.
func duration(seconds float64) string {
	magnitude := math.Abs(seconds)
	switch {
	case math.IsNaN(seconds):
		return "unknown"
	case magnitude < 1e-6:
		return fmt.Sprintf("%.0f ns", seconds*1e9)
	case magnitude < 1e-3:
		return fmt.Sprintf("%.4g µs", seconds*1e6)
	case magnitude < 1:
		return fmt.Sprintf("%.4g ms", seconds*1e3)
	case magnitude < 1e3:
		return fmt.Sprintf("%.4g s", seconds)
	}
	return fmt.Sprintf("%.6g s", seconds)
}
