package responder

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// Control messages (mode 6, RFC 9327).
const (
	controlHead = 12  // bytes before the data (RFC 9327 §2)
	controlData = 468 // bytes of data in one datagram; ntpq counts on no more (§2)

	controlResponse = 0x80 // R
	controlError    = 0x40 // E
	controlMore     = 0x20 // M: another fragment follows
	controlOpcode   = 0x1f

	opReadStatus    = 1
	opReadVariables = 2
	opReadList      = 10
	opNonce         = 12
	opLast          = opNonce
	// maxControlRequest bounds a request in bytes: a head and some names.
	maxControlRequest = 1024
)

// The error codes of RFC 9327 §2, in the high byte of an error's status word.
const (
	controlBadFormat      = 2
	controlBadOpcode      = 3
	controlBadAssociation = 4
	controlBadVariable    = 5
	controlBadValue       = 6
	controlProhibited     = 7
)

// ControlView is what a control query is answered from.
type ControlView struct {
	Snapshot *model.Snapshot // nil: no answer
	Now      ntptime.Instant
	Local    netip.AddrPort // where we were asked
	Version  string         // of this program; "" tells none
	Clients  *Clients       // who asks; nil: nobody is remembered
	Counts   func() Counts  // called where a query wants them; nil: all are 0
}

// Counts are the numbers of a process that queries ask for.
type Counts struct {
	Counters
	Uptime time.Duration
	Keys   int
	// Of the sockets: lost before they were read, received by an interface that is shut,
	// sent, and not sent.
	Lost, Shut, Sent, SendErrors uint64
}

// Answer answers a control query (mode 6) from an address by one or more datagrams, none
// if it is none, or over the limit. It is for queries that Policy.Queries lets in, nobody
// else's: the replies are longer than the request. It allocates, and is not for the
// goroutine of a shard.
func (m *Monitor) Answer(request []byte, remote netip.Addr, view *ControlView) ([][]byte, Verdict) {
	if len(request) < controlHead || len(request) > maxControlRequest {
		return nil, Verdict{Result: Ignored, Reason: ReasonMalformed}
	}
	version, mode := wire.Peek(request)
	if mode != wire.ModeControl || version == 0 || version > 4 || request[1]&^controlOpcode != 0 {
		return nil, Verdict{Result: Ignored, Reason: ReasonMode} // a response, an error, or a fragment: they never draw anything
	}
	if view.Snapshot == nil {
		return nil, Verdict{Result: Ignored, Reason: ReasonStarting}
	}
	q := &query{monitor: m, view: view, remote: remote, head: [controlHead]byte(request)}
	q.head[0] = version<<3 | byte(wire.ModeControl)
	count := int(binary.BigEndian.Uint16(request[10:]))
	wellFormed := count <= len(request)-controlHead && binary.BigEndian.Uint16(request[8:]) == 0
	var list listRequest
	cost := queryInterval
	if wellFormed {
		q.data = string(request[controlHead : controlHead+count])
		if request[1] == opReadList {
			list, wellFormed = parseListRequest(q.data)
			if wellFormed && m.fresh(list.nonce, remote, view.Now.Raw) {
				cost = listCost
			}
		}
	}
	if !m.admit(remote, cost, view.Now.Raw) {
		return nil, Verdict{Result: Limited, Reason: ReasonRate}
	}
	if !wellFormed {
		return q.fail(controlBadFormat), Verdict{Result: Query}
	}
	return q.answer(&list), Verdict{Result: Query}
}

// query is a control query being answered.
type query struct {
	monitor *Monitor
	view    *ControlView
	remote  netip.Addr
	head    [controlHead]byte // of the request, made that of the replies
	data    string
	counts  *Counts // once asked for
}

func (q *query) answer(list *listRequest) [][]byte {
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
		return q.variables(source)
	case opcode == opNonce:
		return q.reply(q.systemStatus(), []byte("nonce="+q.monitor.nonce(q.remote, q.view.Now.Raw)+"\r\n"))
	case opcode == opReadList:
		return q.list(list)
	case opcode == 0 || opcode > opLast:
		return q.fail(controlBadOpcode)
	}
	return q.fail(controlProhibited) // writes, traps, configuration
}

// variables answers with the variables that the query names; the usual ones if it names
// none.
func (q *query) variables(source *model.SourceReport) [][]byte {
	usual, more, status := q.systemVariables(), q.moreSystemVariables, q.systemStatus()
	if source != nil {
		usual, status = q.sourceVariables(source), q.sourceStatus(source)
		more = func() []variable { return q.moreSourceVariables(source) }
	}
	chosen, ok := choose(usual, more, q.data)
	if !ok {
		return q.fail(controlBadVariable)
	}
	return q.reply(status, format(chosen))
}

// choose picks the variables that a query names: "name, name=anything, ..."; false: there
// is no such name. A variable that has no value at present is left out.
func choose(usual []variable, more func() []variable, names string) ([]variable, bool) {
	if strings.Trim(names, " ,\r\n\t\x00") == "" {
		return usual, true
	}
	var chosen, others []variable
	for name := range strings.SplitSeq(names, ",") {
		name, _, _ = strings.Cut(name, "=")
		if name = strings.Trim(name, " \r\n\t\x00"); name == "" {
			continue
		}
		named := func(v variable) bool { return v.name == name }
		i, list := slices.IndexFunc(usual, named), usual
		if i < 0 {
			if others == nil {
				others = more()
			}
			i, list = slices.IndexFunc(others, named), others
		}
		if i < 0 {
			return nil, false
		}
		if list[i].value != noValue {
			chosen = append(chosen, list[i])
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
