package netio

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layout of control messages, from the kernel's struct cmsghdr: a length of the size
// of a long, level and type; messages start at multiples of a long.
const (
	longSize      = int(unsafe.Sizeof(uintptr(0)))
	controlHeader = longSize + 8
	controlSpace  = 256 // of one datagram: timestamps, packet info, error, with room to spare

	pktinfo4Size = 12
	pktinfo6Size = 20
	extendedSize = 16 // struct sock_extended_err
)

// timestampIndex are the places of the three timestamps in struct scm_timestamping.
const (
	timestampSoftware = 0
	timestampHardware = 2
)

// control is what the control messages of one datagram say. Absent facts are zero.
type control struct {
	dest     netip.Addr // destination in the header, without zone
	spec     netip.Addr // IPv4: the local address it was taken for; differs for groups and broadcasts
	ifindex  int
	software int64 // kernel's timestamp, ns of CLOCK_REALTIME
	hardware int64 // the NIC's timestamp, ns of its own clock
	nic      int   // index of the interface whose NIC took the timestamp
	extended bool  // the fields below are set: from the error queue
	errno    uint32
	origin   uint8
	data     uint32
}

// parse reads control messages, in the byte order and layout of this machine. It
// returns false, with what it has read so far, where they are malformed.
func (c *control) parse(b []byte) bool {
	*c = control{}
	for len(b) >= controlHeader {
		length := nativeLong(b)
		if length < uint64(controlHeader) || length > uint64(len(b)) {
			return false
		}
		level := int(int32(binary.NativeEndian.Uint32(b[longSize:])))
		kind := int(int32(binary.NativeEndian.Uint32(b[longSize+4:])))
		c.take(level, kind, b[controlHeader:length])
		b = b[min(alignLong(int(length)), len(b)):]
	}
	return len(b) == 0
}

func (c *control) take(level, kind int, data []byte) {
	switch {
	case level == unix.SOL_SOCKET && (kind == unix.SO_TIMESTAMPING || kind == unix.SO_TIMESTAMPING_NEW):
		c.software = timestampAt(data, timestampSoftware)
		c.hardware = timestampAt(data, timestampHardware)
	case level == unix.SOL_SOCKET && kind == unix.SCM_TIMESTAMPING_PKTINFO && len(data) >= 4:
		c.nic = int(int32(binary.NativeEndian.Uint32(data)))
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= pktinfo4Size:
		c.ifindex = int(int32(binary.NativeEndian.Uint32(data)))
		c.spec = netip.AddrFrom4([4]byte(data[4:8]))
		c.dest = netip.AddrFrom4([4]byte(data[8:12]))
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= pktinfo6Size:
		c.dest = netip.AddrFrom16([16]byte(data[:16]))
		c.ifindex = int(int32(binary.NativeEndian.Uint32(data[16:])))
	case level == unix.IPPROTO_IP && kind == unix.IP_RECVERR && len(data) >= extendedSize,
		level == unix.IPPROTO_IPV6 && kind == unix.IPV6_RECVERR && len(data) >= extendedSize:
		c.extended = true
		c.errno = binary.NativeEndian.Uint32(data)
		c.origin = data[4]
		c.data = binary.NativeEndian.Uint32(data[12:])
	}
}

// timestampAt reads one of three struct timespec: of 16 bytes each, or of 8 in the old
// form of 32-bit systems. 0 stands for no timestamp.
func timestampAt(data []byte, index int) int64 {
	var seconds, nanos int64
	switch {
	case len(data) >= 48:
		at := data[16*index:]
		seconds = int64(binary.NativeEndian.Uint64(at))
		nanos = int64(binary.NativeEndian.Uint64(at[8:]))
	case len(data) >= 24:
		at := data[8*index:]
		seconds = int64(int32(binary.NativeEndian.Uint32(at)))
		nanos = int64(int32(binary.NativeEndian.Uint32(at[4:])))
	}
	if seconds < 0 || seconds > 1<<33 || nanos < 0 || nanos >= 1_000_000_000 {
		return 0
	}
	return seconds*1_000_000_000 + nanos
}

// isGroup reports whether the datagram went to more than one host. For IPv4 the
// kernel's choice of a local address tells subnet broadcasts from our own addresses.
func (c *control) isGroup() bool {
	return c.dest.IsMulticast() || c.spec.IsValid() && c.spec != c.dest
}

// nicIndex is the interface whose NIC took the hardware timestamp. Of what was sent the
// kernel tells the interface in the packet info.
func (c *control) nicIndex() int {
	if c.nic != 0 {
		return c.nic
	}
	return c.ifindex
}

func nativeLong(b []byte) uint64 {
	if longSize == 8 {
		return binary.NativeEndian.Uint64(b)
	}
	return uint64(binary.NativeEndian.Uint32(b))
}

func alignLong(n int) int { return (n + longSize - 1) &^ (longSize - 1) }

// appendControl appends the header of a message with size bytes of data and returns
// the data to fill in, zeroed. b must have the capacity.
func appendControl(b []byte, level, kind, size int) (all, data []byte) {
	start := len(b)
	all = b[:start+alignLong(controlHeader+size)]
	clear(all[start:])
	if longSize == 8 {
		binary.NativeEndian.PutUint64(all[start:], uint64(controlHeader+size))
	} else {
		binary.NativeEndian.PutUint32(all[start:], uint32(controlHeader+size))
	}
	binary.NativeEndian.PutUint32(all[start+longSize:], uint32(level))
	binary.NativeEndian.PutUint32(all[start+longSize+4:], uint32(kind))
	return all, all[start+controlHeader : start+controlHeader+size]
}

// appendSource appends the message that makes a datagram leave from an address and by
// an interface; nothing where both are left to the routing table.
func appendSource(b []byte, v6 bool, addr netip.Addr, ifindex int) []byte {
	if !addr.IsValid() && ifindex == 0 {
		return b
	}
	if v6 {
		b, data := appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6Size)
		if addr.IsValid() {
			a := addr.As16()
			copy(data, a[:])
		}
		binary.NativeEndian.PutUint32(data[16:], uint32(ifindex))
		return b
	}
	b, data := appendControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4Size)
	binary.NativeEndian.PutUint32(data, uint32(ifindex))
	if addr.IsValid() {
		a := addr.As4()
		copy(data[4:], a[:])
	}
	return b
}

// appendTimestamping appends the message that asks for transmit timestamps of this datagram.
func appendTimestamping(b []byte, flags uint32) []byte {
	b, data := appendControl(b, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 4)
	binary.NativeEndian.PutUint32(data, flags)
	return b
}

// appendHops appends the message that sets the TTL or hop limit of this datagram.
func appendHops(b []byte, v6 bool, hops int) []byte {
	level, kind := unix.IPPROTO_IP, unix.IP_TTL
	if v6 {
		level, kind = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT
	}
	b, data := appendControl(b, level, kind, 4)
	binary.NativeEndian.PutUint32(data, uint32(hops))
	return b
}
