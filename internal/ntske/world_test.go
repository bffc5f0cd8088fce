package ntske

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"timeball/internal/nts"
)

// authority is a certification authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

var day = 24 * time.Hour

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newECKey(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-3650 * day), NotAfter: time.Now().Add(3650 * day), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = create(t, template, template, a.key, a.key)
	a.pool.AddCert(a.cert)
	return a
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue writes a certificate for localhost and 127.0.0.1 with its key into dir.
func (a *authority) issue(t testing.TB, dir string, from, to time.Time) (certificate, key string) {
	t.Helper()
	k := newECKey(t)
	cert := create(t, &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, k, a.key)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certificate, "CERTIFICATE", cert.Raw)
	writePEM(t, key, "EC PRIVATE KEY", der)
	return certificate, key
}

func writePEM(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// world is a server at work, and what a client needs to ask it.
type world struct {
	*authority
	server  *Server
	certs   *Certificates
	ring    *nts.Ring
	address netip.AddrPort
}

func start(t testing.TB, change func(*ServerConfig)) *world {
	t.Helper()
	w := &world{authority: newAuthority(t)}
	certificate, key := w.issue(t, t.TempDir(), time.Now().Add(-day), time.Now().Add(90*day))
	var err error
	if w.certs, err = NewCertificates(certificate, key); err != nil {
		t.Fatal(err)
	}
	if w.ring, err = NewRing(time.Now()); err != nil {
		t.Fatal(err)
	}
	cfg := ServerConfig{Certificates: w.certs, Ring: func() *nts.Ring { return w.ring }}
	if change != nil {
		change(&cfg)
	}
	w.server = NewServer(cfg)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().(*net.TCPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		w.server.Serve(ctx, listener)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *world) ask() *Ask {
	return &Ask{Address: w.address, Name: "localhost", Roots: w.pool, Now: time.Now()}
}

// dial opens a session as no client of ours would.
func (w *world) dial(t testing.TB, change func(*tls.Config)) (*tls.Conn, error) {
	t.Helper()
	c := &tls.Config{ServerName: "localhost", RootCAs: w.pool, NextProtos: []string{protocolName}}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", w.address.String(), c)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return conn, err
}
