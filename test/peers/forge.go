package peers

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Forger sends IPv4 datagrams from a host under any source address, as an attacker
// would who is not on the path of what they answer.
type Forger struct{ socket *os.File }

// Forge opens a raw socket on the host.
func Forge(t testing.TB, h *Host) *Forger {
	t.Helper()
	f := &Forger{}
	err := h.Inside(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		f.socket = os.NewFile(uintptr(fd), "raw")
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	})
	if err != nil {
		t.Fatalf("a raw socket on %s: %v", h.Name, err)
	}
	t.Cleanup(func() { _ = f.socket.Close() })
	return f
}

// Send sends a payload as if it came from an address and port.
func (f *Forger) Send(from, to netip.AddrPort, payload []byte) error {
	packet := datagram(from, to, payload)
	return unix.Sendto(int(f.socket.Fd()), packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
}

// datagram is a whole IPv4 packet. Its checksum and length are the kernel's to fill in
// (raw(7)); a UDP checksum of 0 says that there is none (RFC 768).
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 20+udpSize, 20+udpSize+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocolUDP
	source, target := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], source[:])
	copy(b[16:], target[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(udpSize+len(payload)))
	return append(b, payload...)
}
