// Package chrony answers chronyc and the tools that speak chrony's control protocol, so
// that what watched chronyd watches timeball: the read-only requests of version 6. What
// would change anything is refused as unauthorised. The layouts are those of chrony 4.3 to
// 4.6.1, found by running both sides; chronyc(1) says what the fields mean.
package chrony

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Sizes in bytes.
const (
	requestHead = 20
	replyHead   = 28
	addressSize = 20
	// MaxPacket bounds requests and replies; the longest of chronyc's has 520.
	MaxPacket = 1024
)

const (
	version     = 6 // of the protocol
	oldVersion  = 5 // the oldest that understands the answer that its version is wrong
	kindRequest = 1
	kindReply   = 2
)

// command is what is asked.
type command uint16

// The commands that are answered.
const (
	cmdSourceCount  command = 14
	cmdSourceData   command = 15
	cmdAccess       command = 25
	cmdMonitoring   command = 26 // who may ask here
	cmdTracking     command = 33
	cmdSourceStats  command = 34
	cmdRTC          command = 35
	cmdManualList   command = 41
	cmdActivity     command = 44
	cmdSmoothing    command = 51
	cmdServerStats  command = 54
	cmdNTPData      command = 57
	cmdSourceName   command = 65
	cmdAuthData     command = 67
	cmdClients      command = 68
	cmdSelectData   command = 69
	cmdNull         command = 0
	commands                = 75 // how many chrony 4.6 knows; the rest of them change something
	cmdLogon        command = 10 // of long ago, and no command any more
	cmdSubnets      command = 38
	cmdClientsFirst command = 40
)

// replyType says how a reply is laid out.
type replyType uint16

// The replies.
const (
	replyNull         replyType = 1
	replySourceCount  replyType = 2
	replySourceData   replyType = 3
	replyTracking     replyType = 5
	replySourceStats  replyType = 6
	replyActivity     replyType = 12
	replyNTPData      replyType = 16
	replyManualList   replyType = 18
	replySourceName   replyType = 19
	replyAuthData     replyType = 20
	replyClients      replyType = 21
	replyServerStats2 replyType = 22
	replySelectData   replyType = 23
	replyServerStats3 replyType = 24
	replyServerStats4 replyType = 25
	replyNTPData2     replyType = 26
)

// status says how a request went.
type status uint16

// The statuses.
const (
	statusSuccess      status = 0
	statusUnauthorised status = 2
	statusInvalid      status = 3
	statusNoSource     status = 4
	statusInactive     status = 6 // "Facility not enabled"
	statusAllowed      status = 8
	statusDenied       status = 9
	statusNoRTC        status = 13
	statusBadVersion   status = 18
	statusBadLength    status = 19
)

// packet appends the parts of a reply, in network order.
type packet struct{ b []byte }

func (p *packet) u8(v uint8)   { p.b = append(p.b, v) }
func (p *packet) u16(v uint16) { p.b = binary.BigEndian.AppendUint16(p.b, v) }
func (p *packet) u32(v uint32) { p.b = binary.BigEndian.AppendUint32(p.b, v) }
func (p *packet) u64(v uint64) { p.b = binary.BigEndian.AppendUint64(p.b, v) }

func (p *packet) zeros(n int) { p.b = append(p.b, make([]byte, n)...) }

// address appends an IP address: 16 bytes, its family, two unused; none is all zero.
func (p *packet) address(a netip.Addr) {
	a = a.Unmap().WithZone("")
	octets, family := a.AsSlice(), uint16(0)
	switch {
	case a.Is4():
		family = familyIPv4
	case a.Is6():
		family = familyIPv6
	}
	p.b = append(p.b, octets...)
	p.zeros(16 - len(octets))
	p.u16(family)
	p.u16(0)
}

// The families of addresses. A source whose name has none is called by a number.
const (
	familyIPv4   = 1
	familyIPv6   = 2
	familyNumber = 3
)

// unresolved appends the number of a source without an address, in its place.
func (p *packet) unresolved(id model.SourceID) {
	p.u32(uint32(id))
	p.zeros(12)
	p.u16(familyNumber)
	p.u16(0)
}

// reference appends how a reference clock is called: its id in the place of an address.
func (p *packet) reference(id uint32) {
	p.u32(id)
	p.zeros(12)
	p.u16(familyIPv4)
	p.u16(0)
}

// readAddress reads what address writes; false: it is none.
func readAddress(b []byte) (netip.Addr, bool) {
	switch binary.BigEndian.Uint16(b[16:]) {
	case familyIPv4:
		return netip.AddrFrom4([4]byte(b[:4])), true
	case familyIPv6:
		return netip.AddrFrom16([16]byte(b[:16])), true
	}
	return netip.Addr{}, false
}

// wall appends a time: seconds since 1970 in two halves, and nanoseconds.
func (p *packet) wall(w ntptime.Wall) {
	seconds, nanos := int64(w)/1e9, int64(w)%1e9
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	p.u32(uint32(uint64(seconds) >> 32))
	p.u32(uint32(seconds))
	p.u32(uint32(nanos))
}

// The bounds of chrony's floating-point numbers: 7 bits of exponent and 25 of coefficient,
// both two's complement; the value is coefficient × 2^(exponent − 25).
const (
	coefficientBits = 25
	highestExponent = 1<<6 - 1
	lowestExponent  = -(1 << 6)
	coefficientMask = 1<<coefficientBits - 1
)

// number appends a floating-point number; what is none is 0.
func (p *packet) number(v float64) { p.u32(encodeNumber(v)) }

func encodeNumber(v float64) uint32 {
	if v == 0 || math.IsNaN(v) {
		return 0
	}
	fraction, exponent := math.Frexp(v) // 0.5 ≤ |fraction| < 1
	exponent++                          // the coefficient has 24 bits and a sign
	coefficient := int64(math.Round(fraction * (1 << (coefficientBits - 1))))
	if coefficient >= 1<<(coefficientBits-1) { // rounded up to the next power of two
		coefficient /= 2
		exponent++
	}
	switch {
	case math.IsInf(v, 0) || exponent > highestExponent:
		exponent, coefficient = highestExponent, 1<<(coefficientBits-1)-1
		if v < 0 {
			coefficient = -(1 << (coefficientBits - 1))
		}
	case exponent < lowestExponent:
		coefficient >>= min(lowestExponent-exponent, 63)
		exponent = lowestExponent
		if coefficient == 0 || coefficient == -1 {
			return 0
		}
	}
	return uint32(exponent)<<coefficientBits | uint32(coefficient)&coefficientMask
}

func (p *packet) seconds(d time.Duration) { p.number(d.Seconds()) }

// ago appends an age in whole seconds; never is all ones.
func (p *packet) ago(d time.Duration, happened bool) {
	if !happened {
		p.u32(math.MaxUint32)
		return
	}
	p.u32(uint32(min(max(d, 0), math.MaxUint32*time.Second-time.Second) / time.Second))
}
