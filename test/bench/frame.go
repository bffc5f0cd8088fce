package bench

import (
	"encoding/binary"
	"net/netip"
)

// protocolUDP is UDP's number (RFC 768).
const protocolUDP = 17

// frameOf puts a datagram on an Ethernet link, from the client's end of a Cable to the
// server's, with so many VLAN tags.
func frameOf(from, to netip.AddrPort, tags int, payload []byte) []byte {
	b := []byte{2, 0x98, 0, 0, 0, 1, 2, 0x98, 0, 0, 0, 2}
	for i := range tags {
		b = append(b, 0x81, 0, 0, byte(i+5))
	}
	size := uint16(8 + len(payload))
	source, target := from.Addr().AsSlice(), to.Addr().AsSlice()
	if to.Addr().Is4() {
		ip := make([]byte, 12, 20)
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, protocolUDP
		binary.BigEndian.PutUint16(ip[2:], 20+size)
		ip = append(append(ip, source...), target...)
		binary.BigEndian.PutUint16(ip[10:], ^internetSum(ip, 0))
		b = append(append(b, 8, 0), ip...)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, byte(size>>8), byte(size), protocolUDP, 64)
		b = append(append(b, source...), target...)
	}
	udp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
	udp = append(binary.BigEndian.AppendUint16(udp, size), 0, 0)
	udp = append(udp, payload...)
	pseudo := internetSum(append(append([]byte{}, source...), target...), protocolUDP+uint32(size))
	if check := ^internetSum(udp, uint32(pseudo)); check != 0 {
		binary.BigEndian.PutUint16(udp[6:], check)
	} else { // which would say that there is none (RFC 768)
		binary.BigEndian.PutUint16(udp[6:], 0xffff)
	}
	return append(b, udp...)
}

// internetSum is the checksum of RFC 1071, not inverted, begun with a sum.
func internetSum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
