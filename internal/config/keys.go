package config

import (
	"fmt"
	"io"
)

// Key is a symmetric key. It never prints its secret, whatever the verb.
type Key struct {
	ID     uint32 // 1 to 2^32-1
	Type   string // one of KeyTypes
	Secret []byte
}

// KeyTypes are the types of keys: the digests in use, and CMAC (RFC 8573).
var KeyTypes = [...]string{"md5", "sha1", "sha256", "sha384", "sha512", "aes128-cmac", "aes256-cmac"}

// String names the key without its secret.
func (k Key) String() string { return fmt.Sprintf("key %d (%s, secret withheld)", k.ID, k.Type) }

// GoString is String: a secret does not show up in %#v either.
func (k Key) GoString() string { return k.String() }

// Format is String for every verb.
func (k Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// MarshalText is String: no encoder writes the secret.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
