// Package nts is the authentication of NTP packets by Network Time Security (RFC 8915
// §5): the extension fields, the cookies and the ring of keys they are sealed under, and
// both ends of an exchange, client and server. Nothing here reads a clock, keeps a lock
// or draws random numbers; the key exchange before it is package ntske's.
package nts

import (
	"encoding/binary"

	"timeball/internal/siv"
	"timeball/internal/wire"
)

// Bounds of the protocol, and ours.
const (
	// MaxCookies is how many cookies a client holds and a reply brings (RFC 8915 §5.7).
	MaxCookies = 8
	// MinUniqueID is the least length of a unique identifier in bytes (RFC 8915 §5.3).
	MinUniqueID = 32
	// MaxCookie is the longest cookie that a client takes. What servers give has 64 to
	// 168 bytes.
	MaxCookie = 512
	// MaxMessage is the longest packet with NTS that is looked at: more than eight of the
	// longest cookies need. What is longer costs work and serves nobody.
	MaxMessage = 2048
)

// Worker is the working space of one goroutine. The zero value is ready.
type Worker struct {
	siv  siv.Worker
	keys [2 * siv.MaxKeySize]byte
	text [MaxMessage]byte // what stands encrypted in an authenticator
}

// Fields are the NTS fields of a packet. Their slices point into it.
type Fields struct {
	UniqueID     []byte
	Cookie       []byte
	Cookies      int    // how many Cookie fields there are
	Placeholders int    // those at least as long as Cookie
	Signed       []byte // the bytes that the authenticator covers: all before it
	Nonce        []byte
	Ciphertext   []byte
	// Authenticated says that there is an authenticator. Whether it is genuine, is not
	// known yet.
	Authenticated bool
}

// Present reports whether the packet has any field of NTS.
func (f *Fields) Present() bool {
	return f.Authenticated || f.Cookies > 0 || f.Placeholders > 0 || f.UniqueID != nil
}

// Read finds the NTS fields of the packet that p was decoded from, up to the
// authenticator: what stands behind it is not authenticated, and ignored (RFC 8915
// §5.7). It reports false if they are malformed: an identifier or authenticator twice,
// or an authenticator whose lengths do not fit. p.Signed must still hold the packet.
func (f *Fields) Read(p *wire.Packet) bool {
	*f = Fields{}
	first := p.Cursor()
	early := false // a placeholder came before the cookie that it is measured by
	for c := first; c.Next() && !f.Authenticated; {
		switch c.Field.Type {
		case wire.FieldUniqueIdentifier:
			if f.UniqueID != nil {
				return false
			}
			f.UniqueID = c.Field.Body
		case wire.FieldCookie:
			if f.Cookie == nil {
				f.Cookie = c.Field.Body
			}
			f.Cookies++
		case wire.FieldCookiePlaceholder:
			early = early || f.Cookie == nil
			if len(c.Field.Body) >= len(f.Cookie) {
				f.Placeholders++
			}
		case wire.FieldAuthenticator:
			f.Signed, f.Authenticated = p.Signed[:c.Start], true
			if !f.readAuthenticator(c.Field.Body) {
				return false
			}
		}
	}
	if early {
		f.countPlaceholders(first)
	}
	return true
}

// countPlaceholders counts them anew, now that the cookie is known.
func (f *Fields) countPlaceholders(c wire.FieldCursor) {
	f.Placeholders = 0
	for c.Next() && c.Field.Type != wire.FieldAuthenticator {
		if c.Field.Type == wire.FieldCookiePlaceholder && len(c.Field.Body) >= len(f.Cookie) {
			f.Placeholders++
		}
	}
}

// readAuthenticator reads lengths, nonce and ciphertext, each padded to four bytes;
// padding may follow (RFC 8915 §5.6).
func (f *Fields) readAuthenticator(body []byte) bool {
	const head = 4
	if len(body) < head {
		return false
	}
	nonce, ciphertext := int(binary.BigEndian.Uint16(body)), int(binary.BigEndian.Uint16(body[2:]))
	body = body[head:]
	if padded(nonce)+padded(ciphertext) > len(body) {
		return false
	}
	f.Nonce, f.Ciphertext = body[:nonce], body[padded(nonce):][:ciphertext]
	return true
}

// open checks and decrypts the authenticator; the plaintext stands in w.text.
func (f *Fields) open(w *Worker, key *siv.Key) ([]byte, bool) {
	if !f.Authenticated || !key.Algorithm().AcceptsNonce(len(f.Nonce)) {
		return nil, false
	}
	return w.siv.Open(key, w.text[:], f.Nonce, f.Ciphertext, f.Signed)
}

// appendAuthenticator appends the field that authenticates all of packet, and holds text
// encrypted. Text may stand in w.text. A nonce or ciphertext as long as ours needs no
// padding. The field is made long enough to be a packet's last (RFC 7822 §3).
func (w *Worker) appendAuthenticator(packet, text []byte, key *siv.Key, random Random) []byte {
	a := key.Algorithm()
	signed := len(packet)
	packet, start := wire.BeginField(packet, wire.FieldAuthenticator)
	packet = binary.BigEndian.AppendUint16(packet, uint16(a.NonceSize()))
	packet = binary.BigEndian.AppendUint16(packet, uint16(len(text)+siv.TagSize))
	nonce := len(packet)
	packet = appendRandom(packet, a.NonceSize(), random)
	packet = w.siv.Seal(key, packet, packet[nonce:], text, packet[:signed])
	return wire.EndField(packet, start, wire.MinLastField)
}

// authenticatorSize is the length of the field that appendAuthenticator makes.
func authenticatorSize(a siv.Algorithm, text int) int {
	return fieldHead + 4 + a.NonceSize() + padded(text+siv.TagSize)
}

const fieldHead = 4

// padded rounds up to a multiple of four.
func padded(n int) int { return (n + 3) &^ 3 }
