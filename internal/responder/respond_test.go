package responder_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// TestRFC5905_Figure31_ReplyHeader checks each field of an ordinary reply.
func TestRFC5905_Figure31_ReplyHeader(t *testing.T) {
	w := newWorld(t)
	p := w.answered(t, request(4))
	want := wire.Header{
		Leap: wire.LeapNone, Version: 4, Mode: wire.ModeServer, Stratum: 2, Poll: 6, Precision: -24,
		RootDelay: ntptime.ShortOf(3 * time.Millisecond), RootDispersion: ntptime.ShortOf(5 * time.Millisecond),
		ReferenceID:   wire.ReferenceAddress(netip.MustParseAddr("198.51.100.5")),
		ReferenceTime: start.Add(-17 * time.Second).Timestamp(),
		Origin:        0xdeadbeef01234567,
		Receive:       start.Timestamp(),
		Transmit:      start.Add(20 * time.Microsecond).Timestamp(),
	}
	if p.Header != want {
		t.Errorf("got  %+v\nwant %+v", p.Header, want)
	}
	if len(p.Signed) != wire.HeaderSize || p.HasMAC {
		t.Errorf("got %d bytes, MAC %v, want a bare header", len(p.Signed), p.HasMAC)
	}
}

// TestRFC5905_7_3_Versions: 1 to 4 are answered in kind, all others are silence.
func TestRFC5905_7_3_Versions(t *testing.T) {
	w := newWorld(t)
	for version := range uint8(8) {
		h := request(version)
		if version >= 1 && version <= 4 {
			if p := w.answered(t, h); p.Version != version || p.Mode != wire.ModeServer {
				t.Errorf("version %d: got version %d, mode %v", version, p.Version, p.Mode)
			}
			continue
		}
		w.silent(t, "version 0 or above 4", h.Append(nil), responder.ReasonVersion)
	}
}

// TestRFC1059_ModeZero: a version 1 packet without a mode is a question if it comes
// from a high port, and never draws a mode 0 packet (threat 4).
func TestRFC1059_ModeZero(t *testing.T) {
	w := newWorld(t)
	h := wire.Header{Version: 1, Transmit: 5}
	p := w.answered(t, h)
	if p.Version != 1 || p.Mode != wire.ModeServer || p.Origin != 5 {
		t.Errorf("got version %d, mode %v, origin %v, want 1, server, the transmit timestamp", p.Version, p.Mode, p.Origin)
	}
	if reply, v := w.askFrom(netip.AddrPortFrom(clientAt.Addr(), 123), h.Append(nil)); reply != nil || v.Reason != responder.ReasonMode {
		t.Errorf("from port 123: got %d bytes, %v, want silence", len(reply), v.Reason)
	}
	for _, version := range []uint8{0, 2, 3, 4, 5} {
		h.Version = version
		w.silent(t, "mode 0 of another version", h.Append(nil), responder.ReasonMode)
	}
}

// TestRFC5905_Figure20_Modes: nothing but requests draws a reply (threats 1 to 4).
func TestRFC5905_Figure20_Modes(t *testing.T) {
	for _, test := range []struct {
		name   string
		mode   wire.Mode
		active bool
		want   wire.Mode // 0: silence
	}{
		{"mode 1 where strangers are not answered", wire.ModeActive, false, 0},
		{"mode 1 where they are", wire.ModeActive, true, wire.ModePassive},
		{"mode 2", wire.ModePassive, true, 0},
		{"mode 3", wire.ModeClient, false, wire.ModeServer},
		{"mode 4", wire.ModeServer, true, 0},
		{"mode 5", wire.ModeBroadcast, true, 0},
		{"mode 6", wire.ModeControl, true, 0},
		{"mode 7", wire.ModePrivate, true, 0},
	} {
		for _, port := range []uint16{1, 7, 19, 53, 123, 1024, 40000, 65535} {
			w := newWorld(t)
			w.policy.AnswerActive = test.active
			h := wire.Header{Version: 4, Mode: test.mode, Stratum: 1, Origin: 77, Receive: 78, Transmit: 79}
			reply, v := w.askFrom(netip.AddrPortFrom(clientAt.Addr(), port), h.Append(nil))
			if test.want == 0 {
				if reply != nil || v.Reason != responder.ReasonMode {
					t.Errorf("%s from port %d: got %d bytes, %v, want silence", test.name, port, len(reply), v.Reason)
				}
				continue
			}
			if reply == nil {
				t.Errorf("%s from port %d: got silence (%v)", test.name, port, v.Reason)
				continue
			}
			if p := decode(t, reply); p.Mode != test.want || p.Origin != 79 {
				t.Errorf("%s from port %d: got mode %v, origin %v", test.name, port, p.Mode, p.Origin)
			}
		}
	}
}

// TestRFC5905_11_1_Unsynchronized: leap 3, stratum 0 and no reference until there is one.
func TestRFC5905_11_1_Unsynchronized(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*model.Snapshot)
	}{
		{"never synchronized", func(s *model.Snapshot) {
			s.Synchronized, s.Stratum, s.Leap, s.Updates = false, wire.MaxStratum, wire.LeapUnknown, 0
		}},
		{"synchronized once, but no more", func(s *model.Snapshot) { s.Synchronized = false }},
		{"slewed faster than anybody can follow", func(s *model.Snapshot) { s.Unsteady = true }},
		{"a stratum that the wire does not have", func(s *model.Snapshot) { s.Stratum = 16 }},
	} {
		w := newWorld(t)
		test.change(w.snapshot)
		p := w.answered(t, request(4))
		if p.Leap != wire.LeapUnknown || p.Stratum != 0 || p.ReferenceID != 0 {
			t.Errorf("%s: got leap %v, stratum %d, reference %v, want leap 3, stratum 0, none", test.name, p.Leap, p.Stratum, p.ReferenceID)
		}
	}
}

func TestSilentUntilSynchronized(t *testing.T) {
	w := newWorld(t)
	w.policy.SilentUntilSynchronized = true
	w.snapshot.Synchronized, w.snapshot.Updates = false, 0
	ask := request(4)
	w.silent(t, "before the first synchronization", ask.Append(nil), responder.ReasonStarting)
	w.snapshot.Updates = 1
	if p := w.answered(t, ask); p.Leap != wire.LeapUnknown {
		t.Errorf("after it was lost: got leap %v, want 3", p.Leap)
	}
	w.env.Snapshot = nil
	w.silent(t, "before there is a snapshot", ask.Append(nil), responder.ReasonStarting)
}

// TestRFC5905_12_RootDispersionGrows between snapshots, by PHI or what the snapshot says.
func TestRFC5905_12_RootDispersionGrows(t *testing.T) {
	w := newWorld(t)
	before := w.answered(t, request(4)).RootDispersion.Duration()
	w.pass(1000 * time.Second)
	after := w.answered(t, request(4))
	if got, want := after.RootDispersion.Duration()-before, 15*time.Millisecond; (got - want).Abs() > 20*time.Microsecond {
		t.Errorf("after 1000 s: got %v more, want %v", got, want)
	}
	if got := after.RootDelay; got != ntptime.ShortOf(3*time.Millisecond) {
		t.Errorf("root delay: got %v, want it unchanged", got.Duration())
	}
	w.now = ntptime.Instant{Wall: w.now.Wall, Raw: w.snapshot.At.Raw.Add(-time.Hour)}
	if got := w.answered(t, request(4)).RootDispersion.Duration(); got < before {
		t.Errorf("a request older than the snapshot: got %v, less than the snapshot's", got)
	}
}

// TestRFC5905_7_3_TimesRise: reference ≤ receive < transmit, whatever the clock does.
func TestRFC5905_7_3_TimesRise(t *testing.T) {
	for _, test := range []struct {
		name      string
		reference ntptime.Wall
		took      time.Duration
	}{
		{"an ordinary request", start.Add(-time.Second), 20 * time.Microsecond},
		{"a clock that did not move", start.Add(-time.Second), 0},
		{"a reference time from after the request", start.Add(time.Second), 20 * time.Microsecond},
		{"a clock read a little before the kernel's timestamp", start.Add(-time.Second), -3 * time.Microsecond},
		{"no reference time", 0, 20 * time.Microsecond},
		{"no reference time, and a clock that went back", 0, -time.Microsecond},
	} {
		w := newWorld(t)
		w.snapshot.ReferenceTime, w.took = test.reference, test.took
		p := w.answered(t, request(4))
		if test.reference != 0 && p.Receive.Sub(p.ReferenceTime) < 0 {
			t.Errorf("%s: got a reference time %v after receive", test.name, p.ReferenceTime.Sub(p.Receive))
		}
		if test.reference == 0 && p.ReferenceTime != 0 {
			t.Errorf("%s: got reference time %v, want none", test.name, p.ReferenceTime)
		}
		if p.Transmit == p.Receive || p.Transmit.Sub(p.Receive) < 0 {
			t.Errorf("%s: got transmit %v after receive, want it later", test.name, p.Transmit.Sub(p.Receive))
		}
	}
}

// A clock that was stepped back an hour while a request waited: the reply is all on
// the new scale, with the time that the request really waited.
func TestClockSteppedBackBetweenReceiveAndTransmit(t *testing.T) {
	w := newWorld(t)
	w.env.Now = func() ntptime.Instant {
		return ntptime.Instant{Wall: w.now.Wall.Add(-time.Hour), Raw: w.now.Raw.Add(40 * time.Microsecond)}
	}
	p := w.answered(t, request(4))
	if got := p.Transmit.Sub(w.now.Wall.Add(-time.Hour).Timestamp()); got != 0 {
		t.Errorf("transmit: got %v off the new scale", got)
	}
	if got := p.Transmit.Sub(p.Receive); got != 40*time.Microsecond {
		t.Errorf("between receive and transmit: got %v, want 40µs", got)
	}
	if p.Receive.Sub(p.ReferenceTime) < 0 {
		t.Errorf("got a reference time after receive")
	}
}

func TestLeadIsAddedToTheTransmitTimestamp(t *testing.T) {
	w := newWorld(t)
	w.env.Lead = 30 * time.Microsecond
	if got, want := w.answered(t, request(4)).Transmit, start.Add(50*time.Microsecond).Timestamp(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOriginIsEchoedBitByBit: zero, era 1, all ones; the rest of a request,
// leap, stratum, reference, whatever, is not judged.
func TestOriginIsEchoedBitByBit(t *testing.T) {
	w := newWorld(t)
	for _, transmit := range []ntptime.Timestamp{0, 1, 1 << 63, ^ntptime.Timestamp(0), 0x0000000100000000, 0xeead67f61edcea3e} {
		h := request(4)
		h.Transmit = transmit
		h.Leap, h.Stratum, h.ReferenceID, h.Precision = wire.LeapUnknown, 255, wire.KissDENY, 32
		h.Poll = -128
		p := w.answered(t, h)
		if p.Origin != transmit {
			t.Errorf("got origin %v, want %v", p.Origin, transmit)
		}
		if p.Poll != -128 {
			t.Errorf("got poll %d, want the request's", p.Poll)
		}
	}
}

// TestBothSidesOfTheEra serves across 2036-02-07T06:28:16Z (threats 46).
func TestBothSidesOfTheEra(t *testing.T) {
	end := time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC)
	for _, at := range []time.Duration{-time.Second, -10 * time.Microsecond, 0, time.Second} {
		w := newWorld(t)
		w.now.Wall = ntptime.WallOf(end.Add(at))
		w.snapshot.ReferenceTime = w.now.Wall.Add(-10 * time.Second)
		p := w.answered(t, request(4))
		if got := p.Transmit.Sub(p.Receive); got != w.took {
			t.Errorf("%v from the end of the era: got %v from receive to transmit, want %v", at, got, w.took)
		}
		if got := p.Receive.Sub(p.ReferenceTime); got != 10*time.Second {
			t.Errorf("%v from the end of the era: got %v from reference to receive, want 10s", at, got)
		}
		if got := p.Receive.Wall(w.now.Wall); got != w.now.Wall {
			t.Errorf("%v from the end of the era: got %v, want %v", at, got.Time(), w.now.Wall.Time())
		}
	}
}

// RFC 5905 §8: receive timestamps differ and rise, also within one tick of the clock.
func TestReceiveTimestampsRise(t *testing.T) {
	w := newWorld(t)
	var last ntptime.Timestamp
	for i := range 1000 {
		p := w.answered(t, request(4))
		if i > 0 && int64(p.Receive-last) <= 0 {
			t.Fatalf("request %d: got receive %v after %v", i, p.Receive, last)
		}
		last = p.Receive
		if i%100 == 99 {
			w.pass(time.Nanosecond)
		}
	}
	w.now.Wall = w.now.Wall.Add(-time.Hour) // the clock was set back
	if p := w.answered(t, request(4)); p.Receive != w.now.Wall.Timestamp() {
		t.Errorf("after a step back: got %v, want %v", p.Receive, w.now.Wall.Timestamp())
	}
}

// TestRFC5905_9_2_Length: short, ragged and stub packets draw nothing.
func TestRFC5905_9_2_Length(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	whole := h.Append(nil)
	for n := range len(whole) {
		w.silent(t, "under 48 bytes", whole[:n], responder.ReasonMalformed)
	}
	for tail := 1; tail < 28; tail++ {
		reply, v := w.ask(append(bytes.Clone(whole), make([]byte, tail)...))
		if reply != nil {
			t.Errorf("48 bytes and %d: got %d bytes, want silence (%v)", tail, len(reply), v.Reason)
		}
	}
}

// Without access lists everybody gets the time, and this host alone control queries.
func TestControlQueriesAreForThisHostByDefault(t *testing.T) {
	w := newWorld(t)
	for addr, want := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "192.0.2.1": false, "fe80::1": false} {
		rx := &model.Received{Data: []byte{0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 50000), At: w.now}
		if _, v := w.receive(rx); (v.Result == responder.Query) != want {
			t.Errorf("%s: got %v, want a query %v", addr, v.Result, want)
		}
	}
}

func TestImpossibleSources(t *testing.T) {
	h := request(4)
	for _, test := range []struct {
		name   string
		remote string
		index  int
		want   responder.Reason
	}{
		{"port 0", "192.0.2.7:0", 2, responder.ReasonSource},
		{"no address", "0.0.0.0:123", 2, responder.ReasonSource},
		{"no IPv6 address", "[::]:123", 2, responder.ReasonSource},
		{"a group", "224.0.1.1:123", 2, responder.ReasonSource},
		{"an IPv6 group", "[ff02::101]:123", 2, responder.ReasonSource},
		{"everybody", "255.255.255.255:123", 2, responder.ReasonSource},
		{"loopback from outside", "127.0.0.1:40000", 2, responder.ReasonSource},
		{"::1 from outside (CVE-2014-9751)", "[::1]:40000", 2, responder.ReasonSource},
		{"mapped loopback from outside", "[::ffff:127.0.0.1]:40000", 2, responder.ReasonSource},
		{"loopback from inside", "[::1]:40000", 1, responder.ReasonNone},
		{"loopback from an interface not known", "127.0.0.1:40000", 0, responder.ReasonNone},
		{"an ordinary address", "192.0.2.7:123", 2, responder.ReasonNone},
	} {
		w := newWorld(t)
		w.policy.LoopbackInterface = 1
		rx := &model.Received{Data: h.Append(nil), Remote: netip.MustParseAddrPort(test.remote), Local: serverAt, Interface: test.index, At: w.now}
		if reply, v := w.receive(rx); v.Reason != test.want || (reply != nil) != (test.want == responder.ReasonNone) {
			t.Errorf("%s: got %d bytes (%v), want %v", test.name, len(reply), v.Reason, test.want)
		}
	}
}

// RFC 5905 §3.1: only a manycast server answers what was sent to a group.
func TestRFC5905_3_1_RequestToAGroup(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	for _, local := range []string{"224.0.1.1", "ff05::101", "255.255.255.255"} {
		rx := &model.Received{Data: h.Append(nil), Remote: clientAt, Local: netip.MustParseAddr(local), At: w.now}
		if reply, v := w.receive(rx); reply != nil || v.Reason != responder.ReasonGroup {
			t.Errorf("to %s: got %d bytes (%v), want silence", local, len(reply), v.Reason)
		}
	}
}

// RFC 7822 §3: unknown fields are skipped, with and without a MAC; a malformed length
// drops the packet (RFC 7822 §7.5).
func TestRFC7822_3_Fields(t *testing.T) {
	w := newWorld(t)
	key := w.key(t, mac.AES128)
	h := request(4)
	unknown := wire.AppendField(h.Append(nil), 0xf323, make([]byte, 60), wire.MinLastField)
	if reply, v := w.ask(unknown); len(reply) != wire.HeaderSize || v.Result != responder.Answered {
		t.Errorf("an unknown field: got %d bytes, %v (%v), want 48, answered", len(reply), v.Result, v.Reason)
	}
	reply, v := w.ask(key.AppendMAC(bytes.Clone(unknown), 4))
	if len(reply) != wire.HeaderSize+20 || !v.Signed() {
		t.Errorf("an unknown field and a MAC: got %d bytes, %v (%v), want 68, signed", len(reply), v.Result, v.Reason)
	}
	thousands := h.Append(nil)
	for range 1000 {
		thousands = wire.AppendField(thousands, 0x0001, nil, wire.MinField)
	}
	thousands = wire.AppendField(thousands, 0x0001, nil, wire.MinLastField)
	if reply, v := w.ask(thousands); len(reply) != wire.HeaderSize {
		t.Errorf("a thousand fields: got %d bytes, %v (%v), want 48", len(reply), v.Result, v.Reason)
	}
	autokey := wire.AppendField(h.Append(nil), 0x0102, make([]byte, 100), wire.MinField)
	w.silent(t, "Autokey with the MAC of a session key", append(binary.BigEndian.AppendUint32(autokey, 0x55555555), make([]byte, 16)...), responder.ReasonUnknownKey)
	unknown[51] = 30
	w.silent(t, "a malformed length", unknown, responder.ReasonMalformed)
}

// RFC 8915 §5.7: without NTS here an NTS request gets nothing that its sender could use.
func TestRequestForNTSWithoutNTS(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	data := wire.AppendField(h.Append(nil), wire.FieldUniqueIdentifier, make([]byte, 32), wire.MinField)
	data = wire.AppendField(data, wire.FieldCookie, make([]byte, 100), wire.MinField)
	data = wire.AppendField(data, wire.FieldAuthenticator, make([]byte, 36), wire.MinField)
	w.silent(t, "a request with a cookie", data, responder.ReasonNTS)
}

func TestReplyBufferTooSmall(t *testing.T) {
	w := newWorld(t)
	h := request(4)
	data := w.key(t, mac.SHA1).AppendMAC(h.Append(nil), 4)
	rx := &model.Received{Data: data, Remote: clientAt, Local: serverAt, At: w.now}
	for size := range len(data) {
		if n, v := w.shard.Respond(make([]byte, size), rx, &w.env); n != 0 || v.Reason != responder.ReasonSpace {
			t.Errorf("room for %d bytes: got %d, %v, want silence", size, n, v.Reason)
		}
	}
	if n, _ := w.shard.Respond(make([]byte, len(data)), rx, &w.env); n != len(data) {
		t.Errorf("just enough room: got %d bytes, want %d", n, len(data))
	}
}

func TestCountersCountByModeVersionAndResult(t *testing.T) {
	w := newWorld(t)
	h4, h3 := request(4), request(3)
	w.ask(h4.Append(nil))
	w.ask(h4.Append(nil))
	w.ask(w.key(t, mac.MD5).AppendMAC(h3.Append(nil), 3))
	w.ask(nil)
	reply, _ := w.ask(h4.Append(nil))
	w.ask(reply) // mode 4
	c := w.shard.Counters()
	if got := c.Packets[responder.Answered][4][wire.ModeClient]; got != 3 {
		t.Errorf("version 4, mode 3: got %d, want 3", got)
	}
	if got := c.Packets[responder.Answered][3][wire.ModeClient]; got != 1 || c.Signed != 1 {
		t.Errorf("version 3, mode 3: got %d with %d signed, want 1, 1", got, c.Signed)
	}
	if got := c.Packets[responder.Ignored][4][wire.ModeServer]; got != 1 || c.Reasons[responder.ReasonMode] != 1 {
		t.Errorf("version 4, mode 4: got %d ignored, want 1", got)
	}
	if c.Reasons[responder.ReasonMalformed] != 1 || c.Received() != 6 || c.Sum(responder.Answered) != 4 {
		t.Errorf("got %d malformed, %d in all, %d answered; want 1, 6, 4", c.Reasons[responder.ReasonMalformed], c.Received(), c.Sum(responder.Answered))
	}
	w.shard.Count(&model.Received{Data: []byte{0x25}}, responder.Verdict{Result: responder.Forwarded})
	sum := w.shard.Counters()
	w.shard.AddCounters(&sum)
	if sum.Received() != 14 || sum.Packets[responder.Forwarded][4][wire.ModeBroadcast] != 2 {
		t.Errorf("two shards added: got %d, %d passed on, want 14, 2", sum.Received(), sum.Sum(responder.Forwarded))
	}
}

func TestEveryVerdictHasItsWord(t *testing.T) {
	seen := map[string]bool{}
	for what := range responder.Result(responder.Results) {
		seen["what "+what.String()] = true
	}
	for why := range responder.Reason(responder.Reasons) {
		seen["why "+why.String()] = true
	}
	if seen["what "] || seen["why "] || len(seen) != responder.Results+responder.Reasons {
		t.Errorf("got %d words, want %d different ones", len(seen), responder.Results+responder.Reasons)
	}
}
