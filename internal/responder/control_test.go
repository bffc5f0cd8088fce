package responder_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
	"timeball/test/captures"
)

// controlView is a host with a system peer, a falseticker, and a broadcast client.
func controlView(t testing.TB) *responder.ControlView {
	t.Helper()
	w := newWorld(t)
	s := w.snapshot
	s.SystemPeer, s.Offset, s.Frequency, s.Jitter = 1, 1500*time.Microsecond, -12.5*ntptime.PPM, 42*time.Microsecond
	s.PollInterval, s.TAI, s.RootDelay = 64*time.Second, 37, 3*time.Millisecond
	s.Sources = []model.SourceReport{
		{
			SourceStatus: model.SourceStatus{Source: 1, Name: "time.example.net", Address: netip.MustParseAddrPort("198.51.100.5:123"), Local: netip.MustParseAddr("192.0.2.77"),
				Mode: wire.ModeClient, RemoteMode: wire.ModeServer, Reach: 0xff, Poll: 6, RemotePoll: 6, Accepted: 20, KeyID: 10,
				LastPacket: ntptime.Instant{Wall: start.Add(-5 * time.Second)},
				Server:     model.ServerState{Stratum: 1, ReferenceID: wire.ReferenceName("GPS"), ReferenceTime: start, Precision: -23, RootDelay: time.Millisecond}},
			State: model.StateSelected, Offset: 1500 * time.Microsecond, Delay: 2500 * time.Microsecond, Error: 700 * time.Microsecond, Jitter: 42 * time.Microsecond,
			Filter: []model.FilterSample{{Offset: 1500 * time.Microsecond, Delay: 2500 * time.Microsecond, Error: 10 * time.Microsecond}, {Offset: -time.Millisecond}},
		},
		{
			SourceStatus: model.SourceStatus{Source: 2, Name: "2001:db8::9", Address: netip.MustParseAddrPort("[2001:db8::9]:123"), Mode: wire.ModeActive,
				Accepted: 5, Server: model.ServerState{Stratum: 16, Leap: wire.LeapUnknown}},
			State: model.StateUnreachable,
		},
		{
			SourceStatus: model.SourceStatus{Source: 70000, Name: `odd "name", x=1`, Address: netip.MustParseAddrPort("[fe80::1%eth0]:123"), Mode: wire.ModeClient,
				Broadcast: true, Dynamic: true, Reach: 1},
			State: model.StateFalseticker,
		},
	}
	return &responder.ControlView{Snapshot: s, Now: w.later(10 * time.Second), Local: netip.MustParseAddrPort("192.0.2.1:123"), Version: "timeball"}
}

// control asks, from this host.
func control(request []byte, view *responder.ControlView) [][]byte {
	datagrams, _ := responder.NewMonitor([32]byte{1, 2, 3}).Answer(request, netip.MustParseAddr("127.0.0.1"), view)
	return datagrams
}

// controlQuery builds a query; head is version and mode.
func controlQuery(head, opcode byte, association uint16, data string) []byte {
	b := make([]byte, 12, 12+len(data))
	b[0], b[1] = head, opcode
	binary.BigEndian.PutUint16(b[2:], 0x4711)
	binary.BigEndian.PutUint16(b[6:], association)
	binary.BigEndian.PutUint16(b[10:], uint16(len(data)))
	return append(b, data...)
}

// assemble puts a control reply together as ntpq does, and holds each of its datagrams
// to RFC 9327 §2.
func assemble(t testing.TB, query []byte, datagrams [][]byte) (status uint16, failed bool, data []byte) {
	t.Helper()
	if len(datagrams) == 0 {
		t.Fatal("got no reply")
	}
	for i, d := range datagrams {
		if len(d) < 12 || len(d) > 480 || len(d)%4 != 0 {
			t.Fatalf("datagram %d: got %d bytes, want 12 to 480 in fours", i, len(d))
		}
		if d[0] != query[0]&0x38|6 || d[1]&0x1f != query[1]&0x1f || d[1]&0x80 == 0 {
			t.Errorf("datagram %d: got %x, want a response to %x", i, d[:2], query[:2])
		}
		if !bytes.Equal(d[2:4], query[2:4]) || !bytes.Equal(d[6:8], query[6:8]) {
			t.Errorf("datagram %d: got sequence and association %x, %x, want those of the query", i, d[2:4], d[6:8])
		}
		if more := d[1]&0x20 != 0; more != (i < len(datagrams)-1) {
			t.Errorf("datagram %d of %d: got the more bit %v", i, len(datagrams), more)
		}
		if offset := int(binary.BigEndian.Uint16(d[8:])); offset != len(data) {
			t.Errorf("datagram %d: got offset %d, want %d", i, offset, len(data))
		}
		count := int(binary.BigEndian.Uint16(d[10:]))
		if count > len(d)-12 || len(d)-12-count > 3 {
			t.Fatalf("datagram %d: got a count of %d in %d bytes", i, count, len(d)-12)
		}
		data = append(data, d[12:12+count]...)
		status, failed = binary.BigEndian.Uint16(d[4:]), failed || d[1]&0x40 != 0
	}
	return status, failed, data
}

// TestRFC9327_4_1_ReadStatus: the system's status word, and each association's.
func TestRFC9327_4_1_ReadStatus(t *testing.T) {
	view := controlView(t)
	query := controlQuery(0x16, 1, 0, "")
	status, failed, data := assemble(t, query, control(query, view))
	if failed || status != 0x0615 {
		t.Errorf("got status %04x, want 0615: no leap, NTP, one event, clock_sync", status)
	}
	want := []uint16{
		1, 0xf61a, // configured, authenticated, reachable, system peer
		2, 0x8013, // configured, unreachable
		4465, 0x1914, // 70000 in 16 bits; dynamic, reachable, broadcast, falseticker
	}
	if len(data) != 2*len(want) {
		t.Fatalf("got %d bytes, want %d", len(data), 2*len(want))
	}
	for i := range want {
		if got := binary.BigEndian.Uint16(data[2*i:]); got != want[i] {
			t.Errorf("word %d: got %04x, want %04x", i, got, want[i])
		}
	}
}

func TestRFC9327_3_1_SystemStatus(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*model.Snapshot)
		want   uint16
	}{
		{"synchronized", func(*model.Snapshot) {}, 0x0615},
		{"a leap second announced", func(s *model.Snapshot) { s.Leap = wire.LeapInsert }, 0x4615},
		{"the local clock", func(s *model.Snapshot) { s.State = model.DisciplineLocal }, 0x0515},
		{"just started", func(s *model.Snapshot) { s.Synchronized, s.Updates = false, 0 }, 0xc016},
		{"sources lost", func(s *model.Snapshot) { s.Synchronized = false }, 0xc018},
		{"a correction refused", func(s *model.Snapshot) { s.Synchronized, s.State = false, model.DisciplinePanic }, 0xc017},
	} {
		view := controlView(t)
		test.change(view.Snapshot)
		query := controlQuery(0x16, 1, 0, "")
		if got, _, _ := assemble(t, query, control(query, view)); got != test.want {
			t.Errorf("%s: got %04x, want %04x", test.name, got, test.want)
		}
	}
}

// parse reads "name=value, name=value" as ntpq does.
func parse(data []byte) map[string]string {
	values := map[string]string{}
	for _, item := range strings.Split(strings.ReplaceAll(string(data), "\r\n", ""), ",") {
		if name, value, ok := strings.Cut(strings.TrimSpace(item), "="); ok {
			values[name] = value
		}
	}
	return values
}

func checkValues(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %q, want %q", name, got[name], value)
		}
	}
}

// TestRFC9327_4_2_SystemVariables: `ntpq -c rv`.
func TestRFC9327_4_2_SystemVariables(t *testing.T) {
	view := controlView(t)
	query := controlQuery(0xd6, 2, 0, "") // with leap 3, as ntpsec's ntpq sends it
	_, failed, data := assemble(t, query, control(query, view))
	if failed {
		t.Fatal("got an error")
	}
	checkValues(t, parse(data), map[string]string{
		"version": `"timeball"`, "leap": "0", "stratum": "2", "precision": "-24", "rootdelay": "3.000", "rootdisp": "5.150",
		"refid": "198.51.100.5", "reftime": "0x" + start.Add(-17*time.Second).Timestamp().String(),
		"clock": "0x" + start.Add(10*time.Second).Timestamp().String(), "peer": "1", "tc": "6",
		"offset": "1.500000", "frequency": "-12.500", "sys_jitter": "0.042000", "tai": "37",
	})
	view.Snapshot.Synchronized, view.Version, view.Snapshot.TAI = false, "", 0
	_, _, data = assemble(t, query, control(query, view))
	got := parse(data)
	checkValues(t, got, map[string]string{"leap": "3", "stratum": "16", "refid": "INIT", "version": "", "tai": ""})
	for line := range strings.SplitSeq(string(data), "\r\n") {
		if len(line) > 80 {
			t.Errorf("got a line of %d characters: %s", len(line), line)
		}
	}
}

// TestRFC9327_4_3_PeerVariables: what `ntpq -p` builds a row from.
func TestRFC9327_4_3_PeerVariables(t *testing.T) {
	view := controlView(t)
	for _, opcode := range []byte{1, 2} {
		query := controlQuery(0x16, opcode, 1, "")
		status, failed, data := assemble(t, query, control(query, view))
		if failed || status != 0xf61a {
			t.Errorf("opcode %d: got status %04x, error %v, want f61a", opcode, status, failed)
		}
		checkValues(t, parse(data), map[string]string{
			"srcadr": "198.51.100.5", "srcport": "123", "srchost": `"time.example.net"`, "dstadr": "192.0.2.77", "stratum": "1", "refid": "GPS",
			"reach": "0xff", "hmode": "3", "pmode": "4", "hpoll": "6", "ppoll": "6", "offset": "1.500000", "delay": "2.500000",
			"dispersion": "0.700000", "jitter": "0.042000", "keyid": "10", "flash": "0x0", "leap": "0",
			"rec":       "0x" + start.Add(-5*time.Second).Timestamp().String(),
			"filtdelay": " 2.50 0.00 0.00 0.00 0.00 0.00 0.00 0.00", "filtoffset": " 1.50 -1.00 0.00 0.00 0.00 0.00 0.00 0.00",
		})
	}
	query := controlQuery(0x16, 2, 2, "")
	_, _, data := assemble(t, query, control(query, view))
	checkValues(t, parse(data), map[string]string{"srcadr": "2001:db8::9", "reach": "0x0", "stratum": "16", "refid": "INIT", "rec": "0x00000000.00000000", "flash": "0x2000"})
	query = controlQuery(0x16, 2, 4465, "")
	_, _, data = assemble(t, query, control(query, view))
	checkValues(t, parse(data), map[string]string{"srcadr": "fe80::1", "hmode": "6", "srchost": `"odd ?name?? x?1"`})
}

func TestRFC9327_3_5_Flash(t *testing.T) {
	for state, want := range map[model.State]string{
		model.StateSelected: "0x0", model.StateFalseticker: "0x0", model.StateUnsynchronized: "0x400",
		model.StateDistant: "0x800", model.StateUnreachable: "0x2000", model.StateWaiting: "0x2000",
	} {
		view := controlView(t)
		view.Snapshot.Sources[0].State = state
		query := controlQuery(0x16, 2, 1, "flash")
		if _, _, data := assemble(t, query, control(query, view)); parse(data)["flash"] != want {
			t.Errorf("%v: got %s, want %s", state, data, want)
		}
	}
}

// A check for Nagios asks for a few variables by name.
func TestVariablesByName(t *testing.T) {
	view := controlView(t)
	for _, names := range []string{"stratum,offset,jitter", " stratum , offset=0,\r\n jitter ", "stratum,offset,jitter,\x00"} {
		query := controlQuery(0x16, 2, 1, names)
		_, failed, data := assemble(t, query, control(query, view))
		if got, want := string(data), "stratum=1, offset=1.500000, jitter=0.042000\r\n"; failed || got != want {
			t.Errorf("%q: got %q, want %q", names, got, want)
		}
	}
}

// ntpq of ntpsec 1.2.2 ends with an error where hpoll or ppoll is negative.
func TestControlShowsNoPollIntervalBelowOneSecond(t *testing.T) {
	view := controlView(t)
	for _, test := range []struct {
		exponent ntptime.Log2
		want     string
	}{{-128, "0"}, {-6, "0"}, {-1, "0"}, {0, "0"}, {1, "1"}, {17, "17"}} {
		r := &view.Snapshot.Sources[0]
		r.Poll, r.RemotePoll, view.Snapshot.PollInterval = test.exponent, test.exponent, test.exponent.Duration()
		query := controlQuery(0x16, 2, 1, "hpoll,ppoll")
		_, _, data := assemble(t, query, control(query, view))
		if got, want := string(data), "hpoll="+test.want+", ppoll="+test.want+"\r\n"; got != want {
			t.Errorf("an exponent of %d: got %q, want %q", test.exponent, got, want)
		}
		query = controlQuery(0x16, 2, 0, "tc")
		_, _, data = assemble(t, query, control(query, view))
		if got, want := string(data), "tc="+test.want+"\r\n"; got != want {
			t.Errorf("an interval of 2^%d s: got %q, want %q", test.exponent, got, want)
		}
	}
}

// Every error has its code, in one short datagram.
func TestRFC9327_2_Errors(t *testing.T) {
	view := controlView(t)
	badCount := controlQuery(0x16, 2, 0, "")
	badCount[11] = 1
	fragment := controlQuery(0x16, 2, 0, "")
	fragment[9] = 4
	for _, test := range []struct {
		name  string
		query []byte
		want  uint16
	}{
		{"a variable that there is not", controlQuery(0x16, 2, 0, "leap,colour"), 5},
		{"a system variable of an association", controlQuery(0x16, 2, 1, "frequency"), 5},
		{"an association that there is not", controlQuery(0x16, 2, 99, ""), 4},
		{"opcode 0", controlQuery(0x16, 0, 0, ""), 3},
		{"writing variables", controlQuery(0x16, 3, 0, "leap=1"), 7},
		{"configuration", controlQuery(0x16, 8, 0, "server 192.0.2.9"), 7},
		{"saving the configuration", controlQuery(0x16, 9, 0, "/etc/passwd"), 7},
		{"the list of clients", controlQuery(0x16, 10, 0, ""), 7},
		{"opcode 31", controlQuery(0x16, 31, 0, ""), 3},
		{"more data than there is", badCount, 2},
		{"a fragment", fragment, 2},
	} {
		status, failed, data := assemble(t, test.query, control(test.query, view))
		if !failed || status>>8 != test.want || len(data) != 0 {
			t.Errorf("%s: got error %v, code %d, %q, want code %d", test.name, failed, status>>8, data, test.want)
		}
	}
}

func TestControlSaysNothingToWhatIsNoQuery(t *testing.T) {
	view := controlView(t)
	for _, test := range []struct {
		name  string
		query []byte
	}{
		{"nothing", nil},
		{"a head cut short", controlQuery(0x16, 1, 0, "")[:11]},
		{"mode 3", controlQuery(0x13, 1, 0, "")},
		{"mode 7", controlQuery(0x17, 1, 0, "")},
		{"version 0", controlQuery(0x06, 1, 0, "")},
		{"version 5", controlQuery(0x2e, 1, 0, "")},
		{"a response", controlQuery(0x16, 0x81, 0, "")},
		{"an error", controlQuery(0x16, 0x41, 0, "")},
		{"a fragment with more", controlQuery(0x16, 0x21, 0, "")},
		{"a long one", controlQuery(0x16, 2, 0, strings.Repeat("x", 1100))},
	} {
		if got := control(test.query, view); got != nil {
			t.Errorf("%s: got %d datagrams", test.name, len(got))
		}
	}
	view.Snapshot = nil
	if got := control(controlQuery(0x16, 1, 0, ""), view); got != nil {
		t.Errorf("without a snapshot: got %d datagrams", len(got))
	}
}

// Long lists are cut into datagrams of 468 bytes of data.
func TestControlFragments(t *testing.T) {
	view := controlView(t)
	for id := range model.SourceID(300) {
		view.Snapshot.Sources = append(view.Snapshot.Sources, model.SourceReport{SourceStatus: model.SourceStatus{Source: 100 + id}})
	}
	query := controlQuery(0x16, 1, 0, "")
	datagrams := control(query, view)
	_, _, data := assemble(t, query, datagrams)
	if len(data) != 303*4 || len(datagrams) != 3 {
		t.Errorf("got %d bytes in %d datagrams, want 1212 in 3", len(data), len(datagrams))
	}
	view.Snapshot.Sources = view.Snapshot.Sources[:117] // 468 bytes: just one
	if datagrams := control(query, view); len(datagrams) != 1 {
		t.Errorf("468 bytes: got %d datagrams, want 1", len(datagrams))
	}
}

// Every query that the two programs called ntpq sent is answered.
func TestQueriesOfRealPrograms(t *testing.T) {
	view := controlView(t)
	answered := 0
	for _, name := range []string{"mode6-classic", "mode6-ntpsec"} {
		datagrams, err := captures.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range datagrams {
			if _, mode := wire.Peek(d.Payload); mode != wire.ModeControl {
				continue
			}
			query := bytes.Clone(d.Payload)
			if d.Destination.Port() != 123 {
				if got := control(query, view); got != nil {
					t.Errorf("%s: a response drew %d datagrams", name, len(got))
				}
				continue
			}
			if association := binary.BigEndian.Uint16(query[6:]); association != 0 {
				binary.BigEndian.PutUint16(query[6:], 1)
			}
			if _, failed, data := assemble(t, query, control(query, view)); failed || len(data) == 0 {
				t.Errorf("%s: %x: got an error, or nothing", name, query)
			}
			answered++
		}
	}
	if answered != 8 {
		t.Errorf("got %d queries, want 8", answered)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(controlQuery(0x16, 1, 0, ""))
	f.Add(controlQuery(0x16, 2, 1, "stratum, offset=,,"))
	f.Add(controlQuery(0xd6, 2, 4465, "srchost"))
	f.Add(controlQuery(0x16, 12, 0, "x"))
	view := controlView(f)
	f.Fuzz(func(t *testing.T, query []byte) {
		datagrams := control(query, view)
		if datagrams == nil {
			return
		}
		_, failed, data := assemble(t, query, datagrams)
		if failed && len(data) > 0 || len(datagrams) > 10 {
			t.Errorf("%x: got an error with %d bytes, %d datagrams", query, len(data), len(datagrams))
		}
	})
}
