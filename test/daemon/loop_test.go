package daemon

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// of gives a server's reply another stratum and reference id.
func of(stratum byte, id netip.Addr) reply {
	return func(_, r []byte) []byte {
		r[1] = stratum
		address := id.As4()
		copy(r[12:16], address[:])
		return r
	}
}

// elsewhere is an address of this machine that no exchange over loopback is made from.
func elsewhere(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	t.Skip("this machine has no IPv4 address but loopback's")
	return netip.Addr{}
}

// stateOf waits until the one source of a daemon is judged, and gives its state and reason.
func stateOf(d *daemon) (state, reason string) {
	d.t.Helper()
	d.until("the source is judged", func() bool {
		sources, err := d.Sources()
		if err != nil || len(sources) != 1 || sources[0].Samples < 3 {
			return false
		}
		state, reason = sources[0].State, sources[0].Reason
		return state != "waiting"
	})
	return state, reason
}

// Only who serves can be in a loop, and only the local address of that very exchange shows
// one: an address of another interface may be somebody else's on his network.
func TestRFC5905_11_2_WhoIsALoop(t *testing.T) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1}) // which we have in exchanges with the server
	for _, test := range []struct {
		name   string
		serves bool
		id     func(*testing.T) netip.Addr // the server's reference id is our address there
		want   string
	}{
		{"another interface on a pure client", false, elsewhere, "selected"},
		{"another interface on a server", true, elsewhere, "selected"},
		{"this exchange on a pure client", false, func(*testing.T) netip.Addr { return loopback }, "selected"},
		{"this exchange on a server", true, func(*testing.T) netip.Addr { return loopback }, "excluded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := falseServer(t, of(3, test.id(t)))
			config := clientConfig(server, t.TempDir(), "")
			if test.serves {
				config += fmt.Sprintf("server: {listen: [\"%s\"], workers: 1}\n", freePort(t))
			}
			state, reason := stateOf(start(t, config))
			if state != test.want || test.want == "excluded" && !strings.Contains(reason, "loop") {
				t.Errorf("got %s (%s), want %s", state, reason, test.want)
			}
		})
	}
}

// Our own server by another address, or behind NAT, is known by what it serves.
func TestOurOwnServerByAnotherAddressIsNoSource(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	behind := falseServer(t, func(request, _ []byte) []byte {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil
		}
		defer conn.Close()
		buffer := make([]byte, 512)
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(request)
		n, err := conn.Read(buffer)
		if err != nil {
			return nil
		}
		return buffer[:n]
	})
	d := start(t, clientConfig(behind, t.TempDir(), "")+
		fmt.Sprintf("server: {listen: [\"%s\"], workers: 1}\nlocal: {stratum: 5}\n", at))
	if state, reason := stateOf(d); state != "excluded" || !strings.Contains(reason, "loop") {
		t.Errorf("got %s (%s), want a loop", state, reason)
	}
	tracking, err := d.Tracking()
	if err != nil || tracking.State != "local" || tracking.Stratum != 5 {
		t.Errorf("got %+v, %v, want the local clock at stratum 5", tracking, err)
	}
}

// Windows' time service answers version 4 by version 3.
func TestRFC5905_7_3_AnswersOfOlderVersions(t *testing.T) {
	for version := byte(1); version <= 4; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			server := falseServer(t, func(_, r []byte) []byte {
				r[0] = r[0]&^0x38 | version<<3
				return r
			})
			d := start(t, clientConfig(server, t.TempDir(), ""))
			d.until("synchronized", d.synchronized)
		})
	}
}

// The first exchanges of a peer, in mode 3, set our clock by no other rule than those in
// mode 1: not where the peer follows us.
func TestRFC5905_11_2_APeersFirstExchanges(t *testing.T) {
	for _, follows := range []bool{false, true} {
		t.Run(fmt.Sprint("the peer follows us: ", follows), func(t *testing.T) {
			t.Parallel()
			at := freePort(t)
			id := at.Addr()
			if !follows {
				id = netip.AddrFrom4([4]byte{192, 0, 2, 1})
			}
			peer := falseServer(t, func(request, r []byte) []byte {
				if request[0]&7 != 3 {
					return nil
				}
				return of(3, id)(request, r)
			})
			d := start(t, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 100ms}}\nserver: {listen: [\"%s\"], workers: 1}\n"+
				"sources: [{peer: \"%s\", unauthenticated: true, min_poll: 0, max_poll: 0}]\n", at, peer))
			d.until("it has asked in mode 3", func() bool {
				sources, err := d.Sources()
				return err == nil && len(sources) == 1 && sources[0].Reach != 0
			})
			if follows {
				time.Sleep(time.Second) // nothing may come of it
			} else {
				d.until("synchronized", d.synchronized)
			}
			if got := d.synchronized(); got == follows {
				t.Errorf("synchronized %v, want %v", got, !follows)
			}
		})
	}
}

// A passive association answers a peer that begins anew (mode 1, origin 0) at once.
func TestRFC5905_9_2_APeerThatBeginsAnew(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, serverConfig(at, "0s")+"symmetric: {passive: true, unauthenticated: true}\n")
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet := make([]byte, 48)
	packet[0], packet[1], packet[2] = 4<<3|1, 3, 6 // version 4, mode 1, stratum 3, poll 64 s
	// One such answer is given in a second, by the daemon's clock: a beginning that came too soon
	// for it is made again. The association's own polls are further apart than patience lasts.
	answered := func() bool {
		putTimestamp(packet[40:], time.Now())
		want := binary.BigEndian.Uint64(packet[40:])
		_, _ = conn.Write(packet)
		_ = conn.SetReadDeadline(time.Now().Add(2100 * time.Millisecond))
		buffer := make([]byte, 512)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return false
			}
			if n == 48 && buffer[0]&7 == 2 && binary.BigEndian.Uint64(buffer[24:]) == want {
				return true
			}
		}
	}
	for round := range 3 {
		for attempt := 1; !answered(); attempt++ {
			if attempt == 10 {
				t.Fatalf("beginning %d: not answered in mode 2 within %d attempts", round, attempt)
			}
		}
	}
}
