package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
)

// network4 has something of everything: servers, a falseticker, a peer, loss, events.
const network4 = `duration: 4000s
settle: 1000s
runs: 3
hosts:
  good: {config: {local: {stratum: 1}, server: {}}}
  bad: {clock: {offset: 200ms}, config: {local: {stratum: 1}, server: {}}}
  better: {config: {local: {stratum: 1}, server: {}}}
  client:
    clock: {offset: 10ms, frequency: 10ppm, wander: 1e-9, read_noise: 100ns}
    turnaround: 30us
    config:
      sources: [{server: good, min_poll: 4, max_poll: 4}, {server: bad, min_poll: 4, max_poll: 4}, {server: better, min_poll: 4, max_poll: 4}]
      server: {}
  leaf:
    clock: {offset: -1ms, frequency: -3ppm, wander: 1e-9}
    config: {sources: [{server: client, min_poll: 4, max_poll: 4}]}
links:
  - {between: [client, good], delay: 1ms, loss: 0.1, jitter: {distribution: gamma, mean: 100us, shape: 2}}
  - {between: [client, bad], delay: 1ms}
  - {between: [client, better], delay: 2ms, jitter: {distribution: exponential, mean: 10us}}
  - {between: [leaf, client], delay: 100us, jitter: {distribution: uniform, from: 1us, to: 20us}}
events:
  - {at: 2000s, host: leaf, frequency_step: 1ppm}
  - {at: 2500s, host: leaf, stop: true}
  - {at: 2600s, host: leaf, start: {keep_drift: true, offset: 100ms}}
expect:
  - {host: client, synchronized: true, stratum: 2, sources: {bad: falseticker, good: [selected, combined], better: [selected, combined]}}
  - {host: leaf, synchronized: true, stratum: 3}
`

// written is everything that a result can be written as.
func written(t *testing.T, r *Result) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name, write := range map[string]func(io.Writer) error{
		"table": r.WriteTable, "json": r.WriteJSON, "csv": r.WriteCSV, "svg": r.WriteSVG,
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = out.String()
	}
	return all
}

func simulated(t *testing.T, text string, o Options) *Result {
	t.Helper()
	r, err := Run(context.Background(), parse(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSameFileAndSeedGiveTheSameBytes(t *testing.T) {
	once := written(t, simulated(t, network4, Options{Parallel: 1, Series: true}))
	again := written(t, simulated(t, network4, Options{Parallel: 3, Series: true}))
	for name := range once {
		if once[name] != again[name] {
			t.Errorf("%s: got other bytes the second time, on three cores", name)
		}
	}
	other := written(t, simulated(t, "seed: 2\n"+network4, Options{Series: true}))
	for name := range once {
		if name != "table" && once[name] == other[name] {
			t.Errorf("%s: got the same bytes with another seed", name)
		}
	}
}

func TestAnotherHostDoesNotShiftWhatIsDrawnForTheFirst(t *testing.T) {
	more := strings.Replace(network4, "links:", "  bystander: {clock: {wander: 1e-8}, config: {sources: [{server: good}]}}\nlinks:\n  - {between: [bystander, good], delay: 1ms, jitter: {distribution: exponential, mean: 1ms}}", 1)
	a := simulated(t, network4, Options{Series: true})
	b := simulated(t, more, Options{Series: true})
	for k, x := range a.Hosts[3].Runs[0].series {
		if y := b.Hosts[3].Runs[0].series[k]; x != y {
			t.Fatalf("second %d: got error %v, want %v as without the bystander", k, y, x)
		}
	}
}

func TestExpectationsHoldInAWholeNetwork(t *testing.T) {
	r := simulated(t, network4, Options{})
	for _, violation := range r.Violations() {
		t.Error(violation)
	}
	if got := r.Hosts[3].Median.RMSError; got > 200e-6 {
		t.Errorf("got RMS error %v, want the falseticker ignored", got)
	}
}

func TestViolationsSayWhatWasExpected(t *testing.T) {
	text := strings.Replace(network4, "expect:", "expect:\n  - {host: client, runs: every, p95_error: 1ns}\n  - {host: client, rms_error: 1ns, interval: [1500s, 2000s], steps: [3, 4], stratum: 7, synchronized: false, bound_coverage: 2, sources: {good: outlier}}", 1)
	got := strings.Join(simulated(t, text, Options{}).Violations(), "\n")
	for _, want := range []string{
		"client: p95_error with seed 1: got ", "client: p95_error with seed 3: got ",
		"client: rms_error from 1500s to 2000s: got ", "want at most 1 ns", "steps from 1500s to 2000s: got 0, want 3 to 4",
		"bound_coverage from 1500s to 2000s: got 1, want at least 2",
		"stratum at the end: got 2, want 7 (3 of 3 runs)", "synchronized at the end: got true, want false (3 of 3 runs)",
		"source good at the end: got ", "want outlier (",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant it to hold %q", got, want)
		}
	}
}

func TestJSONHasTheKeysOfTheContract(t *testing.T) {
	text := strings.Replace(network4, "runs: 3", "runs: 2\nconverged_below: 1ns", 1)
	var out bytes.Buffer
	if err := simulated(t, text, Options{}).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var report struct {
		Hosts map[string]map[string]any `json:"hosts"`
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	client := report.Hosts["client"]
	for _, key := range []string{"rms_error", "p95_error", "max_error", "rms_frequency_error", "packets_sent_per_hour", "steps"} {
		if _, isNumber := client[key].(float64); !isNumber {
			t.Errorf("%s: got %v, want a number", key, client[key])
		}
	}
	if value, has := client["convergence"]; !has || value != nil {
		t.Errorf("convergence: got %v, want null, for never", value)
	}
	runs, _ := client["runs"].([]any)
	if len(runs) != 2 {
		t.Fatalf("got %d runs, want 2", len(runs))
	}
	second := runs[1].(map[string]any)
	if second["seed"] != 2.0 || second["stratum"] != 2.0 || second["rms_error"] == nil {
		t.Errorf("got run %v, want seed 2, stratum 2 and its figures", second)
	}
}

func TestCSVHasARowForEachSecondAndRun(t *testing.T) {
	r := simulated(t, network4, Options{Series: true})
	lines := strings.Split(strings.TrimSpace(written(t, r)["csv"]), "\n")
	if lines[0] != "seed,time,good,bad,better,client,leaf" {
		t.Errorf("got header %q", lines[0])
	}
	if got := len(lines) - 1; got != 3*4001 {
		t.Errorf("got %d rows, want 3 runs of 4001 seconds", got)
	}
	if !strings.HasPrefix(lines[1], "1,0,0.000000e+00,-2.000000e-01,") {
		t.Errorf("got first row %q, want the bad server 200 ms behind", lines[1])
	}
	if !strings.HasPrefix(lines[len(lines)-1], "3,4000,") {
		t.Errorf("got last row %q, want seed 3 at 4000 s", lines[len(lines)-1])
	}
}

func TestRunIsInterruptedByItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := parse(t, strings.Replace(network4, "duration: 4000s", "duration: 400000000s", 1))
	_, err := Run(ctx, s, Options{Progress: func(float64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the interruption", err)
	}
}

func TestProgressEndsAtOne(t *testing.T) {
	last := -1.0
	simulated(t, network4, Options{Progress: func(share float64) {
		if share < last {
			t.Errorf("got %v after %v", share, last)
		}
		last = share
	}})
	if math.Abs(last-1) > 1e-9 {
		t.Errorf("got %v at the end, want 1", last)
	}
}

func TestWhatIsNotSimulatedIsToldBeforehand(t *testing.T) {
	for _, c := range []struct{ name, sources, want string }{
		{"a reference clock", "[{refclock: {driver: shm, unit: 0, refid: GPS}}]", "there is no device for it; add {refid: GPS}"},
		{"no way to a source", "[{server: c}]", "there is no way from a to c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := parse(t, "duration: 10s\nhosts:\n  a: {config: {sources: "+c.sources+"}}\n  b: {}\n  c: {}\nlinks: [{between: [b, a]}]")
			_, err := Run(context.Background(), s, Options{})
			var problems config.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) || problems[0].Line != 3 {
				t.Errorf("got %v, want %q at line 3", err, c.want)
			}
		})
	}
}

func TestConvergedTakesAnyThresholdAfterwards(t *testing.T) {
	r := figuresOf(t, "duration: 4000s\nhosts: {a: {clock: {offset: 1ms, frequency: 1ppm}}}", idleHosts)
	for below, want := range map[time.Duration]float64{2 * time.Millisecond: 0, 500 * time.Microsecond: math.Inf(1)} {
		if got := r.Hosts[0].Converged(below); got != want {
			t.Errorf("below %v: got %v, want %v", below, got, want)
		}
	}
}
