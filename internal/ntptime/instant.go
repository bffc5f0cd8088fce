package ntptime

import (
	"math"
	"time"
)

// Wall is a moment of civil time (UTC as POSIX counts it) in nanoseconds since
// 1 January 1970. Unlike a Timestamp it names its era; it reaches from 1678 to 2262.
type Wall int64

// WallOf converts a time.Time.
func WallOf(t time.Time) Wall { return Wall(t.UnixNano()) }

// Time converts to a time.Time in UTC.
func (w Wall) Time() time.Time { return time.Unix(0, int64(w)).UTC() }

// Add returns w moved by d.
func (w Wall) Add(d time.Duration) Wall { return w + Wall(d) }

// Sub returns w−v.
func (w Wall) Sub(v Wall) time.Duration { return time.Duration(w - v) }

// Timestamp returns the wire form of w; the era is lost.
func (w Wall) Timestamp() Timestamp {
	seconds, nanos := floorSeconds(int64(w))
	return Timestamp(uint64(seconds+unixEpoch)<<32) + Timestamp(nanosToFraction(nanos))
}

// Raw is a reading of the free-running oscillator in its own nanoseconds since an
// origin that lasts as long as the process. Nobody steps or slews it, so filter
// state and timers live on this scale and survive corrections of the clock.
type Raw int64

// Never is later than every deadline.
const Never Raw = math.MaxInt64

// Add returns r moved by d; it stays at Never instead of wrapping.
func (r Raw) Add(d time.Duration) Raw {
	if d > 0 && r > Never-Raw(d) {
		return Never
	}
	return r + Raw(d)
}

// Sub returns r−q.
func (r Raw) Sub(q Raw) time.Duration { return time.Duration(r - q) }

// Instant is one moment read on both of this host's scales: the disciplined time
// that goes on the wire, and the raw oscillator underneath it.
type Instant struct {
	Wall Wall
	Raw  Raw
}

// Timestamp returns the disciplined reading in wire form.
func (i Instant) Timestamp() Timestamp { return i.Wall.Timestamp() }
