package association

import (
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// attackBroadcast lets an attack run at ten a second for ten minutes of operation, and
// checks that every sample told the truth and the true broadcasts were all taken.
func attackBroadcast(t *testing.T, key *mac.Key, attack func(w *world, server, client *host, n int)) *host {
	t.Helper()
	w, server, client := broadcasting(t, key)
	w.run(5 * time.Minute)
	_, before := client.kinds()
	w.barrage(func(n int) { attack(w, server, client, n) })
	w.run(15 * time.Minute)
	if _, after := client.kinds(); after-before < 70 {
		t.Errorf("%d broadcasts taken in ten minutes, want one each 8 s; rejected %v", after-before, client.assocs[0].status.Rejected)
	}
	own := client.samples[:0]
	for _, s := range client.samples {
		if s.Source == 1 { // another server with the key is another source
			own = append(own, s)
		}
	}
	client.samples = own
	client.wantOffsets(100*time.Millisecond, 20*time.Microsecond)
	if len(client.ended) > 0 || client.assocs[0].cfg.ID != 1 || len(client.assocs) > 2 {
		t.Errorf("ended %q, %d associations", client.ended, len(client.assocs))
	}
	return client
}

func TestThreat20_BroadcastAttacks(t *testing.T) {
	key, other := testKey(t, 10), testKey(t, 11)
	random := &seeded{3}
	forged := func(w *world, off time.Duration) wire.Header {
		h := forgery(wire.ModeBroadcast, random, epoch)
		h.Origin, h.Receive = 0, 0
		h.Transmit = epoch.Add(w.now + off).Timestamp()
		h.ReferenceTime = h.Transmit - 1<<33
		return h
	}
	cases := []struct {
		name   string
		key    *mac.Key
		attack func(w *world, server, client *host, n int)
	}{
		{"unsigned", key, func(w *world, s, _ *host, n int) {
			h := forged(w, time.Duration(n)*time.Second)
			w.forge(&h, nil, s.end, groupEnd)
		}},
		{"signed with another key", key, func(w *world, s, _ *host, _ int) {
			h := forged(w, time.Hour)
			w.forge(&h, other, s.end, groupEnd)
		}},
		{"signed by another server with the right key", key, func(w *world, _, _ *host, _ int) {
			h := forged(w, time.Hour)
			w.forge(&h, key, strangeEnd, groupEnd)
		}},
		{"a crypto-NAK", key, func(w *world, s, _ *host, _ int) {
			h := forged(w, time.Hour)
			w.send(flight{from: s.end, to: groupEnd, data: append(encode(&h, nil), 0, 0, 0, 0), forged: true})
		}},
		{"replayed, in order and reversed", key, func(w *world, _, _ *host, n int) {
			if n%2 == 0 {
				w.replay(w.log[n%len(w.log)])
			} else {
				w.replay(w.log[len(w.log)-1-n%len(w.log)])
			}
		}},
		{"unauthenticated and forged far from the truth", nil, func(w *world, s, _ *host, n int) {
			h := forged(w, time.Duration(n%7-3)*time.Hour+time.Second)
			w.forge(&h, nil, s.end, groupEnd)
		}},
		{"unauthenticated, a second early or late", nil, func(w *world, s, _ *host, n int) {
			h := forged(w, time.Duration(n%3-1)*time.Second+50*time.Millisecond)
			w.forge(&h, nil, s.end, groupEnd)
		}},
		{"forged mode 4 replies to the volley", nil, func(w *world, s, c *host, _ int) {
			h := goodReply(wire.Header{Version: 4, Transmit: ntptime.Timestamp(random.Uint64())}, epoch.Add(w.now+time.Hour))
			w.forge(&h, nil, s.end, c.end)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { attackBroadcast(t, c.key, c.attack) })
	}
}

// TestThreat20_YesterdaysPackets: rightly signed packets of yesterday mobilize a new
// association, whose volley tells the truth.
func TestThreat20_YesterdaysPackets(t *testing.T) {
	key := testKey(t, 10)
	w, _, client := broadcasting(t, key)
	w.run(5 * time.Minute)
	yesterday := w.log
	w.hosts[0].assocs[0].broadcastServer.next = ntptime.Raw(25 * time.Hour) // the server rests
	w.run(20 * time.Hour)
	if len(client.assocs) != 0 {
		t.Fatal("the association outlived its server")
	}
	client.samples = nil
	w.barrage(func(n int) { w.replay(yesterday[n%len(yesterday)]) })
	w.run(20*time.Hour + 10*time.Minute)
	if _, broadcasts := client.kinds(); broadcasts != 0 {
		t.Errorf("%d of yesterday's broadcasts were believed", broadcasts)
	}
	client.wantOffsets(100*time.Millisecond, 20*time.Microsecond)
	w.hosts[0].assocs[0].broadcastServer.next = 0
	w.run(20*time.Hour + 20*time.Minute)
	if _, broadcasts := client.kinds(); broadcasts < 50 {
		t.Errorf("%d true broadcasts taken under the replays; rejected %v", broadcasts, client.assocs[0].status.Rejected)
	}
}

// TestThreat20_LastTransmitOutlivesTheAssociation: where the server answers no volley,
// the timestamp handed on keeps yesterday's packets out.
func TestThreat20_LastTransmitOutlivesTheAssociation(t *testing.T) {
	key := testKey(t, 10)
	w, server, client := broadcasting(t, key)
	server.serves = false
	w.run(5 * time.Minute)
	client.listens.LastTransmit = client.assocs[0].Status().LastTransmit
	if client.listens.LastTransmit == 0 {
		t.Fatal("no timestamp is remembered")
	}
	yesterday := w.log
	server.assocs, client.assocs, client.samples = nil, nil, nil
	w.run(20 * time.Hour)
	w.barrage(func(n int) { w.replay(yesterday[n%len(yesterday)]) })
	w.run(20*time.Hour + 10*time.Minute)
	if len(client.samples) != 0 {
		t.Errorf("%d of yesterday's broadcasts were believed", len(client.samples))
	}
}

// TestThreat20_NoKeyNoLastTransmit: anybody could have sent it, from the far future too.
func TestThreat20_NoKeyNoLastTransmit(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	w.run(5 * time.Minute)
	if got := client.assocs[0].Status(); got.Accepted == 0 || got.LastTransmit != 0 {
		t.Errorf("got %v handed on after %d broadcasts that no key vouches for, want 0", got.LastTransmit, got.Accepted)
	}
}

func TestEarlyBroadcastIsRefused(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	w.run(2 * time.Minute)
	a := client.assocs[0]
	for taken := a.status.Accepted; a.status.Accepted == taken; {
		w.run(w.now + 100*time.Millisecond)
	}
	early := forgery(wire.ModeBroadcast, &seeded{1}, epoch)
	early.Origin, early.Poll = 0, 3
	early.Transmit = epoch.Add(w.now).Timestamp()
	early.ReferenceTime = early.Transmit
	before := *a
	w.forge(&early, nil, server.end, groupEnd)
	w.run(w.now + 10*time.Millisecond)
	untouched(t, &before, a)
	if got := a.status.Rejected[model.RejectRate]; got != 1 {
		t.Errorf("rejected %v, want one as too early", a.status.Rejected)
	}
}

// TestRefusedBroadcastsChangeNothing: each is right but for one thing.
func TestRefusedBroadcastsChangeNothing(t *testing.T) {
	key := testKey(t, 10)
	cases := []struct {
		name   string
		spoil  func(h *wire.Header)
		key    *mac.Key
		from   string
		reason model.RejectReason
	}{
		{name: "unsigned (TEST5)", reason: model.RejectAuth},
		{name: "signed with another key (TEST5)", key: testKey(t, 11), reason: model.RejectAuth},
		{name: "from another port (TEST4)", key: key, from: "192.0.2.1:124", reason: model.RejectAccess},
		{name: "a zero transmit timestamp (TEST3)", key: key, spoil: func(h *wire.Header) { h.Transmit = 0 }, reason: model.RejectInvalid},
		{name: "an old transmit timestamp (TEST1)", key: key, spoil: func(h *wire.Header) { h.Transmit -= 20 << 32 }, reason: model.RejectReplay},
		{name: "leap 3 (TEST6)", key: key, spoil: func(h *wire.Header) { h.Leap = wire.LeapUnknown }, reason: model.RejectUnsync},
		{name: "root distance (TEST7)", key: key, spoil: func(h *wire.Header) { h.RootDispersion = 17 << 16 }, reason: model.RejectHeader},
		{name: "mode 4", key: key, spoil: func(h *wire.Header) { h.Mode = wire.ModeServer }, reason: model.RejectMode},
		{name: "mode 1", key: key, spoil: func(h *wire.Header) { h.Mode = wire.ModeActive }, reason: model.RejectMode},
	}
	for _, c := range cases {
		w, server, client := broadcasting(t, key)
		w.run(2 * time.Minute)
		server.assocs = nil
		w.run(w.now + 5*time.Second)
		good := forgery(wire.ModeBroadcast, &seeded{1}, epoch)
		good.Origin, good.Poll, good.Transmit, good.ReferenceTime = 0, 3, epoch.Add(w.now).Timestamp(), 0
		bad := good
		if c.spoil != nil {
			c.spoil(&bad)
		}
		from := server.end
		if c.from != "" {
			from = mustEnd(c.from)
		}
		a := client.assocs[0]
		before := *a
		w.forge(&bad, c.key, from, groupEnd)
		w.run(w.now + time.Millisecond)
		untouched(t, &before, a)
		if a.status.Rejected[c.reason] != before.status.Rejected[c.reason]+1 {
			t.Errorf("%s: rejected %v", c.name, a.status.Rejected)
		}
		good.Transmit = epoch.Add(w.now).Timestamp()
		w.forge(&good, key, server.end, groupEnd)
		w.run(w.now + time.Millisecond)
		if a.status.Accepted != before.status.Accepted+1 {
			t.Errorf("%s: the true one after it was refused: %v", c.name, a.status.Rejected)
		}
	}
}

func TestNoBroadcastIsBelievedBetweenAStepAndTheNewVolley(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	w.run(2 * time.Minute)
	server.assocs = nil
	w.run(w.now + 5*time.Second)
	a := client.assocs[0]
	var out Output
	a.OnClockChanged(client.clock.at(w.now), &out)
	h := forgery(wire.ModeBroadcast, &seeded{1}, epoch)
	h.Origin, h.Poll, h.Transmit = 0, 3, epoch.Add(w.now+time.Hour).Timestamp()
	w.lose = func(flight) bool { return true }
	samples := len(client.samples)
	w.forge(&h, nil, server.end, groupEnd)
	w.run(w.now + time.Millisecond)
	if len(client.samples) != samples || a.status.Rejected[model.RejectUncalibrated] < 2 {
		t.Errorf("%d samples, rejected %v", len(client.samples)-samples, a.status.Rejected)
	}
}

// TestThreat20_AServerThatAnswersNothing: true packets, sent again from addresses where
// nobody answers, may not tell another time than a synchronized clock, and end where
// the server must answer.
func TestThreat20_AServerThatAnswersNothing(t *testing.T) {
	for _, test := range []struct {
		name    string
		stratum uint8 // of the client: 0, it has no time yet
		behind  time.Duration
		must    bool
		want    bool // samples are believed
	}{
		{"a client without time takes what there is", 0, 100 * time.Millisecond, false, true},
		{"a synchronized client takes what agrees", 3, 0, false, true},
		{"a synchronized client refuses what is 100 ms off", 3, 100 * time.Millisecond, false, false},
		{"beside one that answers nothing is believed", 3, 0, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, server, _ := broadcasting(t, nil)
			server.serves = false
			client := w.add("192.0.2.3", test.behind, test.stratum)
			client.follows = false
			client.listens = &Config{Name: "group", Kind: KindBroadcastClient, Version: 4, MaxDelay: 3 * time.Second, MustAnswer: test.must, Dynamic: true}
			w.run(5 * time.Minute)
			if _, broadcasts := client.kinds(); (broadcasts > 0) != test.want {
				t.Errorf("got %d samples, want some: %v", broadcasts, test.want)
			}
		})
	}
}
