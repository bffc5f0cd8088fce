package config

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	tests := []struct {
		text string
		want time.Duration
		fail string
	}{
		{"64s", 64 * time.Second, ""},
		{"1.5s", 1500 * time.Millisecond, ""},
		{"128ms", 128 * time.Millisecond, ""},
		{"15us", 15 * time.Microsecond, ""},
		{"15µs", 15 * time.Microsecond, ""},
		{"1ns", 1, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"-5ms", -5 * time.Millisecond, ""},
		{"0s", 0, ""},
		{"1e-05s", 10 * time.Microsecond, ""},
		{"-1E-3s", -time.Millisecond, ""},
		{"1.5e+2ms", 150 * time.Millisecond, ""},
		{"2.5e-1us", 250 * time.Nanosecond, ""},
		{".5e1m", 5 * time.Minute, ""},
		{"0e-05s", 0, ""},
		{"0.000h", 0, ""},
		{"1e-12s", 0, "is less than 1ns, the smallest duration; write 0s if none is meant"},
		{"0.3ns", 0, "is less than 1ns, the smallest duration; write 0s if none is meant"},
		{"1e30s", 0, errNoDuration.Error()},
		{"1e400s", 0, errNoDuration.Error()},
		{"1es", 0, errNoDuration.Error()},
		{"1e-5d", 0, errNoDuration.Error()},
		{"0", 0, "has no unit; write 0s if seconds are meant"},
		{"64", 0, "has no unit; write 64s if seconds are meant"},
		{"1e3", 0, "has no unit; write 1e3s if seconds are meant"},
		{"", 0, errNoDuration.Error()},
		{"s", 0, errNoDuration.Error()},
		{"1 s", 0, errNoDuration.Error()},
		{"1d", 0, errNoDuration.Error()},
		{"99999999999h", 0, errNoDuration.Error()},
	}
	for _, test := range tests {
		got, err := ParseDuration(test.text)
		if message(err) != test.fail || got != test.want {
			t.Errorf("%q: got %v, %v, want %v, %q", test.text, got, err, test.want, test.fail)
		}
	}
}

// message is the text of an error, or "".
func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFormatDuration(t *testing.T) {
	tests := []struct {
		value time.Duration
		want  string
	}{
		{0, "0s"}, {1, "1ns"}, {999, "999ns"}, {1500, "1.5us"}, {62500 * time.Microsecond, "62.5ms"},
		{time.Second, "1s"}, {64 * time.Second, "64s"}, {1000 * time.Second, "1000s"}, {90 * time.Minute, "5400s"},
		{24 * time.Hour, "24h"}, {-time.Hour, "-1h"}, {-1500 * time.Millisecond, "-1.5s"},
		{math.MaxInt64, "9223372036.854775807s"}, {math.MinInt64, "-9223372036.854775808s"},
	}
	for _, test := range tests {
		if got := FormatDuration(test.value); got != test.want {
			t.Errorf("%d: got %s, want %s", test.value, got, test.want)
		}
	}
}

// TestDurationsComeBack formats durations of every size and reads them again.
func TestDurationsComeBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		want := time.Duration(random.Int64() >> random.IntN(63))
		if random.IntN(2) == 0 {
			want = -want
		}
		if got, err := ParseDuration(FormatDuration(want)); got != want || err != nil {
			t.Fatalf("%s: got %v, %v, want %v", FormatDuration(want), got, err, want)
		}
	}
}

func TestParseFrequency(t *testing.T) {
	tests := []struct {
		text string
		want Frequency
		fail string
	}{
		{"12ppm", 12e-6, ""},
		{"83333ppm", 83333e-6, ""},
		{"-0.5ppm", -0.5e-6, ""},
		{"5ppb", 5e-9, ""},
		{"1e-9", 1e-9, ""},
		{"1e3ppb", 1e-6, ""},
		{"0", 0, ""},
		{"0.01", 0.01, ""},
		{"1", 0, "has no unit; write 1ppm if parts per million are meant"},
		{"-500", 0, "has no unit; write -500ppm if parts per million are meant"},
		{"inf", 0, errNoFrequency.Error()},
		{"nanppm", 0, errNoFrequency.Error()},
		{"0x1p-4", 0, errNoFrequency.Error()},
		{"1_000ppm", 0, errNoFrequency.Error()},
		{"ppm", 0, errNoFrequency.Error()},
		{"12 ppm", 0, errNoFrequency.Error()},
		{"1e999ppm", 0, errNoFrequency.Error()},
		{"", 0, errNoFrequency.Error()},
	}
	for _, test := range tests {
		got, err := ParseFrequency(test.text)
		if message(err) != test.fail || got != test.want {
			t.Errorf("%q: got %v, %v, want %v, %q", test.text, float64(got), err, float64(test.want), test.fail)
		}
	}
}

func TestFrequencyString(t *testing.T) {
	tests := []struct {
		value Frequency
		want  string
	}{
		{0, "0ppm"}, {12e-6, "12ppm"}, {83333e-6, "83333ppm"}, {-0.1, "-100000ppm"}, {1e-9, "1ppb"}, {-0.5e-6, "-500ppb"},
	}
	for _, test := range tests {
		if got := test.value.String(); got != test.want {
			t.Errorf("%g: got %s, want %s", float64(test.value), got, test.want)
		}
		if back, err := ParseFrequency(test.want); err != nil || back != test.value {
			t.Errorf("%s: got %g, %v back, want %g", test.want, float64(back), err, float64(test.value))
		}
	}
}

func TestParseHost(t *testing.T) {
	tests := []struct {
		text string
		want target
	}{
		{"time.example.net", target{"time.example.net", 123}},
		{"time.example.net.", target{"time.example.net.", 123}},
		{"reference", target{"reference", 123}},
		{"my_host:1123", target{"my_host", 1123}},
		{"192.0.2.1", target{"192.0.2.1", 123}},
		{"192.0.2.1:65535", target{"192.0.2.1", 65535}},
		{"2001:db8::1", target{"2001:db8::1", 123}},
		{"2001:DB8:0:0::1", target{"2001:db8::1", 123}},
		{"[2001:db8::1]", target{"2001:db8::1", 123}},
		{"[fe80::1%eth0]:1", target{"fe80::1%eth0", 1}},
	}
	for _, test := range tests {
		if got, err := parseHost(test.text); got != test.want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestListenAddressString(t *testing.T) {
	for _, text := range []string{":123", "192.0.2.1:0", "[::1]:123", "[fe80::1%eth0]:65535"} {
		got, err := parseListen(text)
		if err != nil || got.String() != text {
			t.Errorf("%q: got %q, %v, want it back", text, got, err)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"min_poll", "max_poll", "pool", "server", "aes128-cmac", "interleaved"}
	tests := []struct{ word, want string }{
		{"minpoll", "min_poll"}, {"MAX-POLL", "max_poll"}, {"mni_poll", "min_poll"}, {"pol", "pool"}, {"polo", "pool"},
		{"sever", "server"}, {"servers", "server"}, {"aes128", "aes128-cmac"}, {"inter", "interleaved"},
		{"x", ""}, {"", ""}, {"metrics", ""}, {string(make([]byte, 100000)), ""},
	}
	for _, test := range tests {
		if got := nearest(test.word, names); got != test.want {
			t.Errorf("%.20q: got %q, want %q", test.word, got, test.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1},
		{"abcd", "abd", 1}, {"abd", "abcd", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3},
	}
	for _, test := range tests {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q, %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
