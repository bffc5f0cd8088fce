package ntske

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"timeball/internal/nts"
	"timeball/internal/siv"
)

// Kind says why a key exchange has failed, in one word for reports and metrics.
type Kind uint8

// The kinds of failures.
const (
	KindNetwork  Kind = iota // no connection: refused, unreachable, reset
	KindTimeout              // no answer in time
	KindTLS                  // no TLS 1.3 (RFC 8915 §3)
	KindALPN                 // the server does not speak ntske/1 (RFC 8915 §4)
	KindChain                // the certificate leads to no authority that is trusted
	KindName                 // it is not for this name
	KindDate                 // it has expired, or is not valid yet
	KindRefused              // an error record, or a close without a byte
	KindProtocol             // records that cannot be right
	kinds        = iota
)

var kindNames = [kinds]string{"network", "timeout", "tls", "alpn", "chain", "name", "date", "refused", "protocol"}

// String returns the word used in reports and metrics.
func (k Kind) String() string { return kindNames[k] }

// Failure is the error of a key exchange.
type Failure struct {
	Kind Kind
	Err  error
}

func (f *Failure) Error() string { return f.Kind.String() + ": " + f.Err.Error() }

// Unwrap gives the error behind it.
func (f *Failure) Unwrap() error { return f.Err }

func failed(kind Kind, format string, args ...any) error {
	return &Failure{kind, fmt.Errorf(format, args...)}
}

// ExchangeTimeout is the time for a whole key exchange of a client.
const ExchangeTimeout = 10 * time.Second

// Ask says how a client makes a key exchange.
type Ask struct {
	Address netip.AddrPort // of the key exchange server
	Name    string         // that its certificate must be for: a host name or an address
	Roots   *x509.CertPool // nil: the system's
	Local   netip.Addr     // source address; invalid: the route's
	// Algorithms are those offered, the preferred one first; none: 30, then 15.
	Algorithms []siv.Algorithm
	// Now is the time that the dates of certificates are held to.
	Now time.Time
	// AnyDate does without the dates, for a machine whose clock is not set. But what had
	// expired before Floor is refused even so.
	AnyDate bool
	// Floor is a time known to have passed, such as the build's date; zero: none.
	Floor time.Time
}

// Result is what a key exchange has brought.
type Result struct {
	Secrets nts.Secrets
	Cookies [][]byte // 1 to 8
	Server  string   // where to send NTP: a name or an address; "": where the exchange was
	Port    uint16   // 0: 123
	Chain   []*x509.Certificate
	// Dated says that the certificate is valid at Ask.Now: always, unless AnyDate was set.
	Dated bool
}

// defaultAlgorithms are offered. The first makes shorter packets; it comes about only
// with servers that export its keys as RFC 8915 has it.
var defaultAlgorithms = []siv.Algorithm{siv.AES128GCMSIV, siv.AESSIVCMAC256}

// Exchange makes a key exchange. Its error is a *Failure.
func Exchange(ctx context.Context, ask *Ask) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, ExchangeTimeout)
	defer cancel()
	offered := ask.Algorithms
	if len(offered) == 0 {
		offered = defaultAlgorithms
	}
	result, gcm, err := exchange(ctx, ask, offered)
	if err == nil && result.Secrets.Algorithm == siv.AES128GCMSIV && !gcm {
		// Which keys such a server exports cannot be known (chrony 4.4 to 4.6): ask again
		// without that algorithm.
		offered = slices.DeleteFunc(slices.Clone(offered), func(a siv.Algorithm) bool { return a == siv.AES128GCMSIV })
		if len(offered) == 0 {
			offered = []siv.Algorithm{siv.AESSIVCMAC256}
		}
		result, _, err = exchange(ctx, ask, offered)
	}
	return result, err
}

// exchange is one session. It reports whether the server exports the keys of
// AES-128-GCM-SIV as RFC 8915 has it.
func exchange(ctx context.Context, ask *Ask, offered []siv.Algorithm) (*Result, bool, error) {
	conn, err := ask.dial(ctx)
	if err != nil {
		return nil, false, classify(err, KindNetwork)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	result := &Result{}
	session := tls.Client(conn, ask.config(result))
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, false, classify(err, KindTLS)
	}
	if _, err := session.Write(appendRequest(nil, offered)); err != nil {
		return nil, false, classify(err, KindNetwork)
	}
	r, err := readReply(session)
	if err != nil {
		return nil, false, err
	}
	if !slices.Contains(offered, r.algorithm) || r.algorithm.KeySize() == 0 {
		return nil, false, failed(KindProtocol, "the server chose AEAD %d, which was not offered", uint16(r.algorithm))
	}
	state := session.ConnectionState()
	if result.Secrets, err = export(&state, r.algorithm); err != nil {
		return nil, false, &Failure{KindTLS, err}
	}
	result.Cookies, result.Server, result.Port = r.cookies, r.server, r.port
	return result, r.gcmExporter, nil
}

func (ask *Ask) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if ask.Local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ask.Local, 0))
	}
	return d.DialContext(ctx, "tcp", ask.Address.String())
}

// config makes the settings of TLS. The chain is checked here and not by package tls,
// since what time the dates are held to is ours to say.
func (ask *Ask) config(result *Result) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocolName},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != protocolName {
				return failed(KindALPN, "the server did not choose %s", protocolName)
			}
			result.Chain = state.PeerCertificates
			return ask.verify(result)
		},
	}
	if _, err := netip.ParseAddr(ask.Name); err != nil {
		c.ServerName = strings.TrimSuffix(ask.Name, ".")
	}
	return c
}

// verify checks name, chain and dates.
func (ask *Ask) verify(result *Result) error {
	if len(result.Chain) == 0 {
		return failed(KindChain, "the server has shown no certificate")
	}
	leaf := result.Chain[0]
	name := strings.TrimSuffix(ask.Name, ".")
	if err := leaf.VerifyHostname(name); err != nil {
		return &Failure{KindName, err}
	}
	options := x509.VerifyOptions{Roots: ask.Roots, Intermediates: x509.NewCertPool(), CurrentTime: ask.Now}
	for _, c := range result.Chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if ask.Now.Before(ask.Floor) {
		options.CurrentTime = ask.Floor
	}
	_, err := leaf.Verify(options)
	if err == nil {
		result.Dated = true
		return nil
	}
	invalid := new(x509.CertificateInvalidError)
	if !errors.As(err, invalid) || invalid.Reason != x509.Expired {
		return &Failure{KindChain, err}
	}
	here := date(options.CurrentTime) + " here"
	if ask.Now.Before(ask.Floor) { // the clock may be right, and what was saved wrong
		here = date(ask.Floor) + " at least, the last known time (`last-time` in clock.state_dir; remove that file if it is wrong)"
	}
	dated := failed(KindDate, "valid from %s to %s, and it is %s", date(leaf.NotBefore), date(leaf.NotAfter), here)
	if !ask.AnyDate || leaf.NotAfter.Before(ask.Floor) {
		return dated
	}
	for _, moment := range moments(result.Chain) { // a time at which all of the chain is valid
		options.CurrentTime = moment
		if _, err := leaf.Verify(options); err == nil {
			return nil
		}
	}
	return dated
}

// moments are times at which a chain may be valid as a whole, if it ever is: the latest
// beginning, and the earliest end.
func moments(chain []*x509.Certificate) []time.Time {
	latest, earliest := chain[0].NotBefore, chain[0].NotAfter
	for _, c := range chain {
		if c.NotBefore.After(latest) {
			latest = c.NotBefore
		}
		if c.NotAfter.Before(earliest) {
			earliest = c.NotAfter
		}
	}
	return []time.Time{latest, earliest, chain[0].NotBefore.Add(chain[0].NotAfter.Sub(chain[0].NotBefore) / 2)}
}

func date(t time.Time) string { return t.UTC().Format(time.DateTime) }

// readReply reads a server's message.
func readReply(conn io.Reader) (*reply, error) {
	r := &reply{}
	size, wrong, err := receive(conn, r)
	switch {
	case wrong != nil:
		return nil, &Failure{kindOf(wrong), wrong}
	case errors.Is(err, errTooLong):
		return nil, &Failure{KindProtocol, err}
	case errors.Is(err, io.EOF) && size == 0: // so NTPsec refuses
		return nil, failed(KindRefused, "the server closed without an answer")
	case errors.Is(err, io.EOF):
		return nil, failed(KindProtocol, "the server closed in the middle of its answer")
	case err != nil:
		return nil, classify(err, KindNetwork)
	}
	return r, nil
}

// kindOf tells a refusal from records that cannot be right.
func kindOf(err error) Kind {
	if errors.As(err, new(refused)) {
		return KindRefused
	}
	return KindProtocol
}

// classify finds the kind of an error of dialling or of TLS.
func classify(err error, other Kind) error {
	failure := new(Failure)
	var timeout net.Error
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &Failure{KindTimeout, err}
	case strings.Contains(err.Error(), "no application protocol"): // the alert has no exported type
		return &Failure{KindALPN, err}
	case errors.Is(err, io.EOF) && other == KindTLS: // so chrony refuses what is not TLS 1.3
		return &Failure{KindTLS, errors.New("the server closed during the handshake")}
	}
	return &Failure{other, err}
}

// ReadRoots reads certificates of authorities from a PEM file.
func ReadRoots(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in PEM form in it", name)
	}
	return pool, nil
}

// SystemRoots says why the system's certificates of authorities cannot be trusted: a
// container or a small system may have none.
func SystemRoots() error {
	if pool, err := x509.SystemCertPool(); err != nil || pool.Equal(x509.NewCertPool()) {
		return errors.New("this machine has no certificates of authorities (package ca-certificates): install them, or name a file in nts.ca")
	}
	return nil
}
