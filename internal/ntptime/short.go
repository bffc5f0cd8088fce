package ntptime

import (
	"math"
	"math/bits"
	"time"
)

// Short is the 32-bit short format (RFC 5905 §6): 16 bits of seconds and 16 of
// fraction, unsigned. Root delay and root dispersion travel in it.
type Short uint32

// MaxShort is the largest value, a little under 65536 s.
const MaxShort Short = math.MaxUint32

// ShortOf converts d, rounded up so that a bound on the wire is never below the
// bound we hold; negative values become 0, values of 65536 s or more MaxShort.
func ShortOf(d time.Duration) Short {
	if d <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(d), 1<<16)
	if hi >= 1_000_000_000 { // the quotient would not fit 64 bits; it cannot fit 32 either
		return MaxShort
	}
	quotient, remainder := bits.Div64(hi, lo, 1_000_000_000)
	if remainder > 0 {
		quotient++
	}
	return Short(min(quotient, uint64(MaxShort)))
}

// Duration returns s in nanoseconds, rounded up.
func (s Short) Duration() time.Duration {
	return time.Duration((uint64(s)*1_000_000_000 + 1<<16 - 1) >> 16)
}

// Log2 is an interval as the exponent of a power of two seconds: poll intervals
// and precisions (RFC 5905 §7.3).
type Log2 int8

// Duration returns 2^e seconds, in whole nanoseconds: at least 1 ns, and at most
// 2^33 s, the largest power that a time.Duration holds.
func (e Log2) Duration() time.Duration {
	switch {
	case e > 33:
		e = 33
	case e < -29:
		return time.Nanosecond
	}
	if e >= 0 {
		return time.Second << e
	}
	return time.Second >> -e
}

// Seconds returns 2^e as a float.
func (e Log2) Seconds() float64 { return math.Ldexp(1, int(e)) }

// Log2Of returns the smallest exponent whose power of two seconds is not below
// d; -128 for d of zero or less.
func Log2Of(d time.Duration) Log2 {
	if d <= 0 {
		return math.MinInt8
	}
	return Log2(math.Ceil(math.Log2(d.Seconds())))
}
