package wire

// Defect says why bytes are not a packet that can be processed. Zero is none.
type Defect uint8

// The defects, in the order in which Decode looks for them.
const (
	DefectNone    Defect = iota
	DefectLength         // under 48 bytes, or not a multiple of 4 (RFC 5905 §7.3, §9.2)
	DefectVersion        // version 0, or above 4
	DefectField          // an extension field's length is malformed: the whole packet is dropped (RFC 7822 §3)
	DefectTrailer        // what follows header and fields is no MAC
)

var defectNames = [...]string{"none", "length", "version", "field", "trailer"}

// String returns the word used in metrics and reports.
func (d Defect) String() string { return defectNames[d] }

// Packet is a decoded packet; its slices point into the bytes it was decoded from.
type Packet struct {
	Header
	Fields []byte // extension fields, well formed, maybe empty (version 4 only)
	KeyID  uint32 // key id of the trailer; meaningful when HasMAC
	Digest []byte // digest of the trailer; empty for a crypto-NAK
	HasMAC bool   // a trailer was there: a MAC, or a crypto-NAK when Digest is empty
	Signed []byte // the bytes that the MAC covers: header and fields
}

// CryptoNAK reports whether the trailer is a lone key id: the server could not
// verify our MAC (RFC 5905 §9.2). It is a failed check, never a success.
func (p *Packet) CryptoNAK() bool { return p.HasMAC && len(p.Digest) == 0 }
