package wire

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// ReferenceID is the 32-bit reference identifier (RFC 5905 §7.3): four ASCII
// letters at stratum 1 and in a kiss-o'-death, the IPv4 address of the system
// peer above that, or the first four bytes of the MD5 of its IPv6 address.
type ReferenceID uint32

// ReferenceName makes a reference id of up to four ASCII letters, padded with zeros.
func ReferenceName(name string) ReferenceID {
	var b [4]byte
	copy(b[:], name)
	return ReferenceID(binary.BigEndian.Uint32(b[:]))
}

// ReferenceAddress makes the reference id of a server's address (RFC 5905 §7.3).
// An IPv4-mapped IPv6 address counts as IPv4.
func ReferenceAddress(a netip.Addr) ReferenceID {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return ReferenceID(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	digest := md5.Sum(b[:])
	return ReferenceID(binary.BigEndian.Uint32(digest[:4]))
}

// Text returns the letters of a reference id of stratum 0 or 1 without the zero
// padding; bytes that do not print become '?'.
func (r ReferenceID) Text() string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(r))
	n := 4
	for n > 0 && b[n-1] == 0 {
		n--
	}
	for i := range b[:n] {
		if b[i] < ' ' || b[i] > '~' {
			b[i] = '?'
		}
	}
	return string(b[:n])
}

// Format prints the reference id as it is to be read at a stratum: letters at 0
// and 1, the dotted quad above.
func (r ReferenceID) Format(stratum uint8) string {
	if stratum <= StratumPrimary {
		return r.Text()
	}
	return fmt.Sprintf("%d.%d.%d.%d", byte(r>>24), byte(r>>16), byte(r>>8), byte(r))
}

// Kiss codes (RFC 5905 §7.4, RFC 8915 §5.7) as reference ids of stratum 0.
const (
	KissDENY ReferenceID = 'D'<<24 | 'E'<<16 | 'N'<<8 | 'Y'
	KissRSTR ReferenceID = 'R'<<24 | 'S'<<16 | 'T'<<8 | 'R'
	KissRATE ReferenceID = 'R'<<24 | 'A'<<16 | 'T'<<8 | 'E'
	KissNTSN ReferenceID = 'N'<<24 | 'T'<<16 | 'S'<<8 | 'N'
	KissINIT ReferenceID = 'I'<<24 | 'N'<<16 | 'I'<<8 | 'T'
	KissSTEP ReferenceID = 'S'<<24 | 'T'<<16 | 'E'<<8 | 'P'
)
