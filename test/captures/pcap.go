package captures

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Sizes and numbers of the formats that a capture is made of: pcap 2.4, Ethernet,
// IPv4 (RFC 791), IPv6 (RFC 8200), UDP (RFC 768).
const (
	pcapMagic    = 0xa1b2c3d4 // timestamps in microseconds
	pcapFileHead = 24
	pcapHead     = 16
	linkEthernet = 1
	etherHead    = 14
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	ipv6Head     = 40
	udpHead      = 8
	protocolUDP  = 17
)

// ReadPcap gives the UDP datagrams of a pcap file with microsecond timestamps and link
// type Ethernet. Frames of other protocols are left out; a frame cut short is an error.
func ReadPcap(file []byte) ([]Datagram, error) {
	order, err := pcapOrder(file)
	if err != nil {
		return nil, err
	}
	var datagrams []Datagram
	for rest, n := file[pcapFileHead:], 1; len(rest) > 0; n++ {
		if len(rest) < pcapHead {
			return nil, fmt.Errorf("frame %d: its head is cut short", n)
		}
		length := int(order.Uint32(rest[8:]))
		if length != int(order.Uint32(rest[12:])) || length > len(rest)-pcapHead {
			return nil, fmt.Errorf("frame %d: cut short", n)
		}
		at := time.Unix(int64(order.Uint32(rest)), int64(order.Uint32(rest[4:]))*1000).UTC()
		d, ok, err := readFrame(rest[pcapHead : pcapHead+length])
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", n, err)
		}
		if ok {
			d.Time = at
			datagrams = append(datagrams, d)
		}
		rest = rest[pcapHead+length:]
	}
	return datagrams, nil
}

func pcapOrder(file []byte) (binary.ByteOrder, error) {
	if len(file) < pcapFileHead {
		return nil, errors.New("too short for a pcap file")
	}
	var order binary.ByteOrder
	switch uint32(pcapMagic) {
	case binary.LittleEndian.Uint32(file):
		order = binary.LittleEndian
	case binary.BigEndian.Uint32(file):
		order = binary.BigEndian
	default:
		return nil, errors.New("no pcap file with microsecond timestamps")
	}
	if link := order.Uint32(file[20:]); link != linkEthernet {
		return nil, fmt.Errorf("link type %d is not Ethernet", link)
	}
	return order, nil
}

// readFrame gives the UDP datagram of an Ethernet frame; not ok if it holds none.
func readFrame(frame []byte) (d Datagram, ok bool, err error) {
	if len(frame) < etherHead {
		return d, false, errors.New("shorter than an Ethernet head")
	}
	var source, destination netip.Addr
	var datagram []byte
	switch packet := frame[etherHead:]; binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		source, destination, datagram, ok = readIPv4(packet)
	case etherIPv6:
		source, destination, datagram, ok = readIPv6(packet)
	default:
		return d, false, nil
	}
	if !ok {
		return d, false, nil
	}
	if len(datagram) < udpHead {
		return d, false, errors.New("shorter than a UDP head")
	}
	length := int(binary.BigEndian.Uint16(datagram[4:]))
	if length < udpHead || length > len(datagram) {
		return d, false, errors.New("UDP length out of range")
	}
	d.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(datagram))
	d.Destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(datagram[2:]))
	d.Payload = datagram[udpHead:length]
	return d, true, nil
}

func readIPv4(packet []byte) (source, destination netip.Addr, datagram []byte, ok bool) {
	if len(packet) < 20 || packet[9] != protocolUDP {
		return source, destination, nil, false
	}
	head, total := int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if head < 20 || total < head || total > len(packet) {
		return source, destination, nil, false
	}
	return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), packet[head:total], true
}

func readIPv6(packet []byte) (source, destination netip.Addr, datagram []byte, ok bool) {
	if len(packet) < ipv6Head || packet[6] != protocolUDP {
		return source, destination, nil, false
	}
	return netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40])), packet[ipv6Head:], true
}
