package ntske

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Certificates is a server's certificate chain and key, read from files that somebody
// else renews. Any number of goroutines may use it.
type Certificates struct {
	certificate, key string

	current atomic.Pointer[tls.Certificate]
	mu      sync.Mutex // held while reading
	read    [2]fileState
}

// fileState tells one state of a file from another.
type fileState struct {
	modified time.Time
	size     int64
}

// NewCertificates reads both files, in PEM form. The error names the file.
func NewCertificates(certificate, key string) (*Certificates, error) {
	c := &Certificates{certificate: certificate, key: key}
	return c, c.Read()
}

// Read reads the files again. A pair that is bad leaves the one before in use.
func (c *Certificates) Read() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = c.states()
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certificate, c.key, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("certificate %s: %w", c.certificate, err)
		}
	}
	c.current.Store(&pair)
	return nil
}

// ReadIfChanged reads the files again if one of them is not as it was last read, and
// reports whether it was so.
func (c *Certificates) ReadIfChanged() (changed bool, err error) {
	c.mu.Lock()
	same := c.read == c.states()
	c.mu.Unlock()
	if same {
		return false, nil
	}
	return true, c.Read()
}

func (c *Certificates) states() (s [2]fileState) {
	for i, name := range []string{c.certificate, c.key} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return s
}

// Leaf is the end certificate in use, nil before one was read.
func (c *Certificates) Leaf() *x509.Certificate {
	if pair := c.current.Load(); pair != nil {
		return pair.Leaf
	}
	return nil
}

func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, fmt.Errorf("no certificate has been read from %s", c.certificate)
}
