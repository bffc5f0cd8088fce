package system

import (
	"math/rand/v2"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// A clock that ticks coarsely, polled in step with its ticks, gives samples that do not
// contradict each other: its timestamps show what it hides. The served bound holds all the same.
func TestCoarseTicksThatPollsKeepStepWith(t *testing.T) {
	for _, tick := range []time.Duration{time.Second, 250 * time.Millisecond, 100 * time.Millisecond, 15625 * time.Microsecond, 15600 * time.Microsecond, time.Millisecond} {
		b := newBench(t, 0, nil)
		b.add(1, nil)
		b.pass(tick * 7 / 10)
		random := rand.New(rand.NewPCG(1, uint64(tick)))
		for range 12 {
			b.sample(1, 0, func(m *model.Sample) {
				m.T2 = m.T2.Add(-time.Duration(int64(m.T2) % int64(tick)))
				m.T3 = m.T2
			})
			b.pass(4*time.Second + time.Duration(random.IntN(100_000)) - 50*time.Microsecond)
		}
		if got := b.sys.sources[0].ownDispersion(); got < tick.Seconds() {
			t.Errorf("ticks of %s: got samples believed to %.6f s, want no better than a tick", tick, got)
		}
	}
}

// Fine timestamps and exact requests, as in virtual time, show no tick.
func TestFineTimestampsShowNoTick(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for name, step := range map[string]func() time.Duration{
		"a real clock":  func() time.Duration { return time.Second + time.Duration(random.IntN(100_000)) },
		"exact seconds": func() time.Duration { return time.Second - 200*time.Microsecond },
	} {
		b := newBench(t, 0, nil)
		b.add(1, nil)
		for i := range 50 {
			b.sample(1, 0, nil)
			if got := b.sys.sources[0].ownDispersion(); got > 20e-6 {
				t.Fatalf("%s, sample %d: got timestamps believed to %g s", name, i, got)
			}
			b.pass(step())
		}
	}
}

// Polls as regular as good timers make them put an honest source's timestamps on a grid by
// chance, and its broadcasts on purpose: neither is a coarse tick.
func TestRegularPollsAndBroadcastsShowNoTick(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for _, kind := range []model.SampleKind{model.SampleExchange, model.SampleBroadcast} {
		for range 2000 {
			var g grid
			for i := range 20 {
				at := int64(i)*1e9 + int64(random.NormFloat64()*3e3)
				m := model.Sample{Kind: kind, T2: ntptime.Wall(at + 1e5 + int64(random.ExpFloat64()*500))}
				m.T1.Raw = ntptime.Raw(at)
				if kind == model.SampleBroadcast { // sent at exact seconds, heard after queues
					m.T2, m.T1.Raw = ntptime.Wall(i*1e9), ntptime.Raw(at+int64(random.ExpFloat64()*1e6))
				}
				m.T3 = m.T2
				if got := g.tick(&m); got != 0 {
					t.Fatalf("kind %v, sample %d: got ticks of %g s, want none", kind, i, got)
				}
			}
		}
	}
}
