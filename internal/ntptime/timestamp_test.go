package ntptime_test

import (
	"math"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

// eraEnd is the first second of era 1 (RFC 5905 §6).
var eraEnd = time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC)

func wall(t time.Time) ntptime.Wall { return ntptime.WallOf(t) }

// TestRFC5905_6_Figure4 takes the dates of RFC 5905 Figure 4 that lie in the reach
// of a Wall.
func TestRFC5905_6_Figure4(t *testing.T) {
	for _, test := range []struct {
		name    string
		date    time.Time
		seconds uint32
	}{
		{"first day of NTP era 0", time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{"first day of the Unix epoch", time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), 2_208_988_800},
		{"first day of UTC", time.Date(1972, 1, 1, 0, 0, 0, 0, time.UTC), 2_272_060_800},
		{"last day of the 20th century", time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC), 3_155_587_200},
		{"first day of NTP era 1", time.Date(2036, 2, 8, 0, 0, 0, 0, time.UTC), 63_104},
		{"the last second of era 0", eraEnd.Add(-time.Second), math.MaxUint32},
		{"the first second of era 1", eraEnd, 0},
		{"32 bits of signed Unix seconds are full", time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC), 61_505_152},
	} {
		got := wall(test.date).Timestamp()
		if got.Seconds() != test.seconds || got.Fraction() != 0 {
			t.Errorf("%s: got %v, want %d s", test.name, got, test.seconds)
		}
		if back := got.Wall(wall(test.date.AddDate(20, 0, 0))); back != wall(test.date) {
			t.Errorf("%s: back by a pivot 20 years later: got %v, want %v", test.name, back.Time(), test.date)
		}
	}
}

func TestRFC5905_6_DifferencesAcrossTheEra(t *testing.T) {
	for _, test := range []struct {
		name string
		t, u time.Time
	}{
		{"both before the end of the era", eraEnd.Add(-time.Second), eraEnd.Add(-time.Hour)},
		{"both after it", eraEnd.Add(time.Hour), eraEnd.Add(time.Second)},
		{"a second on each side", eraEnd.Add(time.Second), eraEnd.Add(-time.Second)},
		{"a nanosecond on each side", eraEnd.Add(1), eraEnd.Add(-1)},
		{"thirty years on each side", eraEnd.AddDate(30, 0, 0), eraEnd.AddDate(-30, 0, 0)},
		{"era 1 and now", time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		a, b, want := wall(test.t).Timestamp(), wall(test.u).Timestamp(), test.t.Sub(test.u)
		if got := a.Sub(b); got != want {
			t.Errorf("%s: got %v, want %v", test.name, got, want)
		}
		if got := b.Sub(a); got != -want {
			t.Errorf("%s, the other way: got %v, want %v", test.name, got, -want)
		}
		if got := b.Add(want); got.Sub(a) != 0 {
			t.Errorf("%s, added: got %v, want %v", test.name, got, a)
		}
	}
}

func TestRFC5905_6_EraByPivot(t *testing.T) {
	for _, test := range []struct {
		name  string
		when  time.Time
		pivot time.Time
	}{
		{"the last second of era 0 seen from era 1", eraEnd.Add(-time.Second), eraEnd.Add(time.Second)},
		{"the first second of era 1 seen from era 0", eraEnd.Add(time.Second), eraEnd.Add(-time.Second)},
		{"the very start of era 1, whose timestamp is zero", eraEnd, eraEnd.Add(-time.Minute)},
		{"67 years ahead", eraEnd.AddDate(20, 0, 0), eraEnd.AddDate(-47, 0, 0)},
		{"67 years back", eraEnd.AddDate(-47, 0, 0), eraEnd.AddDate(20, 0, 0)},
		{"1970 by a pivot of 2026", time.Unix(0, 0), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"2038 by a pivot of 1971: a machine that starts without a clock", time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
			time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"era 2", time.Date(2180, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2170, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if got := wall(test.when).Timestamp().Wall(wall(test.pivot)); got != wall(test.when) {
			t.Errorf("%s: got %v, want %v", test.name, got.Time(), test.when.UTC())
		}
	}
}

// Sub is signed modulo 2^64: the one difference without a sign is half an era.
func TestSubOfHalfAnEra(t *testing.T) {
	half := ntptime.Timestamp(1 << 63)
	if got, want := half.Sub(0), -(time.Duration(1) << 31 * time.Second); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := (half - 1).Sub(0), time.Duration(1)<<31*time.Second; got != want {
		t.Errorf("just under half an era: got %v, want %v", got, want)
	}
}

func TestTimestampsRoundToTheNanosecond(t *testing.T) {
	start := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	for _, nanos := range []int64{0, 1, 2, 499_999_999, 500_000_000, 500_000_001, 999_999_998, 999_999_999} {
		want := wall(start.Add(time.Duration(nanos)))
		if got := want.Timestamp().Wall(wall(start)); got != want {
			t.Errorf("%d ns: got %v, want %v", nanos, got.Time(), want.Time())
		}
	}
}

func TestTimestampBeforeTheUnixEpoch(t *testing.T) {
	before := ntptime.Wall(-1)
	if got := before.Timestamp(); got.Seconds() != 2_208_988_799 || got.Fraction() != 4_294_967_292 {
		t.Errorf("got %v, want the last nanosecond of 1969", got)
	}
	if got := before.Timestamp().Wall(0); got != before {
		t.Errorf("got %d, want -1", got)
	}
}

func TestIsZeroAndString(t *testing.T) {
	if !ntptime.Timestamp(0).IsZero() || ntptime.Timestamp(1).IsZero() {
		t.Error("IsZero: got the opposite")
	}
	if got, want := ntptime.Timestamp(0xeead67f61edcea3e).String(), "eead67f6.1edcea3e"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzTimestamp holds the arithmetic to its properties for any timestamp and duration.
func FuzzTimestamp(f *testing.F) {
	f.Add(uint64(0), int64(0), int64(0))
	f.Add(uint64(math.MaxUint64), int64(1), int64(math.MaxInt64))
	f.Add(uint64(1)<<63, int64(-1), int64(math.MinInt64))
	f.Add(uint64(0xeead67f61edcea3e), int64(time.Hour), eraEnd.UnixNano())
	f.Fuzz(func(t *testing.T, bits uint64, delta, wallBits int64) {
		timestamp, d := ntptime.Timestamp(bits), time.Duration(delta)
		const reach = time.Duration(1<<31-1) * time.Second // half an era
		if d > -reach && d < reach {
			if got := timestamp.Add(d).Sub(timestamp); got != d {
				t.Errorf("%v + %v − itself: got %v", timestamp, d, got)
			}
			if got := timestamp.Sub(timestamp.Add(d)); got != -d {
				t.Errorf("itself − (%v + %v): got %v", timestamp, d, got)
			}
		}
		if timestamp.Sub(timestamp) != 0 {
			t.Errorf("%v − itself: got %v", timestamp, timestamp.Sub(timestamp))
		}
		w := ntptime.Wall(wallBits)
		if wallBits > math.MinInt64/2 && wallBits < math.MaxInt64/2 {
			if got := w.Timestamp().Wall(w); got != w {
				t.Errorf("%d by way of the wire: got %d", w, got)
			}
			if got := w.Timestamp().Wall(w.Add(d % (60 * 365 * 24 * time.Hour))); got != w {
				t.Errorf("%d by way of the wire, pivot %v away: got %d", w, d, got)
			}
		}
	})
}
