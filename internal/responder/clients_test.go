package responder_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// numbered is the i-th of many client addresses.
func numbered(i int) netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(b), 40000)
}

// RFC 5905 §7.4: a burst, then one answer an interval; a leak now and then; a well-formed kiss.
func TestRateLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit *responder.RateLimit
		count int
		gap   time.Duration
		least int // answers
		most  int
	}{
		{"no limit", nil, 500, 0, 500, 500},
		{"an interval of nothing", &responder.RateLimit{Burst: 1, Leak: 30, Kiss: true}, 500, 0, 500, 500},
		{"a burst of 500 at once", &responder.RateLimit{Interval: 2 * time.Second, Burst: 8, Leak: 4}, 500, 0, 8, 8 + 60},
		{"a burst of 500 with hardly a leak", &responder.RateLimit{Interval: 2 * time.Second, Burst: 8, Leak: 30}, 500, 0, 8, 8},
		{"a client that keeps to the average", &responder.RateLimit{Interval: 2 * time.Second, Burst: 1, Leak: 30}, 500, 2 * time.Second, 500, 500},
		{"twice the average", &responder.RateLimit{Interval: 2 * time.Second, Burst: 1, Leak: 30}, 500, time.Second, 250, 250},
		{"a leak of one half", &responder.RateLimit{Interval: time.Hour, Burst: 1, Leak: 1}, 1000, 0, 420, 580},
	} {
		w := newWorld(t)
		w.policy.Limit = test.limit
		h, answers := request(4), 0
		for range test.count {
			if _, v := w.ask(h.Append(nil)); v.Result == responder.Answered {
				answers++
			}
			w.pass(test.gap)
		}
		if answers < test.least || answers > test.most {
			t.Errorf("%s: got %d answers of %d, want %d to %d", test.name, answers, test.count, test.least, test.most)
		}
	}
}

func TestRateLimitRecoversAfterSilence(t *testing.T) {
	w := newWorld(t)
	w.policy.Limit = &responder.RateLimit{Interval: 2 * time.Second, Burst: 4, Leak: 30}
	h := request(4)
	burst := func() (answers int) {
		for range 20 {
			if _, v := w.ask(h.Append(nil)); v.Result == responder.Answered {
				answers++
			}
		}
		return answers
	}
	if got := burst(); got != 4 {
		t.Errorf("at first: got %d answers, want 4", got)
	}
	w.pass(4 * time.Second)
	if got := burst(); got != 2 {
		t.Errorf("two intervals later: got %d answers, want 2", got)
	}
	w.pass(time.Hour)
	if got := burst(); got != 4 {
		t.Errorf("an hour later: got %d answers, want the burst of 4 and no more", got)
	}
}

// threats 34: many ports are one client, and so is an IPv6 /56; others are not touched.
func TestRateLimitIsByAddressOrPrefix(t *testing.T) {
	h := request(4)
	for _, test := range []struct {
		name   string
		remote func(i int) netip.AddrPort
		want   int
	}{
		{"many ports of one address", func(i int) netip.AddrPort { return netip.AddrPortFrom(clientAt.Addr(), uint16(1024+i)) }, 1},
		{"an address and the same one mapped to IPv6", func(i int) netip.AddrPort {
			if i%2 == 0 {
				return netip.AddrPortFrom(netip.AddrFrom16(clientAt.Addr().As16()), 1024)
			}
			return clientAt
		}, 1},
		{"many addresses of one /56", func(i int) netip.AddrPort {
			b := netip.MustParseAddr("2001:db8:1:200::").As16()
			b[7], b[15] = byte(i), byte(i*7)
			return netip.AddrPortFrom(netip.AddrFrom16(b), 1024)
		}, 1},
		{"many /56", func(i int) netip.AddrPort {
			b := netip.MustParseAddr("2001:db8:1::").As16()
			b[6] = byte(i)
			return netip.AddrPortFrom(netip.AddrFrom16(b), 1024)
		}, 100},
		{"many IPv4 addresses", numbered, 100},
	} {
		w := newWorld(t)
		w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 1, Leak: 30}
		answers := 0
		for i := range 100 {
			if _, v := w.askFrom(test.remote(i), h.Append(nil)); v.Result == responder.Answered {
				answers++
			}
		}
		if answers != test.want {
			t.Errorf("%s: got %d answers, want %d", test.name, answers, test.want)
		}
	}
}

// RFC 5905 §7.4: leap 3, stratum 0, RATE, the origin echoed, a longer poll, and
// itself limited.
func TestRFC5905_7_4_RateKiss(t *testing.T) {
	w := newWorld(t)
	w.policy.Limit = &responder.RateLimit{Interval: 60 * time.Second, Burst: 1, Leak: 30, Kiss: true}
	h := request(3)
	h.Poll = 3
	kisses := 0
	for i := range 1000 {
		reply, v := w.ask(h.Append(nil))
		if v.Result == responder.RateKoD {
			kisses++
			p := decode(t, reply)
			want := wire.Header{Leap: wire.LeapUnknown, Version: 3, Mode: wire.ModeServer, Poll: 6, Precision: -24,
				ReferenceID: wire.KissRATE, Origin: h.Transmit, Receive: p.Receive, Transmit: p.Transmit}
			if p.Header != want {
				t.Errorf("request %d: got  %+v\nwant %+v", i, p.Header, want)
			}
		} else if i%60 != 0 && reply != nil {
			t.Errorf("request %d: got %v, want a kiss or silence", i, v.Result)
		}
		w.pass(time.Second)
	}
	// 1000 s at one answer a minute, and one kiss in eight intervals.
	if kisses < 2 || kisses > 3 {
		t.Errorf("got %d kisses in 1000 s, want one in 480 s", kisses)
	}
}

func TestKissIsSigned(t *testing.T) {
	w := newWorld(t)
	w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 1, Leak: 30, Kiss: true}
	key := w.key(t, mac.AES128)
	h := request(4)
	signed := key.AppendMAC(h.Append(nil), 4)
	w.ask(signed)
	reply, v := w.ask(signed)
	if v.Result != responder.RateKoD {
		t.Fatalf("got %v, want a kiss", v.Result)
	}
	if p := decode(t, reply); !key.Verify(p.Signed, p.Digest) || p.ReferenceID != wire.KissRATE {
		t.Errorf("got %+v, want RATE that verifies", p.Header)
	}
	w.pass(time.Hour * 24)
	w.ask(signed)
	signed[60] ^= 1
	if reply, v := w.ask(signed); reply != nil {
		t.Errorf("a kiss for a MAC that does not verify: got %v", v.Result)
	}
}

// threats 34: somebody who forges a client's address at ten times a second does not
// lock it out: it gets one answer in 2^leak, and few of the kisses.
func TestForgedFloodDoesNotLockAClientOut(t *testing.T) {
	w := newWorld(t)
	w.policy.Limit = &responder.RateLimit{Interval: 2 * time.Second, Burst: 8, Leak: 2, Kiss: true}
	h := request(4)
	answers, kisses := 0, 0
	const polls = 400
	for range polls {
		for range 160 { // 16 s at ten a second, from the client's address
			w.ask(h.Append(nil))
			w.pass(100 * time.Millisecond)
		}
		switch _, v := w.ask(h.Append(nil)); v.Result {
		case responder.Answered:
			answers++
		case responder.RateKoD:
			kisses++
		}
	}
	if answers < polls/6 {
		t.Errorf("got %d answers of %d, want at least one in six", answers, polls)
	}
	if kisses > polls/50 {
		t.Errorf("got %d kisses for the client, want hardly any", kisses)
	}
}

// Threat 36: any number of addresses, and the table stays as it is.
func TestTableIsFlat(t *testing.T) {
	w := newWorld(t)
	w.clients = responder.NewClients(1000, seed, false)
	w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients, Timestamps: w.timestamps})
	w.policy.Interleaved = true
	h := request(4)
	h.Origin, h.Receive = 7, 8
	data := h.Append(nil)
	rx := &model.Received{Data: data, Local: serverAt}
	reply := make([]byte, 128)
	i := 0
	if n := testing.AllocsPerRun(20000, func() {
		i++
		w.pass(time.Millisecond)
		rx.Remote, rx.At = numbered(i), w.now
		w.shard.Respond(reply, rx, &w.env)
	}); n != 0 {
		t.Errorf("got %v allocations for a new client, want 0", n)
	}
	if got := w.clients.Totals(time.Hour, w.now.Raw).Clients; got < 1000 || got > 4096 {
		t.Errorf("got %d clients held, want some more than 1000", got)
	}
	if got := len(w.clients.Top(1<<20, responder.ByRecent, w.now.Raw)); got != w.clients.Totals(time.Hour, w.now.Raw).Clients {
		t.Errorf("got %d clients listed, want all", got)
	}
}

// The table holds 64,000 clients at once, by default size, and forgets hardly any.
func TestTableHoldsItsSize(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	data := h.Append(nil)
	for i := range 64000 {
		w.askFrom(numbered(i*7), data)
		w.pass(time.Microsecond)
	}
	if got := w.clients.Totals(time.Hour, w.now.Raw).Clients; got < 63300 {
		t.Errorf("got %d clients, want 99 %% of 64000", got)
	}
}

func TestClientReport(t *testing.T) {
	w := newWorld(t)
	w.policy.Limit = &responder.RateLimit{Interval: time.Second, Burst: 1, Leak: 30}
	h := request(4)
	h.Poll = 4
	for range 10 {
		w.askFrom(numbered(1), h.Append(nil)) // every 16 s
		w.pass(16 * time.Second)
	}
	old := request(3)
	for range 10 {
		w.askFrom(numbered(2), old.Append(nil)) // twice as often as it may
		w.pass(500 * time.Millisecond)
	}
	b := netip.MustParseAddr("2001:db8:1:2ff::77")
	w.askFrom(netip.AddrPortFrom(b, 123), w.key(t, mac.SHA1).AppendMAC(h.Append(nil), 4))
	w.pass(time.Second)

	top := w.clients.Top(10, responder.ByRate, w.now.Raw)
	want := []responder.ClientReport{
		{Prefix: netip.MustParsePrefix("10.0.0.2/32"), LastSeen: 1500 * time.Millisecond, Interval: 500 * time.Millisecond,
			Hits: 10, Drops: 5, Version: 3, Mode: wire.ModeClient, Poll: 6},
		{Prefix: netip.MustParsePrefix("10.0.0.1/32"), LastSeen: 22 * time.Second, Interval: 16 * time.Second,
			Hits: 10, Version: 4, Mode: wire.ModeClient, Poll: 4},
		{Prefix: netip.MustParsePrefix("2001:db8:1:200::/56"), LastSeen: time.Second,
			Hits: 1, Version: 4, Mode: wire.ModeClient, Poll: 4, Signed: true},
	}
	if len(top) != len(want) {
		t.Fatalf("got %d clients, want %d: %+v", len(top), len(want), top)
	}
	for i := range want {
		if top[i] != want[i] {
			t.Errorf("place %d: got  %+v\nwant %+v", i, top[i], want[i])
		}
	}
	for order, first := range map[responder.Order]string{
		responder.ByHits: "10.0.0.2/32", responder.ByDrops: "10.0.0.2/32", responder.ByRecent: "2001:db8:1:200::/56", responder.ByRate: "10.0.0.2/32",
	} {
		if got := w.clients.Top(1, order, w.now.Raw); len(got) != 1 || got[0].Prefix.String() != first {
			t.Errorf("order %d: got %+v, want %s first", order, got, first)
		}
	}
	checkTotals(t, w)
}

func checkTotals(t *testing.T, w *world) {
	t.Helper()
	totals := w.clients.Totals(time.Hour, w.now.Raw)
	if totals.Clients != 3 || totals.Limited != 1 || totals.Signed != 1 || totals.Versions[3] != 1 || totals.Versions[4] != 2 {
		t.Errorf("got %+v, want 3 clients, 1 limited, 1 signed, versions 3 and twice 4", totals)
	}
	var heardTwice uint64
	for _, n := range totals.Intervals {
		heardTwice += n
	}
	if heardTwice != 2 || totals.Intervals[4-responder.FirstInterval] != 1 || totals.Intervals[-1-responder.FirstInterval] != 1 {
		t.Errorf("got intervals %v, want one of 16 s and one of half a second", totals.Intervals)
	}
	if got := w.clients.Totals(10*time.Second, w.now.Raw).Clients; got != 2 {
		t.Errorf("within 10 s: got %d clients, want 2", got)
	}
}

func TestPrivacyShowsNoAddress(t *testing.T) {
	w := newWorld(t)
	w.clients = responder.NewClients(100, seed, true)
	w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients})
	h := request(4)
	w.ask(h.Append(nil))
	if got := w.clients.Top(10, responder.ByHits, w.now.Raw); got != nil {
		t.Errorf("got %+v, want nobody", got)
	}
	if got := w.clients.Totals(time.Hour, w.now.Raw).Clients; got != 1 {
		t.Errorf("got %d clients counted, want 1", got)
	}
}

func TestNoTableLimitsNobody(t *testing.T) {
	w := newWorld(t)
	w.shard = responder.NewShard(responder.ShardConfig{})
	w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 1, Leak: 30}
	w.policy.Interleaved = true
	h := request(4)
	h.Origin, h.Receive = 7, 8
	for range 3 {
		if _, v := w.ask(h.Append(nil)); v.Result != responder.Answered {
			t.Errorf("got %v, want an answer", v.Result)
		}
	}
	if responder.NewClients(0, seed, false) != nil || responder.NewTimestamps(0, seed) != nil {
		t.Error("size 0: got a table, want none")
	}
	var none *responder.Clients
	if none.Top(5, responder.ByHits, 0) != nil || none.Totals(time.Hour, 0).Clients != 0 {
		t.Error("no table: got clients")
	}
}

// The client that was silent longest makes room.
func TestSilentLongestMakesRoom(t *testing.T) {
	w := newWorld(t)
	w.clients = responder.NewClients(1, seed, false) // one set of sixteen
	w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients})
	h := request(4)
	for _, i := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 17} {
		w.askFrom(numbered(i), h.Append(nil))
		w.pass(time.Second)
	}
	var got []string
	for _, c := range w.clients.Top(20, responder.ByRecent, w.now.Raw) {
		got = append(got, c.Prefix.Addr().String())
	}
	want := "10.0.0.17 10.0.0.1 10.0.0.16 10.0.0.15 10.0.0.14 10.0.0.13 10.0.0.12 10.0.0.11" +
		" 10.0.0.10 10.0.0.9 10.0.0.8 10.0.0.7 10.0.0.6 10.0.0.5 10.0.0.4 10.0.0.3"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Which clients find no room depends on the seed: nobody can choose addresses that
// crowd one set (threats 34).
func TestPlacesDependOnTheSeed(t *testing.T) {
	h := request(4)
	held := func(s responder.Seed) string {
		w := newWorld(t)
		w.clients = responder.NewClients(64, s, false)
		w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients})
		for i := range 100 {
			w.askFrom(numbered(i), h.Append(nil))
			w.pass(time.Second)
		}
		var found []string
		for _, c := range w.clients.Top(1000, responder.ByRecent, w.now.Raw) {
			found = append(found, c.Prefix.Addr().String())
		}
		return strings.Join(found, " ")
	}
	first := held(seed)
	if again := held(seed); again != first {
		t.Error("one seed: got two outcomes")
	}
	if other := held(responder.Seed{5, 6}); other == first {
		t.Error("two seeds: got one outcome")
	}
}

// Expect is a hint: whoever is announced, and however many, nothing comes of it but speed.
func TestExpectingChangesNothing(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	remotes := []netip.AddrPort{clientAt, {}, netip.MustParseAddrPort("[2001:db8::1]:123"), netip.MustParseAddrPort("[::ffff:192.0.2.7]:1")}
	for i := range 40 {
		remotes = append(remotes, numbered(i))
	}
	w.ask(h.Append(nil))
	before := w.clients.Top(100, responder.ByRecent, w.now.Raw)
	if n := testing.AllocsPerRun(10, func() {
		for n := range len(remotes) + 1 {
			w.shard.Expect(remotes[:n])
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	if after := w.clients.Top(100, responder.ByRecent, w.now.Raw); !slices.Equal(before, after) {
		t.Errorf("got clients %v, want %v as before", after, before)
	}
	responder.NewShard(responder.ShardConfig{}).Expect(remotes) // without a table
}

// Shards share the table, and each expects its clients while another one writes theirs.
func TestShardsExpectClientsSideBySide(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	data := h.Append(nil)
	var shards sync.WaitGroup
	for range 4 {
		shards.Go(func() {
			shard, env, reply := responder.NewShard(responder.ShardConfig{Clients: w.clients}), w.env, make([]byte, 64)
			for i := range 2000 {
				remotes := []netip.AddrPort{numbered(i), numbered(i + 1)}
				shard.Expect(remotes)
				for _, remote := range remotes {
					shard.Respond(reply, &model.Received{Data: data, Remote: remote, Local: serverAt, At: w.now}, &env)
				}
			}
		})
	}
	shards.Wait()
	if got := w.clients.Totals(time.Hour, w.now.Raw).Clients; got != 2001 {
		t.Errorf("got %d clients, want 2001", got)
	}
}

// Nearly all clients are in their bucket in a table that holds what it is made for, and all of
// them are found again wherever they are.
func TestEveryClientIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	data := h.Append(nil)
	const count = 40000
	for range 3 {
		for i := range count {
			w.askFrom(numbered(i), data)
		}
		w.pass(time.Second)
	}
	for _, c := range w.clients.Top(2*count, responder.ByHits, w.now.Raw) {
		if c.Hits != 3 {
			t.Fatalf("got %d requests of %v, want 3", c.Hits, c.Prefix)
		}
	}
	if got := w.clients.Totals(time.Hour, w.now.Raw).Clients; got != count {
		t.Errorf("got %d clients, want %d", got, count)
	}
}

// Timestamps of several sockets, or of a card and the kernel, may cross: no interval or age in
// a report is negative.
func TestNoIntervalOfAClientIsNegative(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	for range 5 {
		w.ask(h.Append(nil))
		w.pass(-3 * time.Millisecond)
	}
	for _, c := range w.clients.Top(10, responder.ByRate, w.now.Raw) {
		if c.Interval < 0 || c.LastSeen < 0 {
			t.Errorf("got an interval of %v and an age of %v, want none below 0", c.Interval, c.LastSeen)
		}
	}
}
