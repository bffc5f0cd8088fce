package system

import (
	"fmt"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/selection"
	"timeball/internal/siv"
)

// shown is the verdict on a source for reports. Of one that is silent, or was not judged
// yet, it is that of now: no selection is run only to count unanswered polls.
func (s *System) shown(now ntptime.Instant, src *source) selection.Verdict {
	switch src.verdict.Cause {
	case selection.CauseNone, selection.CauseNoAnswer, selection.CauseUnreachable:
		if v := selection.Alone(s.candidate(now.Raw, src), s.policy()); v.Cause != selection.CauseNone {
			return v
		}
	}
	return src.verdict
}

// securityCheck is how far a source with NTS (RFC 8915) has come: the test before all others.
func securityCheck(now ntptime.Raw, st *model.Security) model.Check {
	c := model.Check{Name: "nts", Value: float64(st.Cookies), Limit: 1, Unit: "cookies", Passed: st.Cookies > 0}
	again := ""
	if wait := st.Next.Sub(now); wait > 0 && st.State != model.KeysSought {
		again = "; another one in " + wait.Round(time.Second).String()
	}
	switch {
	case st.Undated:
		c.Text = "the dates of its certificate could not be checked, since the clock was not set: only with a majority of such sources it may set the clock"
	case c.Passed:
		c.Text = fmt.Sprintf("%d cookies left, %v", st.Cookies, siv.Algorithm(st.Algorithm))
		if st.Expires != 0 {
			c.Text += ", certificate until " + st.Expires.Time().Format(time.DateOnly)
		}
	case st.FailureKind != "":
		c.Text = fmt.Sprintf("no keys: the key exchange failed (%s): %s%s", st.FailureKind, st.Failure, again)
	case st.State == model.KeysSought:
		c.Text = "a key exchange is under way"
	default:
		c.Text = "no keys yet" + again
	}
	return c
}

// facts are the numbers of the tests that were passed on the way.
func (s *System) facts(src *source) selection.Facts {
	f := selection.Facts{
		Reach: src.status.Reach, Unanswered: src.status.Unanswered, Stratum: src.server.Stratum, Samples: src.filter.Count(),
		MaxDistance: s.cfg.MaxDistance.Seconds(), Truechimers: s.summary.Truechimers, Majority: s.summary.Majority,
		MinSources: s.policy().MinSources, SendError: src.status.SendError, Device: src.status.Waiting,
		Refused: src.status.Refused(), RefusedNow: src.status.Refusals.Recent(), Network: src.status.Network,
	}
	if t := s.tracker(src); f.Samples > 0 && t.Started() {
		f.Distance, f.Bias = src.distance, src.bias.applied
	}
	return f
}
