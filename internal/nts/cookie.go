package nts

import (
	"encoding/binary"

	"timeball/internal/siv"
)

// Cookies of this server, after the suggestion of RFC 8915 §6: the id of the ring's key,
// a nonce, the two keys of the client, encrypted, and a tag. The length of the keys tells
// their algorithm, which therefore needs no place.
//
// They are sealed by AES-256-GCM, which costs a third of AES-SIV and, unlike that, must
// never see a nonce twice under one key, also where several servers share a ring. A
// random nonce of 16 bytes, hashed to the first counter (NIST SP 800-38D §7.1), sees to
// that: 2^36 cookies, a day at 800,000 a second, meet with a chance below 2^-53.
const (
	cookieID       = 4
	cookieNonce    = 16
	cookieTag      = 16
	cookiePrefix   = cookieID + cookieNonce
	cookieOverhead = cookiePrefix + cookieTag
	// MaxOwnCookie is the length of the longest cookie that a Ring seals: 100 bytes for
	// AEAD 15, 132 for 16, 164 for 17, 68 for 30. Each is a multiple of four.
	MaxOwnCookie = cookieOverhead + 2*siv.MaxKeySize
)

// Secrets are the two keys that a key exchange gives to both ends (RFC 8915 §5.1): the
// client seals its requests with C2S, the server its replies with S2C.
type Secrets struct {
	Algorithm siv.Algorithm
	C2S, S2C  [siv.MaxKeySize]byte // the first Algorithm.KeySize bytes count, the rest is zero
}

// String names the algorithm, not the keys.
func (s Secrets) String() string { return s.Algorithm.String() + " keys, secrets withheld" }

// GoString is String: %#v does not show the keys either.
func (s Secrets) GoString() string { return s.String() }

// Keys makes the two keys with their schedules.
func (s *Secrets) Keys() (c2s, s2c *siv.Key, err error) {
	n := s.Algorithm.KeySize()
	if c2s, err = siv.NewKey(s.Algorithm, s.C2S[:n]); err != nil {
		return nil, nil, err
	}
	s2c, err = siv.NewKey(s.Algorithm, s.S2C[:n])
	return c2s, s2c, err
}

// CookieSize returns the length in bytes of this server's cookies for an algorithm.
func CookieSize(a siv.Algorithm) int { return cookieOverhead + 2*a.KeySize() }

// algorithmOf is the algorithm of a cookie of so many bytes, 0 for none.
func algorithmOf(size int) siv.Algorithm {
	for _, a := range [...]siv.Algorithm{siv.AESSIVCMAC256, siv.AESSIVCMAC384, siv.AESSIVCMAC512, siv.AES128GCMSIV} {
		if size == CookieSize(a) {
			return a
		}
	}
	return 0
}

// Random gives 64 uniformly distributed bits that an outsider cannot predict.
type Random interface{ Uint64() uint64 }

// appendRandom appends bytes random bytes.
func appendRandom(dst []byte, size int, random Random) []byte {
	for ; size >= 8; size -= 8 {
		dst = binary.BigEndian.AppendUint64(dst, random.Uint64())
	}
	for ; size > 0; size -= 4 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(random.Uint64()))
	}
	return dst
}

// AppendCookie appends a new cookie with those keys, sealed under the ring's newest.
func (r *Ring) AppendCookie(dst []byte, secrets *Secrets, random Random) []byte {
	newest := &r.keys[0]
	start, n := len(dst), secrets.Algorithm.KeySize()
	dst = binary.BigEndian.AppendUint32(dst, newest.id)
	dst = appendRandom(dst, cookieNonce, random)
	dst = append(dst, secrets.C2S[:n]...)
	dst = append(dst, secrets.S2C[:n]...)
	head := dst[start : start+cookiePrefix]
	return newest.key.Seal(dst[:start+cookiePrefix], head[cookieID:], dst[start+cookiePrefix:], head[:cookieID])
}

// OpenCookie reads a cookie into secrets and reports whether one of the ring's keys
// sealed it. If not, secrets is zero.
func (r *Ring) OpenCookie(w *Worker, cookie []byte, secrets *Secrets) bool {
	*secrets = Secrets{}
	algorithm := algorithmOf(len(cookie))
	if algorithm == 0 {
		return false
	}
	key := r.find(binary.BigEndian.Uint32(cookie))
	if key == nil {
		return false
	}
	n := algorithm.KeySize()
	both, err := key.Open(w.keys[:0], cookie[cookieID:cookiePrefix], cookie[cookiePrefix:], cookie[:cookieID])
	if err != nil {
		return false
	}
	secrets.Algorithm = algorithm
	copy(secrets.C2S[:], both[:n])
	copy(secrets.S2C[:], both[n:])
	clear(both)
	return true
}
