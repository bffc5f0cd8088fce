package daemon

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// reply is what a false server makes of a request: it may change every field of the
// honest reply it is given. nil: nothing is sent.
type reply func(request, reply []byte) []byte

var falseServers atomic.Int32

// falseServer answers at a free port of an address of loopback of its own until the test
// ends; the honest reply is that of a stratum 1 with this machine's clock.
func falseServer(t *testing.T, change reply) netip.AddrPort {
	t.Helper()
	n := falseServers.Add(1)
	return falseServerAt(t, net.IPv4(127, 8, byte(n>>8), byte(n)), change)
}

// falseServerAt is falseServer at a free port of that address.
func falseServerAt(t *testing.T, ip net.IP, change reply) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			if answer := change(buffer[:n], honest(buffer[:n])); answer != nil {
				_, _ = conn.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// honest is the reply of a stratum 1 to a request (RFC 5905 §9.2 FXMIT).
func honest(request []byte) []byte {
	r := make([]byte, 48)
	r[0], r[1], r[2], r[3] = request[0]&0x38|4, 1, request[2], 0xec
	copy(r[12:], "GPS\x00")
	now := ntp(time.Now())
	binary.BigEndian.PutUint64(r[16:], now-5<<32)
	copy(r[24:32], request[40:48])
	binary.BigEndian.PutUint64(r[32:], now)
	binary.BigEndian.PutUint64(r[40:], now)
	return r
}

// ntp is a time in NTP's format (RFC 5905 §6).
func ntp(t time.Time) uint64 {
	seconds := uint64(t.Unix()+2208988800) & 0xffffffff
	return seconds<<32 | uint64(t.Nanosecond())<<32/1e9
}

// kiss makes a kiss-o'-death of the code (RFC 5905 §7.4).
func kiss(code string) reply {
	return func(_, r []byte) []byte {
		r[0], r[1] = r[0]|0xc0, 0
		copy(r[12:16], code)
		return r
	}
}

func putTimestamp(b []byte, t time.Time) { binary.BigEndian.PutUint64(b, ntp(t)) }
