package system

import (
	"timeball/internal/model"
	"timeball/internal/selection"
)

// explain returns why a source is or is not used: one sentence, and the chain of
// tests with their numbers, up to the one that decided.
func (s *System) explain(src *source) (string, []model.Check) {
	return selection.Explain(&src.verdict, s.facts(src))
}

// facts are the numbers of the tests that were passed on the way.
func (s *System) facts(src *source) selection.Facts {
	f := selection.Facts{
		Reach: src.status.Reach, Unanswered: src.status.Unanswered, Stratum: src.server.Stratum, Samples: src.filter.Count(),
		MaxDistance: s.cfg.MaxDistance.Seconds(), Truechimers: s.summary.Truechimers, Majority: s.summary.Majority,
		MinSources: s.cfg.MinSources,
	}
	if t := s.tracker(src); f.Samples > 0 && t.Started() {
		f.Distance, f.Bias = src.distance, src.bias.applied
	}
	return f
}
