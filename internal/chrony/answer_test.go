package chrony

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// view is a daemon with two servers, a reference clock and a name that does not resolve.
type view struct {
	snapshot model.Snapshot
	clients  []responder.ClientReport
}

func (v *view) Snapshot() *model.Snapshot                 { return &v.snapshot }
func (v *view) Now() ntptime.Instant                      { return ntptime.Instant{Wall: 1_700_000_100e9, Raw: 200e9} }
func (v *view) Options(name string) Options               { return Options{Prefer: name == "a.example"} }
func (v *view) Server() *Server                           { return &Server{Received: 1 << 40, Dropped: 3, Requests: 7} }
func (v *view) Clients() ([]responder.ClientReport, bool) { return v.clients, v.clients != nil }

func (v *view) Serves(a netip.Addr) bool { return a.Is6() }
func (v *view) MayAsk(a netip.Addr) bool { return a.IsLoopback() }

func newView() *view {
	at := ntptime.Instant{Wall: 1_700_000_000e9, Raw: 100e9}
	v := &view{}
	s := &v.snapshot
	s.At, s.Stratum, s.SystemPeer, s.ReferenceTime, s.ReferenceID = at, 2, 1, at.Wall, 0xc0000201
	s.Offset, s.Frequency, s.FrequencyError, s.RootDelay = 3*time.Millisecond, 12e-6, 1e-7, 10*time.Millisecond
	row := func(id model.SourceID, name, address string, state model.State) model.SourceReport {
		r := model.SourceReport{State: state, Offset: time.Millisecond, Error: 2 * time.Millisecond, LastSample: at, Samples: 9}
		r.Source, r.Name, r.Reach, r.Poll, r.Server.Stratum = id, name, 255, 6, 1
		if address != "" {
			r.Address = netip.MustParseAddrPort(address)
		}
		return r
	}
	clock := row(3, "GPS", "", model.StateCombined)
	clock.Reference, clock.Server.ReferenceID = true, wire.ReferenceName("GPS")
	lost := row(4, "nowhere.invalid", "", model.StateWaiting)
	lost.Idle = true
	s.Sources = []model.SourceReport{row(1, "a.example", "192.0.2.1:123", model.StateSelected),
		row(2, "b.example", "[2001:db8::1]:123", model.StateFalseticker), lost, clock}
	for i := range 20 {
		v.clients = append(v.clients, responder.ClientReport{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32), Hits: uint32(100 - i), LastSeen: time.Second})
	}
	return v
}

// ask makes a request, padded to a length.
func ask(c command, length int, body ...byte) []byte {
	request := make([]byte, max(length, requestHead+len(body)))
	request[0], request[1] = version, kindRequest
	binary.BigEndian.PutUint16(request[4:], uint16(c))
	copy(request[8:], "seq!")
	copy(request[requestHead:], body)
	return request
}

func header(reply []byte) (replyType, status) {
	return replyType(binary.BigEndian.Uint16(reply[6:])), status(binary.BigEndian.Uint16(reply[8:]))
}

// The replies have the types and lengths that chronyc of 4.3 and 4.6.1 want, each no longer
// than its request.
func TestRepliesFitTheirRequests(t *testing.T) {
	index := func(i uint32) []byte { return binary.BigEndian.AppendUint32(nil, i) }
	var p, lost packet
	p.address(netip.MustParseAddr("2001:db8::1"))
	lost.unresolved(4)
	for _, test := range []struct {
		name    string
		request []byte
		kind    replyType
		result  status
	}{
		{"number of sources", ask(cmdSourceCount, 32), replySourceCount, statusSuccess},
		{"source data", ask(cmdSourceData, 76, index(2)...), replySourceData, statusSuccess},
		{"source data of one without an address", ask(cmdSourceData, 76, index(2)...), replySourceData, statusSuccess},
		{"source data of none", ask(cmdSourceData, 76, index(4)...), replyNull, statusNoSource},
		{"tracking", ask(cmdTracking, 104), replyTracking, statusSuccess},
		{"sourcestats", ask(cmdSourceStats, 84, index(0)...), replySourceStats, statusSuccess},
		{"selectdata", ask(cmdSelectData, 76, index(1)...), replySelectData, statusSuccess},
		{"ntpdata of 4.3", ask(cmdNTPData, 152, p.b...), replyNTPData, statusSuccess},
		{"ntpdata of 4.6.1", ask(cmdNTPData, 172, p.b...), replyNTPData2, statusSuccess},
		{"ntpdata of a library", ask(cmdNTPData, 416, p.b...), replyNTPData, statusSuccess},
		{"ntpdata of an unknown address", ask(cmdNTPData, 172, make([]byte, 20)...), replyNull, statusNoSource},
		{"authdata", ask(cmdAuthData, 52, p.b...), replyAuthData, statusSuccess},
		{"name of a source", ask(cmdSourceName, 284, p.b...), replySourceName, statusSuccess},
		{"activity", ask(cmdActivity, 48), replyActivity, statusSuccess},
		{"serverstats of 4.3", ask(cmdServerStats, 72), replyServerStats3, statusSuccess},
		{"serverstats of 4.6.1", ask(cmdServerStats, 196), replyServerStats4, statusSuccess},
		{"serverstats of 4.1", ask(cmdServerStats, 56), replyServerStats2, statusSuccess},
		{"clients", ask(cmdClients, 520, append(index(16), 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0)...), replyClients, statusSuccess},
		{"clients, and forget them", ask(cmdClients, 520, append(index(0), 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1)...), replyNull, statusUnauthorised},
		{"access", ask(cmdAccess, 44, p.b...), replyNull, statusAllowed},
		{"access of another", ask(cmdAccess, 44, make([]byte, 20)...), replyNull, statusDenied},
		{"access to reports", ask(cmdMonitoring, 44, p.b...), replyNull, statusDenied},
		{"access of nobody", ask(cmdAccess, 28), replyNull, statusBadLength},
		{"ntpdata of one without an address", ask(cmdNTPData, 172, lost.b...), replyNTPData2, statusSuccess},
		{"name of one without an address", ask(cmdSourceName, 284, lost.b...), replySourceName, statusSuccess},
		{"manual list", ask(cmdManualList, 416), replyManualList, statusSuccess},
		{"smoothing", ask(cmdSmoothing, 52), replyNull, statusInactive},
		{"the board's clock", ask(cmdRTC, 56), replyNull, statusNoRTC},
		{"a command of the future", ask(200, 52), replyNull, statusInvalid},
		{"padded too little", ask(cmdTracking, 60), replyNull, statusBadLength},
		{"an old version", append([]byte{5}, ask(cmdTracking, 104)[1:]...), replyNull, statusBadVersion},
	} {
		reply := Answer(nil, test.request, newView())
		if len(reply) < replyHead || len(reply) > len(test.request) {
			t.Errorf("%s: got %d bytes for %d", test.name, len(reply), len(test.request))
			continue
		}
		kind, result := header(reply)
		if kind != test.kind || result != test.result {
			t.Errorf("%s: got reply %d, status %d, want %d, %d", test.name, kind, result, test.kind, test.result)
		}
		if result == statusSuccess && len(reply) != len(test.request) && len(test.request) != 416 {
			t.Errorf("%s: got %d bytes, want the %d that chronyc expects", test.name, len(reply), len(test.request))
		}
		if !bytes.Equal(reply[16:20], []byte("seq!")) {
			t.Errorf("%s: got sequence %q", test.name, reply[16:20])
		}
	}
}

// Every command that is not a report is refused as unauthorised, or is none.
func TestNothingCanBeChanged(t *testing.T) {
	reports := map[command]bool{cmdNull: true, cmdSourceCount: true, cmdSourceData: true, cmdTracking: true, cmdSourceStats: true, cmdRTC: true,
		cmdManualList: true, cmdActivity: true, cmdSmoothing: true, cmdServerStats: true, cmdNTPData: true, cmdSourceName: true,
		cmdAuthData: true, cmdClients: true, cmdSelectData: true}
	for c := range command(commands) {
		_, result := header(Answer(nil, ask(c, 560), newView()))
		if c == cmdAccess || c == cmdMonitoring {
			if result != statusDenied {
				t.Errorf("command %d: got status %d, want what the view says of nobody", c, result)
			}
			continue
		}
		if !reports[c] && result != statusUnauthorised && result != statusInvalid {
			t.Errorf("command %d: got status %d, want it refused", c, result)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, v := range []float64{0, 1, -1, 0.25, 1e-9, -3.3e-6, 83333.333, 1e10, -1e10, 1.5, 0.9999999999} {
		got := decodeNumber(encodeNumber(v))
		if math.Abs(got-v) > math.Abs(v)*1e-7 {
			t.Errorf("%g came back as %g", v, got)
		}
	}
	for _, v := range []float64{math.Inf(1), 1e300} {
		if got := decodeNumber(encodeNumber(v)); got < 1e10 {
			t.Errorf("%g came back as %g, want something large", v, got)
		}
	}
	if got := decodeNumber(encodeNumber(math.NaN())) + decodeNumber(encodeNumber(1e-300)); got != 0 {
		t.Errorf("what is no number, and next to nothing, came back as %g", got)
	}
}

// Whatever comes in: no panic, no answer longer than the question.
func FuzzAnswer(f *testing.F) {
	for c := range command(commands + 2) {
		f.Add(ask(c, 560, 0, 0, 0, 1))
		f.Add(ask(c, 28))
	}
	v := newView()
	f.Fuzz(func(t *testing.T, request []byte) {
		before := bytes.Clone(request)
		reply := Answer(nil, request, v)
		if len(reply) > len(request) {
			t.Fatalf("got %d bytes for %d", len(reply), len(request))
		}
		if len(reply) > 0 && len(reply) < replyHead {
			t.Fatalf("got %d bytes, less than a head", len(reply))
		}
		if !bytes.Equal(before, request) {
			t.Fatal("the request was changed")
		}
	})
}

// decodeNumber reads what encodeNumber writes.
func decodeNumber(x uint32) float64 {
	exponent := int32(x) >> coefficientBits
	coefficient := int32(x<<(32-coefficientBits)) >> (32 - coefficientBits)
	return math.Ldexp(float64(coefficient), int(exponent)-coefficientBits)
}
