package association

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/nts"
	"timeball/internal/wire"
)

// The traces in testdata are the protocol as it is spoken: one for each mode and life of
// docs/WALK.md. `go test -update` writes them anew; a change of them is to be read.

func clientOf(remote *host) Config {
	return Config{Name: "server", Kind: KindClient, Remote: remote.end, Version: 4, MinPoll: 6, MaxPoll: 10, MaxDelay: 3 * time.Second}
}

func TestTraceClient(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 20*time.Millisecond, 0), w.add("192.0.2.2", 0, 2)
	cfg := clientOf(b)
	cfg.IBurst = true
	a.mobilize(cfg)
	r.Say("A client's startup burst (iburst), 2 s apart: 64 random bits go out, and come back as the origin.")
	w.run(7 * time.Second)
	r.Say("The system process has seen enough, and asks for 64 s: that is the pace from now on.")
	a.assocs[0].OnHint(model.Hint{Interval: 64 * time.Second}, a.clock.at(w.now))
	w.run(100 * time.Second)
	r.Say("A reply that answers nothing, and the true one twice: only the first of the true ones counts.")
	w.lose = func(f flight) bool {
		if f.from == b.end {
			forged := f
			forged.data = append([]byte(nil), f.data...)
			forged.data[31] ^= 1 // the origin
			w.replay(forged)
			w.replay(f)
			w.replay(f)
			w.lose = nil
			return true
		}
		return false
	}
	w.run(170 * time.Second)
	r.Say("The server falls silent, and is found again.")
	b.serves = false
	w.run(900 * time.Second)
	b.serves = true
	w.run(1100 * time.Second)
	r.Compare(t, "client")
}

// kisses has a host answer every request by a kiss.
func kisses(h *host, code wire.ReferenceID) {
	h.answers = func(request wire.Header) wire.Header { return kissFor(request, code) }
}

func TestTraceKisses(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 0, 0), w.add("192.0.2.2", 0, 2)
	a.mobilize(clientOf(b))
	r.Say("RATE slows the polls down at once, and they come back after a while without it.")
	kisses(b, wire.KissRATE)
	w.run(300 * time.Second)
	b.answers = nil
	w.run(2600 * time.Second)
	r.Say("DENY ends the association.")
	kisses(b, wire.KissDENY)
	w.run(4000 * time.Second)
	r.Compare(t, "kiss")
}

func TestTraceInterleavedClient(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 20*time.Millisecond, 0), w.add("192.0.2.2", 0, 2)
	cfg := clientOf(b)
	cfg.Interleaved, cfg.MinPoll = InterleaveOn, 2
	a.mobilize(cfg)
	r.Say("From the second exchange on the client asks for an interleaved reply: its origin is the server's last receive timestamp.")
	answersInterleaved(b)
	w.run(18 * time.Second)
	r.Say("A reply is lost: the next request is a basic one again.")
	w.lose = func(f flight) bool { return f.to == b.end }
	w.run(22 * time.Second)
	w.lose = nil
	w.run(32 * time.Second)
	r.Compare(t, "client-interleaved")
}

// answersInterleaved has a host answer as RFC 9769 §2 says; its timestamps are its clock's.
func answersInterleaved(h *host) {
	var last wire.Header
	h.answers = func(request wire.Header) wire.Header {
		now := h.clock.at(h.world.now)
		reply := goodReply(request, now.Wall)
		left := now.Wall.Add(30 * time.Microsecond).Timestamp()
		if request.Origin != 0 && request.Origin == last.Receive {
			reply.Origin, reply.Transmit = request.Receive, last.Transmit
		}
		last.Receive, last.Transmit = reply.Receive, left
		return reply
	}
}

func TestTraceSymmetric(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 0, 2), w.add("192.0.2.2", 100*time.Millisecond, 4)
	cfg := peerConfig(b)
	cfg.Key = testKey(t, 10)
	a.mobilize(cfg)
	passive := passiveConfig()
	passive.Key = cfg.Key
	b.passive, b.key = passive, cfg.Key
	r.Say("The active side opens by a client exchange; its first mode 1 mobilizes a passive association, which answers at once.")
	w.run(20 * time.Second)
	r.Say("The side with the higher stratum follows; the other refuses to, and answers at once, so that little time passes between.")
	w.run(70 * time.Second)
	r.Say("A packet without a key, and a replay of a true one, change nothing.")
	h := forgery(wire.ModeActive, &seeded{1}, epoch.Add(w.now))
	w.forge(&h, nil, a.end, b.end)
	w.replay(w.log[2])
	w.run(71 * time.Second)
	r.Say("The active side loses its memory and begins anew: it is answered at once, and known when it answers in turn.")
	a.assocs = nil
	a.mobilize(cfg)
	w.run(110 * time.Second)
	r.Say("The active side is gone: the passive association ends after eight polls.")
	a.assocs = nil
	a.serves = false
	w.run(1000 * time.Second)
	r.Compare(t, "symmetric")
}

func TestTraceBothActive(t *testing.T) {
	w, a, b := pair(t, 3, 3, true)
	r := newTrace(w)
	r.Say("Two active sides of one stratum exchange packets, and neither follows the other.")
	w.run(60 * time.Second)
	r.Say("One of them loses its sources and says so; then it follows.")
	a.follows = false
	a.synchronize(0, "")
	w.run(150 * time.Second)
	_ = b
	r.Compare(t, "symmetric-both-active")
}

func TestTraceInterleavedSymmetric(t *testing.T) {
	w, a, b := pair(t, 2, 4, true)
	a.assocs, b.assocs = nil, nil
	r := newTrace(w)
	for _, h := range []*host{a, b} {
		other := b
		if h == b {
			other = a
		}
		cfg := peerConfig(other)
		cfg.Interleaved = InterleaveOn
		h.mobilize(cfg)
	}
	r.Say("Interleaved: the transmit field is when the packet before left, and the origin is the other's last receive timestamp.")
	w.run(90 * time.Second)
	r.Compare(t, "symmetric-interleaved")
}

func TestTraceBroadcast(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	key := testKey(t, 10)
	a, b := w.add("192.0.2.1", 0, 0), w.add("192.0.2.2", 50*time.Millisecond, 0)
	a.key = key
	a.mobilize(Config{Name: "sender", Kind: KindBroadcastServer, Remote: groupEnd, Interval: 16 * time.Second, Key: key, Version: 4})
	b.listens = &Config{Name: "listener", Kind: KindBroadcastClient, Version: 4, Key: key, MaxDelay: 3 * time.Second}
	b.follows = false
	r.Say("A server without the time sends nothing.")
	w.run(20 * time.Second)
	r.Say("With the time it does. The first packet mobilizes a client, which finds the delay by a volley of exchanges, then follows.")
	a.synchronize(1, "GPS")
	w.run(70 * time.Second)
	r.Say("A replay and a packet without a key are refused.")
	w.replay(w.log[0])
	h := forgery(wire.ModeBroadcast, &seeded{1}, epoch.Add(w.now))
	w.forge(&h, nil, a.end, groupEnd)
	w.run(71 * time.Second)
	r.Say("The client's clock is stepped: the volley is made again.")
	b.clock.behind = 0
	var out Output
	b.assocs[0].OnClockChanged(b.clock.at(w.now), &out)
	w.run(110 * time.Second)
	r.Say("The server falls silent: the association ends after eight intervals.")
	a.assocs = nil
	w.run(300 * time.Second)
	r.Compare(t, "broadcast")
}

func TestTraceClockChange(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 0, 0), w.add("192.0.2.2", 0, 2)
	a.follows = false
	a.mobilize(clientOf(b))
	w.delay = time.Second
	w.run(66 * time.Second)
	r.Say("Our clock is stepped between request and reply: the exchange is dropped, and the next one made soon.")
	r.line("    a: clock stepped by +1s")
	a.clock.behind = -time.Second
	var out Output
	a.assocs[0].OnClockChanged(a.clock.at(w.now), &out)
	r.output(a, &out)
	w.run(140 * time.Second)
	r.Say("A hint of the system process moves the next poll.")
	a.assocs[0].OnHint(model.Hint{Soon: 5 * time.Second}, a.clock.at(w.now))
	w.run(150 * time.Second)
	a.assocs[0].OnHint(model.Hint{Interval: 256 * time.Second}, a.clock.at(w.now))
	w.run(700 * time.Second)
	r.Compare(t, "clock-change")
}

func TestTraceNTS(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	a, b := w.add("192.0.2.1", 0, 0), w.add("192.0.2.2", 0, 2)
	server := newNTSServer()
	b.nts = server
	cfg := clientOf(b)
	cfg.NTS = true
	r.Say("No request leaves without keys. An exchange that fails is made again, later each time.")
	a.mobilize(cfg)
	w.run(20 * time.Second)
	r.Say("It brings keys and eight cookies. A request spends one, and the reply brings another.")
	a.exchanges = server
	w.run(60 * time.Second)
	r.Say("A request is lost: the next one has a placeholder, and its reply two cookies.")
	w.lose = func(f flight) bool { w.lose = nil; return true }
	w.run(300 * time.Second)
	r.Say("A reply that somebody has changed is refused, and the true one taken.")
	w.lose = func(f flight) bool {
		if f.from == b.end {
			forged := f
			forged.data = append([]byte(nil), f.data...)
			forged.data[45] ^= 1
			w.replay(forged)
			w.lose = nil
		}
		return false
	}
	w.run(450 * time.Second)
	r.Say("The server has lost its keys and says NTSN, which anybody could: the exchange is waited for to its end, then come new keys.")
	lost := newNTSServer()
	lost.ring = nts.NewRing([nts.RingKeySize]byte{2}, epoch)
	b.nts, a.exchanges = lost, lost
	w.run(600 * time.Second)
	r.Compare(t, "client-nts")
}
