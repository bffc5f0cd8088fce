// Package wire is the codec of NTP packets: header, extension fields, MAC
// trailer, kiss codes and reference ids, for versions 1 to 4. Bytes from the
// network are range-checked here and nowhere else; nothing allocates.
package wire

import (
	"encoding/binary"

	"timeball/internal/ntptime"
)

// HeaderSize is the length of the NTP header in bytes (RFC 5905 §7.3).
const HeaderSize = 48

// Mode is the 3-bit association mode (RFC 5905 Figure 10).
type Mode uint8

// The modes. Version 1 packets carry 0 (RFC 1059); 6 is control (RFC 9327) and 7 private.
const (
	ModeReserved Mode = iota
	ModeActive
	ModePassive
	ModeClient
	ModeServer
	ModeBroadcast
	ModeControl
	ModePrivate
)

var modeNames = [8]string{"reserved", "active", "passive", "client", "server", "broadcast", "control", "private"}

// String names the mode in the words of RFC 5905.
func (m Mode) String() string { return modeNames[m&7] }

// Leap is the 2-bit leap indicator (RFC 5905 Figure 9).
type Leap uint8

// The leap indicator's values. LeapUnknown says that the clock is not synchronized.
const (
	LeapNone Leap = iota
	LeapInsert
	LeapDelete
	LeapUnknown
)

var leapNames = [4]string{"none", "insert", "delete", "unsynchronized"}

// String says what happens in the last minute of the current month.
func (l Leap) String() string { return leapNames[l&3] }

// Strata (RFC 5905 Figure 11): 0 on the wire stands for a kiss code or, like
// MaxStratum inside, for "not synchronized".
const (
	StratumKiss    = 0
	StratumPrimary = 1
	MaxStratum     = 16
)

// Header is the NTP header (RFC 5905 §7.3, Figure 8):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|LI | VN  |Mode |    Stratum     |     Poll      |  Precision   |
//	|                         Root Delay (16.16)                     |
//	|                       Root Dispersion (16.16)                  |
//	|                          Reference ID                          |
//	|                     Reference Timestamp (64)                   |
//	|                      Origin Timestamp (64)                     |
//	|                      Receive Timestamp (64)                    |
//	|                      Transmit Timestamp (64)                   |
type Header struct {
	Leap           Leap
	Version        uint8
	Mode           Mode
	Stratum        uint8
	Poll           ntptime.Log2
	Precision      ntptime.Log2
	RootDelay      ntptime.Short
	RootDispersion ntptime.Short
	ReferenceID    ReferenceID
	ReferenceTime  ntptime.Timestamp
	Origin         ntptime.Timestamp
	Receive        ntptime.Timestamp
	Transmit       ntptime.Timestamp
}

// Offsets of the header's fields in bytes.
const (
	offStratum        = 1
	offPoll           = 2
	offPrecision      = 3
	offRootDelay      = 4
	offRootDispersion = 8
	offReferenceID    = 12
	offReferenceTime  = 16
	offOrigin         = 24
	offReceive        = 32
	offTransmit       = 40
)

// Put writes h into b[0:48]. b must hold at least HeaderSize bytes.
func (h *Header) Put(b []byte) {
	b = b[:HeaderSize]
	b[0] = byte(h.Leap&3)<<6 | (h.Version&7)<<3 | byte(h.Mode&7)
	b[offStratum] = h.Stratum
	b[offPoll] = byte(h.Poll)
	b[offPrecision] = byte(h.Precision)
	binary.BigEndian.PutUint32(b[offRootDelay:], uint32(h.RootDelay))
	binary.BigEndian.PutUint32(b[offRootDispersion:], uint32(h.RootDispersion))
	binary.BigEndian.PutUint32(b[offReferenceID:], uint32(h.ReferenceID))
	binary.BigEndian.PutUint64(b[offReferenceTime:], uint64(h.ReferenceTime))
	binary.BigEndian.PutUint64(b[offOrigin:], uint64(h.Origin))
	binary.BigEndian.PutUint64(b[offReceive:], uint64(h.Receive))
	PutTransmit(b, h.Transmit)
}

// PutTransmit overwrites only the transmit timestamp of an encoded header, so
// that it can be set last (RFC 5905 §7.3). b must hold at least HeaderSize bytes.
func PutTransmit(b []byte, t ntptime.Timestamp) {
	binary.BigEndian.PutUint64(b[offTransmit:HeaderSize], uint64(t))
}

// get reads the header from b[0:48].
func (h *Header) get(b []byte) {
	b = b[:HeaderSize]
	h.Leap = Leap(b[0] >> 6)
	h.Version = b[0] >> 3 & 7
	h.Mode = Mode(b[0] & 7)
	h.Stratum = b[offStratum]
	h.Poll = ntptime.Log2(b[offPoll])
	h.Precision = ntptime.Log2(b[offPrecision])
	h.RootDelay = ntptime.Short(binary.BigEndian.Uint32(b[offRootDelay:]))
	h.RootDispersion = ntptime.Short(binary.BigEndian.Uint32(b[offRootDispersion:]))
	h.ReferenceID = ReferenceID(binary.BigEndian.Uint32(b[offReferenceID:]))
	h.ReferenceTime = ntptime.Timestamp(binary.BigEndian.Uint64(b[offReferenceTime:]))
	h.Origin = ntptime.Timestamp(binary.BigEndian.Uint64(b[offOrigin:]))
	h.Receive = ntptime.Timestamp(binary.BigEndian.Uint64(b[offReceive:]))
	h.Transmit = ntptime.Timestamp(binary.BigEndian.Uint64(b[offTransmit:]))
}

// Append appends the encoded header to dst.
func (h *Header) Append(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	h.Put(dst[n:])
	return dst
}
