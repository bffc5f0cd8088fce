package responder

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Control messages (mode 6, RFC 9327), read-only: what ntpq and the checks of
// monitoring systems ask. There is no command that changes anything.
const (
	controlHead = 12  // octets before the data (RFC 9327 §2)
	controlData = 468 // octets of data in one datagram; ntpq counts on no more (§2)

	controlResponse = 0x80 // R
	controlError    = 0x40 // E
	controlMore     = 0x20 // M: another fragment follows
	controlOpcode   = 0x1f

	opReadStatus    = 1
	opReadVariables = 2
	// maxControlRequest bounds a request in octets: a head and some names.
	maxControlRequest = 1024
)

// The error codes of RFC 9327 §2, in the high octet of an error's status word.
const (
	controlBadFormat      = 2
	controlBadOpcode      = 3
	controlBadAssociation = 4
	controlBadVariable    = 5
	controlProhibited     = 7
)

// ControlView is what a control query is answered from.
type ControlView struct {
	Snapshot *model.Snapshot // nil: no answer
	Now      ntptime.Instant
	Local    netip.AddrPort // where we were asked
	Version  string         // of this program; "" tells none
}

// Control answers a control query (mode 6) by one or more datagrams, none if it is
// none. It is for queries that Policy.Queries lets in, nobody else's: the replies are
// longer than the request. It allocates, and is not for the goroutine of a shard.
func Control(request []byte, view *ControlView) [][]byte {
	if len(request) < controlHead || len(request) > maxControlRequest || view.Snapshot == nil {
		return nil
	}
	version, mode := wire.Peek(request)
	if mode != wire.ModeControl || version == 0 || version > 4 || request[1]&^controlOpcode != 0 {
		return nil // a response, an error, or a fragment: they never draw anything
	}
	q := &query{view: view, head: [controlHead]byte(request)}
	q.head[0] = version<<3 | byte(wire.ModeControl)
	count := int(binary.BigEndian.Uint16(request[10:]))
	if count > len(request)-controlHead || binary.BigEndian.Uint16(request[8:]) != 0 {
		return q.fail(controlBadFormat)
	}
	return q.answer(string(request[controlHead : controlHead+count]))
}

// query is a control query being answered.
type query struct {
	view *ControlView
	head [controlHead]byte // of the request, made that of the replies
}

func (q *query) answer(data string) [][]byte {
	association := binary.BigEndian.Uint16(q.head[6:])
	var source *model.SourceReport
	if association != 0 {
		if source = q.find(association); source == nil {
			return q.fail(controlBadAssociation)
		}
	}
	switch opcode := q.head[1]; {
	case opcode == opReadStatus && source == nil:
		return q.reply(q.systemStatus(), q.associations())
	case opcode == opReadStatus:
		return q.reply(q.sourceStatus(source), format(q.sourceVariables(source)))
	case opcode == opReadVariables:
		return q.variables(source, data)
	case opcode == 0 || opcode > 12:
		return q.fail(controlBadOpcode)
	}
	return q.fail(controlProhibited) // writes, traps, configuration, lists of clients
}

// variables answers with the variables named in data, all of them if it is empty.
func (q *query) variables(source *model.SourceReport, data string) [][]byte {
	all, status := q.systemVariables(), q.systemStatus()
	if source != nil {
		all, status = q.sourceVariables(source), q.sourceStatus(source)
	}
	chosen, ok := choose(all, data)
	if !ok {
		return q.fail(controlBadVariable)
	}
	return q.reply(status, format(chosen))
}

// choose picks the variables that a query names: "name, name=anything, ...".
func choose(all []variable, names string) ([]variable, bool) {
	if strings.Trim(names, " ,\r\n\t\x00") == "" {
		return all, true
	}
	var chosen []variable
	for name := range strings.SplitSeq(names, ",") {
		name, _, _ = strings.Cut(name, "=")
		if name = strings.Trim(name, " \r\n\t\x00"); name == "" {
			continue
		}
		found := false
		for _, v := range all {
			if v.name == name {
				chosen, found = append(chosen, v), true
				break
			}
		}
		if !found {
			return nil, false
		}
	}
	return chosen, true
}

// fail is the reply that says an error code, without data.
func (q *query) fail(code uint16) [][]byte {
	q.head[1] |= controlError
	return q.reply(code<<8, nil)
}

// reply cuts data into datagrams, each with its offset, and the more bit on all but
// the last (RFC 9327 §2). Sequence and association id are those of the request.
func (q *query) reply(status uint16, data []byte) [][]byte {
	var datagrams [][]byte
	for offset := 0; ; offset += controlData {
		part := data[offset:]
		more := len(part) > controlData
		if more {
			part = part[:controlData]
		}
		head := q.head
		head[1] |= controlResponse
		if more {
			head[1] |= controlMore
		}
		binary.BigEndian.PutUint16(head[4:], status)
		binary.BigEndian.PutUint16(head[8:], uint16(offset))
		binary.BigEndian.PutUint16(head[10:], uint16(len(part)))
		datagram := append(head[:], part...)
		for len(datagram)%4 != 0 {
			datagram = append(datagram, 0)
		}
		datagrams = append(datagrams, datagram)
		if !more {
			return datagrams
		}
	}
}

// maxListed bounds the associations in a list, so that its length fits 16 bits.
const maxListed = 4096

// associations lists the id and status word of every association.
func (q *query) associations() []byte {
	var list []byte
	sources := q.view.Snapshot.Sources
	for i := range sources[:min(len(sources), maxListed)] {
		list = binary.BigEndian.AppendUint16(list, associationID(sources[i].Source))
		list = binary.BigEndian.AppendUint16(list, q.sourceStatus(&sources[i]))
	}
	return list
}

// associationID is the 16-bit id of a source, never 0, which is the system.
func associationID(id model.SourceID) uint16 { return uint16((uint32(id)-1)%0xffff) + 1 }

func (q *query) find(association uint16) *model.SourceReport {
	sources := q.view.Snapshot.Sources
	for i := range sources {
		if associationID(sources[i].Source) == association {
			return &sources[i]
		}
	}
	return nil
}
