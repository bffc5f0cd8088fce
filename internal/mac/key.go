package mac

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// maxSecret bounds the secrets of keyed digests, in bytes.
const maxSecret = 256

// Key is a symmetric key with its number on the wire. It does not change once made,
// may be used by several goroutines at once, and never prints its secret.
type Key struct {
	id     uint32
	kind   Type
	secret []byte       // of a keyed digest
	block  cipher.Block // of a CMAC
	k1, k2 [aes.BlockSize]byte
}

// NewKey makes a key. The id must not be 0, a CMAC's secret must have just the length
// of the AES key (16 or 32 bytes, RFC 8573 §3), the secret of a digest 1 to 256 bytes.
func NewKey(id uint32, kind Type, secret []byte) (*Key, error) {
	k := &Key{id: id, kind: kind}
	switch {
	case id == 0:
		return nil, errors.New("key id 0 is no key; use 1 to 4294967295")
	case kind == AES128 && len(secret) != 16, kind == AES256 && len(secret) != 32:
		return nil, fmt.Errorf("key %d: %v needs a secret of %d bytes, this one has %d",
			id, kind, map[Type]int{AES128: 16, AES256: 32}[kind], len(secret))
	case kind == AES128 || kind == AES256:
		return k, k.initCMAC(secret)
	case kind.Size() == 0:
		return nil, fmt.Errorf("key %d: unknown key type %d", id, kind)
	case len(secret) == 0 || len(secret) > maxSecret:
		return nil, fmt.Errorf("key %d: %v needs a secret of 1 to %d bytes, this one has %d", id, kind, maxSecret, len(secret))
	}
	k.secret = append([]byte(nil), secret...)
	return k, nil
}

// ID returns the number of the key on the wire, 1 to 2^32−1.
func (k *Key) ID() uint32 { return k.id }

// Type returns the key's algorithm.
func (k *Key) Type() Type { return k.kind }

// Sign appends the whole digest of message to dst.
func (k *Key) Sign(dst, message []byte) []byte {
	var s Signer
	return append(dst, s.digest(k, message)...)
}

// AppendMAC appends the trailer of a packet of that version: key id, and digest over
// all of packet (RFC 5905 §7.3). Where nothing may be allocated use a Signer.
func (k *Key) AppendMAC(packet []byte, version uint8) []byte {
	var s Signer
	return s.AppendMAC(packet, k, k.kind.SizeFor(version))
}

// Verify reports whether digest, whole or truncated as its type allows, is that of
// message. The time it takes does not depend on where the two differ.
func (k *Key) Verify(message, digest []byte) bool {
	var s Signer
	return s.Verify(k, message, digest)
}

// String names the key without its secret.
func (k *Key) String() string { return fmt.Sprintf("key %d (%v, secret withheld)", k.id, k.kind) }

// GoString is String: %#v does not show the secret either.
func (k *Key) GoString() string { return k.String() }

// Format is String for every verb.
func (k Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// MarshalText is String: no encoder writes the secret.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
