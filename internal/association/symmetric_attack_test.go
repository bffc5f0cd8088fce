package association

import (
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// keyed gives both ends of a pair a key.
func keyedPair(t *testing.T, key *mac.Key, bothActive bool) (*world, *host, *host) {
	w, x, y := pair(t, 2, 3, bothActive)
	x.key, y.key = key, key
	x.assocs, y.assocs = nil, nil
	cfg := peerConfig(y)
	cfg.Key = key
	x.mobilize(cfg)
	if bothActive {
		cfg = peerConfig(x)
		cfg.Key = key
		y.mobilize(cfg)
	} else {
		y.passive.Key = key
	}
	return w, x, y
}

// barrage calls attack ten times a second.
func (w *world) barrage(attack func(n int)) {
	next, n := w.now, 0
	w.nudge = func(now time.Duration) {
		for ; next <= now; next += 100 * time.Millisecond {
			attack(n)
			n++
		}
	}
	w.hosts = append(w.hosts, w.ticker())
}

// ticker is a host that does nothing but make the world look every 100 ms.
func (w *world) ticker() *host {
	h := &host{world: w, end: strangeEnd, clock: clockOf{start: epoch}}
	cfg := Config{Kind: KindBroadcastServer, Remote: mustEnd("198.51.100.67:123"), Interval: time.Second}
	h.mobilize(cfg)
	return h
}

// forgery is a mode 1 or 2 packet by somebody who cannot see the traffic.
func forgery(mode wire.Mode, random *seeded, at ntptime.Wall) wire.Header {
	h := goodReply(wire.Header{Version: 4, Poll: 4, Transmit: ntptime.Timestamp(random.Uint64())}, at.Add(time.Hour))
	h.Mode, h.Stratum = mode, 1
	return h
}

// TestThreat12_18_ForgedPacketsAtTenASecond: forged mode 1 and 2 packets, without a
// key, with a wrong one and with a crypto-NAK, change nothing but counters.
func TestThreat12_18_ForgedPacketsAtTenASecond(t *testing.T) {
	key, other := testKey(t, 10), testKey(t, 11)
	for _, keyed := range []bool{false, true} {
		for _, bothActive := range []bool{false, true} {
			var w *world
			var x, y *host
			if keyed {
				w, x, y = keyedPair(t, key, bothActive)
			} else {
				w, x, y = pair(t, 2, 3, bothActive)
			}
			w.run(5 * time.Minute)
			random := &seeded{99}
			before := len(y.samples)
			w.barrage(func(n int) {
				h := forgery(wire.ModeActive+wire.Mode(n%2), random, epoch.Add(w.now))
				switch n % 5 {
				case 1:
					h.Origin = 0
				case 2:
					h.Origin, h.Receive = 0, 0
				case 3:
					h.Leap, h.Stratum, h.ReferenceID = wire.LeapUnknown, 0, wire.KissDENY
				case 4:
					h.Transmit = 0
				}
				var k *mac.Key
				if n%3 == 1 {
					k = other
				}
				data := encode(&h, k)
				if n%7 == 0 {
					data = append(data[:wire.HeaderSize], 0, 0, 0, 0)
				}
				from, to := x.end, y.end
				if n%4 >= 2 {
					from, to = to, from
				}
				w.send(flight{from: from, to: to, data: data, forged: true})
			})
			w.run(20 * time.Minute)
			if got := len(y.samples) - before; got < 50 {
				t.Errorf("keyed %v, both active %v: %d samples in 15 minutes under attack, want one a poll", keyed, bothActive, got)
			}
			y.wantOffsets(100*time.Millisecond, 50*time.Microsecond)
			if x.reach() != 255 || y.reach() != 255 {
				t.Errorf("keyed %v, both active %v: reach %o and %o, want 377", keyed, bothActive, x.reach(), y.reach())
			}
			if len(x.ended)+len(y.ended) > 0 || len(x.assocs) != 1 || len(y.assocs) != 1 {
				t.Errorf("keyed %v: associations ended: %q %q", keyed, x.ended, y.ended)
			}
		}
	}
}

// TestThreat13_ReplayedPackets replays all that the peers ever sent.
func TestThreat13_ReplayedPackets(t *testing.T) {
	for _, bothActive := range []bool{false, true} {
		w, x, y := keyedPair(t, testKey(t, 10), bothActive)
		w.run(5 * time.Minute)
		before := len(y.samples)
		polls := w.sentModes(y)
		w.barrage(func(n int) { w.replay(w.log[n*7919%len(w.log)]) })
		w.run(20 * time.Minute)
		sent := w.sentModes(y)
		made := sent[1] + sent[2] - polls[1] - polls[2]
		if got := len(y.samples) - before; got < 50 || got > made+1 {
			t.Errorf("both active %v: %d samples of %d polls", bothActive, got, made)
		}
		y.wantOffsets(100*time.Millisecond, 50*time.Microsecond)
		if x.reach() != 255 || y.reach() != 255 {
			t.Errorf("both active %v: reach %o and %o", bothActive, x.reach(), y.reach())
		}
	}
}

// TestThreat13_ReplaysWhileAPeerRestarts: an old first packet, rightly signed, must not
// keep the peers apart.
func TestThreat13_ReplaysWhileAPeerRestarts(t *testing.T) {
	key := testKey(t, 10)
	w, x, y := keyedPair(t, key, true)
	w.run(5 * time.Minute)
	x.assocs, y.assocs, y.samples = nil, nil, nil // both: there is nothing to go by but unconfirmed timestamps
	for _, ends := range [][2]*host{{x, y}, {y, x}} {
		cfg := peerConfig(ends[1])
		cfg.Key = key
		ends[0].mobilize(cfg)
		w.run(w.now + 7*time.Second) // their polls lie apart
	}
	x.serves, y.serves = false, false
	old := len(w.log)
	w.barrage(func(n int) { w.replay(w.log[n*7919%old]) })
	w.run(15 * time.Minute)
	if len(y.samples) < 20 {
		t.Errorf("%d samples ten minutes after a restart under replays; rejected %v", len(y.samples), y.assocs[0].status.Rejected)
	}
}

// TestCVE2015_7871_NAKToTheFuture: an unsigned packet with a crypto-NAK is no success.
func TestCVE2015_7871_NAKToTheFuture(t *testing.T) {
	key := testKey(t, 10)
	w, x, y := keyedPair(t, key, true)
	w.run(5 * time.Minute)
	forged := forgery(wire.ModeActive, &seeded{1}, epoch.Add(w.now))
	forged.Origin = y.assocs[0].symmetric.newest().transmit // even with the right origin
	before := *y.assocs[0]
	w.send(flight{from: x.end, to: y.end, data: append(encode(&forged, nil), 0, 0, 0, 0), forged: true})
	w.run(w.now + time.Second)
	if got := y.assocs[0].status.Rejected[model.RejectAuth]; got != before.status.Rejected[model.RejectAuth]+1 {
		t.Errorf("rejected %v", y.assocs[0].status.Rejected)
	}
	untouched(t, &before, y.assocs[0])
}

// TestReflectedPackets: our own packets, sent back to us, are nobody's answer.
func TestReflectedPackets(t *testing.T) {
	w, x, y := keyedPair(t, testKey(t, 10), true)
	y.assocs = nil // there is only the mirror
	w.run(5 * time.Minute)
	w.barrage(func(int) {
		f := w.log[len(w.log)-1]
		w.send(flight{from: y.end, to: x.end, data: f.data, forged: true})
	})
	w.run(10 * time.Minute)
	if fromPeer(x) > 0 || x.assocs[0].status.Rejected[model.RejectLoop] == 0 {
		t.Errorf("%d samples of a mirror, rejected %v", fromPeer(x), x.assocs[0].status.Rejected)
	}
}

// TestThreat19_PassiveAssociationsAreBounded: thousands of addresses mobilize no more
// than the limit, and those end by themselves.
func TestThreat19_PassiveAssociationsAreBounded(t *testing.T) {
	w := newWorld(t)
	y := w.add("192.0.2.2", 0, 2)
	y.passive = passiveConfig()
	random := &seeded{5}
	for i := range 2000 {
		h := forgery(wire.ModeActive, random, epoch)
		from := strangeEnd.Addr().As4()
		from[2], from[3] = byte(i>>8), byte(i)
		w.forge(&h, nil, endOf(from), y.end)
		w.run(w.now + 10*time.Millisecond)
		if len(y.assocs) > 3 {
			t.Fatalf("%d associations, want at most 3", len(y.assocs))
		}
	}
	if len(y.assocs) != 3 || len(y.samples) != 0 {
		t.Errorf("%d associations, %d samples", len(y.assocs), len(y.samples))
	}
	w.run(3 * time.Hour)
	if len(y.assocs) != 0 {
		t.Errorf("%d associations of nobody after three hours", len(y.assocs))
	}
}

// TestSymmetricKissNeedsTheOrigin: DENY with the right origin and key is obeyed.
func TestSymmetricKissNeedsTheOrigin(t *testing.T) {
	key := testKey(t, 10)
	for _, right := range []bool{false, true} {
		w, x, y := keyedPair(t, key, true)
		w.run(5 * time.Minute)
		h := kissFor(header(t, w.log[0].data), wire.KissDENY)
		h.Mode, h.Receive, h.Transmit = wire.ModePassive, 1, epoch.Add(w.now).Timestamp()
		h.Origin = y.assocs[0].symmetric.newest().transmit
		if !right {
			h.Origin++
		}
		w.forge(&h, key, x.end, y.end)
		w.run(w.now + time.Second)
		if got := len(y.ended) == 1; got != right {
			t.Errorf("right origin %v: ended %v", right, y.ended)
		}
	}
}

// TestSecondAnswerToOneTransmission: a peer that polls quicker than we do answers each
// transmission of ours several times. One gives a sample; an older one again, nothing.
func TestSecondAnswerToOneTransmission(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(5 * time.Minute)
	a := y.assocs[0]
	answer := func(after time.Duration) wire.Header {
		h := goodReply(wire.Header{Version: 4, Poll: 4}, epoch.Add(w.now+after))
		h.Mode, h.Origin, h.ReferenceTime = wire.ModeActive, a.symmetric.newest().transmit, 0
		return h
	}
	x.assocs = nil
	w.run(time.Duration(a.Deadline()) - time.Duration(time.Hour) + time.Second) // it has just sent
	first, second := answer(0), answer(time.Second)
	samples := len(y.samples)
	w.forge(&first, nil, x.end, y.end)
	w.run(w.now + time.Second)
	w.forge(&second, nil, x.end, y.end)
	w.run(w.now + time.Second)
	if got := len(y.samples) - samples; got != 1 {
		t.Errorf("%d samples of two answers to one transmission, want 1", got)
	}
	if got := a.symmetric.confirmed.transmit; got != second.Transmit {
		t.Error("the next packet must refer to the newest of the peer")
	}
	for i, replay := range []struct {
		packet wire.Header
		reason model.RejectReason
	}{{second, model.RejectDuplicate}, {first, model.RejectReplay}} {
		before := *a
		w.forge(&replay.packet, nil, x.end, y.end)
		w.run(w.now + 10*time.Millisecond)
		untouched(t, &before, a)
		if a.status.Rejected[replay.reason] != before.status.Rejected[replay.reason]+1 {
			t.Errorf("replay %d: rejected %v", i, a.status.Rejected)
		}
	}
}

// TestForgedPacketsChangeNothing: while the peers hear each other, not even what would
// begin an exchange is kept of a packet that answers nothing; what looks like a beginning
// draws one answer.
func TestForgedPacketsChangeNothing(t *testing.T) {
	w, x, y := pair(t, 2, 3, true)
	w.run(5 * time.Minute)
	right := y.assocs[0].symmetric.newest().transmit
	for _, spoil := range []func(h *wire.Header){
		func(h *wire.Header) { h.Origin = 0 },
		func(h *wire.Header) { h.Origin = 1 },
		func(h *wire.Header) { h.Origin = right + 1 },
		func(h *wire.Header) { h.Origin, h.Transmit = right, 0 },
		func(h *wire.Header) { h.Origin, h.Receive = right, 0 },
	} {
		before := *y.assocs[0]
		h := forgery(wire.ModeActive, &seeded{1}, epoch.Add(w.now))
		spoil(&h)
		w.forge(&h, nil, x.end, y.end)
		w.run(w.now + time.Millisecond)
		if h.Origin == 0 && h.Transmit != 0 {
			before.symmetric.restart = y.assocs[0].symmetric.restart
			before.status.Sent++
		}
		untouched(t, &before, y.assocs[0])
	}
}

// TestOldStraysAreReplays: with a key, the newest first packet of a peer is the true one.
func TestOldStraysAreReplays(t *testing.T) {
	key := testKey(t, 10)
	cfg := *passiveConfig()
	cfg.Remote, cfg.Key, cfg.Dynamic = serverEnd, key, true
	b := newBench(t, cfg)
	for i, sent := range []time.Duration{10 * time.Second, 5 * time.Second, -24 * time.Hour} {
		h := forgery(wire.ModeActive, &seeded{1}, epoch)
		h.Origin, h.Receive, h.Poll, h.Transmit = 0, 0, 4, epoch.Add(sent).Timestamp()
		b.deliver(encode(&h, key), serverEnd, time.Duration(i)*time.Second)
	}
	if got := header(t, b.sendNext()).Origin; got != epoch.Add(10*time.Second).Timestamp() {
		t.Errorf("we answer the packet of %v", got.Wall(epoch).Time())
	}
}
