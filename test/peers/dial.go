package peers

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Dial opens a connection from the host, as net.Dial does from here. The address is
// given in numbers.
func (h *Host) Dial(network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Inside(func() (err error) {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}

// Inside calls f on a thread that is in the host's namespace; the sockets that f opens
// stay there.
func (h *Host) Inside(f func() error) error {
	if h.namespace == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, namespace and all.
		runtime.LockOSThread()
		result <- func() error {
			namespace, err := os.Open("/run/netns/" + h.namespace)
			if err != nil {
				return err
			}
			defer namespace.Close()
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the namespace of %s: %w", h.Name, err)
			}
			return f()
		}()
	}()
	return <-result
}

// Exchange sends a datagram from the host, from a port of its own, and gives the first
// one that comes back.
func (h *Host) Exchange(to netip.AddrPort, request []byte, within time.Duration) ([]byte, error) {
	conn, err := h.Dial("udp", to.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	reply := make([]byte, 1500)
	n, err := conn.Read(reply)
	return reply[:max(n, 0)], err
}

// Silent says whether an error of Exchange means that nothing came back: silence, or
// a port that nobody listens at.
func Silent(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ECONNREFUSED)
}
