package mac_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"timeball/internal/mac"
	"timeball/internal/wire"
	"timeball/test/captures"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, id uint32, kind mac.Type, secret []byte) *mac.Key {
	t.Helper()
	k, err := mac.NewKey(id, kind, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// oneOfEach is a key of every type.
func oneOfEach(t testing.TB) []*mac.Key {
	t.Helper()
	var keys []*mac.Key
	for kind := mac.MD5; kind <= mac.AES256; kind++ {
		secret := bytes.Repeat([]byte{byte(kind)}, 16)
		if kind == mac.AES256 {
			secret = bytes.Repeat(secret, 2)
		}
		keys = append(keys, newKey(t, uint32(kind), kind, secret))
	}
	return keys
}

// message is the text of the vectors of RFC 4493 and SP 800-38B.
const message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
	"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"

// TestRFC4493_4_TestVectors has the four examples of RFC 4493, which RFC 8573 refers
// to, and those of NIST SP 800-38B for AES-256.
func TestRFC4493_4_TestVectors(t *testing.T) {
	aes128 := newKey(t, 1, mac.AES128, unhex(t, "2b7e151628aed2a6abf7158809cf4f3c"))
	aes256 := newKey(t, 2, mac.AES256, unhex(t, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
	for _, test := range []struct {
		key  *mac.Key
		size int
		want string
	}{
		{aes128, 0, "bb1d6929e95937287fa37d129b756746"},
		{aes128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{aes128, 40, "dfa66747de9ae63030ca32611497c827"},
		{aes128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{aes256, 0, "028962f61b7bf89efc6b551f4667d983"},
		{aes256, 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{aes256, 40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{aes256, 64, "e1992190549f6ed5696a2c056c315410"},
	} {
		text := unhex(t, message)[:test.size]
		if got := hex.EncodeToString(test.key.Sign(nil, text)); got != test.want {
			t.Errorf("%v, %d bytes: got %s, want %s", test.key.Type(), test.size, got, test.want)
		}
		if !test.key.Verify(text, unhex(t, test.want)) {
			t.Errorf("%v, %d bytes: the vector does not verify", test.key.Type(), test.size)
		}
	}
}

// The keyed digest is that of the secret followed by the message (RFC 5905 Appendix A.2).
func TestRFC5905_A_KeyedDigest(t *testing.T) {
	for _, test := range []struct {
		kind mac.Type
		want string // digest of "abc", from FIPS 180-4 and RFC 1321
	}{
		{mac.MD5, "900150983cd24fb0d6963f7d28e17f72"},
		{mac.SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{mac.SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{mac.SHA384, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
		{mac.SHA512, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
	} {
		for split := 1; split <= 3; split++ {
			k := newKey(t, 1, test.kind, []byte("abc")[:split])
			if got := hex.EncodeToString(k.Sign(nil, []byte("abc")[split:])); got != test.want {
				t.Errorf("%v, secret of %d: got %s, want %s", test.kind, split, got, test.want)
			}
		}
	}
}

func TestLongMessagesAreSignedAlike(t *testing.T) {
	secret := bytes.Repeat([]byte("s"), 256)
	k := newKey(t, 1, mac.SHA256, secret)
	for _, n := range []int{mac.MaxMessage - 1, mac.MaxMessage, mac.MaxMessage + 1, 60000} {
		text := bytes.Repeat([]byte("m"), n)
		want := sha256.Sum256(append(bytes.Clone(secret), text...))
		if got := k.Sign(nil, text); !bytes.Equal(got, want[:]) {
			t.Errorf("%d bytes: got %x, want %x", n, got, want)
		}
	}
	for _, k := range oneOfEach(t) {
		text := bytes.Repeat([]byte("m"), 5000)
		if digest := k.Sign(nil, text); !k.Verify(text, digest) || len(digest) != k.Type().Size() {
			t.Errorf("%v: a long message does not verify", k.Type())
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		id   uint32
		kind mac.Type
		size int
		want string
	}{
		{"key id 0", 0, mac.MD5, 16, "key id 0"},
		{"AES-128 with 15 bytes", 7, mac.AES128, 15, "key 7: aes128-cmac needs a secret of 16 bytes, this one has 15"},
		{"AES-128 with 17 bytes", 7, mac.AES128, 17, "needs a secret of 16 bytes"},
		{"AES-128 with nothing", 7, mac.AES128, 0, "needs a secret of 16 bytes"},
		{"AES-256 with the secret of AES-128", 7, mac.AES256, 16, "needs a secret of 32 bytes"},
		{"AES-256 with 33 bytes", 7, mac.AES256, 33, "needs a secret of 32 bytes"},
		{"MD5 with nothing", 7, mac.MD5, 0, "1 to 256 bytes"},
		{"SHA-512 with 257 bytes", 7, mac.SHA512, 257, "1 to 256 bytes"},
		{"no type", 7, 0, 16, "unknown key type 0"},
		{"a type beyond the last", 7, 99, 16, "unknown key type 99"},
	} {
		k, err := mac.NewKey(test.id, test.kind, make([]byte, test.size))
		if err == nil || k != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, %v; want an error with %q", test.name, k, err, test.want)
		}
	}
}

// threats 16: a MAC missing, cut, lengthened or of another length is never taken.
func TestVerifyRefuses(t *testing.T) {
	text := unhex(t, message)[:48]
	for _, k := range oneOfEach(t) {
		digest := k.Sign(nil, text)
		for n := range len(digest) + 8 {
			cut := append(bytes.Clone(digest), make([]byte, 8)...)[:n]
			want := n == len(digest) || len(digest) > 20 && n == 20
			if got := k.Verify(text, cut); got != want {
				t.Errorf("%v, %d bytes of digest: got %v, want %v", k.Type(), n, got, want)
			}
		}
		for bit := range len(digest) * 8 {
			digest[bit/8] ^= 1 << (bit % 8)
			if k.Verify(text, digest) {
				t.Errorf("%v: taken with bit %d flipped", k.Type(), bit)
			}
			digest[bit/8] ^= 1 << (bit % 8)
		}
		for bit := range len(text) * 8 {
			text[bit/8] ^= 1 << (bit % 8)
			if k.Verify(text, digest) {
				t.Errorf("%v: taken with bit %d of the message flipped", k.Type(), bit)
			}
			text[bit/8] ^= 1 << (bit % 8)
		}
		var s mac.Signer
		if s.Verify(nil, text, digest) {
			t.Errorf("%v: verified without a key", k.Type())
		}
	}
}

func TestKeysOfTheSameSecretButAnotherTypeDiffer(t *testing.T) {
	text := unhex(t, message)[:48]
	secret := bytes.Repeat([]byte{9}, 16)
	md5, aes := newKey(t, 1, mac.MD5, secret), newKey(t, 1, mac.AES128, secret)
	if md5.Verify(text, aes.Sign(nil, text)) || aes.Verify(text, md5.Sign(nil, text)) {
		t.Error("a digest of one type was taken for another's of the same length")
	}
}

// Digests over 20 bytes are whole in version 3 and cut in version 4 (peers, §3).
func TestAppendMACByVersion(t *testing.T) {
	h := wire.Header{Mode: wire.ModeClient}
	for _, k := range oneOfEach(t) {
		for version := uint8(1); version <= 4; version++ {
			h.Version = version
			var p wire.Packet
			if defect := p.Decode(k.AppendMAC(h.Append(nil), version)); defect != wire.DefectNone {
				t.Fatalf("%v in version %d: %v", k.Type(), version, defect)
			}
			want := k.Type().Size()
			if version == 4 {
				want = min(want, 20)
			}
			if len(p.Digest) != want || p.KeyID != k.ID() || !k.Verify(p.Signed, p.Digest) {
				t.Errorf("%v in version %d: got %d bytes of digest for key %d, want %d that verify", k.Type(), version, len(p.Digest), p.KeyID, want)
			}
		}
	}
}

// TestEveryCapturedMACVerifies checks what real programs signed: with the key of that
// number, and with no other one.
func TestEveryCapturedMACVerifies(t *testing.T) {
	var keys []*mac.Key
	for _, k := range captures.Keys() {
		kind, err := mac.ParseType(k.Type)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, newKey(t, k.ID, kind, k.Secret))
	}
	verified := 0
	for _, name := range captures.Names() {
		datagrams, err := captures.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range datagrams {
			var p wire.Packet
			if !d.NTP() || p.Decode(d.Payload) != wire.DefectNone || len(p.Digest) == 0 || p.Mode == wire.ModeControl {
				continue
			}
			good := 0
			for _, k := range keys {
				if k.Verify(p.Signed, p.Digest) {
					good++
					if k.ID() != p.KeyID {
						t.Errorf("%s, packet %d: key %d verifies, the packet says %d", name, i, k.ID(), p.KeyID)
					}
				}
			}
			// nak-*: wrong secret for key 1, and an unknown key 99.
			want := 1
			if strings.HasPrefix(name, "nak-") && d.Destination.Port() == 123 && i >= firstBad[name] {
				want = 0
			}
			if good != want {
				t.Errorf("%s, packet %d, key %d: got %d keys that verify, want %d", name, i, p.KeyID, good, want)
			}
			verified += good
		}
	}
	if verified != 198 {
		t.Errorf("got %d MACs verified, want the 198 that the captures have", verified)
	}
}

// firstBad is the first datagram of a capture with requests that must not verify.
var firstBad = map[string]int{"nak-classic": 2, "nak-ntpsec": 2}

func TestParseType(t *testing.T) {
	for kind := mac.MD5; kind <= mac.AES256; kind++ {
		if got, err := mac.ParseType(kind.String()); err != nil || got != kind {
			t.Errorf("%v: got %v, %v", kind, got, err)
		}
	}
	for name, want := range map[string]mac.Type{"AES128": mac.AES128, "AES-128": mac.AES128, "AES256": mac.AES256, "SHA1": mac.SHA1} {
		if got, err := mac.ParseType(name); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "sha3", "unknown", "des"} {
		if got, err := mac.ParseType(name); err == nil {
			t.Errorf("%q: got %v, want an error", name, got)
		}
	}
	if got := mac.Type(99); got.String() != "unknown" || got.Size() != 0 || got.Accepts(0) {
		t.Errorf("an unknown type: got %v, size %d", got, got.Size())
	}
}

func TestSecretNeverShows(t *testing.T) {
	k := newKey(t, 10, mac.SHA1, []byte("hunter2hunter2"))
	const want = "key 10 (sha1, secret withheld)"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, k); got != want {
			t.Errorf("%s of a pointer: got %s, want %s", verb, got, want)
		}
		if got := fmt.Sprintf(verb, *k); got != want {
			t.Errorf("%s of a value: got %s, want %s", verb, got, want)
		}
		if got := fmt.Sprintf(verb, struct{ K *mac.Key }{k}); strings.Contains(got, "hunter") || strings.Contains(got, "68756e746572") {
			t.Errorf("%s within a struct shows the secret: %s", verb, got)
		}
	}
	if got, err := json.Marshal(k); err != nil || string(got) != `"`+want+`"` {
		t.Errorf("JSON: got %s, %v", got, err)
	}
}

func TestSecretIsCopied(t *testing.T) {
	secret := []byte("abc")
	k := newKey(t, 1, mac.SHA1, secret)
	before := k.Sign(nil, nil)
	clear(secret)
	if after := k.Sign(nil, nil); !bytes.Equal(before, after) {
		t.Error("the key changed with the caller's slice")
	}
}

func TestKeyRing(t *testing.T) {
	var keys []*mac.Key
	for _, id := range []uint32{4_294_967_295, 5, 1, 70000, 12} {
		keys = append(keys, newKey(t, id, mac.MD5, []byte("x")))
	}
	ring, err := mac.NewKeyRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if got := ring.Key(k.ID()); got != k {
			t.Errorf("key %d: got %v", k.ID(), got)
		}
	}
	for _, id := range []uint32{0, 2, 6, 69999, 70001, 4_294_967_294} {
		if got := ring.Key(id); got != nil {
			t.Errorf("key %d: got %v, want none", id, got)
		}
	}
	if ring.Len() != 5 {
		t.Errorf("got %d keys, want 5", ring.Len())
	}
	if _, err := mac.NewKeyRing(keys[0], keys[1], keys[0]); err == nil || !strings.Contains(err.Error(), "4294967295") {
		t.Errorf("one id twice: got %v, want an error that names it", err)
	}
	var none *mac.KeyRing
	if none.Key(1) != nil || none.Len() != 0 {
		t.Error("nil is not the empty ring")
	}
}

func TestSignerAllocatesNothing(t *testing.T) {
	packet := make([]byte, 48, 48+4+64)
	var s mac.Signer
	for _, k := range oneOfEach(t) {
		signed := k.AppendMAC(packet, 3)
		if n := testing.AllocsPerRun(100, func() {
			if !s.Verify(k, signed[:48], signed[52:]) {
				t.Fail()
			}
			s.AppendMAC(packet, k, k.Type().SizeFor(4))
		}); n != 0 {
			t.Errorf("%v: got %v allocations, want 0", k.Type(), n)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(uint8(6), []byte("0123456789abcdef"), []byte("message"), []byte("digest"))
	f.Add(uint8(2), []byte("s"), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, kind uint8, secret, text, digest []byte) {
		k, err := mac.NewKey(1, mac.Type(kind), secret)
		if err != nil {
			return
		}
		whole := k.Sign(nil, text)
		if len(whole) != k.Type().Size() || !k.Verify(text, whole) {
			t.Errorf("%v: own digest of %d bytes does not verify", k.Type(), len(whole))
		}
		taken := bytes.Equal(digest, whole) || len(whole) > 20 && bytes.Equal(digest, whole[:20])
		if got := k.Verify(text, digest); got != taken {
			t.Errorf("%v: got %v for %x, want %v", k.Type(), got, digest, taken)
		}
	})
}

func BenchmarkSigner(b *testing.B) {
	packet := make([]byte, 48, 48+4+64)
	for _, k := range oneOfEach(b) {
		b.Run("verify and sign "+k.Type().String(), func(b *testing.B) {
			var s mac.Signer
			signed := k.AppendMAC(packet, 3)
			b.ReportAllocs()
			for b.Loop() {
				if !s.Verify(k, signed[:48], signed[52:]) {
					b.Fatal("refused")
				}
				s.AppendMAC(packet, k, k.Type().SizeFor(4))
			}
		})
	}
}
