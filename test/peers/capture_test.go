package peers

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// frame4 is an Ethernet frame with a UDP datagram over IPv4.
func frame4(payload []byte) []byte {
	b := make([]byte, ethernetSize+20+udpSize)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[ethernetSize:]
	ip[0], ip[9] = 0x45, protocolUDP
	copy(ip[12:], []byte{10, 99, 1, 1})
	copy(ip[16:], []byte{10, 99, 1, 2})
	putUDP(ip[20:], len(payload))
	return append(b, payload...)
}

// frame6 is one over IPv6.
func frame6(payload []byte) []byte {
	b := make([]byte, ethernetSize+40+udpSize)
	binary.BigEndian.PutUint16(b[12:], 0x86dd)
	ip := b[ethernetSize:]
	ip[6] = protocolUDP
	ip[8+15], ip[24+15] = 1, 2
	putUDP(ip[40:], len(payload))
	return append(b, payload...)
}

func putUDP(b []byte, payload int) {
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], 123)
	binary.BigEndian.PutUint16(b[4:], uint16(udpSize+payload))
}

// file is a pcap file of frames, one a second from second 100.
func file(frames ...[]byte) []byte {
	b := make([]byte, captureHeaderSize)
	binary.NativeEndian.PutUint32(b, captureMagic)
	for i, frame := range frames {
		b = binary.NativeEndian.AppendUint32(b, uint32(100+i))
		b = binary.NativeEndian.AppendUint32(b, 5)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(frame)))
		b = binary.NativeEndian.AppendUint32(b, uint32(len(frame)))
		b = append(b, frame...)
	}
	return b
}

func TestParseCapture(t *testing.T) {
	ntp := make([]byte, 48)
	ntp[0] = 0x23
	packets, err := parseCapture(file(frame4(ntp), frame6(ntp)))
	if err != nil || len(packets) != 2 {
		t.Fatalf("packets: got %d, %v, want 2", len(packets), err)
	}
	for i, want := range []Packet{
		{time.Unix(100, 5000), netip.MustParseAddrPort("10.99.1.1:40000"), netip.MustParseAddrPort("10.99.1.2:123"), ntp},
		{time.Unix(101, 5000), netip.MustParseAddrPort("[::1]:40000"), netip.MustParseAddrPort("[::2]:123"), ntp},
	} {
		got := packets[i]
		if !got.At.Equal(want.At) || got.Source != want.Source || got.To != want.To || !slices.Equal(got.Payload, want.Payload) {
			t.Errorf("packet %d: got %+v, want %+v", i, got, want)
		}
	}
}

func TestParseCaptureOfPieces(t *testing.T) {
	whole := file(frame4(make([]byte, 48)))
	tests := []struct {
		name string
		file []byte
		want int
		fail bool
	}{
		{"a file not begun yet holds nothing", nil, 0, false},
		{"a header alone holds nothing", whole[:captureHeaderSize], 0, false},
		{"a frame that is being written is left out", whole[:len(whole)-1], 0, false},
		{"the whole file holds it", whole, 1, false},
		{"something else is no capture", make([]byte, 100), 0, true},
		{"a datagram longer than its frame is none", file(frame4(make([]byte, 48))[:80]), 0, false},
		{"a short frame is none", file(make([]byte, 10)), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packets, err := parseCapture(tt.file)
			if len(packets) != tt.want || (err != nil) != tt.fail {
				t.Errorf("parse: got %d packets, %v, want %d, failure %v", len(packets), err, tt.want, tt.fail)
			}
		})
	}
}

func FuzzParseCapture(f *testing.F) {
	f.Add(file(frame4(make([]byte, 48)), frame6(make([]byte, 48))))
	f.Add(file([]byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		packets, err := parseCapture(b)
		if err != nil && packets != nil {
			t.Errorf("packets beside an error: got %d", len(packets))
		}
		for _, p := range packets {
			if len(p.Payload) > len(b) {
				t.Errorf("payload: got %d octets out of %d", len(p.Payload), len(b))
			}
		}
	})
}
