package responder

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"timeball/internal/ntptime"
)

// Monitor answers control queries (mode 6, RFC 9327): those of ntpq, ntpmon and of checks
// of monitoring systems. It reads only: there is no command that changes anything. One
// goroutine owns it.
type Monitor struct {
	secret [32]byte // of the nonces; drawn at random at every start
	asked  map[clientKey]ntptime.Raw
	// base is the wall time at raw 0 by which the list of clients is dated. It stays while
	// lists are being read, whatever is done to the clock, or no one would fit its next part.
	base ntptime.Wall
}

// NewMonitor makes a monitor; the secret is unpredictable from outside.
func NewMonitor(secret [32]byte) *Monitor {
	return &Monitor{secret: secret, asked: map[clientKey]ntptime.Raw{}}
}

// Control queries have a rate limit of their own, for each client, but for this host's:
// queryBurst of them at once, then one in queryInterval. The parts of a list of clients,
// which only who has a nonce gets, count for a quarter. `ntpq -p` asks once for each
// source, and a list of 65,536 clients has some 700 parts.
const (
	queryInterval = 20 * time.Millisecond
	queryBurst    = 500
	listCost      = queryInterval / 4
	// maxAskers bounds the memory of who has asked.
	maxAskers = 1024
)

// admit reports whether a query of that cost is within its sender's limit.
func (m *Monitor) admit(remote netip.Addr, cost time.Duration, now ntptime.Raw) bool {
	if remote.Unmap().IsLoopback() {
		return true
	}
	key := keyOf(remote)
	due, known := m.asked[key]
	if !known && len(m.asked) >= maxAskers && !m.forgetIdle(now) {
		return false
	}
	if due = max(due, now); due.Sub(now) > queryBurst*queryInterval {
		return false
	}
	m.asked[key] = due.Add(cost)
	return true
}

// forgetIdle makes room by forgetting who has not asked for long; false: all have.
func (m *Monitor) forgetIdle(now ntptime.Raw) bool {
	for key, due := range m.asked { //order: each is looked at by itself
		if due <= now {
			delete(m.asked, key)
		}
	}
	return len(m.asked) < maxAskers
}

// nonceLife is how long a nonce is good (ntpq takes a new one after as long).
const nonceLife = 16 * time.Second

// nonce makes a nonce for an address (RFC 9327 §4, request nonce): a moment, and a MAC of
// it and of the address. Who shows it again has got our reply, so that nobody asks for a
// long list in another's name.
func (m *Monitor) nonce(remote netip.Addr, now ntptime.Raw) string {
	made := ntptime.Timestamp(now)
	return hexDigits(made) + m.proof(remote, made)
}

// fresh reports whether text is a nonce made for that address not long ago.
func (m *Monitor) fresh(text string, remote netip.Addr, now ntptime.Raw) bool {
	const digits = 16
	if len(text) <= digits {
		return false
	}
	raw, err := hex.DecodeString(text[:digits])
	if err != nil {
		return false
	}
	var at ntptime.Timestamp
	for _, b := range raw {
		at = at<<8 | ntptime.Timestamp(b)
	}
	if age := now.Sub(ntptime.Raw(at)); age < 0 || age > nonceLife {
		return false
	}
	return hmac.Equal([]byte(text[digits:]), []byte(m.proof(remote, at)))
}

func (m *Monitor) proof(remote netip.Addr, made ntptime.Timestamp) string {
	h := hmac.New(sha256.New, m.secret[:])
	address := remote.As16()
	h.Write(address[:])
	h.Write([]byte(hexDigits(made)))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func hexDigits(t ntptime.Timestamp) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(t >> (56 - 8*i))
	}
	return hex.EncodeToString(b[:])
}
