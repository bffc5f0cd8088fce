package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"timeball/internal/scenario"
)

// quietRecord is an hour of exchanges every 16 s over a path without jitter, 100 µs each
// way, by an oscillator that is 30 ms behind and 20 ppm slow.
func quietRecord(truth bool) string { return recordWrongBy(truth, 0) }

// recordWrongBy is that record with a truth that is wrong by some seconds.
func recordWrongBy(truth bool, wrong float64) string {
	var b strings.Builder
	b.WriteString("t1,t2,t3,t4,true_offset\n")
	for t := 1.0; t < 3600; t += 16 {
		offset := 0.03 + 20e-6*t
		given := ""
		if truth {
			given = fmt.Sprintf("%.9f", offset+wrong)
		}
		fmt.Fprintf(&b, "%.9f,%.9f,%.9f,%.9f,%s\n", t-1e-4, t+offset, t+offset, t+1e-4, given)
	}
	return b.String()
}

func play(t *testing.T, record, text string) *Result {
	t.Helper()
	s, err := scenario.Load(writeScenario(t, record, text))
	if err != nil {
		t.Fatal(err)
	}
	result, err := Run(context.Background(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

const playIt = "settle: 300s\nhosts: {client: {config: {sources: [{replay: record.csv, min_poll: 4, max_poll: 4}]}}}\n"

func TestReplayIsJudgedByTheRecordsTruth(t *testing.T) {
	result := play(t, quietRecord(true), playIt)
	f := &result.Hosts[0].Median
	if f.RMSError > 1e-6 || math.Abs(f.MeanError) > 1e-6 || f.BoundCoverage != 1 || !(f.MeanErrorBound < 200e-6) || f.PacketsSentPerHour != 0 {
		t.Errorf("got %+v, want the truth to a microsecond, and no packet sent", f)
	}
	if plain := result.Hosts[0].Plain; plain.RMSError > 1e-8 {
		t.Errorf("a path without jitter: got %+v of the least delay of eight, want no error", plain)
	}
	if final := result.Hosts[0].Runs[0].Final; !final.Synchronized || final.Stratum != 2 || final.Sources[0].Name != "record.csv" {
		t.Errorf("got %+v, want a host that is synchronized to its record", final)
	}
}

// A truth that is wrong by 1 ms shows in every figure: nothing of it is the filter's own opinion.
func TestReplayTakesTheTruthFromTheRecordAlone(t *testing.T) {
	f := play(t, recordWrongBy(true, 0.1), playIt).Hosts[0].Median
	if math.Abs(f.MeanError+0.1) > 1e-3 || f.BoundCoverage != 0 {
		t.Errorf("got mean error %v and coverage %v, want -0.1 s and 0", f.MeanError, f.BoundCoverage)
	}
}

func TestReplayWithoutTheTruthKnowsNoError(t *testing.T) {
	result := play(t, quietRecord(false), playIt)
	f := &result.Hosts[0].Median
	if !math.IsNaN(f.RMSError) || !math.IsNaN(f.BoundCoverage) || !(f.MeanErrorBound < 200e-6) {
		t.Errorf("got %+v, want a bound and no error", f)
	}
	var report bytes.Buffer
	if err := result.WriteJSON(&report); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Hosts map[string]map[string]any
	}
	if err := json.Unmarshal(report.Bytes(), &got); err != nil || got.Hosts["client"]["rms_error"] != nil {
		t.Errorf("got %v, %v, want null", got.Hosts["client"]["rms_error"], err)
	}
}

func TestReplayStandsBesideOtherSources(t *testing.T) {
	result := play(t, quietRecord(false), `
duration: 2000s
hosts:
  server: {config: {local: {stratum: 1}, server: {}}}
  client: {config: {sources: [{replay: record.csv, no_select: true}, {server: server}]}}
links: [{between: [server, client], delay: 1ms}]
`)
	sources := result.Hosts[1].Runs[0].Final.Sources
	if len(sources) != 2 || sources[0].State.String() != "selected" || sources[1].State.String() != "excluded" || sources[1].Samples < 100 {
		t.Errorf("got %+v, want the server selected and the record watched", sources)
	}
}

func TestFaultyReplaysHaveTheirPlace(t *testing.T) {
	for _, c := range []struct{ scenario, want string }{
		{"hosts: {client: {config: {sources: [{replay: nowhere.csv}]}}}", "scenario.yaml:1:46: hosts.client.config.sources.replay: "},
		{"hosts: {client: {config: {sources: [{replay: record.csv, from: there}]}}}", "has no exchange with there"},
		{"hosts: {client: {clock: {frequency: 1ppm}, config: {sources: [{replay: record.csv}]}}}", "has the oscillator of its record"},
		{"hosts: {client: {config: {sources: [{replay: record.csv, min_pol: 4}]}}}", "min_pol"},
		{"hosts: {client: {config: {sources: [{replay: [a]}]}}}", "wants the name of a file"},
	} {
		_, err := scenario.Load(writeScenario(t, quietRecord(true), c.scenario))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.scenario, err, c.want)
		}
	}
}

// writeScenario puts a record and a scenario that plays it into a directory.
func writeScenario(t *testing.T, record, scenario string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"record.csv": record, "scenario.yaml": scenario} { //order: files of their own
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "scenario.yaml")
}
