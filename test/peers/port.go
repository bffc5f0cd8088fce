package peers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports that tests choose lie below those that the kernel gives to whoever asks for any
// (ip_local_port_range, from 32768): what is found free is not taken by a client's socket
// before the program that it is for has opened it.
const firstPort, lastPort = 12000, 31999

var chosen sync.Map // ports already given in this process

// FreePort is a port that is free at all addresses of this machine; network is "udp" or "tcp".
func FreePort(t testing.TB, network string) uint16 {
	t.Helper()
	var err error
	for range 200 {
		port := uint16(firstPort + rand.IntN(lastPort-firstPort+1))
		if _, given := chosen.LoadOrStore(port, true); given {
			continue
		}
		if err = tryPort(network, port); err == nil {
			return port
		}
	}
	t.Fatalf("no free %s port found: %v", network, err)
	return 0
}

// tryPort reports whether a port can be opened.
func tryPort(network string, port uint16) error {
	at := fmt.Sprintf(":%d", port)
	if network == "udp" {
		conn, err := net.ListenPacket(network, at)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	listener, err := net.Listen(network, at)
	if err != nil {
		return err
	}
	return listener.Close()
}
