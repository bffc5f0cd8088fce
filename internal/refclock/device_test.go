package refclock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fakePPS answers the requests of a pulse device.
type fakePPS struct {
	can    int32
	params ppsParams
	pulses []ppsFetchData
	err    error
}

func (f *fakePPS) Capabilities(int) (int32, error)     { return f.can, nil }
func (f *fakePPS) Params(int) (ppsParams, error)       { return f.params, nil }
func (f *fakePPS) SetParams(_ int, p *ppsParams) error { f.params = *p; return nil }
func (f *fakePPS) Fetch(_ int, d *ppsFetchData) error {
	if len(f.pulses) == 0 {
		if f.err != nil {
			return f.err
		}
		return unix.ETIMEDOUT
	}
	d.Info = f.pulses[0].Info
	f.pulses = f.pulses[1:]
	return nil
}

func pulse(sequence uint32, sec int64, nsec int32) ppsFetchData {
	return ppsFetchData{Info: ppsInfo{
		AssertSequence: sequence, Assert: ppsTime{Sec: sec, Nsec: nsec},
		ClearSequence: sequence + 100, Clear: ppsTime{Sec: sec, Nsec: nsec + 100_000_000},
	}}
}

func TestPPS(t *testing.T) {
	gone := errors.New("no such device")
	fake := &fakePPS{can: ppsCaptureAssert | ppsCanWait, err: gone, pulses: []ppsFetchData{
		pulse(7, 1000, 5000), pulse(7, 1000, 5000), pulse(8, 1001, 5100), pulse(9, 1001, 999_999_900),
	}}
	counters := new(Counters)
	driver, err := newPPS(Config{Device: "fake", Every: time.Second, Counters: counters}, devNull(t), fake)
	if err != nil {
		t.Fatal(err)
	}
	if fake.params.Mode&ppsCaptureAssert == 0 {
		t.Error("the edge is not captured")
	}
	for _, want := range []time.Duration{-5100, 100} {
		r, err := driver.Read(context.Background())
		if err != nil || !r.Pulse || r.Reference.Sub(r.Realtime) != want {
			t.Fatalf("got %+v %v, want %v", r, err, want)
		}
	}
	if _, err := driver.Read(context.Background()); !errors.Is(err, gone) {
		t.Errorf("a device that went: %v", err)
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
}

func TestPPSEdges(t *testing.T) {
	if _, err := newPPS(Config{Device: "fake", Clear: true, Counters: new(Counters)}, devNull(t), &fakePPS{can: ppsCaptureAssert}); err == nil || !strings.Contains(err.Error(), "clear") {
		t.Errorf("an edge that the device lacks: %v", err)
	}
	fake := &fakePPS{can: ppsCaptureClear | ppsCanWait, pulses: []ppsFetchData{pulse(1, 10, 0), pulse(2, 11, 0)}}
	driver, err := newPPS(Config{Device: "fake", Clear: true, Every: time.Second, Counters: new(Counters)}, devNull(t), fake)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := driver.Read(context.Background()); err != nil || r.Realtime != ntptime.Wall(11_100_000_000) {
		t.Errorf("clear edge: %+v %v", r, err)
	}
}

// The structures are the kernel's.
func TestPPSLayout(t *testing.T) {
	if got := fmt.Sprintf("%#x %#x", uintptr(ppsFetch), uintptr(ppsSetParams)); got != "0xc00870a4 0x400870a2" && ptrSize == 8 {
		t.Errorf("requests %s", got)
	}
}

// fakePHC answers one of the three requests.
type fakePHC struct {
	precise  *unix.PtpSysOffsetPrecise
	extended *unix.PtpSysOffsetExtended
	plain    *unix.PtpSysOffset
	asked    int
}

func (f *fakePHC) Precise(int) (*unix.PtpSysOffsetPrecise, error) {
	f.asked++
	if f.precise == nil {
		return nil, unix.EOPNOTSUPP
	}
	return f.precise, nil
}

func (f *fakePHC) Extended(int) (*unix.PtpSysOffsetExtended, error) {
	f.asked++
	if f.extended == nil {
		return nil, unix.ENOTTY
	}
	return f.extended, nil
}

func (f *fakePHC) Plain(int) (*unix.PtpSysOffset, error) {
	f.asked++
	if f.plain == nil {
		return nil, unix.EINVAL
	}
	return f.plain, nil
}

func ptp(ns int64) unix.PtpClockTime {
	return unix.PtpClockTime{Sec: ns / 1e9, Nsec: uint32(ns % 1e9)}
}

func TestPHC(t *testing.T) {
	const base = 1_700_000_000_000_000_000
	extended := &unix.PtpSysOffsetExtended{Samples: 3}
	extended.Ts[0] = [3]unix.PtpClockTime{ptp(base), ptp(base + 37e9), ptp(base + 5000)}
	extended.Ts[1] = [3]unix.PtpClockTime{ptp(base + 10000), ptp(base + 37e9 + 10600), ptp(base + 11000)} // the tightest
	extended.Ts[2] = [3]unix.PtpClockTime{ptp(base + 20000), ptp(base + 37e9), ptp(base + 19000)}         // backwards
	plain := &unix.PtpSysOffset{Samples: 2}
	for i, v := range []int64{base, base + 37e9 + 900, base + 2000, base + 37e9 + 2600, base + 3000} {
		plain.Ts[i] = ptp(v)
	}
	for _, test := range []struct {
		name   string
		calls  *fakePHC
		offset time.Duration
		err    time.Duration
		asked  int
	}{
		{"precise", &fakePHC{precise: &unix.PtpSysOffsetPrecise{Device: ptp(base + 37e9 + 5), Realtime: ptp(base)}, extended: extended}, 37*time.Second + 5, 0, 2},
		{"extended", &fakePHC{extended: extended, plain: plain}, 37*time.Second + 100, 500, 3},
		{"plain", &fakePHC{plain: plain}, 37*time.Second + 100, 500, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			counters := new(Counters)
			driver, err := newPHC(Config{Every: time.Millisecond, TAI: true, Counters: counters}, devNull(t), test.calls)
			if err != nil {
				t.Fatal(err)
			}
			defer driver.Close()
			r, err := driver.Read(context.Background())
			if err != nil || r.Reference.Sub(r.Realtime) != test.offset || r.Error != test.err || !r.TAI {
				t.Errorf("got %v ± %v %v; want %v ± %v", r.Reference.Sub(r.Realtime), r.Error, err, test.offset, test.err)
			}
			if test.calls.asked != test.asked {
				t.Errorf("%d requests for two readings, want %d: the way is not remembered", test.calls.asked, test.asked)
			}
		})
	}
	if _, err := newPHC(Config{Counters: new(Counters)}, devNull(t), &fakePHC{}); err == nil {
		t.Error("a device that is no hardware clock was taken")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []Config{
		{Driver: "atom"}, {Driver: "sock"}, {Driver: "nmea"},
		{Driver: "nmea", Device: os.DevNull}, {Driver: "pps", Device: os.DevNull}, {Driver: "phc", Device: os.DevNull},
		{Driver: "phc", Device: "lo"}, {Driver: "pps", Unit: 250}, {Driver: "phc", Unit: 250},
	} {
		c.Counters = new(Counters)
		if d, err := Open(c); err == nil {
			_ = d.Close()
			t.Errorf("%+v was opened", c)
		}
	}
}
