package daemon

import (
	"crypto/sha1"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// askFrom asks from an address of loopback, and gives the reply, nil for silence. Where an
// answer is expected it asks again and waits longer each time: a datagram may be lost where the
// machine is busy. Each time it is from another port, which an answer that comes late is not
// taken for that to the next packet.
func askFrom(t *testing.T, from string, to netip.AddrPort, request []byte, expected bool) []byte {
	t.Helper()
	for round := 0; round == 0 || expected && round < 6; round++ {
		conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from+":0")), net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(250 * time.Millisecond << round))
		_, _ = conn.Write(request)
		buffer := make([]byte, 2048)
		n, err := conn.Read(buffer)
		conn.Close()
		if err == nil {
			return buffer[:n]
		}
	}
	return nil
}

// timeRequest is one of mode 3; with a key it has a SHA-1 MAC.
func timeRequest(id byte, secret string) []byte {
	r := make([]byte, 48, 72)
	r[0] = 4<<3 | 3
	putTimestamp(r[40:], time.Now())
	if id != 0 {
		digest := sha1.Sum(append([]byte(secret), r...))
		r = append(append(r, 0, 0, 0, id), digest[:]...)
	}
	return r
}

// Within the first list that holds an address the longest network counts, `deny` ends the
// search, and `require` is of a range; a wrong MAC draws nothing, whatever the range.
func TestAccessRulesOfRanges(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, fmt.Sprintf(`clock: {driver: virtual}
local: {stratum: 1}
keys: [{id: 7, type: sha1, text: the secret of this test}]
server:
  listen: ["%s"]
  workers: 1
  require: key
  access:
    server: [{networks: [127.1.0.0/16], require: none}, {networks: [127.1.9.0/24], deny: true}, 127.1.9.9/32, 127.2.0.0/16]
    query: [127.3.0.0/16]
    synchronization: [{networks: [127.0.0.0/8], require: none}, {networks: [127.4.0.0/16], deny: true}]
`, at))
	control := []byte{4<<3 | 6, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, test := range []struct {
		from                  string
		plain, keyed, queried bool
	}{
		{"127.1.1.1", true, true, true},
		{"127.1.9.1", false, false, false}, // though synchronization holds it
		{"127.1.9.9", false, true, true},   // as the server requires
		{"127.2.0.1", false, true, true},
		{"127.3.0.1", true, true, false}, // synchronization comes before query
		{"127.4.0.1", false, false, false},
		{"127.5.0.1", true, true, false},
	} {
		if got := askFrom(t, test.from, at, timeRequest(0, ""), test.plain) != nil; got != test.plain {
			t.Errorf("%s, without a key: answered %v, want %v", test.from, got, test.plain)
		}
		if got := askFrom(t, test.from, at, timeRequest(7, "the secret of this test"), test.keyed) != nil; got != test.keyed {
			t.Errorf("%s, with the key: answered %v, want %v", test.from, got, test.keyed)
		}
		if got := askFrom(t, test.from, at, control, test.queried) != nil; got != test.queried {
			t.Errorf("%s, by mode 6: answered %v, want %v", test.from, got, test.queried)
		}
		if got := askFrom(t, test.from, at, timeRequest(7, "another secret"), false); got != nil {
			t.Errorf("%s, with a wrong MAC: got %d bytes, want silence (no crypto-NAK)", test.from, len(got))
		}
	}
}

// Only `query` set: control queries are answered, and nobody is told the time.
func TestQueriesWithoutServingTime(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, fmt.Sprintf("clock: {driver: virtual}\nlocal: {stratum: 1}\nserver: {listen: [\"%s\"], workers: 1, access: {query: [127.0.0.0/8]}}\n", at))
	if got := askFrom(t, "127.0.0.1", at, []byte{4<<3 | 6, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, true); len(got) < 100 {
		t.Errorf("mode 6: got %d bytes, want the variables", len(got))
	}
	if got := askFrom(t, "127.0.0.1", at, timeRequest(0, ""), false); got != nil {
		t.Errorf("mode 3: got %d bytes, want silence", len(got))
	}
}
