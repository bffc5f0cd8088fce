package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// fastPathStats are what the driver did, as `timeball serverstats` tells.
type fastPathStats struct {
	Listeners []struct{ Received int }
	FastPath  *struct {
		Attached                              []struct{ Interface, Mode string }
		Failed                                []string
		Answered, RateKoD, Limited, Forwarded int
	} `json:"fast_path"`
}

// Requests are answered in the driver: to chronyd as well as by the sockets, and counted.
func TestRequestsAreAnsweredInTheDriver(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"native", "generic"} {
		lab := peers.NewLab(t)
		server, client := lab.Host("server"), lab.Host("client")
		lab.LikeCards("../../internal/netio/xdp/fastpath_bpfel.o")
		d := peers.Timeball(t, server, fmt.Sprintf(`
clock: {driver: observe}
local: {stratum: 2}
server:
  fast_path: {interfaces: [%s], mode: %s}
`, "eth0", mode))
		d.Says(20*time.Second, "timeball runs")
		if strings.Contains(d.Log(), "no fast path") {
			t.Skip("no XDP here: " + d.Log())
		}
		for _, to := range []netip.Addr{server.IPv4, server.IPv6} {
			for range 20 {
				reply, err := ask(client, to, 4)
				if err != nil || reply.Stratum != 2 {
					t.Fatalf("%s, %v: %+v %v", mode, to, reply.Header, err)
				}
				if off := reply.Transmit.Sub(reply.Receive); off <= 0 || off > 100*time.Millisecond {
					t.Errorf("%s: transmitted %v after the request came", mode, off)
				}
			}
		}
		c := peers.Chronyd(t, client, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst", server.IPv4))
		if row := c.Selects(30*time.Second, server.IPv4.String()); row.Offset.Abs() > time.Millisecond {
			t.Errorf("%s: chronyd sees an offset of %v", mode, row.Offset)
		}
		peers.Eventually(t, 10*time.Second, "the driver has answered", func() error {
			var stats fastPathStats
			if err := d.Report(&stats, "serverstats"); err != nil {
				return err
			}
			f := stats.FastPath
			if f == nil || len(f.Attached) != 1 || f.Attached[0].Mode != mode || f.Answered < 35 || len(f.Failed) > 0 {
				return fmt.Errorf("%s: %+v", mode, f)
			}
			return nil
		})
		said, _, err := d.Run("status")
		if err != nil || !strings.Contains(said, "in the driver (XDP, "+mode+")") {
			t.Errorf("%s: status says %q, %v", mode, said, err)
		}
		if _, err := d.Stop(); err != nil {
			t.Error(err)
		}
		if said, _, err := server.Run(nil, "ip", "link", "show", "eth0"); err != nil || strings.Contains(said, "xdp") {
			t.Errorf("%s: the program outlives the daemon: %s %v", mode, said, err)
		}
	}
}

// Without the privilege there is one warning that says what is missing, and the sockets serve.
func TestTheFastPathFailsSoft(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	d := peers.Timeball(t, server, fmt.Sprintf(`
clock: {driver: observe}
local: {stratum: 2}
server: {fast_path: {interfaces: [%s, nosuch0]}}
`, "eth0"), "setpriv", "--bounding-set", "-bpf,-sys_admin,-net_admin,-perfmon")
	d.Says(20*time.Second, "CAP_BPF")
	if reply, err := ask(client, server.IPv4, 4); err != nil || reply.Stratum != 2 {
		t.Errorf("%+v %v", reply.Header, err)
	}
	if n := d.Said("no fast path"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	said, _, err := d.Run("status")
	if err != nil || !strings.Contains(said, "NOT ANSWERED IN THE DRIVER") {
		t.Errorf("status says %q, %v", said, err)
	}
}
