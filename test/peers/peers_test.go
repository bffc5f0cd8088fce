package peers

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// fast is a client's line for quick polls.
func fast(h *Host) string { return fmt.Sprintf("server %s minpoll 0 maxpoll 0 iburst", h.IPv4) }

const chronyServer = "local stratum 3\nallow all"

func TestChronydFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	capture := Listen(t, client)
	c := Chronyd(t, client, fast(server))
	row := c.Selects(20*time.Second, server.IPv4.String())
	if row.Stratum != 3 {
		t.Errorf("stratum of the server: got %d, want 3", row.Stratum)
	}
	if row.Offset.Abs() > 5*time.Millisecond {
		t.Errorf("offset on one machine: got %v, want about none", row.Offset)
	}
	modes := map[byte]int{}
	for _, p := range capture.Packets() {
		modes[p.Payload[0]&7]++
	}
	if modes[3] == 0 || modes[4] == 0 {
		t.Errorf("captured by mode: got %v, want requests (3) and replies (4)", modes)
	}
}

func TestChronydFollowsNTPsec(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	NTPsec(t, server, "tos orphan 2 orphanwait 1")
	c := Chronyd(t, client, fast(server))
	if row := c.Selects(60*time.Second, server.IPv4.String()); row.Stratum != 2 {
		t.Errorf("stratum of the server: got %d, want 2", row.Stratum)
	}
}

func TestNTPsecFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	n := NTPsec(t, client, fast(server))
	row := n.Selects(60*time.Second, server.IPv4.String())
	if len(row.Fields) < 2 || row.Fields[1] != "3" {
		t.Errorf("row of the server: got %q, want stratum 3", row.Fields)
	}
}

func TestOpenNTPDFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	OpenNTPD(t, client, "server "+server.IPv4.String()).Says(90*time.Second, "peer "+server.IPv4.String()+" now valid")
}

func TestTimesyncdFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	Timesyncd(t, client, server.IPv4.String()).Says(40*time.Second, "Contacted time server "+server.IPv4.String())
}

func TestIPv6WorksAtOnce(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	c := Chronyd(t, client, fmt.Sprintf("server %s minpoll 0 maxpoll 0 iburst", server.IPv6))
	c.Selects(20*time.Second, server.IPv6.String())
}

func TestNoProgramMayTouchTheClock(t *testing.T) {
	t.Parallel()
	h := NewLab(t).Host("host")
	const sysTime = 1 << 25 // CAP_SYS_TIME, capability(7)
	out, complaints, err := h.Run(nil, "cat", "/proc/self/status")
	if err != nil {
		t.Fatalf("cat: %v: %s", err, complaints)
	}
	seen := 0
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(name, "Cap") {
			continue
		}
		seen++
		var set uint64
		if _, err := fmt.Sscanf(strings.TrimSpace(value), "%x", &set); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if set&sysTime != 0 {
			t.Errorf("%s holds CAP_SYS_TIME: %x", name, set)
		}
	}
	if seen < 4 {
		t.Errorf("capability sets: got %d, want all", seen)
	}
}

func TestWhatAKilledTestLeftIsSweptAway(t *testing.T) {
	needNamespaces(t)
	const gone = "timeball-4194305-1-left" // above the largest process id there can be
	if _, err := run("/", "ip", "netns", "add", gone); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("ip", "netns", "exec", gone, "sleep", "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 10*time.Second, "the program is in the namespace", func() error {
		pids, err := run("/", "ip", "netns", "pids", gone)
		if strings.TrimSpace(pids) == "" {
			return fmt.Errorf("none there, %v", err)
		}
		return nil
	})
	sweep()
	if err := left.Wait(); err == nil {
		t.Error("the program in the namespace: got a good end, want it killed")
	}
	if _, err := os.Stat("/run/netns/" + gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace %s: got %v, want it gone", gone, err)
	}
}

func TestCheckMetrics(t *testing.T) {
	const good = "# HELP ntp_uptime_seconds Time since the start.\n# TYPE ntp_uptime_seconds gauge\nntp_uptime_seconds 1\n"
	if err := CheckMetrics(t, good); err != nil {
		t.Errorf("a good page: got %v, want nothing to say", err)
	}
	if err := CheckMetrics(t, "ntp_uptime_seconds one\n"); err == nil {
		t.Error("a page that is none: got nothing, want a complaint")
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	lab := NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	Chronyd(t, server, chronyServer)
	request := make([]byte, 48)
	request[0], request[47] = 0x23, 7
	Eventually(t, 10*time.Second, "a reply", func() error {
		reply, err := client.Exchange(netip.AddrPortFrom(server.IPv4, 123), request, time.Second)
		if err != nil {
			return err
		}
		if len(reply) != 48 || reply[0]&7 != 4 || reply[31] != 7 {
			return fmt.Errorf("not a reply to the request: %x", reply)
		}
		return nil
	})
	if _, err := client.Exchange(netip.AddrPortFrom(server.IPv4, 9), request, time.Second); !Silent(err) {
		t.Errorf("a port where nobody listens: got %v, want silence", err)
	}
}
