package peers

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Forger sends datagrams from a host under any source address, as an attacker would who
// is not on the path of what they answer.
type Forger struct{ ipv4, ipv6 *os.File }

// Forge opens raw sockets on the host.
func Forge(t testing.TB, h *Host) *Forger {
	t.Helper()
	f := &Forger{}
	open := func(family int) (*os.File, error) {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return nil, err
		}
		socket := os.NewFile(uintptr(fd), "raw")
		t.Cleanup(func() { _ = socket.Close() })
		return socket, nil
	}
	err := h.Inside(func() (err error) {
		if f.ipv4, err = open(unix.AF_INET); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(int(f.ipv4.Fd()), unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
		if f.ipv6, err = open(unix.AF_INET6); err != nil {
			return err
		}
		return unix.SetsockoptString(int(f.ipv6.Fd()), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0")
	})
	if err != nil {
		t.Fatalf("a raw socket on %s: %v", h.Name, err)
	}
	return f
}

// Send sends a payload as if it came from an address and port.
func (f *Forger) Send(from, to netip.AddrPort, payload []byte) error {
	size := udpSize + len(payload)
	udp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
	udp = append(binary.BigEndian.AppendUint16(udp, uint16(size)), 0, 0)
	udp = append(udp, payload...)
	source, target := from.Addr().AsSlice(), to.Addr().AsSlice()
	if to.Addr().Is4() {
		// The checksum and the length are the kernel's to fill in (raw(7)); a UDP checksum
		// of 0 says that there is none (RFC 768).
		ip := slices.Concat([]byte{0x45, 8: 64, 9: protocolUDP, 11: 0}, source, target)
		return unix.Sendto(int(f.ipv4.Fd()), append(ip, udp...), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
	}
	ip := slices.Concat([]byte{0x60, 4: byte(size >> 8), byte(size), protocolUDP, 64}, source, target)
	binary.BigEndian.PutUint16(udp[6:], checksum(source, target, udp))
	return unix.Sendto(int(f.ipv6.Fd()), append(ip, udp...), 0, &unix.SockaddrInet6{Addr: to.Addr().As16()})
}

// checksum is a datagram's over IPv6 (RFC 8200 §8.1, RFC 768).
func checksum(source, target, udp []byte) uint16 {
	sum := protocolUDP + len(udp)
	for part := slices.Concat(source, target, udp, make([]byte, len(udp)%2)); len(part) > 0; part = part[2:] {
		sum += int(binary.BigEndian.Uint16(part))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	if sum == 0xffff {
		return 0xffff // 0 would say that there is none
	}
	return ^uint16(sum)
}
