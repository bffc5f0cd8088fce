package responder_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// xclient is a client in interleaved mode, as RFC 9769 §2 has it.
type xclient struct {
	at      netip.AddrPort
	cookie  ntptime.Timestamp // different in each request
	receive ntptime.Timestamp // of the last reply; 0 before the first
}

func (c *xclient) request() wire.Header {
	c.cookie += 0x1000
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Poll: 6, Origin: c.receive, Receive: c.cookie | 1, Transmit: c.cookie | 2}
	if c.receive == 0 {
		h.Receive = 0
	}
	return h
}

// exchange sends a request, and the timestamp of its reply to the server, leaves after it.
func (w *world) exchange(t testing.TB, c *xclient, leaves time.Duration) (wire.Packet, wire.Header, responder.Verdict) {
	t.Helper()
	h := c.request()
	reply, v := w.askFrom(c.at, h.Append(nil))
	if !v.Result.Time() {
		t.Fatalf("got %v (%v), want an answer", v.Result, v.Reason)
	}
	if v.TimestampID != 0 {
		w.shard.Transmitted(v.TimestampID, w.later(leaves))
	}
	p := decode(t, reply)
	c.receive = p.Receive
	return p, h, v
}

func newInterleaved(t testing.TB) *world {
	w := newWorld(t)
	w.policy.Interleaved = true
	return w
}

// interleaves is a client that has come into interleaved mode.
func (w *world) interleaves(t *testing.T) *xclient {
	c := &xclient{at: clientAt}
	for range 4 {
		w.exchange(t, c, 0)
		w.pass(time.Second)
	}
	return c
}

// TestRFC9769_2_InterleavedReplies: two basic replies, as the first request knows no
// timestamp and the second one is only then known to ask for it; then interleaved ones.
func TestRFC9769_2_InterleavedReplies(t *testing.T) {
	w := newInterleaved(t)
	c := &xclient{at: clientAt}
	var earlier ntptime.Timestamp // when the reply before left
	for i := range 10 {
		leaves := time.Duration(60+i) * time.Microsecond
		p, h, v := w.exchange(t, c, leaves)
		if i < 2 {
			if v.Result != responder.Answered || p.Origin != h.Transmit || p.Transmit != w.later(w.took).Timestamp() {
				t.Errorf("reply %d: got %v, origin %v, want a basic one", i, v.Result, p.Origin)
			}
			earlier = p.Transmit
		} else {
			if v.Result != responder.Interleaved || p.Origin != h.Receive {
				t.Errorf("reply %d: got %v, origin %v, want interleaved, the request's receive %v", i, v.Result, p.Origin, h.Receive)
			}
			if p.Transmit != earlier {
				t.Errorf("reply %d: got transmit %v, want when the last one left, %v", i, p.Transmit, earlier)
			}
			earlier = w.later(leaves).Timestamp()
		}
		if p.Receive != w.now.Timestamp() {
			t.Errorf("reply %d: got receive %v, want that of this request", i, p.Receive)
		}
		w.pass(16 * time.Second)
	}
	if interleaved, _ := w.timestamps.Held(); interleaved != 1 {
		t.Errorf("got %d clients held, want 1", interleaved)
	}
}

// Without a timestamp from the kernel the transmit timestamp of the reply itself serves.
func TestInterleavedWithoutKernelTimestamps(t *testing.T) {
	w := newInterleaved(t)
	c := &xclient{at: clientAt}
	var taken ntptime.Timestamp
	for i := range 5 {
		h := c.request()
		reply, v := w.askFrom(c.at, h.Append(nil))
		p := decode(t, reply)
		c.receive = p.Receive
		if i >= 2 && (v.Result != responder.Interleaved || p.Transmit != taken) {
			t.Errorf("reply %d: got %v, transmit %v, want interleaved, %v", i, v.Result, p.Transmit, taken)
		}
		taken = w.later(w.took).Timestamp()
		w.pass(time.Second)
	}
}

func TestInterleavedOnlyWherePolicySaysSo(t *testing.T) {
	w := newWorld(t)
	c := &xclient{at: clientAt}
	for i := range 5 {
		if _, _, v := w.exchange(t, c, 0); v.Result != responder.Answered || v.TimestampID != 0 {
			t.Errorf("reply %d: got %v, want basic and no timestamp asked for", i, v.Result)
		}
	}
}

// Ordinary clients leave no trace: their origin is 0.
func TestBasicClientsTakeNoPlace(t *testing.T) {
	w := newInterleaved(t)
	for range 5 {
		w.answered(t, request(4))
	}
	if interleaved, tentative := w.timestamps.Held(); interleaved+tentative != 0 {
		t.Errorf("got %d and %d clients held, want none", interleaved, tentative)
	}
}

// A client of the classic kind fills all fields in, with our transmit timestamp for
// its origin: it always gets basic replies.
func TestClassicClientStaysBasic(t *testing.T) {
	w := newInterleaved(t)
	h := request(4)
	for i := range 5 {
		p := w.answered(t, h)
		if p.Origin != h.Transmit {
			t.Errorf("reply %d: got origin %v, want the transmit timestamp", i, p.Origin)
		}
		w.pass(time.Second)
		h.Origin, h.Receive, h.Transmit = p.Transmit, w.now.Timestamp()-99, w.now.Timestamp()
	}
}

// TestRFC9769_2_ForgedOrigin: nothing but a receive timestamp given to that address
// switches to interleaved mode (threat 17).
func TestRFC9769_2_ForgedOrigin(t *testing.T) {
	w := newInterleaved(t)
	c := w.interleaves(t)
	known := c.receive
	for _, test := range []struct {
		name   string
		remote netip.AddrPort
		h      wire.Header
	}{
		{"another address with the right origin", numbered(5), wire.Header{Version: 4, Mode: wire.ModeClient, Origin: known, Receive: 1, Transmit: 2}},
		{"an origin off by one", clientAt, wire.Header{Version: 4, Mode: wire.ModeClient, Origin: known + 1, Receive: 1, Transmit: 2}},
		{"equal receive and transmit", clientAt, wire.Header{Version: 4, Mode: wire.ModeClient, Origin: known, Receive: 2, Transmit: 2}},
		{"origin zero", clientAt, wire.Header{Version: 4, Mode: wire.ModeClient, Receive: 1, Transmit: 2}},
		{"all ones", clientAt, wire.Header{Version: 4, Mode: wire.ModeClient, Origin: ^ntptime.Timestamp(0), Receive: 1, Transmit: 2}},
	} {
		reply, v := w.askFrom(test.remote, test.h.Append(nil))
		if v.Result != responder.Answered {
			t.Errorf("%s: got %v (%v), want a basic reply", test.name, v.Result, v.Reason)
			continue
		}
		if p := decode(t, reply); p.Origin != test.h.Transmit {
			t.Errorf("%s: got origin %v, want the transmit timestamp", test.name, p.Origin)
		}
	}
	if _, _, v := w.exchange(t, c, 0); v.Result != responder.Interleaved {
		t.Errorf("the true client afterwards: got %v, want interleaved", v.Result)
	}
}

// The same where all clients share one set of the table.
func TestTimestampOfAnotherAddress(t *testing.T) {
	w := newInterleaved(t)
	w.timestamps = responder.NewTimestamps(1, seed)
	w.shard = responder.NewShard(responder.ShardConfig{Timestamps: w.timestamps})
	c := w.interleaves(t)
	thief := &xclient{at: numbered(5), receive: c.receive}
	if _, _, v := w.exchange(t, thief, 0); v.Result != responder.Answered {
		t.Errorf("another address with the right origin: got %v, want basic", v.Result)
	}
	if _, _, v := w.exchange(t, c, 0); v.Result != responder.Interleaved {
		t.Errorf("the true client afterwards: got %v, want interleaved", v.Result)
	}
}

// Replies in mode 2 are basic, and keep no state.
func TestPassiveRepliesKeepNoState(t *testing.T) {
	w := newInterleaved(t)
	w.policy.AnswerActive = true
	for range 4 {
		h := wire.Header{Version: 4, Mode: wire.ModeActive, Origin: 5, Receive: 6, Transmit: 7}
		if p := w.answered(t, h); p.Mode != wire.ModePassive || p.Origin != 7 {
			t.Errorf("got mode %v, origin %v, want passive, the transmit timestamp", p.Mode, p.Origin)
		}
	}
	if interleaved, tentative := w.timestamps.Held(); interleaved+tentative != 0 {
		t.Errorf("got %d and %d clients held, want none", interleaved, tentative)
	}
}

// A flood of requests in a client's name does not throw it out of interleaved mode.
func TestForgedFloodKeepsInterleavedMode(t *testing.T) {
	w := newInterleaved(t)
	c := &xclient{at: clientAt}
	for i := range 20 {
		_, _, v := w.exchange(t, c, 0)
		if i >= 2 && v.Result != responder.Interleaved {
			t.Errorf("poll %d: got %v, want interleaved", i, v.Result)
		}
		if i < 1 {
			continue // it has to come in undisturbed
		}
		for j := range 100 {
			h := wire.Header{Version: 4, Mode: wire.ModeClient, Origin: ntptime.Timestamp(j + 1), Receive: 3, Transmit: ntptime.Timestamp(j + 5)}
			w.askFrom(c.at, h.Append(nil))
		}
		w.pass(time.Second)
		if i == 1 {
			// The forger took the tentative place; the client gets in with two polls in peace.
			w.exchange(t, c, 0)
			w.exchange(t, c, 0)
		}
	}
}

// Each timestamp is used once: a copy of a request gets a basic reply, and the client goes
// on from whichever reply it has seen.
func TestRFC9769_2_DuplicateRequest(t *testing.T) {
	w := newInterleaved(t)
	c := w.interleaves(t)
	h := c.request()
	first, v1 := w.askFrom(c.at, h.Append(nil))
	second, v2 := w.askFrom(c.at, h.Append(nil))
	if v1.Result != responder.Interleaved || v2.Result != responder.Answered {
		t.Fatalf("got %v and %v, want interleaved and basic", v1.Result, v2.Result)
	}
	if decode(t, first).Receive == decode(t, second).Receive {
		t.Error("got one receive timestamp for two replies")
	}
	c.receive = decode(t, first).Receive
	if _, _, v := w.exchange(t, c, 0); v.Result != responder.Interleaved {
		t.Errorf("on from the first reply: got %v, want interleaved", v.Result)
	}
}

// A lost reply costs one basic reply.
func TestInterleavedAfterALostReply(t *testing.T) {
	w := newInterleaved(t)
	c := w.interleaves(t)
	before := c.receive
	w.exchange(t, c, 0)
	c.receive = before // the client has not seen it
	if _, _, v := w.exchange(t, c, 0); v.Result != responder.Answered {
		t.Errorf("got %v, want basic", v.Result)
	}
	if _, _, v := w.exchange(t, c, 0); v.Result != responder.Interleaved {
		t.Errorf("got %v, want interleaved again", v.Result)
	}
}

func TestInterleavedSigned(t *testing.T) {
	w := newInterleaved(t)
	key := w.key(t, mac.AES128)
	c := &xclient{at: clientAt}
	for i := range 4 {
		h := c.request()
		reply, v := w.askFrom(c.at, key.AppendMAC(h.Append(nil), 4))
		p := decode(t, reply)
		if !key.Verify(p.Signed, p.Digest) || !v.Signed() {
			t.Errorf("reply %d: does not verify", i)
		}
		if i >= 2 && v.Result != responder.Interleaved {
			t.Errorf("reply %d: got %v, want interleaved", i, v.Result)
		}
		c.receive = p.Receive
		w.pass(time.Second)
	}
}

func TestLateAndUnknownTimestampsAreDropped(t *testing.T) {
	w := newInterleaved(t)
	c := &xclient{at: clientAt}
	for range 3 {
		w.exchange(t, c, 0)
		w.pass(time.Second)
	}
	_, _, v := w.exchange(t, c, 10*time.Microsecond)
	w.shard.Transmitted(v.TimestampID&^responder.TimestampIDs, w.later(time.Hour)) // an association's id
	w.shard.Transmitted(v.TimestampID+1, w.later(time.Hour))                       // not given yet
	want := w.later(10 * time.Microsecond).Timestamp()
	w.pass(time.Second)
	p, _, next := w.exchange(t, c, 5*time.Microsecond)
	if p.Transmit != want {
		t.Errorf("got transmit %v, want %v", p.Transmit, want)
	}
	w.shard.Transmitted(v.TimestampID, w.later(time.Hour)) // of the reply before the last: too late
	want = w.later(5 * time.Microsecond).Timestamp()
	w.pass(time.Second)
	if p, _, _ := w.exchange(t, c, 0); p.Transmit != want || next.TimestampID == v.TimestampID {
		t.Errorf("got transmit %v, want %v", p.Transmit, want)
	}
}

// 64,000 clients at once by default, and new ones by the ten thousand do not drive out
// those that are in interleaved mode.
func TestTimestampsHoldTheirSize(t *testing.T) {
	w := newInterleaved(t)
	const count = 64000
	receives := make([]ntptime.Timestamp, count) // of the last reply to each
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Receive: 1, Transmit: 2}
	request, reply := h.Append(nil), make([]byte, wire.HeaderSize)
	rx := &model.Received{Data: request, Local: serverAt}
	poll := func(remote netip.AddrPort, origin ntptime.Timestamp) (ntptime.Timestamp, responder.Verdict) {
		binary.BigEndian.PutUint64(request[24:], uint64(origin))
		w.pass(time.Microsecond)
		rx.Remote, rx.At = remote, w.now
		_, v := w.shard.Respond(reply, rx, &w.env)
		return ntptime.Timestamp(binary.BigEndian.Uint64(reply[32:])), v
	}
	var interleaved int
	for round := range 4 {
		interleaved = 0
		for i := range receives {
			var v responder.Verdict
			if receives[i], v = poll(numbered(i*3), receives[i]); v.Result == responder.Interleaved {
				interleaved++
			}
		}
		if round == 2 {
			for i := range 70000 {
				poll(netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, byte(i >> 16), byte(i >> 8), byte(i)}), 9), 1)
			}
		}
	}
	if interleaved < count*99/100 {
		t.Errorf("got %d interleaved replies of %d, want 99 %%", interleaved, count)
	}
}

// The shards of a daemon share the tables: a client whose ports lead it to one socket
// and another stays in interleaved mode, and reports may read at any time.
func TestShardsShareTheirTables(t *testing.T) {
	w := newInterleaved(t)
	other := responder.NewShard(responder.ShardConfig{Clients: w.clients, Timestamps: w.timestamps, Random: 7})
	shards := []*responder.Shard{w.shard, other}
	c := &xclient{at: clientAt}
	for i := range 10 {
		w.shard = shards[i%2]
		if _, _, v := w.exchange(t, c, 0); i >= 2 && v.Result != responder.Interleaved {
			t.Errorf("poll %d: got %v, want interleaved", i, v.Result)
		}
		w.pass(time.Second)
	}
	var group sync.WaitGroup
	for i, shard := range shards {
		group.Go(func() {
			env := w.env
			env.Now = func() ntptime.Instant { return w.now }
			reply := make([]byte, 128)
			for n := range 3000 {
				h := wire.Header{Version: 4, Mode: wire.ModeClient, Origin: 5, Receive: ntptime.Timestamp(n), Transmit: ntptime.Timestamp(i + 1)}
				_, v := shard.Respond(reply, &model.Received{Data: h.Append(nil), Remote: numbered(n % 50), Local: serverAt, At: w.now}, &env)
				shard.Transmitted(v.TimestampID, w.now)
			}
		})
	}
	for range 5 {
		w.clients.Top(10, responder.ByHits, w.now.Raw)
		w.clients.Totals(time.Hour, w.now.Raw)
		w.timestamps.Held()
		w.shard.Counters()
	}
	group.Wait()
	c0, c1 := shards[0].Counters(), shards[1].Counters()
	if got := c0.Received() + c1.Received(); got != 6010 {
		t.Errorf("got %d datagrams counted, want 6010", got)
	}
}
