package xdp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// datagram is a request where it stands in an Ethernet frame, as the program lets through to
// a worker: IPv4 without options or IPv6 without extension headers, up to two VLAN tags.
type datagram struct {
	from, to netip.AddrPort
	network  int // where the IP header begins
	udp      int // where the UDP header begins
	payload  []byte
}

const (
	ethernetSize = 14
	vlanSize     = 4
	ipv4Size     = 20
	ipv6Size     = 40
	udpSize      = 8

	protocolUDP = 17
	hopLimit    = 64
)

// parse finds a datagram in a frame, and reports whether there is one of the kind. It looks
// at no checksum: the program has.
func (d *datagram) parse(frame []byte) bool {
	at := ethernetSize - 2
	for range 2 {
		if len(frame) < at+2+vlanSize {
			return false
		}
		if kind := binary.BigEndian.Uint16(frame[at:]); kind != 0x8100 && kind != 0x88a8 {
			break
		}
		at += vlanSize
	}
	kind := binary.BigEndian.Uint16(frame[at:])
	d.network = at + 2
	size := 0
	var from, to netip.Addr
	switch ip := frame[d.network:]; {
	case kind == 0x0800 && len(ip) >= ipv4Size+udpSize && ip[0] == 0x45 && ip[9] == protocolUDP && binary.BigEndian.Uint16(ip[6:])&0xbfff == 0:
		d.udp = d.network + ipv4Size
		size = int(binary.BigEndian.Uint16(ip[2:])) - ipv4Size
		from, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case kind == 0x86dd && len(ip) >= ipv6Size+udpSize && ip[0]>>4 == 6 && ip[6] == protocolUDP:
		d.udp = d.network + ipv6Size
		size = int(binary.BigEndian.Uint16(ip[4:]))
		from, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	default:
		return false
	}
	udp := frame[d.udp:]
	if size < udpSize || size > len(udp) || int(binary.BigEndian.Uint16(udp[4:])) != size {
		return false
	}
	d.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp))
	d.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:]))
	d.payload = udp[udpSize:size]
	return true
}

// turn puts the headers of a reply of n bytes, which stand behind them in reply already,
// before it: those of the request in frame, the other way round. It returns the reply's frame.
func (d *datagram) turn(reply, frame []byte, n int) []byte {
	reply = reply[:d.udp+udpSize+n]
	copy(reply, frame[:d.udp+udpSize])
	copy(reply[0:6], frame[6:12])
	copy(reply[6:12], frame[0:6])
	ip, udp := reply[d.network:d.udp], reply[d.udp:]
	var addresses []byte
	if len(ip) == ipv4Size {
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Size+len(udp)))
		ip[8] = hopLimit
		copy(ip[12:16], frame[d.network+16:])
		copy(ip[16:20], frame[d.network+12:])
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^folded(added(0, ip)))
		addresses = ip[12:20]
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		ip[7] = hopLimit
		copy(ip[8:24], frame[d.network+24:])
		copy(ip[24:40], frame[d.network+8:])
		addresses = ip[8:40]
	}
	copy(udp[0:2], frame[d.udp+2:d.udp+4])
	copy(udp[2:4], frame[d.udp:d.udp+2])
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[6], udp[7] = 0, 0
	check := ^folded(added(added(uint64(len(udp))+protocolUDP, addresses), udp))
	if check == 0 { // which would mean that there is none (RFC 768)
		check = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return reply
}

// added adds b to a sum in ones' complement (RFC 1071), eight bytes at a time.
func added(sum uint64, b []byte) uint64 {
	carry := uint64(0)
	for ; len(b) >= 8; b = b[8:] {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
	}
	var rest [8]byte
	copy(rest[:], b)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(rest[:]), carry)
	return sum + carry // which cannot overflow: a sum with a carry is not all ones
}

// folded is the sum in 16 bits.
func folded(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}
