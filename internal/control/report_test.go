package control

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// someSnapshot is a system with a selected server and a peer not heard yet.
func someSnapshot() (*model.Snapshot, ntptime.Instant) {
	at := ntptime.Instant{Wall: ntptime.WallOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Raw: ntptime.Raw(1000 * time.Second)}
	good := model.SourceReport{
		SourceStatus: model.SourceStatus{
			Source: 3, Name: "a.example", Address: netip.MustParseAddrPort("192.0.2.1:123"), Mode: wire.ModeClient,
			RemoteMode: wire.ModeServer, Version: 4, Reach: 255, Poll: 6, RemotePoll: 6, Interval: 64 * time.Second,
			Server:     model.ServerState{Stratum: 1, ReferenceID: wire.ReferenceName("GPS"), RootDelay: time.Millisecond},
			LastPacket: ntptime.Instant{Wall: at.Wall, Raw: at.Raw - ntptime.Raw(10*time.Second)}, Sent: 8, Accepted: 7,
		},
		State: model.StateSelected, Reason: "system peer", Offset: -2 * time.Millisecond, Delay: 10 * time.Millisecond,
		Jitter: 50 * time.Microsecond, Error: 6 * time.Millisecond, Weight: 1, Samples: 7,
		LastSample: ntptime.Instant{Wall: at.Wall, Raw: at.Raw - ntptime.Raw(10*time.Second)},
		Filter:     []model.FilterSample{{Age: 10 * time.Second, Offset: -2 * time.Millisecond, Delay: 10 * time.Millisecond, Error: time.Microsecond}},
		Checks:     []model.Check{{Name: "distance", Value: 0.006, Limit: 1.5, Unit: "s", Passed: true, Text: "near enough"}},
	}
	good.Rejected[model.RejectBogus] = 2
	good.Kisses[model.CountRATE] = 1
	waiting := model.SourceReport{
		SourceStatus: model.SourceStatus{Source: 4, Name: "2001:db8::2", Address: netip.MustParseAddrPort("[2001:db8::2]:123"), Mode: wire.ModeActive,
			Server: model.ServerState{Stratum: 16}},
		Reason: "no sample yet", Checks: []model.Check{{Name: "reachable", Value: math.NaN(), Limit: math.Inf(1)}},
	}
	s := &model.Snapshot{
		At: at, State: model.DisciplineSync, Synchronized: true, Stratum: 2, ReferenceID: wire.ReferenceAddress(netip.MustParseAddr("192.0.2.1")),
		ReferenceTime: at.Wall, RootDelay: 11 * time.Millisecond, RootDispersion: 2 * time.Millisecond, DispersionRate: 15e-6,
		Precision: -24, SystemPeer: 3, Offset: 100 * time.Microsecond, Frequency: -12e-6, FrequencyError: 1e-8, Jitter: 50 * time.Microsecond,
		ErrorBound: 8 * time.Millisecond, PollInterval: 64 * time.Second, LastUpdate: at, Updates: 7, Steps: 1, StepsTotal: 2 * time.Second,
		TAI: 37, Sources: []model.SourceReport{good, waiting},
	}
	return s, ntptime.Instant{Wall: at.Wall.Add(100 * time.Second), Raw: at.Raw.Add(100 * time.Second)}
}

// keysOf are the keys of an object of JSON.
func keysOf(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSourcesReportHasTheKeysThatScriptsKnow(t *testing.T) {
	s, now := someSnapshot()
	report := keysOf(t, SourcesReport(s, now))
	list := report["sources"].([]any)
	if len(list) != 2 {
		t.Fatalf("got %d sources, want 2", len(list))
	}
	first, second := list[0].(map[string]any), list[1].(map[string]any)
	for key, want := range map[string]any{
		"name": "a.example", "address": "192.0.2.1:123", "mode": "client", "state": "selected", "reason": "system peer",
		"stratum": 1.0, "poll": 6.0, "reach": 255.0, "last_sample_age": 110.0, "offset": -0.002, "delay": 0.01,
		"jitter": 50e-6, "error": 0.006, "reference_id": "GPS",
	} {
		if got := first[key]; got != want {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	if age, there := second["last_sample_age"]; age != nil || !there {
		t.Errorf("age of no sample: got %v (%v), want null", age, there)
	}
	if got := first["filter"].([]any)[0].(map[string]any)["age"]; got != 110.0 {
		t.Errorf("filter sample's age: got %v, want 110", got)
	}
	if second["reference_id"] != "" {
		t.Errorf("reference id of a source not heard: got %v, want none", second["reference_id"])
	}
	if second["state"] != "waiting" || second["stratum"] != 16.0 {
		t.Errorf("second: got %v", second)
	}
}

func TestStateWordsAreThoseOfTheInterface(t *testing.T) {
	want := []string{"selected", "combined", "survivor", "outlier", "falseticker", "distant", "unsynchronized", "unreachable", "excluded", "waiting"}
	for state := range model.State(model.States) {
		if !slices.Contains(want, state.String()) {
			t.Errorf("state %q is not in the list", state)
		}
	}
}

func TestNoSourcesIsAnEmptyListAndNotNull(t *testing.T) {
	for _, report := range []any{SourcesReport(&model.Snapshot{}, ntptime.Instant{}), AssociationsReport(&model.Snapshot{}, ntptime.Instant{}),
		ClientsReport(nil, responder.ClientTotals{}, false)} {
		b, err := json.Marshal(report)
		if err != nil || strings.Contains(string(b), "null") || !strings.Contains(string(b), "[]") {
			t.Errorf("got %s, %v", b, err)
		}
	}
}

func TestTrackingGrowsBetweenSnapshots(t *testing.T) {
	s, now := someSnapshot()
	got := TrackingReport(s, now)
	const grown = 100 * 15e-6
	if math.Abs(got.RootDispersion-(0.002+grown)) > 1e-9 || math.Abs(float64(got.ErrorBound)-(0.008+grown)) > 1e-9 {
		t.Errorf("got dispersion %v and bound %v, want both grown by %v", got.RootDispersion, got.ErrorBound, grown)
	}
	if got.Source != "a.example" || got.ReferenceID != "192.0.2.1" || got.Leap != "none" || *got.LastUpdateAge != 100 || got.LastStepAge != nil {
		t.Errorf("got %+v", got)
	}
	if early := TrackingReport(s, ntptime.Instant{}); early.RootDispersion != 0.002 {
		t.Errorf("asked for the past: got %v, want no shrinking", early.RootDispersion)
	}
}

func TestStatusIsTrackingWithDaemonAndSources(t *testing.T) {
	s, now := someSnapshot()
	report := keysOf(t, StatusReport(s, now, Daemon{Version: "1.0", Uptime: 5}))
	for _, key := range []string{"synchronized", "offset", "error_bound", "frequency", "stratum", "source", "sources", "daemon"} {
		if _, ok := report[key]; !ok {
			t.Errorf("no key %q", key)
		}
	}
}

func TestExplainFindsASourceByEveryNameItHas(t *testing.T) {
	s, _ := someSnapshot()
	for name, want := range map[string]string{
		"": "", "a.example": "a.example", "192.0.2.1": "a.example", "192.0.2.1:123": "a.example", "::ffff:192.0.2.1": "a.example",
		"3": "a.example", "2001:db8::2": "2001:db8::2", "[2001:db8::2]:123": "2001:db8::2", "2001:DB8:0::2": "2001:db8::2",
	} {
		got, err := ExplainReport(s, name)
		if err != nil || name == "" && len(got.Sources) != 2 || name != "" && (len(got.Sources) != 1 || got.Sources[0].Name != want) {
			t.Errorf("%q: got %+v, %v", name, got, err)
		}
	}
	if _, err := ExplainReport(s, "nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("unknown source: got %v", err)
	}
	all, _ := ExplainReport(s, "")
	if c := all.Sources[0].Checks[0]; c.Name != "distance" || c.Value != 0.006 || c.Limit != 1.5 || !c.Passed {
		t.Errorf("check: got %+v", c)
	}
	if _, err := json.Marshal(all); err != nil {
		t.Errorf("NaN and infinity got through: %v", err)
	}
}

func TestAssociationsCountWhatHappened(t *testing.T) {
	s, now := someSnapshot()
	got := AssociationsReport(s, now).Associations
	if len(got) != 2 || len(got[0].Rejected) != 1 || got[0].Rejected["bogus"] != 2 || got[0].Kisses["RATE"] != 1 || *got[0].LastPacketAge != 110 {
		t.Errorf("got %+v", got)
	}
	if got[1].LastPacketAge != nil || got[1].Mode != "active" || got[1].State != "waiting" || got[1].Filter != nil {
		t.Errorf("peer: got %+v", got[1])
	}
	if f := got[0].Filter; got[0].State != "selected" || len(f) != 1 || f[0] != (FilterSample{Age: 110, Offset: -0.002, Delay: 0.01, Error: 1e-6}) {
		t.Errorf("server: got %+v, want its verdict and its sample, aged since the snapshot", got[0])
	}
	s.Sources[1].Mode = wire.ModeBroadcast
	if got := AssociationsReport(s, now).Associations[1].State; got != "sending" {
		t.Errorf("broadcast server: got state %q, want no verdict", got)
	}
	s.Sources[1].Broadcast = true
	if got := AssociationsReport(s, now).Associations[1].Mode; got != "broadcast-client" {
		t.Errorf("mode of a listener: got %q", got)
	}
}

func TestClientsShowAddressesOrPrefixes(t *testing.T) {
	rows := []responder.ClientReport{
		{Prefix: netip.MustParsePrefix("192.0.2.9/32"), LastSeen: time.Second, Interval: 64 * time.Second, Hits: 5, Mode: wire.ModeClient, Version: 4},
		{Prefix: netip.MustParsePrefix("2001:db8::/56")},
	}
	got := ClientsReport(rows, responder.ClientTotals{Clients: 2}, false)
	if got.Clients[0].Address != "192.0.2.9" || got.Clients[1].Address != "2001:db8::/56" || got.Clients[0].Interval != 64 || got.Total != 2 {
		t.Errorf("got %+v", got)
	}
}

// keyPaths lists the keys of a report, those of lists and objects below behind a dot.
func keyPaths(prefix string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			into[prefix+key] = true
			keyPaths(prefix+key+".", below, into)
		}
	case []any:
		for _, below := range v {
			keyPaths(prefix, below, into)
		}
	}
}

func TestKeysOfTheReportsAreStable(t *testing.T) {
	s, now := someSnapshot()
	s.Sources[0].KeyID, s.Sources[0].Interface = 5, "eth0"
	explain, err := ExplainReport(s, "")
	if err != nil {
		t.Fatal(err)
	}
	source := "address delay dynamic error filter filter.age filter.delay filter.error filter.offset frequency id idle interval jitter key " +
		"last_sample_age leap min_delay mode name nts offline offset poll reach reason reference_id root_delay root_dispersion samples state stratum timestamps weight"
	for what, c := range map[string]struct {
		report any
		below  string
		want   string
	}{
		"sources": {SourcesReport(s, now), "sources", source},
		"explain": {explain, "sources", "address checks checks.limit checks.name checks.passed checks.text checks.unit checks.value name reason state"},
		"associations": {AssociationsReport(s, now), "associations", "accepted address denied dynamic filter filter.age filter.delay filter.error filter.offset id interface interval key kisses kisses.RATE " +
			"last_packet_age mode name nts poll reach rejected rejected.bogus remote_mode remote_poll sent state stratum unanswered version"},
		"clients": {ClientsReport([]responder.ClientReport{{}}, responder.ClientTotals{}, true), "clients",
			"address drops hits interleaved interval last_seen mode poll signed version"},
		"serverstats": {ServerStats{Listeners: []Listener{{}}}, "listeners", "accepted address control denied dropped ignored interleaved nts_accepted nts_denied " +
			"nts_nak nts_rate_limited nts_received passed rate_limited received send_errors drops drops.overflow drops.stale drops.truncated drops.ignored_interface drops.overlong drops.unresolved receive_buffer receive_buffer_asked send_buffer"},
		"trace": {Trace{Steps: []TraceStep{{Name: "a", Error: "b"}}}, "steps",
			"address delay error leap name offset reference_id root_delay root_dispersion stratum"},
		"status": {map[string]any{"x": StatusReport(s, now, Daemon{Revision: "r", Configuration: "c", ReloadError: "e", Clock: "kernel",
			NotListening: []NotListening{{}}}).Daemon}, "x",
			"clock configuration not_listening not_listening.address not_listening.reason reload_error revision uptime version"},
		"tracking": {map[string]any{"x": TrackingReport(s, now)}, "x", "address disruptions error_bound estimated_error frequency frequency_error jitter last_step_age " +
			"last_update_age leap leap_pending offset panic_offset poll_interval precision reference_id reference_time rival root_delay root_dispersion " +
			"slew source state steps steps_total stratum synchronized tai updates"},
	} {
		found := map[string]bool{}
		keyPaths("", keysOf(t, c.report)[c.below], found)
		want := strings.Fields(c.want)
		for _, key := range want {
			if !found[key] {
				t.Errorf("%s: the key %q has gone", what, key)
			}
			delete(found, key)
		}
		for key := range found {
			t.Errorf("%s: the key %q is new; list it here if it shall stay", what, key)
		}
	}
}

// Before a packet was heard nobody knows the other side's mode.
func TestAssociationNeverHeardHasNoRemoteMode(t *testing.T) {
	now := ntptime.Instant{Raw: 2e9, Wall: 2e9}
	s := &model.Snapshot{At: now, Sources: []model.SourceReport{
		{SourceStatus: model.SourceStatus{Source: 1, Mode: wire.ModeClient}},
		{SourceStatus: model.SourceStatus{Source: 2, Mode: wire.ModeClient, RemoteMode: wire.ModeServer, LastPacket: ntptime.Instant{Raw: 1e9, Wall: 1e9}}},
	}}
	got := AssociationsReport(s, now).Associations
	if got[0].RemoteMode != "" || got[1].RemoteMode != "server" {
		t.Errorf("got %q and %q, want none and server", got[0].RemoteMode, got[1].RemoteMode)
	}
}
