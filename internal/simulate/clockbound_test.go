package simulate

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"timeball/internal/clockbound"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// bounded is a host that writes ClockBound's shared memory as the daemon does, beside a
// client of it, written from the layout alone, that reads it once a second.
type bounded struct {
	*core
	file *clockbound.File
	mem  []byte
	told *model.Snapshot
	next ntptime.Raw
	seen *readings
}

// readings is what a client has made of the file.
type readings struct {
	statuses [4]int
	written  [4]int  // by status
	wrong    int     // the bound did not hold
	width    float64 // s: sum of the bounds that were used
}

// clientReads is between two readings of the client.
const clientReads = ntptime.Raw(time.Second)

func (b *bounded) deadline() ntptime.Raw { return min(b.core.deadline(), b.next) }

func (b *bounded) timer(now ntptime.Instant) {
	b.core.timer(now)
	b.write()
	for ; b.next <= now.Raw; b.next += clientReads {
		b.read(now.Raw)
	}
}

func (b *bounded) receive(p *packet, now ntptime.Instant) bool {
	defer b.write()
	return b.core.receive(p, now)
}

func (b *bounded) jumped(by, slept time.Duration, now ntptime.Instant) {
	b.core.jumped(by, slept, now)
	b.write()
}

func (b *bounded) leaped(step time.Duration, before ntptime.Wall, now ntptime.Instant) {
	b.core.leaped(step, before, now)
	b.write()
}

// write tells a state that has just been published, as of then by the monotonic clock.
func (b *bounded) write() {
	if b.snapshot == nil || b.snapshot == b.told {
		return
	}
	b.told = b.snapshot
	told := clockbound.Of(b.told)
	b.seen.written[told.Status]++
	b.file.WriteAt(told, time.Duration(b.told.At.Raw))
}

// read asks the file how far the machine's clock is off, and the machine how far it is.
func (b *bounded) read(now ntptime.Raw) {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if version := binary.NativeEndian.Uint16(b.mem[12:]); version == 0 {
		b.seen.statuses[0]++
		return
	}
	asOf, void := int64(u64(b.mem[16:])*1e9+u64(b.mem[24:])), int64(u64(b.mem[32:])*1e9+u64(b.mem[40:]))
	status := u32(b.mem[68:])
	if int64(now) > void {
		status = 0
	}
	b.seen.statuses[status&3]++
	if status != 1 && status != 2 {
		return
	}
	limit := float64(u64(b.mem[48:]))*1e-9 + float64(u32(b.mem[64:]))*1e-9*float64(int64(now)-asOf)*1e-9
	b.seen.width += limit
	m := b.m
	if off := m.trueError(m.world.now, m.raw(m.world.now)); math.Abs(off) > limit {
		b.seen.wrong++
	}
}

// What programs are told by ClockBound's shared memory holds: while the clock is slewed,
// without sources, after others have set it, after a sleep and over a leap second.
func TestClockBoundHolds(t *testing.T) {
	const text = `
start: 2026-12-31T06:00:00.5Z
duration: 100800s
runs: 4
leap: {at: 2027-01-01T00:00:00Z, kind: insert}
hosts:
  ntp1: {config: {local: {stratum: 1}, server: {}, clock: {leap: {file: leap-seconds.list}}}}
  ntp2: {config: {local: {stratum: 1}, server: {}, clock: {leap: {file: leap-seconds.list}}}}
  ntp3: {config: {local: {stratum: 1}, server: {}, clock: {leap: {file: leap-seconds.list}}}}
  host:
    clock: {offset: 80ms, frequency: 23ppm, wander: 1e-9, sine: {amplitude: 0.1ppm, period: 86400s}}
    config:
      sources: [{server: ntp1}, {server: ntp2}, {server: ntp3}]
      clock: {step: {threshold: 1s, updates: 1}, leap: {file: leap-seconds.list}}
links:
  - {between: [host, ntp1], delay: 9ms, jitter: {distribution: exponential, mean: 300us}, loss: 0.005}
  - {between: [host, ntp2], delay: 14ms, jitter: {distribution: exponential, mean: 500us}, loss: 0.005}
  - {between: [host, ntp3], delay: 22ms, jitter: {distribution: exponential, mean: 800us}, loss: 0.01}
  - {between: [host, ntp1], interval: [10000s, 24400s], loss: 1}
  - {between: [host, ntp2], interval: [10000s, 24400s], loss: 1}
  - {between: [host, ntp3], interval: [10000s, 24400s], loss: 1}
events:
  - {at: 30000s, host: host, offset_step: 300ms}
  - {at: 40000s, host: host, suspend: 1800s}
  - {at: 50000s, host: host, offset_step: -40ms}
`
	s := parse(t, text)
	if testing.Short() {
		s.Runs = 1
	}
	for i := range s.Runs {
		seen := clientOf(t, "host", s.Seed+uint64(i), text)
		claims := seen.statuses[1] + seen.statuses[2]
		t.Logf("seed %d: written %d, read %d by status; ± %.3f ms on average, wrong in %d of %d", s.Seed+uint64(i), seen.written, seen.statuses, seen.width/float64(claims)*1e3, seen.wrong, claims)
		if float64(seen.wrong) > 1e-4*float64(claims) {
			t.Errorf("the bound was wrong in %d of %d readings, want one in ten thousand at most", seen.wrong, claims)
		}
		if all := claims + seen.statuses[0] + seen.statuses[3]; float64(claims) < 0.95*float64(all) || seen.statuses[2] < 5000 || seen.written[3] < 3 {
			t.Errorf("got %d written and %d read by status, want a bound in 95 of 100 readings, hours of free running, and three disruptions", seen.written, seen.statuses)
		}
	}
}

// clientOf plays one seed of a scenario and gives what a client has read on a host.
func clientOf(t *testing.T, host string, seed uint64, text string) *readings {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shm0")
	file, err := clockbound.Open(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), 0, 80, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(mem) }()
	seen := &readings{}
	s := parse(t, text)
	s.Runs, s.Seed = 1, seed
	_, err = run(context.Background(), s, Options{}, func(m *machine) program {
		c := boot(m)
		if m.host.Name != host {
			return c
		}
		return &bounded{core: c.(*core), file: file, mem: mem, seen: seen, next: m.timestamp().Raw + clientReads/3}
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}
