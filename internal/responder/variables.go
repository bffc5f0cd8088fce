package responder

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// variable is a system or association variable as ntpq shows it (RFC 9327 §4.2, §4.3).
type variable struct{ name, value string }

// lineWidth is where ntpq's text is wrapped.
const lineWidth = 72

// format writes variables as "name=value, name=value" in lines (RFC 9327 §2).
func format(variables []variable) []byte {
	var b strings.Builder
	column := 0
	for i, v := range variables {
		text := v.name + "=" + v.value
		switch {
		case i == 0:
		case column+len(text)+2 > lineWidth:
			b.WriteString(",\r\n")
			column = 0
		default:
			b.WriteString(", ")
			column += 2
		}
		b.WriteString(text)
		column += len(text)
	}
	if len(variables) > 0 {
		b.WriteString("\r\n")
	}
	return []byte(b.String())
}

// System status word (RFC 9327 §3.1): leap, source of synchronization, event count, event.
const (
	clockSourceNone     = 0
	clockSourceLocal    = 5
	clockSourceNTP      = 6
	eventClockSync      = 5
	eventRestart        = 6
	eventPanic          = 7
	eventNoSystemPeer   = 8
	eventMobilize       = 1 // of a peer, §3.2
	eventUnreachable    = 3
	eventReachable      = 4
	eventSystemPeer     = 10
	peerConfigured      = 0x80
	peerAuthEnabled     = 0x40
	peerAuthentic       = 0x20
	peerReachable       = 0x10
	peerBroadcast       = 0x08
	modeBroadcastClient = 6 // host mode of a broadcast client, in ntpd's numbering
)

func (q *query) systemStatus() uint16 {
	s := q.view.Snapshot
	source, event := clockSourceNTP, eventClockSync
	switch {
	case s.State == model.DisciplinePanic:
		source, event = clockSourceNone, eventPanic
	case !s.Synchronized && s.Updates == 0:
		source, event = clockSourceNone, eventRestart
	case !s.Synchronized:
		source, event = clockSourceNone, eventNoSystemPeer
	case s.State == model.DisciplineLocal:
		source = clockSourceLocal
	}
	leap := s.Leap
	if !s.Synchronized {
		leap = wire.LeapUnknown
	}
	return uint16(leap)<<14 | uint16(source)<<8 | 1<<4 | uint16(event)
}

// selections are the codes of RFC 9327 §3.2: ntpq's tally characters.
var selections = [model.States]uint16{
	model.StateFalseticker: 1, // x
	model.StateOutlier:     3, // -
	model.StateSurvivor:    5, // #: good, but not combined
	model.StateCombined:    4, // +
	model.StateSelected:    6, // *
}

func (q *query) sourceStatus(r *model.SourceReport) uint16 {
	var high, event uint16 = selections[r.State], eventMobilize
	if !r.Dynamic {
		high |= peerConfigured
	}
	if r.KeyID != 0 || r.NTS {
		high |= peerAuthEnabled
		if r.Reach != 0 {
			high |= peerAuthentic
		}
	}
	if r.Broadcast {
		high |= peerBroadcast
	}
	switch {
	case r.State == model.StateSelected:
		event = eventSystemPeer
	case r.Reach != 0:
		event = eventReachable
	case r.Accepted > 0:
		event = eventUnreachable
	}
	if r.Reach != 0 {
		high |= peerReachable
	}
	return high<<8 | 1<<4 | event
}

func (q *query) systemVariables() []variable {
	s := q.view.Snapshot
	stratum, leap, refid := s.Stratum, s.Leap, s.ReferenceID
	if !s.Synchronized {
		stratum, leap, refid = wire.MaxStratum, wire.LeapUnknown, 0
	}
	var peer uint16
	if s.SystemPeer != 0 {
		peer = associationID(s.SystemPeer)
	}
	v := []variable{
		{"leap", fmt.Sprint(uint8(leap))},
		{"stratum", fmt.Sprint(stratum)},
		{"precision", fmt.Sprint(int8(s.Precision))},
		{"rootdelay", millis(s.RootDelay, 3)},
		{"rootdisp", millis(q.rootDispersion(), 3)},
		{"refid", formatReference(refid, stratum)},
		{"reftime", hexWall(s.ReferenceTime)},
		{"clock", hexTimestamp(q.view.Now.Timestamp())},
		{"peer", fmt.Sprint(peer)},
		{"tc", q.timeConstant()},
		{"mintc", "3"}, // what ntpq's readers expect of RFC 5905's MINPOLL
		{"offset", millis(s.Offset, 6)},
		{"frequency", fmt.Sprintf("%.3f", s.Frequency.PPM())},
		{"sys_jitter", millis(s.Jitter, 6)},
		{"clk_jitter", millis(s.EstimatedError, 6)},
		{"clk_wander", fmt.Sprintf("%.3f", s.FrequencyError.PPM())},
	}
	if q.view.Version != "" {
		v = append([]variable{{"version", `"` + sanitize(q.view.Version) + `"`}}, v...)
	}
	if s.TAI != 0 {
		v = append(v, variable{"tai", fmt.Sprint(s.TAI)})
	}
	return v
}

// rootDispersion is that of the snapshot, grown up to now.
func (q *query) rootDispersion() time.Duration {
	s := q.view.Snapshot
	return s.RootDispersion + s.DispersionRate.Over(max(q.view.Now.Raw.Sub(s.At.Raw), 0))
}

// timeConstant is the poll exponent of the system, RFC 5905's MINPOLL before there is any.
func (q *query) timeConstant() string {
	const least = 6
	if q.view.Snapshot.PollInterval <= 0 {
		return pollExponent(least)
	}
	return pollExponent(ntptime.Log2Of(q.view.Snapshot.PollInterval))
}

// hostMode is our mode in an association, in ntpd's numbering.
func hostMode(r *model.SourceReport) uint8 {
	if r.Broadcast {
		return modeBroadcastClient
	}
	return uint8(r.Mode)
}

// pollOfRemote is the other end's poll exponent; ours, as configured, where it has never
// been heard: ntpq shows the lesser of the two.
func pollOfRemote(r *model.SourceReport) ntptime.Log2 {
	if r.LastPacket == (ntptime.Instant{}) {
		return r.Poll
	}
	return r.RemotePoll
}

func (q *query) sourceVariables(r *model.SourceReport) []variable {
	address := netip.IPv4Unspecified() // reference clocks have none
	if r.Address.Addr().IsValid() {
		address = r.Address.Addr().Unmap().WithZone("")
	}
	local := netip.IPv4Unspecified()
	if r.Local.IsValid() {
		local = r.Local.Unmap().WithZone("")
	}
	v := []variable{
		{"srcadr", address.String()},
		{"srcport", fmt.Sprint(r.Address.Port())},
		{"srchost", `"` + sanitize(r.Name) + `"`},
		{"dstadr", local.String()},
		{"dstport", fmt.Sprint(q.view.Local.Port())},
		{"leap", fmt.Sprint(uint8(r.Server.Leap))},
		{"stratum", fmt.Sprint(r.Server.Stratum)},
		{"precision", fmt.Sprint(int8(r.Server.Precision))},
		{"rootdelay", millis(r.Server.RootDelay, 3)},
		{"rootdisp", millis(r.Server.RootDispersion, 3)},
		{"refid", formatReference(r.Server.ReferenceID, r.Server.Stratum)},
		{"reftime", hexWall(r.Server.ReferenceTime)},
		{"rec", hexWall(r.LastPacket.Wall)},
		{"reach", fmt.Sprintf("%#x", r.Reach)},
		{"unreach", fmt.Sprint(r.Unanswered)},
		{"hmode", fmt.Sprint(hostMode(r))},
		{"pmode", fmt.Sprint(uint8(r.RemoteMode))},
		{"hpoll", pollExponent(r.Poll)},
		{"ppoll", pollExponent(pollOfRemote(r))},
		{"headway", "0"},
		{"flash", fmt.Sprintf("%#x", flash(r))},
		{"keyid", fmt.Sprint(r.KeyID)},
		{"offset", millis(r.Offset, 6)},
		{"delay", millis(r.Delay, 6)},
		{"dispersion", millis(r.Error, 6)},
		{"jitter", millis(r.Jitter, 6)},
	}
	if r.NTS {
		v = append(v, variable{"ntscookies", fmt.Sprint(r.Security.Cookies)})
	}
	return append(v,
		variable{"filtdelay", filter(r, func(f model.FilterSample) time.Duration { return f.Delay })},
		variable{"filtoffset", filter(r, func(f model.FilterSample) time.Duration { return f.Offset })},
		variable{"filtdisp", filter(r, func(f model.FilterSample) time.Duration { return f.Error })})
}

// flash says which tests keep a source from being used (RFC 9327 §3.5).
func flash(r *model.SourceReport) uint16 {
	const synchronized, distance, reachable = 0x0400, 0x0800, 0x2000
	switch r.State {
	case model.StateUnreachable, model.StateWaiting:
		return reachable
	case model.StateUnsynchronized:
		return synchronized
	case model.StateDistant:
		return distance
	}
	return 0
}

// filter writes one column of the eight last samples, in milliseconds.
func filter(r *model.SourceReport, column func(model.FilterSample) time.Duration) string {
	var b strings.Builder
	for i := range 8 {
		var d time.Duration
		if i < len(r.Filter) {
			d = column(r.Filter[i])
		}
		b.WriteString(" " + millis(d, 2))
	}
	return b.String()
}

// millis writes d in milliseconds.
func millis(d time.Duration, digits int) string {
	return fmt.Sprintf("%.*f", digits, float64(d)/float64(time.Millisecond))
}

func hexTimestamp(t ntptime.Timestamp) string { return "0x" + t.String() }

// pollExponent writes a poll interval's exponent, no less than 0: `ntpq -p` of ntpsec 1.2.2
// means to replace a negative one by a constant that its library does not define, and ends
// with a Python error. ntpd itself polls no faster than 2^3 s, so that no reader expects it.
func pollExponent(e ntptime.Log2) string { return fmt.Sprint(max(int8(e), 0)) }

// hexWall writes a moment as a timestamp; zero is unknown.
func hexWall(w ntptime.Wall) string {
	if w == 0 {
		return hexTimestamp(0)
	}
	return hexTimestamp(w.Timestamp())
}

// formatReference writes a reference id as ntpd does: letters up to stratum 1 and
// where there is no synchronization, INIT if there are none, else a dotted quad.
func formatReference(id wire.ReferenceID, stratum uint8) string {
	if stratum >= wire.MaxStratum {
		stratum = wire.StratumKiss
		if id == 0 {
			id = wire.KissINIT
		}
	}
	return sanitize(id.Format(stratum))
}

// sanitize keeps a word from breaking out of its place in the list.
func sanitize(word string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == ',' || r == '=' {
			return '?'
		}
		return r
	}, word)
}
