package association

import (
	"math"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// gaps sends n requests, answering those that `answers` says, and gives the times between them.
func gaps(b *bench, n int, answers bool) []time.Duration {
	var gaps []time.Duration
	last := time.Duration(-1)
	for range n {
		request := b.sendNext()
		if last >= 0 {
			gaps = append(gaps, b.now-last)
		}
		last = b.now
		if answers {
			h := b.answer(request)
			b.deliver(encode(&h, b.a.cfg.Key), serverEnd, b.now+time.Millisecond)
		}
	}
	return gaps
}

func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.021*float64(want)+float64(time.Microsecond)
}

func TestRFC5905_13_PollIntervals(t *testing.T) {
	second := time.Second
	repeat := func(d time.Duration, n int) []time.Duration {
		var all []time.Duration
		for range n {
			all = append(all, d)
		}
		return all
	}
	cases := []struct {
		name    string
		cfg     func(c *Config)
		answers bool
		hint    time.Duration
		want    []time.Duration
	}{
		{"without iburst the polls are min_poll apart", nil, true, 0, repeat(64*second, 4)},
		{"iburst: 16 polls 2 s apart while no hint says otherwise", func(c *Config) { c.IBurst = true }, true, 0,
			append(repeat(2*second, 15), repeat(64*second, 2)...)},
		{"iburst: when nobody answers eight polls, it is over", func(c *Config) { c.IBurst = true }, false, 0,
			append(repeat(2*second, 8), repeat(64*second, 3)...)},
		{"iburst: four polls are quick whatever the hint", func(c *Config) { c.IBurst = true }, true, 64 * second,
			append(repeat(2*second, 4), 64*second)},
		{"iburst follows the hints of a start", func(c *Config) { c.IBurst = true }, true, 8 * second,
			append(repeat(2*second, 4), repeat(8*second, 3)...)},
		{"a hint that is no power of two is taken as it is", nil, true, 100 * second, repeat(100*second, 3)},
		{"a hint under min_poll is bounded by it", nil, true, 16 * second, repeat(64*second, 3)},
		{"a hint over max_poll is bounded by it", nil, true, 5000 * second, repeat(1024*second, 3)},
		{"min_poll −4 is 62.5 ms", func(c *Config) { c.MinPoll, c.MaxPoll, c.IBurst = -4, -4, true }, true, 0, repeat(62500*time.Microsecond, 20)},
		{"max_poll 17 is 36 hours", func(c *Config) { c.MinPoll, c.MaxPoll = 17, 17 }, true, 0, repeat(131072*second, 2)},
		{"the bounds of the bounds", func(c *Config) { c.MinPoll, c.MaxPoll = 99, 100 }, true, 0, repeat(131072*second, 2)},
		{"burst: eight at each poll", func(c *Config) { c.Burst = true }, true, 0,
			append(append(repeat(2*second, 7), 64*second), repeat(2*second, 7)...)},
		{"burst takes at most half of the interval", func(c *Config) { c.Burst = true; c.MinPoll = 4 }, true, 0,
			[]time.Duration{2 * second, 2 * second, 2 * second, 16 * second, 2 * second}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := clientConfig()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			b := newBench(t, cfg)
			if c.hint > 0 {
				b.a.OnHint(model.Hint{Interval: c.hint}, b.clock.at(0))
			}
			for i, got := range gaps(b, len(c.want)+1, c.answers) {
				if !near(got, c.want[i]) {
					t.Errorf("gap %d is %v, want %v", i+1, got, c.want[i])
				}
			}
		})
	}
}

func TestJitterIsTwoPercentAndNeverBelowMinPoll(t *testing.T) {
	b := newBench(t, clientConfig())
	low, high := time.Hour, time.Duration(0)
	for _, gap := range gaps(b, 400, true) {
		low, high = min(low, gap), max(high, gap)
	}
	if low < 64*time.Second || high > 65300*time.Millisecond || high < 65*time.Second {
		t.Errorf("gaps from %v to %v, want 64s to 65.28s", low, high)
	}
	b.a.OnHint(model.Hint{Interval: 128 * time.Second}, b.clock.at(b.now))
	b.exchange()
	low, high = time.Hour, 0
	for _, gap := range gaps(b, 400, true) {
		low, high = min(low, gap), max(high, gap)
	}
	if low < 125440*time.Millisecond || low > 126*time.Second || high > 130560*time.Millisecond || high < 130*time.Second {
		t.Errorf("gaps from %v to %v, want 125.44s to 130.56s", low, high)
	}
}

func TestPollFieldIsTheRoundedExponent(t *testing.T) {
	for interval, want := range map[time.Duration]ntptime.Log2{64 * time.Second: 6, 90 * time.Second: 6, 91 * time.Second: 7,
		100 * time.Second: 7, 1000 * time.Second: 10} {
		b := newBench(t, clientConfig())
		b.a.OnHint(model.Hint{Interval: interval}, b.clock.at(0))
		if got := header(t, b.sendNext()).Poll; got != want {
			t.Errorf("poll field for %v is %d, want %d", interval, got, want)
		}
	}
}

func TestHintMovesTheNextPoll(t *testing.T) {
	b := newBench(t, clientConfig())
	b.a.OnHint(model.Hint{Interval: 1024 * time.Second}, b.clock.at(0))
	b.exchange()
	sent := b.now
	b.a.OnHint(model.Hint{Interval: 64 * time.Second}, b.clock.at(b.now+100*time.Second))
	b.now += 100 * time.Second
	b.sendNext()
	if wait := b.now - sent; wait > 100*time.Second+2*time.Millisecond {
		t.Errorf("the next poll came %v after the last, want at once", wait)
	}
}

func TestSoonMakesOneExtraExchange(t *testing.T) {
	b := newBench(t, clientConfig())
	b.exchange()
	sent := b.now
	b.a.OnHint(model.Hint{Interval: 64 * time.Second, Soon: 4 * time.Second}, b.clock.at(b.now))
	b.a.OnHint(model.Hint{Interval: 65 * time.Second}, b.clock.at(b.now)) // does not put it off
	b.exchange()
	if wait := b.now - sent; wait > 4100*time.Millisecond || wait < 3900*time.Millisecond {
		t.Errorf("the extra poll came after %v, want 4s", wait)
	}
	sent = b.now
	b.exchange()
	if wait := b.now - sent; wait < 63*time.Second {
		t.Errorf("the poll after it came after %v, want 64s", wait)
	}
	b.a.OnHint(model.Hint{Soon: time.Millisecond}, b.clock.at(b.now))
	if wait := b.a.Deadline().Sub(b.a.poll.at); wait < 2*time.Second {
		t.Errorf("an extra poll after %v, want not under 2s", wait)
	}
}

func TestRFC5905_13_ReachRegister(t *testing.T) {
	b := newBench(t, clientConfig())
	var reached, lost int
	count := func() {
		for _, e := range b.out.Events {
			switch e.Kind {
			case model.EventReachable:
				reached++
			case model.EventUnreachable:
				lost++
			}
		}
	}
	want := uint8(0)
	for i := range 10 {
		b.exchange()
		count()
		if want = want<<1 | 1; b.a.status.Reach != want {
			t.Errorf("reach after %d answers is %o, want %o", i+1, b.a.status.Reach, want)
		}
	}
	for i := range 9 {
		b.sendNext()
		b.now += 4 * time.Second
		b.out.Reset()
		b.a.OnTimer(b.clock.at(b.now), &b.out)
		count()
		if want <<= 1; b.a.status.Reach != want || b.a.status.Unanswered != i+1 {
			t.Errorf("reach after %d misses is %o, unanswered %d; want %o", i+1, b.a.status.Reach, b.a.status.Unanswered, want)
		}
	}
	if reached != 1 || lost != 1 {
		t.Errorf("%d events reachable, %d unreachable; want one each", reached, lost)
	}
	b.exchange()
	count()
	if reached != 2 || b.a.status.Reach != 1 {
		t.Errorf("back again: %d events reachable, reach %o; want 2, 1", reached, b.a.status.Reach)
	}
}

func TestServerThatNeverAnswersIsReportedOnce(t *testing.T) {
	b := newBench(t, clientConfig())
	lost := 0
	for range 20 {
		b.sendNext()
		b.now += 4 * time.Second
		b.out.Reset()
		b.a.OnTimer(b.clock.at(b.now), &b.out)
		for _, e := range b.out.Events {
			if e.Kind == model.EventUnreachable {
				lost++
			}
		}
	}
	if lost != 1 {
		t.Errorf("%d events unreachable, want 1", lost)
	}
}

func TestRFC5905_13_UnreachableServersArePolledLessAndLess(t *testing.T) {
	cfg := clientConfig()
	cfg.IBurst = true
	b := newBench(t, cfg)
	for range startCount + 4 {
		b.exchange()
	}
	all := gaps(b, 20, false)
	for i, gap := range all[:unreachPolls-1] {
		if !near(gap, 64*time.Second) {
			t.Errorf("gap %d is %v, want 64s", i, gap)
		}
	}
	if last := all[len(all)-1]; !near(last, 1024*time.Second) {
		t.Errorf("the last gap is %v, want max_poll 1024s", last)
	}
	b.exchange()
	if back := gaps(b, 3, true); !near(back[0], 2*time.Second) || !near(back[1], 2*time.Second) {
		t.Errorf("after its return it is polled after %v, want quickly", back)
	}
}

func TestSendErrorCountsAsMissAndIsTriedAgainSoon(t *testing.T) {
	b := newBench(t, clientConfig())
	b.sendNext()
	b.a.OnSendError(b.out.Transmit[0].ID, b.clock.at(b.now), &b.out)
	if b.a.status.Sent != 0 || b.a.status.Unanswered != 1 || b.a.pending.state != idle {
		t.Errorf("sent %d, unanswered %d, pending %v", b.a.status.Sent, b.a.status.Unanswered, b.a.pending.state)
	}
	failed := b.now
	b.sendNext()
	if wait := b.now - failed; wait > retrySpacing+time.Millisecond {
		t.Errorf("tried again after %v, want within %v", wait, retrySpacing)
	}
}

func TestClockChangeDropsThePendingExchange(t *testing.T) {
	b := newBench(t, clientConfig())
	b.exchange()
	h := b.answer(b.sendNext())
	sent := b.now
	b.now += 100 * time.Microsecond
	b.a.OnClockChanged(b.clock.at(b.now), &b.out)
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	if b.out.HasSample || b.a.status.Rejected[model.RejectBogus] != 1 {
		t.Error("a reply to a request from before the step was measured")
	}
	b.exchange()
	if wait := b.now - sent; !b.out.HasSample || wait > 3*time.Second {
		t.Errorf("sample %v after %v, want one soon", b.out.HasSample, wait)
	}
	if b.a.status.Reach != 0b11 {
		t.Errorf("reach %b, want no miss for a request that we dropped", b.a.status.Reach)
	}
}

// TestRFC9109_RequestsShowNothing sends a thousand requests: the cookies have nothing
// to do with time, and all else but version, mode and poll is zero.
func TestRFC9109_RequestsShowNothing(t *testing.T) {
	b := newBench(t, clientConfig())
	seen := map[ntptime.Timestamp]bool{}
	var ones [64]int
	rising := 0
	var last ntptime.Timestamp
	for range 1000 {
		request := b.sendNext()
		h := header(t, request)
		rest := h
		rest.Version, rest.Mode, rest.Poll, rest.Transmit = 0, 0, 0, 0
		if rest != (wire.Header{}) || len(request) != wire.HeaderSize || h.Version != 4 || h.Mode != wire.ModeClient {
			t.Fatalf("request %+v of %d bytes", h, len(request))
		}
		if near := h.Transmit.Sub(b.clock.at(b.now).Timestamp()); near < 24*time.Hour && near > -24*time.Hour {
			t.Errorf("cookie %v is within a day of the time", h.Transmit)
		}
		if h.Transmit == 0 || seen[h.Transmit] {
			t.Errorf("cookie %v is zero or came twice", h.Transmit)
		}
		seen[h.Transmit] = true
		for i := range ones {
			ones[i] += int(h.Transmit >> i & 1)
		}
		if h.Transmit > last {
			rising++
		}
		last = h.Transmit
		reply := b.answer(request)
		b.deliver(encode(&reply, nil), serverEnd, b.now+time.Millisecond)
	}
	for i, n := range ones {
		if n < 400 || n > 600 {
			t.Errorf("bit %d of the cookies is set in %d of 1000", i, n)
		}
	}
	if rising < 400 || rising > 600 {
		t.Errorf("%d of 1000 cookies are larger than the one before", rising)
	}
}

// A path that loses four exchanges of five all the time is no server that is gone.
func TestLossDoesNotSlowThePolls(t *testing.T) {
	b := newBench(t, clientConfig())
	for range 40 { // one answer in five
		gaps(b, 4, false)
		gaps(b, 1, true)
	}
	for i, gap := range gaps(b, 25, false) {
		if gap > 66*time.Second {
			t.Fatalf("poll %d without an answer: got one %v after the last, want 64 s", i+1, gap)
		}
	}
	silence := gaps(b, 60, false)
	if last := silence[len(silence)-1]; last < 1000*time.Second {
		t.Errorf("a long silence: got polls %v apart, want the server let alone", last)
	}
}

// A server that was silent for long is asked again quickly once it answers, not after the
// interval that its silence had led to; whether or not anybody hints.
func TestAServerThatIsBackIsAskedAgainQuickly(t *testing.T) {
	for _, iburst := range []bool{true, false} {
		cfg := clientConfig()
		cfg.IBurst = iburst
		b := newBench(t, cfg)
		b.a.OnHint(model.Hint{Interval: 64 * time.Second}, b.clock.at(0))
		gaps(b, 30, true)
		if silence := gaps(b, 30, false); !near(silence[28], 1024*time.Second) {
			t.Fatalf("after 30 unanswered polls: got %v between them, want 1024 s", silence[28])
		}
		b.exchange()
		back := b.now
		b.sendNext()
		want := 64 * time.Second
		if iburst {
			want = 2 * time.Second
		}
		if got := b.now - back; got > want+want/32 {
			t.Errorf("iburst %v: the poll after the first answer came %v later, want %v", iburst, got, want)
		}
	}
}
