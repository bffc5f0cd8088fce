// Package siv holds the two families of authenticated encryption that NTS uses: AES-SIV
// with CMAC (RFC 5297; numbers 15, 16 and 17) and AES-128-GCM-SIV (RFC 8452; number 30).
// A nonce that repeats by accident costs neither its secrecy. Keys are values that any
// number of goroutines may share; the working space of an operation is a Worker's, of
// which each goroutine has its own.
package siv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
	"slices"
)

// Algorithm is the number of an AEAD in IANA's registry (RFC 5116 §6).
type Algorithm uint16

// The algorithms of NTS.
const (
	AESSIVCMAC256 Algorithm = 15 // two AES-128 keys; the one that everybody has (RFC 8915 §5.1)
	AESSIVCMAC384 Algorithm = 16 // two AES-192 keys
	AESSIVCMAC512 Algorithm = 17 // two AES-256 keys
	AES128GCMSIV  Algorithm = 30
)

// TagSize is how many bytes longer than its plaintext a ciphertext is, whatever the
// algorithm.
const TagSize = 16

// MaxKeySize is the length of the longest key in bytes.
const MaxKeySize = 64

// KeySize returns the length of a key in bytes, 0 for an algorithm that is not known.
func (a Algorithm) KeySize() int {
	switch a {
	case AESSIVCMAC256:
		return 32
	case AESSIVCMAC384:
		return 48
	case AESSIVCMAC512:
		return 64
	case AES128GCMSIV:
		return 16
	}
	return 0
}

// NonceSize returns the length in bytes of the nonces to make; 0 for an algorithm that
// is not known. AES-SIV takes others too (RFC 5297 §6), AES-GCM-SIV does not.
func (a Algorithm) NonceSize() int {
	switch {
	case a.KeySize() == 0:
		return 0
	case a == AES128GCMSIV:
		return gcmNonceSize
	}
	return 16
}

// Offset is where in a ciphertext the encrypted plaintext begins: behind the tag with
// AES-SIV (RFC 5297 §2.6), before it with AES-GCM-SIV (RFC 8452 §4).
func (a Algorithm) Offset() int {
	if a == AES128GCMSIV {
		return 0
	}
	return TagSize
}

// AcceptsNonce reports whether a nonce of so many bytes can be used. An empty one makes
// AES-SIV deterministic, and is no part of what it authenticates (RFC 5297 §3).
func (a Algorithm) AcceptsNonce(size int) bool {
	return a.KeySize() != 0 && (a != AES128GCMSIV || size == gcmNonceSize)
}

// String returns the name in IANA's registry.
func (a Algorithm) String() string {
	switch a {
	case AESSIVCMAC256:
		return "AEAD_AES_SIV_CMAC_256"
	case AESSIVCMAC384:
		return "AEAD_AES_SIV_CMAC_384"
	case AESSIVCMAC512:
		return "AEAD_AES_SIV_CMAC_512"
	case AES128GCMSIV:
		return "AEAD_AES_128_GCM_SIV"
	}
	return fmt.Sprintf("AEAD %d", uint16(a))
}

// Key is a key with its schedule. It does not change once made, may be used by several
// goroutines at once, and never prints its secret.
type Key struct {
	algorithm Algorithm
	mac       cipher.Block // SIV: K1, of the CMAC
	block     cipher.Block // SIV: K2, of the counter mode. GCM-SIV: the key-generating key
	k1, k2    block        // SIV: the CMAC's subkeys
	zero      block        // SIV: the CMAC of a block of zeros, where S2V begins
}

type block = [aes.BlockSize]byte

// NewKey makes a key of exactly the algorithm's KeySize. The secret is copied.
func NewKey(a Algorithm, secret []byte) (*Key, error) {
	size := a.KeySize()
	switch {
	case size == 0:
		return nil, fmt.Errorf("AEAD %d is unknown; use 15, 16, 17 or 30", uint16(a))
	case len(secret) != size:
		return nil, fmt.Errorf("%v needs a key of %d bytes, this one has %d", a, size, len(secret))
	}
	k := &Key{algorithm: a}
	if a == AES128GCMSIV {
		k.block = mustAES(secret)
		return k, nil
	}
	k.mac, k.block = mustAES(secret[:size/2]), mustAES(secret[size/2:])
	k.initCMAC()
	return k, nil
}

// mustAES makes a block cipher of a key whose length is known to be right.
func mustAES(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("siv: " + err.Error()) // our own: the length was checked
	}
	return b
}

// Algorithm returns what the key is for.
func (k *Key) Algorithm() Algorithm { return k.algorithm }

// String names the key without its secret.
func (k *Key) String() string { return k.algorithm.String() + " key, secret withheld" }

// GoString is String: %#v does not show the schedule either.
func (k *Key) GoString() string { return k.String() }

// Worker is the working space of one goroutine. With it AES-SIV allocates nothing;
// AES-GCM-SIV makes a key schedule for each message, as RFC 8452 §4 wants. The zero
// value is ready.
type Worker struct {
	d, x, pad, counter block
	poly               polyval
	derived            [2 * aes.BlockSize]byte
}

// Seal encrypts plaintext, authenticates it together with nonce and the associated
// strings, and appends tag and ciphertext to dst. Plaintext may lie where its ciphertext
// goes (Offset bytes behind dst's end), but must not overlap it otherwise. AES-GCM-SIV
// takes at most one associated string, and a nonce of 12 bytes; Seal panics on others,
// which are never the network's to choose.
func (w *Worker) Seal(k *Key, dst, nonce, plaintext []byte, associated ...[]byte) []byte {
	if !k.accepts(nonce, associated) {
		panic("siv: nonce or associated strings that " + k.algorithm.String() + " does not take")
	}
	start, n := len(dst), len(plaintext)
	dst = slices.Grow(dst, n+TagSize)[:start+n+TagSize]
	if k.algorithm == AES128GCMSIV {
		message := w.derive(k, nonce)
		w.gcmTag(message, nonce, plaintext, associated)
		w.gcmCounter(message, dst[start:start+n], plaintext)
		copy(dst[start+n:], w.x[:])
		return dst
	}
	w.s2v(k, nonce, plaintext, associated)
	w.sivCounter(k, dst[start+TagSize:], plaintext)
	copy(dst[start:], w.x[:])
	return dst
}

// Open checks and decrypts ciphertext, its tag included, into dst and returns the
// plaintext, at least TagSize bytes shorter than ciphertext. Dst must have room for it;
// it may be ciphertext[Offset:], but must not overlap otherwise. If something was not
// as it was sealed, ok is false, and what was decrypted is zero again.
func (w *Worker) Open(k *Key, dst, nonce, ciphertext []byte, associated ...[]byte) (plaintext []byte, ok bool) {
	if len(ciphertext) < TagSize || !k.accepts(nonce, associated) || len(dst) < len(ciphertext)-TagSize {
		return nil, false
	}
	n := len(ciphertext) - TagSize
	var tag block
	plaintext = dst[:n]
	copy(tag[:], ciphertext)
	if k.algorithm == AES128GCMSIV {
		copy(tag[:], ciphertext[n:])
	}
	w.x = tag
	if k.algorithm == AES128GCMSIV {
		message := w.derive(k, nonce)
		w.gcmCounter(message, plaintext, ciphertext[:n])
		w.gcmTag(message, nonce, plaintext, associated)
	} else {
		w.sivCounter(k, plaintext, ciphertext[TagSize:])
		w.s2v(k, nonce, plaintext, associated)
	}
	if subtle.ConstantTimeCompare(w.x[:], tag[:]) != 1 {
		clear(plaintext)
		return nil, false
	}
	return plaintext, true
}

// accepts reports whether the algorithm takes such a nonce and as many strings.
func (k *Key) accepts(nonce []byte, associated [][]byte) bool {
	if k.algorithm == AES128GCMSIV {
		return len(nonce) == gcmNonceSize && len(associated) <= 1
	}
	return len(associated) <= maxStrings
}
