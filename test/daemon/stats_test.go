package daemon

import (
	"fmt"
	"net"
	"testing"
	"time"

	"timeball/test/peers"
)

// Every packet that comes in is in exactly one result: those of an address add up to the
// packets received there, and all results of all modes to the same.
func TestServerStatsAddUp(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	d := start(t, fmt.Sprintf(`clock: {driver: virtual}
local: {stratum: 1}
symmetric: {passive: true, keys: [7]}
keys: [{id: 7, type: sha1, text: the secret of this test}]
server:
  listen: ["%s"]
  workers: 1
  rate_limit: {interval: 100s, burst: 4, leak: 16}
  access: {server: [127.0.0.0/9]}
`, at))
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := 0
	send := func(data []byte) {
		if _, err := conn.Write(data); err == nil {
			sent++
		}
		time.Sleep(2 * time.Millisecond) // so that none is lost
	}
	for version := byte(0); version < 8; version++ {
		for mode := byte(0); mode < 8; mode++ {
			for _, length := range []int{1, 12, 47, 48, 52, 68} {
				data := make([]byte, length)
				data[0] = version<<3 | mode
				if length > 2 {
					data[1] = 2 // read variables, if it is a control query
				}
				send(data)
			}
		}
	}
	for range 10 {
		send(timeRequest(7, "the secret of this test"))
		send(timeRequest(7, "another secret"))
		active := timeRequest(7, "the secret of this test")
		active[0] = 4<<3 | 1
		send(active)
	}
	for range 3 {
		if askFrom(t, "127.200.0.1", at, timeRequest(0, ""), false) != nil {
			t.Error("who is denied was answered")
		}
		sent++
	}
	type listener struct {
		Address                                                       string
		Received, Accepted, Denied, Ignored, Control, Passed, Dropped uint64
		RateLimited                                                   uint64 `json:"rate_limited"`
	}
	var stats struct {
		Listeners []listener
		Packets   []struct {
			Mode, Result string
			Version      int
			Count        uint64
		}
	}
	var results map[string]uint64
	// Read while the last packet is worked on the figures may be one apart.
	peers.Eventually(t, patience, "all are counted", func() error {
		stats.Listeners, stats.Packets, results = nil, nil, map[string]uint64{}
		if err := d.Report(&stats, "serverstats"); err != nil || len(stats.Listeners) != 1 {
			return fmt.Errorf("got %+v, %v", stats, err)
		}
		l := stats.Listeners[0]
		if parts := l.Accepted + l.Denied + l.Ignored + l.RateLimited + l.Control + l.Passed; parts != l.Received || l.Received+l.Dropped != uint64(sent) { // a busy machine may come too late to some
			return fmt.Errorf("sent %d; got %+v, whose parts add up to %d", sent, l, parts)
		}
		var all uint64
		for _, p := range stats.Packets {
			all += p.Count
			results[p.Result] += p.Count
		}
		if all != l.Received {
			return fmt.Errorf("by mode, version and result: %d, want the %d received", all, l.Received)
		}
		return nil
	})
	for _, result := range []string{"answered", "denied", "ignored", "rate_limited", "control"} {
		if results[result] == 0 {
			t.Errorf("nothing is %s: %v", result, results)
		}
	}
}

// The row of every address is ":port", as it is configured.
func TestServerStatsOfEveryAddress(t *testing.T) {
	t.Parallel()
	d := start(t, "clock: {driver: virtual}\nlocal: {stratum: 1}\nserver: {listen: [\":0\"], workers: 1}\n")
	var stats struct{ Listeners []struct{ Address string } }
	if err := d.Report(&stats, "serverstats"); err != nil || len(stats.Listeners) != 1 || stats.Listeners[0].Address[0] != ':' {
		t.Errorf("got %+v, %v, want one row of :PORT", stats, err)
	}
}
