package nts

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"timeball/internal/siv"
	"timeball/internal/wire"
)

// longestRequest bounds requests in bytes: chrony answers none above some 1,130.
const longestRequest = 1100

// Client is one end of the exchanges with one server: what a key exchange has brought,
// and the cookies. The zero value has none. It is not safe for concurrent use.
type Client struct {
	worker   Worker
	secrets  Secrets
	c2s, s2c *siv.Key
	cookies  [MaxCookies][]byte // the oldest first
	held     int
	id       [MinUniqueID]byte // of the newest request
	fields   Fields
}

// Install takes what a key exchange, or a file of state, has brought; of the cookies no
// more than eight. What was there before is gone.
func (c *Client) Install(secrets Secrets, cookies [][]byte) error {
	if secrets.Algorithm.KeySize() == 0 {
		return fmt.Errorf("%v is unknown", secrets.Algorithm)
	}
	c.Drop()
	c2s, s2c, err := secrets.Keys()
	if err != nil {
		return err
	}
	for _, cookie := range cookies {
		if !c.keep(cookie) {
			return fmt.Errorf("a cookie of %d bytes; they have 1 to %d", len(cookie), MaxCookie)
		}
	}
	if c.held == 0 {
		return errors.New("no cookie")
	}
	c.secrets, c.c2s, c.s2c = secrets, c2s, s2c
	return nil
}

// Drop forgets keys and cookies.
func (c *Client) Drop() {
	c.secrets, c.c2s, c.s2c, c.held = Secrets{}, nil, nil, 0
	c.id = [MinUniqueID]byte{}
}

// Cookies returns how many cookies are left, 0 to 8.
func (c *Client) Cookies() int { return c.held }

// Algorithm returns the AEAD in use, 0 for none.
func (c *Client) Algorithm() siv.Algorithm { return c.secrets.Algorithm }

// State returns keys and cookies, to be saved. The cookies are c's own.
func (c *Client) State() (Secrets, [][]byte) { return c.secrets, c.cookies[:c.held] }

// keep stores a copy of a cookie behind the others, in place of the oldest one if there
// are eight.
func (c *Client) keep(cookie []byte) bool {
	if len(cookie) == 0 || len(cookie) > MaxCookie {
		return false
	}
	if c.held == MaxCookies {
		c.take()
	}
	c.cookies[c.held] = append(c.cookies[c.held][:0], cookie...)
	c.held++
	return true
}

// take removes the oldest cookie. Its memory is used again by a later one.
func (c *Client) take() []byte {
	oldest := c.cookies[0]
	copy(c.cookies[:], c.cookies[1:c.held])
	c.held--
	c.cookies[c.held] = oldest
	return oldest
}

// AppendRequest appends to packet, a header, what makes it a request with NTS: a fresh
// identifier, one cookie, a placeholder for each one missing that fits, and the
// authenticator (RFC 8915 §5.7); no other field, which some servers would not answer.
// It reports false if there is no cookie. The cookie is gone with it.
func (c *Client) AppendRequest(packet []byte, random Random) ([]byte, bool) {
	if c.held == 0 || c.c2s == nil {
		return packet, false
	}
	appendRandom(c.id[:0], len(c.id), random)
	packet = wire.AppendField(packet, wire.FieldUniqueIdentifier, c.id[:], wire.MinField)
	cookie := c.take()
	packet = wire.AppendField(packet, wire.FieldCookie, cookie, wire.MinField)
	size := max(fieldHead+padded(len(cookie)), wire.MinField)
	for missing := MaxCookies - 1 - c.held; missing > 0; missing-- {
		if len(packet)+size+authenticatorSize(c.secrets.Algorithm, 0) > longestRequest {
			break
		}
		start := 0
		packet, start = wire.BeginField(packet, wire.FieldCookiePlaceholder)
		packet = wire.EndField(packet, start, size)
	}
	return c.worker.appendAuthenticator(packet, nil, c.c2s, random), true
}

// Answer is what the NTS fields of a reply are worth.
type Answer uint8

// The answers.
const (
	// AnswerForged is not known to be the server's: no identifier, or not ours, or an
	// authenticator that is not genuine. Nothing has changed.
	AnswerForged Answer = iota
	// AnswerNAK has our identifier and the kiss code NTSN, which nothing authenticates:
	// a hint at best (RFC 8915 §5.7).
	AnswerNAK
	// AnswerGenuine is the server's; its cookies have been kept.
	AnswerGenuine
)

// Check judges the reply that p was decoded from, which must still be in place. It takes
// replies that are padded inside their authenticator, as chrony's are.
func (c *Client) Check(p *wire.Packet) Answer {
	f := &c.fields
	if !f.Read(p) || c.s2c == nil || subtle.ConstantTimeCompare(f.UniqueID, c.id[:]) != 1 {
		return AnswerForged
	}
	if !f.Authenticated {
		if p.Stratum == wire.StratumKiss && p.ReferenceID == wire.KissNTSN {
			return AnswerNAK
		}
		return AnswerForged
	}
	if len(f.Ciphertext) > len(c.worker.text)+siv.TagSize {
		return AnswerForged
	}
	text, ok := f.open(&c.worker, c.s2c)
	if !ok {
		return AnswerForged
	}
	for fields := wire.WalkFields(text, 0); fields.Next(); {
		if fields.Field.Type == wire.FieldCookie {
			c.keep(fields.Field.Body)
		}
	}
	return AnswerGenuine
}
