package netio

import (
	"time"

	"timeball/internal/ntptime"
)

// started is the origin of the system clock's raw scale.
var started = time.Now()

// orSystem fills in what is missing with the system's clock as it is.
func (c Clock) orSystem() Clock {
	if c.Now == nil && c.At == nil {
		c.Now, c.At = systemNow, systemAt
	}
	if c.AtLatest == nil {
		c.AtLatest = c.At
	}
	return c
}

// systemAt is systemNow at a timestamp of the kernel. The clocks are read once: a preemption
// between two readings would count as age.
func systemAt(realtime ntptime.Wall) ntptime.Instant {
	now := systemNow()
	return ntptime.Instant{Wall: realtime, Raw: now.Raw.Add(-now.Wall.Sub(realtime))}
}

// systemNow reads the system's clock; Go's monotonic time serves as the raw scale.
func systemNow() ntptime.Instant {
	now := time.Now()
	return ntptime.Instant{Wall: ntptime.WallOf(now), Raw: ntptime.Raw(now.Sub(started))}
}
