package nts

import (
	"timeball/internal/siv"
	"timeball/internal/wire"
)

// Judgement is what a request's NTS fields are worth.
type Judgement uint8

// The judgements.
const (
	// Malformed fields draw silence: no identifier of 32 bytes to return, not just one
	// cookie, no authenticator, or far too long.
	Malformed Judgement = iota
	// Refused ones draw the kiss code NTSN: the cookie is not ours, or the authenticator
	// not its owner's (RFC 8915 §5.7).
	Refused
	// Genuine ones are answered.
	Genuine
)

// Server is the working space of one goroutine that answers requests. What its table of
// key schedules holds, costs no allocation. The zero value is ready.
type Server struct {
	worker  Worker
	secrets Secrets
	table   schedules

	fields   *Fields // of the request being answered
	schedule *schedule
	text     []byte // its cookies, in worker.text
}

// Judge looks at a request of length bytes. The cookies to be given are limited before
// any cryptography (threats 28), and so that the reply has no more than room bytes, which
// are no more than the request's. After Genuine come Prepare and AppendReply, after Refused AppendNAK; f and the request
// must not change before.
func (s *Server) Judge(ring *Ring, f *Fields, length, room int) Judgement {
	bare := wire.HeaderSize + fieldHead + padded(len(f.UniqueID))
	if len(f.UniqueID) < MinUniqueID || bare > room || f.Cookies != 1 || !f.Authenticated || length > MaxMessage {
		return Malformed
	}
	s.fields, s.schedule, s.text = f, nil, nil
	if !ring.OpenCookie(&s.worker, f.Cookie, &s.secrets) {
		return Refused
	}
	n := s.cookies(min(length, room))
	schedule := s.table.find(&s.secrets)
	if n == 0 || schedule == nil {
		return Refused // with a new key exchange its cookies are of our length
	}
	if _, ok := f.open(&s.worker, schedule.c2s); !ok {
		return Refused
	}
	s.schedule, s.text = schedule, s.worker.text[:n*(fieldHead+CookieSize(s.secrets.Algorithm))]
	return Genuine
}

// cookies is how many cookies fit a reply of at most room bytes: one for the one
// used, and one for each placeholder, but not more than eight (RFC 8915 §5.7).
func (s *Server) cookies(room int) int {
	a := s.secrets.Algorithm
	n := min(1+s.fields.Placeholders, MaxCookies)
	for ; n > 0; n-- {
		if wire.HeaderSize+fieldHead+padded(len(s.fields.UniqueID))+authenticatorSize(a, n*(fieldHead+CookieSize(a))) <= room {
			break
		}
	}
	return n
}

// Prepare makes the cookies of the reply, before the transmit timestamp is taken.
func (s *Server) Prepare(ring *Ring, random Random) {
	b := s.worker.text[:0]
	for len(b) < len(s.text) {
		var start int
		b, start = wire.BeginField(b, wire.FieldCookie)
		b = ring.AppendCookie(b, &s.secrets, random)
		b = wire.EndField(b, start, 0)
	}
}

// AppendReply appends to packet, a header, the request's identifier and an authenticator
// with the cookies inside, and nothing else: so NTPsec's client wants it. With room for
// as many bytes as the request has, it allocates nothing.
func (s *Server) AppendReply(packet []byte, random Random) []byte {
	packet = wire.AppendField(packet, wire.FieldUniqueIdentifier, s.fields.UniqueID, wire.MinField)
	return s.worker.appendAuthenticator(packet, s.text, s.schedule.s2c, random)
}

// AppendNAK appends the request's identifier to packet, the header of a kiss-o'-death
// NTSN. Nothing authenticates it (RFC 8915 §5.7).
func (s *Server) AppendNAK(packet []byte) []byte {
	return wire.AppendField(packet, wire.FieldUniqueIdentifier, s.fields.UniqueID, wire.MinLastField)
}

// schedules is a table of the key schedules last used, of bounded size, in sets of which
// the least recently used entry goes.
type schedules struct {
	sets [scheduleSets]*[scheduleWays]*schedule
}

const (
	scheduleSets = 256 // a power of two
	scheduleWays = 4
)

type schedule struct {
	secrets  Secrets
	c2s, s2c *siv.Key
}

// find returns the schedules of these keys, made now if they are not in the table.
func (t *schedules) find(secrets *Secrets) *schedule {
	index := secrets.C2S[0] // keys are random: their bytes spread evenly
	set := t.sets[index]
	if set == nil {
		set = new([scheduleWays]*schedule)
		t.sets[index] = set
	}
	for i, entry := range set {
		if entry != nil && entry.secrets == *secrets {
			copy(set[1:i+1], set[:i])
			set[0] = entry
			return entry
		}
	}
	c2s, s2c, err := secrets.Keys()
	if err != nil {
		return nil
	}
	copy(set[1:], set[:])
	set[0] = &schedule{secrets: *secrets, c2s: c2s, s2c: s2c}
	return set[0]
}
