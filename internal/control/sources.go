package control

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/siv"
	"timeball/internal/wire"
)

// All numbers below are seconds, or seconds per second, unless they say otherwise;
// offsets are reference − local. An age is null for what has not happened yet. The keys
// are stable: scripts are written against them.

// Sources is the report of `timeball sources`.
type Sources struct {
	Sources []Source `json:"sources"`
}

// Source is one source: where it is, what it says, what is made of it.
type Source struct {
	ID             uint32         `json:"id"`
	Name           string         `json:"name"`
	Address        string         `json:"address"` // with the port
	Mode           string         `json:"mode"`    // client, active, passive, broadcast, ...
	State          string         `json:"state"`
	Reason         string         `json:"reason"`
	Stratum        int            `json:"stratum"`  // 16: not synchronized, or nothing heard yet
	Poll           int            `json:"poll"`     // log2 s
	Interval       float64        `json:"interval"` // present poll interval
	Reach          int            `json:"reach"`    // the register; 255: all eight
	LastSampleAge  *float64       `json:"last_sample_age"`
	Offset         float64        `json:"offset"`
	Delay          float64        `json:"delay"`
	MinDelay       float64        `json:"min_delay"`
	Jitter         float64        `json:"jitter"`
	Error          float64        `json:"error"` // half width of the interval that holds the true offset
	Weight         float64        `json:"weight"`
	Frequency      float64        `json:"frequency"`
	Samples        uint64         `json:"samples"`
	Leap           string         `json:"leap"`
	ReferenceID    string         `json:"reference_id"`
	RootDelay      float64        `json:"root_delay"`
	RootDispersion float64        `json:"root_dispersion"`
	Key            uint32         `json:"key,omitempty"`
	NTS            bool           `json:"nts"`
	Security       *Security      `json:"security,omitempty"` // where nts is true
	Dynamic        bool           `json:"dynamic"`
	Timestamps     string         `json:"timestamps,omitempty"` // who took ours of the last sample: daemon, kernel, hardware
	Offline        bool           `json:"offline"`              // not polled, as an operator wished
	Idle           bool           `json:"idle"`                 // a line of the configuration without an association; the reason says why
	Filter         []FilterSample `json:"filter,omitempty"`     // newest first
}

// Security is what a source with NTS (RFC 8915) knows of its keys.
type Security struct {
	State              string `json:"state"`   // none, exchanging, keyed, failed
	Cookies            int    `json:"cookies"` // left, 0 to 8
	AEAD               string `json:"aead,omitempty"`
	Exchanges          uint64 `json:"exchanges"`                     // key exchanges begun
	FailureKind        string `json:"failure_kind,omitempty"`        // name, date, chain, alpn, tls, refused, timeout, network, protocol
	Failure            string `json:"failure,omitempty"`             // the same in words
	Undated            bool   `json:"undated,omitempty"`             // the dates of the certificate are not checked yet
	CertificateExpires string `json:"certificate_expires,omitempty"` // RFC 3339
}

func securityOf(r *model.SourceReport) *Security {
	if !r.NTS {
		return nil
	}
	st := &r.Security
	out := &Security{State: st.State.String(), Cookies: st.Cookies, Exchanges: st.Exchanges,
		FailureKind: st.FailureKind, Failure: st.Failure, Undated: st.Undated}
	if st.Algorithm != 0 {
		out.AEAD = siv.Algorithm(st.Algorithm).String()
	}
	if st.Expires != 0 {
		out.CertificateExpires = st.Expires.Time().Format(time.RFC3339)
	}
	return out
}

// FilterSample is one of the last samples of a source.
type FilterSample struct {
	Age    float64 `json:"age"`
	Offset float64 `json:"offset"`
	Delay  float64 `json:"delay"`
	Error  float64 `json:"error"`
}

// SourcesReport is the report of all sources at now.
func SourcesReport(s *model.Snapshot, now ntptime.Instant) Sources {
	report := Sources{Sources: make([]Source, 0, len(s.Sources))}
	for i := range s.Sources {
		report.Sources = append(report.Sources, sourceOf(&s.Sources[i], s, now))
	}
	return report
}

func sourceOf(r *model.SourceReport, s *model.Snapshot, now ntptime.Instant) Source {
	out := Source{
		ID: uint32(r.Source), Name: r.Name, Address: address(r.Address), Mode: modeName(&r.SourceStatus),
		State: r.State.String(), Reason: reasonOf(r),
		Stratum: int(r.Server.Stratum), Poll: int(r.Poll), Interval: r.Interval.Seconds(), Reach: int(r.Reach),
		LastSampleAge: age(r.LastSample, now),
		Offset:        r.Offset.Seconds(), Delay: r.Delay.Seconds(), MinDelay: r.MinDelay.Seconds(),
		Jitter: r.Jitter.Seconds(), Error: r.Error.Seconds(), Weight: finite(r.Weight),
		Frequency: finite(float64(r.Frequency)), Samples: r.Samples,
		Leap: r.Server.Leap.String(), ReferenceID: referenceOf(&r.SourceStatus),
		RootDelay: r.Server.RootDelay.Seconds(), RootDispersion: r.Server.RootDispersion.Seconds(),
		Key: r.KeyID, NTS: r.NTS, Security: securityOf(r), Dynamic: r.Dynamic, Offline: r.Offline, Idle: r.Idle,
	}
	if r.Samples > 0 && !r.Reference {
		out.Timestamps = r.Timestamps.String()
	}
	out.Filter = filterOf(r, s, now)
	return out
}

// reasonOf is why a source is where it is; of one that is offline that comes first.
func reasonOf(r *model.SourceReport) string {
	if r.Offline {
		return "offline as you wished: it is not asked until `timeball online`; " + r.Reason
	}
	return r.Reason
}

// filterOf are the last samples of a source, with their ages at now.
func filterOf(r *model.SourceReport, s *model.Snapshot, now ntptime.Instant) (list []FilterSample) {
	since := now.Raw.Sub(s.At.Raw)
	for _, f := range r.Filter {
		list = append(list, FilterSample{
			Age: (f.Age + since).Seconds(), Offset: f.Offset.Seconds(), Delay: f.Delay.Seconds(), Error: f.Error.Seconds(),
		})
	}
	return list
}

// Explain is the report of `timeball explain`: why each source is or is not used.
type Explain struct {
	Sources []Explained `json:"sources"`
}

// Explained is one source with the tests it was put to, in their order.
type Explained struct {
	Name    string  `json:"name"`
	Address string  `json:"address"`
	State   string  `json:"state"`
	Reason  string  `json:"reason"`
	Checks  []Check `json:"checks"`
}

// Check is one test: the number found and its limit, in Unit, and both in words; where it
// failed, the words also say what would change the verdict.
type Check struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Limit  float64 `json:"limit"`
	Unit   string  `json:"unit"`
	Passed bool    `json:"passed"`
	Text   string  `json:"text"`
}

// ExplainReport explains one source, by name, address or id, or all if it is "". It is
// an error if there is none of that name.
func ExplainReport(s *model.Snapshot, source string) (Explain, error) {
	report := Explain{Sources: make([]Explained, 0, len(s.Sources))}
	for i := range s.Sources {
		r := &s.Sources[i]
		if source != "" && !called(&r.SourceStatus, source) {
			continue
		}
		e := Explained{Name: r.Name, Address: address(r.Address), State: r.State.String(), Reason: reasonOf(r), Checks: make([]Check, 0, len(r.Checks))}
		for _, c := range r.Checks {
			e.Checks = append(e.Checks, Check{c.Name, finite(c.Value), finite(c.Limit), c.Unit, c.Passed, c.Text})
		}
		report.Sources = append(report.Sources, e)
	}
	if source != "" && len(report.Sources) == 0 {
		return Explain{}, fmt.Errorf("no source is called %q; `timeball sources` lists them", source)
	}
	return report, nil
}

// Associations is the report of `timeball associations`.
type Associations struct {
	Associations []Association `json:"associations"`
}

// Association is one association with its protocol state and its counters.
type Association struct {
	ID            uint32            `json:"id"`
	Name          string            `json:"name"`
	Address       string            `json:"address"`
	Mode          string            `json:"mode"`
	State         string            `json:"state"` // the verdict; "sending" for a broadcast server
	RemoteMode    string            `json:"remote_mode"`
	Dynamic       bool              `json:"dynamic"` // mobilized by operation, not by configuration
	Version       int               `json:"version"`
	Reach         int               `json:"reach"`
	Poll          int               `json:"poll"`        // log2 s
	RemotePoll    int               `json:"remote_poll"` // log2 s
	Interval      float64           `json:"interval"`
	Unanswered    int               `json:"unanswered"`
	Stratum       int               `json:"stratum"`
	Key           uint32            `json:"key,omitempty"`
	NTS           bool              `json:"nts"`
	Interface     string            `json:"interface,omitempty"`
	LastPacketAge *float64          `json:"last_packet_age"`
	Sent          uint64            `json:"sent"`
	Accepted      uint64            `json:"accepted"`
	Rejected      map[string]uint64 `json:"rejected"`         // by reason, those that happened
	Kisses        map[string]uint64 `json:"kisses"`           // by code, those that came
	Denied        bool              `json:"denied"`           // a DENY or RSTR ended polling
	Filter        []FilterSample    `json:"filter,omitempty"` // the last eight samples, newest first
}

// AssociationsReport is the report of all associations at now.
func AssociationsReport(s *model.Snapshot, now ntptime.Instant) Associations {
	report := Associations{Associations: make([]Association, 0, len(s.Sources))}
	for i := range s.Sources {
		if !s.Sources[i].Idle {
			report.Associations = append(report.Associations, associationOf(&s.Sources[i], s, now))
		}
	}
	return report
}

func associationOf(r *model.SourceReport, s *model.Snapshot, now ntptime.Instant) Association {
	a := &r.SourceStatus
	out := Association{
		ID: uint32(a.Source), Name: a.Name, Address: address(a.Address), Mode: modeName(a), State: r.State.String(),
		Dynamic: a.Dynamic, Version: int(a.Version), Reach: int(a.Reach), Poll: int(a.Poll), RemotePoll: int(a.RemotePoll),
		Interval: a.Interval.Seconds(), Unanswered: a.Unanswered, Stratum: int(a.Server.Stratum), Key: a.KeyID, NTS: a.NTS,
		Interface: a.Interface, LastPacketAge: age(a.LastPacket, now), Sent: a.Sent, Accepted: a.Accepted,
		Rejected: make(map[string]uint64), Kisses: make(map[string]uint64), Denied: a.Denied,
		Filter: filterOf(r, s, now),
	}
	if out.LastPacketAge != nil {
		out.RemoteMode = a.RemoteMode.String()
	}
	if a.Mode == wire.ModeBroadcast && !a.Broadcast {
		out.State = stateSending
	}
	for reason, n := range a.Rejected {
		if n > 0 {
			out.Rejected[model.RejectReason(reason).String()] = n
		}
	}
	for code, n := range a.Kisses {
		if n > 0 {
			out.Kisses[model.KissCode(code).String()] = n
		}
	}
	return out
}

// stateSending stands for the verdict on what only sends: nobody judges it.
const stateSending = "sending"

// modeName is our mode in the words of RFC 5905; what listens to mode 5 says so.
func modeName(a *model.SourceStatus) string {
	if a.Broadcast {
		return "broadcast-client"
	}
	if a.Reference {
		return "reference-clock"
	}
	return a.Mode.String()
}

// called says whether a source goes by a name, an address with or without port, or an id.
func called(a *model.SourceStatus, name string) bool {
	if name == a.Name || name == address(a.Address) || name == strconv.Itoa(int(a.Source)) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap() == a.Address.Addr().Unmap()
}

// address prints an address, "" while there is none.
func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// reference prints a reference id, "" while there is none.
func reference(id wire.ReferenceID, stratum uint8) string {
	if id == 0 {
		return ""
	}
	return id.Format(stratum)
}

// referenceOf is the reference id of a source. That of a reference clock is text, whatever
// stratum the clock is given.
func referenceOf(r *model.SourceStatus) string {
	if r.Reference {
		return reference(r.Server.ReferenceID, 0)
	}
	return reference(r.Server.ReferenceID, r.Server.Stratum)
}

// age is how long ago something was; nil for never.
func age(at, now ntptime.Instant) *float64 {
	if at == (ntptime.Instant{}) {
		return nil
	}
	seconds := max(0, now.Raw.Sub(at.Raw).Seconds())
	return &seconds
}

// finite makes a number fit for JSON: NaN becomes 0, infinity the greatest number.
func finite(v float64) float64 {
	switch {
	case math.IsNaN(v):
		return 0
	case math.IsInf(v, 0):
		return math.Copysign(math.MaxFloat64, v)
	}
	return v
}

// unixSeconds is civil time as seconds since 1970; 0 stays 0.
func unixSeconds(w ntptime.Wall) float64 { return float64(w) / float64(time.Second) }
