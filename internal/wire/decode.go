package wire

import "encoding/binary"

// Sizes of what can follow the header, in bytes.
const (
	keyIDSize    = 4
	minLegacyMAC = 12 // version 3 with DES: key id and 8 bytes (RFC 1305 Appendix C.1)
	maxLegacyMAC = 68 // key id and a SHA-512 digest

	// NAKSize is the trailer of a crypto-NAK: a key id and no digest.
	NAKSize = keyIDSize
	// MaxTrailer is the longest trailer that Decode takes for a MAC.
	MaxTrailer = maxLegacyMAC
)

// isMACv4 reports whether what is left of a version 4 packet is a trailer and no
// field: 4 bytes are a crypto-NAK, 20 a 16-byte digest, 24 a 20-byte one, be it
// whole or truncated (RFC 7822 §3, RFC 5905 §7.3).
func isMACv4(rest int) bool { return rest == NAKSize || rest == 20 || rest == 24 }

// Decode reads b as a packet of version 1 to 4. The packet's slices point into b.
// It says what is wrong with b, if anything; p is then partly filled and of no use,
// except that the header stands in it unless the defect is DefectLength. Nothing
// about the meaning of a field, timestamp or MAC is judged here.
func (p *Packet) Decode(b []byte) Defect {
	*p = Packet{}
	if len(b) < HeaderSize || len(b)%4 != 0 {
		return DefectLength
	}
	p.Header.get(b)
	switch {
	case p.Version == 0 || p.Version > 4:
		return DefectVersion
	case len(b) == HeaderSize:
		p.Signed = b
		return DefectNone
	case p.Version < 4:
		return p.decodeLegacy(b)
	}
	return p.decodeExtended(b)
}

// decodeLegacy takes all that follows the header of a packet of version 1 to 3 for
// a MAC: those versions have no extension fields (RFC 1305 §3.2.1, Appendix C).
func (p *Packet) decodeLegacy(b []byte) Defect {
	rest := len(b) - HeaderSize
	if rest != NAKSize && (rest < minLegacyMAC || rest > maxLegacyMAC) {
		return DefectTrailer
	}
	p.splitTrailer(b, HeaderSize)
	return DefectNone
}

// decodeExtended walks the extension fields of a version 4 packet up to its MAC or
// its end (RFC 7822 §3).
func (p *Packet) decodeExtended(b []byte) Defect {
	at, last := HeaderSize, 0
	for at < len(b) {
		rest := len(b) - at
		if isMACv4(rest) {
			p.Fields = b[HeaderSize:at]
			p.splitTrailer(b, at)
			return DefectNone
		}
		if rest < MinField {
			return DefectTrailer
		}
		last = int(binary.BigEndian.Uint16(b[at+2:]))
		if last < MinField || last%4 != 0 || last > rest {
			return DefectField
		}
		at += last
	}
	if last < MinLastField { // else it could not be told from a MAC
		return DefectField
	}
	p.Fields, p.Signed = b[HeaderSize:], b
	return DefectNone
}

// splitTrailer takes b[at:], at least a key id long, for the trailer.
func (p *Packet) splitTrailer(b []byte, at int) {
	p.HasMAC = true
	p.Signed = b[:at]
	p.KeyID = binary.BigEndian.Uint32(b[at:])
	p.Digest = b[at+keyIDSize:]
}

// Peek reads version and mode from the first byte of a datagram, whatever it is.
// An empty one has version and mode 0.
func Peek(b []byte) (version uint8, mode Mode) {
	if len(b) == 0 {
		return 0, ModeReserved
	}
	return b[0] >> 3 & 7, Mode(b[0] & 7)
}
