package association

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func peerConfig(remote *host) Config {
	return Config{Name: "peer", Kind: KindActive, Remote: remote.end, Version: 4, MinPoll: 4, MaxPoll: 6, MaxDelay: 3 * time.Second}
}

func passiveConfig() *Config {
	return &Config{Name: "passive", Kind: KindPassive, Version: 4, MinPoll: 4, MaxPoll: 10}
}

// pair is a host at stratum a and one at stratum b, 100 ms apart; the first is active,
// the second active or passive.
func pair(t testing.TB, a, b uint8, bothActive bool) (*world, *host, *host) {
	w := newWorld(t)
	x := w.add("192.0.2.1", 0, a)
	y := w.add("192.0.2.2", 100*time.Millisecond, b)
	x.mobilize(peerConfig(y))
	if bothActive {
		y.mobilize(peerConfig(x))
	} else {
		y.passive = passiveConfig()
	}
	return w, x, y
}

// exchangeSamples counts samples by whether they come from modes 1 and 2.
func (h *host) reach() uint8 {
	if len(h.assocs) == 0 {
		return 0
	}
	return h.assocs[0].status.Reach
}

func TestSymmetricBeginsWithClientExchangeThenModes1And2(t *testing.T) {
	w, x, y := pair(t, 0, 2, false)
	w.run(10 * time.Minute)
	var modes []wire.Mode
	for _, f := range w.log[:6] {
		modes = append(modes, wire.Mode(f.data[0]&7))
	}
	want := []wire.Mode{3, 4, 1, 2}
	for i, m := range want {
		if modes[i] != m {
			t.Fatalf("the first packets have modes %v, want %v", modes, want)
		}
	}
	if x.assocs[0].status.RemoteMode != wire.ModePassive || y.assocs[0].status.RemoteMode != wire.ModeActive {
		t.Errorf("remote modes %v, %v", x.assocs[0].status.RemoteMode, y.assocs[0].status.RemoteMode)
	}
	for _, f := range w.log {
		if f.from.Port() != 123 || f.to.Port() != 123 {
			t.Fatalf("a packet from %v to %v; symmetric packets go from 123 to 123", f.from, f.to)
		}
	}
	if st := y.assocs[0].Status(); !st.Dynamic || st.Mode != wire.ModePassive {
		t.Errorf("the passive association's status %+v", st)
	}
}

// TestWhoSetsWhom is issue's table: each side either follows or does not.
func TestWhoSetsWhom(t *testing.T) {
	cases := []struct {
		name         string
		a, b         uint8
		follow       [2]bool // does a, does b get samples from the other in modes 1 and 2
		aRef, bRef   string
		aLoop, bLoop bool // the other's reference id is my address
	}{
		{name: "the lower stratum sets the other", a: 2, b: 4, follow: [2]bool{false, true}},
		{name: "the other way round", a: 5, b: 3, follow: [2]bool{true, false}},
		{name: "equal strata set neither", a: 3, b: 3, follow: [2]bool{false, false}},
		{name: "an unsynchronized active side follows", a: 0, b: 3, follow: [2]bool{true, false}},
		{name: "an unsynchronized passive side follows", a: 3, b: 0, follow: [2]bool{false, true}},
		{name: "two without time: none", a: 0, b: 0, follow: [2]bool{false, false}},
		{name: "one that follows us is a loop", a: 4, b: 2, bLoop: true, follow: [2]bool{false, false}},
	}
	for _, c := range cases {
		for _, bothActive := range []bool{false, true} {
			name := c.name + ", one passive"
			if bothActive {
				name = c.name + ", both active"
			}
			t.Run(name, func(t *testing.T) {
				w, x, y := pair(t, c.a, c.b, bothActive)
				x.serves, y.serves = false, false // modes 1 and 2 alone
				if c.bLoop {
					y.state.ReferenceID = wire.ReferenceAddress(x.end.Addr())
					y.tell()
				}
				w.run(20 * time.Minute)
				for i, h := range []*host{x, y} {
					if got := len(h.samples) > 5; got != c.follow[i] {
						t.Errorf("host %d has %d samples, want some: %v; rejected %v", i, len(h.samples), c.follow[i], h.assocs[0].status.Rejected)
					}
				}
				x.wantOffsets(-100*time.Millisecond, 50*time.Microsecond)
				y.wantOffsets(100*time.Millisecond, 50*time.Microsecond)
				if c.a > 0 && c.b > 0 && (x.reach() != 255 || y.reach() != 255) {
					t.Errorf("reach %o and %o, want 377", x.reach(), y.reach())
				}
				if c.bLoop && x.assocs[0].status.Rejected[model.RejectLoop] == 0 {
					t.Error("the loop was not counted")
				}
			})
		}
	}
}

func TestCommonUpstreamIsNoSource(t *testing.T) {
	w, x, y := pair(t, 3, 2, true)
	x.state.ReferenceID = wire.ReferenceName("SAME")
	y.state.ReferenceID = x.state.ReferenceID
	x.tell()
	y.tell()
	w.run(10 * time.Minute)
	if got := x.assocs[0].status.Rejected[model.RejectLoop]; got == 0 {
		t.Error("a peer of the same upstream was followed")
	}
}

func TestHoldoverFollowsOnlyWhoIsNearerToTheTime(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(5 * time.Minute)
	if n := fromPeer(x); n != 0 {
		t.Fatalf("%d samples while synchronized at a lower stratum, want none", n)
	}
	x.state.State = model.DisciplineHoldover
	x.state.RootDispersion = 50 * time.Millisecond
	x.tell()
	w.run(15 * time.Minute)
	if fromPeer(x) == 0 {
		t.Error("in holdover with a large dispersion the peer is not followed")
	}
	y.samples = nil
	y.state.State = model.DisciplineHoldover
	y.tell()
	w.run(30 * time.Minute)
	if fromPeer(y) != 0 {
		t.Error("both follow each other")
	}
}

// fromPeer counts the samples that modes 1 and 2 gave: those after the opening.
func fromPeer(h *host) int {
	n := 0
	for _, s := range h.samples {
		if s.when > 10*time.Second {
			n++
		}
	}
	return n
}

// TestLeaderAnswersAtOnce: the side that is followed answers when asked, so that the
// follower's exchanges are short and our drift does not enter.
func TestLeaderAnswersAtOnce(t *testing.T) {
	for _, bothActive := range []bool{false, true} {
		w, x, _ := pair(t, 0, 2, bothActive)
		x.clock.drift = 50 * ntptime.PPM
		w.run(20 * time.Minute)
		late := 0
		for _, s := range x.samples[2:] {
			if s.T3.Sub(s.T2) > time.Second {
				late++
			}
		}
		if late > 1 || len(x.samples) < 20 {
			t.Errorf("both active %v: %d of %d exchanges took over 1 s", bothActive, late, len(x.samples))
		}
		if sent := w.sentModes(w.hosts[1]); sent[1]+sent[2] > 100 {
			t.Errorf("the leader sent %v in 20 minutes at 16 s", sent)
		}
	}
}

func TestTheSlowerPollIsFollowed(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	x.assocs = nil
	cfg := peerConfig(y)
	cfg.MinPoll, cfg.MaxPoll = 0, 10
	x.mobilize(cfg)
	w.run(10 * time.Minute)
	if got := x.assocs[0].Status().Interval; got != 16*time.Second {
		t.Errorf("the quick side polls every %v, want the slower's 16s", got)
	}
	if got := x.assocs[0].Status().Poll; got != 0 {
		t.Errorf("its poll field says %d, want its own 0: two that echo the slower never get quicker again", got)
	}
	if x.reach() != 255 || y.reach() != 255 {
		t.Errorf("reach %o and %o", x.reach(), y.reach())
	}
}

func TestPeersThatDoNotAnswerMode3GoOnWithMode1(t *testing.T) {
	w, x, y := pair(t, 0, 2, false)
	y.serves = false
	w.run(10 * time.Minute)
	if sent := w.sentModes(x); sent[3] != openingFailures || sent[1] < 10 {
		t.Errorf("sent %v, want %d of mode 3 and then mode 1", sent, openingFailures)
	}
	if len(x.samples) < 10 {
		t.Errorf("%d samples", len(x.samples))
	}
}

func TestPassiveAssociationEndsWhenSilent(t *testing.T) {
	w, x, y := pair(t, 2, 3, false)
	w.run(5 * time.Minute)
	if len(y.assocs) != 1 {
		t.Fatalf("%d associations at the passive side, want 1", len(y.assocs))
	}
	x.assocs = nil
	w.run(40 * time.Minute)
	if len(y.assocs) != 0 || len(y.ended) != 1 {
		t.Errorf("%d associations, ended %q; want it dropped", len(y.assocs), y.ended)
	}
	before := w.sentModes(y)[2]
	w.run(80 * time.Minute)
	if after := w.sentModes(y)[2]; after != before {
		t.Errorf("%d more packets after its end", after-before)
	}
	if last := y.events[len(y.events)-1]; last.Kind != model.EventDemobilized {
		t.Errorf("the last event is %v, want demobilized", last.Kind)
	}
}

func TestUnsynchronizedPeersKeepTheirAssociation(t *testing.T) {
	w, x, y := pair(t, 0, 0, false)
	w.run(2 * time.Hour)
	if len(y.assocs) != 1 || len(y.ended) != 0 {
		t.Fatalf("the passive association ended: %q", y.ended)
	}
	y.synchronize(2, "GPS")
	w.run(2*time.Hour + 5*time.Minute)
	if len(x.samples) < 3 {
		t.Errorf("%d samples after the peer got the time", len(x.samples))
	}
}

func TestSymmetricSurvivesLoss(t *testing.T) {
	for every := 2; every <= 7; every++ {
		w, x, y := pair(t, 2, 3, true)
		n := 0
		w.lose = func(flight) bool { n++; return n%every == 0 }
		w.run(2 * time.Hour)
		before := len(y.samples)
		w.run(4 * time.Hour)
		// Of two packets one: with an answer to each, that is one direction altogether.
		if got := len(y.samples) - before; got < 60 && every > 2 {
			t.Errorf("one of %d packets lost: %d samples in two hours", every, got)
		}
		w.lose = nil
		w.run(4*time.Hour + 10*time.Minute)
		if x.reach() != 255 || y.reach() != 255 {
			t.Errorf("reach %o and %o ten minutes after the loss", x.reach(), y.reach())
		}
	}
}

func TestSymmetricComesBackAfterALongOutage(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(10 * time.Minute)
	w.lose = func(flight) bool { return true }
	w.run(70 * time.Minute)
	if x.reach() != 0 || y.reach() != 0 {
		t.Errorf("reach %o and %o in an outage", x.reach(), y.reach())
	}
	w.lose = nil
	w.run(85 * time.Minute)
	if x.reach() != 255 || y.reach() != 255 {
		t.Errorf("reach %o and %o a quarter of an hour after the outage", x.reach(), y.reach())
	}
}

func TestSymmetricOverlappingPolls(t *testing.T) {
	w, x, y := pair(t, 3, 3, true) // no leader: two free-running polls
	w.delay = 2 * time.Second      // that cross on the way all the time
	w.run(3 * time.Hour)
	if x.assocs[0].status.Accepted < 100 || y.assocs[0].status.Accepted < 100 {
		t.Errorf("accepted %d and %d", x.assocs[0].status.Accepted, y.assocs[0].status.Accepted)
	}
}

func TestRestartOfOnePeer(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(10 * time.Minute)
	y.assocs, y.samples = nil, nil
	y.mobilize(peerConfig(x))
	w.run(12 * time.Minute)
	if len(y.samples) < 3 || x.reach()&1 == 0 {
		t.Errorf("%d samples two minutes after a restart, reach of the other %o", len(y.samples), x.reach())
	}
}

func TestStepOfOnePeer(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(10 * time.Minute)
	for _, step := range []time.Duration{-time.Hour, 2 * time.Hour} {
		y.clock.behind -= step
		y.samples = nil
		var out Output
		y.assocs[0].OnClockChanged(y.clock.at(w.now), &out)
		w.run(w.now + 3*time.Minute)
		if len(y.samples) < 3 {
			t.Errorf("%d samples three minutes after a step of %v", len(y.samples), step)
		}
		y.wantOffsets(y.clock.behind, 50*time.Microsecond)
		if x.reach() != 255 && x.reach() != 254 {
			t.Logf("reach %o after the step", x.reach())
		}
	}
}

func TestRFC9769_3_InterleavedSymmetric(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	x.assocs, y.assocs = nil, nil
	cx, cy := peerConfig(y), peerConfig(x)
	cx.Interleaved, cy.Interleaved = InterleaveOn, InterleaveOn
	x.mobilize(cx)
	y.mobilize(cy)
	w.run(20 * time.Minute)
	n := 0
	for _, s := range y.samples {
		if s.Interleaved {
			n++
		}
	}
	if n < 30 || n < len(y.samples)*2/3 {
		t.Errorf("%d of %d samples are interleaved", n, len(y.samples))
	}
	y.wantOffsets(100*time.Millisecond, 50*time.Microsecond)
	if x.reach() != 255 || y.reach() != 255 {
		t.Errorf("reach %o and %o", x.reach(), y.reach())
	}
	refused := y.assocs[0].status.Rejected[model.RejectDelay]
	lost := 0
	w.lose = func(flight) bool { lost++; return lost%5 == 0 }
	w.run(60 * time.Minute)
	y.wantOffsets(100*time.Millisecond, 50*time.Microsecond)
	if got := y.assocs[0].status.Rejected[model.RejectDelay] - refused; got > 0 {
		t.Errorf("%d timestamps belonged to other packets: a packet after a loss must not be interleaved", got)
	}
}

func TestRFC9769_3_InterleavedAgainstBasicPeer(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	y.assocs = nil
	cy := peerConfig(x)
	cy.Interleaved = InterleaveAuto
	y.mobilize(cy)
	w.run(20 * time.Minute)
	if len(y.samples) < 20 || x.reach() != 255 || y.reach() != 255 {
		t.Errorf("%d samples, reach %o and %o", len(y.samples), x.reach(), y.reach())
	}
}

// TestStatelessPassiveReplies: chrony answers mode 1 by mode 2 without a state.
func TestStatelessPassiveReplies(t *testing.T) {
	w, x, y := pair(t, 0, 2, false)
	y.passive, y.stateless, y.serves = nil, true, false
	w.run(10 * time.Minute)
	if len(x.samples) < 20 || x.reach() != 255 {
		t.Errorf("%d samples, reach %o", len(x.samples), x.reach())
	}
}

func TestModesOfHeaders(t *testing.T) {
	w, x, y := pair(t, 2, 0, false)
	y.follows = false
	w.run(5 * time.Minute)
	for _, f := range w.log {
		h := header(t, f.data)
		switch {
		case h.Mode == wire.ModeActive && (h.Leap != 0 || h.Stratum != 2 || h.ReferenceTime.Sub(h.Transmit) > 0 || h.Transmit == 0):
			t.Errorf("mode 1 of a synchronized host: %+v", h)
		case h.Mode == wire.ModePassive && (h.Leap != wire.LeapUnknown || h.Stratum != 0 || h.Transmit == 0):
			t.Errorf("mode 2 of an unsynchronized host: %+v", h)
		}
	}
	_ = x
}

func TestRFC5905_9_2_TwoPassiveEndsAreAnError(t *testing.T) {
	w, x, y := pair(t, 2, 3, false)
	w.run(5 * time.Minute)
	last := w.log[len(w.log)-1]
	for _, f := range w.log {
		if f.from == y.end && f.data[0]&7 == byte(wire.ModePassive) {
			last = f
		}
	}
	forged := header(t, last.data)
	forged.Mode, forged.Origin = wire.ModePassive, forged.Origin+99
	w.forge(&forged, nil, x.end, y.end)
	w.run(w.now + time.Second)
	if len(y.assocs) != 1 {
		t.Fatal("a forged mode 2 ended the passive association")
	}
	newest := y.assocs[0].symmetric.newest()
	real := header(t, last.data)
	real.Mode, real.Origin, real.Receive = wire.ModePassive, newest.transmit, newest.transmit
	real.Transmit = epoch.Add(w.now).Timestamp()
	w.forge(&real, nil, x.end, y.end)
	w.run(w.now + time.Second)
	if len(y.ended) != 1 {
		t.Errorf("mode 2 of the peer itself: ended %q, rejected %v", y.ended, y.assocs[0].status.Rejected)
	}
}

func TestPassiveAnswersAtOnceInTheSameVersion(t *testing.T) {
	for version := uint8(2); version <= 4; version++ {
		w, x, y := pair(t, 2, 3, false)
		x.assocs = nil
		cfg := peerConfig(y)
		cfg.Version = version
		x.mobilize(cfg)
		w.run(time.Minute)
		var asked time.Duration
		for _, f := range w.log {
			switch h := header(t, f.data); {
			case h.Version != version:
				t.Errorf("mode %d in version %d, want %d", h.Mode, h.Version, version)
			case h.Mode == wire.ModeActive && asked == 0:
				asked = f.when
			case h.Mode == wire.ModePassive:
				if wait := f.when - asked; asked > 0 && wait > 100*time.Millisecond {
					t.Errorf("the first mode 2 came %v after the first mode 1", wait)
				}
				asked = -1
			}
		}
	}
}

func TestMode1IsNeverQuickerThanMinPoll(t *testing.T) {
	w, x, y := pair(t, 0, 2, false)
	y.serves = false
	x.assocs = nil
	cfg := peerConfig(y)
	cfg.IBurst = true
	x.mobilize(cfg)
	w.run(10 * time.Minute)
	last := time.Duration(0)
	for _, f := range w.log {
		if f.from == x.end && f.data[0]&7 == byte(wire.ModeActive) {
			if last > 0 && f.when-last < 16*time.Second {
				t.Errorf("mode 1 %v after the last, want 16s", f.when-last)
			}
			last = f.when
		}
	}
}

// TestLeaderDoesNotSlowItsFollowerDown: the leader's own system process wants next to
// no samples of the follower; the follower's poll decides all the same.
func TestLeaderDoesNotSlowItsFollowerDown(t *testing.T) {
	for _, bothActive := range []bool{false, true} {
		w, x, y := pair(t, 0, 2, bothActive)
		if bothActive {
			y.assocs = nil
			cfg := peerConfig(x)
			cfg.MaxPoll = 12
			y.mobilize(cfg)
		} else {
			y.passive.MinPoll, y.passive.MaxPoll = -4, 17
		}
		w.run(time.Minute)
		y.assocs[0].OnHint(model.Hint{Interval: 4000 * time.Second}, y.clock.at(w.now))
		before := len(x.samples)
		w.run(31 * time.Minute)
		if got := len(x.samples) - before; got < 100 {
			t.Errorf("both active %v: %d samples in 30 minutes, want one each 16 s", bothActive, got)
		}
		for _, f := range w.log {
			if h := header(t, f.data); f.from == y.end && h.Mode != wire.ModeServer && h.Poll != 4 {
				t.Errorf("both active %v: the leader's poll field says %d, want 4", bothActive, h.Poll)
				break
			}
		}
	}
}

func TestPassiveSendsLittleToAStranger(t *testing.T) {
	for poll, longest := range map[ntptime.Log2]time.Duration{-128: 20 * time.Second, 6: 6 * time.Minute, 127: 80 * time.Minute} {
		w := newWorld(t)
		y := w.add("192.0.2.2", 0, 2)
		y.passive = passiveConfig()
		y.passive.MinPoll, y.passive.MaxPoll = -4, 17
		h := forgery(wire.ModeActive, &seeded{5}, epoch)
		h.Poll = poll
		w.forge(&h, nil, strangeEnd, y.end)
		w.run(longest)
		if len(w.log) != unknownPolls || len(y.ended) != 1 {
			t.Errorf("poll %d: %d packets to whoever it is, ended %q; want %d and the end", poll, len(w.log), y.ended, unknownPolls)
		}
		for i := 1; i < len(w.log); i++ {
			if gap := w.log[i].when - w.log[i-1].when; gap < 3900*time.Millisecond {
				t.Errorf("poll %d: packets %v apart", poll, gap)
			}
		}
	}
}

func TestPassiveSidePollsAsTheActiveOneDoes(t *testing.T) {
	w, _, y := pair(t, 2, 3, false)
	y.passive.MaxPoll = 17
	w.run(5 * time.Minute)
	y.assocs[0].OnHint(model.Hint{Interval: 4000 * time.Second}, y.clock.at(w.now))
	w.run(10 * time.Minute)
	if got := y.assocs[0].Status().Interval; got != 16*time.Second {
		t.Errorf("interval %v, want the active side's 16s", got)
	}
}
