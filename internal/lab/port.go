package lab

import (
	"fmt"
	"net"
	"net/netip"
)

// freePort finds an unprivileged port that is free at the address of every host.
// Somebody else may take it before the daemons do; they then say so.
func freePort(hosts []*host) (uint16, error) {
	const tries = 32
	var last error
	for range tries {
		port, err := tryPort(hosts)
		if err == nil {
			return port, nil
		}
		last = err
	}
	return 0, fmt.Errorf("no port is free at all addresses of the lab: %w", last)
}

// tryPort lets the system choose at the first host and tries the same at the others.
func tryPort(hosts []*host) (port uint16, err error) {
	for _, h := range hosts {
		socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.addr, port)))
		if err != nil {
			return 0, err
		}
		defer socket.Close()
		port = socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	return port, nil
}
