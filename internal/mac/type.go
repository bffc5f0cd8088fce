// Package mac holds the symmetric keys of NTP: AES-CMAC (RFC 8573) and the keyed
// digests in use besides, digest over secret and message (RFC 5905 §7.3, Appendix
// A.2). Keys are values that any number of goroutines may share; what is needed while
// a digest is worked out lives in a Signer, of which each goroutine has its own.
package mac

import (
	"fmt"
	"strings"
)

// Type is the algorithm of a key. The zero value is none.
type Type uint8

// The types of keys.
const (
	MD5    Type = iota + 1 // RFC 5905 Appendix A; deprecated by RFC 8573
	SHA1                   // FIPS 180-4
	SHA256                 // FIPS 180-4
	SHA384                 // FIPS 180-4
	SHA512                 // FIPS 180-4
	AES128                 // AES-CMAC with a 16-byte key (RFC 8573, RFC 4493)
	AES256                 // AES-CMAC with a 32-byte key (NIST SP 800-38B)
)

var types = [...]struct {
	name string
	size int // bytes of the whole digest
}{{}, {"md5", 16}, {"sha1", 20}, {"sha256", 32}, {"sha384", 48}, {"sha512", 64}, {"aes128-cmac", 16}, {"aes256-cmac", 16}}

// ParseType finds a type by its name in a configuration. The names that other
// programs' key files use for the CMACs are understood too.
func ParseType(name string) (Type, error) {
	switch lower := strings.ToLower(name); lower {
	case "aes128", "aes-128", "aes-128-cmac", "aes":
		return AES128, nil
	case "aes256", "aes-256", "aes-256-cmac":
		return AES256, nil
	default:
		for t := MD5; t <= AES256; t++ {
			if lower == types[t].name {
				return t, nil
			}
		}
	}
	return 0, fmt.Errorf("key type %q is unknown; use md5, sha1, sha256, sha384, sha512, aes128-cmac or aes256-cmac", name)
}

// String returns the type's name in a configuration.
func (t Type) String() string {
	if t == 0 || int(t) >= len(types) {
		return "unknown"
	}
	return types[t].name
}

// Size returns the length of the whole digest in bytes.
func (t Type) Size() int {
	if int(t) >= len(types) {
		return 0
	}
	return types[t].size
}

// truncated is what is left of a longer digest in a version 4 packet, whose trailers
// have at most 24 bytes so that they are told from extension fields (RFC 7822 §3).
const truncated = 20

// SizeFor returns the length in bytes of the digests that we send in packets of
// that version: whole in versions 1 to 3, at most 20 bytes in version 4.
func (t Type) SizeFor(version uint8) int {
	if version >= 4 {
		return min(t.Size(), truncated)
	}
	return t.Size()
}

// Accepts reports whether a digest of n bytes can be of this type: the whole of it,
// or the first 20 bytes of a longer one. Its length alone refuses every other
// (threats 16: a MAC missing or cut short).
func (t Type) Accepts(n int) bool {
	size := t.Size()
	return size > 0 && (n == size || size > truncated && n == truncated)
}
