package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/ntske"
	"timeball/internal/siv"
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
				if row := c.Selects(40*time.Second, address); row.Offset.Abs() > time.Millisecond {
					t.Errorf("%s, %s, %s: an offset of %v", mode, address, how, row.Offset)
				}
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
	answers := func() (n int) {
		var requests []varied
		for i := range 64 {
			header := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: originOf(i)}
			requests = append(requests, varied{data: key.AppendMAC(header.Append(nil), 4)})
		}
		for _, reply := range asked(t, client, server.IPv4, requests) {
			if len(reply) == len(requests[0].data) {
				n++
			}
		}
		return n
	}
	if n := answers(); n != 64 {
		t.Errorf("%d of 64 requests answered", n)
	}
	d.Reload(strings.Replace(conf, "{id: 7,", "{id: 17,", 1))
	if n := answers(); n != 0 {
		t.Errorf("%d of 64 requests answered under a key that is gone", n)
	}
	d.Reload(strings.Replace(conf, "server:\n", "server:\n  rate_limit: {interval: 60s, burst: 16, leak: 16}\n", 1))
	if n := answers(); n < 16 || n > 18 { // beside the burst one RATE kiss, and once in a while a request that leaks through
		t.Errorf("%d of 64 requests answered, within a rate limit of 16", n)
	}
	peers.Eventually(t, 10*time.Second, "all have been redirected", func() error {
		n, lost, err := redirected(d)
		if err == nil && n != 3*64 {
			err = fmt.Errorf("%d, %v lost; want %d", n, lost, 3*64)
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

// The same requests to a server past the kernel's UDP and to one with sockets: the same
// replies but for times, and the same counts.
func TestPastUDPIsSaidWhatTheSocketsSay(t *testing.T) {
	a, first, second, client := fieldsLab(t)
	ring := filepath.Join(first.Dir, "ring")
	fast := peers.Timeball(t, first, fieldsServer(a, first, ring, "native"))
	pastUDP(t, fast)
	serves(t, client, first.IPv4)
	text, err := os.ReadFile(ring)
	if err != nil {
		t.Fatal(err)
	}
	slow := peers.Timeball(t, second, fieldsServer(a, second, second.Write("ring", string(text)), ""))
	serves(t, client, second.IPv4)
	secrets, cookies := exchanged(t, a, client, first)
	requests := variedRequests(t, secrets, cookies)
	for _, to := range []struct{ first, second netip.Addr }{{first.IPv4, second.IPv4}, {first.IPv6, second.IPv6}} {
		before, _, err := redirected(fast)
		if err != nil {
			t.Fatal(err)
		}
		countedFast, countedSlow := atRest(t, fast), atRest(t, slow)
		got, want := asked(t, client, to.first, requests), asked(t, client, to.second, requests)
		answered := 0
		for i, request := range requests {
			if len(want[i]) > 0 {
				answered++
			}
			sameReply(t, to.first, request, got[i], want[i])
		}
		if answered < len(requests)/5 || answered == len(requests) {
			t.Errorf("%d of %d requests answered", answered, len(requests))
		}
		peers.Eventually(t, 10*time.Second, "both have counted the same", func() error {
			if f, s := counted(t, fast).less(countedFast), counted(t, slow).less(countedSlow); f != s || f.Received < len(requests)*3/4 {
				return fmt.Errorf("past UDP %+v, by sockets %+v", f, s)
			}
			after, lost, err := redirected(fast)
			if err == nil && after-before < len(requests)/3 {
				err = fmt.Errorf("%d of %d requests redirected, lost %v", after-before, len(requests), lost)
			}
			for _, n := range lost {
				if n > 0 {
					err = errors.Join(err, fmt.Errorf("lost %v", lost))
				}
			}
			return err
		})
	}
}

// exchanged makes a key exchange with a server.
func exchanged(t *testing.T, a *peers.Authority, client, server *peers.Host) (nts.Secrets, [][]byte) {
	t.Helper()
	roots, err := ntske.ReadRoots(a.Write(client))
	if err != nil {
		t.Fatal(err)
	}
	ask := &ntske.Ask{Address: netip.AddrPortFrom(server.IPv4, 4460), Name: server.IPv4.String(), Roots: roots, Now: time.Now(), Algorithms: []siv.Algorithm{siv.AESSIVCMAC256}}
	var result *ntske.Result
	peers.Eventually(t, 20*time.Second, "a key exchange", func() error {
		return client.Inside(func() (err error) { result, err = ntske.Exchange(context.Background(), ask); return err })
	})
	return result.Secrets, result.Cookies
}

// originOf marks the transmit timestamp of request i, by which its reply is known again.
func originOf(i int) ntptime.Timestamp { return 0x0123_4567_0000_0000 + ntptime.Timestamp(i) }

// varied is a request, with what its reply must show.
type varied struct {
	data    []byte
	session *nts.Client // nil: no NTS
	key     *mac.Key    // nil: no MAC
}

// variedRequests are good and bad requests with NTS fields, with MACs and without either.
func variedRequests(t *testing.T, secrets nts.Secrets, cookies [][]byte) (list []varied) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	var keys []*mac.Key
	for id, kind := range map[uint32]mac.Type{7: mac.AES128, 8: mac.SHA1, 9: mac.AES128} { // 9 is unknown
		secret := []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
		if kind == mac.SHA1 {
			secret = secret[:8]
		}
		key, err := mac.NewKey(id, kind, secret)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	for i := range 240 {
		header := wire.Header{Version: uint8(3 + random.IntN(2)), Mode: wire.ModeClient, Poll: 6, Transmit: originOf(i)}
		if i%40 == 39 {
			header.Version = uint8(1 + random.IntN(2))
		}
		request := header.Append(nil)
		one := varied{}
		switch i % 4 {
		case 0, 1:
			header.Version = 4
			one.session = new(nts.Client)
			if err := one.session.Install(secrets, slices.Repeat(cookies[:1], 1+random.IntN(nts.MaxCookies))); err != nil {
				t.Fatal(err)
			}
			request, _ = one.session.AppendRequest(header.Append(nil), random)
		case 2:
			one.key = keys[random.IntN(len(keys))]
			request = one.key.AppendMAC(request, header.Version)
		}
		switch random.IntN(8) {
		case 0: // a bit is wrong behind the header
			if len(request) > 48 {
				request[48+random.IntN(len(request)-48)] ^= 1 << random.IntN(8)
			}
		case 1: // cut short
			request = request[:48+(len(request)-48)/8*4]
		case 2: // longer
			request = append(request, make([]byte, 4*random.IntN(8))...)
		}
		one.data = request
		list = append(list, one)
	}
	return list
}

// asked sends all requests to a server, a few at once, and returns its reply to each.
func asked(t *testing.T, client *peers.Host, server netip.Addr, requests []varied) [][]byte {
	t.Helper()
	replies := make([][]byte, len(requests))
	err := client.Inside(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 123)))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		take := func(until time.Time) {
			buffer := make([]byte, 2048)
			for {
				_ = conn.SetReadDeadline(until)
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				var p wire.Packet
				if p.Decode(buffer[:n]) != wire.DefectNone {
					t.Errorf("%v: a reply that does not decode: % x", server, buffer[:n])
				} else if i := int(p.Origin - originOf(0)); i < len(replies) {
					replies[i] = bytes.Clone(buffer[:n])
				}
			}
		}
		for i, request := range requests {
			if _, err := conn.Write(request.data); err != nil {
				return err
			}
			if i%8 == 7 {
				take(time.Now().Add(5 * time.Millisecond))
			}
		}
		take(time.Now().Add(500 * time.Millisecond))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return replies
}

// sameReply compares a reply of either way, but for times and what is random.
func sameReply(t *testing.T, server netip.Addr, asked varied, got, want []byte) {
	t.Helper()
	request := asked.data
	if len(got) != len(want) || len(got) > len(request) {
		t.Errorf("%v: to % x: %d bytes past UDP, %d by sockets", server, request, len(got), len(want))
		return
	}
	if len(got) == 0 {
		return
	}
	if !bytes.Equal(got[:4], want[:4]) || !bytes.Equal(got[12:16], want[12:16]) || !bytes.Equal(got[24:32], want[24:32]) {
		t.Errorf("%v: to % x\npast UDP   % x\nby sockets % x", server, request, got[:48], want[:48])
	}
	var g, w wire.Packet
	if g.Decode(got) != wire.DefectNone || w.Decode(want) != wire.DefectNone || len(g.Fields) != len(w.Fields) || g.HasMAC != w.HasMAC || g.KeyID != w.KeyID {
		t.Errorf("%v: to % x\npast UDP   % x\nby sockets % x", server, request, got, want)
	}
	if g.Stratum != 0 && (g.Receive == 0 || g.Transmit.Sub(g.Receive) <= 0 || g.Transmit.Sub(g.Receive) > 100*time.Millisecond) {
		t.Errorf("%v: received at %v, transmitted at %v", server, g.Receive, g.Transmit)
	}
	switch {
	case g.Stratum != 0 && asked.session != nil && len(g.Fields) > 0 && asked.session.Check(&g) != nts.AnswerGenuine:
		t.Errorf("%v: to % x: the reply's authenticator is wrong: % x", server, request, got)
	case asked.key != nil && g.HasMAC && !asked.key.Verify(g.Signed, g.Digest):
		t.Errorf("%v: to % x: the reply's MAC is wrong: % x", server, request, got)
	}
}

// counts are what a daemon has counted of requests.
type counts struct{ Received, Accepted, Denied, Ignored, NTSReceived, NTSAccepted, NTSDenied int }

func (c counts) less(o counts) counts {
	return counts{c.Received - o.Received, c.Accepted - o.Accepted, c.Denied - o.Denied, c.Ignored - o.Ignored,
		c.NTSReceived - o.NTSReceived, c.NTSAccepted - o.NTSAccepted, c.NTSDenied - o.NTSDenied}
}

// atRest is what a daemon has counted, once that stands still: the driver's counts are read
// twice a second.
func atRest(t *testing.T, d *peers.Daemon) (c counts) {
	t.Helper()
	last := counts{Received: -1}
	peers.Eventually(t, 20*time.Second, "the counts stand still", func() error {
		if c = counted(t, d); c == last {
			return nil
		}
		last = c
		time.Sleep(700 * time.Millisecond)
		return errors.New("they go on")
	})
	return c
}

// counted sums all listeners; plain requests answered in the driver count as received and accepted.
func counted(t *testing.T, d *peers.Daemon) (sum counts) {
	t.Helper()
	var stats struct {
		Listeners []struct {
			Received, Accepted, Denied, Ignored int
			NTSReceived                         int `json:"nts_received"`
			NTSAccepted                         int `json:"nts_accepted"`
			NTSDenied                           int `json:"nts_denied"`
		}
		FastPath struct{ Answered int } `json:"fast_path"`
	}
	if err := d.Report(&stats, "serverstats"); err != nil {
		t.Fatal(err)
	}
	for _, l := range stats.Listeners {
		sum.Received += l.Received
		sum.Accepted += l.Accepted
		sum.Denied += l.Denied
		sum.Ignored += l.Ignored
		sum.NTSReceived += l.NTSReceived
		sum.NTSAccepted += l.NTSAccepted
		sum.NTSDenied += l.NTSDenied
	}
	sum.Received += stats.FastPath.Answered
	sum.Accepted += stats.FastPath.Answered
	return sum
}
