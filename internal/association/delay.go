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

// timestampNoise is the least that timestamps may be wrong together, however fine the clocks
// claim to tick: a timestamp is taken a few microseconds beside the packet's passing, a
// transmit field set ahead foresees the moment of sending only so well, and on a
// busy host both get worse. Short paths, the loopback above all, look negative then.
// No more than this: what an attacker could shift by it is half of it.
const timestampNoise = 20 * time.Microsecond

// roundTrip is the delay of an exchange: (T4−T1)−(T3−T2) (RFC 5905 §8), ours taken on
// the oscillator's scale, which no step disturbs.
func roundTrip(s *model.Sample) time.Duration {
	return s.T4.Raw.Sub(s.T1.Raw) - s.T3.Sub(s.T2)
}

// precision is what the ticks of both clocks leave open in a round trip.
func (a *Association) precision(s *model.Sample) time.Duration {
	return min(s.Server.Precision, coarsestPrecision).Duration() + min(a.system.Precision, coarsestPrecision).Duration()
}

// dispersion is how far the timestamps of a sample may be off, given the precision that
// the source claims (RFC 5905 §8: s.rho + r.rho). Nothing excuses a claim here: a source
// that ticks coarsely says so, and is believed to be as wrong as that.
func (a *Association) dispersion(source ntptime.Log2) time.Duration {
	own := a.system.Precision
	if own == 0 { // not known
		own = finestPrecision
	}
	return min(source, coarsestDispersion).Duration() + own.Duration()
}

const (
	coarsestDispersion = ntptime.Log2(10) // 1024 s: nobody follows such a source, and no sum overflows
	finestPrecision    = ntptime.Log2(-29)
)

// testDelay refuses a sample that no path explains: a round trip over max_delay
// (threat 24), or one negative beyond what the noise and precision of the timestamps and the
// drift between the clocks allow. Within that it is a short path's, and whoever works
// with it takes it as no less than nothing (RFC 5905 §8).
func (a *Association) testDelay(s *model.Sample) model.RejectReason {
	lasted := s.T4.Raw.Sub(s.T1.Raw)
	if lasted < 0 {
		return model.RejectDelay // our own timestamps are out of order
	}
	delay := roundTrip(s)
	drift := frequencyTolerance.Over(lasted)
	if delay < -max(timestampNoise, a.precision(s))-drift {
		return model.RejectDelay
	}
	if a.cfg.MaxDelay > 0 && delay-drift > a.cfg.MaxDelay {
		return model.RejectDelay
	}
	return model.RejectNone
}
