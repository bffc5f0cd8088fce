package nts

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"timeball/internal/siv"
	"timeball/internal/wire"
)

// counter is a Random for tests.
type counter uint64

func (c *counter) Uint64() uint64 {
	*c += 0x9e3779b97f4a7c15
	return uint64(*c)
}

func secretsOf(a siv.Algorithm, seed byte) Secrets {
	s := Secrets{Algorithm: a}
	for i := range a.KeySize() {
		s.C2S[i], s.S2C[i] = seed+byte(i), seed+byte(i)+100
	}
	return s
}

func testRing() *Ring { return NewRing([RingKeySize]byte{1, 2, 3}, 1000) }

func testHeader(mode wire.Mode) []byte {
	h := wire.Header{Version: 4, Mode: mode, Stratum: 2, Transmit: 0x0123456789abcdef}
	return h.Append(nil)
}

var algorithms = []siv.Algorithm{siv.AESSIVCMAC256, siv.AESSIVCMAC384, siv.AESSIVCMAC512, siv.AES128GCMSIV}

// pair is a client with cookies of a server.
func pair(t testing.TB, a siv.Algorithm, cookies int) (*Client, *Server, *Ring, Random) {
	t.Helper()
	ring, random, secrets := testRing(), new(counter), secretsOf(a, 7)
	var all [][]byte
	for range cookies {
		all = append(all, ring.AppendCookie(nil, &secrets, random))
	}
	c := new(Client)
	if err := c.Install(secrets, all); err != nil {
		t.Fatal(err)
	}
	return c, new(Server), ring, random
}

func request(t testing.TB, c *Client, random Random) []byte {
	t.Helper()
	b, ok := c.AppendRequest(testHeader(wire.ModeClient), random)
	if !ok {
		t.Fatal("no cookie to ask with")
	}
	return b
}

func decode(t testing.TB, b []byte) *wire.Packet {
	t.Helper()
	p := new(wire.Packet)
	if defect := p.Decode(b); defect != wire.DefectNone {
		t.Fatalf("%v in %x", defect, b)
	}
	return p
}

// judge gives the judgement and, of a genuine request, the reply.
func judge(t testing.TB, s *Server, ring *Ring, random Random, b []byte) (Judgement, []byte) {
	t.Helper()
	var f Fields
	if !f.Read(decode(t, b)) {
		return Malformed, nil
	}
	j := s.Judge(ring, &f, len(b), len(b))
	switch j {
	case Genuine:
		s.Prepare(ring, random)
		return j, s.AppendReply(testHeader(wire.ModeServer), random)
	case Refused:
		h := wire.Header{Version: 4, Mode: wire.ModeServer, Leap: wire.LeapUnknown, ReferenceID: wire.KissNTSN}
		return j, s.AppendNAK(h.Append(nil))
	}
	return j, nil
}

func TestRFC8915_5_7_AnExchangeKeepsEightCookies(t *testing.T) {
	for _, a := range algorithms {
		for held := 1; held <= MaxCookies; held++ {
			c, s, ring, random := pair(t, a, held)
			b := request(t, c, random)
			j, reply := judge(t, s, ring, random, b)
			if j != Genuine || len(reply) > len(b) {
				t.Fatalf("%v with %d cookies: got %v and %d bytes for %d", a, held, j, len(reply), len(b))
			}
			if got := c.Check(decode(t, reply)); got != AnswerGenuine {
				t.Fatalf("%v: the reply: got %v, want genuine", a, got)
			}
			want := MaxCookies
			switch a { // a request with seven placeholders would be too long
			case siv.AESSIVCMAC384:
				want = min(want, held+6)
			case siv.AESSIVCMAC512:
				want = min(want, held+4)
			}
			if c.Cookies() < want {
				t.Errorf("%v: got %d cookies after a reply to one with %d, want %d", a, c.Cookies(), held, want)
			}
			if len(b) > longestRequest {
				t.Errorf("%v: got a request of %d bytes", a, len(b))
			}
		}
	}
}

// The sizes that other programs were measured with (field facts).
func TestSizes(t *testing.T) {
	for a, want := range map[siv.Algorithm][3]int{
		siv.AESSIVCMAC256: {100, 228, 228}, siv.AESSIVCMAC384: {132, 260, 260},
		siv.AESSIVCMAC512: {164, 292, 292}, siv.AES128GCMSIV: {68, 192, 192},
	} {
		c, s, ring, random := pair(t, a, MaxCookies)
		b := request(t, c, random)
		_, reply := judge(t, s, ring, random, b)
		if got := [3]int{CookieSize(a), len(b), len(reply)}; got != want {
			t.Errorf("%v: cookie, request, reply: got %v, want %v", a, got, want)
		}
	}
}

// NTPsec's client takes nothing else than an identifier and an authenticator with a
// nonce of 16 bytes and cookies, without slack.
func TestReplyIsAsNTPsecWantsIt(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, 5)
	_, reply := judge(t, s, ring, random, request(t, c, random))
	p := decode(t, reply)
	var types []wire.FieldType
	for cursor := p.Cursor(); cursor.Next(); {
		types = append(types, cursor.Field.Type)
	}
	if fmt.Sprint(types) != fmt.Sprint([]wire.FieldType{wire.FieldUniqueIdentifier, wire.FieldAuthenticator}) {
		t.Errorf("got fields %v", types)
	}
	var f Fields
	f.Read(p)
	if len(f.Nonce) != 16 || 48+36+4+4+16+len(f.Ciphertext) != len(reply) || len(f.Ciphertext) != 16+4*104 {
		t.Errorf("got a nonce of %d and a ciphertext of %d in %d bytes", len(f.Nonce), len(f.Ciphertext), len(reply))
	}
}

func TestRFC8915_5_7_NoCookieTwiceAndFreshIdentifiers(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, MaxCookies)
	seen := map[string]bool{}
	for range 40 {
		b := request(t, c, random)
		var f Fields
		f.Read(decode(t, b))
		for _, part := range [][]byte{f.Cookie, f.UniqueID, f.Nonce} {
			if seen[string(part)] {
				t.Fatalf("%x was sent twice", part)
			}
			seen[string(part)] = true
		}
		_, reply := judge(t, s, ring, random, b)
		if c.Check(decode(t, reply)) != AnswerGenuine {
			t.Fatal("not genuine")
		}
	}
}

func TestRFC8915_5_7_EveryFlippedBitOfARequestIsRefused(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, 7)
	b := request(t, c, random)
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		var p wire.Packet
		if p.Decode(b) == wire.DefectNone {
			if j, reply := judge(t, s, ring, random, b); j == Genuine || len(reply) > len(b) {
				t.Errorf("bit %d of byte %d flipped: got %v and %d bytes", bit%8, bit/8, j, len(reply))
			}
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	if j, _ := judge(t, s, ring, random, b); j != Genuine {
		t.Errorf("unchanged: got %v", j)
	}
}

func TestRFC8915_5_7_EveryFlippedBitOfAReplyIsRefused(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, MaxCookies)
	_, reply := judge(t, s, ring, random, request(t, c, random))
	held := c.Cookies()
	for bit := range len(reply) * 8 {
		reply[bit/8] ^= 1 << (bit % 8)
		var p wire.Packet
		if p.Decode(reply) == wire.DefectNone && c.Check(&p) == AnswerGenuine {
			t.Errorf("bit %d of byte %d flipped: taken", bit%8, bit/8)
		}
		reply[bit/8] ^= 1 << (bit % 8)
	}
	if c.Cookies() != held {
		t.Errorf("got %d cookies after forged replies, want %d", c.Cookies(), held)
	}
}

func TestServerJudges(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, MaxCookies)
	good := func() []byte { return request(t, c, random) }
	id := func(size int) []byte {
		return wire.AppendField(nil, wire.FieldUniqueIdentifier, bytes.Repeat([]byte{7}, size), wire.MinField)
	}
	cookie := func(size int) []byte {
		return wire.AppendField(nil, wire.FieldCookie, bytes.Repeat([]byte{9}, size), wire.MinField)
	}
	auth := func(nonce, ciphertext, size int) []byte {
		b := make([]byte, 4+size)
		b[1], b[2], b[3], b[0] = byte(nonce), byte(ciphertext>>8), byte(ciphertext), byte(nonce>>8)
		return wire.AppendField(nil, wire.FieldAuthenticator, b, wire.MinLastField)
	}
	join := func(fields ...[]byte) []byte {
		return append(testHeader(wire.ModeClient), bytes.Join(fields, nil)...)
	}
	for _, test := range []struct {
		name   string
		packet []byte
		want   Judgement
	}{
		{"no identifier", join(cookie(100), auth(16, 16, 32)), Malformed},
		{"an identifier of 28 bytes", join(id(28), cookie(100), auth(16, 16, 32)), Malformed},
		{"two identifiers", join(id(32), id(32), cookie(100), auth(16, 16, 32)), Malformed},
		{"no cookie", join(id(32), auth(16, 16, 32)), Malformed},
		{"two cookies", join(id(32), cookie(100), cookie(100), auth(16, 16, 32)), Malformed},
		{"no authenticator", join(id(32), cookie(100)), Malformed},
		{"a nonce longer than the field", join(id(32), cookie(100), auth(40, 16, 32)), Malformed},
		{"a ciphertext longer than the field", join(id(32), cookie(100), auth(16, 20, 32)), Malformed},
		{"a cookie that is none of ours", join(id(32), cookie(100), auth(16, 16, 32)), Refused},
		{"a short cookie", join(id(32), cookie(12), auth(16, 16, 32)), Refused},
		{"no room for a cookie in the reply", join(id(32), cookie(100), auth(0, 16, 32)), Refused},
		{"good", good(), Genuine},
		{"fields behind the authenticator", append(good(), id(64)...), Genuine},
		{"a cookie behind the authenticator", append(good(), cookie(100)...), Genuine},
	} {
		if got, reply := judge(t, s, ring, random, test.packet); got != test.want || len(reply) > len(test.packet) {
			t.Errorf("%s: got %v and %d bytes for %d, want %v", test.name, got, len(reply), len(test.packet), test.want)
		}
	}
	for size := range 300 {
		packet := join(id(32), cookie(size), auth(16, 16, 32))
		if got, reply := judge(t, s, ring, random, packet); got != Refused || len(reply) != 84 {
			t.Errorf("a garbage cookie of %d: got %v and %d bytes, want NTSN of 84", size, got, len(reply))
		}
	}
}

// signed makes a request with so many placeholders of so many bytes.
func signed(t *testing.T, ring *Ring, random Random, placeholders, size int) []byte {
	t.Helper()
	secrets := secretsOf(siv.AESSIVCMAC256, 7)
	c2s, _, err := secrets.Keys()
	if err != nil {
		t.Fatal(err)
	}
	w := new(Worker)
	b := wire.AppendField(testHeader(wire.ModeClient), wire.FieldUniqueIdentifier, bytes.Repeat([]byte{5}, 32), 0)
	b = wire.AppendField(b, wire.FieldCookie, ring.AppendCookie(nil, &secrets, random), 0)
	for range placeholders {
		b = wire.AppendField(b, wire.FieldCookiePlaceholder, make([]byte, size), wire.MinField)
	}
	return w.appendAuthenticator(b, nil, c2s, random)
}

// threats 28: many placeholders bring at most eight cookies, short ones none.
func TestRFC8915_5_7_AtMostEightCookies(t *testing.T) {
	ring, random, s := testRing(), new(counter), new(Server)
	for _, test := range []struct{ placeholders, size, want int }{
		{0, 0, 1}, {1, 100, 2}, {7, 100, 8}, {8, 100, 8}, {16, 100, 8}, {100, 12, 1}, {3, 96, 1}, {3, 200, 4},
	} {
		b := signed(t, ring, random, test.placeholders, test.size)
		j, reply := judge(t, s, ring, random, b)
		cookies := (len(reply) - 48 - 36 - 40) / 104
		if j != Genuine || cookies != test.want || len(reply) > len(b) {
			t.Errorf("%d placeholders of %d: got %v, %d cookies, want %d", test.placeholders, test.size, j, cookies, test.want)
		}
	}
	if j, _ := judge(t, s, ring, random, signed(t, ring, random, 300, 100)); j != Malformed {
		t.Errorf("300 placeholders: got %v, want silence", j)
	}
}

func TestClientTakesASlackReplyAndNoForgedOne(t *testing.T) {
	c, _, ring, random := pair(t, siv.AESSIVCMAC256, 3)
	secrets, w := secretsOf(siv.AESSIVCMAC256, 7), new(Worker)
	_, s2c, _ := secrets.Keys()
	request(t, c, random)
	reply := func(id []byte, text []byte) []byte {
		b := wire.AppendField(testHeader(wire.ModeServer), wire.FieldUniqueIdentifier, id, 0)
		return w.appendAuthenticator(b, text, s2c, random)
	}
	cookie := wire.AppendField(nil, wire.FieldCookie, ring.AppendCookie(nil, &secrets, random), 0)
	other := append(bytes.Clone(c.id[:]), 0)
	if got := c.Check(decode(t, reply(other[1:], cookie))); got != AnswerForged {
		t.Errorf("another identifier: got %v, want forged", got)
	}
	if got := c.Check(decode(t, reply(c.id[:], append(bytes.Clone(cookie), make([]byte, 312)...)))); got != AnswerGenuine || c.Cookies() != 3 {
		t.Errorf("padded with zeros inside: got %v with %d cookies, want genuine with 3", got, c.Cookies())
	}
	nak := wire.Header{Version: 4, Mode: wire.ModeServer, ReferenceID: wire.KissNTSN}
	if got := c.Check(decode(t, wire.AppendField(nak.Append(nil), wire.FieldUniqueIdentifier, c.id[:], wire.MinLastField))); got != AnswerNAK {
		t.Errorf("NTSN with the identifier: got %v", got)
	}
	if got := c.Check(decode(t, nak.Append(nil))); got != AnswerForged {
		t.Errorf("NTSN without: got %v, want forged", got)
	}
	if got := c.Check(decode(t, testHeader(wire.ModeServer))); got != AnswerForged {
		t.Errorf("a plain reply: got %v, want forged", got)
	}
}

func TestInstallRefuses(t *testing.T) {
	for _, test := range []struct {
		name    string
		secrets Secrets
		cookies [][]byte
	}{
		{"no cookie", secretsOf(siv.AESSIVCMAC256, 1), nil},
		{"an empty cookie", secretsOf(siv.AESSIVCMAC256, 1), [][]byte{{}}},
		{"a cookie of 513 bytes", secretsOf(siv.AESSIVCMAC256, 1), [][]byte{make([]byte, MaxCookie+1)}},
		{"an unknown AEAD", Secrets{Algorithm: 31}, [][]byte{make([]byte, 100)}},
	} {
		c := new(Client)
		if err := c.Install(test.secrets, test.cookies); err == nil {
			t.Errorf("%s: taken", test.name)
		}
		if _, ok := c.AppendRequest(nil, new(counter)); ok {
			t.Errorf("%s: asked all the same", test.name)
		}
	}
}

func TestSecretsStaySecret(t *testing.T) {
	s := secretsOf(siv.AESSIVCMAC256, 'a')
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", s, s, s), fmt.Sprintf("%v %#v", testRing(), testRing())} {
		if strings.Contains(text, "97") || strings.Contains(text, "0x61") || !strings.Contains(text, "withheld") {
			t.Errorf("got %s", text)
		}
	}
}

func TestAnExchangeAllocatesNothing(t *testing.T) {
	c, s, ring, random := pair(t, siv.AESSIVCMAC256, 6)
	buffer, answer := make([]byte, 0, 2048), make([]byte, 0, 2048)
	header, p, f := testHeader(wire.ModeClient), new(wire.Packet), new(Fields)
	if n := testing.AllocsPerRun(100, func() {
		b, _ := c.AppendRequest(append(buffer, header...), random)
		if p.Decode(b) != wire.DefectNone || !f.Read(p) || s.Judge(ring, f, len(b), len(b)) != Genuine {
			t.Fail()
		}
		s.Prepare(ring, random)
		reply := s.AppendReply(append(answer, header...), random)
		if p.Decode(reply) != wire.DefectNone || c.Check(p) != AnswerGenuine {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("got %v allocations an exchange, want 0", n)
	}
}

// The table of schedules is bounded, and right whoever comes.
func TestSchedulesAreBounded(t *testing.T) {
	var table schedules
	for round := range 2 {
		for i := range 5000 {
			secrets := secretsOf(siv.AESSIVCMAC256, byte(i))
			secrets.C2S[1], secrets.C2S[2] = byte(i>>8), byte(round)
			if got := table.find(&secrets); got.secrets != secrets {
				t.Fatal("got another's schedule")
			}
		}
	}
	for _, set := range table.sets {
		if set != nil && len(set) > scheduleWays {
			t.Errorf("got %d schedules in a set", len(set))
		}
	}
}

// FuzzServer sends anything to a server, and changed requests: nothing but the unchanged
// one is answered, and never by more bytes.
func FuzzServer(f *testing.F) {
	f.Add([]byte{}, 0, byte(0))
	f.Add([]byte{4, 4, 0, 16, 0, 8}, 100, byte(3))
	f.Fuzz(func(t *testing.T, tail []byte, at int, change byte) {
		c, s, ring, random := pair(t, siv.AESSIVCMAC256, 5)
		b := append(testHeader(wire.ModeClient), tail...)
		var p wire.Packet
		if p.Decode(b) == wire.DefectNone {
			if j, reply := judge(t, s, ring, random, b); j == Genuine || len(reply) > len(b) {
				t.Fatalf("got %v and %d bytes for %d", j, len(reply), len(b))
			}
		}
		b = request(t, c, random)
		b[uint(at)%uint(len(b))] ^= change
		if p.Decode(b) == wire.DefectNone {
			if j, reply := judge(t, s, ring, random, b); j == Genuine && change != 0 || len(reply) > len(b) {
				t.Fatalf("got %v and %d bytes for a changed request of %d", j, len(reply), len(b))
			}
		}
	})
}

// FuzzClient gives a client anything for a reply: nothing is taken for genuine.
func FuzzClient(f *testing.F) {
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, tail []byte, at int, change byte) {
		c, s, ring, random := pair(t, siv.AES128GCMSIV, 5)
		_, reply := judge(t, s, ring, random, request(t, c, random))
		var p wire.Packet
		if p.Decode(append(testHeader(wire.ModeServer), tail...)) == wire.DefectNone && c.Check(&p) == AnswerGenuine {
			t.Fatal("took a forged reply")
		}
		reply[uint(at)%uint(len(reply))] ^= change
		if p.Decode(reply) == wire.DefectNone && c.Check(&p) == AnswerGenuine && change != 0 {
			t.Fatal("took a changed reply")
		}
	})
}

func BenchmarkServer(b *testing.B) {
	for _, a := range algorithms {
		b.Run(a.String(), func(b *testing.B) {
			c, s, ring, random := pair(b, a, MaxCookies)
			packet, answer, header := request(b, c, random), make([]byte, 0, 2048), testHeader(wire.ModeServer)
			var p wire.Packet
			var f Fields
			b.ReportAllocs()
			for b.Loop() {
				if p.Decode(packet) != wire.DefectNone || !f.Read(&p) || s.Judge(ring, &f, len(packet), len(packet)) != Genuine {
					b.Fatal("refused")
				}
				s.Prepare(ring, random)
				s.AppendReply(append(answer, header...), random)
			}
		})
	}
}
