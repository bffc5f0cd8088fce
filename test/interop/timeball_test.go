package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

func TestMain(m *testing.M) { peers.Main(m) }

// small says whether an offset is under 1 ms.
func small(offset *float64) bool { return offset != nil && *offset < 1e-3 && *offset > -1e-3 }

// follows waits until the daemon's system peer is at that address, all of the last
// eight polls were answered, and the offset is under 1 ms; it gives the row.
func follows(t testing.TB, d *peers.Daemon, within time.Duration, server netip.Addr) peers.Source {
	t.Helper()
	return d.Has(within, fmt.Sprintf("timeball follows %v", server), func(s peers.Source) bool {
		return s.At(server) && s.State == "selected" && s.Reach == 255 && small(s.Offset)
	})
}

// request is a client's request of a version, with a transmit timestamp that says who asks.
func request(version uint8, cookie uint64) []byte {
	h := wire.Header{Version: version, Mode: wire.ModeClient, Transmit: ntptime.Timestamp(cookie)}
	return h.Append(nil)
}

// ask sends a request from a host and gives the reply's header. It asks three times: a
// datagram may be lost, or late, where the machine is busy.
func ask(from *peers.Host, server netip.Addr, version uint8) (wire.Packet, error) {
	const cookie = 0x0123456789abcdef
	var reply []byte
	var err error
	for range 3 {
		if reply, err = from.Exchange(netip.AddrPortFrom(server, 123), request(version, cookie), time.Second); !peers.Silent(err) {
			break
		}
	}
	if err != nil {
		return wire.Packet{}, err
	}
	var p wire.Packet
	if defect := p.Decode(reply); defect != wire.DefectNone {
		return p, fmt.Errorf("a reply that does not decode: %v: %x", defect, reply)
	}
	if p.Origin != cookie {
		return p, fmt.Errorf("origin: got %x, want what was sent", p.Origin)
	}
	return p, nil
}

// serves waits until a server is synchronized and says so, asked from a host.
func serves(t testing.TB, from *peers.Host, server netip.Addr) wire.Packet {
	t.Helper()
	var p wire.Packet
	peers.Eventually(t, time.Minute, fmt.Sprintf("%v serves", server), func() (err error) {
		p, err = ask(from, server, 4)
		switch {
		case err != nil:
			return err
		case p.Mode != wire.ModeServer || p.Leap == wire.LeapUnknown || p.Stratum == 0:
			return fmt.Errorf("mode %v, leap %v, stratum %d", p.Mode, p.Leap, p.Stratum)
		}
		return nil
	})
	return p
}

// oneLine says what is wrong with what should be one line that says what to do.
func oneLine(text string) error {
	if trimmed := strings.TrimSuffix(text, "\n"); trimmed == "" || strings.Contains(trimmed, "\n") {
		return fmt.Errorf("got %q, want one line", text)
	}
	return nil
}

// The configurations' common parts. The clock of a server only measures: its time is
// this machine's. That of a client starts wrong, and must come right.
const (
	serverConfig = "local: {stratum: 3}\nserver: {}\nclock: {driver: observe}\n"
	wrongClock   = "clock: {driver: virtual, virtual: {offset: 100ms, frequency: 20ppm}}\n"
	chronyServer = "local stratum 3\nallow all"
)

// quickSource is a client's source with fast polls.
func quickSource(server netip.Addr, more string) string {
	return fmt.Sprintf("sources: [{server: %q, min_poll: -2, max_poll: 0%s}]\n", server, more)
}

// trueError waits until a chronyd, which follows nobody, finds the server's time to be
// under 1 ms off this machine's: the clock of the host that timeball disciplines. A broadcast
// client that has measured the delay on a busy machine measures it again, a minute later.
func trueError(t testing.TB, monitor *peers.Host, server netip.Addr) {
	t.Helper()
	c := peers.Chronyd(t, monitor, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst noselect", server))
	peers.Eventually(t, 3*time.Minute, fmt.Sprintf("the clock of %v is right", server), func() error {
		sources, err := c.Sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if s.Address == server.String() && s.Reach >= 0o17 && s.Offset.Abs() < time.Millisecond {
				return nil
			}
		}
		return fmt.Errorf("as chronyd sees it: %+v", sources)
	})
}
