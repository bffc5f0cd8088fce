package system

import (
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// bench drives a System by hand: a raw clock without error, a disciplined one as
// told, and servers whose offset from the true time is given.
type bench struct {
	t      *testing.T
	sys    *System
	raw    ntptime.Raw
	wall   int64   // disciplined − true, ns, at rawAt
	rate   float64 // of the disciplined clock against raw
	rawAt  ntptime.Raw
	out    Output
	events []model.Event
	steps  []time.Duration
	last   model.Correction
	status map[model.SourceID]*model.SourceStatus
	hints  []model.Hint
	utc    ntptime.Wall // true time at raw 0
}

func defaults() Config {
	return Config{MinSources: 1, MaxDistance: 1500 * time.Millisecond, Panic: 1000 * time.Second, PanicGateOpen: true,
		StepThreshold: time.Second, StepUpdates: 3, Precision: -24}
}

// newBench starts with the clock ahead of true time by ahead.
func newBench(t *testing.T, ahead time.Duration, f func(c *Config)) *bench {
	b := &bench{t: t, wall: int64(ahead), utc: ntptime.WallOf(time.Date(2030, 3, 10, 12, 0, 0, 0, time.UTC)),
		status: map[model.SourceID]*model.SourceStatus{}}
	c := defaults()
	if f != nil {
		f(&c)
	}
	b.sys = New(c, b.now())
	return b
}

func (b *bench) truth() ntptime.Wall { return b.utc + ntptime.Wall(b.raw) }

func (b *bench) error() time.Duration {
	return time.Duration(b.wall + int64(b.rate*float64(b.raw-b.rawAt)))
}

func (b *bench) now() ntptime.Instant {
	return ntptime.Instant{Raw: b.raw, Wall: b.truth() + ntptime.Wall(b.error())}
}

func (b *bench) add(id model.SourceID, f func(o *SourceOptions)) {
	o := SourceOptions{MinPoll: 6, MaxPoll: 10}
	if f != nil {
		f(&o)
	}
	b.sys.AddSource(b.now(), id, o)
	b.status[id] = &model.SourceStatus{Source: id, Reach: 1, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}), 123)}
}

// pass lets time go by, timers included.
func (b *bench) pass(d time.Duration) {
	end := b.raw.Add(d)
	for {
		due := b.sys.Deadline()
		if due > end {
			break
		}
		b.raw = max(b.raw, due)
		b.out.Reset()
		b.sys.OnTimer(b.now(), &b.out)
		b.act()
	}
	b.raw = end
}

func (b *bench) act() {
	b.events = append(b.events, b.out.Events...)
	b.hints = append(b.hints, b.out.Hints...)
	if !b.out.HasCorrection {
		return
	}
	b.last = b.out.Correction
	before := b.now()
	b.wall, b.rawAt = int64(b.error()), b.raw
	if s := b.last.Step; s != 0 {
		b.steps = append(b.steps, s)
		b.wall += int64(s)
	}
	b.rate = float64(b.last.Frequency + b.last.Slew)
	var out Output
	b.sys.OnApplied(model.Applied{At: b.now(), BeforeWall: before.Wall, Rate: b.last.Frequency + b.last.Slew, Correction: b.last}, &out)
}

func (b *bench) say(id model.SourceID, f func(s *model.SourceStatus)) {
	f(b.status[id])
	b.out.Reset()
	b.sys.OnStatus(b.now(), b.status[id], &b.out)
	b.act()
}

// sample makes an exchange with a source whose clock is ahead by server.
func (b *bench) sample(id model.SourceID, server time.Duration, f func(m *model.Sample)) {
	const leg = 100 * time.Microsecond
	m := model.Sample{Source: id, T1: b.now(), Server: model.ServerState{Stratum: 2, Precision: -20, ReferenceID: wire.ReferenceName("x"),
		RootDelay: 2 * time.Millisecond, RootDispersion: time.Millisecond}}
	b.raw = b.raw.Add(leg)
	m.T2 = b.truth().Add(server)
	m.T3 = m.T2
	b.raw = b.raw.Add(leg)
	m.T4 = b.now()
	if f != nil {
		f(&m)
	}
	st := b.status[id]
	st.Reach, st.Unanswered, st.Server, st.LastPacket = st.Reach<<1|1, 0, m.Server, m.T4
	b.out.Reset()
	b.sys.OnSample(b.now(), &m, &b.out)
	b.act()
	b.say(id, func(*model.SourceStatus) {})
}

// run makes n exchanges with some sources, a gap apart.
func (b *bench) run(n int, gap time.Duration, server time.Duration, ids ...model.SourceID) {
	for range n {
		for _, id := range ids {
			b.sample(id, server, nil)
		}
		b.pass(gap)
	}
}

func (b *bench) snapshot() *model.Snapshot { return b.sys.Snapshot(b.now()) }

func (b *bench) saw(kind model.EventKind) int {
	n := 0
	for _, e := range b.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (b *bench) wantError(limit time.Duration) {
	b.t.Helper()
	if got := b.error(); got.Abs() > limit {
		b.t.Errorf("clock error: got %v, want within %v", got, limit)
	}
}
