package netio

import (
	"time"

	"timeball/internal/ntptime"
)

// started is the origin of the system clock's raw scale.
var started = time.Now()

// orSystem fills in what is missing with the system's clock as it is.
func (c Clock) orSystem() Clock {
	if c.Now == nil {
		c.Now = systemNow
	}
	if c.At == nil {
		now := c.Now
		c.At = func(realtime ntptime.Wall) ntptime.Instant {
			at := now()
			age := time.Since(realtime.Time())
			return ntptime.Instant{Wall: at.Wall.Add(-age), Raw: at.Raw.Add(-age)}
		}
	}
	if c.AtLatest == nil {
		c.AtLatest = c.At
	}
	return c
}

// systemNow reads the system's clock; Go's monotonic time serves as the raw scale.
func systemNow() ntptime.Instant {
	now := time.Now()
	return ntptime.Instant{Wall: ntptime.WallOf(now), Raw: ntptime.Raw(now.Sub(started))}
}
