package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// serverLab is a network with a timeball that serves its local clock at stratum 3, and
// one more host.
func serverLab(t *testing.T) (server, client *peers.Host) {
	t.Helper()
	t.Parallel()
	lab := peers.NewLab(t)
	server, client = lab.Host("server"), lab.Host("client")
	peers.Timeball(t, server, serverConfig)
	serves(t, client, server.IPv4)
	return server, client
}

func TestChronydSelectsTimeball(t *testing.T) {
	server, client := serverLab(t)
	c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
	row := c.Selects(30*time.Second, server.IPv4.String())
	if row.Stratum != 3 || row.Offset.Abs() > time.Millisecond {
		t.Errorf("timeball as chronyd sees it: got %+v, want stratum 3 and under 1 ms", row)
	}
}

func TestChronydSelectsTimeballOverIPv6(t *testing.T) {
	server, client := serverLab(t)
	c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv6))
	c.Selects(30*time.Second, server.IPv6.String())
}

func TestNTPsecSelectsTimeball(t *testing.T) {
	server, client := serverLab(t)
	n := peers.NTPsec(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
	if row := n.Selects(90*time.Second, server.IPv4.String()); row.Fields[1] != "3" {
		t.Errorf("timeball as ntpd sees it: got %q, want stratum 3", row.Fields)
	}
}

func TestOpenNTPDSelectsTimeball(t *testing.T) {
	server, client := serverLab(t)
	o := peers.OpenNTPD(t, client, fmt.Sprintf("server %v", server.IPv4))
	o.Says(120*time.Second, fmt.Sprintf("peer %v now valid", server.IPv4))
}

func TestTimesyncdSelectsTimeball(t *testing.T) {
	server, client := serverLab(t)
	s := peers.Timesyncd(t, client, server.IPv4.String())
	s.Says(60*time.Second, fmt.Sprintf("Contacted time server %v", server.IPv4))
}

// A client of each version is answered in its own.
func TestClientsAreAnsweredInTheirVersion(t *testing.T) {
	server, client := serverLab(t)
	for version := uint8(1); version <= 4; version++ {
		reply, err := ask(client, server.IPv4, version)
		if err != nil {
			t.Errorf("version %d: %v", version, err)
			continue
		}
		if reply.Version != version || reply.Mode != wire.ModeServer || reply.Stratum != 3 || reply.Leap != wire.LeapNone {
			t.Errorf("reply to version %d: got version %d, mode %v, stratum %d, leap %v, want the same version, server, 3, none",
				version, reply.Version, reply.Mode, reply.Stratum, reply.Leap)
		}
		if reply.Receive == 0 || reply.Transmit == 0 || reply.Transmit.Sub(reply.Receive) < 0 {
			t.Errorf("timestamps of the reply to version %d: got receive %v, transmit %v, want the one before the other",
				version, reply.Receive, reply.Transmit)
		}
	}
}

func TestChronydOfVersion3SelectsTimeball(t *testing.T) {
	server, client := serverLab(t)
	capture := peers.Listen(t, client)
	c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst version 3", server.IPv4))
	c.Selects(30*time.Second, server.IPv4.String())
	replies := 0
	for _, p := range capture.Packets() {
		version, mode := wire.Peek(p.Payload)
		if mode == wire.ModeServer {
			replies++
		}
		if version != 3 {
			t.Errorf("a packet from %v: got version %d, want 3", p.From, version)
		}
	}
	if replies == 0 {
		t.Error("no reply was captured")
	}
}

// Nothing but requests is answered, and no reply is longer than its request.
func TestServerIsSilentToWhatIsNoRequest(t *testing.T) {
	server, client := serverLab(t)
	to := netip.AddrPortFrom(server.IPv4, 123)
	tests := []struct {
		name    string
		request []byte
	}{
		{"a reply", append([]byte{0x24}, make([]byte, 47)...)},
		{"a broadcast", append([]byte{0x25}, make([]byte, 47)...)},
		{"a private request", append([]byte{0x27}, make([]byte, 47)...)},
		{"a symmetric passive packet", append([]byte{0x22}, make([]byte, 47)...)},
		{"version 0", append([]byte{0x03}, make([]byte, 47)...)},
		{"version 5", append([]byte{0x2b}, make([]byte, 47)...)},
		{"a short request", append([]byte{0x23}, make([]byte, 46)...)},
		{"an empty datagram", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if reply, err := client.Exchange(to, tt.request, 200*time.Millisecond); !peers.Silent(err) {
				t.Errorf("got %x, %v, want silence", reply, err)
			}
		})
	}
	if _, err := ask(client, server.IPv4, 4); err != nil {
		t.Errorf("a request after all that: %v", err)
	}
}

func TestASecondDaemonOnThePortIsRefused(t *testing.T) {
	server, _ := serverLab(t)
	config := server.Write("second.yaml", serverConfig+"control: {socket: "+server.Dir+"/second.sock}\n")
	_, complaints, err := server.Run(nil, "timeout", "10", peers.Binary(t), "run", "--config", config)
	if got := peers.ExitStatus(err); got != 1 {
		t.Errorf("status of the second daemon: got %d, want 1", got)
	}
	if !strings.Contains(complaints, "123") {
		t.Errorf("what it says: got %q, want a word of port 123", complaints)
	}
}
