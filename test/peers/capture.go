package peers

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Packet is one UDP datagram seen on a host's eth0.
type Packet struct {
	At      time.Time
	Source  netip.AddrPort
	To      netip.AddrPort
	Payload []byte
}

// Capture sees every datagram to or from port 123 of a host, by tcpdump.
type Capture struct {
	*Process
	file string
}

// Listen starts to capture on the host, and returns once tcpdump is ready.
func Listen(t testing.TB, h *Host) *Capture {
	t.Helper()
	tcpdump := Unpack(t, "tcpdump", "usr/bin/tcpdump")
	c := &Capture{file: filepath.Join(h.Dir, fmt.Sprintf("capture%d.pcap", h.processes))}
	c.Process = h.Start("tcpdump", tcpdump.Env(), tcpdump.Path, "-i", "eth0", "-n", "-U", "--immediate-mode",
		"-Z", "root", "-w", c.file, "udp port 123")
	c.Says(10*time.Second, "listening on")
	return c
}

// Packets are those captured so far.
func (c *Capture) Packets() []Packet {
	c.t.Helper()
	text, err := os.ReadFile(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	packets, err := parseCapture(text)
	if err != nil {
		c.t.Fatalf("capture: %v", err)
	}
	return packets
}

// The parts of a pcap file of Ethernet frames with stamps in microseconds, written by a
// machine of this one's byte order.
const (
	captureMagic      = 0xa1b2c3d4
	captureHeaderSize = 24
	frameHeaderSize   = 16
	ethernetSize      = 14
	udpSize           = 8
	protocolUDP       = 17
)

// parseCapture takes the datagrams out of a pcap file. A last frame that is not whole
// is being written just now, and left out.
func parseCapture(b []byte) ([]Packet, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < captureHeaderSize || binary.NativeEndian.Uint32(b) != captureMagic {
		return nil, fmt.Errorf("%d octets that are no pcap file of this machine", len(b))
	}
	var packets []Packet
	for b = b[captureHeaderSize:]; len(b) >= frameHeaderSize; {
		seconds, micros := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		size := int(binary.NativeEndian.Uint32(b[8:]))
		if len(b)-frameHeaderSize < size {
			break
		}
		frame := b[frameHeaderSize : frameHeaderSize+size]
		if p, ok := parseFrame(frame); ok {
			p.At = time.Unix(int64(seconds), int64(micros)*1000)
			packets = append(packets, p)
		}
		b = b[frameHeaderSize+size:]
	}
	return packets, nil
}

// parseFrame takes the datagram out of an Ethernet frame, where there is a whole one.
func parseFrame(b []byte) (Packet, bool) {
	if len(b) < ethernetSize {
		return Packet{}, false
	}
	kind, b := binary.BigEndian.Uint16(b[12:]), b[ethernetSize:]
	switch {
	case kind == 0x0800 && len(b) >= 20 && b[9] == protocolUDP:
		header := int(b[0]&15) * 4
		if len(b) < header {
			return Packet{}, false
		}
		return parseUDP(netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[header:])
	case kind == 0x86dd && len(b) >= 40 && b[6] == protocolUDP:
		return parseUDP(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:])
	}
	return Packet{}, false
}

func parseUDP(source, to netip.Addr, b []byte) (Packet, bool) {
	if len(b) < udpSize {
		return Packet{}, false
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size < udpSize || size > len(b) {
		return Packet{}, false
	}
	return Packet{
		Source:  netip.AddrPortFrom(source, binary.BigEndian.Uint16(b)),
		To:      netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:])),
		Payload: b[udpSize:size],
	}, true
}
