package clock

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// readOnly is this machine's clock with every way of setting it walled up.
type readOnly struct {
	Syscalls
	t *testing.T
}

func (r readOnly) MaySet() bool { return true }

func (r readOnly) Adjtimex(t *unix.Timex) (int, error) {
	if t.Modes != 0 {
		r.t.Errorf("adjtimex with modes %#x: a test must never set the clock", t.Modes)
		return -1, unix.EPERM
	}
	return r.Syscalls.Adjtimex(t)
}

func TestKernelDriverReadsThisMachine(t *testing.T) {
	k, err := NewKernel(readOnly{System(), t})
	if err != nil {
		t.Fatal(err)
	}
	a, wall, b := k.Now(), k.Wall(), k.Now()
	if b.Raw < a.Raw {
		t.Errorf("raw ran backwards: %d, then %d", a.Raw, b.Raw)
	}
	if d := time.Since(wall.Time()); d.Abs() > 5*time.Second {
		t.Errorf("wall: got %v away from time.Now", d)
	}
	if p := k.Precision(); p < -30 || p > -8 {
		t.Errorf("precision: got 2^%d s", p)
	}
	k.CheckJump()
	if d := k.At(k.Wall()).Raw.Sub(k.Now().Raw); d.Abs() > time.Second {
		t.Errorf("a timestamp of now is %v away from now", d)
	}
}

func TestCapabilityIsReadWithoutError(t *testing.T) { System().MaySet() }

func TestReadingsDoNotAllocate(t *testing.T) {
	k, err := NewKernel(readOnly{System(), t})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Clock{k, NewVirtual(VirtualConfig{Frequency: 1e-5}), NewObserve()} {
		timestamp := ntptime.Wall(time.Now().UnixNano())
		for what, read := range map[string]func(){
			"Now": func() { c.Now() }, "Wall": func() { c.Wall() }, "At": func() { c.At(timestamp) }, "Quick": func() { c.Quick() }, "AtLatest": func() { c.AtLatest(timestamp) }, "Until": func() { c.Until(5) },
		} {
			if n := testing.AllocsPerRun(100, read); n != 0 {
				t.Errorf("%T.%s: got %v allocations, want 0", c, what, n)
			}
		}
	}
}

func TestRawNeverRunsBackwardsWhileCorrectionsGoOn(t *testing.T) {
	v := NewVirtual(VirtualConfig{Offset: time.Second, Frequency: 1e-4})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := v.Now()
			for {
				select {
				case <-stop:
					return
				default:
				}
				v.At(ntptime.Wall(time.Now().UnixNano()))
				now := v.Now()
				if now.Raw < last.Raw {
					t.Errorf("ran backwards: %+v, then %+v", last, now)
					return
				}
				last = now
			}
		})
	}
	for i := range 2000 {
		c := model.Correction{Frequency: ntptime.Frequency(i%10) * 1e-5, Slew: ntptime.Frequency(i%5-2) * 0.04}
		if i%100 == 0 {
			c.Step = time.Millisecond
		}
		v.Apply(c)
		v.CheckJump()
	}
	close(stop)
	readers.Wait()
}

func BenchmarkReadings(b *testing.B) {
	v, h := NewVirtual(VirtualConfig{}), System()
	for _, r := range []struct {
		name string
		read func()
	}{
		{"realtime", func() { h.Realtime() }},
		{"raw", func() { h.MonotonicRaw() }},
		{"virtual Now", func() { v.Now() }},
		{"virtual At", func() { real, _ := h.Realtime(); v.At(ntptime.Wall(real)) }},
		{"pair", func() { readPair(h, time.Hour) }},
	} {
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.read()
			}
		})
	}
}

// locked lets several goroutines share a fake host.
type locked struct {
	mu sync.Mutex
	h  *fakeHost
}

func (l *locked) Realtime() (int64, int64) { l.mu.Lock(); defer l.mu.Unlock(); return l.h.Realtime() }
func (l *locked) MonotonicRaw() int64      { l.mu.Lock(); defer l.mu.Unlock(); return l.h.MonotonicRaw() }
func (l *locked) Boottime() int64          { l.mu.Lock(); defer l.mu.Unlock(); return l.h.Boottime() }
func (l *locked) MaySet() bool             { return true }

func (l *locked) Adjtimex(t *unix.Timex) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.h.Adjtimex(t)
}

func TestKernelDriverIsReadWhileItIsCorrected(t *testing.T) {
	host := &locked{h: newFakeHost()}
	k, err := NewKernel(host)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := k.Now()
			for {
				select {
				case <-stop:
					return
				default:
				}
				now := k.Now()
				if at := k.At(now.Wall); now.Raw < last.Raw || at.Wall != now.Wall {
					t.Errorf("got %+v after %+v, mapped to %+v", now, last, at)
					return
				}
				k.Until(now.Raw.Add(time.Second))
				last = now
			}
		})
	}
	for i := range 1000 {
		k.Apply(model.Correction{Frequency: ntptime.Frequency(i%10) * 1e-5, Slew: ntptime.Frequency(i%5-2) * 0.04, Step: time.Duration(i % 3)})
		k.CheckJump()
		k.LeapDone()
	}
	close(stop)
	readers.Wait()
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
