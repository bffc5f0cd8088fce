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
			if len(want[i].data) > 0 {
				answered++
			}
			sameReply(t, to.first, request, got[i].data, want[i].data)
			got[i].timely(t)
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
	for i, kind := range []mac.Type{mac.AES128, mac.SHA1, mac.AES128} { // of which the last is unknown
		id := uint32(7 + i)
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
		switch i % group { // the group's end, by either way
		case group - 2:
			list = append(list, varied{data: keys[0].AppendMAC(header.Append(nil), 4), key: keys[0]})
			continue
		case group - 1:
			header.Version = 2
			list = append(list, varied{data: header.Append(nil)})
			continue
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

// answer is the reply to a request, if there is one, and when both passed the client.
type answer struct {
	data           []byte
	sent, received time.Time
}

// timely checks that what a reply says of when the request came and the reply left lies between
// the client's times: all share a clock. The transmit timestamp is led by what sending takes.
func (a *answer) timely(t *testing.T) {
	t.Helper()
	var p wire.Packet
	if len(a.data) == 0 || p.Decode(a.data) != wire.DefectNone || p.Stratum == 0 {
		return
	}
	const margin = 2 * time.Millisecond
	sent, received := ntptime.WallOf(a.sent.Add(-margin)).Timestamp(), ntptime.WallOf(a.received.Add(margin)).Timestamp()
	if p.Receive.Sub(sent) < 0 || p.Transmit.Sub(p.Receive) <= 0 || received.Sub(p.Transmit) < 0 {
		t.Errorf("sent at %v, came %v later, was answered %v after that and received %v after the answer", a.sent,
			p.Receive.Sub(sent)-margin, p.Transmit.Sub(p.Receive), received.Sub(p.Transmit)-margin)
	}
}

// group is how many requests are under way at once: fewer than a server takes together, so that
// none is ever dropped for its age, however slow the machine.
const group = 8

// asked sends requests to a server, in groups, and returns its reply to each. The last two of a
// group are good and come by either way, so that their replies end it.
func asked(t *testing.T, client *peers.Host, server netip.Addr, requests []varied) []answer {
	t.Helper()
	replies := make([]answer, len(requests))
	buffer := make([]byte, 2048)
	take := func(conn *net.UDPConn, until time.Time, enough func() bool) {
		for !enough() {
			_ = conn.SetReadDeadline(until)
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			var p wire.Packet
			if p.Decode(buffer[:n]) != wire.DefectNone {
				t.Errorf("%v: a reply that does not decode: % x", server, buffer[:n])
			} else if i := uint64(p.Origin - originOf(0)); i < uint64(len(replies)) {
				replies[i].data, replies[i].received = bytes.Clone(buffer[:n]), time.Now()
			}
		}
	}
	err := client.Inside(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 123)))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for i, request := range requests {
			replies[i].sent = time.Now()
			if _, err := conn.Write(request.data); err != nil {
				return err
			}
			if i%group == group-1 {
				take(conn, time.Now().Add(20*time.Second), func() bool { return replies[i-1].data != nil && replies[i].data != nil })
			}
		}
		take(conn, time.Now().Add(100*time.Millisecond), func() bool { return false }) // what must not come
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return replies
}

// sendAll sends requests to a server, from this namespace, and waits for nothing.
func sendAll(server netip.Addr, requests []varied) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 123)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, request := range requests {
		if _, err := conn.Write(request.data); err != nil {
			return err
		}
	}
	return nil
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
	switch {
	case g.Stratum != 0 && asked.session != nil && len(g.Fields) > 0 && asked.session.Check(&g) != nts.AnswerGenuine:
		t.Errorf("%v: to % x: the reply's authenticator is wrong: % x", server, request, got)
	case asked.key != nil && g.HasMAC && !asked.key.Verify(g.Signed, g.Digest):
		t.Errorf("%v: to % x: the reply's MAC is wrong: % x", server, request, got)
	}
}

// counts are what a daemon has counted of requests.
type counts struct{ Received, Accepted, Denied, Ignored, Limited, NTSReceived, NTSAccepted, NTSDenied int }

func (c counts) less(o counts) counts {
	return counts{c.Received - o.Received, c.Accepted - o.Accepted, c.Denied - o.Denied, c.Ignored - o.Ignored, c.Limited - o.Limited,
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
			Limited                             int `json:"rate_limited"`
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
		sum.Limited += l.Limited
		sum.NTSReceived += l.NTSReceived
		sum.NTSAccepted += l.NTSAccepted
		sum.NTSDenied += l.NTSDenied
	}
	sum.Received += stats.FastPath.Answered
	sum.Accepted += stats.FastPath.Answered
	return sum
}
