// Package ntptime holds the time values of the protocol and of this host: the
// 64-bit NTP timestamp, the 16.16 short format, log2 exponents, and the two
// scales a moment is read on (disciplined wall time and the raw oscillator).
// All of them are small comparable values; nothing here reads a clock.
package ntptime

import (
	"fmt"
	"time"
)

// unixEpoch is 1 January 1970 in seconds of NTP era 0 (RFC 5905 §6, Figure 4).
const unixEpoch = 2_208_988_800

// Timestamp is the 64-bit NTP timestamp (RFC 5905 §6): 32 bits of seconds since
// the start of an era that the value does not name, and 32 bits of fraction
// (233 ps). It wraps every 136 years, next on 7 February 2036 at 06:28:16 UTC,
// so two of them are only ever subtracted, never compared by size.
type Timestamp uint64

// Seconds returns the seconds since the start of the era.
func (t Timestamp) Seconds() uint32 { return uint32(t >> 32) }

// Fraction returns the fraction of the second in units of 2^-32 s.
func (t Timestamp) Fraction() uint32 { return uint32(t) }

// IsZero reports whether all 64 bits are zero. On the wire that mostly means
// "unknown", although it is also one legal moment of each era.
func (t Timestamp) IsZero() bool { return t == 0 }

// Sub returns t−u, modulo 2^64 and read as signed: right while the two are less
// than 68 years apart, in whatever eras they lie (RFC 5905 §6). The result is
// rounded to the nanosecond.
func (t Timestamp) Sub(u Timestamp) time.Duration {
	d := int64(t - u)
	seconds, fraction := d>>32, uint64(uint32(d))
	return time.Duration(seconds)*time.Second + fractionToNanos(fraction)
}

// Add returns t moved by d, wrapping at the end of the era.
func (t Timestamp) Add(d time.Duration) Timestamp {
	seconds, nanos := floorSeconds(int64(d))
	return t + Timestamp(seconds<<32) + Timestamp(nanosToFraction(nanos))
}

// EarliestTime has passed when this program was written; LatestPivot is half an era later. A
// pivot up to there resolves every timestamp from EarliestTime on to the right era, whatever
// the clock reads (RFC 5905 §6).
var (
	EarliestTime = WallOf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	LatestPivot  = EarliestTime + Wall(time.Second)<<31 - Wall(time.Second)
)

// Wall resolves the era of t: of all the moments that t can mean, the one
// nearest to pivot (RFC 5905 §6, threats 46). Right while t is less than 68
// years away from pivot.
func (t Timestamp) Wall(pivot Wall) Wall {
	return pivot.Add(t.Sub(pivot.Timestamp()))
}

// String prints the two halves in hexadecimal, as ntpq does.
func (t Timestamp) String() string {
	return fmt.Sprintf("%08x.%08x", t.Seconds(), t.Fraction())
}

// fractionToNanos turns 2^-32 s into nanoseconds, rounded to nearest.
func fractionToNanos(fraction uint64) time.Duration {
	return time.Duration((fraction*1_000_000_000 + 1<<31) >> 32)
}

// nanosToFraction turns nanoseconds (0 to 999999999) into 2^-32 s, rounded to nearest.
func nanosToFraction(nanos int64) uint64 {
	return (uint64(nanos)<<32 + 500_000_000) / 1_000_000_000
}

// floorSeconds splits nanoseconds into whole seconds (towards minus infinity)
// and the remaining 0 to 999999999 ns.
func floorSeconds(ns int64) (seconds, nanos int64) {
	seconds, nanos = ns/1_000_000_000, ns%1_000_000_000
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1_000_000_000
	}
	return seconds, nanos
}
