package ntske

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"timeball/internal/nts"
	"timeball/internal/siv"
)

func exchangeWith(t testing.TB, ask *Ask) *Result {
	t.Helper()
	r, err := Exchange(context.Background(), ask)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Both ends have the same keys: what the server sealed into its cookies is what the
// client exported.
func TestRFC8915_5_1_BothEndsHaveTheSameKeys(t *testing.T) {
	w := start(t, nil)
	for _, test := range []struct {
		offered []siv.Algorithm
		want    siv.Algorithm
	}{
		{nil, siv.AES128GCMSIV},
		{[]siv.Algorithm{siv.AESSIVCMAC256}, siv.AESSIVCMAC256},
		{[]siv.Algorithm{siv.AESSIVCMAC512, siv.AESSIVCMAC256}, siv.AESSIVCMAC512},
		{[]siv.Algorithm{99, siv.AESSIVCMAC384}, siv.AESSIVCMAC384},
	} {
		ask := w.ask()
		ask.Algorithms = test.offered
		r := exchangeWith(t, ask)
		if r.Secrets.Algorithm != test.want || len(r.Cookies) != nts.MaxCookies || !r.Dated || len(r.Chain) == 0 {
			t.Errorf("%v offered: got %v and %d cookies, want %v and 8", test.offered, r.Secrets.Algorithm, len(r.Cookies), test.want)
		}
		var worker nts.Worker
		for _, cookie := range r.Cookies {
			var secrets nts.Secrets
			if !w.ring.OpenCookie(&worker, cookie, &secrets) || secrets != r.Secrets {
				t.Errorf("%v: a cookie does not hold the client's keys", test.want)
			}
		}
	}
}

func TestServerAndPortRecords(t *testing.T) {
	w := start(t, func(c *ServerConfig) { c.NTPServer, c.NTPPort = "time.example.net.", 1123 })
	if got := exchangeWith(t, w.ask()); got.Server != "time.example.net" || got.Port != 1123 {
		t.Errorf("got %q and %d", got.Server, got.Port)
	}
	if got := exchangeWith(t, start(t, nil).ask()); got.Server != "" || got.Port != 0 {
		t.Errorf("without: got %q and %d", got.Server, got.Port)
	}
}

// threats 30: the matrix of certificates.
func TestClientRefusesCertificates(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		change func(w *world, ask *Ask)
		want   Kind
	}{
		{"another name", func(_ *world, ask *Ask) { ask.Name = "example.net" }, KindName},
		{"another address", func(_ *world, ask *Ask) { ask.Name = "127.0.0.2" }, KindName},
		{"another authority", func(_ *world, ask *Ask) { ask.Roots = newAuthority(t).pool }, KindChain},
		{"no authority", func(_ *world, ask *Ask) { ask.Roots = x509.NewCertPool() }, KindChain},
		{"expired", func(_ *world, ask *Ask) { ask.Now = now.Add(91 * day) }, KindDate},
		{"not valid yet", func(_ *world, ask *Ask) { ask.Now = now.Add(-2 * day) }, KindDate},
		{"expired at the floor, by a clock that is behind", func(_ *world, ask *Ask) { ask.Floor = now.Add(91 * day) }, KindDate},
		{"expired at the floor, without dates", func(_ *world, ask *Ask) {
			ask.Floor, ask.AnyDate = now.Add(91*day), true
		}, KindDate},
	} {
		w := start(t, nil)
		ask := w.ask()
		test.change(w, ask)
		_, err := Exchange(context.Background(), ask)
		failure := new(Failure)
		if !errors.As(err, &failure) || failure.Kind != test.want {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func TestClientWithoutDatesTakesAnyClock(t *testing.T) {
	w := start(t, nil)
	for _, year := range []int{1970, 2019, 2050} {
		ask := w.ask()
		ask.AnyDate, ask.Now, ask.Floor = true, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().Add(-30*day)
		if r := exchangeWith(t, ask); r.Dated && year != 1970 && year != 2019 {
			t.Errorf("in %d: got dates that are right", year)
		}
	}
	ask := w.ask()
	ask.Name, ask.AnyDate = "127.0.0.1", true
	exchangeWith(t, ask)
}

// A clock before the floor is taken for the floor, with dates checked.
func TestClientsClockIsNeverBeforeTheFloor(t *testing.T) {
	w := start(t, nil)
	ask := w.ask()
	ask.Now, ask.Floor = time.Unix(0, 0), time.Now()
	if r := exchangeWith(t, ask); !r.Dated {
		t.Error("got no dates checked")
	}
}

// A last known time that was wrong refuses every certificate: that it is not the clock that
// decides, and what to do, is said.
func TestAFloorThatDecidesIsNamed(t *testing.T) {
	w := start(t, nil)
	ask := w.ask()
	ask.Now, ask.Floor = time.Now(), time.Now().AddDate(9, 0, 0)
	_, err := Exchange(t.Context(), ask)
	if err == nil || !strings.Contains(err.Error(), ask.Floor.UTC().Format(time.DateOnly)) || !strings.Contains(err.Error(), "last-time") {
		t.Errorf("got %v, want the last known time and its file", err)
	}
}

// answer sends records of a client and gives all of the answer.
func answer(t *testing.T, w *world, request []byte) []byte {
	t.Helper()
	conn, err := w.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the session was not closed in order: %v", err)
	}
	return all
}

var (
	protocol = appendNumbers(nil, true, recordNextProtocol, 0)
	aead     = appendNumbers(nil, true, recordAEAD, 15)
	end      = appendRecord(nil, true, recordEnd, nil)
)

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// threats 31: what is wrong with a request decides the error record.
func TestRFC8915_4_1_3_ErrorRecords(t *testing.T) {
	w := start(t, nil)
	of := func(code uint16) []byte { return joined(appendNumbers(nil, true, recordError, code), end) }
	unknown := appendRecord(nil, true, 0x3fff, []byte("x"))
	for _, test := range []struct {
		name    string
		request []byte
		want    []byte
	}{
		{"no record", end, of(1)},
		{"no protocol", joined(aead, end), of(1)},
		{"no AEAD", joined(protocol, end), of(1)},
		{"two protocol records", joined(protocol, protocol, aead, end), of(1)},
		{"two AEAD records", joined(protocol, aead, aead, end), of(1)},
		{"an uneven list", joined(appendRecord(nil, true, recordNextProtocol, []byte{0, 0, 0}), aead, end), of(1)},
		{"an empty list", joined(protocol, appendNumbers(nil, true, recordAEAD), end), of(1)},
		{"a protocol record that is not critical", joined(appendNumbers(nil, false, recordNextProtocol, 0), aead, end), of(1)},
		{"an unknown critical record", joined(protocol, unknown, aead, end), of(0)},
		{"an unknown critical record first", joined(unknown, end), of(0)},
		{"a critical server record", joined(protocol, aead, appendRecord(nil, true, recordServer, []byte("a")), end), of(0)},
		{"an error record", joined(protocol, appendNumbers(nil, true, recordError, 0), aead, end), of(1)},
		{"a cookie", joined(protocol, appendRecord(nil, false, recordCookie, make([]byte, 100)), aead, end), of(1)},
		{"an End of Message with a body", joined(protocol, aead, appendRecord(nil, true, recordEnd, []byte{1})), of(1)},
		{"an End of Message that is not critical", joined(protocol, aead, appendRecord(nil, false, recordEnd, nil)), of(1)},
		{"closed before the End of Message", joined(protocol, aead), of(1)},
		{"a record cut short", joined(protocol, aead, []byte{0x80, 0, 0, 9}), of(1)},
		{"17 kB without End of Message", joined(protocol, aead, bytes.Repeat(appendRecord(nil, false, 9, make([]byte, 100)), 170)), of(1)},
		{"another protocol", joined(appendNumbers(nil, true, recordNextProtocol, 7), aead, end), joined(appendNumbers(nil, true, recordNextProtocol), end)},
		{"another AEAD", joined(protocol, appendNumbers(nil, true, recordAEAD, 1, 2), end), joined(protocol, appendNumbers(nil, true, recordAEAD), end)},
		{"AEAD 30 without the exporter record", joined(protocol, appendNumbers(nil, true, recordAEAD, 30), end), joined(protocol, appendNumbers(nil, true, recordAEAD), end)},
	} {
		if got := answer(t, w, test.request); !bytes.Equal(got, test.want) {
			t.Errorf("%s: got %x, want %x", test.name, got, test.want)
		}
	}
	for _, test := range []struct {
		name    string
		request []byte
		want    []byte // how the answer begins
	}{
		{"the other order", joined(aead, protocol, end), joined(protocol, aead)},
		{"an AEAD record that is not critical", joined(protocol, appendNumbers(nil, false, recordAEAD, 15), end), joined(protocol, aead)},
		{"several protocols", joined(appendNumbers(nil, true, recordNextProtocol, 0x8001, 0), aead, end), joined(protocol, aead)},
		{"an unknown record that is not critical", joined(protocol, appendRecord(nil, false, 0x3fff, nil), aead, end), joined(protocol, aead)},
		{"a server that it would like", joined(protocol, aead, appendRecord(nil, false, recordServer, []byte("a")), end), joined(protocol, aead)},
		{"bytes behind the End of Message", joined(protocol, aead, end, []byte("more")), joined(protocol, aead)},
		{"AEAD 30 and 15 without the exporter record", joined(protocol, appendNumbers(nil, true, recordAEAD, 30, 15), end), joined(protocol, aead)},
		{"AEAD 30 with it", joined(protocol, appendNumbers(nil, true, recordAEAD, 30, 15), appendRecord(nil, false, recordGCMExporter, nil), end),
			joined(protocol, appendNumbers(nil, true, recordAEAD, 30), []byte{4, 0, 0, 0})},
	} {
		got := answer(t, w, test.request)
		if r, err := readReply(bytes.NewReader(got)); err != nil || len(r.cookies) != 8 || !bytes.HasPrefix(got, test.want) {
			t.Errorf("%s: got %x (%v), want it to begin with %x", test.name, got, err, test.want)
		}
	}
}

// NTPsec's client reads one TLS record: the reply is in one.
func TestReplyIsInOneTLSRecord(t *testing.T) {
	w := start(t, func(c *ServerConfig) { c.Algorithms = []siv.Algorithm{siv.AESSIVCMAC512} })
	conn, err := w.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(joined(protocol, appendNumbers(nil, true, recordAEAD, 17), end))
	buffer := make([]byte, 32<<10)
	n, err := conn.Read(buffer)
	if r, wrong := readReply(bytes.NewReader(buffer[:n])); wrong != nil || len(r.cookies) != 8 {
		t.Errorf("got %d bytes in the first record: %v, %v", n, err, wrong)
	}
	if n, err := conn.Read(buffer); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the End of Message: got %d bytes, %v; want the end of the session", n, err)
	}
}

func TestServerWantsTLS13AndItsProtocol(t *testing.T) {
	w := start(t, nil)
	if _, err := w.dial(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: got %v, want the alert protocol_version", err)
	}
	if _, err := w.dial(t, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("another ALPN: got %v, want the alert no_application_protocol", err)
	}
	conn, err := w.dial(t, func(c *tls.Config) { c.NextProtos = nil })
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(joined(protocol, aead, end))
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("without ALPN: got %x, want nothing", got)
	}
	eventually(t, "three sessions without TLS 1.3 and ntske/1", func() bool { return w.server.Counters()[OutcomeTLS] == 3 })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within %s: %s", patience, what)
			return
		}
	}
}

// threats 26: idle and dripping sessions end by the one deadline, and keep nobody out.
func TestSlowSessionsEndAndKeepNobodyOut(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	w := start(t, func(c *ServerConfig) { c.MaxSessions, c.Timeout = 20, timeout })
	var idle []net.Conn
	for range 60 {
		conn, err := net.Dial("tcp", w.address.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		idle = append(idle, conn)
	}
	for good := 0; good < 5; {
		began := time.Now()
		if _, err := Exchange(context.Background(), w.ask()); err == nil {
			good++
		} else if time.Since(began) < timeout { // else this machine has not kept the deadline
			t.Fatal(err)
		}
	}
	if got := w.server.Sessions(); got > 20 {
		t.Errorf("got %d sessions, want at most 20", got)
	}
	dripping, err := w.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	for _, octet := range bytes.Repeat(appendRecord(nil, false, 9, []byte("drip")), 500) { // half of what a message may have
		if _, err := dripping.Write([]byte{octet}); err != nil {
			ended = true
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !ended {
		t.Errorf("a dripping session has not ended, want it to end by the deadline of %v", timeout)
	}
	for _, conn := range idle {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("an idle session: got %v, want it closed", err)
		}
	}
	eventually(t, "no session left", func() bool { return w.server.Sessions() == 0 })
	eventually(t, "all sessions counted: the good ones, and the idle ones as evicted, but for who was left until the deadline", func() bool {
		c := w.server.Counters()
		return c[OutcomeGood] >= 5 && c[OutcomeEvicted] > 0 && c[OutcomeTimeout] > 0 && c[OutcomeEvicted]+c[OutcomeTimeout]+c[OutcomeTLS] >= 60
	})
}

// brokenListener fails as one without descriptors does.
type brokenListener struct {
	net.Listener
	failures int
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// threats 25 (CVE-2024-38528): errors of accept end nothing.
func TestAcceptErrorsAreSurvived(t *testing.T) {
	told := make(chan error, 10)
	w := start(t, func(c *ServerConfig) { c.AcceptFailed = func(err error) { told <- err } })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		w.server.Serve(ctx, &brokenListener{listener, 3})
		close(done)
	}()
	ask := w.ask()
	ask.Address = listener.Addr().(*net.TCPAddr).AddrPort()
	exchangeWith(t, ask)
	if len(told) != 3 {
		t.Errorf("got %d errors told, want 3", len(told))
	}
	cancel()
	<-done
}

func TestCertificatesAreReadAgain(t *testing.T) {
	w := start(t, nil)
	serial := func() string { return exchangeWith(t, w.ask()).Chain[0].SerialNumber.String() }
	first := serial()
	if changed, err := w.certs.ReadIfChanged(); changed || err != nil {
		t.Errorf("unchanged files: got %v, %v", changed, err)
	}
	if err := os.WriteFile(w.certs.certificate, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := w.certs.ReadIfChanged(); !changed || err == nil || !strings.Contains(err.Error(), w.certs.certificate) {
		t.Errorf("a bad file: got %v, %v, want an error that names it", changed, err)
	}
	if got := serial(); got != first {
		t.Errorf("after a bad file: got certificate %s, want the one before, %s", got, first)
	}
	dir := t.TempDir()
	certificate, key := w.issue(t, dir, time.Now().Add(-day), time.Now().Add(day))
	for from, to := range map[string]string{certificate: w.certs.certificate, key: w.certs.key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := w.certs.ReadIfChanged(); !changed || err != nil {
		t.Errorf("renewed files: got %v, %v", changed, err)
	}
	if got := serial(); got == first {
		t.Error("renewed files: got the old certificate")
	}
}

// lying is a server that answers just what it is told to.
func lying(t *testing.T, message []byte) *Ask {
	t.Helper()
	w := start(t, nil)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", w.server.settings.Load().tls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = readRequest(conn)
			_, _ = conn.Write(message)
			_ = conn.Close()
		}
	}()
	ask := w.ask()
	ask.Address = listener.Addr().(*net.TCPAddr).AddrPort()
	return ask
}

func TestClientJudgesReplies(t *testing.T) {
	cookie := appendRecord(nil, false, recordCookie, make([]byte, 100))
	for _, test := range []struct {
		name    string
		message []byte
		want    string // "": taken
	}{
		{"good", joined(protocol, aead, cookie, end), ""},
		{"any order", joined(cookie, aead, cookie, protocol, end), ""},
		{"an AEAD record that is not critical", joined(protocol, appendNumbers(nil, false, recordAEAD, 15), cookie, end), ""},
		{"an unknown record", joined(protocol, aead, appendRecord(nil, false, 99, []byte("x")), cookie, end), ""},
		{"twenty cookies", joined(protocol, aead, bytes.Repeat(cookie, 20), end), ""},
		{"a server with a dot", joined(protocol, aead, appendRecord(nil, true, recordServer, []byte("localhost.")), cookie, end), ""},
		{"nothing", nil, "refused: the server closed without an answer"},
		{"no End of Message", joined(protocol, aead, cookie), "protocol: the server closed in the middle"},
		{"an error", joined(appendNumbers(nil, true, recordError, 1), end), "refused: the server refuses: error 1, bad request"},
		{"a warning", joined(protocol, aead, appendNumbers(nil, true, recordWarning, 3), cookie, end), "refused: the server refuses: warning 3"},
		{"an empty AEAD record", joined(protocol, appendNumbers(nil, true, recordAEAD), end), "refused: the server knows none"},
		{"no protocol", joined(appendNumbers(nil, true, recordNextProtocol), end), "refused: the server does not offer NTPv4"},
		{"an AEAD that was not offered", joined(protocol, appendNumbers(nil, true, recordAEAD, 17), cookie, end), "protocol: the server chose AEAD 17"},
		{"no cookie", joined(protocol, aead, end), "protocol: no cookie"},
		{"an empty cookie", joined(protocol, aead, appendRecord(nil, false, recordCookie, nil), end), "protocol: a cookie of 0 bytes"},
		{"a cookie of 513 bytes", joined(protocol, aead, appendRecord(nil, false, recordCookie, make([]byte, 513)), end), "protocol: a cookie of 513 bytes"},
		{"an unknown critical record", joined(protocol, aead, appendRecord(nil, true, 99, nil), cookie, end), "protocol: a critical record of the unknown type 99"},
		{"an endless answer", bytes.Repeat(cookie, 300), "protocol: no End of Message within"},
		{"a server that is no name", joined(protocol, aead, appendRecord(nil, true, recordServer, []byte("a\nb")), cookie, end), "protocol: a malformed or second server record"},
		{"port 0", joined(protocol, aead, appendNumbers(nil, true, recordPort, 0), cookie, end), "protocol: a malformed or second port record"},
		{"AEAD 30 from a server that does not say how", joined(protocol, appendNumbers(nil, true, recordAEAD, 30), cookie, end), "protocol: the server chose AEAD 30"},
	} {
		r, err := Exchange(context.Background(), lying(t, test.message))
		switch {
		case test.want == "" && (err != nil || len(r.Cookies) == 0 || len(r.Cookies) > 8):
			t.Errorf("%s: got %v, want it taken", test.name, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestClientNamesWhatFails(t *testing.T) {
	w := start(t, nil)
	closed := w.ask()
	listener, err := net.Listen("tcp", "127.61.9.1:0") // where no other test listens
	if err != nil {
		t.Fatal(err)
	}
	closed.Address = listener.Addr().(*net.TCPAddr).AddrPort()
	_ = listener.Close()
	silent := w.ask()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	silent.Address = mute.Addr().(*net.TCPAddr).AddrPort()
	other := w.ask()
	old, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: w.certs.get, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	go func() {
		if conn, err := old.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	other.Address = old.Addr().(*net.TCPAddr).AddrPort()
	for _, test := range []struct {
		ask  *Ask
		want Kind
		wait time.Duration
	}{{closed, KindNetwork, ExchangeTimeout}, {silent, KindTimeout, time.Second}, {other, KindALPN, ExchangeTimeout}} {
		ctx, cancel := context.WithTimeout(context.Background(), test.wait)
		_, err := Exchange(ctx, test.ask)
		cancel()
		failure := new(Failure)
		if !errors.As(err, &failure) || failure.Kind != test.want {
			t.Errorf("got %v, want %v", err, test.want)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(joined(protocol, aead, end))
	f.Add(joined(protocol, appendNumbers(nil, true, recordAEAD, 30, 15), appendRecord(nil, false, recordGCMExporter, nil), end))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := readRequest(bytes.NewReader(message))
		if err == nil {
			_, _ = r.choose([]siv.Algorithm{15, 30})
			if r.protocols != 1 || r.aeads > 1 {
				t.Errorf("took %x", message)
			}
		}
	})
}

func FuzzReadReply(f *testing.F) {
	f.Add(joined(protocol, aead, appendRecord(nil, false, recordCookie, make([]byte, 100)), end))
	f.Add(joined(appendNumbers(nil, true, recordError, 1), end))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := readReply(bytes.NewReader(message))
		if err != nil {
			_ = fmt.Sprint(err)
			return
		}
		for _, cookie := range r.cookies {
			if len(cookie) == 0 || len(cookie) > nts.MaxCookie {
				t.Errorf("took a cookie of %d bytes", len(cookie))
			}
		}
		if len(r.cookies) == 0 || len(r.cookies) > nts.MaxCookies {
			t.Errorf("took %d cookies", len(r.cookies))
		}
	})
}

// BenchmarkExchange is a whole key exchange, both ends of it; BenchmarkHandshake beside
// it is the TLS handshake alone.
func BenchmarkExchange(b *testing.B) {
	w := start(b, nil)
	before := worked(b)
	for b.Loop() {
		exchangeWith(b, w.ask())
	}
	b.ReportMetric(float64((worked(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// worked is the processor time of this process.
func worked(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkHandshake(b *testing.B) {
	w := start(b, nil)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", w.server.settings.Load().tls)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}()
		}
	}()
	before := worked(b)
	for b.Loop() {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{ServerName: "localhost", RootCAs: w.pool, NextProtos: []string{protocolName}})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	b.ReportMetric(float64((worked(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// Sessions whose clients say nothing are told of once, together; those that ask at once are not.
func TestIdleSessionsAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		s := NewServer(ServerConfig{Idle: func() { told.Add(1) }, Certificates: &Certificates{}})
		for range 5 {
			time.AfterFunc(idleAfter, func() { s.tellIdle(s.settings.Load().Idle) })
			time.Sleep(idleAfter / 100)
		}
		time.Sleep(idleAfter)
		synctest.Wait()
		first := told.Load()
		time.Sleep(10 * idleAfter)
		synctest.Wait()
		if first != 1 || told.Load() != 2 { // the first one at once, the other four after a pause
			t.Errorf("told of %d, then %d times; want 1 and 2", first, told.Load())
		}
	})
	idle := make(chan struct{}, 100)
	w := start(t, func(c *ServerConfig) { c.Idle = func() { idle <- struct{}{} } })
	if _, err := Exchange(context.Background(), w.ask()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dial(t, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-idle:
	case <-time.After(20 * time.Second):
		t.Error("an idle session was not told of")
	}
}
