package association

import (
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// synchronized says whether we have time to give.
func (a *Association) synchronized() bool {
	return a.system.Synchronized && !a.system.Unsteady && a.system.Leap != wire.LeapUnknown &&
		a.system.Stratum >= wire.StratumPrimary && a.system.Stratum < wire.MaxStratum
}

// header is our own state as modes 1, 2 and 5 carry it (RFC 5905 §7.3): leap 3 and
// stratum 0 while we have no time; root dispersion grown up to now; the reference
// time never after the transmit time, which has random bits of its own.
func (a *Association) header(now ntptime.Instant, mode wire.Mode) wire.Header {
	h := wire.Header{Leap: wire.LeapUnknown, Version: a.cfg.Version, Mode: mode, Precision: a.system.Precision,
		Transmit: a.uniqueTimestamp(ntptime.Instant{Wall: now.Wall.Add(a.latency.least()), Raw: now.Raw})}
	s := &a.system
	if s.At.Raw != 0 || s.RootDispersion > 0 {
		grown := s.DispersionRate.Over(max(now.Raw.Sub(s.At.Raw), 0))
		h.RootDelay, h.RootDispersion = ntptime.ShortOf(s.RootDelay), ntptime.ShortOf(s.RootDispersion+grown)
	}
	if !a.synchronized() {
		return h
	}
	h.Leap, h.Stratum, h.ReferenceID = s.Leap, s.Stratum, s.ReferenceID
	if s.ReferenceTime != 0 {
		h.ReferenceTime = s.ReferenceTime.Timestamp()
		if int64(h.ReferenceTime-h.Transmit) > 0 { // modulo 2^64, to the last bit
			h.ReferenceTime = h.Transmit
		}
	}
	return h
}
