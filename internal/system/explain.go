package system

import (
	"timeball/internal/ntptime"
	"timeball/internal/selection"
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
