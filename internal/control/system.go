package control

import (
	"math"
	"time"

	"timeball/internal/bound"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// Tracking is the report of `timeball tracking`: the system variables.
type Tracking struct {
	Synchronized   bool     `json:"synchronized"`
	State          string   `json:"state"`  // unset, starting, sync, holdover, panic, local
	Source         string   `json:"source"` // name of the system peer, "" without one
	Address        string   `json:"address"`
	Stratum        int      `json:"stratum"` // 16: not synchronized
	ReferenceID    string   `json:"reference_id"`
	ReferenceTime  float64  `json:"reference_time"` // s since 1970, 0: never
	Leap           string   `json:"leap"`
	Offset         float64  `json:"offset"`      // still to be worked off
	ErrorBound     Bound    `json:"error_bound"` // |offset| + root dispersion + root delay / 2, now
	EstimatedError float64  `json:"estimated_error"`
	Jitter         float64  `json:"jitter"`
	Frequency      float64  `json:"frequency"` // lasting correction, s/s
	FrequencyError float64  `json:"frequency_error"`
	Slew           float64  `json:"slew"` // momentary correction, s/s
	RootDelay      float64  `json:"root_delay"`
	RootDispersion float64  `json:"root_dispersion"` // now
	Precision      int      `json:"precision"`       // log2 s
	PollInterval   float64  `json:"poll_interval"`
	LastUpdateAge  *float64 `json:"last_update_age"`
	Updates        uint64   `json:"updates"`
	Steps          uint64   `json:"steps"`
	StepsTotal     float64  `json:"steps_total"` // sum of |step|
	LastStepAge    *float64 `json:"last_step_age"`
	Rival          bool     `json:"rival"`        // somebody else keeps setting the clock
	Disruptions    uint64   `json:"disruptions"`  // how often somebody else has set it, or the machine slept
	PanicOffset    float64  `json:"panic_offset"` // the correction refused, 0: none
	Machine        *Machine `json:"machine,omitempty"`
	TAI            int      `json:"tai"`          // TAI−UTC, 0: not known
	LeapPending    float64  `json:"leap_pending"` // s since 1970, 0: none
}

// Machine is how wrong the machine's own clock is where timeball only observes it: offset,
// error_bound and the rest of Tracking are then of the time that is worked out and served.
type Machine struct {
	Offset     float64 `json:"offset"`      // reference − machine's clock
	ErrorBound Bound   `json:"error_bound"` // how wrong it may be: |offset| and the bound of what it is measured against
}

// Observed adds how wrong the machine's clock is, given the time served minus it.
func (t *Tracking) Observed(served time.Duration) {
	offset := served.Seconds() + t.Offset
	t.Machine = &Machine{Offset: offset, ErrorBound: t.ErrorBound}
	if t.ErrorBound.Known() {
		t.Machine.ErrorBound = Bound(math.Abs(offset) + float64(t.ErrorBound) - math.Abs(t.Offset))
	}
}

// TrackingReport is the report of the system process at now.
func TrackingReport(s *model.Snapshot, now ntptime.Instant) Tracking {
	grown := bound.Growth(s, now)
	out := Tracking{
		Synchronized: s.Synchronized, State: s.State.String(), Stratum: int(s.Stratum),
		ReferenceID: reference(s.ReferenceID, s.Stratum), ReferenceTime: unixSeconds(s.ReferenceTime), Leap: s.Leap.String(),
		Offset: Residual(s, now).Seconds(), ErrorBound: BoundOf(s, grown), EstimatedError: s.EstimatedError.Seconds(),
		Jitter: s.Jitter.Seconds(), Frequency: finite(float64(s.Frequency)), FrequencyError: finite(float64(s.FrequencyError)),
		Slew: finite(float64(s.Slew)), RootDelay: s.RootDelay.Seconds(), RootDispersion: (s.RootDispersion + grown).Seconds(),
		Precision: int(s.Precision), PollInterval: s.PollInterval.Seconds(), LastUpdateAge: age(s.LastUpdate, now),
		Updates: s.Updates, Steps: s.Steps, StepsTotal: s.StepsTotal.Seconds(), LastStepAge: age(s.LastStep, now),
		Rival: s.Rival, Disruptions: s.Disruptions, PanicOffset: s.PanicOffset.Seconds(), TAI: s.TAI, LeapPending: unixSeconds(s.LeapPending),
	}
	for i := range s.Sources {
		if r := &s.Sources[i]; s.SystemPeer != 0 && r.Source == s.SystemPeer {
			out.Source, out.Address = r.Name, address(r.Address)
		}
	}
	return out
}

// Residual is what of the snapshot's offset is still to be worked off at now.
func Residual(s *model.Snapshot, now ntptime.Instant) time.Duration {
	left := s.Offset - s.Slew.Over(max(0, now.Raw.Sub(s.At.Raw)))
	if (left < 0) != (s.Offset < 0) {
		return 0
	}
	return left
}

// Daemon is what the running process says of itself.
type Daemon struct {
	Version       string    `json:"version"`
	Revision      string    `json:"revision,omitempty"`
	Uptime        float64   `json:"uptime"`
	Configuration string    `json:"configuration,omitempty"` // path
	ReloadError   string    `json:"reload_error,omitempty"`  // why the last reload was refused
	Clock         string    `json:"clock,omitempty"`         // driver
	FastPath      *FastPath `json:"fast_path,omitempty"`     // nil: none is configured
	// NotListening are addresses of the configuration at which nothing is served now.
	NotListening []NotListening `json:"not_listening,omitempty"`
	NTS          *NTSServer     `json:"nts_server,omitempty"`
}

// NTSServer is the server's side of NTS (RFC 8915).
type NTSServer struct {
	Addresses          []string `json:"addresses"`                   // of the key exchange
	Exchanges          uint64   `json:"exchanges"`                   // good ones since the start
	Connections        int      `json:"connections"`                 // now
	CertificateExpires string   `json:"certificate_expires"`         // RFC 3339
	CertificateError   string   `json:"certificate_error,omitempty"` // why it was not read again
	KeyAge             float64  `json:"key_age"`                     // of the cookies' key, s
}

// NotListening is an address at which nothing is served, and why.
type NotListening struct {
	Address string `json:"address"`
	Reason  string `json:"reason"`
}

// Status is the report of `timeball status`: tracking, the daemon, the sources.
type Status struct {
	Tracking
	Daemon  Daemon   `json:"daemon"`
	Sources []Source `json:"sources"`
}

// StatusReport is everything on one screen.
func StatusReport(s *model.Snapshot, now ntptime.Instant, d Daemon) Status {
	return Status{Tracking: TrackingReport(s, now), Daemon: d, Sources: SourcesReport(s, now).Sources}
}

// ServerStats is the report of `timeball serverstats`.
type ServerStats struct {
	Listeners []Listener `json:"listeners"`
	// NotListening are addresses of the configuration at which nothing is served now.
	NotListening []NotListening `json:"not_listening,omitempty"`
	Packets      []PacketCount  `json:"packets"`
	FastPath     *FastPath      `json:"fast_path,omitempty"` // nil: none is configured
	// AssociationDrops are packets for associations that came faster than they were read.
	AssociationDrops uint64 `json:"association_drops"`
}

// FastPath is what was answered in the driver: none of it is among the packets of the
// listeners, but for those passed.
type FastPath struct {
	Attached  []Attachment `json:"attached"`
	Failed    []string     `json:"failed,omitempty"` // why it is not attached elsewhere
	Answered  uint64       `json:"answered"`
	RateKoD   uint64       `json:"rate_kod"`  // refused by a RATE kiss
	Limited   uint64       `json:"limited"`   // dropped: over the rate limit
	Forwarded uint64       `json:"forwarded"` // NTP packets left to the sockets
	// Workers is how many queues have one for requests with extension fields or a MAC. What
	// goes to them (Redirected) is among the packets of the listeners, but for those lost.
	Workers    int         `json:"workers"`
	Redirected uint64      `json:"redirected"`
	Replied    uint64      `json:"replied"` // to them
	Lost       WorkersLost `json:"lost"`
}

// WorkersLost are requests redirected that were not looked at, or whose reply did not leave.
type WorkersLost struct {
	Overflow   uint64 `json:"overflow"` // came faster than they were read
	Stale      uint64 `json:"stale"`    // too old, and more were waiting
	Malformed  uint64 `json:"malformed"`
	Overlong   uint64 `json:"overlong"`    // replies longer than their request
	SendErrors uint64 `json:"send_errors"` // replies for which the driver had no room
}

// Reasons are the losses by name, in a fixed order.
func (l *WorkersLost) Reasons() []DropCount {
	return []DropCount{{"overflow", l.Overflow}, {"stale", l.Stale}, {"malformed", l.Malformed}, {"overlong", l.Overlong}, {"send error", l.SendErrors}}
}

// Attachment is an interface where requests are answered in the driver, or (generic) right
// behind it.
type Attachment struct {
	Interface string `json:"interface"`
	Mode      string `json:"mode"` // native, generic
}

// Listener counts the packets of one address we listen at. Every packet received is
// one of accepted, denied, ignored, rate-limited, control and passed.
type Listener struct {
	Address        string `json:"address"`
	Received       uint64 `json:"received"`
	Accepted       uint64 `json:"accepted"`     // answered with the time
	Denied         uint64 `json:"denied"`       // refused: no right, or not authenticated
	Ignored        uint64 `json:"ignored"`      // not to be answered: malformed, no request, ...
	RateLimited    uint64 `json:"rate_limited"` // over the limit
	Control        uint64 `json:"control"`      // control queries answered
	Passed         uint64 `json:"passed"`       // handed to an association
	SendErrors     uint64 `json:"send_errors"`
	Interleaved    uint64 `json:"interleaved"` // of those accepted
	NTSReceived    uint64 `json:"nts_received"`
	NTSAccepted    uint64 `json:"nts_accepted"`
	NTSDenied      uint64 `json:"nts_denied"`
	NTSRateLimited uint64 `json:"nts_rate_limited"`
	NTSNAK         uint64 `json:"nts_nak"`
	Dropped        uint64 `json:"dropped"` // unread, a queue was full: overflow and stale
	Drops          Drops  `json:"drops"`
	// ReceiveBuffer is what the kernel granted in bytes, 0 where it does not tell, and
	// ReceiveBufferAsked what we asked for.
	ReceiveBuffer      int `json:"receive_buffer"`
	ReceiveBufferAsked int `json:"receive_buffer_asked"`
	SendBuffer         int `json:"send_buffer"` // granted, in bytes
}

// Cramped reports whether requests were lost for want of a buffer that the system's
// limit does not allow.
func (l *Listener) Cramped() bool {
	return l.Drops.Overflow > 0 && l.ReceiveBuffer > 0 && l.ReceiveBuffer < l.ReceiveBufferAsked
}

// Drops are what the sockets of an address gave up before or after the handler: none of
// it is among the packets received.
type Drops struct {
	Overflow         uint64 `json:"overflow"`          // by the kernel: the receive buffer was full
	Stale            uint64 `json:"stale"`             // too old when their turn came, and more were waiting
	Truncated        uint64 `json:"truncated"`         // longer than any NTP message
	IgnoredInterface uint64 `json:"ignored_interface"` // came in by one of server.interfaces.ignore
	Overlong         uint64 `json:"overlong"`          // replies refused: longer than their request
	Unresolved       uint64 `json:"unresolved"`        // replies held back: to neighbours that nobody answers for, which filled the send buffer
}

// Reasons are the drops by name, in a fixed order.
func (d *Drops) Reasons() []DropCount {
	return []DropCount{
		{"overflow", d.Overflow}, {"stale", d.Stale}, {"truncated", d.Truncated},
		{"ignored interface", d.IgnoredInterface}, {"overlong", d.Overlong},
		{"unresolved neighbour", d.Unresolved},
	}
}

// DropCount is how much was dropped for one reason.
type DropCount struct {
	Reason string
	Count  uint64
}

// PacketCount counts the packets of one kind, over all addresses.
type PacketCount struct {
	Mode    string `json:"mode"`
	Version int    `json:"version"`
	Result  string `json:"result"` // what became of them
	Count   uint64 `json:"count"`
}

// Clients is the report of `timeball clients`.
type Clients struct {
	Total       int      `json:"total"`       // heard within the last hour
	Limited     int      `json:"limited"`     // of these over the rate limit at some time
	Signed      int      `json:"signed"`      // of these with a key
	Private     bool     `json:"private"`     // no addresses are shown
	Clients     []Client `json:"clients"`     // the foremost in the order asked for
	Unavailable string   `json:"unavailable"` // why nothing is known, "" if it is
}

// Client is one that asks us.
type Client struct {
	Address     string  `json:"address"` // IPv4 address, or IPv6 /56
	LastSeen    float64 `json:"last_seen"`
	Interval    float64 `json:"interval"` // average, 0 after the first request
	Hits        uint64  `json:"hits"`
	Drops       uint64  `json:"drops"`
	Version     int     `json:"version"`
	Mode        string  `json:"mode"`
	Poll        int     `json:"poll"` // log2 s
	Signed      bool    `json:"signed"`
	Interleaved bool    `json:"interleaved"`
}

// ClientsReport is the report of who asks us.
func ClientsReport(rows []responder.ClientReport, totals responder.ClientTotals, private bool) Clients {
	out := Clients{Total: totals.Clients, Limited: totals.Limited, Signed: totals.Signed, Private: private, Clients: make([]Client, 0, len(rows))}
	for _, r := range rows {
		c := Client{
			Address: r.Prefix.String(), LastSeen: r.LastSeen.Seconds(), Interval: r.Interval.Seconds(),
			Hits: uint64(r.Hits), Drops: uint64(r.Drops), Version: int(r.Version), Mode: r.Mode.String(), Poll: int(r.Poll),
			Signed: r.Signed, Interleaved: r.Interleaved,
		}
		if r.Prefix.IsSingleIP() {
			c.Address = r.Prefix.Addr().String()
		}
		out.Clients = append(out.Clients, c)
	}
	return out
}

// Trace is the report of `timeball trace`: the chain of servers up to the primary
// reference, nearest first.
type Trace struct {
	Steps []TraceStep `json:"steps"`
}

// TraceStep is one server of the chain, as it answered.
type TraceStep struct {
	Address        string  `json:"address"`
	Name           string  `json:"name,omitempty"`
	Stratum        int     `json:"stratum"`
	ReferenceID    string  `json:"reference_id"`
	Leap           string  `json:"leap"`
	Offset         float64 `json:"offset"` // this server's clock − ours
	Delay          float64 `json:"delay"`
	RootDelay      float64 `json:"root_delay"`
	RootDispersion float64 `json:"root_dispersion"`
	Error          string  `json:"error,omitempty"` // why the chain ends here before a primary server
}
