package responder_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/responder"
	"timeball/internal/wire"
	"timeball/test/captures"
)

// threats 1: mode 7 is never answered, whatever implementation and request it names.
func TestMode7IsNeverAnswered(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{8, 48, 192} {
		data := make([]byte, size)
		for first := range 32 {
			for request := range 256 {
				data[0] = byte(first)<<3 | 7
				data[1], data[2], data[3] = byte(request), byte(first), byte(request)
				if reply, v := w.ask(data); reply != nil || v.Result != responder.Ignored {
					t.Fatalf("first byte %02x, request %d, %d bytes: got %v", data[0], request, size, v.Result)
				}
			}
		}
	}
}

// threats 2: mode 6 from a stranger is silence, with any opcode, any bits, any version.
func TestMode6FromStrangersIsSilence(t *testing.T) {
	w := newWorld(t)
	for second := range 256 {
		for version := range byte(8) {
			for _, size := range []int{1, 11, 12, 48, 480} {
				data := make([]byte, size)
				data[0] = version<<3 | 6
				if size > 1 {
					data[1] = byte(second)
				}
				if reply, v := w.ask(data); reply != nil || v.Result != responder.Ignored {
					t.Fatalf("version %d, byte %02x, %d bytes: got %v", version, second, size, v.Result)
				}
			}
		}
	}
}

// threats 2: a response, an error or a fragment is no query, not even of a reader.
func TestMode6ResponsesAreNoQueries(t *testing.T) {
	w := newWorld(t)
	reader := netip.MustParseAddrPort("127.0.0.1:50000")
	for second := range 256 {
		data := []byte{0x16, byte(second), 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
		_, v := w.askFrom(reader, data)
		if want := second < 0x20; (v.Result == responder.Query) != want {
			t.Errorf("byte %02x: got %v, want a query %v", second, v.Result, want)
		}
	}
	if _, v := w.askFrom(reader, []byte{0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0}); v.Result == responder.Query {
		t.Error("11 bytes: got a query")
	}
}

// Threat 3: what we send never draws anything from us, or from another of us:
// answers, kisses, passive replies.
func TestOwnRepliesDrawNothing(t *testing.T) {
	w := newWorld(t)
	w.policy.AnswerActive, w.policy.Interleaved = true, true
	w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 100, Leak: 30, Kiss: true}
	other := newWorld(t)
	other.policy.AnswerActive = true
	basic, active, old := request(4), request(4), wire.Header{Version: 1, Transmit: 3}
	active.Mode = wire.ModeActive
	bad := w.key(t, mac.MD5).AppendMAC(basic.Append(nil), 4)
	bad[50] ^= 1
	replies := 0
	for i := range 150 {
		for _, data := range [][]byte{basic.Append(nil), active.Append(nil), old.Append(nil), bad, w.key(t, mac.MD5).AppendMAC(basic.Append(nil), 4)} {
			reply, _ := w.ask(data)
			if reply == nil {
				continue
			}
			replies++
			for _, from := range []netip.AddrPort{clientAt, netip.AddrPortFrom(serverAt, 123), netip.MustParseAddrPort("127.0.0.1:123")} {
				if again, v := w.askFrom(from, reply); again != nil {
					t.Fatalf("round %d: our reply %x drew %v from ourselves", i, reply, v.Result)
				}
				if again, v := other.askFrom(from, reply); again != nil {
					t.Fatalf("round %d: our reply %x drew %v from another", i, reply, v.Result)
				}
			}
		}
	}
	if replies < 75 {
		t.Errorf("got %d replies to feed back, want more", replies)
	}
}

// Threats 10, RFC 8633 §5.1: nothing of the request but version, poll and timestamps comes back, and
// nothing of us but the header's own facts.
func TestNothingOfTheRequestIsEchoedButWhatMustBe(t *testing.T) {
	w := newWorld(t)
	clean := w.answered(t, request(4)).Header
	h := request(4)
	h.Leap, h.Stratum, h.Precision, h.RootDelay, h.RootDispersion = 3, 99, 55, 12345, 54321
	h.ReferenceID, h.ReferenceTime = wire.KissDENY, 987654321
	dirty := w.answered(t, h).Header
	dirty.Receive, dirty.Transmit = clean.Receive, clean.Transmit
	if dirty != clean {
		t.Errorf("got  %+v\nwant %+v", dirty, clean)
	}
}

// RFC 5905 §9.2: kisses and forged times sent to a server are silence.
func TestSpoofedKissAtTheServer(t *testing.T) {
	w := newWorld(t)
	for _, code := range []wire.ReferenceID{wire.KissDENY, wire.KissRSTR, wire.KissRATE, wire.KissNTSN} {
		for version := uint8(1); version <= 4; version++ {
			h := wire.Header{Leap: 3, Version: version, Mode: wire.ModeServer, ReferenceID: code, Origin: 5}
			w.silent(t, code.Text(), h.Append(nil), responder.ReasonMode)
		}
	}
}

// RFC 5905 §9.2: each of two equal requests gets its own reply, never more.
func TestDuplicatesGetOneReplyEach(t *testing.T) {
	w := newWorld(t)
	first := w.answered(t, request(4))
	second := w.answered(t, request(4))
	if first.Receive == second.Receive || first.Origin != second.Origin {
		t.Errorf("got receive %v and %v, want different ones for the same origin", first.Receive, second.Receive)
	}
}

// Threat 5: whatever the request's size, one reply and never a longer one.
func TestReplyIsNeverLongerThanTheRequest(t *testing.T) {
	w := newWorld(t)
	w.policy.AnswerActive = true
	h := request(4)
	for size := 0; size <= 60000; size = size*9/8 + 4 {
		data := make([]byte, size)
		copy(data, h.Append(nil))
		for at := 48; at+4 <= size; {
			field := min(size-at, 0xfffc)
			data[at+2], data[at+3] = byte(field>>8), byte(field)
			at += field
		}
		if reply, v := w.ask(data); len(reply) > len(data) {
			t.Errorf("%d bytes: got %d (%v)", size, len(reply), v.Result)
		}
	}
}

// TestMutatedPackets: packets of real programs with bits flipped, cut, spliced
// and lengthened, by the hundred thousand and from three seeds.
func TestMutatedPackets(t *testing.T) {
	corpus, err := captures.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	count := 200_000
	if testing.Short() {
		count = 20_000
	}
	for s := range uint64(3) {
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			w := hostileWorld(t)
			chance := rand.New(rand.NewPCG(s, 99))
			replies := 0
			for range count / 3 {
				data := mutate(chance, corpus)
				w.pass(time.Duration(chance.IntN(1_000_000)))
				rx := &model.Received{Data: data, Remote: numbered(chance.IntN(1000)), Local: serverAt, Interface: 2, At: w.now}
				if checkReply(t, w, rx) {
					replies++
				}
			}
			if replies < count/100 {
				t.Errorf("got %d replies to %d packets, want a good part", replies, count/3)
			}
			w.answered(t, request(4)) // and is well afterwards
		})
	}
}

// hostileWorld has everything on that answers more.
func hostileWorld(t testing.TB) *world {
	w := newWorld(t)
	w.policy.AnswerActive, w.policy.Interleaved = true, true
	w.policy.Limit = &responder.RateLimit{Interval: time.Millisecond, Burst: 4, Leak: 3, Kiss: true}
	return w
}

// mutate makes a packet from the corpus a little different, or not at all.
func mutate(chance *rand.Rand, corpus [][]byte) []byte {
	data := bytes.Clone(corpus[chance.IntN(len(corpus))])
	for range chance.IntN(4) {
		switch chance.IntN(5) {
		case 0:
			if len(data) > 0 {
				data[chance.IntN(len(data))] ^= 1 << chance.IntN(8)
			}
		case 1:
			data = data[:chance.IntN(len(data)+1)]
		case 2:
			other := corpus[chance.IntN(len(corpus))]
			data = append(data, other[chance.IntN(len(other)+1):]...)
		case 3:
			data = append(data, make([]byte, chance.IntN(9)*4)...)
		case 4:
			if len(data) > 52 {
				data[50], data[51] = byte(chance.Uint32()), byte(chance.Uint32())
			}
		}
	}
	return data
}

// checkReply answers a datagram and holds what comes out to what must always be so.
// It reports whether there was a reply.
func checkReply(t testing.TB, w *world, rx *model.Received) bool {
	t.Helper()
	before := bytes.Clone(rx.Data)
	reply, v := w.receive(rx)
	if !bytes.Equal(rx.Data, before) {
		t.Fatalf("the request was changed: %x", before)
	}
	answers := v.Result.Time() || v.Result == responder.RateKoD
	if answers != (reply != nil) {
		t.Fatalf("got %d bytes with %v (%v) to %x", len(reply), v.Result, v.Reason, rx.Data)
	}
	if reply == nil {
		return false
	}
	if len(reply) > len(rx.Data) {
		t.Fatalf("got %d bytes to %d", len(reply), len(rx.Data))
	}
	asked, got := decode(t, rx.Data), decode(t, reply)
	if asked.Mode == wire.ModeActive {
		if got.Mode != wire.ModePassive {
			t.Fatalf("got mode %v to mode 1", got.Mode)
		}
	} else if got.Mode != wire.ModeServer || asked.Mode != wire.ModeClient && (asked.Version != 1 || asked.Mode != wire.ModeReserved) {
		t.Fatalf("got mode %v to mode %v, version %d", got.Mode, asked.Mode, asked.Version)
	}
	want := asked.Transmit
	if v.Result == responder.Interleaved {
		want = asked.Receive
	}
	if got.Version != asked.Version || got.Origin != want {
		t.Fatalf("got version %d, origin %v to version %d, %v", got.Version, got.Origin, asked.Version, want)
	}
	if v.Result != responder.Interleaved && got.Transmit.Sub(got.Receive) < 0 {
		t.Fatalf("got transmit before receive")
	}
	if v.Signed() != got.HasMAC || got.CryptoNAK() {
		t.Fatalf("got a MAC %v, NAK %v with %+v", got.HasMAC, got.CryptoNAK(), v)
	}
	return true
}

// FuzzRespond holds any datagram from anywhere to the same.
func FuzzRespond(f *testing.F) {
	corpus, err := captures.Payloads()
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(corpus); i += 7 {
		f.Add(corpus[i], uint32(i), uint16(123), uint8(i))
	}
	w := hostileWorld(f)
	f.Fuzz(func(t *testing.T, data []byte, address uint32, port uint16, flags uint8) {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), port)
		w.policy.Require = responder.Require(flags % 3)
		w.snapshot.Synchronized = flags&8 == 0
		w.pass(time.Duration(flags) * time.Millisecond)
		checkReply(t, w, &model.Received{Data: data, Remote: remote, Local: serverAt, Interface: int(flags) & 3, At: w.now})
	})
}

// Nothing is allocated for any packet, valid or broken, plain or keyed (threats 36).
func TestRespondAllocatesNothing(t *testing.T) {
	corpus, err := captures.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	w := hostileWorld(t)
	h := request(4)
	for _, key := range w.keys {
		corpus = append(corpus, key.AppendMAC(h.Append(nil), 4))
	}
	reply := make([]byte, 2048)
	rx := &model.Received{Remote: clientAt, Local: serverAt, Interface: 2}
	i := 0
	if n := testing.AllocsPerRun(3*len(corpus), func() {
		i++
		w.pass(3 * time.Millisecond)
		rx.Data, rx.At = corpus[i%len(corpus)], w.now
		_, v := w.shard.Respond(reply, rx, &w.env)
		w.shard.Transmitted(v.TimestampID, w.now)
	}); n != 0 {
		t.Errorf("got %v allocations a packet, want 0", n)
	}
	if c := w.shard.Counters(); c.Signed == 0 || c.Sum(responder.Answered) == 0 || c.Sum(responder.Ignored) == 0 {
		t.Errorf("got %+v, want packets of every kind", c.Reasons)
	}
}

// A signed request longer than any real one is refused before its digest would cost
// an allocation.
func TestLongSignedRequest(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	for _, key := range w.keys {
		for _, test := range []struct {
			field int
			want  responder.Reason
		}{{mac.MaxMessage - wire.HeaderSize - 4, responder.ReasonNone}, {mac.MaxMessage - wire.HeaderSize, responder.ReasonMalformed}} {
			data := key.AppendMAC(wire.AppendField(h.Append(nil), 0xf323, make([]byte, test.field), wire.MinField), 4)
			rx := &model.Received{Data: data, Remote: clientAt, Local: serverAt, At: w.now}
			var v responder.Verdict
			if n := testing.AllocsPerRun(10, func() { _, v = w.shard.Respond(w.buffer[:], rx, &w.env) }); n != 0 || v.Reason != test.want {
				t.Errorf("%v over %d bytes: got %v with %v allocations, want %v with none", key, len(data), v.Reason, n, test.want)
			}
		}
	}
}
