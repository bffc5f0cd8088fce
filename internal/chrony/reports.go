package chrony

import (
	"encoding/binary"
	"math"
	"time"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// chrony's signs: the correction still to be made is positive for a clock that is slow,
// as ours; the offsets of sources, sourcestats and selectdata are positive for a clock that
// is ahead, against ours; that of ntpdata is NTP's; a frequency is that of the oscillator,
// positive if it is fast, where ours is the correction.

const ppm = 1e6

func (a *answer) tracking() {
	s, now := a.view.Snapshot(), a.view.Now()
	grown := max(0, s.DispersionRate.Over(max(0, now.Raw.Sub(s.At.Raw))))
	peer := peerOf(s)
	a.u32(uint32(s.ReferenceID))
	switch {
	case peer == nil:
		a.zeros(addressSize)
	case peer.Reference:
		a.reference(uint32(peer.Server.ReferenceID))
	default:
		a.address(peer.Address.Addr())
	}
	stratum := uint16(s.Stratum)
	if s.Stratum >= wire.MaxStratum {
		stratum = 0
	}
	a.u16(stratum)
	a.u16(leapOf(s.Leap))
	a.wall(s.ReferenceTime)
	a.seconds(s.Offset)
	a.seconds(-s.Offset) // as of the last update
	a.seconds(s.Jitter)
	a.number(-float64(s.Frequency) * ppm)
	a.number(0)
	a.number(float64(s.FrequencyError) * ppm)
	a.seconds(s.RootDelay)
	a.seconds(s.RootDispersion + grown)
	a.seconds(s.PollInterval)
}

func peerOf(s *model.Snapshot) *model.SourceReport {
	for i := range s.Sources {
		if s.SystemPeer != 0 && s.Sources[i].Source == s.SystemPeer {
			return &s.Sources[i]
		}
	}
	return nil
}

// sourceAddress appends the address of a source, or what names a reference clock.
func (a *answer) sourceAddress(r *model.SourceReport) {
	switch {
	case r.Reference:
		a.reference(uint32(r.Server.ReferenceID))
	case unresolved(r):
		a.unresolved(r.Source)
	default:
		a.address(r.Address.Addr())
	}
}

// sourceStates are chrony's numbers for its marks * ? x ~ + -.
var sourceStates = [model.States]uint16{
	model.StateSelected: 0, model.StateFalseticker: 2, model.StateOutlier: 3, model.StateCombined: 4, model.StateSurvivor: 5,
	model.StateWaiting: 1, model.StateUnreachable: 1, model.StateUnsynchronized: 1, model.StateExcluded: 1, model.StateDistant: 1,
}

// selectMarks are chrony's letters for the same, in selectdata.
var selectMarks = [model.States]byte{
	model.StateSelected: '*', model.StateCombined: '+', model.StateSurvivor: 'P', model.StateFalseticker: 'x', model.StateOutlier: '~',
	model.StateWaiting: 'M', model.StateUnreachable: 'S', model.StateUnsynchronized: 's', model.StateExcluded: 'N', model.StateDistant: 'd',
}

func (a *answer) sourceData(_ *model.Snapshot, r *model.SourceReport) {
	a.sourceAddress(r)
	a.u16(uint16(int16(r.Poll)))
	a.u16(uint16(r.Server.Stratum) % wire.MaxStratum)
	a.u16(sourceStates[r.State])
	switch {
	case r.Reference:
		a.u16(2)
	case r.Mode == wire.ModeActive || r.Mode == wire.ModePassive:
		a.u16(1)
	default:
		a.u16(0)
	}
	a.u16(0) // flags
	a.u16(uint16(r.Reach))
	a.ago(since(r.LastSample, a.view.Now()))
	latest := r.Offset
	if len(r.Filter) > 0 {
		latest = r.Filter[0].Offset
	}
	a.seconds(-latest)
	a.seconds(-r.Offset)
	a.seconds(r.Error)
}

// sourceID appends the reference id that names a source, and its address.
func (a *answer) sourceID(r *model.SourceReport) {
	id := r.Server.ReferenceID
	switch {
	case unresolved(r):
		id = wire.ReferenceID(r.Source)
	case !r.Reference:
		id = wire.ReferenceAddress(r.Address.Addr().Unmap())
	}
	a.u32(uint32(id))
	a.sourceAddress(r)
}

func (a *answer) sourceStats(s *model.Snapshot, r *model.SourceReport) {
	a.sourceID(r)
	a.u32(uint32(len(r.Filter)))
	a.u32(0) // runs: of chronyd's regression
	span := time.Duration(0)
	if n := len(r.Filter); n > 0 {
		span = r.Filter[n-1].Age - r.Filter[0].Age
	}
	a.u32(uint32(max(span, 0) / time.Second))
	a.seconds(r.Jitter)
	if r.Samples > 0 {
		a.number(float64(r.Frequency-s.Frequency) * ppm)
	} else {
		a.number(0)
	}
	a.number(float64(s.FrequencyError) * ppm)
	a.seconds(-r.Offset)
	a.seconds(r.Error)
}

func (a *answer) selectData(_ *model.Snapshot, r *model.SourceReport) {
	a.sourceID(r)
	a.u8(selectMarks[r.State])
	a.u8(boolean(r.KeyID != 0 || r.NTS))
	a.u8(uint8(leapOf(r.Server.Leap)))
	a.u8(0)
	o := a.view.Options(r.Name)
	bits := uint16(boolean(o.NoSelect)) | uint16(boolean(o.Prefer))<<1 | uint16(boolean(o.Trust))<<2 | uint16(boolean(o.Require))<<3
	a.u16(bits)
	a.u16(bits)
	a.ago(since(r.LastSample, a.view.Now()))
	a.number(1)
	a.seconds(-r.Offset - r.Error)
	a.seconds(-r.Offset + r.Error)
}

func boolean(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// Lengths of requests that tell which chronyc asks: each pads them to the length of the
// reply that it knows.
const (
	ntpDataLength2     = replyHead + 144 // ntpdata of chrony 4.6; 124 before
	serverStatsLength2 = replyHead + 7*4
	serverStatsLength3 = replyHead + 11*4 // chrony 4.3
	serverStatsLength4 = replyHead + 21*8 // and later
)

// ntpDataType is the layout that the asker knows. Libraries pad to lengths of their own;
// they get the one that is understood longest.
func (a *answer) ntpDataType() replyType {
	if len(a.request) == ntpDataLength2 {
		return replyNTPData2
	}
	return replyNTPData
}

// testsPassed are chrony's ten tests of a packet.
const testsPassed = 0x3ff

func (a *answer) ntpData(_ *model.Snapshot, r *model.SourceReport) {
	a.sourceAddress(r)
	a.address(r.Local)
	a.u16(r.Address.Port())
	a.u8(uint8(leapOf(r.Server.Leap)))
	a.u8(r.Version)
	a.u8(uint8(r.RemoteMode))
	a.u8(r.Server.Stratum % wire.MaxStratum)
	a.u8(uint8(r.Poll))
	a.u8(uint8(r.Server.Precision))
	a.seconds(r.Server.RootDelay)
	a.seconds(r.Server.RootDispersion)
	a.u32(uint32(r.Server.ReferenceID))
	a.wall(r.Server.ReferenceTime)
	latest := r.Offset
	if len(r.Filter) > 0 {
		latest = r.Filter[0].Offset
	}
	a.seconds(latest)
	a.seconds(r.Delay)
	a.seconds(r.Server.Precision.Duration())
	a.seconds(0) // how long the server took is not kept
	a.number(0)
	flags := uint16(0)
	if r.Samples > 0 {
		flags = testsPassed
	}
	if r.KeyID != 0 || r.NTS {
		flags |= 1 << 15
	}
	a.u16(flags)
	a.u8(timestamper(r.Timestamps))
	a.u8(timestamper(r.Timestamps))
	refused := uint64(0)
	for _, n := range r.Rejected {
		refused += n
	}
	for _, n := range []uint64{r.Sent, r.Accepted + refused, r.Accepted, r.Samples} {
		a.u32(uint32(min(n, math.MaxUint32)))
	}
	if a.ntpDataType() == replyNTPData2 {
		a.zeros(16) // how many timestamps of each kind: not counted
		a.zeros(16)
		return
	}
	a.zeros(12)
}

func timestamper(k model.TimestampKind) byte {
	switch k {
	case model.TimestampKernel:
		return 'K'
	case model.TimestampHardware:
		return 'H'
	}
	return 'D'
}

// nameSize is the length of a source's name, with its final zero.
const nameSize = 256

func (a *answer) sourceName(_ *model.Snapshot, r *model.SourceReport) {
	name := r.Name[:min(len(r.Name), nameSize-1)]
	a.b = append(a.b, name...)
	a.zeros(nameSize - len(name))
}

// aeadBits are the lengths of keys by the AEAD's number at IANA.
var aeadBits = map[uint16]uint16{15: 256, 16: 384, 17: 512, 30: 128, 31: 256}

func (a *answer) authData(_ *model.Snapshot, r *model.SourceReport) {
	mode := uint16(0)
	switch {
	case r.NTS:
		mode = 2
	case r.KeyID != 0:
		mode = 1
	}
	a.u16(mode)
	if !r.NTS {
		a.u16(0) // the key's type and length are not shown
		a.u32(r.KeyID)
		a.zeros(4)
		a.u32(math.MaxUint32)
		a.zeros(8)
		return
	}
	a.u16(r.Security.Algorithm)
	a.u32(uint32(r.Security.Exchanges)) // chronyd's number of the key
	a.u16(aeadBits[r.Security.Algorithm])
	a.u16(0)
	a.u32(math.MaxUint32) // when the last exchange was is not kept
	a.u16(uint16(r.Security.Cookies))
	a.u16(0)
	a.u16(uint16(min(r.Kisses[model.CountNTSN], math.MaxUint16)))
	a.u16(0)
}

func (a *answer) activity() {
	online, offline, nameless := uint32(0), uint32(0), uint32(0)
	for _, r := range rowsOf(a.view.Snapshot()) {
		switch {
		case unresolved(r):
			nameless++
		case r.Offline:
			offline++
		default:
			online++
		}
	}
	a.u32(online)
	a.u32(offline)
	a.u32(0)
	a.u32(0)
	a.u32(nameless)
}

// serverStats writes the layout that the asker's padding has room for.
func (a *answer) serverStats() (replyType, status) {
	s := a.view.Server()
	if s == nil {
		s = &Server{}
	}
	counts := []uint64{s.Received, s.KEAccepted, s.Requests, s.Dropped, s.KEDropped, 0, 0, s.Authenticated, s.Interleaved, 0, 0}
	kind, fields := replyServerStats3, 11
	switch n := len(a.request); {
	case n >= serverStatsLength4:
		for _, c := range counts {
			a.u64(c)
		}
		a.zeros(10 * 8)
		return replyServerStats4, statusSuccess
	case n >= serverStatsLength3:
	case n >= serverStatsLength2:
		kind, fields = replyServerStats2, 7
	default:
		return replyNull, statusBadLength
	}
	for _, c := range counts[:fields] {
		a.u32(uint32(min(c, math.MaxUint32)))
	}
	return kind, statusSuccess
}

// clientsMost is how many clients a reply has room for.
const clientsMost = 8

func (a *answer) clients() status {
	b := a.body(16)
	if b == nil {
		return statusBadLength
	}
	first, most, hits, reset := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if reset != 0 {
		return statusUnauthorised
	}
	all, remembered := a.view.Clients()
	if !remembered {
		return statusInactive
	}
	at := int(min(uint64(first), uint64(len(all))))
	rows := all[at:]
	rows = rows[:min(len(rows), clientsMost, int(min(most, clientsMost)))]
	a.u32(uint32(len(all)))
	a.u32(uint32(at + len(rows)))
	count := len(a.b)
	a.u32(0)
	written := uint32(0)
	for _, c := range rows {
		if c.Hits < hits {
			continue
		}
		written++
		a.address(c.Prefix.Addr())
		a.u32(c.Hits)
		a.u32(0)
		a.u32(0)
		a.u32(c.Drops)
		a.u32(0)
		a.u32(0)
		interval := uint8(127) // not known
		if c.Interval > 0 {
			interval = uint8(int8(math.Round(math.Log2(c.Interval.Seconds()))))
		}
		a.u8(interval)
		a.u8(127)
		a.u8(127)
		a.u8(127)
		a.ago(c.LastSeen, true)
		a.u32(math.MaxUint32)
		a.u32(math.MaxUint32)
	}
	binary.BigEndian.PutUint32(a.b[count:], written)
	a.zeros((clientsMost - int(written)) * 60)
	return statusSuccess
}
