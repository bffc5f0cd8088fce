package clock

import (
	"time"

	"timeball/internal/ntptime"
)

// pairing leads CLOCK_REALTIME back to the host's oscillator, around the moment at
// which both were read.
type pairing struct {
	pair
	rate ntptime.Frequency // CLOCK_REALTIME against the oscillator, as measured
	prev *pairing          // from before CLOCK_REALTIME was set, nil otherwise
}

const (
	// setBound is the least change of CLOCK_REALTIME − CLOCK_MONOTONIC that counts as
	// being set; both are slewed alike, so it is reading noise otherwise.
	setBound = time.Microsecond
	// timestampAge bounds how old a kernel timestamp is taken to be, timestampAhead how far in the
	// future reading noise may put it.
	timestampAge   = 10 * time.Second
	timestampAhead = time.Millisecond
	// rateSpan is the least time between two pairings that gives a rate: with reading
	// noise of a microsecond it is then good to some ppm.
	rateSpan = 300 * time.Millisecond
)

// set says whether CLOCK_REALTIME has been set since the pairing.
func (p *pairing) set(real, monotonic int64) bool {
	d := time.Duration((real - int64(p.real)) - (monotonic - p.monotonic))
	return d.Abs() > setBound
}

// hostRaw returns the oscillator's reading at a timestamp, given the present CLOCK_REALTIME.
// A timestamp that would be of the future or very old was taken before somebody set it.
func (p *pairing) hostRaw(realtime, now ntptime.Wall) int64 {
	if age := now.Sub(realtime); p.prev != nil && (age < -timestampAhead || age > timestampAge) {
		p = p.prev
	}
	return p.raw + int64(unscale(realtime.Sub(p.real), p.rate))
}

// pair measures and publishes a new pairing. Any goroutine may do so at any time:
// the pairings of a moment are all equally good.
func (s *software) pair() *pairing {
	old := s.paired.Load()
	p := &pairing{pair: readPair(s.host, s.tight), rate: old.rate}
	elapsed, real := time.Duration(p.raw-old.raw), p.real.Sub(old.real)
	switch {
	case old.set(int64(p.real), p.monotonic):
		kept := *old
		kept.prev = nil
		p.prev = &kept
	case elapsed > rateSpan:
		p.rate = boundRate(ntptime.Frequency(float64(real-elapsed) / float64(elapsed)))
	default:
		p.prev = old.prev
	}
	s.paired.Store(p)
	return p
}
