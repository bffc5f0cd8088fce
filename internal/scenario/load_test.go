package scenario

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/internal/ntptime"
)

const small = `duration: 20000s
settle: 10000s
hosts:
  reference:
    clock: {}
    config: {local: {stratum: 1}, server: {}}
  client:
    clock: {offset: 100ms, frequency: 50ppm, wander: 1e-9, sine: {amplitude: 0.1ppm, period: 3600s}}
    turnaround: 20us
    config: {sources: [{server: reference, min_poll: 6, max_poll: 10}]}
links:
  - between: [client, reference]
    delay: 100us
    jitter: {distribution: exponential, mean: 10us}
    backward: {loss: 0.2}
  - between: [client, reference]
    interval: [25000s, 28600s]
    backward: {delay: 5.1ms}
events:
  - {at: 6000s, host: client, stop: true}
  - {at: 5000s, host: client, frequency_step: 5ppm}
  - {at: 7000s, host: client, start: {keep_drift: true, offset: 2s}}
expect:
  - {host: client, rms_error: 20us, steps: [0, 1], stratum: 2, synchronized: true, sources: {reference: selected}}
`

func parse(t *testing.T, text string) *Scenario {
	t.Helper()
	s, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScenarioIsReadWithItsDefaults(t *testing.T) {
	s := parse(t, small)
	if s.Runs != 1 || s.Seed != 1 || s.ConvergedBelow != time.Millisecond || s.Start != DefaultStart {
		t.Errorf("got runs %d, seed %d, threshold %v, start %v; want the defaults", s.Runs, s.Seed, s.ConvergedBelow, s.Start.Time())
	}
	if len(s.Hosts) != 2 || s.Hosts[0].Name != "reference" || s.Hosts[1].Name != "client" {
		t.Fatalf("got hosts %v, want them in the file's order", s.Hosts)
	}
	want := Clock{Offset: 100 * time.Millisecond, Frequency: 50 * ntptime.PPM, Wander: 1e-9,
		Sine: Sine{Amplitude: 1e-7, Period: time.Hour}}
	if got := s.Hosts[1].Clock; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) { // to the printed digits
		t.Errorf("got clock %+v, want %+v", got, want)
	}
	if !s.Hosts[0].Clock.Perfect() || s.Hosts[1].Clock.Perfect() {
		t.Error("the reference's clock and no other is perfect")
	}
	if got := s.Hosts[1].Config.Sources[0]; got.Host != "reference" || got.MinPoll != 6 {
		t.Errorf("got source %+v, want one that asks the reference", got)
	}
}

func TestEventsAreInOrderOfTime(t *testing.T) {
	s := parse(t, small)
	kinds := []EventKind{FrequencyStep, Stop, Start}
	for i, want := range kinds {
		if got := s.Events[i].Kind; got != want {
			t.Errorf("event %d: got %s, want %s", i, got, want)
		}
	}
	if boot := s.Events[2].Reboot; boot == nil || !boot.KeepDrift || boot.Offset != 2*time.Second {
		t.Errorf("got %+v, want a reboot that keeps the drift", boot)
	}
}

func TestWrongScenariosAreToldWithTheirPlace(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"an empty file", "", "test.yaml:1:1: is empty"},
		{"not YAML", "a: [", "test.yaml:"},
		{"an unknown key", "duraton: 5s\nhosts: {a: {}}", "test.yaml:1:1: duraton: is no key of a scenario here; did you mean duration?"},
		{"a doubled key", "duration: 5s\nduration: 6s\nhosts: {a: {}}", "test.yaml:2:1: duration: is given twice, first on line 1"},
		{"no hosts", "duration: 5s", "hosts: is missing"},
		{"no duration", "hosts: {a: {}}", "duration: is missing"},
		{"a duration without unit", "duration: 500\nhosts: {a: {}}", "test.yaml:1:11: duration: \"500\" has no unit"},
		{"settling longer than the run", "duration: 5s\nsettle: 5s\nhosts: {a: {}}", "settle: leaves nothing"},
		{"a name that is no host's", "duration: 5s\nhosts:\n  client: {}\nlinks:\n  - {between: [client, refrence], delay: 1ms}", `"refrence" is no host of this scenario`},
		{"a source that is no host", "duration: 5s\nhosts:\n  client: {config: {sources: [{server: client2}]}}", `test.yaml:3:3: hosts.client.config.sources[0]: "client2" is no host of this scenario; did you mean client?`},
		{"a mistake in a configuration", "duration: 5s\nhosts:\n  a:\n    config:\n      sorces: []", "test.yaml:5:7: hosts.a.config.sorces: unknown key; did you mean sources?"},
		{"an unknown distribution", "duration: 5s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], jitter: {distribution: exponental, mean: 1us}}]", "did you mean exponential?"},
		{"a distribution without its mean", "duration: 5s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], jitter: {distribution: exponential}}]", "write {distribution: exponential, mean: 10us}"},
		{"a loss above one", "duration: 5s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], loss: 1.5}]", "1.5 is out of range"},
		{"an interval that ends before it begins", "duration: 5s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], interval: [5s, 4s]}]", "ends before it begins"},
		{"a period without interval", "duration: 5s\nhosts: {a: {}, b: {}}\nlinks: [{between: [a, b], period: 5s}]", "has a period and no interval"},
		{"an event that is nothing", "duration: 5s\nhosts: {a: {}}\nevents: [{at: 1s, host: a}]", "says not what happens"},
		{"an event that is two things", "duration: 5s\nhosts: {a: {}}\nevents: [{at: 1s, host: a, stop: true, offset_step: 1s}]", "stands beside stop"},
		{"a state that is none", "duration: 5s\nhosts: {a: {}, b: {}}\nexpect: [{host: a, sources: {b: falsticker}}]", "did you mean falseticker?"},
		{"runs that are neither", "duration: 5s\nhosts: {a: {}}\nexpect: [{host: a, runs: all}]", `"all" is neither median nor every`},
		{"a leap second at noon", "duration: 5s\nhosts: {a: {}}\nleap: {at: 2027-01-01T12:00:00Z}", "is not the end of a day"},
		{"a list where a mapping is wanted", "duration: 5s\nhosts: [a]", "test.yaml:2:8: hosts: wants a mapping, not a list"},
		{"a number as text", "duration: 5s\nruns: \"5\"\nhosts: {a: {}}", "test.yaml:2:7: runs: is text; write 5 without quotes"},
		{"a tag", "duration: !!str 5s\nhosts: {a: {}}", "has the YAML tag !!str; leave tags out"},
		{"a merge key", "<<: {duration: 5s}\nhosts: {a: {}}", "merge keys (<<) are not supported"},
		{"another word for true", "duration: 5s\nhosts: {a: {}}\nevents: [{at: 1s, host: a, stop: yes}]", "is not true or false; write true"},
		{"a list in place of all", "[1, 2]", "test.yaml:1:1: is no scenario"},
		{"two documents", "duration: 5s\nhosts: {a: {}}\n---\nduration: 6s", "a second YAML document begins here"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(c.text))
			var problems config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got error %v, want problems with their place", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to hold %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("duration: 5s\nhosts: {a: {clock: {sine: {}}}}\nlinks: [{between: [a]}]"))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz.yaml", data)
		if (s == nil) == (err == nil) {
			t.Fatalf("got scenario %v and error %v, want exactly one", s, err)
		}
		if s != nil && (len(s.Hosts) == 0 || s.Duration <= s.Settle) {
			t.Errorf("got a scenario that cannot run: %+v", s)
		}
	})
}
