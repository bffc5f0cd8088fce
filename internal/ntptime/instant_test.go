package ntptime_test

import (
	"math"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

func TestRawStaysAtNever(t *testing.T) {
	for _, test := range []struct {
		name string
		r    ntptime.Raw
		d    time.Duration
		want ntptime.Raw
	}{
		{"an ordinary deadline", 5, 7, 12},
		{"backwards", 5, -7, -2},
		{"never and a day", ntptime.Never, 24 * time.Hour, ntptime.Never},
		{"just over the end", ntptime.Never - 1, 2, ntptime.Never},
		{"just to the end", ntptime.Never - 1, 1, ntptime.Never},
		{"back from the end", ntptime.Never, -1, ntptime.Never - 1},
		{"as far as it goes", 0, math.MaxInt64, ntptime.Never},
	} {
		if got := test.r.Add(test.d); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
	if got := ntptime.Raw(12).Sub(5); got != 7 {
		t.Errorf("got %v, want 7 ns", got)
	}
}

func TestWallAndTime(t *testing.T) {
	date := time.Date(2036, 2, 7, 6, 28, 16, 123456789, time.UTC)
	w := ntptime.WallOf(date)
	if got := w.Time(); !got.Equal(date) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v", got, date)
	}
	if got := w.Add(time.Hour).Sub(w); got != time.Hour {
		t.Errorf("got %v, want 1h", got)
	}
	if got := (ntptime.Instant{Wall: w, Raw: 9}).Timestamp(); got != w.Timestamp() {
		t.Errorf("got %v, want %v", got, w.Timestamp())
	}
}

func TestFrequency(t *testing.T) {
	f := 12 * ntptime.PPM
	if got := f.Over(time.Second); got != 12*time.Microsecond {
		t.Errorf("got %v, want 12µs", got)
	}
	if got := f.String(); got != "+12.000ppm" {
		t.Errorf("got %s, want +12.000ppm", got)
	}
	if got := (-f).PPM(); math.Abs(got+12) > 1e-9 {
		t.Errorf("got %g, want -12", got)
	}
}
