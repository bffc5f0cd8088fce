package system

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/discipline"
	"timeball/internal/filter"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func TestReferenceClockMakesStratumOne(t *testing.T) {
	b := newBench(t, 50*time.Millisecond, nil)
	b.add(1, nil)
	for range 20 {
		b.sample(1, 0, func(m *model.Sample) {
			m.Kind, m.DelayError = model.SampleReference, time.Microsecond
			m.T4 = m.T1
			m.T2 = b.truth().Add(-200 * time.Microsecond)
			m.T3 = m.T2
			m.Server = model.ServerState{Stratum: 0, ReferenceID: wire.ReferenceName("PPS")}
		})
		b.pass(time.Second)
	}
	s := b.snapshot()
	if s.Stratum != 1 || s.ReferenceID != wire.ReferenceName("PPS") || !s.Synchronized {
		t.Errorf("got stratum %d, reference %v, synchronized %v", s.Stratum, s.ReferenceID, s.Synchronized)
	}
	b.wantError(20 * time.Microsecond)
}

func TestLoopIsExcluded(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	for range 5 {
		b.sample(1, 40*time.Millisecond, func(m *model.Sample) { m.Server.Loop = true })
		b.pass(2 * time.Second)
	}
	s := b.snapshot()
	if s.Synchronized || s.Sources[0].State != model.StateExcluded || !strings.Contains(s.Sources[0].Reason, "loop") {
		t.Errorf("got synchronized %v, %v because %q", s.Synchronized, s.Sources[0].State, s.Sources[0].Reason)
	}
	b.wantError(0)
}

func TestFirstOfSeveralWaitsForTheOthers(t *testing.T) {
	b := newBench(t, 0, nil)
	for id := range model.SourceID(3) {
		b.add(id+1, nil)
	}
	b.sample(1, 500*time.Millisecond, nil) // the liar is the quickest
	if b.sys.discipline.Frequency() != 0 || b.rate != 0 || len(b.steps) != 0 {
		t.Fatal("the first answer of three was believed alone")
	}
	b.sample(2, 0, nil)
	b.sample(3, 0, nil)
	b.run(3, 2*time.Second, 0, 2, 3)
	b.wantError(time.Millisecond)
	if s := b.snapshot(); s.Sources[0].State != model.StateFalseticker || !s.Synchronized {
		t.Errorf("got %v, synchronized %v", s.Sources[0].State, s.Synchronized)
	}
}

func TestOneOfSeveralServesWhenTheOthersAreSilent(t *testing.T) {
	b := newBench(t, 50*time.Millisecond, nil)
	b.add(1, nil)
	b.add(2, nil)
	b.sample(1, 0, nil)
	b.pass(5 * time.Second)
	if s := b.snapshot(); !s.Synchronized || s.SystemPeer != 1 {
		t.Errorf("got synchronized %v, peer %d after three seconds", s.Synchronized, s.SystemPeer)
	}
}

func TestRemovedSourceLeavesTheClockAsItIs(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.add(2, nil)
	b.run(20, 16*time.Second, 0, 1, 2)
	b.out.Reset()
	b.sys.RemoveSource(b.now(), 1, &b.out)
	b.act()
	if s := b.snapshot(); s.SystemPeer != 2 || len(s.Sources) != 1 || !s.Synchronized {
		t.Errorf("got peer %d of %d sources", s.SystemPeer, len(s.Sources))
	}
	b.out.Reset()
	b.sys.RemoveSource(b.now(), 2, &b.out)
	b.act()
	b.pass(time.Minute)
	b.wantError(time.Millisecond)
	b.add(3, nil)
	b.run(20, 16*time.Second, 0, 3)
	b.wantError(time.Millisecond)
	if s := b.snapshot(); s.SystemPeer != 3 {
		t.Errorf("got peer %d, want the new one", s.SystemPeer)
	}
}

func TestReconfigureKeepsTheEstimate(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(20, 16*time.Second, 0, 1)
	c := defaults()
	c.MinSources = 2
	b.sys.Reconfigure(c, b.now())
	b.sample(1, 0, nil)
	s := b.snapshot()
	if s.Sources[0].State != model.StateSurvivor || s.State != model.DisciplineHoldover {
		t.Errorf("got %v in state %v, want a survivor that is one too few", s.Sources[0].State, s.State)
	}
}

func TestDriftFileIsTheFirstFrequency(t *testing.T) {
	b := newBench(t, 0, func(c *Config) { c.Frequency, c.FrequencyError = 20*ntptime.PPM, 0.1*ntptime.PPM })
	b.add(1, nil)
	b.sample(1, 0, nil)
	if got := b.last.Frequency; math.Abs(float64(got-20*ntptime.PPM)) > 1e-9 {
		t.Errorf("got %v, want the drift file's 20 ppm", got)
	}
}

func TestFrequencyIsBounded(t *testing.T) {
	b := newBench(t, 0, func(c *Config) { c.MaxFrequency = 10 * ntptime.PPM })
	b.add(1, nil)
	for i := range 40 {
		b.sample(1, time.Duration(i)*time.Duration(50e-6*16e9), nil) // 50 ppm away
		b.pass(16 * time.Second)
		if got := math.Abs(float64(b.last.Frequency)); got > 10.0001e-6 {
			t.Fatalf("got frequency %v, want at most 10 ppm", got)
		}
	}
}

func TestFixedOffsetOfASourceIsAdded(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, func(o *SourceOptions) { o.Offset = 3 * time.Millisecond })
	b.run(20, 16*time.Second, 0, 1)
	if got := b.error() - 3*time.Millisecond; got.Abs() > 20*time.Microsecond {
		t.Errorf("got %v from the true time, want 3 ms", b.error())
	}
}

func TestLateSlewTimerIsMadeUpFor(t *testing.T) {
	b := newBench(t, -50*time.Millisecond, nil)
	b.add(1, nil)
	b.sample(1, 0, nil)
	b.sample(1, 0, nil)
	due := b.sys.Deadline()
	b.raw = due.Add(20 * time.Millisecond) // the driver slept
	b.out.Reset()
	b.sys.OnTimer(b.now(), &b.out)
	b.act()
	b.pass(10 * time.Second)
	b.wantError(300 * time.Microsecond)
}

func TestLocalClockServes(t *testing.T) {
	b := newBench(t, 0, func(c *Config) { c.Local = &Local{Stratum: 8, Activate: time.Minute} })
	b.add(1, nil)
	if s := b.snapshot(); s.Synchronized {
		t.Error("serves before activate has passed")
	}
	b.pass(2 * time.Minute)
	s := b.snapshot()
	if !s.Synchronized || s.Stratum != 8 || s.State != model.DisciplineLocal || s.ReferenceID != localReference {
		t.Errorf("got %+v, want stratum 8 by the local clock", s)
	}
	if b.saw(model.EventLocal) != 1 {
		t.Errorf("got %d events, want one", b.saw(model.EventLocal))
	}
	b.run(5, 2*time.Second, 0, 1)
	if s := b.snapshot(); s.Stratum != 3 || s.State == model.DisciplineLocal {
		t.Errorf("with a source: got stratum %d, state %v", s.Stratum, s.State)
	}
	b.say(1, func(s *model.SourceStatus) { s.Reach, s.Unanswered = 0, 8 })
	b.pass(30 * time.Second)
	if s := b.snapshot(); s.State != model.DisciplineHoldover {
		t.Errorf("source lost: got %v, want holdover up to activate", s.State)
	}
	b.pass(time.Minute)
	if s := b.snapshot(); s.State != model.DisciplineLocal {
		t.Errorf("source lost for long: got %v, want local", s.State)
	}
}

func TestLocalClockWithoutSourcesServesAtOnce(t *testing.T) {
	b := newBench(t, 0, func(c *Config) { c.Local = &Local{Stratum: 1} })
	if s := b.snapshot(); !s.Synchronized || s.Stratum != 1 {
		t.Errorf("got synchronized %v, stratum %d", s.Synchronized, s.Stratum)
	}
}

func TestOrphansFollowTheLowestAddress(t *testing.T) {
	run := func(ours byte) *model.Snapshot {
		b := newBench(t, 0, func(c *Config) {
			c.Local = &Local{Stratum: 5, Orphan: true}
			c.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, ours})}
		})
		b.add(7, nil) // 192.0.2.7
		for range 5 {
			b.sample(7, 30*time.Millisecond, func(m *model.Sample) {
				m.Server = model.ServerState{Stratum: 5, ReferenceID: orphanReference}
			})
			b.pass(2 * time.Second)
		}
		return b.snapshot()
	}
	if s := run(3); s.Stratum != 5 || s.ReferenceID != orphanReference || s.Sources[0].State != model.StateExcluded {
		t.Errorf("lower address: got stratum %d, source %v, want to be the one to follow", s.Stratum, s.Sources[0].State)
	}
	if s := run(9); s.Stratum != 6 || s.SystemPeer != 7 {
		t.Errorf("higher address: got stratum %d, peer %d, want to follow the other", s.Stratum, s.SystemPeer)
	}
}

func TestHintsAskForAQuickStartThenForTheInterval(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.sample(1, 0, nil)
	if len(b.hints) != 1 || b.hints[0].Soon != 2*time.Second || b.hints[0].Interval != 64*time.Second {
		t.Fatalf("got %+v, want 64 s and an exchange in 2 s", b.hints)
	}
	b.run(30, 64*time.Second, 0, 1)
	if n := len(b.hints); n > 25 {
		t.Errorf("got %d hints: equal ones need not be told", n)
	}
	if got := b.hints[len(b.hints)-1]; got.Soon != 0 || got.Interval < 64*time.Second {
		t.Errorf("got %+v, want the interval alone", got)
	}
}

func TestContradictionsHaveABudgetOfPackets(t *testing.T) {
	src := source{inCombined: true, samples: 100, budget: extraBudget, startupDone: discipline.StartupExchanges}
	conflict, peace := filter.Result{}, filter.Result{}
	conflict.Conflict = true
	extra := func(r *filter.Result, n int) (count int) {
		for range n {
			if src.soon(r) > 0 {
				count++
			}
		}
		return count
	}
	if got := extra(&conflict, 100); got != extraBudget {
		t.Errorf("got %d extra exchanges for 100 contradictions, want %v", got, extraBudget)
	}
	if got := extra(&peace, 2*extraRecovery); got != 0 {
		t.Errorf("got %d extra exchanges in peace, want none", got)
	}
	if got := extra(&conflict, 100); got != 2 {
		t.Errorf("got %d after as much peace as earns two", got)
	}
}

func TestSourceThatNeverAgreesWithItselfMakesNoStorm(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(40, 64*time.Second, 0, 1)
	b.hints = nil
	for i := range 60 {
		b.sample(1, time.Duration(i%2)*100*time.Millisecond, nil)
		b.pass(64 * time.Second)
	}
	extra := 0
	for _, h := range b.hints {
		if h.Soon > 0 {
			extra++
		}
	}
	if extra > 20 {
		t.Errorf("got %d extra exchanges of 60, want a few", extra)
	}
}

func TestOrderOfSourcesDoesNotMatter(t *testing.T) {
	var want *model.Snapshot
	for _, order := range [][]model.SourceID{{1, 2, 3}, {3, 1, 2}, {2, 3, 1}} {
		b := newBench(t, 5*time.Millisecond, nil)
		for _, id := range order {
			b.add(id, nil)
		}
		for i := range 30 {
			for id := range model.SourceID(3) {
				b.sample(id+1, time.Duration((i*int(id+1))%7)*10*time.Microsecond, nil)
			}
			b.pass(16 * time.Second)
		}
		got := b.snapshot()
		if want == nil {
			want = got
		}
		if got.Offset != want.Offset || got.Frequency != want.Frequency || got.ErrorBound != want.ErrorBound || got.SystemPeer != want.SystemPeer {
			t.Errorf("order %v: got %v %v %v, want %v %v %v", order, got.Offset, got.Frequency, got.ErrorBound, want.Offset, want.Frequency, want.ErrorBound)
		}
	}
}

func TestExplainTellsReasonsAndNumbers(t *testing.T) {
	b := newBench(t, 0, nil)
	for id := range model.SourceID(4) {
		b.add(id+1, nil)
	}
	for range 12 {
		b.sample(1, 0, nil)
		b.sample(2, 0, nil)
		b.sample(3, 400*time.Millisecond, nil)
		b.pass(4 * time.Second)
	}
	s := b.snapshot()
	want := []model.State{model.StateSelected, model.StateCombined, model.StateFalseticker, model.StateWaiting}
	for i := range want {
		r := &s.Sources[i]
		if r.State != want[i] || r.Reason == "" || len(r.Checks) == 0 {
			t.Errorf("source %d: got %v because %q with %d checks, want %v", i+1, r.State, r.Reason, len(r.Checks), want[i])
		}
	}
	if r := &s.Sources[2]; (r.Offset-400*time.Millisecond).Abs() > time.Millisecond || !strings.Contains(r.Reason, "+39") {
		t.Errorf("falseticker: got offset %v because %q", r.Offset, r.Reason)
	}
	if got := len(s.Sources[0].Filter); got != historyDepth {
		t.Errorf("got %d last samples, want %d", got, historyDepth)
	}
}

func TestClockThatRefusesIsReportedOnce(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	var out Output
	for range 3 {
		b.sys.OnApplied(model.Applied{At: b.now(), Err: "operation not permitted"}, &out)
	}
	if n := len(out.Events); n != 1 || out.Events[0].Kind != model.EventClockRefused {
		t.Errorf("got events %+v, want one refusal", out.Events)
	}
}

func TestNonsenseSamplesAreIgnored(t *testing.T) {
	b := newBench(t, 0, nil)
	b.add(1, nil)
	b.run(10, 16*time.Second, 0, 1)
	before := b.sys.combined.Estimate()
	for _, f := range []func(m *model.Sample){
		func(m *model.Sample) { m.Source = 42 },
		func(m *model.Sample) { m.T4.Raw = m.T1.Raw - 1 },
		func(m *model.Sample) { m.T4.Raw = m.T1.Raw.Add(100 * time.Hour) },
		func(m *model.Sample) { m.T2, m.T3 = math.MaxInt64, math.MinInt64 },
	} {
		m := model.Sample{Source: 1, T1: b.now(), T4: b.now(), T2: b.truth(), T3: b.truth(), Server: model.ServerState{Stratum: 1}}
		f(&m)
		b.out.Reset()
		b.sys.OnSample(b.now(), &m, &b.out)
	}
	if got := b.sys.combined.Estimate(); got != before {
		t.Errorf("got %+v, want unchanged %+v", got, before)
	}
}

func TestOffsetsOfYearsKeepTheirPrecision(t *testing.T) {
	b := newBench(t, -30*365*24*time.Hour, func(c *Config) { c.Panic = 0 })
	b.add(1, nil)
	b.run(30, 16*time.Second, 0, 1)
	b.wantError(5 * time.Microsecond)
}

func TestSlicesOfAnOutputAreReused(t *testing.T) {
	var o Output
	o.Hints, o.Events = append(o.Hints, model.Hint{}), append(o.Events, model.Event{})
	o.Reset()
	if len(o.Hints) != 0 || cap(o.Hints) == 0 || len(o.Events) != 0 || cap(o.Events) == 0 {
		t.Errorf("got %+v, want empty with memory kept", o)
	}
	if !slices.Equal(o.Hints, nil) {
		t.Error("hints are left over")
	}
}

// A source that was false, and is in again because the others are silent now, has nothing
// yet that could be worked in: what the others taught stays.
func TestSilenceOfTheOthersForgetsNothing(t *testing.T) {
	for asked := 1; asked <= 30; asked++ { // so many replies after the machine was paused
		for _, order := range [][]model.SourceID{{1, 2, 3}, {1, 2, 3, 3, 3}, {3, 3, 3, 3, 2}, {1, 1, 2, 3, 3, 3}} {
			b := newBench(t, 0, nil)
			for id := model.SourceID(1); id <= 3; id++ {
				b.add(id, nil)
			}
			b.run(3, 4*time.Second, 0, 1, 2, 3)
			for i := range asked {
				b.pass(2 * time.Second)
				b.sample(order[i%len(order)], time.Minute, nil)
			}
			for _, silent := range []model.SourceID{3, 2, 1} {
				b.pass(5 * time.Second)
				b.say(silent, func(s *model.SourceStatus) { s.Reach, s.Unanswered = 0, 8 })
				if !b.sys.combined.Started() {
					t.Fatalf("%d replies of %v, source %d falls silent: the clock's state is forgotten", asked, order, silent)
				}
			}
		}
	}
}

// Sources whose certificates have no dates yet have a vote for each host and certificate:
// one key in wrong hands must not be a majority.
func TestUndatedSourcesHaveOneVoteForAHostAndACertificate(t *testing.T) {
	address := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }
	for name, test := range map[string]struct {
		identity  [3]uint64
		exchanger [3]netip.Addr
		named     int // lines without a source
		reserve   int // of them fallback
		silent    model.SourceID
		want      bool
	}{
		"three of three":                         {identity: [3]uint64{1, 2, 3}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, want: true},
		"two, and two that are not there":        {identity: [3]uint64{1, 1, 2}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, named: 2},
		"one certificate of one line":            {identity: [3]uint64{1, 1, 1}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, want: true},
		"one certificate, and another":           {identity: [3]uint64{1, 1, 1}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, named: 1},
		"a majority, and fallbacks":              {identity: [3]uint64{1, 2, 3}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, named: 4, reserve: 4, want: true},
		"one certificate, its first host silent": {identity: [3]uint64{1, 1, 1}, exchanger: [3]netip.Addr{address(1), address(2), address(3)}, silent: 1, want: true},
		"one host, and another":                  {identity: [3]uint64{1, 2, 3}, exchanger: [3]netip.Addr{address(1), address(1), address(1)}, named: 1},
	} {
		b := newBench(t, 50*time.Millisecond, nil)
		for i := range 3 {
			id := model.SourceID(i + 1)
			b.add(id, nil)
			b.say(id, func(s *model.SourceStatus) {
				s.Security.Undated, s.Security.Identity, s.Security.Exchanger = true, test.identity[i], test.exchanger[i]
			})
		}
		b.sys.SetMissing(Missing{Regular: test.named - test.reserve, Fallback: test.reserve})
		answering := slices.DeleteFunc([]model.SourceID{1, 2, 3}, func(id model.SourceID) bool { return id == test.silent })
		b.run(5, 2*time.Second, 0, answering...)
		if got := b.snapshot().Synchronized; got != test.want {
			t.Errorf("%s: got synchronized %v, want %v: %s", name, got, test.want, b.snapshot().Sources[0].Reason)
		}
	}
}

// A source that comes first, while the names of the others are still being looked up, is not
// believed alone at the start: what it says is held back as for others that do not answer yet.
func TestASourceThatComesFirstWaitsForTheOthersNames(t *testing.T) {
	for name, test := range map[string]struct {
		named Missing // by the configuration
		after int     // seconds
		want  bool
	}{
		"the only one":               {named: Missing{Regular: 1}, after: 1, want: true},
		"one of three":               {named: Missing{Regular: 3}, after: 2},
		"one of three, for long":     {named: Missing{Regular: 3}, after: 5, want: true},
		"one, and a fallback source": {named: Missing{Regular: 1, Fallback: 1}, after: 2},
	} {
		b := newBench(t, 50*time.Millisecond, func(c *Config) { c.Named = test.named })
		b.add(1, nil)
		left := test.named
		left.Regular--
		b.sys.SetMissing(left)
		b.run(4*test.after, 250*time.Millisecond, 20*time.Second, 1)
		if s := b.snapshot(); s.Synchronized != test.want || s.Steps > 0 != test.want {
			t.Errorf("%s, %d s after the first sample: got synchronized %v with %d steps, want %v", name, test.after, s.Synchronized, s.Steps, test.want)
		}
	}
	b := newBench(t, 50*time.Millisecond, func(c *Config) { c.Named = Missing{Regular: 3} })
	b.add(1, nil)
	b.sys.SetMissing(Missing{Regular: 2})
	b.run(4, 250*time.Millisecond, 20*time.Second, 1)
	b.add(2, nil)
	b.add(3, nil)
	b.sys.SetMissing(Missing{})
	b.run(4, 250*time.Millisecond, 0, 2, 3)
	if s := b.snapshot(); !s.Synchronized || s.Steps > 0 || s.Sources[0].State != model.StateFalseticker {
		t.Errorf("the others a second later: got %+v, want them followed and the first one a falseticker", s)
	}
}

// A lone fallback source waits for the others, whose names are still being looked up.
func TestAFallbackSourceThatComesFirstWaitsForTheOthersNames(t *testing.T) {
	b := newBench(t, 50*time.Millisecond, func(c *Config) { c.Named = Missing{Regular: 2, Fallback: 1} })
	b.add(1, func(o *SourceOptions) { o.Fallback = true })
	b.sys.SetMissing(Missing{Regular: 2})
	b.run(10, time.Second, time.Minute, 1)
	if s := b.snapshot(); s.Synchronized || s.Steps > 0 {
		t.Errorf("got synchronized %v with %d steps, want it held back: %s", s.Synchronized, s.Steps, s.Sources[0].Reason)
	}
}

// At the start fallback sources wait for others that may still answer, as by a slow key
// exchange, and not for those of which more is known.
func TestFallbackSourcesWaitForTheOthersAtTheStart(t *testing.T) {
	silent := func(s *model.SourceStatus) {}
	failed := func(s *model.SourceStatus) { s.Unanswered, s.Security.FailureKind = 1, "date" }
	unanswered := func(s *model.SourceStatus) { s.Unanswered = 4 }
	for name, test := range map[string]struct {
		other func(*model.SourceStatus)
		named int
		after time.Duration
		want  bool
	}{
		"nothing is known of the other":      {other: silent, after: 10 * time.Second},
		"nothing, for long":                  {other: silent, after: 20 * time.Second, want: true},
		"the name of the other is looked up": {other: unanswered, named: 1, after: 10 * time.Second},
		"its key exchange has failed":        {other: failed, after: 10 * time.Second, want: true},
		"it does not answer":                 {other: unanswered, after: 10 * time.Second, want: true},
	} {
		b := newBench(t, 50*time.Millisecond, nil)
		b.add(1, nil)
		b.add(2, func(o *SourceOptions) { o.Fallback = true })
		b.say(1, test.other)
		b.sys.SetMissing(Missing{Regular: test.named})
		b.run(int(test.after/time.Second), time.Second, 0, 2)
		if got := b.snapshot().Synchronized; got != test.want {
			t.Errorf("%s, %v after the first sample: got synchronized %v, want %v: %s", name, test.after, got, test.want, b.snapshot().Sources[1].Reason)
		}
	}
	b := newBench(t, 50*time.Millisecond, nil)
	b.add(1, nil)
	b.add(2, func(o *SourceOptions) { o.Fallback = true })
	b.say(1, silent)
	b.run(6, time.Second, time.Minute, 2)
	b.run(6, time.Second, 0, 1, 2)
	if s := b.snapshot(); !s.Synchronized || s.Sources[1].State != model.StateExcluded || s.Offset.Abs() > time.Second || s.Steps > 1 {
		t.Errorf("an answer after 6 s: got %+v, want it followed and not the fallback", s)
	}
}
