package ntske

import (
	"fmt"
	"slices"

	"timeball/internal/siv"
)

// request is what a client asks for.
type request struct {
	ntpv4       bool
	algorithms  []siv.Algorithm // in the client's order
	gcmExporter bool

	protocols, aeads int // how many such records came
}

// requestError is a request to be answered by an error record.
type requestError struct {
	code uint16
	why  string
}

func (e *requestError) Error() string { return e.why }

func badRequest(format string, args ...any) error {
	return &requestError{errorBadRequest, fmt.Sprintf(format, args...)}
}

func (r *request) take(record record) error {
	switch record.kind {
	case recordNextProtocol:
		list, ok := numbers(record.body)
		if r.protocols++; r.protocols > 1 || !ok || len(list) == 0 || !record.critical {
			return badRequest("next protocol record twice, empty, uneven or not critical")
		}
		r.ntpv4 = slices.Contains(list, protocolNTPv4)
	case recordAEAD:
		list, ok := numbers(record.body)
		if r.aeads++; r.aeads > 1 || !ok || len(list) == 0 {
			return badRequest("AEAD record twice, empty or uneven")
		}
		for _, n := range list {
			r.algorithms = append(r.algorithms, siv.Algorithm(n))
		}
	case recordError, recordWarning, recordCookie:
		return badRequest("a record of type %d, which only servers send", record.kind)
	case recordGCMExporter:
		r.gcmExporter = len(record.body) == 0
	default: // also the server and port that a client would like (RFC 8915 §4.1.7)
		if record.critical {
			return &requestError{errorUnknownCritical, fmt.Sprintf("a critical record of type %d", record.kind)}
		}
	}
	return nil
}

// finish judges the whole (RFC 8915 §4.1: just one record of either list).
func (r *request) finish(end record) error {
	switch {
	case !end.critical || len(end.body) != 0:
		return badRequest("an End of Message record that is not critical or not empty")
	case r.protocols == 0:
		return badRequest("no next protocol record")
	case r.ntpv4 && r.aeads == 0:
		return badRequest("no AEAD record")
	}
	return nil
}

// choose takes the first of the client's algorithms that is allowed. AES-128-GCM-SIV only
// comes about where both ends say that they export its keys as RFC 8915 has it.
func (r *request) choose(allowed []siv.Algorithm) (siv.Algorithm, bool) {
	for _, a := range r.algorithms {
		if slices.Contains(allowed, a) && a.KeySize() != 0 && (a != siv.AES128GCMSIV || r.gcmExporter) {
			return a, true
		}
	}
	return 0, false
}
