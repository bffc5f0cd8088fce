package netio

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

const (
	// Source ports of clients are drawn from all that are not reserved for the system
	// (RFC 6056 §3.2; RFC 9109 §4: a port that an attacker off the path cannot guess).
	lowestPort  = 1024
	highestPort = 65535
	// portAttempts bounds the draws: with n of m ports taken, all of them fail with
	// a probability of (n/m)^64.
	portAttempts = 64
)

// ClientConfig says whom a client socket talks to, and how.
type ClientConfig struct {
	Remote    netip.AddrPort
	Local     netip.Addr // source address; invalid: by the routing table
	Interface string     // by which to send and receive; "": by the routing table
	Clock     Clock
	Hardware  *Hardware
	// NoTransmitTimestamps leaves out the kernel's transmit timestamps.
	NoTransmitTimestamps bool
}

// Event is what Client.Read returns: a datagram, in the Received it was given, or the
// timestamp of one that was sent.
type Event struct {
	// Transmitted says that this is a transmit timestamp: Received.At is when the
	// datagram left and Received.Timestamp who saw it; nothing else of it is set.
	Transmitted bool
	// Sequence is which Send, counted from 0, the timestamp belongs to. With hardware timestamps
	// a datagram may have two: the kernel's, then the NIC's.
	Sequence uint32
}

// UnreachableError is what ICMP says of our own datagram: nobody listens there, or
// there is no way. It is a hint only: it can be forged by whoever guesses the port.
type UnreachableError struct {
	Remote netip.AddrPort
	Err    error // ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ...
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("%s: %v", e.Remote, e.Err) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// Client is a socket for exchanges with one server. Send and Read may be called from
// different goroutines; Read from one at a time.
type Client struct {
	cfg    ClientConfig
	conn   *net.UDPConn
	socket *clientSocket
	sent   atomic.Uint32
}

// OpenClient opens a connected socket with a source port drawn at random. Datagrams
// of anybody else than Remote do not reach it.
func OpenClient(cfg ClientConfig) (*Client, error) {
	cfg.Clock = cfg.Clock.orSystem()
	cfg.Remote = netip.AddrPortFrom(cfg.Remote.Addr().Unmap(), cfg.Remote.Port())
	cfg.Local = cfg.Local.Unmap()
	if !cfg.Remote.IsValid() {
		return nil, errors.New("open client socket: no remote address")
	}
	if cfg.Local.IsValid() && cfg.Local.Is4() != cfg.Remote.Addr().Is4() {
		return nil, fmt.Errorf("open client socket to %s: source address %s is of another family", cfg.Remote, cfg.Local)
	}
	var last error
	for range portAttempts {
		port, err := randomPort()
		if err != nil {
			return nil, fmt.Errorf("open client socket to %s: %w", cfg.Remote, err)
		}
		c := &Client{cfg: cfg}
		c.conn, c.socket, err = dialClient(&c.cfg, port)
		if err == nil {
			return c, nil
		}
		last = err
		// A port may be taken, or kept from us by a system's own rule.
		if !isInUse(err) && !errors.Is(err, syscall.EACCES) {
			break
		}
	}
	return nil, fmt.Errorf("open client socket to %s: %w", cfg.Remote, last)
}

// dialUDP opens a connected socket; control sets options before the bind.
func dialUDP(cfg *ClientConfig, port uint16, control func(fd int) error) (*net.UDPConn, error) {
	dialer := net.Dialer{LocalAddr: cfg.localFor(port), Control: rawControl(control)}
	conn, err := dialer.Dial(cfg.network(), cfg.remoteText())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// Send sends one datagram and returns the moment right before it was given to the
// kernel. Its transmit timestamp, if there is one, comes out of Read.
func (c *Client) Send(b []byte) (ntptime.Instant, error) {
	if len(b) > bufferSize {
		return ntptime.Instant{}, ErrTooLong
	}
	at, err := c.socket.send(b, c.sent.Add(1)-1)
	if err != nil {
		return at, fmt.Errorf("send to %s: %w", c.cfg.Remote, c.explain(err))
	}
	return at, nil
}

// Read waits for a datagram, which it reads into buf and rx, or for the transmit timestamp
// of one that was sent. An UnreachableError does not end the socket; net.ErrClosed does.
// A datagram longer than buf is dropped.
func (c *Client) Read(buf []byte, rx *model.Received) (Event, error) {
	event, err := c.socket.read(buf, rx)
	if err != nil {
		return event, c.explain(err)
	}
	return event, nil
}

// randomPort draws a source port, each with the same probability.
func randomPort() (uint16, error) {
	const span = highestPort - lowestPort + 1
	var b [4]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw a source port: %w", err)
		}
		n := binary.BigEndian.Uint32(b[:])
		if n < span*(1<<32/span) {
			return uint16(lowestPort + n%span), nil
		}
	}
}

// localFor is the address to bind: the source asked for, with the remote's zone where
// a link-local address needs one.
func (c *ClientConfig) localFor(port uint16) *net.UDPAddr {
	local := c.Local
	if local.IsValid() && local.Is6() && local.IsLinkLocalUnicast() && local.Zone() == "" {
		zone := c.Remote.Addr().Zone()
		if zone == "" {
			zone = c.Interface
		}
		local = local.WithZone(zone)
	}
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if c.Remote.Addr().Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(numbered(local), port))
}

// network is the name of the remote's family for package net.
func (c *ClientConfig) network() string {
	if c.Remote.Addr().Is6() {
		return "udp6"
	}
	return "udp4"
}

// remoteText is the remote address with the zone that a link-local one needs.
func (c *ClientConfig) remoteText() string {
	a := c.Remote.Addr()
	if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" && c.Interface != "" {
		a = a.WithZone(c.Interface)
	}
	return netip.AddrPortFrom(numbered(a), c.Remote.Port()).String()
}

// LocalAddr is the address and port that datagrams are sent from.
func (c *Client) LocalAddr() netip.AddrPort {
	a := c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// SetReadDeadline makes Read return an error that is os.ErrDeadlineExceeded at t.
func (c *Client) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Close closes the socket; a Read that waits returns net.ErrClosed.
func (c *Client) Close() error { return c.conn.Close() }

// explain turns an error of the socket into one that callers tell apart.
func (c *Client) explain(err error) error {
	if errno := unwrapErrno(err); isUnreachable(errno) {
		return &UnreachableError{Remote: c.cfg.Remote, Err: errno}
	}
	return err
}
