package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"timeball/internal/ntptime"
)

// source says how a datagram leaves: from which address and by which interface. The
// zero value leaves both to the routing table. hops is the TTL of a multicast
// datagram, 0 for the system's default.
type source struct {
	addr    netip.Addr
	ifindex int
	hops    int
}

// Port is one UDP port of this host, with all its sockets. Its methods may be called
// from any goroutine.
type Port struct {
	cfg     ListenConfig
	sockets []*shard
	guard   guard

	mu     sync.Mutex
	groups []*group
	hops   map[netip.Addr]int
}

// Listen opens the sockets of a port. It fails with ErrInUse if another process, of
// whatever user, has the port or any address of it; from then on no other process
// gets it, although the workers share it.
func Listen(cfg ListenConfig) (*Port, error) {
	cfg = cfg.withDefaults()
	p := newPort(cfg, nil)
	var err error
	if cfg.Address.Addr().IsValid() {
		p.sockets, err = openShards(cfg)
	} else {
		p.sockets, err = openBoth(cfg)
	}
	if err != nil {
		if isInUse(err) {
			err = fmt.Errorf("%w by another process", ErrInUse)
		}
		return nil, fmt.Errorf("listen on %s: %w", listenText(cfg.Address), err)
	}
	p.guardAll()
	if err := p.Refresh(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func newPort(cfg ListenConfig, sockets []*shard) *Port {
	p := &Port{cfg: cfg, sockets: sockets, hops: make(map[netip.Addr]int)}
	p.guardAll()
	return p
}

// guardAll gives the sockets the guard of their send buffers.
func (p *Port) guardAll() {
	for _, s := range p.sockets {
		s.guard, s.siblings = &p.guard, p.sockets
	}
}

// openBoth opens the sockets of IPv4 and of IPv6 on the same port; where the system
// has no IPv6, those of IPv4 alone.
func openBoth(cfg ListenConfig) ([]*shard, error) {
	var last error
	for range 8 { // a free port of IPv4 may be taken in IPv6
		v4 := cfg
		v4.Address = netip.AddrPortFrom(netip.IPv4Unspecified(), cfg.Address.Port())
		sockets, err := openShards(v4)
		if err != nil {
			return nil, err
		}
		v6 := cfg
		v6.Address = netip.AddrPortFrom(netip.IPv6Unspecified(), sockets[0].local.Port())
		more, err := openShards(v6)
		if err == nil {
			return append(sockets, more...), nil
		}
		if isNoIPv6(err) {
			return sockets, nil
		}
		closeAll(sockets)
		last = err
		if cfg.Address.Port() != 0 || !isInUse(err) {
			break
		}
	}
	return nil, last
}

func closeAll(sockets []*shard) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func listenText(a netip.AddrPort) string {
	if a.Addr().IsValid() {
		return a.String()
	}
	return fmt.Sprintf(":%d", a.Port())
}

// Workers is the number of sockets: Serve is to be called once for each of 0 to
// Workers−1. It is the configured number, or twice that where both families are open.
func (p *Port) Workers() int { return len(p.sockets) }

// Serve receives datagrams on one socket and hands them to h, until the Port is
// closed (then it returns nil) or the socket fails. Each socket has one Serve.
func (p *Port) Serve(worker int, h Handler) error {
	if worker < 0 || worker >= len(p.sockets) {
		return fmt.Errorf("serve: no worker %d of %d", worker, len(p.sockets))
	}
	err := p.sockets[worker].serve(h)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Send sends one datagram from the port: modes 1, 2 and 5, and mode 3 where it must
// come from this port. local is the address to send from and ifindex the interface to
// send by; the zero values leave them to the routing table. It returns the moment
// right before the datagram was given to the kernel; a better timestamp follows through
// Handler.Sent if token is not zero and Serve runs for the sockets.
func (p *Port) Send(b []byte, to netip.AddrPort, local netip.Addr, ifindex int, token Token) (ntptime.Instant, error) {
	if len(b) > bufferSize {
		return ntptime.Instant{}, ErrTooLong
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s := p.socketFor(to.Addr(), local)
	if s == nil {
		return ntptime.Instant{}, fmt.Errorf("send to %s: %w", to, ErrNoFamily)
	}
	from := source{addr: local.Unmap(), ifindex: ifindex}
	if to.Addr().IsMulticast() {
		from.hops = p.multicastTTL(to.Addr())
	}
	at, err := s.send(b, to, from, token)
	if err != nil {
		return at, fmt.Errorf("send to %s: %w", to, err)
	}
	return at, nil
}

// CanSend reports whether Send has a socket for a destination, and for the address to
// send from if that is valid.
func (p *Port) CanSend(to, local netip.Addr) bool { return p.socketFor(to.Unmap(), local) != nil }

// socketFor picks the first socket of the destination's family.
func (p *Port) socketFor(to, local netip.Addr) *shard {
	for _, s := range p.sockets {
		bound := s.local.Addr()
		if bound.Is4() == to.Is4() && (!local.IsValid() || bound.IsUnspecified() || bound.WithZone("") == local.Unmap().WithZone("")) {
			return s
		}
	}
	return nil
}

// LocalAddr is the address listened at. Where both families are open it is
// 0.0.0.0 with the port that they share.
func (p *Port) LocalAddr() netip.AddrPort { return p.sockets[0].local }

// SetMulticastTTL sets the TTL or hop limit for what is sent to a group, 1 to 255;
// DefaultMulticastTTL is used for all others.
func (p *Port) SetMulticastTTL(group netip.Addr, ttl int) error {
	if ttl < 1 || ttl > 255 {
		return fmt.Errorf("multicast ttl %d for %s: want 1 to 255", ttl, group)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hops[group.Unmap().WithZone("")] = ttl
	return nil
}

func (p *Port) multicastTTL(group netip.Addr) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ttl, ok := p.hops[group.WithZone("")]; ok {
		return ttl
	}
	return DefaultMulticastTTL
}

// Counters sums the counters of all sockets.
func (p *Port) Counters() Counters {
	var sum Counters
	for _, s := range p.sockets {
		sum.add(s.counters())
	}
	return sum
}

// ReceiveBuffer is the smallest receive buffer of the port's sockets in bytes, in the
// measure of ListenConfig.ReceiveBuffer, and what was asked for; 0 where it cannot be told.
func (p *Port) ReceiveBuffer() (granted, asked int) {
	for i, s := range p.sockets {
		if g := s.receiveBuffer(); i == 0 || g < granted {
			granted = g
		}
	}
	return granted, p.cfg.ReceiveBuffer
}

// SendBuffer is the smallest send buffer of the port's sockets in bytes; DefaultSendBuffer
// was asked for.
func (p *Port) SendBuffer() (granted int) {
	for i, s := range p.sockets {
		if g := s.sendBuffer(); i == 0 || g < granted {
			granted = g
		}
	}
	return granted
}

// Refresh looks at the interfaces of this host again: groups are joined on interfaces
// that have come (back), and the interfaces to ignore are found by name. Call it
// whenever a Monitor tells of a change.
func (p *Port) Refresh() error {
	ifs, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("interfaces of this host: %w", err)
	}
	var ignored []int
	for _, i := range ifs {
		if slices.Contains(p.cfg.Ignore, i.Name) {
			ignored = append(ignored, i.Index)
		}
	}
	for _, s := range p.sockets {
		s.ignore(ignored)
	}
	return p.rejoin()
}

// Close closes all sockets; every Serve returns.
func (p *Port) Close() error {
	p.guard.closed.Store(true)
	return closeAll(p.sockets)
}

// listen binds one UDP socket with the options that control sets before the bind.
func listen(addr netip.AddrPort, control func(fd int) error) (*net.UDPConn, error) {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: rawControl(control)}
	conn, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(numbered(addr.Addr()), addr.Port()).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// rawControl adapts control to the net package.
func rawControl(control func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = control(int(fd)) }), err)
	}
}
