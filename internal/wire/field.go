package wire

import "encoding/binary"

// FieldType is the 16-bit type of an extension field (RFC 7822 §3).
type FieldType uint16

// The field types of NTS (RFC 8915 §7.5).
const (
	FieldUniqueIdentifier  FieldType = 0x0104
	FieldCookie            FieldType = 0x0204
	FieldCookiePlaceholder FieldType = 0x0304
	FieldAuthenticator     FieldType = 0x0404
)

// Sizes of extension fields in bytes, their 4-byte heads included.
const (
	fieldHead = 4
	// MinField is the least length of a field that a MAC or another field follows (RFC 7822 §3).
	MinField = 16
	// MinLastField is the least length of the last field where no MAC follows (RFC 7822 §3).
	MinLastField = 28
	// MaxField is the greatest length of a field: the largest multiple of 4 in 16 bits.
	MaxField = 0xfffc
)

// Field is one extension field. Body points into the packet and includes the padding.
type Field struct {
	Type FieldType
	Body []byte
}

// FieldCursor walks well-formed extension fields, Packet.Fields, in their order:
//
//	for c := packet.Cursor(); c.Next(); {
//		use(c.Field)
//	}
type FieldCursor struct {
	Field  Field // where the cursor stands; meaningful after Next has returned true
	Start  int   // byte of the packet at which the field begins
	fields []byte
	next   int
}

// Cursor returns a cursor before the first field of p.
func (p *Packet) Cursor() FieldCursor { return WalkFields(p.Fields, HeaderSize) }

// WalkFields returns a cursor over fields that begin at byte base of their packet:
// also over those that stood encrypted in an authenticator (RFC 8915 §5.6). What is
// malformed ends the walk, see Whole.
func WalkFields(fields []byte, base int) FieldCursor {
	return FieldCursor{fields: fields, Start: base}
}

// Next goes to the next field and reports whether there is one.
func (c *FieldCursor) Next() bool {
	rest := c.fields[c.next:]
	if len(rest) < fieldHead {
		return false
	}
	length := int(binary.BigEndian.Uint16(rest[2:]))
	if length < fieldHead || length%4 != 0 || length > len(rest) {
		return false
	}
	if c.next > 0 {
		c.Start += fieldHead + len(c.Field.Body)
	}
	c.Field = Field{Type: FieldType(binary.BigEndian.Uint16(rest)), Body: rest[fieldHead:length]}
	c.next += length
	return true
}

// Whole reports, after Next has returned false, whether the walk came to the very
// end: if not, what follows is malformed.
func (c *FieldCursor) Whole() bool { return c.next == len(c.fields) }

// AppendField appends a field with that body, zero-padded to a multiple of four and
// to at least minimum bytes in all (MinField, or MinLastField for the last one
// where no MAC follows). The body must fit a field: at most MaxField−4 bytes.
func AppendField(dst []byte, t FieldType, body []byte, minimum int) []byte {
	dst, start := BeginField(dst, t)
	return EndField(append(dst, body...), start, minimum)
}

// BeginField appends the head of a field whose body the caller appends next, and
// returns where the field starts, for EndField.
func BeginField(dst []byte, t FieldType) (b []byte, start int) {
	start = len(dst)
	return append(dst, byte(t>>8), byte(t), 0, 0), start
}

// EndField pads the field that starts at start to a multiple of four and to at
// least minimum bytes, and writes its length.
func EndField(dst []byte, start, minimum int) []byte {
	for len(dst)-start < minimum || (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	length := len(dst) - start
	if length > MaxField {
		panic("wire: extension field longer than 65532 bytes") // our own: what we send is bounded
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(length))
	return dst
}
