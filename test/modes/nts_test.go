package modes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/nts"
	"timeball/internal/ntske"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// ntsTarget is a timeball with NTS on this machine's loopback interface, under attack.
type ntsTarget struct {
	t    *testing.T
	d    *peers.Daemon
	h    *peers.Host
	ntp  netip.AddrPort
	ke   netip.AddrPort
	root *x509.CertPool
}

func startNTS(t *testing.T, by ...string) *ntsTarget {
	t.Helper()
	a, h, loopback := peers.NewAuthority(t), peers.Here(t), netip.MustParseAddr("127.0.0.1")
	certificate, key := a.Issue(h, "127.0.0.1", "localhost")
	n := &ntsTarget{t: t, h: h, ntp: netip.AddrPortFrom(loopback, peers.FreePort(t, "udp")), ke: netip.AddrPortFrom(loopback, peers.FreePort(t, "tcp"))}
	roots, err := ntske.ReadRoots(a.Write(h))
	if err != nil {
		t.Fatal(err)
	}
	n.root = roots
	n.d = peers.Timeball(t, h, fmt.Sprintf(`
local: {stratum: 3}
clock: {driver: observe}
server:
  listen: ["%v"]
  nts: {listen: ["%v"], certificate: %s, key: %s, keys: %s/nts-keys}
`, n.ntp, n.ke, certificate, key, h.Dir), by...)
	peers.Eventually(t, time.Minute, "it serves", func() error { _, err := n.exchange(); return err })
	return n
}

// exchange is a whole exchange of a proper client: keys, then the time.
func (n *ntsTarget) exchange() (time.Duration, error) {
	began := time.Now()
	r, err := ntske.Exchange(context.Background(), &ntske.Ask{Address: n.ke, Name: "localhost", Roots: n.root, Now: time.Now()})
	if err != nil {
		return 0, err
	}
	c := new(nts.Client)
	if err := c.Install(r.Secrets, r.Cookies); err != nil {
		return 0, err
	}
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 0x1234567}
	request, _ := c.AppendRequest(h.Append(nil), octets{})
	reply, err := n.send(request)
	if err != nil {
		return 0, err
	}
	var p wire.Packet
	if p.Decode(reply) != wire.DefectNone || c.Check(&p) != nts.AnswerGenuine || p.Stratum != 3 {
		return 0, fmt.Errorf("the reply is not genuine: %x", reply)
	}
	return time.Since(began), nil
}

// bytes are random enough for a client that attacks itself.
type octets struct{}

func (octets) Uint64() uint64 { return uint64(time.Now().UnixNano()) * 0x9e3779b97f4a7c15 }

func (n *ntsTarget) send(request []byte) ([]byte, error) {
	c, err := net.Dial("udp", n.ntp.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	reply := make([]byte, 4096)
	k, err := c.Read(reply)
	return reply[:k], err
}

// unharmed checks that the same process serves a proper client, and once in good time: on a
// busy machine not each exchange is.
func (n *ntsTarget) unharmed(after string) {
	n.t.Helper()
	peers.Eventually(n.t, time.Minute, "a proper client is served after "+after, func() error {
		took, err := n.exchange()
		if err == nil && took > 5*time.Second {
			err = fmt.Errorf("after %v", took)
		}
		return err
	})
	if ended, err := n.d.Ended(); ended || strings.Contains(n.d.Log(), "panic") {
		n.t.Fatalf("%s: the daemon has ended (%v) or panicked:\n%s", after, err, n.d.Log())
	}
}

// flood opens idle connections, as many as it can, and closes them at the test's end.
func (n *ntsTarget) flood(count int) {
	for range count {
		c, err := net.DialTimeout("tcp", n.ke.String(), time.Second)
		if err == nil {
			n.t.Cleanup(func() { _ = c.Close() })
		}
	}
}

// servesPlain checks that the flood leaves plain NTP alone.
func (n *ntsTarget) servesPlain() {
	n.t.Helper()
	peers.Eventually(n.t, time.Minute, "plain NTP under the flood", func() error {
		h := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 7}
		_, err := n.send(h.Append(nil))
		return err
	})
}

// resident is the daemon's memory in kB: all of it, and what is not pages of its files.
func (n *ntsTarget) resident() (all, anonymous int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.d.Pid()))
	for name, value := range map[string]*int{"VmRSS:": &all, "RssAnon:": &anonymous} {
		_, after, _ := strings.Cut(string(text), name)
		_, _ = fmt.Sscan(after, value)
	}
	return all, anonymous
}

// threats 25, 26 (CVE-2024-38528): 1200 connections at once, held.
func TestThreat25_ConnectionFlood(t *testing.T) {
	n := startNTS(t)
	n.flood(1200)
	n.unharmed("1200 idle connections")
	n.servesPlain()
}

func TestThreat25_ConnectionFloodWithFewDescriptors(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("needs prlimit")
	}
	n := startNTS(t, "prlimit", "--nofile=64:64")
	n.flood(200)
	n.servesPlain()
	n.unharmed("200 connections with 64 descriptors")
}

func TestSixtyFourIdleKeyExchangesCostLittle(t *testing.T) {
	n := startNTS(t)
	before, anonymous := n.resident()
	for range 64 {
		c, err := tls.Dial("tcp", n.ke.String(), &tls.Config{RootCAs: n.root, ServerName: "localhost", NextProtos: []string{"ntske/1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// What the handshakes have left behind goes once the clients have said nothing for a while.
	peers.Eventually(t, time.Minute, "64 idle key exchanges cost little", func() error {
		after, anonymousAfter := n.resident()
		t.Logf("%d kB before, %d kB more with 64 idle key exchanges, %d kB of it memory of its own", before, after-before, anonymousAfter-anonymous)
		// The rest is clean pages of the executable, which the end of the start gives back: when
		// that happens, and what comes again, is the kernel's affair.
		if grown := anonymousAfter - anonymous; grown > 2048 {
			return fmt.Errorf("got %d kB more, want at most 2048", grown)
		}
		return nil
	})
}

// threats 30, 31: what is no TLS, no TLS 1.3, not its protocol, or no request.
func TestThreat31_GarbageInKeyExchanges(t *testing.T) {
	n := startNTS(t)
	for _, size := range []int{1, 5, 100, 5000, 70000} {
		c, err := net.Dial("tcp", n.ke.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(bytes.Repeat([]byte{0x16, 3, 1}, size))
		_ = c.Close()
	}
	session := func(request []byte) []byte {
		c, err := tls.Dial("tcp", n.ke.String(), &tls.Config{RootCAs: n.root, ServerName: "localhost", NextProtos: []string{"ntske/1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(request)
		_ = c.CloseWrite()
		answer, _ := io.ReadAll(c)
		return answer
	}
	good := []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0}
	bad := []byte{0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0} // error 1
	for cut := range len(good) {
		if got := session(good[:cut]); !bytes.Equal(got, bad) {
			t.Errorf("cut after %d bytes: got %x, want error 1", cut, got)
		}
	}
	for at := 0; at < len(good)-4; at += 6 {
		doubled := append(append(bytes.Clone(good[:at+6]), good[at:at+6]...), good[at+6:]...)
		if got := session(doubled); !bytes.Equal(got, bad) {
			t.Errorf("record at %d doubled: got %x, want error 1", at, got)
		}
	}
	if got := session(bytes.Repeat([]byte{0, 9, 0, 200}, 10000)); !bytes.Equal(got, bad) {
		t.Errorf("40 kB: got %x, want error 1", got)
	}
	for _, c := range []*tls.Config{
		{MaxVersion: tls.VersionTLS12, NextProtos: []string{"ntske/1"}}, {NextProtos: []string{"h2"}},
	} {
		c.RootCAs, c.ServerName = n.root, "localhost"
		if conn, err := tls.Dial("tcp", n.ke.String(), c); err == nil {
			_ = conn.Close()
			t.Errorf("got a session with %d, %v", c.MaxVersion, c.NextProtos)
		}
	}
	n.unharmed("garbage")
}

// threats 27, 28: cookies of every length, hundreds of placeholders.
func TestThreat27_GarbageCookies(t *testing.T) {
	n := startNTS(t)
	field := func(kind uint16, octets int) []byte {
		b := make([]byte, 4+octets)
		binary.BigEndian.PutUint16(b, kind)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b
	}
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 9}
	auth := field(0x0404, 36)
	auth[5], auth[7] = 16, 16
	for octets := 0; octets <= 1500; octets += 4 {
		request := bytes.Join([][]byte{h.Append(nil), field(0x0104, 32), field(0x0204, octets), auth}, nil)
		if octets%100 != 0 { // the others without waiting for an answer
			if c, err := net.Dial("udp", n.ntp.String()); err == nil {
				_, _ = c.Write(request)
				_ = c.Close()
			}
			continue
		}
		if reply, err := n.send(request); err == nil && (len(reply) != 84 || string(reply[12:16]) != "NTSN") {
			t.Errorf("a cookie of %d: got %x, want NTSN or silence", octets, reply)
		}
	}
	many := [][]byte{h.Append(nil), field(0x0104, 32), field(0x0204, 100)}
	for range 300 {
		many = append(many, field(0x0304, 100))
	}
	if reply, err := n.send(bytes.Join(append(many, auth), nil)); err == nil && len(reply) != 84 {
		t.Errorf("300 placeholders: got %d bytes, want NTSN or silence", len(reply))
	}
	n.unharmed("garbage cookies")
}

// threats 30: the client takes no certificate that is for another name, expired, or nobody's.
func TestThreat30_TheClientNamesWhatIsWrong(t *testing.T) {
	n := startNTS(t)
	other, h := peers.NewAuthority(t), peers.Here(t)
	ca := filepath.Join(n.h.Dir, "ca.pem")
	for _, test := range []struct{ name, line, want string }{
		{"another name", fmt.Sprintf("{ca: %s, port: %d, name: time.example.net}", ca, n.ke.Port()), `"failure_kind": "name"`},
		{"another authority", fmt.Sprintf("{ca: %s, port: %d}", other.Write(h), n.ke.Port()), `"failure_kind": "chain"`},
		{"nobody there", fmt.Sprintf("{ca: %s, port: %d}", ca, peers.FreePort(t, "tcp")), `"failure_kind": "network"`},
	} {
		d := peers.Timeball(t, peers.Here(t), fmt.Sprintf("clock: {driver: observe}\nsources: [{server: %q, nts: %s}]", n.ntp.String(), test.line))
		peers.Eventually(t, time.Minute, test.name+" is named", func() error {
			out, _, err := d.Run("sources", "--json")
			if err == nil && !strings.Contains(out, test.want) {
				err = fmt.Errorf("got %s", out)
			}
			return err
		})
		if rows, err := d.Sources(); err != nil || rows[0].Reach != 0 {
			t.Errorf("%s: got %v, %v; want a source that never answered", test.name, rows, err)
		}
		if _, err := d.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// Certificate and key are read again when they change and at a reload; a bad pair leaves
// the one before in use, says so, and does not hold a reload up.
func TestCertificatesAreReadAgainByTheDaemon(t *testing.T) {
	n := startNTS(t)
	status := func() string {
		out, complaints, err := n.d.Run("status")
		if err != nil {
			t.Fatal(err, complaints)
		}
		return out
	}
	cert := filepath.Join(n.h.Dir, "cert.pem")
	good, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, complaints, err := n.d.Run("reload"); err != nil {
		t.Errorf("reload with a bad certificate: %v: %s%s", err, out, complaints)
	}
	if out := status(); !strings.Contains(out, "THE NTS CERTIFICATE WAS NOT READ AGAIN") {
		t.Errorf("status says nothing of the bad certificate:\n%s", out)
	}
	n.unharmed("a bad certificate")
	if err := os.WriteFile(cert, good, 0o644); err != nil {
		t.Fatal(err)
	}
	peers.Eventually(t, 90*time.Second, "the good certificate is read without a reload", func() error {
		if out := status(); strings.Contains(out, "NOT READ AGAIN") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	n.unharmed("a good certificate")
}

// An entry of an access list may want NTS for its networks alone.
func TestNTSRequiredOfSomeNetworks(t *testing.T) {
	n := startNTS(t)
	a := fmt.Sprintf(`
local: {stratum: 3}
clock: {driver: observe}
server:
  listen: ["%v"]
  access: {server: [{networks: [127.0.0.1/32], require: nts}, 127.0.0.0/8]}
  nts: {listen: ["%v"], certificate: %s/cert.pem, key: %s/key.pem, keys: %s/nts-keys}
`, n.ntp, n.ke, n.h.Dir, n.h.Dir, n.h.Dir)
	n.d.Reload(a)
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 7}
	peers.Eventually(t, time.Minute, "plain requests of 127.0.0.1 get silence", func() error {
		if _, err := n.send(h.Append(nil)); err == nil {
			return fmt.Errorf("answered")
		}
		return nil
	})
	n.unharmed("require: nts")
}

// Server and port records that lead back to the client itself would have it follow its own clock.
func TestRFC8915_4_1_7_ServerRecordOfOurOwnAddress(t *testing.T) {
	a, server, client := peers.NewAuthority(t), peers.Here(t), peers.Here(t)
	certificate, key := a.Issue(server, "127.0.0.1", "localhost")
	own, other, ke := peers.FreePort(t, "udp"), peers.FreePort(t, "udp"), peers.FreePort(t, "tcp")
	peers.Timeball(t, server, fmt.Sprintf(`
local: {stratum: 3}
clock: {driver: observe}
server:
  listen: ["127.0.0.1:%d"]
  nts: {listen: ["127.0.0.1:%d"], certificate: %s, key: %s, keys: %s/nts-keys, ntp_server: 127.0.0.1, ntp_port: %d}
`, other, ke, certificate, key, server.Dir, own))
	config := fmt.Sprintf(`
clock: {driver: virtual}
server: {listen: ["127.0.0.1:%d"]}
sources: [{server: "127.0.0.1:%d", nts: {ca: %s, port: %d, name: localhost}, min_poll: 0, max_poll: 0}]
`, own, other, a.Write(client), ke)
	d := peers.Timeball(t, client, config)
	peers.Eventually(t, time.Minute, "the key exchange is refused", func() error {
		var report struct {
			Sources []struct {
				Security struct {
					State   string
					Kind    string `json:"failure_kind"`
					Failure string
				}
			}
		}
		err := d.Report(&report, "sources")
		if err == nil && (len(report.Sources) != 1 || report.Sources[0].Security.Kind != "protocol" || !strings.Contains(report.Sources[0].Security.Failure, "own address")) {
			err = fmt.Errorf("got %+v, want a failed exchange, for our own address", report.Sources)
		}
		return err
	})
	program, err := peers.Build()
	if err != nil {
		t.Fatal(err)
	}
	path := client.Write("check.yaml", config)
	peers.Eventually(t, time.Minute, "check --probe fails, for our own address", func() error {
		if _, said, err := client.Run(nil, program, "check", "--config", path, "--probe"); err == nil || !strings.Contains(said, "own address") {
			return fmt.Errorf("got %v, %s", err, said)
		}
		return nil
	})
}

// A daemon with four sources by NTS is small.
func TestFourSourcesByNTSCostLittle(t *testing.T) {
	var lines string
	for range 4 {
		n := startNTS(t)
		lines += fmt.Sprintf("  - {server: %q, nts: {ca: %s/ca.pem, port: %d, name: localhost}, min_poll: 0, max_poll: 0}\n", n.ntp.String(), n.h.Dir, n.ke.Port())
	}
	c := &ntsTarget{t: t, d: peers.Timeball(t, peers.Here(t), "clock: {driver: virtual}\nsources:\n"+lines)}
	peers.Eventually(t, 2*time.Minute, "the sources answer", func() error {
		rows, err := c.d.Sources()
		if err == nil && (len(rows) != 4 || rows[0].Reach != 255) {
			err = fmt.Errorf("%v", rows)
		}
		return err
	})
	kB, _ := c.resident()
	t.Logf("%d kB with four sources by NTS", kB)
	if kB > 25<<10 {
		t.Errorf("got %d kB, want 25 MB at most", kB)
	}
}
