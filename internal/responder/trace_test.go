package responder_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/responder"
	"timeball/internal/siv"
	"timeball/internal/wire"
	"timeball/test/golden"
)

// trace writes down what is asked and what is answered. A timestamp is c's that the client
// has made, s's that is one of ours; those of kisses and resets are 0.
type trace struct {
	golden.Trace
	w *world
}

func newTrace(w *world) *trace { return &trace{w: w} }

// packet writes a packet down.
func (r *trace) packet(data []byte, by string) string {
	var p wire.Packet
	if defect := p.Decode(data); defect != wire.DefectNone {
		return fmt.Sprintf("%d bytes: %v", len(data), defect)
	}
	text := fmt.Sprintf("mode %d v%d  org %s rec %s xmt %s", p.Mode, p.Version,
		r.Timestamp(p.Origin, by), r.Timestamp(p.Receive, by), r.Timestamp(p.Transmit, by))
	switch {
	case by == "c":
	case p.Stratum == 0 && p.ReferenceID != 0:
		text += "  kiss " + p.ReferenceID.Text()
	default:
		text += strings.TrimRight(fmt.Sprintf("  leap %d stratum %d %s", p.Leap, p.Stratum, p.ReferenceID.Format(p.Stratum)), " ")
	}
	for c := p.Cursor(); c.Next(); {
		text += fmt.Sprintf("  field %#04x", uint16(c.Field.Type))
	}
	if p.HasMAC {
		text += fmt.Sprintf("  key %d", p.KeyID)
	}
	return text
}

// ask sends a datagram and writes it down with what becomes of it; a transmit timestamp
// that is asked for comes back.
func (r *trace) ask(from netip.AddrPort, to netip.Addr, data []byte) []byte {
	w := r.w
	rx := &model.Received{Data: data, Remote: from, Local: to, Interface: 2, At: w.now}
	reply, v := w.receive(rx)
	r.Printf("%s -> %s\n", from, r.packet(data, "c"))
	verdict := v.Result.String()
	if v.Reason != responder.ReasonNone {
		verdict += " (" + v.Reason.String() + ")"
	}
	if reply != nil {
		r.Printf("    %s: %s\n", verdict, r.packet(reply, "s"))
	} else {
		r.Printf("    %s: silence\n", verdict)
	}
	if v.TimestampID != 0 {
		left := w.later(w.took + 3*time.Microsecond)
		w.shard.Transmitted(v.TimestampID, left)
		r.Printf("    it left at %s\n", r.Timestamp(left.Timestamp(), "s"))
	}
	w.pass(time.Second)
	return reply
}

// asked is a request of a mode and version, with a transmit timestamp of its own.
func asked(mode wire.Mode, version uint8, n int) wire.Header {
	return wire.Header{Version: version, Mode: mode, Poll: 6, Transmit: 0xabcdef00<<32 + ntptime.Timestamp(n)}
}

// The life of a request, docs/WALK.md 1: what is answered, how, and what is not.
func TestTraceRequests(t *testing.T) {
	w := newWorld(t)
	w.policy.AnswerActive = true
	r := newTrace(w)
	n := 0
	ask := func(mode wire.Mode, version uint8) []byte {
		n++
		h := asked(mode, version, n)
		return r.ask(clientAt, serverAt, h.Append(nil))
	}
	r.Say("A request of mode 3 is answered by mode 4, in its own version: its transmit timestamp comes back as the origin.")
	for version := uint8(1); version <= 4; version++ {
		ask(wire.ModeClient, version)
	}
	ask(wire.ModeClient, 5)
	r.Say("Version 1 has no modes: mode 0 from a high port is a request.")
	ask(wire.ModeReserved, 1)
	h := asked(wire.ModeReserved, 1, 90)
	r.ask(netip.AddrPortFrom(clientAt.Addr(), 123), serverAt, h.Append(nil))
	r.Say("Mode 1 is answered by mode 2, without an association; modes 2, 4, 5 and 7 by nothing.")
	for _, mode := range []wire.Mode{wire.ModeActive, wire.ModePassive, wire.ModeServer, wire.ModeBroadcast, wire.ModePrivate} {
		ask(mode, 4)
	}
	r.Say("What is no packet, was sent to a group, or comes from where nobody can ask.")
	r.ask(clientAt, serverAt, []byte{0x23, 0, 0})
	h = asked(wire.ModeClient, 4, 91)
	r.ask(clientAt, netip.MustParseAddr("224.0.1.1"), h.Append(nil))
	r.ask(netip.AddrPortFrom(clientAt.Addr(), 0), serverAt, h.Append(nil))
	r.Say("A server that is not synchronized says so: leap 3, stratum 0.")
	w.snapshot.Synchronized = false
	ask(wire.ModeClient, 4)
	r.Say("In its first seconds it says nothing instead.")
	w.policy.SilentUntilSynchronized, w.snapshot.Updates = true, 0
	ask(wire.ModeClient, 4)
	r.Compare(t, "requests")
}

// Network Time Security at the server, docs/WALK.md 5.
func TestTraceNTS(t *testing.T) {
	w := newNTSWorld(t, siv.AESSIVCMAC256)
	r := newTrace(w.world)
	h := asked(wire.ModeClient, 4, 1)
	r.Say("A request with a cookie; its reply has another, in the part that is enciphered.")
	w.check(t, r.ask(clientAt, serverAt, w.request(t, h)))
	r.Say("A lost reply: the next request has a placeholder, and its reply two cookies, which make it no longer than the request.")
	w.request(t, h)
	w.check(t, r.ask(clientAt, serverAt, w.request(t, h)))
	r.Say("One that was changed on its way, and one whose cookie no key of the ring opens: NTSN.")
	changed := w.request(t, h)
	changed[2] ^= 1
	r.ask(clientAt, serverAt, changed)
	w.env.Ring = nts.NewRing([nts.RingKeySize]byte{4}, start)
	r.ask(clientAt, serverAt, w.request(t, h))
	r.Say("Where NTS is not offered such a request gets silence.")
	w.env.Ring = nil
	r.ask(clientAt, serverAt, w.request(t, h))
	r.Say("require: nts")
	w.policy.Require = responder.RequireNTS
	r.ask(clientAt, serverAt, h.Append(nil))
	r.Compare(t, "nts")
}

// Who may ask: rights, keys and the rate limit.
func TestTraceWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	r := newTrace(w)
	key := w.key(t, mac.SHA1)
	rule := func(network string, require responder.Require, deny bool) responder.AccessRule {
		return responder.AccessRule{Network: netip.MustParsePrefix(network), Require: require, Deny: deny}
	}
	w.policy.Access = responder.NewAccess(responder.AccessLists{
		Server:          []responder.AccessRule{rule("192.0.2.0/24", responder.RequireNone, false), rule("192.0.2.64/26", responder.RequireKey, false)},
		Synchronization: []responder.AccessRule{rule("198.51.100.0/24", responder.RequireNone, false), rule("198.51.100.128/25", responder.RequireNone, true)},
	})
	r.Say("server: [192.0.2.0/24, {networks: [192.0.2.64/26], require: key}], synchronization: [198.51.100.0/24, {networks: [198.51.100.128/25], deny: true}]")
	h := asked(wire.ModeClient, 4, 1)
	plain, signed := h.Append(nil), key.AppendMAC(h.Append(nil), 4)
	for _, address := range []string{"192.0.2.7:40000", "192.0.2.77:40000", "198.51.100.7:40000", "198.51.100.177:40000", "203.0.113.7:40000"} {
		r.ask(netip.MustParseAddrPort(address), serverAt, plain)
	}
	r.Say("A request with a true MAC is answered with one of the same key; a false one, or of a key that is not known, gets silence.")
	r.ask(netip.MustParseAddrPort("192.0.2.77:40000"), serverAt, signed)
	bad := append([]byte(nil), signed...)
	bad[60] ^= 1
	r.ask(netip.MustParseAddrPort("192.0.2.77:40000"), serverAt, bad)
	unknown := append([]byte(nil), signed...)
	binary.BigEndian.PutUint32(unknown[48:], 9)
	r.ask(netip.MustParseAddrPort("192.0.2.77:40000"), serverAt, unknown)
	r.ask(netip.MustParseAddrPort("192.0.2.7:40000"), serverAt, append(h.Append(nil), 0, 0, 0, 0))
	r.Say("rate_limit: {interval: 64s, burst: 2, leak: 16}: two at once, then a kiss, then silence.")
	w.policy.Access = nil
	w.policy.Limit = &responder.RateLimit{Interval: 64 * time.Second, Burst: 2, Leak: 16, Kiss: true}
	for range 5 {
		r.ask(netip.MustParseAddrPort("203.0.113.7:40000"), serverAt, plain)
	}
	r.Compare(t, "who")
}

// Interleaved client/server mode (RFC 9769 §2).
func TestTraceInterleaved(t *testing.T) {
	w := newWorld(t)
	w.policy.Interleaved = true
	r := newTrace(w)
	r.Say("The client asks by an origin that is our last receive timestamp; it is told when that last reply really left.")
	h := asked(wire.ModeClient, 4, 1)
	h.Receive, h.Origin = 77, 99 // it may ask so in any request; the first origin is nobody's
	for range 3 {
		reply := decode(t, r.ask(clientAt, serverAt, h.Append(nil)))
		h.Origin, h.Receive, h.Transmit = reply.Receive, h.Receive+1000, h.Transmit+1000
	}
	r.Say("An origin that is not our last receive timestamp is answered in basic mode.")
	h.Origin++
	r.ask(clientAt, serverAt, h.Append(nil))
	r.Compare(t, "interleaved")
}

// Control queries (mode 6, RFC 9327), as ntpq sends them.
func TestTraceControl(t *testing.T) {
	reader := newReader(t, 2)
	reader.w.pass(time.Minute)
	view := controlView(t)
	view.Clients, view.Now = reader.w.clients, reader.w.now
	r := newTrace(reader.w)
	ask := func(opcode byte, association uint16, data string) string {
		query := controlQuery(0x16, opcode, association, data)
		datagrams, v := reader.monitor.Answer(query, reader.from, view)
		status, failed, text := assemble(t, query, datagrams)
		r.Printf("opcode %d association %d %q\n    %s: status %04x, error %v, %d datagrams\n", opcode, association, data, v.Result, status, failed, len(datagrams))
		if opcode == 1 && association == 0 {
			for i := 0; i+4 <= len(text); i += 4 {
				r.Printf("    association %d status %x\n", binary.BigEndian.Uint16(text[i:]), text[i+2:i+4])
			}
			return ""
		}
		for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\r\n") {
			if line != "" {
				r.Printf("    %s\n", line)
			}
		}
		return string(text)
	}
	r.Say("The associations, with their status words.")
	ask(1, 0, "")
	r.Say("The variables of the system, and of an association; some by name; one that there is not.")
	ask(2, 0, "")
	ask(2, 1, "")
	ask(2, 1, "stratum,offset")
	ask(2, 0, "colour")
	r.Say("Nothing can be changed.")
	ask(3, 0, "leap=1")
	ask(8, 0, "server 192.0.2.9")
	r.Say("The list of clients wants a nonce, and goes on behind the newest entry that the reader has.")
	ask(10, 0, "frags=32")
	nonce := strings.TrimSpace(ask(12, 0, ""))
	part := parse([]byte(ask(10, 0, nonce+", limit=1")))
	ask(10, 0, fmt.Sprintf("%s, limit=1, addr.0=%s, last.0=%s", nonce, part["addr.0"], part["last.0"]))
	r.Compare(t, "control")
}
