package ntske

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"timeball/internal/nts"
	"timeball/internal/siv"
)

// appendRequest makes what a client sends: NTPv4 alone, since NTPsec's server closes at
// a second protocol, and the algorithms in their order.
func appendRequest(dst []byte, algorithms []siv.Algorithm) []byte {
	dst = appendNumbers(dst, true, recordNextProtocol, protocolNTPv4)
	var list []uint16
	gcm := false
	for _, a := range algorithms {
		list = append(list, uint16(a))
		gcm = gcm || a == siv.AES128GCMSIV
	}
	dst = appendNumbers(dst, true, recordAEAD, list...)
	if gcm {
		dst = appendRecord(dst, false, recordGCMExporter, nil)
	}
	return appendRecord(dst, true, recordEnd, nil)
}

// reply is what a server answered.
type reply struct {
	algorithm   siv.Algorithm
	gcmExporter bool
	cookies     [][]byte
	server      string // where to send NTP; "": to the same host
	port        uint16 // 0: 123

	ntpv4, aead bool
}

// refused is an answer that says no.
type refused string

func (r refused) Error() string { return string(r) }

func (r *reply) take(record record) error {
	switch body := record.body; record.kind {
	case recordNextProtocol:
		list, ok := numbers(body)
		if !ok || len(list) > 1 || r.ntpv4 {
			return errors.New("a malformed or second next protocol record")
		}
		if len(list) == 0 || list[0] != protocolNTPv4 {
			return refused("the server does not offer NTPv4")
		}
		r.ntpv4 = true
	case recordAEAD:
		if len(body) == 0 {
			return refused("the server knows none of the AEAD algorithms offered")
		}
		if len(body) != 2 || r.aead {
			return errors.New("a malformed or second AEAD record")
		}
		r.aead, r.algorithm = true, siv.Algorithm(binary.BigEndian.Uint16(body))
	case recordCookie:
		if len(body) == 0 || len(body) > nts.MaxCookie {
			return fmt.Errorf("a cookie of %d bytes; they have 1 to %d", len(body), nts.MaxCookie)
		}
		if len(r.cookies) < nts.MaxCookies {
			r.cookies = append(r.cookies, body)
		}
	case recordServer:
		name := strings.TrimSuffix(string(body), ".")
		if !plainName(name) || r.server != "" {
			return errors.New("a malformed or second server record")
		}
		r.server = name
	case recordPort:
		if len(body) != 2 || r.port != 0 || binary.BigEndian.Uint16(body) == 0 {
			return errors.New("a malformed or second port record")
		}
		r.port = binary.BigEndian.Uint16(body)
	case recordError, recordWarning:
		return refused("the server refuses: " + refusal(record))
	case recordGCMExporter:
		r.gcmExporter = len(body) == 0
	default:
		if record.critical {
			return fmt.Errorf("a critical record of the unknown type %d", record.kind)
		}
	}
	return nil
}

// refusal names an error or warning record.
func refusal(r record) string {
	if len(r.body) != 2 {
		return "a malformed error record"
	}
	code := binary.BigEndian.Uint16(r.body)
	switch {
	case r.kind == recordWarning:
		return fmt.Sprintf("warning %d", code)
	case code == errorUnknownCritical:
		return "error 0, unrecognized critical record"
	case code == errorBadRequest:
		return "error 1, bad request"
	case code == errorInternal:
		return "error 2, internal server error"
	}
	return fmt.Sprintf("error %d", code)
}

func (r *reply) finish(record) error {
	switch {
	case !r.ntpv4:
		return errors.New("no next protocol record")
	case !r.aead:
		return errors.New("no AEAD record")
	case len(r.cookies) == 0:
		return errors.New("no cookie")
	}
	return nil
}

// plainName reports whether a server record's body can be a host name or an address
// (RFC 8915 §4.1.7: ASCII).
func plainName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':':
		default:
			return false
		}
	}
	return true
}
