package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// maxDispersion is MAXDISP of RFC 5905 Figure 7: what a header must stay under.
const maxDispersion = 16 * time.Second

// frequencyTolerance is how far two clocks may drift apart while an exchange lasts:
// the bound of any usable oscillator (RFC 5905 Figure 27: MAXFREQ), not yet corrected.
const frequencyTolerance = 500 * ntptime.PPM

// coarsestPrecision is what a clock may claim at worst (RFC 5905 §7.3: a clock that
// ticks at 60 Hz); coarser claims would excuse anything.
const coarsestPrecision = ntptime.Log2(-6)

// roundTrip is the delay of an exchange: (T4−T1)−(T3−T2) (RFC 5905 §8), ours taken on
// the oscillator's scale, which no step disturbs.
func roundTrip(s *model.Sample) time.Duration {
	return s.T4.Raw.Sub(s.T1.Raw) - s.T3.Sub(s.T2)
}

// testDelay refuses a sample that no path explains: a round trip over max_delay
// (threat 24), or one negative beyond what the precision of the stamps and the drift
// between the clocks allow.
func (a *Association) testDelay(s *model.Sample) model.RejectReason {
	lasted := s.T4.Raw.Sub(s.T1.Raw)
	if lasted < 0 {
		return model.RejectDelay // our own stamps are out of order
	}
	delay := roundTrip(s)
	drift := frequencyTolerance.Over(lasted)
	tolerance := min(s.Server.Precision, coarsestPrecision).Duration() + min(a.system.Precision, coarsestPrecision).Duration() + drift
	if delay < -tolerance {
		return model.RejectDelay
	}
	if a.cfg.MaxDelay > 0 && delay-drift > a.cfg.MaxDelay {
		return model.RejectDelay
	}
	return model.RejectNone
}
