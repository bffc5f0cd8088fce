package system_test

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// host is a system process on a perfect oscillator, with the clock that it steers and
// one server, whose time is raw + ahead.
type host struct {
	*system.System
	raw     ntptime.Raw
	start   ntptime.Wall
	offset  time.Duration // of the clock against the raw oscillator, at raw
	rate    ntptime.Frequency
	ahead   func(ntptime.Raw) time.Duration
	leap    wire.Leap
	stratum uint8 // of the server, 2 at least
	events  []model.Event
	steps   []time.Duration
	gate    int // times the panic gate was used
	worst   ntptime.Frequency
}

var start = ntptime.WallOf(time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC))

// newHost makes a host that asks a server ahead of it.
func newHost(cfg system.Config, begin ntptime.Wall, ahead time.Duration) *host {
	h := &host{start: begin, ahead: func(ntptime.Raw) time.Duration { return ahead }}
	h.System = system.New(cfg, h.now())
	h.AddSource(h.now(), 1, system.SourceOptions{Name: "server", MinPoll: 4, MaxPoll: 4})
	return h
}

func (h *host) now() ntptime.Instant {
	return ntptime.Instant{Raw: h.raw, Wall: h.start.Add(time.Duration(h.raw) + h.offset)}
}

// wait lets time pass, with all timers that fall due.
func (h *host) wait(d time.Duration) {
	end := h.raw.Add(d)
	for {
		due := min(max(h.Deadline(), h.raw+1), end)
		h.offset += h.rate.Over(due.Sub(h.raw))
		h.raw = due
		if due == end {
			return
		}
		h.take(func(out *system.Output) { h.OnTimer(h.now(), out) })
	}
}

// take runs one entry point and does what it wants done.
func (h *host) take(f func(out *system.Output)) {
	var out system.Output
	f(&out)
	h.events = append(h.events, out.Events...)
	if out.GateUsed {
		h.gate++
	}
	if !out.HasCorrection {
		return
	}
	c := out.Correction
	if math.Abs(float64(c.Frequency)) > math.Abs(float64(h.worst)) {
		h.worst = c.Frequency
	}
	before := h.now().Wall
	h.offset += c.Step
	h.rate = c.Frequency + c.Slew
	if c.Step != 0 {
		h.steps = append(h.steps, c.Step)
	}
	h.take(func(out *system.Output) {
		h.OnApplied(model.Applied{At: h.now(), BeforeWall: before, Rate: h.rate, Correction: c}, out)
	})
}

// poll makes one exchange, 1 ms each way.
func (h *host) poll() {
	t1 := h.now()
	h.wait(2 * time.Millisecond)
	serverTime := h.start.Add(time.Duration(t1.Raw) + h.ahead(t1.Raw) + time.Millisecond)
	state := model.ServerState{Leap: h.leap, Stratum: max(h.stratum, 2), Precision: -20, RootDelay: 3 * time.Millisecond, RootDispersion: time.Millisecond}
	status := model.SourceStatus{Source: 1, Name: "server", Address: netip.MustParseAddrPort("192.0.2.7:123"),
		Mode: wire.ModeClient, Reach: 255, Server: state, LastPacket: h.now()}
	h.take(func(out *system.Output) { h.OnStatus(h.now(), &status, out) })
	sample := model.Sample{Source: 1, T1: t1, T4: h.now(), T2: serverTime, T3: serverTime, Server: state}
	h.take(func(out *system.Output) { h.OnSample(h.now(), &sample, out) })
}

func (h *host) polls(n int) {
	for range n {
		h.poll()
		h.wait(16 * time.Second)
	}
}

func (h *host) count(kind model.EventKind) (n int) {
	for _, e := range h.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// error is how far the clock is behind the server.
func (h *host) error() time.Duration { return h.ahead(h.raw) - h.offset }

func usual() system.Config {
	return system.Config{MinSources: 1, StepThreshold: time.Second, StepUpdates: 3, Panic: 1000 * time.Second, PanicGateOpen: true, Precision: -20}
}

// A correction beyond the panic limit is refused and told once, and the clock is no
// longer called right; with the gate open the first may be of any size, and closes it.
func TestRFC5905_11_3_PanicIsRefusedAndSaid(t *testing.T) {
	for _, test := range []struct {
		name  string
		gate  bool
		ahead time.Duration
		moves bool
	}{
		{"the first one with the gate open", true, 2000 * time.Second, true},
		{"the first one with the gate shut", false, 2000 * time.Second, false},
		{"below the limit with the gate shut", false, 900 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := usual()
			cfg.PanicGateOpen = test.gate
			h := newHost(cfg, start, test.ahead)
			h.polls(5)
			if got := h.error().Abs() < time.Millisecond; got != test.moves {
				t.Errorf("the clock is right: got %v, want %v (%v off)", got, test.moves, h.error())
			}
			s := h.Snapshot(h.now())
			if s.Synchronized != test.moves || (s.PanicOffset != 0) == test.moves {
				t.Errorf("got synchronized %v, panic offset %v, want %v and one only if refused", s.Synchronized, s.PanicOffset, test.moves)
			}
			if got, want := h.count(model.EventPanic), map[bool]int{true: 0, false: 1}[test.moves]; got != want {
				t.Errorf("got %d events of panic, want %d", got, want)
			}
			if got, want := h.gate, map[bool]int{true: 1, false: 0}[test.gate]; got != want {
				t.Errorf("the gate was used %d times, want %d", got, want)
			}
		})
	}
}

func TestRFC5905_11_3_OnlyTheFirstCorrectionMayBeOfAnySize(t *testing.T) {
	h := newHost(usual(), start, 2000*time.Second)
	h.polls(10)
	h.ahead = func(ntptime.Raw) time.Duration { return 6000 * time.Second }
	h.polls(20)
	if got := h.error(); got < 3900*time.Second {
		t.Errorf("the clock followed: got %v behind the server, want it left where it was", got)
	}
	if s := h.Snapshot(h.now()); s.State != model.DisciplinePanic || s.Synchronized {
		t.Errorf("got state %v, synchronized %v, want panic, false", s.State, s.Synchronized)
	}
}

// Steps only above the threshold, and only in the first updates or when all sources agree
// on a jump (deviation from RFC 5905 §11.3, which steps above 128 ms at any time).
func TestRFC5905_11_3_StepsOnlyInTheFirstUpdates(t *testing.T) {
	for _, test := range []struct {
		name  string
		first time.Duration // ahead from the start
		later time.Duration // ahead after ten polls
		cfg   func(*system.Config)
		want  int
	}{
		{"a large offset at the start", 10 * time.Second, 0, func(*system.Config) {}, 1},
		{"below the threshold", 900 * time.Millisecond, 0, func(*system.Config) {}, 0},
		{"a jump later, on which all sources agree", 0, 10 * time.Second, func(*system.Config) {}, 1},
		{"a jump later below the threshold", 0, 900 * time.Millisecond, func(*system.Config) {}, 0},
		{"always allowed", 0, 10 * time.Second, func(c *system.Config) { c.StepUpdates = -1 }, 1},
		{"never allowed", 10 * time.Second, 0, func(c *system.Config) { c.StepUpdates = 0 }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := usual()
			test.cfg(&cfg)
			h := newHost(cfg, start, test.first)
			h.polls(10)
			if test.later != 0 {
				h.ahead = func(ntptime.Raw) time.Duration { return test.later }
				h.polls(60)
			}
			if got := len(h.steps); got != test.want {
				t.Errorf("got steps %v, want %d", h.steps, test.want)
			}
			if h.error().Abs() > 10*time.Millisecond {
				t.Errorf("got %v off in the end, want it followed", h.error())
			}
		})
	}
}

// MAXFREQ of RFC 5905 Figure 27, 500 ppm, whatever a server makes us believe; and a
// lower bound where it is set.
func TestRFC5905_11_3_FrequencyIsBounded(t *testing.T) {
	for _, test := range []struct {
		name          string
		max           ntptime.Frequency // 0: the default
		truth, bounds ntptime.Frequency
	}{
		{"below the bound", 0, 300 * ntptime.PPM, 301 * ntptime.PPM},
		{"500 ppm if nothing is said", 0, 900 * ntptime.PPM, 500 * ntptime.PPM},
		{"as configured", 50 * ntptime.PPM, 200 * ntptime.PPM, 50 * ntptime.PPM},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := usual()
			cfg.MaxFrequency = test.max
			cfg.Frequency, cfg.FrequencyError = test.truth, ntptime.PPM // as a drift file might say
			h := newHost(cfg, start, 0)
			h.ahead = func(raw ntptime.Raw) time.Duration { return test.truth.Over(time.Duration(raw)) }
			h.polls(20)
			if h.worst > test.bounds || h.worst < test.bounds*9/10 {
				t.Errorf("largest lasting correction: got %v, want %v", h.worst, test.bounds)
			}
		})
	}
}

// The system variables of RFC 5905 Figure 25: one stratum below the system peer, its
// address for the reference id, its root delay and dispersion in ours.
func TestRFC5905_11_2_3_SystemVariables(t *testing.T) {
	h := newHost(usual(), start, 10*time.Millisecond)
	s := h.Snapshot(h.now())
	if s.Synchronized || s.Stratum != wire.MaxStratum || s.Leap != wire.LeapUnknown {
		t.Errorf("before the first sample: got %v, stratum %d, leap %v, want false, 16, unknown", s.Synchronized, s.Stratum, s.Leap)
	}
	h.polls(8)
	s = h.Snapshot(h.now())
	if want := wire.ReferenceAddress(netip.MustParseAddr("192.0.2.7")); s.Stratum != 3 || s.ReferenceID != want || s.SystemPeer != 1 {
		t.Errorf("got stratum %d, reference id %x, system peer %d, want 3, %x, 1", s.Stratum, s.ReferenceID, s.SystemPeer, want)
	}
	if s.RootDelay < 4900*time.Microsecond || s.RootDelay > 6*time.Millisecond {
		t.Errorf("root delay: got %v, want the server's 3 ms and our 2 ms", s.RootDelay)
	}
	if s.RootDispersion < time.Millisecond || s.ErrorBound < s.RootDispersion+s.RootDelay/2 {
		t.Errorf("got root dispersion %v and error bound %v, want at least the server's 1 ms, and with half the root delay", s.RootDispersion, s.ErrorBound)
	}
}

// The leap indicator is shown on the last day alone (RFC 5905 §7.3), because the used
// sources say so, and goes when the second is over.
func TestRFC5905_7_3_LeapIsShownOnTheLastDay(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin time.Time
		leap  wire.Leap
		want  wire.Leap
	}{
		{"the last day", time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC), wire.LeapInsert, wire.LeapInsert},
		{"a second less", time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC), wire.LeapDelete, wire.LeapDelete},
		{"the middle of the month", time.Date(2026, 12, 15, 18, 0, 0, 0, time.UTC), wire.LeapInsert, wire.LeapNone},
		{"nobody says so", time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC), wire.LeapNone, wire.LeapNone},
		{"the day after", time.Date(2027, 1, 1, 0, 1, 0, 0, time.UTC), wire.LeapNone, wire.LeapNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(usual(), ntptime.WallOf(test.begin), 0)
			h.leap = test.leap
			h.polls(5)
			if got := h.Snapshot(h.now()).Leap; got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
