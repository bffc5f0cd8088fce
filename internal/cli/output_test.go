package cli

import (
	"bytes"
	"math"
	"testing"
)

func TestSecondsInFittingUnits(t *testing.T) {
	for _, test := range []struct {
		seconds float64
		want    string
	}{
		{0, "0 ns"}, {1e-9, "1 ns"}, {999e-9, "999 ns"}, {1.5e-6, "1.50 µs"}, {1.5e-3, "1.500 ms"}, {1.5, "1.500 s"},
		{999, "999.000 s"}, {-0.25, "-250.000 ms"}, {math.NaN(), "?"}, {math.Inf(1), "?"}, {3600, "1h0m0s"},
	} {
		if got := formatTime(test.seconds); got != test.want {
			t.Errorf("%v: got %q, want %q", test.seconds, got, test.want)
		}
	}
	if got, want := formatOffset(0.001)+formatOffset(-0.001)+formatOffset(0), "+1.000 ms-1.000 ms+0 ns"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAges(t *testing.T) {
	for _, test := range []struct {
		seconds float64
		want    string
	}{
		{0, "0s"}, {99, "99s"}, {200, "3m20s"}, {7300, "2h01m"}, {200000, "2d07h"}, {-1, "-"}, {math.NaN(), "-"},
	} {
		if got := formatAge(test.seconds); got != test.want {
			t.Errorf("%v: got %q, want %q", test.seconds, got, test.want)
		}
	}
}

func TestReachIsOctal(t *testing.T) {
	for register, want := range map[int]string{0: "000", 255: "377", 1: "001", 0b10000001: "201"} {
		if got := reach(register); got != want {
			t.Errorf("%d: got %s, want %s", register, got, want)
		}
	}
}

func TestNamesSayTheAddressOnce(t *testing.T) {
	for _, test := range []struct{ name, address, want string }{
		{"time.example", "192.0.2.1:123", "time.example (192.0.2.1)"},
		{"time.example:124", "192.0.2.1:124", "time.example (192.0.2.1:124)"},
		{"192.0.2.1", "192.0.2.1:123", "192.0.2.1"},
		{"192.0.2.1:124", "192.0.2.1:124", "192.0.2.1:124"},
		{"192.0.2.1", "192.0.2.1:124", "192.0.2.1:124"},
		{"2001:db8::1", "[2001:db8::1]:123", "2001:db8::1"},
		{"[2001:db8::1]:124", "[2001:db8::1]:124", "[2001:db8::1]:124"},
		{"time.example", "", "time.example"},
		{"broadcast 192.0.2.255 eth0", "192.0.2.255:123", "broadcast 192.0.2.255 eth0"},
		{"broadcast_client eth0", "192.0.2.9:123", "broadcast_client eth0 (192.0.2.9)"},
	} {
		if got := nameAt(test.name, test.address); got != test.want {
			t.Errorf("%s at %s: got %q, want %q", test.name, test.address, got, test.want)
		}
	}
}

func TestHostsAndPortsAreSplit(t *testing.T) {
	for _, test := range []struct {
		host, name string
		port       uint16
		bad        bool
	}{
		{"time.example", "time.example", 123, false},
		{"time.example:124", "time.example", 124, false},
		{"192.0.2.1:124", "192.0.2.1", 124, false},
		{"2001:db8::1", "2001:db8::1", 123, false},
		{"[2001:db8::1]", "2001:db8::1", 123, false},
		{"[2001:db8::1]:124", "2001:db8::1", 124, false},
		{"time.example:0", "", 0, true},
		{"time.example:65536", "", 0, true},
		{"time.example:ntp", "", 0, true},
	} {
		name, port, err := splitHost(test.host)
		if name != test.name || port != test.port || (err != nil) != test.bad {
			t.Errorf("%s: got %q, %d, %v; want %q, %d, bad %v", test.host, name, port, err, test.name, test.port, test.bad)
		}
	}
}

func TestTablesAreAligned(t *testing.T) {
	var table table
	table.row("A", "LONG HEADER", "")
	table.row("a long cell", "b", "")
	var out bytes.Buffer
	if err := table.print(&out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "A            LONG HEADER\na long cell  b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsCountedIsNamedInOrder(t *testing.T) {
	if got, want := counts(map[string]uint64{"b": 2, "a": 1}, map[string]uint64{"RATE": 3}), "a 1, b 2, RATE 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := counts(nil, nil); got != "-" {
		t.Errorf("got %q, want -", got)
	}
}

func TestCivilTime(t *testing.T) {
	if got, want := civil(0), "never"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := civil(2085978496.5), "2036-02-07 06:28:16.500 UTC"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
