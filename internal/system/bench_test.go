package system

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// feeder makes exchanges of a perfect oscillator without a network in between.
type feeder struct {
	sys  *System
	raw  ntptime.Raw
	rand *rand.Rand
	n    int
	out  Output
}

func newFeeder(sources int) *feeder {
	f := &feeder{raw: 1e9, rand: rand.New(rand.NewPCG(1, 2)), n: sources}
	f.sys = New(Config{MinSources: 1, PanicGateOpen: true, StepThreshold: time.Second, StepUpdates: 3}, f.now())
	for i := range sources {
		f.sys.AddSource(f.now(), model.SourceID(i+1), SourceOptions{MinPoll: 6, MaxPoll: 10})
	}
	for range 200 * sources {
		f.next(0)
	}
	return f
}

func (f *feeder) now() ntptime.Instant {
	return ntptime.Instant{Raw: f.raw, Wall: ntptime.Wall(trueStart) + ntptime.Wall(f.raw)}
}

// next feeds one exchange of a source chosen in turn.
func (f *feeder) next(i int) {
	f.raw += ntptime.Raw(64e9 / f.n)
	d1, d2 := int64(100e3*(1+f.rand.ExpFloat64())), int64(100e3*(1+f.rand.ExpFloat64()))
	t1 := f.now()
	f.raw += ntptime.Raw(d1 + d2)
	m := model.Sample{Source: model.SourceID(i%f.n + 1), T1: t1, T4: f.now(), T2: t1.Wall.Add(time.Duration(d1)),
		T3: t1.Wall.Add(time.Duration(d1)), Server: model.ServerState{Stratum: 1, Precision: -20}}
	f.out.Reset()
	f.sys.OnSample(f.now(), &m, &f.out)
}

func BenchmarkSample(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(map[int]string{1: "one-source", 4: "four-sources"}[n], func(b *testing.B) {
			f := newFeeder(n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				f.next(i)
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	f := newFeeder(4)
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		f.sys.Snapshot(f.now())
	}
}

func TestSampleAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 4} {
		f := newFeeder(n)
		i := 0
		if got := testing.AllocsPerRun(500, func() { f.next(i); i++ }); got != 0 {
			t.Errorf("%d sources: got %v allocations an exchange, want 0", n, got)
		}
	}
}

func TestMemoryPerSourceIsBounded(t *testing.T) {
	var src source
	size := unsafe.Sizeof(src) + unsafe.Sizeof(*src.estimate)
	if size > 20<<10 {
		t.Errorf("got %d bytes a source, want at most 20 KiB", size)
	}
	t.Logf("%d bytes a source, %d of them its own state", size, unsafe.Sizeof(*src.estimate))
}
