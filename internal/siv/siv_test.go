package siv

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, a Algorithm, secret []byte) *Key {
	t.Helper()
	k, err := NewKey(a, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var algorithms = []Algorithm{AESSIVCMAC256, AESSIVCMAC384, AESSIVCMAC512, AES128GCMSIV}

// count is the bytes from, from+1 and so on.
func count(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from + i)
	}
	return b
}

type vector struct {
	name, key, nonce, plaintext string
	associated                  []string
	want                        string
}

func (v vector) check(t *testing.T, a Algorithm) {
	t.Helper()
	var w Worker
	k := newKey(t, a, unhex(t, v.key))
	var associated [][]byte
	for _, s := range v.associated {
		associated = append(associated, unhex(t, s))
	}
	nonce, plaintext := unhex(t, v.nonce), unhex(t, v.plaintext)
	got := w.Seal(k, nil, nonce, plaintext, associated...)
	if want := unhex(t, v.want); !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", v.name, got, want)
		return
	}
	opened, ok := w.Open(k, make([]byte, len(plaintext)), nonce, got, associated...)
	if !ok || !bytes.Equal(opened, plaintext) {
		t.Errorf("%s: opened: got %x, %v, want %x", v.name, opened, ok, plaintext)
	}
}

func TestRFC5297_A_TestVectors(t *testing.T) {
	for _, v := range []vector{
		{"A.1 deterministic", "fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff", "",
			"11223344 55667788 99aabbcc ddee", []string{"10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627"},
			"85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c"},
		{"A.2 with a nonce and two strings", "7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f",
			"09f91102 9d74e35b d84156c5 635688c0",
			"74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 74207573 696e6720 5349562d 414553",
			[]string{"00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100", "10203040 50607080 90a0"},
			"7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748 ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d"},
	} {
		v.check(t, AESSIVCMAC256)
	}
}

func TestRFC8452_C_1_TestVectors(t *testing.T) {
	const one, three = "01000000000000000000000000000000", "030000000000000000000000"
	for i, v := range []vector{
		{"", one, three, "", nil, "dc20e2d83f25705bb49e439eca56de25"},
		{"", one, three, "0100000000000000", nil, "b5d839330ac7b786578782fff6013b815b287c22493a364c"},
		{"", one, three, "01000000000000000000000000000000", nil, "743f7c8077ab25f8624e2e948579cf77303aaf90f6fe21199c6068577437a0c4"},
		{"", one, three, "0100000000000000000000000000000002000000000000000000000000000000", nil,
			"84e07e62ba83a6585417245d7ec413a9fe427d6315c09b57ce45f2e3936a94451a8e45dcd4578c667cd86847bf6155ff"},
		{"", one, three, "0200000000000000", []string{"01"}, "1e6daba35669f4273b0a1a2560969cdf790d99759abd1508"},
		{"", one, three, "02000000", []string{"010000000000000000000000"}, "a8fe3e8707eb1f84fb28f8cb73de8e99e2f48a14"},
		{"", one, three, "0300000000000000000000000000000004000000", []string{"010000000000000000000000000000000200"},
			"6bb0fecf5ded9b77f902c7d5da236a4391dd029724afc9805e976f451e6d87f6fe106514"},
		{"", "e66021d5eb8e4f4066d4adb9c33560e4", "f46e44bb3da0015c94f70887", "", nil, "a4194b79071b01a87d65f706e3949578"},
		{"", "36864200e0eaf5284d884a0e77d31646", "bae8e37fc83441b16034566b", "7a806c", []string{"46bb91c3c5"}, "af60eb711bd85bc1e4d3e0a462e074eea428a8"},
		{"", "f901cfe8a69615a93fdf7a98cad48179", "6245709fb18853f68d833640", "e42a3c02c25b64869e146d7b233987bddfc240871d",
			[]string{"7576f7028ec6eb5ea7e298342a94d4b202b370ef9768ec6561c4fe6b7e7296fa859c21"},
			"391cc328d484a4f46406181bcd62efd9b3ee197d052d15506c84a9edd65e13e9d24a2a6e70"},
	} {
		v.name = fmt.Sprintf("vector %d", i+1)
		v.check(t, AES128GCMSIV)
	}
}

func TestRFC8452_A_Polyval(t *testing.T) {
	var p polyval
	p.init(unhex(t, "25629347589242761d31f826ba4b757b"))
	p.update(unhex(t, "4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362"))
	var got block
	p.sum(&got)
	if want := "f7a3b47b846119fae5b7866cf5e5b77e"; hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

// TestAgainstOpenSSL has what OpenSSL's AES-SIV and AES-GCM-SIV make of counting bytes,
// at every kind of end that a plaintext can have; of the longest the SHA-256.
func TestAgainstOpenSSL(t *testing.T) {
	for _, test := range []struct {
		algorithm Algorithm
		plaintext int
		want      string
	}{
		{AESSIVCMAC256, 0, "8b32b42ca38fcd8b70bbd37a0dc8d164"},
		{AESSIVCMAC256, 1, "30c1547ba69c5bd2f232f5cd4bac23d39c"},
		{AESSIVCMAC256, 15, "35b4dc07f40835921d8021632333f01998e4bbd1eb864ad419a7482868c3a1"},
		{AESSIVCMAC256, 16, "3fe55e84aee9f7c37bbc8f204d2501de6435643712ca6110231f69e4a54cf8c3"},
		{AESSIVCMAC256, 17, "aff52b25e374df8442234065347a966243d73fea67016e8ef4af215692555a420f"},
		{AESSIVCMAC256, 31, "d84d4c3de52473d1775e47ac79f66ac6bc06ba48e3e9118089f6ab0d5447fba7791d630c46b33cf75ce3e947eba012"},
		{AESSIVCMAC256, 32, "7693c90215b793782ec990e602f26aea8740de5c2de8363be377f4932aaf95692b5470fed6ac9cf0718ef6bc27a4a5a8"},
		{AESSIVCMAC256, 33, "0d96c8f2f3e1ea420e03eee813677d136c921e7191c3b67c364926fb396241883011899bc45f6177f49853240376dc69bd"},
		{AESSIVCMAC256, 100, "67d0a62a2c0f6695d1bb3050698db8cef4fa67513eb6bebd3273a621ab1d54f4"},
		{AESSIVCMAC384, 0, "d6129d78cd16a3415d1b063939789acd"},
		{AESSIVCMAC384, 1, "29411be293328e5a99a83f554bc6dc1982"},
		{AESSIVCMAC384, 15, "1df5ca4b63dedfeec3fb7fc8b02fb49a2bfc9720ef5efb7fdbbe27b04ac176"},
		{AESSIVCMAC384, 16, "14ded4111b99e3b78fd556aba858481be6f4052c98f95c09cdef431aa654c8bf"},
		{AESSIVCMAC384, 17, "e2e453e04118b63bb72dfc494992f180f92fc87aa301172d60b6c83f2334dc3b1c"},
		{AESSIVCMAC384, 31, "155af3f683bb8d1e4f3d07a1d7a844d31f68ca166094e03d21fd77348846fb3847c4b60f1e5c75a8dccda7113b6022"},
		{AESSIVCMAC384, 32, "bdd09551c5406ed3e1fc5a2015a01786481391167f62861d94c93c8d9cbaea0d1612e7e04ca09648dcb3df70b2d3361e"},
		{AESSIVCMAC384, 33, "85ddc9c76bba9686bb0eb3f82d757b036742e5d2777d0e0ef3ad71e6907327715266b470904b6e578aacb5ae3e92a0fc18"},
		{AESSIVCMAC384, 100, "ece44fa85b85f006e7021c9d3ac288e948979098b666ada61d0b2c6c364e0fa6"},
		{AESSIVCMAC512, 0, "1cc3e5b38d7876f8867efda1a41e7c83"},
		{AESSIVCMAC512, 1, "d4c1efd46b653aba25e86faa4c0121a068"},
		{AESSIVCMAC512, 15, "5720b04c1a088ed8ca97ee5bf3cbb09252e75d0a63a14fda9d1e35d0c4d4d0"},
		{AESSIVCMAC512, 16, "99205031b184a87620190be2c78ac0b45d930dee56e1f3446ab03d6e6a2fe550"},
		{AESSIVCMAC512, 17, "42e10e573b5f98fe03fd58eb345f429b9a44a82717eeb82a3fac54b6bd61cd4334"},
		{AESSIVCMAC512, 31, "5f27c6203e26ceb0c7d0a4d8e5f84b1ac8c0a7210e77f87c091e43296ff33c797ce098d429734f01e17d7617f5e199"},
		{AESSIVCMAC512, 32, "3d312f4650b791db2e1159aa24bd0d6ad6d1ba5efa85bc6559a32ed121198da14d75c92192cd8a1fdc66064b2f9ea841"},
		{AESSIVCMAC512, 33, "0893a330696fbc0ebc21cc4356ac90a6f4826c266f88c44d3e90b19d9b5f11427ceca12c60764fd5b5b2844fb33746b8cb"},
		{AESSIVCMAC512, 100, "044d584b66bedb9d7fcc89a6477c7805aaa2291803b4712c8870a89b1e0930fe"},
		{AES128GCMSIV, 0, "7efd402c37a544b62b8220ea8567fcf9"},
		{AES128GCMSIV, 1, "aec082e8511fd8ebe5bedcd1a582ddc74d"},
		{AES128GCMSIV, 15, "ed5aa74559167b821deafd0aaa24122a9029abc28816becd2116039007f9a4"},
		{AES128GCMSIV, 16, "34a250bce8d62b3083149f8d55e0d29898dae471cd2a0347e339ebe225868d85"},
		{AES128GCMSIV, 17, "09590120b6cca08faec517f6db481f0b89882c95c8155841a00c495a0efa457770"},
		{AES128GCMSIV, 31, "37530f78a7fb1b620dab2d3979a589f1d9b2cf42c29ae666f448a011b8b388888c523776c150514d51d0013a39267c"},
		{AES128GCMSIV, 32, "f6d8c94675e8c0da62009810ec316ad46171bd7cf949d9aa4abd1b6cc39ad6abed52fd857f6aa38997c7d37b025cbba2"},
		{AES128GCMSIV, 33, "617066000fa7bb0b7478688c6bead2f345924d1d949d72198609afcdb6fdadc1d4fa3357f8af14309b398ce8aa54bb58c1"},
		{AES128GCMSIV, 100, "c6603a3d494b89b4d7d81e80d6c87441a7f43c3d6584198d1c71efb21f28b619"},
	} {
		k := newKey(t, test.algorithm, count(0, test.algorithm.KeySize()))
		var w Worker
		got := w.Seal(k, nil, count(100, test.algorithm.NonceSize()), count(0, test.plaintext), count(0, 48+test.plaintext))
		if len(got) > 64 {
			sum := sha256.Sum256(got)
			got = sum[:]
		}
		if hex.EncodeToString(got) != test.want {
			t.Errorf("%v, plaintext of %d: got %x, want %s", test.algorithm, test.plaintext, got, test.want)
		}
	}
}

func TestSealAppendsAndWorksInPlace(t *testing.T) {
	for _, a := range algorithms {
		k, nonce := newKey(t, a, count(7, a.KeySize())), count(1, a.NonceSize())
		for n := range 70 {
			var w Worker
			plaintext, ad := count(3, n), count(9, n)
			want := w.Seal(k, nil, nonce, plaintext, ad)
			buffer := make([]byte, 5+TagSize+n)
			copy(buffer[5+a.Offset():], plaintext)
			got := w.Seal(k, buffer[:5], nonce, buffer[5+a.Offset():][:n], ad)
			if !bytes.Equal(got[5:], want) || &got[0] != &buffer[0] {
				t.Fatalf("%v, %d bytes: sealed in place: got %x, want %x", a, n, got[5:], want)
			}
			opened, ok := w.Open(k, got[5+a.Offset():], nonce, got[5:], ad)
			if !ok || !bytes.Equal(opened, plaintext) {
				t.Fatalf("%v, %d bytes: opened in place: got %x, %v", a, n, opened, ok)
			}
		}
	}
}

// A flipped bit anywhere is found, and nothing of the plaintext is left.
func TestOpenFindsEveryFlippedBit(t *testing.T) {
	for _, a := range algorithms {
		k, nonce, ad, plaintext := newKey(t, a, count(7, a.KeySize())), count(1, a.NonceSize()), count(9, 52), bytes.Repeat([]byte{0xa5}, 37)
		var w Worker
		sealed := w.Seal(k, nil, nonce, plaintext, ad)
		for name, part := range map[string][]byte{"ciphertext": sealed, "nonce": nonce, "associated": ad} {
			for bit := range len(part) * 8 {
				part[bit/8] ^= 1 << (bit % 8)
				dst := bytes.Repeat([]byte{0xee}, len(plaintext))
				if opened, ok := w.Open(k, dst, nonce, sealed, ad); ok || opened != nil {
					t.Errorf("%v: %s with bit %d flipped was taken", a, name, bit)
				}
				if !bytes.Equal(dst, make([]byte, len(dst))) {
					t.Errorf("%v: %s with bit %d flipped: %x is left of the plaintext", a, name, bit, dst)
				}
				part[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, a := range algorithms {
		k, other := newKey(t, a, count(7, a.KeySize())), newKey(t, a, count(8, a.KeySize()))
		nonce := count(1, a.NonceSize())
		var w Worker
		sealed := w.Seal(k, nil, nonce, count(0, 20), count(0, 48))
		for n := range len(sealed) {
			if _, ok := w.Open(k, make([]byte, 64), nonce, sealed[:n], count(0, 48)); ok {
				t.Errorf("%v: %d bytes of %d were taken", a, n, len(sealed))
			}
		}
		if _, ok := w.Open(other, make([]byte, 64), nonce, sealed, count(0, 48)); ok {
			t.Errorf("%v: opened by another key", a)
		}
		if _, ok := w.Open(k, make([]byte, 64), nonce, append(sealed, 0), count(0, 48)); ok {
			t.Errorf("%v: opened with a byte more", a)
		}
		if _, ok := w.Open(k, make([]byte, 19), nonce, sealed, count(0, 48)); ok {
			t.Errorf("%v: opened without room", a)
		}
		if _, ok := w.Open(k, make([]byte, 64), nonce[:8], sealed, count(0, 48)); ok {
			t.Errorf("%v: opened by a shorter nonce", a)
		}
		if _, ok := w.Open(k, make([]byte, 64), nonce, sealed); ok {
			t.Errorf("%v: opened without the associated string", a)
		}
	}
}

func TestSealPanicsOnWhatNobodyMaySend(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("AES-GCM-SIV took a nonce of 16 bytes")
		}
	}()
	var w Worker
	w.Seal(newKey(t, AES128GCMSIV, count(0, 16)), nil, count(0, 16), nil)
}

func TestNewKeyRefuses(t *testing.T) {
	for _, test := range []struct {
		a    Algorithm
		size int
		want string
	}{
		{AESSIVCMAC256, 16, "AEAD_AES_SIV_CMAC_256 needs a key of 32 bytes, this one has 16"},
		{AES128GCMSIV, 32, "AEAD_AES_128_GCM_SIV needs a key of 16 bytes, this one has 32"},
		{31, 32, "AEAD 31 is unknown; use 15, 16, 17 or 30"},
	} {
		if k, err := NewKey(test.a, make([]byte, test.size)); k != nil || err == nil || err.Error() != test.want {
			t.Errorf("got %v, %v, want %q", k, err, test.want)
		}
	}
}

func TestKeyKeepsItsSecret(t *testing.T) {
	k := newKey(t, AESSIVCMAC256, []byte("a secret that must never be seen"))
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k)} {
		if !strings.Contains(text, "secret withheld") || strings.Contains(text, "must never") {
			t.Errorf("got %q", text)
		}
	}
}

func TestAESSIVAllocatesNothing(t *testing.T) {
	for _, a := range algorithms[:3] {
		k, w := newKey(t, a, count(7, a.KeySize())), new(Worker)
		nonce, ad, buffer := count(1, 16), count(0, 188), make([]byte, 0, 512)
		if n := testing.AllocsPerRun(100, func() {
			sealed := w.Seal(k, buffer, nonce, ad[:104], ad)
			if _, ok := w.Open(k, sealed[TagSize:], nonce, sealed, ad); !ok {
				t.Fail()
			}
		}); n != 0 {
			t.Errorf("%v: got %v allocations, want 0", a, n)
		}
	}
}

// FuzzSeal holds both ends together, and Open to take nothing but what was sealed.
func FuzzSeal(f *testing.F) {
	f.Add(uint8(0), []byte("plaintext"), []byte("associated"), []byte("a nonce of sixtn"), 3)
	f.Fuzz(func(t *testing.T, which uint8, plaintext, associated, nonce []byte, at int) {
		a := algorithms[which%4]
		k, w := newKey(t, a, count(7, a.KeySize())), new(Worker)
		if !a.AcceptsNonce(len(nonce)) {
			if _, ok := w.Open(k, make([]byte, len(plaintext)), nonce, plaintext, associated); ok {
				t.Fatal("opened by a nonce that is none")
			}
			return
		}
		sealed := w.Seal(k, nil, nonce, plaintext, associated)
		opened, ok := w.Open(k, make([]byte, len(plaintext)), nonce, sealed, associated)
		if !ok || !bytes.Equal(opened, plaintext) {
			t.Fatalf("got %x, %v, want %x", opened, ok, plaintext)
		}
		sealed[uint(at)%uint(len(sealed))] ^= 0x10
		if _, ok := w.Open(k, make([]byte, len(plaintext)), nonce, sealed, associated); ok {
			t.Fatal("took a changed byte")
		}
		if _, ok := w.Open(k, make([]byte, len(plaintext)), nonce, plaintext, associated); ok {
			t.Fatal("took what was never sealed")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, a := range algorithms {
		b.Run(a.String(), func(b *testing.B) {
			k, w := newKey(b, a, count(7, a.KeySize())), new(Worker)
			nonce, ad, buffer := count(1, a.NonceSize()), count(0, 84), make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				w.Seal(k, buffer, nonce, ad, ad)
			}
		})
	}
}
