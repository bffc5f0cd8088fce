package config

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"gopkg.in/yaml.v3"
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

// secretRow is one entry of `keys:` as it is written.
type secretRow struct {
	Key
	hex, text string
}

// maxSecret bounds secrets, in bytes: no digest in use gains by more.
const maxSecret = 256

// The kinds of secrets. No message shows any of it.
var (
	hexKind  = kind[string]{"hex", "an even number of hex digits", "00112233...", checkHex}
	textKind = kind[string]{"text", "the secret as text", "'...'", checkText}
)

func checkHex(text string) (string, error) {
	if _, err := hex.DecodeString(text); err != nil || text == "" || len(text) > 2*maxSecret {
		return "", errSecret("is not an even number of hex digits; write two for each byte of the secret")
	}
	return text, nil
}

func checkText(text string) (string, error) {
	if text == "" || len(text) > maxSecret {
		return "", errSecret("has no useful length; write a secret of 1 to 256 characters")
	}
	return text, nil
}

// errSecret is the error of a value that is not to be shown.
type errSecret string

func (e errSecret) Error() string { return string(e) }

// keyList is the top-level key `keys`: the name of a file, or a list in place.
var keyList = field[Config]{
	key:     "keys",
	info:    KeyInfo{Type: "file or list of sections", Default: "none"},
	example: "/etc/timeball/keys.yaml",
	inner:   func() []KeyInfo { return prefixed("[].", secretKeys.keys("")) },
	decode: func(d *decoder, at place, c *Config) {
		if at.node.Kind == yaml.ScalarNode && !isNull(at.node) {
			fileKind.read(d, at, &c.KeyFile)
			return
		}
		c.Keys = d.keys(at)
	},
}

// keys reads a list of keys, sorted by id, and notes which ids there are, those of
// faulty entries too.
func (d *decoder) keys(at place) []Key {
	var keys []Key
	d.keyIDs = map[uint32]string{}
	for _, row := range d.sections(at, "a list of {id: 10, type: aes128-cmac, hex: ...}") {
		if row.node == nil {
			continue
		}
		var r secretRow
		secretKeys.defaults(&r)
		secretKeys.decode(d, row, &r)
		if first, doubled := d.keyIDs[r.ID]; doubled && r.ID != 0 {
			d.report(row.path+".id", "%d is the id of %s already; give each key its own", r.ID, first)
			continue
		}
		d.keyIDs[r.ID] = row.path
		if r.Secret = d.secret(row, &r); r.Secret != nil {
			keys = append(keys, r.Key)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.ID, b.ID) })
	return keys
}

// secret gives the secret of an entry, or nil where a problem has been reported.
func (d *decoder) secret(row place, r *secretRow) []byte {
	if row.node.Kind != yaml.MappingNode {
		return nil
	}
	for _, need := range []string{"id", "type"} {
		if !d.given(row.path + "." + need) {
			d.reportAt(row.node, row.path, "has no %s; write {id: 10, type: aes128-cmac, hex: ...}", need)
		}
	}
	asHex, asText := d.given(row.path+".hex"), d.given(row.path+".text")
	if asHex == asText {
		d.reportAt(row.node, row.path, "needs its secret once; write either hex or text")
		return nil
	}
	secret := []byte(r.text)
	if asHex {
		secret, _ = hex.DecodeString(r.hex) // checked by hexKind
	}
	if len(secret) == 0 || r.ID == 0 || r.Type == "" {
		return nil
	}
	if want := keyLength(r.Type); want != 0 && len(secret) != want {
		d.report(row.path+".type", "%s needs a secret of %d bytes, and this one has %d; make one with `timeball keygen`", r.Type, want, len(secret))
		return nil
	}
	return secret
}

// keyLength is the length a type of key must have, in bytes, or 0 for any.
func keyLength(keyType string) int {
	switch keyType {
	case "aes128-cmac":
		return 16
	case "aes256-cmac":
		return 32
	}
	return 0
}
