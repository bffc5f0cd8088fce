// Package ntske is the key exchange of Network Time Security (RFC 8915 §4), server and
// client: TLS 1.3 on TCP port 4460, a short list of records each way, and keys that both
// ends export from the session. What it yields, package nts works with.
package ntske

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"timeball/internal/nts"
	"timeball/internal/siv"
)

// Port is the TCP port of the key exchange (RFC 8915 §7.4).
const Port = 4460

// protocolName is what both ends agree on by ALPN (RFC 8915 §4).
const protocolName = "ntske/1"

// The record types (RFC 8915 §4.1, §7.6). The last one is from the private range: an end
// that sends it exports the keys of AES-128-GCM-SIV with that algorithm's number, as
// RFC 8915 has it, where earlier versions of chrony used AES-SIV's.
const (
	recordEnd          = 0
	recordNextProtocol = 1
	recordError        = 2
	recordWarning      = 3
	recordAEAD         = 4
	recordCookie       = 5
	recordServer       = 6
	recordPort         = 7
	recordGCMExporter  = 1024
)

const (
	criticalBit   = 0x8000
	recordHead    = 4
	protocolNTPv4 = 0 // RFC 8915 §7.7
)

// The error codes (RFC 8915 §4.1.3).
const (
	errorUnknownCritical = 0
	errorBadRequest      = 1
	errorInternal        = 2
)

// maxMessage bounds what is read of the other end, in bytes.
const maxMessage = 16 << 10

// record is one record; body points into the message.
type record struct {
	critical bool
	kind     uint16
	body     []byte
}

// nextRecord reads the first record of b. It reports false while b does not hold all of it.
func nextRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < recordHead {
		return r, b, false
	}
	kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < recordHead+n {
		return r, b, false
	}
	return record{kind&criticalBit != 0, kind &^ criticalBit, b[recordHead : recordHead+n]}, b[recordHead+n:], true
}

func appendRecord(dst []byte, critical bool, kind uint16, body []byte) []byte {
	if critical {
		kind |= criticalBit
	}
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(body)))
	return append(dst, body...)
}

func appendNumbers(dst []byte, critical bool, kind uint16, numbers ...uint16) []byte {
	var body []byte
	for _, n := range numbers {
		body = binary.BigEndian.AppendUint16(body, n)
	}
	return appendRecord(dst, critical, kind, body)
}

// numbers reads a body of 16-bit numbers.
func numbers(body []byte) ([]uint16, bool) {
	if len(body)%2 != 0 {
		return nil, false
	}
	var list []uint16
	for ; len(body) > 0; body = body[2:] {
		list = append(list, binary.BigEndian.Uint16(body))
	}
	return list, true
}

// exporter exports keying material of a TLS session (RFC 8446 §7.5).
type exporter interface {
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
}

// export gives both ends their keys (RFC 8915 §5.1): the context is the protocol, the
// algorithm and the direction.
func export(session exporter, algorithm siv.Algorithm) (nts.Secrets, error) {
	s := nts.Secrets{Algorithm: algorithm}
	n := algorithm.KeySize()
	for direction, key := range [][]byte{s.C2S[:n], s.S2C[:n]} {
		context := []byte{0, protocolNTPv4, byte(algorithm >> 8), byte(algorithm), byte(direction)}
		material, err := session.ExportKeyingMaterial("EXPORTER-network-time-security", context, n)
		if err != nil {
			return nts.Secrets{}, fmt.Errorf("export the keys: %w", err)
		}
		copy(key, material)
	}
	return s, nil
}

// receiver is what the records of a message make.
type receiver interface {
	take(record) error       // of any type but End of Message
	finish(end record) error // judges the whole
}

// errTooLong says that no End of Message has come within maxMessage bytes.
var errTooLong = fmt.Errorf("no End of Message within %d bytes", maxMessage)

// receive reads a message up to its End of Message, and gives r each record once, when all
// of it has come. Bodies stay valid. It returns how many bytes came, and what r finds
// wrong, or why nothing more could be read.
func receive(conn io.Reader, r receiver) (size int, wrong, err error) {
	message := make([]byte, 0, 256) // of the records before, and what has come of the next one
	for rest := message; ; {
		if len(message) == cap(message) {
			message = slices.Grow(message, len(message))
		}
		unread := len(rest)
		n, err := conn.Read(message[len(message):min(cap(message), maxMessage)])
		message = message[:len(message)+n]
		rest = message[len(message)-n-unread:]
		for {
			record, after, ok := nextRecord(rest)
			if !ok {
				break
			}
			rest = after
			if record.kind == recordEnd {
				return len(message), r.finish(record), nil
			}
			if wrong := r.take(record); wrong != nil {
				return len(message), wrong, nil
			}
		}
		switch {
		case len(message) >= maxMessage:
			return len(message), nil, errTooLong
		case err != nil:
			return len(message), nil, err
		}
	}
}
