package chrony

import (
	"encoding/binary"
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// View is what a running daemon shows of itself. It is asked anew for every request.
type View interface {
	// Snapshot is the system process as last published; Now is the present instant.
	Snapshot() *model.Snapshot
	Now() ntptime.Instant
	// Options are those of a source by the name that it is configured with.
	Options(name string) Options
	// Server counts requests; nil: nobody is served.
	Server() *Server
	// Clients are those who ask, most first; false: none are remembered.
	Clients() ([]responder.ClientReport, bool)
	// Serves reports whether an address may have the time from here, MayAsk whether what is
	// answered here comes there by UDP.
	Serves(addr netip.Addr) bool
	MayAsk(addr netip.Addr) bool
}

// Options are the settings of a source that bear on its selection.
type Options struct{ NoSelect, Prefer, Trust, Require bool }

// Server counts what was done with requests, since the start.
type Server struct {
	Received, Dropped          uint64
	Authenticated, Interleaved uint64
	KEAccepted, KEDropped      uint64
	Requests                   uint64 // of this protocol
}

// Answer answers one request, and appends the reply to dst. Nothing is appended to what is
// no request, and to what is so short that any reply would be longer: whoever sends
// from a forged address shall gain nothing (the requests of version 6 are padded for that).
func Answer(dst, request []byte, v View) []byte {
	if len(request) < replyHead || len(request) > MaxPacket || request[1] != kindRequest || request[2] != 0 || request[3] != 0 || request[0] < oldVersion {
		return dst
	}
	a := answer{request: request, view: v, packet: packet{make([]byte, 0, MaxPacket)}}
	a.zeros(replyHead)
	kind, result := a.run()
	if result != statusSuccess {
		kind, a.b = replyNull, a.b[:replyHead]
	}
	if len(a.b) > len(request) {
		kind, result, a.b = replyNull, statusBadLength, a.b[:replyHead]
	}
	head := a.b[:replyHead]
	head[0], head[1] = version, kindReply
	copy(head[4:6], request[4:6])
	binary.BigEndian.PutUint16(head[6:], uint16(kind))
	binary.BigEndian.PutUint16(head[8:], uint16(result))
	copy(head[16:20], request[8:12]) // the sequence number
	return append(dst, a.b...)
}

// answer is a reply that is being written.
type answer struct {
	packet
	request []byte
	view    View
}

// body is what stands behind the head of a request, no less than size bytes; nil: less.
func (a *answer) body(size int) []byte {
	if len(a.request) < requestHead+size {
		return nil
	}
	return a.request[requestHead:]
}

// run writes the body of the reply.
func (a *answer) run() (replyType, status) {
	if a.request[0] != version {
		return replyNull, statusBadVersion
	}
	switch c := command(binary.BigEndian.Uint16(a.request[4:])); c {
	case cmdNull:
		return replyNull, statusSuccess
	case cmdSourceCount:
		a.u32(uint32(len(rowsOf(a.view.Snapshot()))))
		return replySourceCount, statusSuccess
	case cmdTracking:
		a.tracking()
		return replyTracking, statusSuccess
	case cmdSourceData:
		return replySourceData, a.byIndex((*answer).sourceData)
	case cmdSourceStats:
		return replySourceStats, a.byIndex((*answer).sourceStats)
	case cmdSelectData:
		return replySelectData, a.byIndex((*answer).selectData)
	case cmdNTPData:
		return a.ntpDataType(), a.byAddress((*answer).ntpData)
	case cmdSourceName:
		return replySourceName, a.byAddress((*answer).sourceName)
	case cmdAuthData:
		return replyAuthData, a.byAddress((*answer).authData)
	case cmdActivity:
		a.activity()
		return replyActivity, statusSuccess
	case cmdServerStats:
		return a.serverStats()
	case cmdClients:
		return replyClients, a.clients()
	case cmdAccess:
		return replyNull, a.access(a.view.Serves)
	case cmdMonitoring:
		return replyNull, a.access(a.view.MayAsk)
	case cmdManualList:
		a.zeros(4 + 16*24) // no samples, and the room for all
		return replyManualList, statusSuccess
	case cmdSmoothing:
		return replyNull, statusInactive
	case cmdRTC:
		return replyNull, statusNoRTC
	case cmdLogon, cmdSubnets, cmdSubnets + 1, cmdClientsFirst:
		return replyNull, statusInvalid
	default:
		if c >= commands {
			return replyNull, statusInvalid
		}
		return replyNull, statusUnauthorised
	}
}

// byIndex writes the report of the source with the number that is asked for.
func (a *answer) byIndex(write func(*answer, *model.Snapshot, *model.SourceReport)) status {
	b := a.body(4)
	if b == nil {
		return statusBadLength
	}
	s, i := a.view.Snapshot(), binary.BigEndian.Uint32(b)
	rows := rowsOf(s)
	if uint64(i) >= uint64(len(rows)) {
		return statusNoSource
	}
	write(a, s, rows[i])
	return statusSuccess
}

// rowsOf are the sources that have an address, or are a reference clock, or whose names do
// not resolve: chronyc shows the last only where it is asked for all.
func rowsOf(s *model.Snapshot) (rows []*model.SourceReport) {
	for i := range s.Sources {
		if r := &s.Sources[i]; r.Reference || r.Address.IsValid() || unresolved(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

// unresolved reports whether a source's name has no address.
func unresolved(r *model.SourceReport) bool {
	return r.Idle && !r.Broadcast && !r.Reference && !r.Address.IsValid()
}

// byAddress writes the report of the source with the address, or the number, that is asked for.
func (a *answer) byAddress(write func(*answer, *model.Snapshot, *model.SourceReport)) status {
	b := a.body(addressSize)
	if b == nil {
		return statusBadLength
	}
	s := a.view.Snapshot()
	for _, r := range rowsOf(s) {
		if !r.Reference && named(b, r) {
			write(a, s, r)
			return statusSuccess
		}
	}
	return statusNoSource
}

// named reports whether what address or unresolved has written names a source.
func named(b []byte, r *model.SourceReport) bool {
	if unresolved(r) {
		return binary.BigEndian.Uint16(b[16:]) == familyNumber && binary.BigEndian.Uint32(b) == uint32(r.Source)
	}
	address, ok := readAddress(b)
	return ok && r.Address.Addr().Unmap().WithZone("") == address.Unmap()
}

// access says whether an address may do something.
func (a *answer) access(may func(netip.Addr) bool) status {
	b := a.body(addressSize)
	if b == nil {
		return statusBadLength
	}
	if address, ok := readAddress(b); ok && may(address.Unmap()) {
		return statusAllowed
	}
	return statusDenied
}

// The leap field of chrony's reports is that of NTP.
func leapOf(l wire.Leap) uint16 { return uint16(l) & 3 }

// since is how long ago an instant was, and whether it was at all.
func since(at, now ntptime.Instant) (time.Duration, bool) {
	return now.Raw.Sub(at.Raw), at != (ntptime.Instant{})
}
