package interop

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// fieldsLab is a network whose hosts have links that AF_XDP works with: two that are to serve
// and one that is to ask.
func fieldsLab(t *testing.T) (a *peers.Authority, first, second, client *peers.Host) {
	t.Helper()
	t.Parallel()
	lab := peers.NewLab(t)
	first, second, client = lab.Host("first"), lab.Host("second"), lab.Host("client")
	lab.LikeCards("../../internal/netio/xdp/fastpath_bpfel.o")
	return peers.NewAuthority(t), first, second, client
}

// fieldsServer is the configuration of a timeball that serves with NTS, keys, access lists and
// a rate limit, past the kernel's UDP where mode says how.
func fieldsServer(a *peers.Authority, h *peers.Host, ring, mode string) string {
	certificate, key := a.Issue(h, h.IPv4.String(), h.IPv6.String())
	path := ""
	if mode != "" {
		path = fmt.Sprintf("fast_path: {interfaces: [eth0], mode: %s, fields: true}", mode)
	}
	return fmt.Sprintf(`
local: {stratum: 3}
clock: {driver: observe}
keys: [{id: 7, type: aes128-cmac, hex: 00112233445566778899aabbccddeeff}, {id: 8, type: sha1, hex: 0011223344556677}]
server:
  nts: {certificate: %s, key: %s, keys: %s}
  %s
`, certificate, key, ring, path)
}

// pastUDP skips the test where a daemon has no workers.
func pastUDP(t *testing.T, d *peers.Daemon) {
	t.Helper()
	d.Says(20*time.Second, "timeball runs")
	if strings.Contains(d.Log(), "no fast path") {
		t.Skip("no AF_XDP here: " + d.Log())
	}
}

// redirected is what the workers of a daemon were given, and lost.
func redirected(d *peers.Daemon) (n int, lost map[string]int, err error) {
	var stats struct {
		FastPath struct {
			Redirected int
			Lost       map[string]int
		} `json:"fast_path"`
	}
	err = d.Report(&stats, "serverstats")
	return stats.FastPath.Redirected, stats.FastPath.Lost, err
}

// chronyd follows a server past the kernel's UDP by NTS and with a key, in both families.
func TestChronydSelectsTimeballPastUDP(t *testing.T) {
	a, server, _, client := fieldsLab(t)
	ca := a.Write(client)
	keys := peers.ChronyKeys(client, "7 AES128 HEX:00112233445566778899aabbccddeeff")
	for _, mode := range []string{"native", "generic"} {
		d := peers.Timeball(t, server, fieldsServer(a, server, server.Dir+"/ring", mode))
		pastUDP(t, d)
		serves(t, client, server.IPv4)
		for _, address := range []string{server.IPv4.String(), server.IPv6.String()} {
			for _, how := range []string{"nts", "key 7"} {
				if (mode == "generic" || how != "nts") && address != server.IPv4.String() || mode == "generic" && how != "nts" {
					continue // four of the eight will do
				}
				before, _, err := redirected(d)
				if err != nil {
					t.Fatal(err)
				}
				c := peers.Chronyd(t, client, fmt.Sprintf("server %s %s minpoll 0 maxpoll 0 iburst\nntstrustedcerts %s\nntsdumpdir %s\nkeyfile %s", address, how, ca, client.Dir, keys))
				c.Selects(40*time.Second, address)
				if how == "nts" {
					if err := authenticated(c, address); err != nil {
						t.Errorf("%s: %v", mode, err)
					}
				}
				peers.Eventually(t, 10*time.Second, "requests are redirected", func() error {
					after, lost, err := redirected(d)
					if err == nil && after < before+4 {
						err = fmt.Errorf("%s, %s, %s: %d before, %d now, lost %v", mode, address, how, before, after, lost)
					}
					return err
				})
				if _, err := c.Stop(); err != nil {
					t.Log(err)
				}
			}
		}
		said, _, err := d.Run("status")
		if err != nil || !strings.Contains(said, "AF_XDP") {
			t.Errorf("status says %q, %v", said, err)
		}
		if _, err := d.Stop(); err != nil {
			t.Error(err)
		}
		if said, _, err := server.Run(nil, "ip", "link", "show", "eth0"); err != nil || strings.Contains(said, "xdp") {
			t.Errorf("%s: the program outlives the daemon: %s %v", mode, said, err)
		}
	}
}

// Without the privilege for AF_XDP there is one warning that says so: plain requests are still
// answered in the driver, and the sockets serve the rest.
func TestPastUDPFailsSoft(t *testing.T) {
	a, server, _, client := fieldsLab(t)
	d := peers.Timeball(t, server, fieldsServer(a, server, server.Dir+"/ring", "native"), "setpriv", "--bounding-set", "-net_raw")
	d.Says(20*time.Second, "timeball runs")
	if strings.Contains(d.Log(), "no fast path: ") {
		t.Skip("no XDP here: " + d.Log())
	}
	serves(t, client, server.IPv4)
	if n := d.Said("CAP_NET_RAW"); n != 1 || d.Said("no fast path for NTS and keys") != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, d.Log())
	}
	if said, _, err := d.Run("status"); err != nil || !strings.Contains(said, "CAP_NET_RAW") || !strings.Contains(said, "are answered in the driver") {
		t.Errorf("status says %q, %v", said, err)
	}
	if _, said, err := d.Run("query", "--nts", "--nts-ca", a.Write(server), server.IPv4.String()); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// Each queue of an interface has a worker: whatever queue a client's requests come by, they are
// answered there.
func TestPastUDPHasAWorkerForEachQueue(t *testing.T) {
	a, server, _, client := fieldsLab(t)
	there := client.Command(nil, "sleep", "120") // stands for the namespace
	if err := there.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = there.Process.Kill()
		_ = there.Wait()
	}()
	for _, argv := range [][]string{
		{"ip", "link", "add", "two0", "numrxqueues", "2", "numtxqueues", "2", "type", "veth", "peer", "name", "two0", "numrxqueues", "2", "numtxqueues", "2", "netns", fmt.Sprint(there.Process.Pid)},
		{"ip", "address", "add", "10.55.0.1/24", "dev", "two0"},
		{"ip", "link", "set", "two0", "up"},
	} {
		if _, said, err := server.Run(nil, argv...); err != nil {
			t.Skip("no link with two queues: ", argv, said, err)
		}
	}
	for _, argv := range [][]string{{"ip", "address", "add", "10.55.0.2/24", "dev", "two0"}, {"ip", "link", "set", "two0", "up"}, {"ethtool", "-K", "two0", "tx", "off"}} {
		if _, said, err := client.Run(nil, argv...); err != nil {
			t.Skip("no link with two queues: ", argv, said, err)
		}
	}
	d := peers.Timeball(t, server, strings.Replace(fieldsServer(a, server, server.Dir+"/ring", "native"), "[eth0]", "[two0]", 1))
	pastUDP(t, d)
	serves(t, client, server.IPv4)
	if said, _, err := d.Run("status"); err != nil || !strings.Contains(said, "AF_XDP, 2 queues") {
		t.Errorf("status says %q, %v; want 2 queues", said, err)
	}
	for i := range 32 { // each from a port of its own
		header := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: originOf(i)}
		request := wire.AppendField(header.Append(nil), 0x7f01, make([]byte, 24), wire.MinLastField)
		if _, err := client.Exchange(netip.MustParseAddrPort("10.55.0.1:123"), request, time.Second); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	peers.Eventually(t, 10*time.Second, "all were redirected", func() error {
		n, lost, err := redirected(d)
		if err == nil && n != 32 {
			err = fmt.Errorf("%d of 32, lost %v", n, lost)
		}
		return err
	})
}

// The workers live through a reload, which changes what they say; when the daemon is
// killed the program goes with it.
func TestPastUDPIsReloadedAndKilled(t *testing.T) {
	a, server, _, client := fieldsLab(t)
	conf := fieldsServer(a, server, server.Dir+"/ring", "native")
	d := peers.Timeball(t, server, conf)
	pastUDP(t, d)
	serves(t, client, server.IPv4)
	key, err := mac.NewKey(7, mac.AES128, []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
	if err != nil {
		t.Fatal(err)
	}
	var requests []varied
	for i := range group {
		header := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: originOf(i)}
		requests = append(requests, varied{data: key.AppendMAC(header.Append(nil), 4)})
	}
	for i, reply := range asked(t, client, server.IPv4, requests) {
		if len(reply.data) != len(requests[0].data) {
			t.Errorf("request %d is answered by %d bytes", i, len(reply.data))
		}
	}
	// becomes sends the requests, and waits until the daemon has counted what becomes of them.
	becomes := func(what string, want counts) {
		t.Helper()
		before := atRest(t, d)
		if err := client.Inside(func() error { return sendAll(server.IPv4, requests) }); err != nil {
			t.Fatal(err)
		}
		peers.Eventually(t, 20*time.Second, what, func() error {
			if got := counted(t, d).less(before); got != want {
				return fmt.Errorf("%+v, want %+v", got, want)
			}
			return nil
		})
	}
	d.Reload(strings.Replace(conf, "{id: 7,", "{id: 17,", 1))
	becomes("nobody is answered under a key that is gone", counts{Received: group, Denied: group})
	d.Reload(strings.Replace(conf, "server:\n", "server:\n  rate_limit: {interval: 60s, burst: 2, leak: 16}\n", 1))
	becomes("the rate limit holds", counts{Received: group, Accepted: 2, Limited: group - 2})
	peers.Eventually(t, 10*time.Second, "all have been redirected", func() error {
		n, lost, err := redirected(d)
		if err == nil && n != 3*group {
			err = fmt.Errorf("%d, %v lost; want %d", n, lost, 3*group)
		}
		return err
	})
	d.Signal(os.Kill)
	d.Ends(10 * time.Second)
	peers.Eventually(t, 10*time.Second, "the program is gone", func() error {
		if said, _, err := server.Run(nil, "ip", "link", "show", "eth0"); err != nil || strings.Contains(said, "xdp") {
			return fmt.Errorf("%s %v", said, err)
		}
		return nil
	})
}
