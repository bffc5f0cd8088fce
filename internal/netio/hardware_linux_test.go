package netio

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// fakeIoctls is a machine whose interfaces have NICs.
type fakeIoctls struct {
	info  map[string]*unix.EthtoolTsInfo
	state map[string]unix.HwTstampConfig
	fail  error
}

func (f *fakeIoctls) Info(ifname string) (*unix.EthtoolTsInfo, error) {
	if i := f.info[ifname]; i != nil {
		return i, nil
	}
	return nil, unix.ENODEV
}

func (f *fakeIoctls) Timestamping(ifname string) (*unix.HwTstampConfig, error) {
	c, ok := f.state[ifname]
	if !ok {
		return nil, unix.EOPNOTSUPP
	}
	return &c, nil
}

func (f *fakeIoctls) SetTimestamping(ifname string, cfg *unix.HwTstampConfig) error {
	if f.fail != nil {
		return f.fail
	}
	f.state[ifname] = *cfg
	return nil
}

func goodNIC() *unix.EthtoolTsInfo {
	return &unix.EthtoolTsInfo{
		So_timestamping: unix.SOF_TIMESTAMPING_TX_HARDWARE | unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE,
		Phc_index:       3,
		Tx_types:        1<<unix.HWTSTAMP_TX_OFF | 1<<unix.HWTSTAMP_TX_ON,
		Rx_filters:      1<<unix.HWTSTAMP_FILTER_NONE | 1<<unix.HWTSTAMP_FILTER_ALL,
	}
}

func TestNICIsAskedForBothDirections(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*unix.EthtoolTsInfo)
		filter int32
		refuse string
	}{
		{name: "one that timestamps all it receives", change: func(*unix.EthtoolTsInfo) {}, filter: unix.HWTSTAMP_FILTER_ALL},
		{name: "one that knows NTP", change: func(i *unix.EthtoolTsInfo) { i.Rx_filters |= 1 << unix.HWTSTAMP_FILTER_NTP_ALL }, filter: unix.HWTSTAMP_FILTER_NTP_ALL},
		{name: "one for PTP alone", change: func(i *unix.EthtoolTsInfo) { i.Rx_filters = 1 << unix.HWTSTAMP_FILTER_PTP_V2_EVENT }, refuse: "PTP alone"},
		{name: "one that timestamps nothing it sends", change: func(i *unix.EthtoolTsInfo) { i.Tx_types = 1 << unix.HWTSTAMP_TX_OFF }, refuse: "sends"},
		{name: "one without clock", change: func(i *unix.EthtoolTsInfo) { i.Phc_index = -1 }, refuse: "no clock"},
		{name: "one with software timestamps", change: func(i *unix.EthtoolTsInfo) { i.So_timestamping = unix.SOF_TIMESTAMPING_SOFTWARE }, refuse: "no clock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info := goodNIC()
			tt.change(info)
			old := unix.HwTstampConfig{Rx_filter: unix.HWTSTAMP_FILTER_PTP_V2_EVENT}
			f := &fakeIoctls{info: map[string]*unix.EthtoolTsInfo{"eth0": info}, state: map[string]unix.HwTstampConfig{"eth0": old}}
			clock, undo, err := systemNICs{f}.Enable("eth0")
			if tt.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refuse) {
					t.Errorf("got %v, want an error that speaks of %q", err, tt.refuse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := (unix.HwTstampConfig{Tx_type: unix.HWTSTAMP_TX_ON, Rx_filter: tt.filter}); f.state["eth0"] != want || clock != 3 {
				t.Errorf("set %+v with clock %d, want %+v with clock 3", f.state["eth0"], clock, want)
			}
			if err := undo(); err != nil || f.state["eth0"] != old {
				t.Errorf("left %+v, %v; want %+v as before", f.state["eth0"], err, old)
			}
			f.fail = unix.ENODEV
			if err := undo(); err != nil {
				t.Errorf("undo on an interface that is gone: %v", err)
			}
			f.fail = unix.EBUSY
			if _, _, err := (systemNICs{f}).Enable("eth0"); !errors.Is(err, unix.EBUSY) {
				t.Errorf("enable: %v, want EBUSY", err)
			}
		})
	}
	if _, _, err := SystemNICs().Enable("lo"); err == nil {
		t.Error("loopback has a NIC")
	}
	if _, err := SystemNICs().Open(9999); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opened a clock that is not there: %v", err)
	}
}

func TestTightestComparisonCounts(t *testing.T) {
	at := func(ns int64) unix.PtpClockTime { return unix.PtpClockTime{Sec: ns / 1e9, Nsec: uint32(ns % 1e9)} }
	o := &unix.PtpSysOffsetExtended{Samples: 4}
	o.Ts[0] = [3]unix.PtpClockTime{at(5e9), at(70e9), at(5e9 + 900)}
	o.Ts[1] = [3]unix.PtpClockTime{at(6e9), at(71e9 + 5), at(6e9 + 300)}
	o.Ts[2] = [3]unix.PtpClockTime{at(7e9), at(72e9), at(7e9 + 400)}
	o.Ts[3] = [3]unix.PtpClockTime{at(8e9), at(73e9), at(8e9 - 1)} // the clock was set back meanwhile
	nic, realtime, width, err := tightest(o)
	if nic != 71e9+5 || realtime != 6e9+150 || width != 300 || err != nil {
		t.Errorf("got %d, %d, %v, %v", nic, realtime, width, err)
	}
	o.Samples = 0
	if _, _, _, err := tightest(o); err == nil {
		t.Error("a comparison of nothing")
	}
	o.Samples = 1 << 31
	if _, _, _, err := tightest(o); err != nil {
		t.Errorf("more samples than there is room for: %v", err)
	}
}

// fakeNICs is a NICSystem whose one clock is set by the test.
type fakeNICs struct {
	nic      int64
	realtime ntptime.Wall
	fail     error
	enabled  map[string]int
	open     int
}

func (f *fakeNICs) Enable(ifname string) (int, func() error, error) {
	if f.fail != nil {
		return 0, nil, f.fail
	}
	f.enabled[ifname]++
	return 0, func() error { f.enabled[ifname]--; return nil }, nil
}

func (f *fakeNICs) Open(int) (HardwareClock, error) { f.open++; return f, nil }

func (f *fakeNICs) Compare() (int64, ntptime.Wall, time.Duration, error) {
	return f.nic, f.realtime, 100, f.fail
}

func (f *fakeNICs) Close() error { f.open--; return nil }

// world is a clock that the test moves: raw and wall time differ by a step of the latter.
type world struct {
	raw  ntptime.Raw
	step time.Duration
}

func (w *world) clock() Clock {
	return Clock{
		Now: func() ntptime.Instant {
			return ntptime.Instant{Wall: ntptime.Wall(w.raw).Add(w.step), Raw: w.raw}
		},
		At: func(realtime ntptime.Wall) ntptime.Instant {
			return ntptime.Instant{Wall: realtime, Raw: ntptime.Raw(realtime.Add(-w.step))}
		},
	}
}

func TestTimestampsOfANICAreMappedAcrossRatesAndSteps(t *testing.T) {
	const second, rate = 1_000_000_000, 40e-6 // our oscillator gains 40 ppm on the NIC
	w := &world{}
	f := &fakeNICs{enabled: make(map[string]int)}
	h, err := OpenHardware([]string{"eth0"}, w.clock(), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.refresh([]net.Interface{{Index: 2, Name: "eth0"}, {Index: 3, Name: "eth1"}}); err != nil {
		t.Fatal(err)
	}
	// advance lets the NIC count n ns, and us 1+rate times as many.
	advance := func(n int64) {
		f.nic += n
		w.raw += ntptime.Raw(float64(n) * (1 + rate))
		f.realtime = ntptime.Wall(w.raw).Add(w.step)
	}
	if _, ok := h.instant(2, 5); ok {
		t.Error("mapped before any comparison")
	}
	f.nic, w.raw = 7_000*second, 100*second
	advance(0)
	for range 60 {
		h.Measure()
		advance(second)
	}
	advance(-second / 2) // half way between two comparisons
	check := func(name string, timestamp int64, want ntptime.Raw) {
		t.Helper()
		at, ok := h.instant(2, timestamp)
		if d := at.Raw.Sub(want); !ok || d < -20 || d > 20 {
			t.Errorf("%s: got %d, %v; want %d", name, at.Raw, ok, want)
		}
		if got, want := at.Wall, ntptime.Wall(at.Raw).Add(w.step); got != want {
			t.Errorf("%s: wall time %d, want %d", name, got, want)
		}
	}
	check("now", f.nic, w.raw)
	check("a while ago", f.nic-1_000_000, w.raw-1_000_040)
	w.step = time.Hour
	check("after the system's clock was stepped", f.nic, w.raw)
	if _, ok := h.instant(3, f.nic); ok {
		t.Error("mapped a timestamp of a NIC that is not followed")
	}
	if _, ok := h.instant(2, f.nic+second/10); ok {
		t.Error("mapped a timestamp from the future")
	}
	f.nic += 5 * second // the NIC's clock is set
	advance(0)
	h.Measure()
	check("after the NIC's clock was set", f.nic, w.raw)
	advance(second / 10)
	check("a while after that", f.nic, w.raw)
	f.fail = unix.ENODEV
	advance(6 * second)
	h.Measure()
	if _, ok := h.instant(2, f.nic); ok {
		t.Error("mapped by a comparison that is too old")
	}
}

func TestNICsFollowTheirInterfaces(t *testing.T) {
	w := &world{}
	f := &fakeNICs{enabled: make(map[string]int)}
	h, err := OpenHardware([]string{"*"}, w.clock(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	lo := net.Interface{Index: 1, Name: "lo", Flags: net.FlagLoopback}
	eth := net.Interface{Index: 2, Name: "card0"}
	for _, tt := range []struct {
		name    string
		ifs     []net.Interface
		enabled int // how often card0 has been made to timestamp
		has     bool
	}{
		{"it is there", []net.Interface{lo, eth}, 1, true},
		{"nothing new", []net.Interface{lo, eth}, 1, true},
		{"it is gone", []net.Interface{lo}, 1, false},
		{"it comes back under another index", []net.Interface{lo, {Index: 9, Name: "card0"}}, 2, true},
	} {
		if err := h.refresh(tt.ifs); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := f.enabled["card0"]; got != tt.enabled || f.enabled["lo"] != 0 {
			t.Errorf("%s: enabled %d times, want %d; loopback %d", tt.name, got, tt.enabled, f.enabled["lo"])
		}
		if _, has := h.open["card0"]; has != tt.has {
			t.Errorf("%s: followed %v, want %v", tt.name, has, tt.has)
		}
	}
	h.names = []string{"card1"}
	f.fail = unix.EOPNOTSUPP
	if err := h.refresh([]net.Interface{{Index: 4, Name: "card1"}}); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("a named interface that cannot: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Run(ctx)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if f.open != 0 {
		t.Errorf("%d clocks left open", f.open)
	}
}

func TestTimestampsFromTheErrorQueueAreTheNICsWhereItIsFollowed(t *testing.T) {
	w := &world{raw: 10_000_000_000}
	h := &Hardware{clock: w.clock()}
	h.nics.Store(&map[int]clockLine{5: {nic: 1_000, raw: 10_000_000_000 - 500}})
	software, hardware := timespecs(9_999_999_000, 0, 0), timespecs(0, 0, 1_200)
	asked := controlMessage(unix.IPPROTO_IP, unix.IP_RECVERR, extendedError(42, unix.SO_EE_ORIGIN_TIMESTAMPING, 0, 0))
	by := controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(5, "192.0.2.1", "192.0.2.2"))
	other := controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(6, "192.0.2.1", "192.0.2.2"))
	timestamp := func(ts []byte) []byte { return controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, ts) }
	icmp := controlMessage(unix.IPPROTO_IP, unix.IP_RECVERR, extendedError(111, unix.SO_EE_ORIGIN_ICMP, 0, 0))
	for _, tt := range []struct {
		name     string
		controls []byte
		hw       *Hardware
		kind     model.TimestampKind
		raw      ntptime.Raw
		ok       bool
	}{
		{"kernel's", concat(timestamp(software), asked, by), h, model.TimestampKernel, 9_999_999_000, true},
		{"NIC's", concat(timestamp(hardware), asked, by), h, model.TimestampHardware, 9_999_999_700, true},
		{"of a NIC that is not followed", concat(timestamp(hardware), asked, other), h, 0, 0, false},
		{"NIC's, not asked for", concat(timestamp(hardware), asked, by), nil, 0, 0, false},
		{"ICMP's", concat(timestamp(software), icmp), h, 0, 0, false},
		{"without an error message", timestamp(software), h, 0, 0, false},
		{"without timestamp", asked, h, 0, 0, false},
	} {
		var c control
		c.parse(tt.controls)
		at, kind, ok := transmitTimestamp(&c, w.clock(), tt.hw)
		if ok != tt.ok || ok && (kind != tt.kind || at.Raw != tt.raw) {
			t.Errorf("%s: got %v by %d, %v; want %v by %d, %v", tt.name, at.Raw, kind, ok, tt.raw, tt.kind, tt.ok)
		}
	}
}
