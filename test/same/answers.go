package same

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Answers is a client's or a peer's configuration, whose one source is called SERVER, and what
// it gets to its first request, which is in mode 3, one datagram after the other. The last one
// ends the exchange.
type Answers struct {
	Name    string
	Config  string
	Replies []Reply
}

// Reply makes a datagram for a request that came at a moment of the server's clock.
type Reply struct {
	Name string
	Make func(request []byte, at ntptime.Timestamp) []byte
}

// AllAnswers are those that it has to tell apart.
func AllAnswers(t *testing.T) (list []Answers) {
	t.Helper()
	cfg, problems := config.Parse("keys", []byte(keys))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ring, err := engine.Keys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, change func(b []byte) []byte) Reply {
		return Reply{name, func(request []byte, at ntptime.Timestamp) []byte { return change(plainReply(request, at)) }}
	}
	good := func(b []byte) []byte { return b }
	kiss := func(code string) func([]byte) []byte {
		return func(b []byte) []byte {
			b[0], b[1] = b[0]|0xc0, 0
			copy(b[12:], code)
			return b
		}
	}
	signed := func(change func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte { return engine.Key(ring, 10).AppendMAC(change(b), 4) }
	}
	// Nobody who has not seen the request, or has not the key, changes anything.
	forged := []Reply{
		with("of another request", func(b []byte) []byte { b[24] ^= 1; return b }),
		with("RATE for another request", func(b []byte) []byte { b[24] ^= 1; return kiss("RATE")(b) }),
		with("of mode 1", func(b []byte) []byte { b[0] = b[0]&^7 | 1; return b }),
		with("too short", func(b []byte) []byte { return b[:40] }),
	}
	unsigned := []Reply{
		with("unsigned", good), with("unsigned RATE", kiss("RATE")), with("unsigned DENY", kiss("DENY")),
		with("a wrong MAC", func(b []byte) []byte { b = signed(good)(b); b[len(b)-1] ^= 1; return b }),
		with("a crypto-NAK", func(b []byte) []byte { return append(b, 0, 0, 0, 0) }),
	}
	for _, last := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"the time", good}, {"RATE", kiss("RATE")}, {"DENY", kiss("DENY")}, {"RSTR", kiss("RSTR")}, {"an unknown kiss", kiss("XYZZ")},
		{"no time", func(b []byte) []byte { b[0] |= 0xc0; return b }},
		{"a root distance beyond all use", func(b []byte) []byte { b[8] = 1; return b }},
	} {
		const polls = "SERVER, iburst: false, min_poll: 6, max_poll: 10"
		plain := append(forged[:len(forged):len(forged)], with(last.name, last.change))
		bySignature := append(unsigned[:len(unsigned):len(unsigned)], with(last.name, signed(last.change)))
		list = append(list,
			Answers{last.name, "sources: [{server: " + polls + "}]\n", plain},
			Answers{last.name + " with a key", keys + "sources: [{server: " + polls + ", key: 10}]\n", bySignature},
			Answers{last.name + " to a peer", keys + "sources: [{peer: " + polls + ", key: 10}]\nserver: {}\n", bySignature})
	}
	return list
}

// plainReply is a primary server's.
func plainReply(request []byte, at ntptime.Timestamp) []byte {
	b := make([]byte, wire.HeaderSize)
	b[0], b[1], b[2], b[3] = request[0]&0x38|uint8(wire.ModeServer), 1, request[2], 0xec
	copy(b[12:], "GPS\x00")
	copy(b[24:], request[40:48])
	binary.BigEndian.PutUint64(b[32:], uint64(at))
	binary.BigEndian.PutUint64(b[40:], uint64(at))
	return b
}

// Judged is how many of the answers a client has judged, by its status; all where it is gone.
func (a *Answers) Judged(s *model.SourceStatus) int {
	if s == nil {
		return len(a.Replies)
	}
	n := s.Accepted
	for _, rejected := range s.Rejected {
		n += rejected
	}
	return int(n)
}

// Decided is what a client has made of the answers, by its status; nil: it is gone.
func Decided(a Answers, s *model.SourceStatus) string {
	var b strings.Builder
	for i, r := range a.Replies {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(r.Name)
	}
	if s == nil {
		return b.String() + ": it has ended\n"
	}
	b.WriteString("\n")
	fmt.Fprintf(&b, "accepted %d", s.Accepted)
	for reason, n := range s.Rejected {
		if n > 0 {
			fmt.Fprintf(&b, ", %s %d", model.RejectReason(reason), n)
		}
	}
	for code, n := range s.Kisses {
		if n > 0 {
			fmt.Fprintf(&b, ", kiss %s %d", model.KissCode(code), n)
		}
	}
	if s.Reach == 0 { // else the system process has a say in the interval
		fmt.Fprintf(&b, ", not reached, polls every %s", s.Interval)
	}
	fmt.Fprintf(&b, ", stratum %d\n", s.Server.Stratum)
	return b.String()
}

// KeyExchange is a configuration of a client by NTS, whose one source is called SERVER and
// has the option NTS, and what it makes of the server's certificate.
type KeyExchange struct {
	Name   string
	Config string
	Behind time.Duration // the client's clock, when it starts; the certificate is valid now
	Server bool          // the server does NTS
}

// KeyExchanges are those that a client has to tell apart.
func KeyExchanges() []KeyExchange {
	const source = "sources: [{server: SERVER, NTS, no_select: true, iburst: false, min_poll: 6}]\n"
	const year = 365 * 24 * time.Hour
	return []KeyExchange{
		{"a clock that is right", source + "nts: {state: \"\"}\n", 0, true},
		{"a clock that was never set", source + "nts: {state: \"\"}\n", year, true},
		{"a clock that was never set, and every date is checked", source + "nts: {state: \"\", cold_start: false}\n", year, true},
		{"a server without NTS", source + "nts: {state: \"\"}\n", 0, false},
	}
}

// Keyed is what a client has made of a key exchange, by its status; false: it is not over.
func Keyed(s *model.SourceStatus) (string, bool) {
	text := fmt.Sprintf("%s, dates checked %t, cookies %d, replies accepted %t", s.Security.State, !s.Security.Undated, s.Security.Cookies, s.Accepted > 0)
	if s.Security.FailureKind != "" {
		text += ", failure " + s.Security.FailureKind
	}
	return text + "\n", s.Security.State == model.KeysFailed || s.Accepted > 0
}
