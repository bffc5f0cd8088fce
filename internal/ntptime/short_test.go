package ntptime_test

import (
	"math"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

// A bound that we announce is never below the bound that we hold.
func TestRFC5905_6_ShortRoundsUp(t *testing.T) {
	for _, test := range []struct {
		name string
		d    time.Duration
		want ntptime.Short
	}{
		{"nothing", 0, 0},
		{"less than nothing", -time.Second, 0},
		{"a nanosecond", 1, 1},
		{"exactly one unit, 15258.789 ns, from below", 15258, 1},
		{"a little over one unit", 15259, 2},
		{"a second", time.Second, 1 << 16},
		{"a nanosecond over", time.Second + 1, 1<<16 + 1},
		{"sixteen seconds", 16 * time.Second, 16 << 16},
		{"the last whole second", 65535 * time.Second, 65535 << 16},
		{"one unit below the end", 65536*time.Second - 15259, math.MaxUint32},
		{"the end", 65536 * time.Second, ntptime.MaxShort},
		{"far beyond", math.MaxInt64, ntptime.MaxShort},
	} {
		if got := ntptime.ShortOf(test.d); got != test.want {
			t.Errorf("%s: got %#x, want %#x", test.name, uint32(got), uint32(test.want))
		}
	}
}

func TestShortDuration(t *testing.T) {
	for _, test := range []struct {
		s    ntptime.Short
		want time.Duration
	}{
		{0, 0}, {1, 15259}, {1 << 16, time.Second}, {1 << 15, 500 * time.Millisecond},
		{ntptime.MaxShort, 65536*time.Second - 15258},
	} {
		if got := test.s.Duration(); got != test.want {
			t.Errorf("%#x: got %v, want %v", uint32(test.s), got, test.want)
		}
	}
}

func FuzzShort(f *testing.F) {
	for _, d := range []int64{0, 1, -1, 15258, 15259, int64(time.Second), math.MaxInt64, math.MinInt64} {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, nanos int64) {
		d := time.Duration(nanos)
		s := ntptime.ShortOf(d)
		switch back := s.Duration(); {
		case d <= 0 && s != 0:
			t.Errorf("%v: got %d, want 0", d, s)
		case d > 0 && s != ntptime.MaxShort && back < d:
			t.Errorf("%v: got %v, below it", d, back)
		case d > 0 && s != ntptime.MaxShort && back-d > 15259:
			t.Errorf("%v: got %v, more than a unit above it", d, back)
		}
		// Both ways round up, so that the way back and forth may gain one unit.
		if again := ntptime.ShortOf(s.Duration()); again < s || uint64(again) > uint64(s)+1 {
			t.Errorf("%d: there and back got %d", s, again)
		}
	})
}

func TestLog2(t *testing.T) {
	for _, test := range []struct {
		e       ntptime.Log2
		want    time.Duration
		seconds float64
	}{
		{0, time.Second, 1}, {6, 64 * time.Second, 64}, {17, 131072 * time.Second, 131072},
		{-4, 62500 * time.Microsecond, 0.0625}, {-29, 1, math.Ldexp(1, -29)}, {-30, 1, math.Ldexp(1, -30)},
		{-128, 1, math.Ldexp(1, -128)}, {33, time.Second << 33, math.Ldexp(1, 33)}, {127, time.Second << 33, math.Ldexp(1, 127)},
	} {
		if got := test.e.Duration(); got != test.want {
			t.Errorf("2^%d s: got %v, want %v", test.e, got, test.want)
		}
		if got := test.e.Seconds(); got != test.seconds {
			t.Errorf("2^%d s: got %g s, want %g", test.e, got, test.seconds)
		}
	}
}

func TestLog2Of(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want ntptime.Log2
	}{
		{time.Second, 0}, {time.Second + 1, 1}, {64 * time.Second, 6}, {100 * time.Second, 7},
		{62500 * time.Microsecond, -4}, {1, -29}, {30, -24}, {0, math.MinInt8}, {-1, math.MinInt8}, {math.MaxInt64, 34},
	} {
		if got := ntptime.Log2Of(test.d); got != test.want {
			t.Errorf("%v: got %d, want %d", test.d, got, test.want)
		}
	}
}
