// Package smear spreads a leap second over hours: a smeared clock runs a little slow (or
// fast) around it, so that it never repeats or leaves out a second. Public clouds do so
// from noon to noon, linearly; a cosine changes its rate without a jump.
package smear

import (
	"math"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Shape is how the second is spread.
type Shape uint8

// The shapes.
const (
	Linear Shape = iota
	Cosine
)

// DefaultWindow is what the clouds use: noon to noon.
const DefaultWindow = 24 * time.Hour

// Smear is one leap second, spread. The zero value spreads none.
type Smear struct {
	Leap   ntptime.Wall // first moment after the leap second; 0: there is none
	Delete bool         // a second is left out, rather than inserted
	Window time.Duration
	Shape  Shape
}

// Active reports whether smeared time differs from UTC at w.
func (s *Smear) Active(w ntptime.Wall) bool {
	return s.Leap != 0 && w.Sub(s.Leap).Abs() < s.Window/2
}

// sign is what the leap second adds to a day, in seconds.
func (s *Smear) sign() float64 {
	if s.Delete {
		return -1
	}
	return 1
}

// Offset is smeared time − UTC at w, in the window; after says that UTC has made the leap
// second, which w alone does not tell: an inserted second has the same numbers as the one
// before it. It is between −0.5 s and 0.5 s.
//
//	before:  −sign·f(e)         e = w − start
//	after:   sign·(1 − f(e))    e = w − start + sign
//
// where e is the time since the window's start, which lasts Window + sign, and f goes
// from 0 to 1.
func (s *Smear) Offset(w ntptime.Wall, after bool) time.Duration {
	if s.Leap == 0 || s.Window <= 0 {
		return 0
	}
	sign := s.sign()
	length := s.Window.Seconds() + sign
	elapsed := w.Sub(s.Leap.Add(-s.Window / 2)).Seconds()
	if after {
		elapsed += sign
	}
	share := math.Min(math.Max(elapsed/length, 0), 1)
	if s.Shape == Cosine {
		share = (1 - math.Cos(math.Pi*share)) / 2
	}
	offset := -sign * share
	if after {
		offset += sign
	}
	return time.Duration(math.Round(offset * 1e9))
}

// referenceNet is the first byte of the reference ids that servers of smeared time give
// since ntpd 4.2.8: 254, and the offset in 22 bits of fraction behind 2 of seconds.
const referenceNet = 254

// ReferenceID is what a server shows while it smears, so that clients can tell.
func ReferenceID(offset time.Duration) wire.ReferenceID {
	bits := uint32(int32(math.Round(offset.Seconds()*(1<<22)))) & 0xffffff
	return wire.ReferenceID(referenceNet<<24 | bits)
}

// chronySmoothed is the reference id of chronyd's smoothed time, 127.127.1.255; it shows
// it as long as smoothtime is configured and the time is not that of the clock.
const chronySmoothed wire.ReferenceID = 127<<24 | 127<<16 | 1<<8 | 255

// Tells reports whether a server says by its reference id that its time is smeared. No
// reference clock has a name that begins so.
func Tells(id wire.ReferenceID) bool { return id>>24 == referenceNet || id == chronySmoothed }
