package netio

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// portable is one socket of a port, with what Go offers on every system: a datagram a
// call, arrival address and interface where the system tells them, no kernel stamps.
type portable struct {
	conn  *net.UDPConn
	p4    *ipv4.PacketConn // one of the two is set
	p6    *ipv6.PacketConn
	local netip.AddrPort
	cfg   *ListenConfig

	ignored atomic.Pointer[[]int]
	count   portableCounters
	hopsMu  sync.Mutex // held from setting the multicast TTL to sending with it
}

type portableCounters struct {
	received, replied, sent, ignored, truncated, overlong, sendErrors atomic.Uint64
}

// openPortable opens the one socket of an address: sharing a port among sockets of one
// process alone is beyond what is portable.
func openPortable(cfg ListenConfig) ([]socket, error) {
	conn, err := listen(cfg.Address, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	s := &portable{conn: conn, local: conn.LocalAddr().(*net.UDPAddr).AddrPort(), cfg: &cfg}
	s.ignored.Store(new([]int))
	if cfg.Address.Addr().Is4() {
		s.local = netip.AddrPortFrom(s.local.Addr().Unmap(), s.local.Port())
		s.p4 = ipv4.NewPacketConn(conn)
	} else {
		s.p6 = ipv6.NewPacketConn(conn)
	}
	if err := s.configure(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return []socket{s}, nil
}

func (s *portable) configure() error {
	// Arrival addresses, DSCP and buffer are had where the system has them.
	_ = s.conn.SetReadBuffer(s.cfg.ReceiveBuffer)
	if s.p4 != nil {
		_ = s.p4.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
		_ = s.p4.SetTOS(int(s.cfg.DSCP&63) << 2)
		return s.p4.SetMulticastLoopback(!s.cfg.NoMulticastLoop)
	}
	_ = s.p6.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	_ = s.p6.SetTrafficClass(int(s.cfg.DSCP&63) << 2)
	return s.p6.SetMulticastLoopback(!s.cfg.NoMulticastLoop)
}

func (s *portable) localAddr() netip.AddrPort { return s.local }

func (s *portable) ignore(ifindexes []int) { s.ignored.Store(&ifindexes) }

// receiveBuffer is 0: package net does not tell.
func (s *portable) receiveBuffer() int { return 0 }

func (s *portable) close() error { return s.conn.Close() }

func (s *portable) counters() Counters {
	c := &s.count
	return Counters{Received: c.received.Load(), Replied: c.replied.Load(), Sent: c.sent.Load(), Ignored: c.ignored.Load(),
		Truncated: c.truncated.Load(), Overlong: c.overlong.Load(), SendErrors: c.sendErrors.Load()}
}

func (s *portable) serve(h Handler) error {
	stamper, _ := h.(Stamper)
	data, oob := make([]byte, bufferSize+1), make([]byte, 256)
	reply := make([]byte, bufferSize)
	var rx model.Received
	for {
		n, oobn, _, remote, err := s.conn.ReadMsgUDPAddrPort(data, oob)
		at := s.cfg.Clock.Now()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			if isUnreachable(unwrapErrno(err)) {
				continue
			}
			return err
		}
		if n > bufferSize {
			s.count.truncated.Add(1)
			continue
		}
		rx = model.Received{Data: data[:n], At: at, Stamp: model.StampDaemon,
			Remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
		rx.Local, rx.Interface = s.arrival(oob[:oobn])
		if slices.Contains(*s.ignored.Load(), rx.Interface) {
			s.count.ignored.Add(1)
			continue
		}
		s.count.received.Add(1)
		s.reply(h, stamper, &rx, reply)
	}
}

// reply calls the handler and sends what it answers.
func (s *portable) reply(h Handler, stamper Stamper, rx *model.Received, reply []byte) {
	n := h.Handle(rx, reply)
	switch {
	case n <= 0:
		return
	case n > len(rx.Data):
		s.count.overlong.Add(1)
		return
	}
	var from source
	if rx.Local.IsValid() && !rx.Local.IsMulticast() && !s.isBroadcast(rx.Local) {
		from.addr = rx.Local
	}
	at, err := s.write(reply[:n], rx.Remote, from)
	if err != nil {
		s.count.sendErrors.Add(1)
		return
	}
	s.count.replied.Add(1)
	if stamper == nil {
		return
	}
	want := stamper.Stamp()
	if taker, takes := h.(StampTaker); takes && want.Want {
		taker.Transmitted(want.ID, at, model.StampDaemon)
	}
	s.stamped(want, at)
}

// stamped reports our own reading of the clock: there is no better stamp here.
func (s *portable) stamped(want StampRequest, at ntptime.Instant) {
	if want.Want && s.cfg.OnTransmitted != nil {
		s.cfg.OnTransmitted(want.ID, at, model.StampDaemon)
	}
}

// isBroadcast holds for an IPv4 destination that is none of our own addresses.
func (s *portable) isBroadcast(a netip.Addr) bool {
	if !a.Is4() || a.IsLoopback() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(addrs, func(n net.Addr) bool {
		prefix, ok := n.(*net.IPNet)
		if !ok {
			return false
		}
		own, _ := netip.AddrFromSlice(prefix.IP)
		return own.Unmap() == a
	})
}

// arrival reads to which address and by which interface a datagram came.
func (s *portable) arrival(oob []byte) (netip.Addr, int) {
	if s.p4 != nil {
		var cm ipv4.ControlMessage
		if cm.Parse(oob) != nil {
			return netip.Addr{}, 0
		}
		a, _ := netip.AddrFromSlice(cm.Dst)
		return a.Unmap(), cm.IfIndex
	}
	var cm ipv6.ControlMessage
	if cm.Parse(oob) != nil {
		return netip.Addr{}, 0
	}
	a, _ := netip.AddrFromSlice(cm.Dst)
	return a, cm.IfIndex
}

func (s *portable) send(b []byte, to netip.AddrPort, from source, stamp StampRequest) (ntptime.Instant, error) {
	at, err := s.write(b, to, from)
	if err != nil {
		return at, err
	}
	s.count.sent.Add(1)
	s.stamped(stamp, at)
	return at, nil
}

// write sends one datagram from a source. It returns the moment before.
func (s *portable) write(b []byte, to netip.AddrPort, from source) (ntptime.Instant, error) {
	if from.hops > 0 {
		s.hopsMu.Lock()
		defer s.hopsMu.Unlock()
		if err := s.setHops(from.hops); err != nil {
			return ntptime.Instant{}, err
		}
	}
	oob := s.marshal(from)
	at := s.cfg.Clock.Now()
	_, _, err := s.conn.WriteMsgUDPAddrPort(b, oob, to)
	if err != nil && isUnreachable(unwrapErrno(err)) {
		_, _, err = s.conn.WriteMsgUDPAddrPort(b, oob, to) // the first was about an earlier datagram
	}
	return at, err
}

func (s *portable) setHops(hops int) error {
	if s.p4 != nil {
		return s.p4.SetMulticastTTL(hops)
	}
	return s.p6.SetMulticastHopLimit(hops)
}

func (s *portable) marshal(from source) []byte {
	if !from.addr.IsValid() && from.ifindex == 0 {
		return nil
	}
	if s.p4 != nil {
		return (&ipv4.ControlMessage{Src: from.addr.AsSlice(), IfIndex: from.ifindex}).Marshal()
	}
	return (&ipv6.ControlMessage{Src: from.addr.AsSlice(), IfIndex: from.ifindex}).Marshal()
}

func (s *portable) join(group netip.Addr, ifindex int) error {
	i, addr := &net.Interface{Index: ifindex}, &net.UDPAddr{IP: group.AsSlice()}
	if s.p4 != nil {
		i, err := net.InterfaceByIndex(ifindex)
		if err != nil {
			return err
		}
		return s.p4.JoinGroup(i, addr)
	}
	return s.p6.JoinGroup(i, addr)
}

func (s *portable) leave(group netip.Addr, ifindex int) error {
	i, addr := &net.Interface{Index: ifindex}, &net.UDPAddr{IP: group.AsSlice()}
	if s.p4 != nil {
		return s.p4.LeaveGroup(i, addr)
	}
	return s.p6.LeaveGroup(i, addr)
}
