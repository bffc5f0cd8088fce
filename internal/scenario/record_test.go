package scenario

import (
	"strings"
	"testing"
	"time"
)

func TestRecordsOfEitherKind(t *testing.T) {
	for _, c := range []struct {
		name, text, from string
		want             Recorded
		truth            bool
	}{
		{"columns in any order, with comments", "# a head line\nsource, t4,t3,t2,t1,true_offset\na,1.5,1.25,1.2,1.000000001,-0.5\n", "",
			Recorded{T1: 1000000001, T2: 1200000000, T3: 1250000000, T4: 1500000000, TrueOffset: -0.5, Stratum: 1}, true},
		{"times of day", "t1,t2,t3,t4\n1767225600.25,1767225601,1767225601,1767225600.75\n", "",
			Recorded{T1: 250e6, T2: 1e9, T3: 1e9, T4: 750e6, Stratum: 1}, false},
		{"dates", "t1,t2,t3,t4,stratum,root_delay\n2026-01-01T00:00:00.25Z,2026-01-01T00:00:01Z,2026-01-01T00:00:01Z,2026-01-01T00:00:00.75Z,3,0.001\n", "",
			Recorded{T1: 250e6, T2: 1e9, T3: 1e9, T4: 750e6, Stratum: 3, RootDelay: time.Millisecond}, false},
		{"ntpd's rawstats", "61000 100.5 192.0.2.7 198.51.100.1 3976214500.100000000 3976214500.200000000 3976214500.200000001 3976214500.300000002\n", "",
			Recorded{T1: 100e6, T2: 200e6, T3: 200000001, T4: 300000002, Stratum: 1}, false},
		{"ntpd's later rawstats", "61000 100.5 192.0.2.7 198.51.100.1 3976214500.1 3976214500.2 3976214500.2 3976214500.3 0 4 4 2 6 -23 0.000015 0.000031 .GPS. 0\n", "",
			Recorded{T1: 100e6, T2: 200e6, T3: 200e6, T4: 300e6, Stratum: 2, RootDelay: 15 * time.Microsecond, RootDispersion: 31 * time.Microsecond}, false},
		{"our own measurements: the oscillator's readings, and one of two addresses of a pool",
			"time,source,address,t1,t2,t3,t4,raw1,raw4\n1,pool,192.0.2.1:123,1795867200.5,1795867200.6,1795867200.6,1795867200.7,5.25,5.45\n" +
				"1,pool,192.0.2.2:123,1795867201.5,1795867201.6,1795867201.6,1795867201.7,6.25,6.45\n", "192.0.2.2:123",
			Recorded{T1: 500e6, T2: 600e6, T3: 600e6, T4: 700e6, Stratum: 1}, false},
		{"one of two sources", "t1,t2,t3,t4,source\n1,2,2,3,a\n4,5,5,6,b\n", "b",
			Recorded{T1: 4e9, T2: 5e9, T3: 5e9, T4: 6e9, Stratum: 1}, false},
	} {
		got, err := readRecord(strings.NewReader(c.text), c.from)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if len(got.Exchanges) != 1 || got.Exchanges[0] != c.want || got.Truth != c.truth {
			t.Errorf("%s: got %+v, truth %v, want %+v", c.name, got.Exchanges, got.Truth, c.want)
		}
	}
}

func TestARecordGoesOnAfterTheMachineBegan(t *testing.T) {
	const head = "t1,t2,t3,t4,raw1,raw4\n"
	got, err := readRecord(strings.NewReader(head+"100,100,100,100,50,50.25\n108,108,108,108.5,58.125,58.5\n"+head+"200,200,200,200,3,3.25\n208,208,208,208,11,11.5\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{100e9, 108.125e9, 200.125e9, 208.125e9} {
		if x := got.Exchanges[i]; x.T1 != want {
			t.Errorf("exchange %d: got T1 %d, want %d", i, x.T1, want)
		}
	}
}

func TestFaultyRecordsAreRefusedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "no exchanges"},
		{"t1,t2,t3\n", "line 1: names no column t4"},
		{"t1,t2,t3,t4\n1,2,2\n", "line 2: has 3 values"},
		{"t1,t2,t3,t4\n1,2,2,x\n", `line 2: t4: "x" is no number of seconds`},
		{"t1,t2,t3,t4\n3,2,2,1\n", "line 2: t4 is before t1"},
		{"t1,t2,t3,t4\n1,2,1,3\n", "line 2: t3 is before t2"},
		{"t1,t2,t3,t4,true_offset\n1,2,2,3,NaN\n", "true offset"},
		{"t1,t2,t3,t4,stratum\n1,2,2,3,17\n", "stratum"},
		{"t1,t2,t3,t4,source\n1,2,2,3,a\n4,5,5,6,b\n", "choose one with `from: a`"},
		{"61000 100.5 192.0.2.7\n", "line 1: has 3 values"},
		{"t1,t2,t3,t4,raw1,raw4\n1,2,2,3,9,8\n", "no readings of an oscillator"},
		{"t1,t2,t3,t4\n1,2,2,99999999999999999999\n", "is no number of seconds"},
	} {
		if _, err := readRecord(strings.NewReader(c.text), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got error %v, want one with %q", c.text, err, c.want)
		}
	}
	if _, err := readRecord(strings.NewReader("t1,t2,t3,t4,source\n1,2,2,3,a\n"), "c"); err == nil || !strings.Contains(err.Error(), "no exchange with c, but with a") {
		t.Errorf("a source that is not there: got error %v", err)
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add("t1,t2,t3,t4,true_offset\n1,2,2,3,0.1\n", "")
	f.Add("61000 100.5 192.0.2.7 198.51.100.1 3976214500.1 3976214500.2 3976214500.2 3976214500.3\n", "192.0.2.7")
	f.Fuzz(func(t *testing.T, text, from string) {
		r, err := readRecord(strings.NewReader(text), from)
		if err != nil {
			return
		}
		for i := range r.Exchanges {
			if x := &r.Exchanges[i]; x.T4 < x.T1 || x.T3 < x.T2 || i > 0 && x.T4 < r.Exchanges[i-1].T4 {
				t.Fatalf("exchange %d: got %+v", i, x)
			}
		}
		r.At(r.Exchanges[0].T1)
	})
}
