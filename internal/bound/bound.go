// Package bound says between which two moments UTC lies: the promise that programs get.
package bound

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Status says how far an error bound can be relied on.
type Status string

// The statuses.
const (
	Synchronized Status = "synchronized" // UTC is within the bound
	FreeRunning  Status = "free-running" // so it is, without a source: the bound grows
	Unknown      Status = "unknown"      // nothing is known: use nothing of it
)

// StatusOf is the status of a snapshot's error bound. After somebody has set the clock, or
// the machine slept, nothing is known until a source has been measured again.
func StatusOf(s *model.Snapshot) Status {
	switch disrupted := s.Disruptions > 0 && s.LastUpdate.Raw <= s.LastDisruption.Raw; {
	case s.Updates == 0 || disrupted:
		return Unknown
	case s.State == model.DisciplineHoldover, s.State == model.DisciplineLocal:
		return FreeRunning
	case s.Synchronized:
		return Synchronized
	}
	return Unknown
}

// Now is the report of `timeball now`, and the answer of /now: UTC lies between Earliest
// and Latest, unless Status is unknown.
type Now struct {
	Earliest            float64 `json:"earliest"` // s since 1970
	Latest              float64 `json:"latest"`
	EarliestNanoseconds int64   `json:"earliest_ns"` // the same to the nanosecond
	LatestNanoseconds   int64   `json:"latest_ns"`
	Error               float64 `json:"error"` // half of what lies between
	Status              Status  `json:"status"`
}

// Growth is what root dispersion and error bound have grown by since the snapshot
// was made (RFC 5905 §11.2.3: by PHI, or by what the estimator says).
func Growth(s *model.Snapshot, now ntptime.Instant) time.Duration {
	return max(0, s.DispersionRate.Over(max(0, now.Raw.Sub(s.At.Raw))))
}

// At is the time at now, of our disciplined clock.
func At(s *model.Snapshot, now ntptime.Instant) Now {
	bound := s.ErrorBound + Growth(s, now) + time.Nanosecond
	earliest, latest := now.Wall.Add(-bound), now.Wall.Add(bound)
	return Now{
		Earliest: seconds(earliest), Latest: seconds(latest),
		EarliestNanoseconds: int64(earliest), LatestNanoseconds: int64(latest),
		Error: bound.Seconds(), Status: StatusOf(s),
	}
}

func seconds(w ntptime.Wall) float64 { return float64(w) / 1e9 }
