package responder_test

import (
	"bytes"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/responder"
	"timeball/internal/siv"
	"timeball/internal/wire"
)

// counting is a random generator for tests.
type counting uint64

func (c *counting) Uint64() uint64 {
	*c += 0x9e3779b97f4a7c15
	return uint64(*c)
}

// ntsWorld is a server that offers NTS, and a client that has made its key exchange.
type ntsWorld struct {
	*world
	client *nts.Client
	random counting
}

func newNTSWorld(t testing.TB, algorithm siv.Algorithm) *ntsWorld {
	t.Helper()
	w := &ntsWorld{world: newWorld(t), client: new(nts.Client)}
	w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients, Timestamps: w.timestamps, Random: 42, Nonces: &w.random})
	w.env.Ring = nts.NewRing([nts.RingKeySize]byte{3}, start)
	w.exchangeKeys(t, algorithm)
	return w
}

func (w *ntsWorld) exchangeKeys(t testing.TB, algorithm siv.Algorithm) {
	t.Helper()
	secrets := nts.Secrets{Algorithm: algorithm}
	for i := range algorithm.KeySize() {
		secrets.C2S[i], secrets.S2C[i] = byte(i), byte(i+100)
	}
	var cookies [][]byte
	for range nts.MaxCookies {
		cookies = append(cookies, w.env.Ring.AppendCookie(nil, &secrets, &w.random))
	}
	if err := w.client.Install(secrets, cookies); err != nil {
		t.Fatal(err)
	}
}

func (w *ntsWorld) request(t testing.TB, h wire.Header) []byte {
	t.Helper()
	b, ok := w.client.AppendRequest(h.Append(nil), &w.random)
	if !ok {
		t.Fatal("no cookie left")
	}
	return b
}

// check gives what the client thinks of a reply, and the reply.
func (w *ntsWorld) check(t testing.TB, reply []byte) (nts.Answer, wire.Packet) {
	t.Helper()
	p := decode(t, reply)
	return w.client.Check(&p), p
}

func TestRFC8915_5_7_RepliesAreGenuine(t *testing.T) {
	for _, algorithm := range []siv.Algorithm{15, 16, 17, 30} {
		w := newNTSWorld(t, algorithm)
		for i := range 20 {
			data := w.request(t, request(4))
			reply, v := w.ask(data)
			answer, p := w.check(t, reply)
			if answer != nts.AnswerGenuine || v.Result != responder.Answered || !v.NTS() || !v.Signed() || len(reply) > len(data) {
				t.Fatalf("%v, request %d: got %v, %+v, %d bytes for %d", algorithm, i, answer, v, len(reply), len(data))
			}
			if p.Origin != request(4).Transmit || p.Stratum != 2 || w.client.Cookies() != nts.MaxCookies {
				t.Fatalf("%v: got origin %v, stratum %d, %d cookies", algorithm, p.Origin, p.Stratum, w.client.Cookies())
			}
			w.pass(time.Second)
		}
	}
}

func TestRFC8915_5_7_NTSN(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	w.env.Ring = nts.NewRing([nts.RingKeySize]byte{4}, start)
	data := w.request(t, request(4))
	reply, v := w.ask(data)
	answer, p := w.check(t, reply)
	if answer != nts.AnswerNAK || v.Result != responder.Refused || len(reply) != 84 {
		t.Fatalf("another ring: got %v, %+v, %d bytes", answer, v, len(reply))
	}
	if p.Stratum != 0 || p.ReferenceID != wire.KissNTSN || p.Origin != request(4).Transmit || p.Leap != wire.LeapUnknown {
		t.Errorf("got %+v", p.Header)
	}
	if again, _ := w.ask(reply); again != nil {
		t.Error("a NAK drew an answer")
	}
}

func TestNTSAndWhatElseIsRequired(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	plain := request(4)
	keyed := w.key(t, mac.AES128).AppendMAC(plain.Append(nil), 4)
	for require, want := range map[responder.Require][3]bool{ // plain, keyed, NTS
		responder.RequireNone: {true, true, true}, responder.RequireKey: {false, true, true}, responder.RequireNTS: {false, false, true},
	} {
		w.policy.Require = require
		for i, data := range [][]byte{plain.Append(nil), keyed, w.request(t, plain)} {
			if _, v := w.ask(data); v.Result.Time() != want[i] {
				t.Errorf("require %v, case %d: got %v (%v), want answered %v", require, i, v.Result, v.Reason, want[i])
			}
		}
	}
	w.policy.Require = responder.RequireNone
	passive := request(4)
	passive.Mode = wire.ModeActive
	w.policy.AnswerActive = true
	w.silent(t, "NTS in mode 1", w.request(t, passive), responder.ReasonNTS)
	w.env.Ring = nil
	w.silent(t, "NTS where there is none", w.request(t, plain), responder.ReasonNTS)
	if _, v := w.ask(plain.Append(nil)); !v.Result.Time() {
		t.Error("a plain request was not answered")
	}
}

// A MAC or anything else behind the authenticator is nothing that NTS vouches for.
func TestRFC8915_5_7_WhatFollowsTheAuthenticatorIsIgnored(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	for name, tail := range map[string][]byte{
		"a MAC of nobody": append([]byte{0, 0, 0, 9}, make([]byte, 16)...),
		"a field":         wire.AppendField(nil, 0xf323, make([]byte, 40), 0),
	} {
		reply, v := w.ask(append(w.request(t, request(4)), tail...))
		if answer, p := w.check(t, reply); answer != nts.AnswerGenuine || p.HasMAC {
			t.Errorf("%s: got %v, %+v", name, answer, v)
		}
	}
}

func TestNTSInterleaved(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	w.policy.Interleaved = true
	first, _ := w.ask(w.request(t, request(4)))
	_, p := w.check(t, first)
	w.pass(time.Second)
	h := request(4)
	h.Origin, h.Receive, h.Transmit = p.Receive, 0x1111, 0x2222
	reply, v := w.ask(w.request(t, h))
	if v.Result != responder.Answered {
		t.Fatalf("got %v (%v)", v.Result, v.Reason)
	}
	_, p = w.check(t, reply)
	w.pass(time.Second)
	h.Origin, h.Receive, h.Transmit = p.Receive, 0x3333, 0x4444
	reply, v = w.ask(w.request(t, h))
	answer, p := w.check(t, reply)
	if v.Result != responder.Interleaved || answer != nts.AnswerGenuine || p.Origin != 0x3333 {
		t.Errorf("got %v, %v, origin %v; want interleaved, genuine, the request's receive timestamp", v.Result, answer, p.Origin)
	}
}

func TestNTSUnderTheRateLimit(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	w.policy.Limit = &responder.RateLimit{Interval: time.Hour, Burst: 2, Leak: 16, Kiss: true}
	kissed := false
	for range 6 {
		w.exchangeKeys(t, siv.AESSIVCMAC256)
		reply, v := w.ask(w.request(t, request(4)))
		if v.Result != responder.RateKoD {
			continue
		}
		kissed = true
		if answer, p := w.check(t, reply); answer != nts.AnswerGenuine || p.ReferenceID != wire.KissRATE {
			t.Errorf("got %v and %v, want a genuine RATE", answer, p.ReferenceID)
		}
	}
	if !kissed {
		t.Error("got no RATE")
	}
}

// threats 27, 28: garbage of every length draws NTSN or silence, never more bytes.
func TestNTSGarbage(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	whole := w.request(t, request(4))
	for n := range whole {
		if reply, v := w.ask(whole[:n]); v.Result.Time() && v.NTS() || len(reply) > n {
			t.Errorf("%d bytes of %d: got %v and %d bytes", n, len(whole), v.Result, len(reply))
		}
	}
	id := wire.AppendField(nil, wire.FieldUniqueIdentifier, make([]byte, 32), 0)
	auth := wire.AppendField(nil, wire.FieldAuthenticator, append([]byte{0, 16, 0, 16}, make([]byte, 32)...), 0)
	h := request(4)
	for n := 0; n < 2100; n += 4 {
		cookie := wire.AppendField(nil, wire.FieldCookie, make([]byte, n), wire.MinField)
		data := bytes.Join([][]byte{h.Append(nil), id, cookie, auth}, nil)
		if reply, v := w.ask(data); v.Result.Time() || len(reply) != 0 && len(reply) != 84 {
			t.Errorf("a cookie of %d: got %v and %d bytes", n, v.Result, len(reply))
		}
	}
}

func TestNTSRepliesAllocateNothing(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	data := w.request(t, request(4))
	rx := model.Received{Data: data, Remote: clientAt, Local: serverAt, Interface: 2, At: w.now}
	if n := testing.AllocsPerRun(200, func() {
		if _, v := w.shard.Respond(w.buffer[:], &rx, &w.env); !v.Result.Time() {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("got %v allocations a request, want 0", n)
	}
}

func FuzzNTS(f *testing.F) {
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, tail []byte, at int, change byte) {
		w := newNTSWorld(t, siv.AESSIVCMAC256)
		h := request(4)
		data := append(h.Append(nil), tail...)
		if reply, v := w.ask(data); len(reply) > len(data) || v.NTS() && v.Result.Time() {
			t.Errorf("got %+v and %d bytes for %x", v, len(reply), data)
		}
		data = w.request(t, h)
		data[uint(at)%uint(len(data))] ^= change
		if reply, v := w.ask(data); len(reply) > len(data) || v.NTS() && v.Result.Time() && change != 0 {
			t.Errorf("got %+v and %d bytes for %x", v, len(reply), data)
		}
	})
}

func BenchmarkNTS(b *testing.B) {
	w := newNTSWorld(b, siv.AESSIVCMAC256)
	rx := model.Received{Data: w.request(b, request(4)), Remote: clientAt, Local: serverAt, At: ntptime.Instant{Wall: start, Raw: 1 << 40}}
	b.ReportAllocs()
	for b.Loop() {
		if _, v := w.shard.Respond(w.buffer[:], &rx, &w.env); !v.Result.Time() {
			b.Fatal(v)
		}
	}
}
