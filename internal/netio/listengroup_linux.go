package netio

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ListenGroup listens to what is sent to one multicast group or broadcast address, and
// to nothing else, by an interface. Unlike Listen it shares: any number of sockets of
// any process may hear the same group, and each gets its own copy. It is for hosts
// whose port is bound to one address and therefore hears no group (the lab); it sends
// nothing.
func ListenGroup(cfg ListenConfig, ifname string) (*Port, error) {
	cfg = cfg.withDefaults()
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", cfg.Address, ifname, err)
	}
	conn, err := bindGroup(&cfg, i.Index)
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", cfg.Address, ifname, err)
	}
	s, err := shardOn(&cfg, conn)
	if err != nil {
		return nil, err
	}
	s.primary = true
	if cfg.Address.Addr().IsMulticast() {
		if err := s.join(cfg.Address.Addr(), i.Index); err != nil {
			return nil, errors.Join(fmt.Errorf("join %s on %s: %w", cfg.Address, ifname, err), s.close())
		}
	}
	return newPort(cfg, []*shard{s}), nil
}

// bindGroup binds a socket to the group itself. Package net would bind it to every
// address instead, which hears other groups too and collides with other sockets.
func bindGroup(cfg *ListenConfig, ifindex int) (*net.UDPConn, error) {
	v6 := cfg.Address.Addr().Is6()
	family := unix.AF_INET
	var address unix.Sockaddr
	if v6 {
		family = unix.AF_INET6
		address = &unix.SockaddrInet6{Port: int(cfg.Address.Port()), Addr: cfg.Address.Addr().As16(), ZoneId: scopeOf(cfg.Address.Addr(), ifindex)}
	} else {
		address = &unix.SockaddrInet4{Port: int(cfg.Address.Port()), Addr: cfg.Address.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "group")
	defer file.Close()
	options := append(portOptions(v6, cfg), option{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, false})
	if err := setOptions(fd, options); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, address); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
