package peers

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// frame4 is an Ethernet frame with a UDP datagram over IPv4.
func frame4(payload []byte) []byte {
	b := make([]byte, ethernetSize+ipv4Size+udpSize)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[ethernetSize:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, protocolUDP
	copy(ip[12:], []byte{10, 99, 1, 1})
	copy(ip[16:], []byte{10, 99, 1, 2})
	putUDP(ip[20:], len(payload))
	return append(b, payload...)
}

// frame6 is one over IPv6.
func frame6(payload []byte) []byte {
	b := make([]byte, ethernetSize+ipv6Size+udpSize)
	binary.BigEndian.PutUint16(b[12:], 0x86dd)
	ip := b[ethernetSize:]
	ip[6], ip[7] = protocolUDP, 255
	ip[8+15], ip[24+15] = 1, 2
	putUDP(ip[40:], len(payload))
	return append(b, payload...)
}

func putUDP(b []byte, payload int) {
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], 123)
	binary.BigEndian.PutUint16(b[4:], uint16(udpSize+payload))
}

func TestParseFrame(t *testing.T) {
	t.Parallel()
	ntp := make([]byte, 48)
	ntp[0] = 0x23
	for _, want := range []struct {
		frame []byte
		Datagram
	}{
		{frame4(ntp), Datagram{From: netip.MustParseAddrPort("10.99.1.1:40000"), To: netip.MustParseAddrPort("10.99.1.2:123"), TTL: 64, Whole: true}},
		{frame6(ntp), Datagram{From: netip.MustParseAddrPort("[::1]:40000"), To: netip.MustParseAddrPort("[::2]:123"), TTL: 255, Whole: true}},
	} {
		got, ok := parseFrame(want.frame)
		if !ok || got.From != want.From || got.To != want.To || got.TTL != want.TTL || got.Whole != want.Whole || !slices.Equal(got.Payload, ntp) {
			t.Errorf("got %+v, %v, want %+v", got, ok, want.Datagram)
		}
	}
}

func TestParseFrameOfSomethingElse(t *testing.T) {
	t.Parallel()
	with := func(at int, octet byte) []byte {
		b := frame4(make([]byte, 48))
		b[at] = octet
		return b
	}
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"a whole datagram is taken", frame4(make([]byte, 48)), true},
		{"one that may be cut is taken", with(ethernetSize+6, 0), true},
		{"bytes behind the datagram are no part of it", append(frame4(make([]byte, 48)), 1, 2), true},
		{"nothing", nil, false},
		{"a short frame", make([]byte, 10), false},
		{"a datagram longer than its frame", frame4(make([]byte, 48))[:80], false},
		{"a later fragment", with(ethernetSize+7, 1), false},
		{"a header longer than the frame", with(ethernetSize, 0x4f)[:ethernetSize+30], false},
		{"another protocol", with(ethernetSize+9, 6), false},
		{"a size under that of the header", with(ethernetSize+ipv4Size+5, 7), false},
	}
	for _, tt := range tests {
		if d, ok := parseFrame(tt.frame); ok != tt.want || ok && len(d.Payload) != 48 {
			t.Errorf("%s: got %v, %d bytes, want %v", tt.name, ok, len(d.Payload), tt.want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(frame4(make([]byte, 48)))
	f.Add(frame6(make([]byte, 48)))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := parseFrame(b); ok != d.From.IsValid() || len(d.Payload) > len(b) {
			t.Errorf("got %+v, %v out of %d bytes", d, ok, len(b))
		}
	})
}
