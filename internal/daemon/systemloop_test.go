package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"timeball/internal/clock"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
)

// moody is a virtual clock to which things happen.
type moody struct {
	*clock.Virtual
	mu     sync.Mutex
	by     time.Duration // set by somebody else, in all
	jump   model.ClockJump
	jumped bool
	leap   model.Applied
	leapt  bool
	refuse string
}

func newMoody() *moody { return &moody{Virtual: clock.NewVirtual(clock.VirtualConfig{})} }

func (m *moody) shift() time.Duration { m.mu.Lock(); defer m.mu.Unlock(); return m.by }

func (m *moody) Now() ntptime.Instant {
	now := m.Virtual.Now()
	now.Wall = now.Wall.Add(m.shift())
	return now
}

func (m *moody) Wall() ntptime.Wall { return m.Now().Wall }

func (m *moody) AtLatest(realtime ntptime.Wall) ntptime.Instant { return m.At(realtime) }

func (m *moody) Quick() ntptime.Instant { return m.Now() }

func (m *moody) At(realtime ntptime.Wall) ntptime.Instant {
	at := m.Virtual.At(realtime)
	at.Wall = at.Wall.Add(m.shift())
	return at
}

func (m *moody) Apply(c model.Correction) model.Applied {
	m.mu.Lock()
	refuse := m.refuse
	m.mu.Unlock()
	if refuse != "" {
		return model.Applied{At: m.Now(), BeforeWall: m.Now().Wall, Rate: m.Virtual.Rate(), Err: refuse}
	}
	applied := m.Virtual.Apply(c)
	by := m.shift()
	applied.At.Wall, applied.BeforeWall = applied.At.Wall.Add(by), applied.BeforeWall.Add(by)
	return applied
}

// set is somebody else's settimeofday; sleep is told by the jump.
func (m *moody) set(by, slept time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.by += by
	now := m.Virtual.Now()
	now.Wall = now.Wall.Add(m.by)
	m.jump, m.jumped = model.ClockJump{At: now, By: by, Slept: slept}, true
}

func (m *moody) CheckJump() (model.ClockJump, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	jumped := m.jumped
	m.jumped = false
	return m.jump, jumped
}

func (m *moody) LeapDone() (model.Applied, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	leapt := m.leapt
	m.leapt = false
	return m.leap, leapt
}

// Threat 51: the clock set by somebody else is noticed, logged and put right, without an end.
func TestAClockSetBySomebodyElse(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Second, -10 * time.Second, time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			s := serveTime(t, "127.0.0.1", 0)
			m := newMoody()
			w := start(t, sourceText(s.addr), func(o *Options) { o.Clock = m })
			until(t, "synchronized", func() bool { return w.synchronized() && w.d.Snapshot().Updates > 3 })
			m.set(by, 0)
			until(t, "noticed", func() bool { return w.lines("clock-jump") == 1 })
			until(t, "put right", func() bool {
				now := w.clock.Now()
				return now.Wall.Sub(ntptime.WallOf(time.Now())).Abs() < 100*time.Millisecond
			})
			if w.said("panic") != 0 {
				t.Error("got a panic, want none: nobody's servers were wrong")
			}
		})
	}
}

// Threat 51: a sleep: no false panic, and synchronized again.
func TestTheMachineSleeps(t *testing.T) {
	t.Run("for less than the panic limit", func(t *testing.T) { testSleep(t, 10*time.Minute) })
	t.Run("for longer", func(t *testing.T) { testSleep(t, time.Hour) })
}

func testSleep(t *testing.T, slept time.Duration) {
	s := serveTime(t, "127.0.0.1", 0)
	m := newMoody()
	w := start(t, sourceText(s.addr), func(o *Options) { o.Clock = m })
	until(t, "synchronized", func() bool { return w.synchronized() && w.d.Snapshot().Updates > 3 })
	s.mu.Lock() // true time went on and the clock is set forward by the kernel, at one moment
	s.offset.Store(int64(slept))
	m.set(slept, slept)
	s.mu.Unlock()
	until(t, "noticed", func() bool { return w.lines("clock-jump") == 1 })
	before := w.d.Snapshot().Updates
	until(t, "synchronized again", func() bool { return w.synchronized() && w.d.Snapshot().Updates > before+3 })
	if w.said("panic") != 0 || w.d.Snapshot().PanicOffset != 0 {
		t.Error("got a panic, want none")
	}
}

// A clock that refuses corrections is an error in the log, once, and no end.
func TestAClockThatRefuses(t *testing.T) {
	s := serveTime(t, "127.0.0.1", 0)
	s.offset.Store(int64(3 * time.Millisecond))
	m := newMoody()
	m.refuse = "operation not permitted"
	w := start(t, sourceText(s.addr)+localServer, func(o *Options) { o.Clock = m })
	until(t, "refused", func() bool { return w.lines("clock-refused") > 0 })
	until(t, "polls go on", func() bool { return s.asked.Load() > 10 })
	if got := w.lines("clock-refused"); got != 1 {
		t.Errorf("got %d lines for the same refusal, want 1", got)
	}
	w.mustServe()
}

// loop is a system loop alone, with nothing around it.
func loop(t *testing.T, c clock.Clock) *systemLoop {
	t.Helper()
	gate := &stateFiles{log: zap.NewNop()}
	gate.gate.Store(true)
	l := &systemLoop{
		clock:    c,
		inbox:    make(chan systemMessage, 8),
		snapshot: new(atomic.Pointer[model.Snapshot]),
		steering: map[model.SourceID]steering{},
		onEvent:  func(model.Event) {},
		gate:     gate,
	}
	l.process = engine.NewSystemProcess(system.Config{Precision: -20}, l, c.Now())
	return l
}

func TestALeapSecondMadeByTheClockIsTold(t *testing.T) {
	m := newMoody()
	l := loop(t, m)
	told := newSteering()
	l.steering[1] = told
	m.leap = model.Applied{At: m.Now(), BeforeWall: m.Now().Wall, Correction: model.Correction{Step: -time.Second}}
	m.leapt = true
	l.checkClock()
	select {
	case <-told.changed:
	default:
		t.Error("the associations were not told that the clock has changed")
	}
	if _, again := m.LeapDone(); again {
		t.Error("the leap second was not taken")
	}
}

func TestTheNewestHintWins(t *testing.T) {
	s := newSteering()
	for i := range 5 {
		replace(s.hints, model.Hint{Source: 1, Interval: time.Duration(i)})
	}
	if got := <-s.hints; got.Interval != 4 {
		t.Errorf("got %d, want the newest, 4", got.Interval)
	}
	select {
	case h := <-s.hints:
		t.Errorf("got another, %v, want none", h)
	default:
	}
}

func TestTheLoopEndsWithItsContext(t *testing.T) {
	l := loop(t, newMoody())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx) }()
	alive := make(chan struct{})
	l.inbox <- aliveMessage(func() { close(alive) })
	<-alive
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if l.snapshot.Load() == nil {
		t.Error("no snapshot was published")
	}
}

// aliveMessage makes the message of the watchdog.
func aliveMessage(f func()) systemMessage { return alive{f} }
