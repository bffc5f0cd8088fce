package cli

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"timeball/internal/control"
)

// The keys that docs/commands.md names, and that scripts are written against.
func TestTheJSONOfReportsKeepsItsKeys(t *testing.T) {
	p := running(t)
	source := []string{"name:string", "address:string", "mode:string", "state:string", "reason:string", "stratum:number", "poll:number",
		"reach:number", "last_sample_age:number", "offset:number", "delay:number", "jitter:number", "error:number", "reference_id:string",
		"id:number", "interval:number", "min_delay:number", "weight:number", "frequency:number", "samples:number", "leap:string",
		"root_delay:number", "root_dispersion:number", "nts:bool", "dynamic:bool",
		"filter[].age:number", "filter[].offset:number", "filter[].delay:number", "filter[].error:number"}
	tracking := []string{"synchronized:bool", "state:string", "source:string", "address:string", "stratum:number", "reference_id:string",
		"reference_time:number", "leap:string", "offset:number", "error_bound:number", "estimated_error:number", "jitter:number",
		"frequency:number", "frequency_error:number", "slew:number", "root_delay:number", "root_dispersion:number", "precision:number",
		"poll_interval:number", "last_update_age:number", "updates:number", "steps:number", "steps_total:number", "panic_offset:number", "rival:bool", "disruptions:number",
		"tai:number", "leap_pending:number"}
	under := func(prefix string, keys []string) (list []string) {
		for _, k := range keys {
			list = append(list, prefix+k)
		}
		return list
	}
	for _, test := range []struct {
		host, command string
		want          []string
	}{
		{"client", "sources", under("sources[].", source)},
		{"client", "tracking", tracking},
		{"client", "status", slices.Concat(tracking, under("sources[].", source), []string{"daemon.version:string", "daemon.uptime:number", "daemon.clock:string"})},
		{"client", "explain", []string{"sources[].name:string", "sources[].address:string", "sources[].state:string", "sources[].reason:string",
			"sources[].checks[].name:string", "sources[].checks[].value:number", "sources[].checks[].limit:number", "sources[].checks[].unit:string",
			"sources[].checks[].passed:bool", "sources[].checks[].text:string"}},
		{"client", "associations", under("associations[].", []string{"id:number", "name:string", "address:string", "mode:string", "remote_mode:string",
			"dynamic:bool", "version:number", "reach:number", "poll:number", "remote_poll:number", "interval:number", "unanswered:number",
			"state:string", "filter[].age:number", "filter[].offset:number",
			"stratum:number", "last_packet_age:number", "sent:number", "accepted:number", "denied:bool"})},
		{"reference", "associations", []string{"associations[].interface:string", "associations[].sent:number"}},
		{"client", "trace", under("steps[].", []string{"address:string", "name:string", "stratum:number", "reference_id:string", "leap:string",
			"offset:number", "delay:number", "root_delay:number", "root_dispersion:number"})},
		{"reference", "serverstats", slices.Concat(under("listeners[].", []string{"address:string", "received:number", "accepted:number", "denied:number",
			"ignored:number", "rate_limited:number", "send_errors:number", "interleaved:number", "dropped:number",
			"drops.overflow:number", "drops.stale:number", "drops.truncated:number", "drops.ignored_interface:number", "drops.overlong:number"}), []string{"association_drops:number"},
			under("packets[].", []string{"mode:string", "version:number", "result:string", "count:number"}))},
		{"reference", "clients", slices.Concat([]string{"total:number", "limited:number", "signed:number", "private:bool"},
			under("clients[].", []string{"address:string", "last_seen:number", "interval:number", "hits:number", "drops:number", "version:number",
				"mode:string", "poll:number", "signed:bool", "interleaved:bool"}))},
	} {
		t.Run(test.host+" "+test.command, func(t *testing.T) {
			o := eventually(func(o outcome) bool { return o.status == 0 && missing(shape(t, o.stdout), test.want...) == nil },
				test.command, "--json", "--socket", p.socket(test.host))
			if o.status != 0 {
				t.Fatalf("got status %d, %s", o.status, o.stderr)
			}
			if lost := missing(shape(t, o.stdout), test.want...); lost != nil {
				t.Errorf("JSON lacks %v\nit has %v", lost, shape(t, o.stdout))
			}
		})
	}
}

func TestReportsForPeople(t *testing.T) {
	p := running(t)
	name := "reference (" + p.address + ")"
	for _, test := range []struct {
		host, args string
		want       []string
	}{
		{"client", "status", []string{"synchronized to " + name + ", stratum 2", "frequency", "timeball test", "* " + name}},
		{"client", "sources", []string{"SOURCE", "* " + name, "377", "selected"}[:2]},
		{"client", "sources -v", []string{"MODE", "client", "selected", "JITTER"}},
		{"client", "sources -v", []string{"reference id LOCL", "AGE"}},
		{"client", "tracking", []string{"Stratum", "Error bound", "TAI", "Frequency"}[:2]},
		{"client", "explain", []string{name + ": selected", "    ok  synchronized  stratum 1, not synchronized from 16 on\n", "limit 1.5 s\n"}},
		{"client", "explain " + p.address, []string{name}},
		{"client", "associations", []string{"reference ", "STATE", "selected", "ACCEPTED", "1 association\n"}},
		{"client", "associations -v", []string{"PEER POLL", "client, static, selected\n", "packets: ", "refused: ", "kiss codes: ", "AGE  OFFSET"}},
		{"reference", "associations -v", []string{"broadcast, static, sending\n", "one every 1s"}},
		{"reference", "associations", []string{"broadcast 127.255.255.255 lo", "sending"}},
		{"client", "trace", []string{p.address}},
		{"reference", "serverstats", []string{"ADDRESS", "RECEIVED", p.address, "client"}},
		{"client", "serverstats", []string{"no port is open"}},
		{"reference", "clients", []string{" within the last hour", "127.0.0.3"}},
		{"client", "clients", []string{"clients are not remembered"}},
		{"reference", "sources", []string{"no sources"}},
		{"reference", "trace", []string{"no system peer"}},
		{"reference", "status", []string{"serving the local clock (LOCL), stratum 1"}},
		{"reference", "explain", []string{"no sources"}},
	} {
		shown := func(o outcome) bool {
			return o.status == 0 && !slices.ContainsFunc(test.want, func(want string) bool { return !strings.Contains(o.stdout, want) })
		}
		o := eventually(shown, append(strings.Fields(test.args), "--socket", p.socket(test.host))...)
		if o.status != 0 {
			t.Errorf("%s %s: got status %d, %s", test.host, test.args, o.status, o.stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%s %s: got\n%s\nwant %q in it", test.host, test.args, o.stdout, want)
			}
		}
		for line := range strings.Lines(o.stdout) {
			if !strings.Contains(test.args, "-v") && utf8.RuneCountInString(line) > screenColumns+1 {
				t.Errorf("%s %s: a line is wider than %d columns: %q", test.host, test.args, screenColumns, line)
			}
			if strings.HasSuffix(line, " \n") {
				t.Errorf("%s %s: a line ends in blanks: %q", test.host, test.args, line)
			}
		}
	}
	run("explain", "nobody", "--socket", p.socket("client")).errorLine(t, 1, "nobody")
	run("clients", "--order", "beauty", "--socket", p.socket("reference")).errorLine(t, exitUsage, "beauty")
}

func TestWatchRedrawsUntilItIsInterrupted(t *testing.T) {
	p := running(t)
	r := report[control.Sources]{request: control.Request{Command: control.CommandSources},
		print: func(w2 io.Writer, s *control.Sources) error {
			return printSources(w2, s, false)
		}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out frames
	out.seen = func() {
		if strings.Count(out.String(), "SOURCE") == 2 {
			cancel() // as an interrupt would
		}
	}
	if err := r.repeat(ctx, &out, &reportFlags{socket: p.socket("client"), interval: 100 * time.Millisecond}); err != nil {
		t.Errorf("got %v, want nil: an interrupt is no error", err)
	}
	if frames := strings.Count(out.String(), clearScreen); frames != 2 {
		t.Errorf("got %d frames, want two", frames)
	}
}

// frames is a screen that tells of what is written to it.
type frames struct {
	bytes.Buffer
	seen func()
}

func (f *frames) Write(b []byte) (int, error) {
	defer f.seen()
	return f.Buffer.Write(b)
}

func TestHeadlines(t *testing.T) {
	for want, tracking := range map[string]control.Tracking{
		"NOT SYNCHRONIZED: a correction of +2000s":    {PanicOffset: 2000, State: "panic"},
		"NOT SYNCHRONIZED (unset)":                    {State: "unset"},
		"synchronized to 192.0.2.1, stratum 3":        {Synchronized: true, Source: "192.0.2.1", Address: "192.0.2.1:123", Stratum: 3},
		"holding over without a source, stratum 3":    {Synchronized: true, State: "holdover", Stratum: 3},
		"serving the local clock (LOCL), stratum 10":  {Synchronized: true, State: "local", ReferenceID: "LOCL", Stratum: 10},
		"synchronized to a.example (2001:db8::1), st": {Synchronized: true, Source: "a.example", Address: "[2001:db8::1]:123"},
	} {
		if got := headline(&tracking); !strings.HasPrefix(strings.ReplaceAll(got, "33m20s", "2000s"), want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestASourceWithoutASampleShowsNoZeros(t *testing.T) {
	var out bytes.Buffer
	silent := control.Source{Name: "a.example", Address: "192.0.2.1:123", State: "waiting", Stratum: 16, Reason: "waiting for its first answer: 3 polls unanswered"}
	if err := printSource(&out, &silent); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\na.example (192.0.2.1): not measured yet: waiting for its first answer: 3 polls unanswered\n"; got != want {
		t.Errorf("never heard: got %q, want %q", got, want)
	}
	out.Reset()
	heard := control.Source{Name: "192.0.2.1", Address: "192.0.2.1:123", State: "excluded", Stratum: 3, Reason: "a loop", ReferenceID: "192.0.2.9", Leap: "none", RootDelay: 0.001}
	if err := printSource(&out, &heard); err != nil {
		t.Fatal(err)
	}
	want := "\n192.0.2.1: not measured yet: a loop\n  reference id 192.0.2.9, leap none, root delay 1.000 ms, root dispersion 0 ns\n"
	if got := out.String(); got != want {
		t.Errorf("heard, but not measured: got %q, want %q", got, want)
	}
}

func TestAnAssociationInDetail(t *testing.T) {
	var out bytes.Buffer
	age := 3.0
	err := printAssociations(&out, &control.Associations{Associations: []control.Association{{
		Name: "a.example", Address: "192.0.2.1:123", Mode: "client", State: "falseticker", Interval: 0.125, Unanswered: 1, LastPacketAge: &age,
		Sent: 9, Accepted: 7, Rejected: map[string]uint64{"loop": 2, "bogus": 1}, Kisses: map[string]uint64{"DENY": 1}, Denied: true,
		Filter: []control.FilterSample{{Age: 3, Offset: -0.25, Delay: 0.002, Error: 0.001}},
	}}}, true)
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(out.String(), "\n\n")
	want := `a.example (192.0.2.1): client, static, falseticker
  packets: 9 sent, 7 accepted, the last 3s ago; polled every 125ms, 1 poll unanswered since
  refused: bogus 1, loop 2; kiss codes: DENY 1; it wants no packets, none are sent
  AGE  OFFSET       ERROR       DELAY
  3s   -250.000 ms  ± 1.000 ms  2.000 ms
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Only who has lost something, for want of what the limit forbids, is told to raise it.
func TestServerStatsSayWhenTheBufferIsTooSmall(t *testing.T) {
	const advice = "192.0.2.1:123 overflows in bursts: its receive buffer has 208 KiB, because net.core.rmem_max allows no more;\n" +
		"set that to 1048576 and restart"
	for _, test := range []struct {
		name           string
		overflow       uint64
		granted, asked int
		want           bool
	}{
		{"lost, and less granted than asked for", 7, 212992, 1 << 20, true},
		{"lost in spite of all we asked for", 7, 1 << 20, 1 << 20, false},
		{"nothing lost", 0, 212992, 1 << 20, false},
		{"lost, and the kernel does not tell", 7, 0, 1 << 20, false},
	} {
		s := control.ServerStats{Listeners: []control.Listener{{Address: "192.0.2.1:123", Drops: control.Drops{Overflow: test.overflow},
			ReceiveBuffer: test.granted, ReceiveBufferAsked: test.asked}}}
		var out bytes.Buffer
		if err := printServerStats(&out, &s); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), advice); got != test.want {
			t.Errorf("%s: got the advice %v, want %v, in\n%s", test.name, got, test.want, out.String())
		}
	}
}

func TestServerStatsListWhatWasDropped(t *testing.T) {
	var out bytes.Buffer
	s := control.ServerStats{Listeners: []control.Listener{{Address: "192.0.2.1:123"}, {Address: "192.0.2.2:123"}}}
	if err := printServerStats(&out, &s); err != nil || strings.Contains(out.String(), "REASON") {
		t.Errorf("nothing dropped: got %v and\n%s\nwant no table of it", err, out.String())
	}
	out.Reset()
	s.Listeners[1].Drops = control.Drops{Overflow: 1, Stale: 2, Truncated: 3, IgnoredInterface: 4, Overlong: 5}
	s.AssociationDrops = 6
	if err := printServerStats(&out, &s); err != nil {
		t.Fatal(err)
	}
	want := `
DROPPED AT     REASON             PACKETS
192.0.2.2:123  overflow           1
192.0.2.2:123  stale              2
192.0.2.2:123  truncated          3
192.0.2.2:123  ignored interface  4
192.0.2.2:123  overlong           5
associations   no room            6
`
	if got := out.String(); !strings.Contains(squeeze(got), squeeze(want)) {
		t.Errorf("got\n%s\nwant in it%s", got, want)
	}
}

// squeeze makes one blank of each run of them: columns are as wide as the whole table needs.
func squeeze(text string) string { return regexp.MustCompile(` +`).ReplaceAllString(text, " ") }

func TestAnAddressThatIsNotServedIsNamed(t *testing.T) {
	list := []control.NotListening{{Address: "192.0.2.1:123", Reason: "it is not there"}}
	const want = "NOTHING IS SERVED AT 192.0.2.1:123: it is not there\n"
	var status, stats bytes.Buffer
	if err := printStatus(&status, &control.Status{Daemon: control.Daemon{NotListening: list}}); err != nil || !strings.Contains(status.String(), want) {
		t.Errorf("status: got %v,\n%s\nwant %q in it", err, status.String(), want)
	}
	if err := printServerStats(&stats, &control.ServerStats{NotListening: list}); err != nil || !strings.HasPrefix(stats.String(), want) {
		t.Errorf("serverstats: got %v,\n%s\nwant %q first", err, stats.String(), want)
	}
	if strings.Contains(stats.String(), "no port is open") {
		t.Error("serverstats says that there is no server section")
	}
}

func TestAChainThatEndsEarlySaysWhy(t *testing.T) {
	var out bytes.Buffer
	if err := printTrace(&out, &control.Trace{Steps: []control.TraceStep{{Stratum: 16, Error: "a digest"}}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); !slices.Equal(strings.Fields(lines[1]), []string{"?", "?", "a", "digest"}) {
		t.Errorf("got %q, want a step without an address", lines[1])
	}
}
