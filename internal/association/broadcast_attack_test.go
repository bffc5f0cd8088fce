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
	w.hosts[0].assocs[0].sender.next = ntptime.Raw(25 * time.Hour) // the server rests
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
	w.hosts[0].assocs[0].sender.next = 0
	w.run(20*time.Hour + 20*time.Minute)
	if _, broadcasts := client.kinds(); broadcasts < 50 {
		t.Errorf("%d true broadcasts taken under the replays; rejected %v", broadcasts, client.assocs[0].status.Rejected)
	}
}

// TestThreat20_LastTransmitOutlivesTheAssociation: where the server answers no volley,
// the stamp handed on keeps yesterday's packets out.
func TestThreat20_LastTransmitOutlivesTheAssociation(t *testing.T) {
	key := testKey(t, 10)
	w, server, client := broadcasting(t, key)
	server.serves = false
	w.run(5 * time.Minute)
	client.listens.LastTransmit = client.assocs[0].LastTransmit()
	if client.listens.LastTransmit == 0 {
		t.Fatal("no stamp is remembered")
	}
	yesterday := w.log
	server.assocs, client.assocs, client.samples = nil, nil, nil
	w.run(20 * time.Hour)
	w.barrage(func(n int) { w.replay(yesterday[n%len(yesterday)]) })
	w.run(20*time.Hour + 10*time.Minute)
	if len(client.samples) != 0 {
		t.Errorf("%d of yesterday's broadcasts were believed", len(client.samples))
	}
	if got := (&Association{cfg: Config{}, listener: listener{newest: 5}}).LastTransmit(); got != 0 {
		t.Errorf("a stamp that no key vouches for is handed on: %v", got)
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
