package metrics

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"timeball/internal/history"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// fakeDaemon is a Source of fixed values.
type fakeDaemon struct {
	past     *history.Ring
	snapshot *model.Snapshot
	now      ntptime.Instant
	process  Process
	server   *Server
}

func (f *fakeDaemon) Snapshot() *model.Snapshot { return f.snapshot }
func (f *fakeDaemon) Now() ntptime.Instant      { return f.now }
func (f *fakeDaemon) Process() Process          { return f.process }
func (f *fakeDaemon) Server() *Server           { return f.server }
func (f *fakeDaemon) History(span string) (history.View, bool) {
	if f.past == nil {
		return history.View{}, false
	}
	return f.past.View(span, f.now), true
}

var start = ntptime.Instant{Wall: ntptime.WallOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Raw: ntptime.Raw(1000 * time.Second)}

// someSource is a selected server with id 3.
func someSource() model.SourceReport {
	r := model.SourceReport{
		SourceStatus: model.SourceStatus{
			Source: 3, Name: "a.example", Address: netip.MustParseAddrPort("192.0.2.1:123"), Mode: wire.ModeClient, NTS: true, Security: model.Security{Cookies: 8, Exchanges: 1},
			Reach: 0b11111100, Interval: 64 * time.Second, Sent: 9, Accepted: 8,
			Server: model.ServerState{Stratum: 1, ReferenceID: wire.ReferenceName("GPS"), RootDelay: time.Millisecond, RootDispersion: 2 * time.Millisecond},
		},
		State: model.StateSelected, Reason: "system peer", Offset: -2 * time.Millisecond, Delay: 10 * time.Millisecond,
		Jitter: 50 * time.Microsecond, Error: 6 * time.Millisecond, Weight: 0.5, Frequency: 1e-6, Samples: 7, LastSample: start,
	}
	r.Rejected[model.RejectBogus] = 2
	r.Kisses[model.CountRATE] = 1
	return r
}

// someDaemon is synchronized, serves at two addresses and has asked for NTS.
func someDaemon() *fakeDaemon {
	f := &fakeDaemon{
		now:     ntptime.Instant{Wall: start.Wall.Add(100 * time.Second), Raw: start.Raw.Add(100 * time.Second)},
		process: Process{Version: "1.2.3", Revision: "abcdef", CommitDate: "2026-01-01", Uptime: time.Hour, LastReload: start.Wall, AssociationDrops: 9, LogLinesLost: 3},
		snapshot: &model.Snapshot{
			At: start, State: model.DisciplineSync, Synchronized: true, Stratum: 2, ReferenceID: wire.ReferenceAddress(netip.MustParseAddr("192.0.2.1")),
			RootDelay: 11 * time.Millisecond, RootDispersion: 2 * time.Millisecond, DispersionRate: 15e-6, SystemPeer: 3,
			Offset: 100 * time.Microsecond, Frequency: -12e-6, ErrorBound: 8 * time.Millisecond, PollInterval: 64 * time.Second,
			LastUpdate: start, Updates: 7, Steps: 1, StepsTotal: 2 * time.Second, TAI: 37, LeapPending: start.Wall.Add(time.Hour),
			Sources: []model.SourceReport{someSource()},
		},
		server: &Server{
			Listeners:    []Listener{{Address: "0.0.0.0:123", SendErrors: 1, Overflow: 2, Stale: 3, Truncated: 4, IgnoredInterface: 5, Overlong: 6, Unresolved: 7}, {Address: "[::]:123"}},
			NotListening: []string{"192.0.2.1:123"},
			Clients:      responder.ClientTotals{Clients: 4},
			FastPath:     map[string]uint64{"answered": 5},
			FastPathLost: map[string]uint64{"overflow": 2},
			NTS:          &NTS{Connections: map[string]uint64{"accepted": 2, "timeout": 1}, CertificateExpiry: start.Wall.Add(24 * time.Hour), KeyAge: time.Hour},
		},
	}
	f.server.Clients.Intervals[10] = 3
	c := &f.server.Listeners[0].Counters
	c.Packets[responder.Answered][4][wire.ModeClient] = 50
	c.Packets[responder.Interleaved][4][wire.ModeClient] = 5
	c.Packets[responder.Denied][3][wire.ModeClient] = 4
	c.Packets[responder.Limited][4][wire.ModeClient] = 3
	c.Packets[responder.Ignored][2][wire.ModePrivate] = 2
	c.Reasons[responder.ReasonAccess] = 4
	f.server.Listeners[1].Counters.Packets[responder.Answered][4][wire.ModeClient] = 7
	return f
}

// expect compares some families with their text.
func expect(t *testing.T, f *fakeDaemon, text string) {
	t.Helper()
	var names []string
	var clean strings.Builder
	types := map[string]kind{}
	help := map[string]string{}
	for _, m := range all {
		types[m.name], help[m.name] = m.kind, m.help
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		if !slices.Contains(names, name) {
			names = append(names, name)
			fmt.Fprintf(&clean, "# HELP %s %s\n# TYPE %s %s\n", name, help[name], name, types[name])
		}
		clean.WriteString(line + "\n")
	}
	if err := testutil.CollectAndCompare(&collector{f}, strings.NewReader(clean.String()), names...); err != nil {
		t.Error(err)
	}
}

func TestEveryFamilyIsThereAndPasses(t *testing.T) {
	f := someDaemon()
	machine := 300 * time.Millisecond
	f.process.Machine = &machine
	f.snapshot.Sources[0].Reference = true
	problems, err := testutil.CollectAndLint(&collector{f})
	if err != nil || len(problems) != 0 {
		t.Errorf("lint: got %v, %v, want nothing", problems, err)
	}
	for _, m := range all {
		if testutil.CollectAndCount(&collector{f}, m.name) == 0 {
			t.Errorf("%s has no series", m.name)
		}
	}
}

func TestNamesOfNtpdRSKeepTheirLabelsAndUnits(t *testing.T) {
	expect(t, someDaemon(), `
		ntp_uptime_seconds{build_commit="abcdef",build_commit_date="2026-01-01",version="1.2.3"} 3600
		ntp_system_poll_interval_seconds 64
		ntp_system_accumulated_steps_seconds 2
		ntp_system_accumulated_steps_threshold_seconds -1
		ntp_system_leap_indicator 0
		ntp_system_root_delay_seconds 0.011
		ntp_system_stratum 2
		ntp_source_poll_interval_seconds{address="192.0.2.1:123",id="3",name="a.example"} 64
		ntp_source_unanswered_polls{address="192.0.2.1:123",id="3",name="a.example"} 2
		ntp_source_offset_seconds{address="192.0.2.1:123",id="3",name="a.example"} -0.002
		ntp_source_delay_seconds{address="192.0.2.1:123",id="3",name="a.example"} 0.01
		ntp_source_uncertainty_seconds{address="192.0.2.1:123",id="3",name="a.example"} 0.006
		ntp_source_root_delay_seconds{address="192.0.2.1:123",id="3",name="a.example"} 0.001
		ntp_source_root_dispersion_seconds{address="192.0.2.1:123",id="3",name="a.example"} 0.002
		ntp_server_received_packets_total{listen_address="0.0.0.0:123"} 64
		ntp_server_received_packets_total{listen_address="[::]:123"} 7
		ntp_server_accepted_packets_total{listen_address="0.0.0.0:123"} 55
		ntp_server_accepted_packets_total{listen_address="[::]:123"} 7
		ntp_server_denied_packets_total{listen_address="0.0.0.0:123"} 4
		ntp_server_denied_packets_total{listen_address="[::]:123"} 0
		ntp_server_ignored_packets_total{listen_address="0.0.0.0:123"} 2
		ntp_server_ignored_packets_total{listen_address="[::]:123"} 0
		ntp_server_rate_limited_packets_total{listen_address="0.0.0.0:123"} 3
		ntp_server_rate_limited_packets_total{listen_address="[::]:123"} 0
		ntp_server_response_send_errors_total{listen_address="0.0.0.0:123"} 1
		ntp_server_response_send_errors_total{listen_address="[::]:123"} 0
	`)
}

func TestAdditionsSayWhatTheSnapshotSays(t *testing.T) {
	expect(t, someDaemon(), `
		ntp_system_synchronized 1
		ntp_system_offset_seconds 0.0001
		ntp_system_frequency_ratio -1.2e-05
		ntp_system_steps_total 1
		ntp_system_tai_offset_seconds 37
		ntp_system_last_update_timestamp_seconds 1.767323045e+09
		ntp_system_reference_info{refid="192.0.2.1",source="a.example"} 1
		ntp_source_selected{address="192.0.2.1:123",id="3",name="a.example"} 1
		ntp_source_stratum{address="192.0.2.1:123",id="3",name="a.example"} 1
		ntp_source_reachability_ratio{address="192.0.2.1:123",id="3",name="a.example"} 0.75
		ntp_source_last_sample_age_seconds{address="192.0.2.1:123",id="3",name="a.example"} 100
		ntp_server_packets_total{mode="client",result="answered",version="4"} 57
		ntp_server_packets_total{mode="client",result="interleaved",version="4"} 5
		ntp_server_packets_total{mode="client",result="denied",version="3"} 4
		ntp_server_packets_total{mode="client",result="rate_limited",version="4"} 3
		ntp_server_packets_total{mode="private",result="ignored",version="2"} 2
		ntp_server_dropped_packets_total{listen_address="0.0.0.0:123"} 5
		ntp_server_dropped_packets_total{listen_address="[::]:123"} 0
		ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="overflow"} 2
		ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="stale"} 3
		ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="truncated"} 4
ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="unresolved"} 7
		ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="ignored_interface"} 5
		ntp_server_discarded_packets_total{listen_address="0.0.0.0:123",reason="overlong"} 6
		ntp_server_discarded_packets_total{listen_address="[::]:123",reason="overflow"} 0
		ntp_server_discarded_packets_total{listen_address="[::]:123",reason="stale"} 0
		ntp_server_discarded_packets_total{listen_address="[::]:123",reason="truncated"} 0
ntp_server_discarded_packets_total{listen_address="[::]:123",reason="unresolved"} 0
		ntp_server_discarded_packets_total{listen_address="[::]:123",reason="ignored_interface"} 0
		ntp_server_discarded_packets_total{listen_address="[::]:123",reason="overlong"} 0
		ntp_association_dropped_packets_total 9
		ntp_server_listening{listen_address="0.0.0.0:123"} 1
		ntp_server_listening{listen_address="192.0.2.1:123"} 0
		ntp_server_listening{listen_address="[::]:123"} 1
		ntp_server_clients 4
		ntp_nts_ke_connections_total{result="accepted"} 2
		ntp_nts_ke_connections_total{result="timeout"} 1
		ntp_config_last_reload_success_timestamp_seconds 1.767323045e+09
		ntp_config_last_reload_successful 1
	`)
}

// value reads one series of a scrape.
func value(t *testing.T, f *fakeDaemon, series string) (float64, bool) {
	t.Helper()
	for line := range strings.Lines(scrape(t, f)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}

func scrape(t *testing.T, f *fakeDaemon) string {
	t.Helper()
	w := httptest.NewRecorder()
	New(f, nil).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestBoundsGrowBetweenSnapshots(t *testing.T) {
	f := someDaemon()
	for series, want := range map[string]float64{
		"ntp_system_root_dispersion_seconds": 0.002 + 100*15e-6,
		"ntp_system_error_bound_seconds":     0.008 + 100*15e-6,
	} {
		if got, ok := value(t, f, series); !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
}

func TestExactlyOneStateIsOne(t *testing.T) {
	f := someDaemon()
	for _, family := range []string{"ntp_source_state", "ntp_system_state"} {
		var ones, all int
		for line := range strings.Lines(scrape(t, f)) {
			if strings.HasPrefix(line, family+"{") {
				all++
				if strings.HasSuffix(line, " 1\n") {
					ones++
				}
			}
		}
		want := model.States
		if family == "ntp_system_state" {
			want = model.DisciplineStates
		}
		if ones != 1 || all != want {
			t.Errorf("%s: got %d of %d at 1, want 1 of %d", family, ones, all, want)
		}
	}
}

func TestSeriesGoWhenTheSourceGoes(t *testing.T) {
	f := someDaemon()
	handler := New(f, nil)
	body := func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	if !strings.Contains(body(), `name="a.example"`) {
		t.Error("the source is not there")
	}
	gone := *f.snapshot
	gone.Sources, gone.SystemPeer = nil, 0
	f.snapshot = &gone
	if got := body(); strings.Contains(got, "a.example") || strings.Contains(got, "ntp_source_") {
		t.Error("a source that has gone still has series")
	}
}

func TestWhatIsNotKnownHasNoSeries(t *testing.T) {
	for what, f := range map[string]*fakeDaemon{
		"nothing yet":  {},
		"no server":    {snapshot: &model.Snapshot{}},
		"no addresses": {snapshot: &model.Snapshot{Sources: make([]model.SourceReport, 1)}, server: &Server{}},
	} {
		text := scrape(t, f)
		for _, absent := range []string{"ntp_system_tai_offset_seconds", "ntp_system_leap_pending", "ntp_source_last_sample_age", "ntp_nts_"} {
			if strings.Contains(text, absent) {
				t.Errorf("%s: %s is there", what, absent)
			}
		}
		if !strings.Contains(text, "ntp_build_info") || !strings.Contains(text, "go_goroutines") {
			t.Errorf("%s: the process's own metrics are missing", what)
		}
	}
}

func TestNoLabelAndNoNumberSpoilsAScrape(t *testing.T) {
	f := someDaemon()
	nan := math.NaN()
	s := &f.snapshot.Sources[0]
	s.Name, s.Weight = "a\xff\"\n\\{}", nan
	f.snapshot.Frequency = ntptime.Frequency(nan)
	twin := someSource()
	twin.Source = 4
	f.snapshot.Sources = append(f.snapshot.Sources, twin)
	if text := scrape(t, f); !strings.Contains(text, "ntp_source_stratum") || !strings.Contains(text, "ntp_server_clients") {
		t.Errorf("the scrape is cut short:\n%s", text)
	}
}

func TestIntervalsAreCumulativeInPowersOfTwo(t *testing.T) {
	f := someDaemon()
	for series, want := range map[string]float64{
		`ntp_server_request_interval_seconds_bucket{le="32"}`:   0,
		`ntp_server_request_interval_seconds_bucket{le="64"}`:   3,
		`ntp_server_request_interval_seconds_bucket{le="+Inf"}`: 3,
		`ntp_server_request_interval_seconds_count`:             3,
	} {
		if got, ok := value(t, f, series); !ok || got != want {
			t.Errorf("%s: got %v (%v), want %v", series, got, ok, want)
		}
	}
}

// unitOf is the unit in a metric's name.
func unitOf(m *metric) string {
	name := strings.TrimSuffix(m.name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"):
		return "s since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_ratio"):
		return "1"
	}
	return ""
}

// docRow is a metric's row in docs/metrics.md.
func docRow(m *metric) string {
	labels := make([]string, len(m.labels))
	for i, l := range m.labels {
		labels[i] = "`" + l + "`"
	}
	help := strings.ReplaceAll(m.help, "|", `\|`)
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |", m.name, m.kind, unitOf(m), strings.Join(labels, ", "), help)
}

func TestDocumentationListsEveryMetricAndNoOther(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc, len(all))
	(&collector{}).Describe(descriptions)
	if len(descriptions) != len(all) {
		t.Errorf("Describe names %d metrics, the table has %d", len(descriptions), len(all))
	}
	var rows []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `ntp_") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for _, m := range all {
		if row := docRow(m); !slices.Contains(rows, row) {
			t.Errorf("docs/metrics.md lacks the row\n%s", row)
		}
	}
	if len(rows) != len(all) {
		t.Errorf("docs/metrics.md has %d rows, want %d", len(rows), len(all))
	}
}

func TestOnlyTheTwoPagesAreThere(t *testing.T) {
	h := New(someDaemon(), nil)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/metrics", 200}, {"GET", "/favicon.ico", 404},
		{"GET", "/debug/pprof/", 404}, {"POST", "/metrics", 405}, {"DELETE", "/", 405}, {"GET", "/../../etc/passwd", 307},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, localRequest(c.method, c.path))
		if w.Code != c.want {
			t.Errorf("%s %s: got %d, want %d", c.method, c.path, w.Code, c.want)
		}
		io.Copy(io.Discard, w.Body)
	}
}

// localRequest names us as somebody on this machine does.
func localRequest(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "localhost"
	return r
}
