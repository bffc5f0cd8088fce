package reference

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

const (
	epoch = ntptime.Wall(1_700_000_000e9)
	begin = ntptime.Raw(1e9)
)

// world is an oscillator that runs fast by freq against true time, and our clock on top of it.
type world struct {
	freq   float64
	behind time.Duration // of our clock
}

func (w world) at(elapsed time.Duration) (now ntptime.Instant, truth ntptime.Wall) {
	raw := begin.Add(elapsed + time.Duration(float64(elapsed)*w.freq))
	truth = epoch.Add(elapsed)
	return ntptime.Instant{Raw: raw, Wall: truth.Add(-w.behind)}, truth
}

func (w world) reading(elapsed, late time.Duration) *Reading {
	now, truth := w.at(elapsed)
	r := &Reading{At: now, Reference: truth.Add(-late)}
	return r
}

// poll runs a clock over a poll of 16 s with a reading a second.
func poll(t *testing.T, c *Clock, w world, from time.Duration, lock Lock, readings func(i int, r *Reading)) *Output {
	t.Helper()
	out := new(Output)
	for i := range 16 {
		r := w.reading(from+time.Duration(i)*time.Second+500*time.Millisecond, 0)
		readings(i, r)
		c.OnReading(r, lock, out)
	}
	end, _ := w.at(from + 16*time.Second + 10*time.Millisecond)
	c.OnTimer(end, out)
	return out
}

func newClock(cfg Config) *Clock {
	cfg.Poll = 4
	return New(cfg, ntptime.Instant{Raw: begin, Wall: epoch})
}

// offset is what a sample says: reference − raw, less what is true.
func (w world) offset(s *model.Sample) float64 {
	elapsed := float64(s.T1.Raw-begin) / (1 + w.freq)
	truth := float64(epoch) + elapsed - float64(s.T1.Raw)
	return float64(int64(s.T2)-int64(s.T1.Raw)) - truth
}

func TestMeanOfAPoll(t *testing.T) {
	w := world{freq: 50e-6}
	c := newClock(Config{ID: 3, RefID: wire.ReferenceName("GPS"), Delay: time.Millisecond, Precision: 100})
	random := rand.New(rand.NewPCG(1, 2))
	out := poll(t, c, w, 0, Lock{}, func(i int, r *Reading) {
		r.Reference = r.Reference.Add(time.Duration(random.NormFloat64() * 1000))
		if i == 5 {
			r.Reference = r.Reference.Add(300 * time.Microsecond) // one that is far off
		}
	})
	if !out.HasSample {
		t.Fatal("no sample")
	}
	if err := w.offset(&out.Sample); math.Abs(err) > 900 {
		t.Errorf("16 readings of 1 µs give %v ns of error", err)
	}
	if d := out.Sample.DelayError; d < 100 || d > 700 {
		t.Errorf("stated error %v; about 250 ns is right", d)
	}
	if s := c.Status(); s.Reach != 1 || s.Server.Stratum != 0 || s.Server.RootDelay != time.Millisecond || s.Accepted != 16 {
		t.Errorf("status %+v", s)
	}
}

func TestTooFewReadings(t *testing.T) {
	w := world{}
	c := newClock(Config{MinReadings: 20})
	if out := poll(t, c, w, 0, Lock{}, func(int, *Reading) {}); out.HasSample {
		t.Error("a sample of too few readings")
	}
	if s := c.Status(); s.Reach != 0 || s.Unanswered != 1 || !strings.Contains(s.Waiting, "16 readings") {
		t.Errorf("status %+v", s)
	}
}

func TestPulses(t *testing.T) {
	w := world{freq: -20e-6, behind: 80 * time.Millisecond}
	// a pulse says only where the second begins: its Reference is off by whole seconds
	pulses := func(late time.Duration) func(i int, r *Reading) {
		return func(i int, r *Reading) {
			r.Pulse = true
			r.At.Raw += ntptime.Raw(late)
			r.At.Wall = r.At.Wall.Add(late)
			r.Reference = r.Reference.Add(7 * time.Second)
		}
	}
	now, truth := w.at(0)
	told := func(off time.Duration) Lock {
		return Lock{At: now.Raw, Since: time.Duration(int64(truth) - int64(now.Raw) + int64(off))}
	}
	synced := &model.Snapshot{Synchronized: true, ErrorBound: 10 * time.Millisecond, Offset: 80 * time.Millisecond}
	for _, test := range []struct {
		name string
		cfg  Config
		lock Lock
		sys  *model.Snapshot
		good bool
		why  string
	}{
		{"numbered by another clock, 200 ms late", Config{Lock: wire.ReferenceName("NMEA")}, told(-200 * time.Millisecond), nil, true, ""},
		{"half a second off: either second", Config{Lock: wire.ReferenceName("NMEA")}, told(-450 * time.Millisecond), nil, false, "ambiguous"},
		{"the other clock says nothing", Config{Lock: wire.ReferenceName("NMEA")}, Lock{At: ntptime.Never}, nil, false, "NMEA"},
		{"our own time", Config{}, Lock{}, synced, true, ""},
		{"not synchronized", Config{}, Lock{}, &model.Snapshot{}, false, "lock:"},
		{"our own time is too uncertain", Config{}, Lock{}, &model.Snapshot{Synchronized: true, ErrorBound: 400 * time.Millisecond}, false, "uncertain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClock(test.cfg)
			if test.sys != nil {
				c.OnSystem(test.sys)
			}
			out := poll(t, c, w, 0, test.lock, pulses(0))
			if out.HasSample != test.good {
				t.Fatalf("sample: %v; %s", out.HasSample, c.Status().Waiting)
			}
			if test.good && math.Abs(w.offset(&out.Sample)) > 1000 {
				t.Errorf("error %v ns", w.offset(&out.Sample))
			}
			if !strings.Contains(c.Status().Waiting, test.why) {
				t.Errorf("says %q, not %q", c.Status().Waiting, test.why)
			}
		})
	}
}

func TestLockFallsSilent(t *testing.T) {
	w := world{}
	c := newClock(Config{Lock: wire.ReferenceName("GPS")})
	now, truth := w.at(0)
	lock := Lock{At: now.Raw, Since: time.Duration(int64(truth) - int64(now.Raw))}
	pulse := func(i int, r *Reading) { r.Pulse = true }
	if out := poll(t, c, w, 32*time.Second, lock, pulse); !out.HasSample {
		t.Error("pulses lose their numbers within a minute")
	}
	if out := poll(t, c, w, 80*time.Second, lock, pulse); out.HasSample {
		t.Error("a clock that fell silent numbers pulses for ever")
	}
}

func TestTAI(t *testing.T) {
	w := world{}
	c := newClock(Config{})
	tai := func(i int, r *Reading) { r.TAI, r.Reference = true, r.Reference.Add(37*time.Second) }
	if out := poll(t, c, w, 0, Lock{}, tai); out.HasSample || !strings.Contains(c.Status().Waiting, "leap.file") {
		t.Errorf("TAI was taken for UTC: %q", c.Status().Waiting)
	}
	c.OnSystem(&model.Snapshot{TAI: 37})
	if out := poll(t, c, w, 16*time.Second, Lock{}, tai); !out.HasSample || math.Abs(w.offset(&out.Sample)) > 1 {
		t.Error("TAI is not made UTC")
	}
}

// A serial receiver tells the time 300 ms behind its second; a pulse that it numbers
// shows by how much.
func TestBurstDelay(t *testing.T) {
	w := world{freq: 10e-6}
	random := rand.New(rand.NewPCG(1, 2))
	serial := newClock(Config{RefID: wire.ReferenceName("NMEA"), LearnBurst: true})
	pulses := newClock(Config{Lock: wire.ReferenceName("NMEA")})
	var out *Output
	for i := range 40 {
		from := time.Duration(i) * 16 * time.Second
		out = poll(t, serial, w, from, Lock{}, func(_ int, r *Reading) {
			late := 250*time.Millisecond + time.Duration(random.Float64()*2e6)
			r.At.Raw, r.At.Wall = r.At.Raw.Add(late), r.At.Wall.Add(late)
		})
		pulseOut := new(Output)
		for s := range 16 {
			r := w.reading(from+time.Duration(s)*time.Second, 0)
			r.Pulse = true
			pulses.OnReading(r, serial.Lock(), pulseOut)
		}
		if late, ok := pulses.Late(); ok {
			serial.OnBurst(late)
		}
		end, _ := w.at(from + 16*time.Second + 10*time.Millisecond)
		pulses.OnTimer(end, pulseOut)
	}
	if err := w.offset(&out.Sample); math.Abs(err) > 1e6 {
		t.Errorf("still %.1f ms off", err/1e6)
	}
}

func TestReach(t *testing.T) {
	w := world{}
	c := newClock(Config{RefID: wire.ReferenceName("GPS")})
	poll(t, c, w, 0, Lock{}, func(int, *Reading) {})
	out := new(Output)
	for i := 2; i < 12; i++ {
		now, _ := w.at(time.Duration(i) * 16 * time.Second)
		c.OnTimer(now, out)
	}
	s := c.Status()
	if s.Reach != 0 || len(out.Events) != 1 || !strings.Contains(s.Waiting, "no readings") {
		t.Errorf("reach %d, %d events, %q", s.Reach, len(out.Events), s.Waiting)
	}
	c.OnFailure("unplugged", out)
	now, _ := w.at(13 * 16 * time.Second)
	c.OnTimer(now, out)
	if s.Waiting != "unplugged" {
		t.Errorf("says %q", s.Waiting)
	}
}

func TestNoReadingsNoPanic(t *testing.T) {
	c := New(Config{Poll: -4}, ntptime.Instant{Raw: begin})
	if at, _, sd := mean([]point{{raw: 5, since: 7}}); at != 5 || sd != 0 {
		t.Errorf("one reading: %v ± %v", at, sd)
	}
	c.OnTimer(ntptime.Instant{Raw: begin.Add(time.Hour)}, new(Output))
	if c.Deadline() <= begin.Add(time.Hour) {
		t.Error("a deadline in the past")
	}
}
