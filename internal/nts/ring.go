package nts

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"timeball/internal/ntptime"
)

// RingKeySize is the length in bytes of the keys that cookies are sealed under.
const RingKeySize = 32

// Ring is the keys that cookies are sealed under: new cookies under the newest, and
// those of the ones before are still taken (RFC 8915 §6). It does not change once made
// and may be shared. Each key follows from the one before and not the other way round
// (HKDF, RFC 5869): servers that were given the same ring stay in step without another
// word, and what was erased cannot be worked out.
type Ring struct{ keys []ringKey } // the newest first; never empty

type ringKey struct {
	id     uint32
	secret [RingKeySize]byte
	since  ntptime.Wall // when it became the newest
	key    cipher.AEAD
}

// NewRing makes a ring of one key, which is as secret as secret.
func NewRing(secret [RingKeySize]byte, now ntptime.Wall) *Ring {
	return &Ring{keys: []ringKey{newRingKey(secret, now)}}
}

func newRingKey(secret [RingKeySize]byte, since ntptime.Wall) ringKey {
	k := ringKey{secret: secret, since: since}
	k.id = binary.BigEndian.Uint32(expand(secret, "timeball cookie key id", 4))
	block, err := aes.NewCipher(expand(secret, "timeball cookie key, AES-256-GCM", RingKeySize))
	if err != nil {
		panic("nts: " + err.Error()) // our own: the length is right
	}
	if k.key, err = cipher.NewGCMWithNonceSize(block, cookieNonce); err != nil {
		panic("nts: " + err.Error()) // our own: the size is right
	}
	return k
}

func expand(secret [RingKeySize]byte, info string, size int) []byte {
	out, err := hkdf.Expand(sha256.New, secret[:], info, size)
	if err != nil {
		panic("nts: " + err.Error()) // our own: so few bytes can always be had
	}
	return out
}

// maxSteps bounds how many keys Advance passes over at once: a clock that is decades
// ahead must not hold the server up.
const maxSteps = 20000

// Advance returns the ring as it is to be at now: with a new key for every interval
// since the last one, and no more than keep old ones. It returns r itself where nothing
// is due, also if the clock was set back. Every must be positive, keep not negative.
func (r *Ring) Advance(now ntptime.Wall, every time.Duration, keep int) *Ring {
	newest := r.keys[0]
	steps := int64(now.Sub(newest.since) / every)
	if now < newest.since {
		steps = 0
	}
	if steps == 0 && len(r.keys) <= keep+1 {
		return r
	}
	next := append([]ringKey(nil), r.keys...)
	for step := range min(steps, maxSteps) {
		secret := [RingKeySize]byte(expand(next[0].secret, "timeball next cookie key", RingKeySize))
		since := next[0].since.Add(every)
		if step == maxSteps-1 {
			since = now
		}
		next = append([]ringKey{newRingKey(secret, since)}, next[:min(len(next), keep)]...)
	}
	return &Ring{keys: next[:min(len(next), keep+1)]}
}

// Due is when Advance will next do something.
func (r *Ring) Due(every time.Duration) ntptime.Wall { return r.keys[0].since.Add(every) }

// Len returns how many keys there are, 1 or more.
func (r *Ring) Len() int { return len(r.keys) }

// find returns the key of that id, or nil.
func (r *Ring) find(id uint32) cipher.AEAD {
	for i := range r.keys {
		if r.keys[i].id == id {
			return r.keys[i].key
		}
	}
	return nil
}

// ringHead begins a file with a ring.
const ringHead = "timeball-cookie-keys 1\n"

// maxRing is how many keys a file may hold.
const maxRing = 1000

// AppendText appends the ring as its file holds it: a line a key, the newest first, with
// the time from which it was the newest. It is as secret as the keys.
func (r *Ring) AppendText(dst []byte) ([]byte, error) {
	dst = append(dst, ringHead...)
	for i := range r.keys {
		k := &r.keys[i]
		dst = k.since.Time().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, ' ')
		dst = hex.AppendEncode(dst, k.secret[:])
		dst = append(dst, '\n')
	}
	return dst, nil
}

// String says how many keys there are, not which.
func (r *Ring) String() string { return fmt.Sprintf("%d cookie keys, secrets withheld", len(r.keys)) }

// GoString is String: %#v does not show the secrets either.
func (r *Ring) GoString() string { return r.String() }

// ParseRing reads what AppendText wrote. An error never quotes the text.
func ParseRing(text []byte) (*Ring, error) {
	rest, ok := bytes.CutPrefix(text, []byte(ringHead))
	if !ok {
		return nil, errors.New("no file of cookie keys: it does not begin with " + ringHead[:len(ringHead)-1])
	}
	r := &Ring{}
	for n := 2; len(rest) > 0; n++ {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		if !whole || len(r.keys) == maxRing {
			return nil, fmt.Errorf("line %d: cut short, or one of more than %d", n, maxRing)
		}
		at, secretText, _ := bytes.Cut(line, []byte(" "))
		since, err := time.Parse(time.RFC3339Nano, string(at))
		if err != nil || since.Year() < 1970 || since.Year() > 2200 {
			return nil, fmt.Errorf("line %d: no time at its beginning", n)
		}
		var secret [RingKeySize]byte
		if len(secretText) != 2*RingKeySize {
			return nil, fmt.Errorf("line %d: the key is not of %d hexadecimal digits", n, 2*RingKeySize)
		}
		if _, err := hex.Decode(secret[:], secretText); err != nil {
			return nil, fmt.Errorf("line %d: the key is not of %d hexadecimal digits", n, 2*RingKeySize)
		}
		r.keys = append(r.keys, newRingKey(secret, ntptime.WallOf(since)))
	}
	if len(r.keys) == 0 {
		return nil, errors.New("no key in it")
	}
	return r, nil
}
