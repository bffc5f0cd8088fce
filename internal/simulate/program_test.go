package simulate

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
)

// idle is a program that does nothing.
type idle struct{}

func (idle) deadline() ntptime.Raw                                { return ntptime.Never }
func (idle) timer(ntptime.Instant)                                {}
func (idle) receive(*packet, ntptime.Instant) bool                { return true }
func (idle) serve(*packet, ntptime.Instant)                       {}
func (idle) tend(ntptime.Instant)                                 {}
func (idle) jumped(time.Duration, time.Duration, ntptime.Instant) {}
func (idle) leaped(time.Duration, ntptime.Wall, ntptime.Instant)  {}
func (idle) report(ntptime.Instant) *model.Snapshot               { return nil }
func (idle) stop()                                                {}

// echo answers every packet with T1, T2 and T3.
type echo struct {
	idle
	m *machine
}

func (e *echo) receive(*packet, ntptime.Instant) bool { return false }

func (e *echo) serve(p *packet, now ntptime.Instant) {
	reply := binary.BigEndian.AppendUint64(p.data, uint64(p.arrived.Wall))
	reply = binary.BigEndian.AppendUint64(reply, uint64(now.Wall))
	e.m.send(p.to.Port(), p.from, reply)
}

// kalman is the linear filter of the reference tables, section 8: it knows wander
// and jitter, ignores the round trip, and may set its clock at any time.
type kalman struct {
	idle
	m             *machine
	server        netip.AddrPort
	poll          time.Duration
	wander        float64 // s/s per √s
	variance      float64 // of one measurement, s²
	next          ntptime.Raw
	y             float64
	p00, p01, p11 float64
	updated       ntptime.Raw
	samples       int
	measured      func(offset float64) // what each exchange gave, if wanted
}

func (f *kalman) deadline() ntptime.Raw { return f.next }

func (f *kalman) timer(now ntptime.Instant) {
	f.m.send(50000, f.server, binary.BigEndian.AppendUint64(nil, uint64(now.Wall)))
	f.next = f.next.Add(f.poll)
}

func (f *kalman) receive(p *packet, now ntptime.Instant) bool {
	timestamp := func(i int) ntptime.Wall { return ntptime.Wall(binary.BigEndian.Uint64(p.data[8*i:])) }
	offset := (timestamp(1).Sub(timestamp(0)).Seconds() + timestamp(2).Sub(now.Wall).Seconds()) / 2
	if f.measured != nil {
		f.measured(offset)
		return true
	}
	step := f.update(offset, now)
	f.m.apply(model.Correction{Step: time.Duration(math.Round(step * 1e9)), Frequency: ntptime.Frequency(f.y)})
	return true
}

// update gives the offset to correct now; the frequency found stays in y.
func (f *kalman) update(offset float64, now ntptime.Instant) float64 {
	if f.samples++; f.samples == 1 {
		f.p00, f.p11, f.updated = f.variance, 1e-8, now.Raw
		return offset
	}
	dt := now.Raw.Sub(f.updated).Seconds()
	f.updated = now.Raw
	w2 := f.wander * f.wander
	f.p00 += 2*dt*f.p01 + dt*dt*f.p11 + w2*dt*dt*dt/3
	f.p01 += dt*f.p11 + w2*dt*dt/2
	f.p11 += w2 * dt
	s := f.p00 + f.variance
	k0, k1 := f.p00/s, f.p01/s
	f.p11 -= k1 * f.p01
	f.p01 *= 1 - k0
	f.p00 *= 1 - k0
	f.y += k1 * offset
	return k0 * offset
}

// server and client are the bootstraps of scenarios with one of each: the first host
// serves.
func kalmanClient(poll time.Duration, wander, variance float64, measured func(float64)) func(*machine) program {
	return func(m *machine) program {
		if m.index == 0 {
			return &echo{m: m}
		}
		return &kalman{m: m, server: netip.AddrPortFrom(firstAddress, 123), poll: poll, wander: wander,
			variance: variance, next: m.read().Raw.Add(time.Second), measured: measured}
	}
}

func idleHosts(*machine) program { return idle{} }

// figuresOf runs a scenario with other programs than the core.
func figuresOf(t *testing.T, text string, boot func(*machine) program) *Result {
	t.Helper()
	r, err := run(context.Background(), parse(t, text), Options{Series: true}, boot)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pair is a scenario of a perfect server and one client.
func pair(duration, settle string, clock, link string, runs int, more string) string {
	return fmt.Sprintf("duration: %s\nsettle: %s\nruns: %d\nhosts:\n  server: {}\n  client: {clock: {%s}}\nlinks:\n  - {between: [client, server], %s}\n%s",
		duration, settle, runs, clock, link, more)
}

// near fails unless got is within a share of want.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > share*math.Abs(want) {
		t.Errorf("%s: got %.4g, want %.4g within %.1f %%", what, got, want, share*100)
	}
}

// parse reads a scenario.
func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
