package daemon

import (
	"fmt"
	"strings"
	"testing"

	"timeball/test/peers"
)

// A change that waits for the next start is told; going back to what runs is none.
func TestGoingBackToTheFileThatRunsNeedsNoStart(t *testing.T) {
	const first, other = "clock: {driver: virtual}\nlocal: {stratum: 3}\n", "clock: {driver: virtual}\nlocal: {stratum: 3}\nlog: {format: json}\n"
	d := start(t, first)
	d.Reload(other)
	const words = "takes effect at the next start"
	d.until("the change is told", func() bool { return d.Said(words) == 1 })
	d.Reload(first)
	if said := d.Said(words); said != 1 {
		t.Errorf("got %d lines on changes that wait, want 1: what is read now is what runs", said)
	}
	if out, _, err := d.Run("reload", "--plan"); err != nil || strings.Contains(out, "log.format") {
		t.Errorf("reload --plan: got %v and %q, want nothing that waits", err, out)
	}
}

// The line, the exit status and the data of a monitoring plugin.
func TestHealthJudgesAsMonitoringPluginsDo(t *testing.T) {
	good := start(t, "clock: {driver: virtual}\nsources: [{server: \""+falseServer(t, func(_, r []byte) []byte { return r }).String()+"\", min_poll: -3, max_poll: -3}]\n")
	bad := start(t, "clock: {driver: virtual}\nsources: [{server: \""+falseServer(t, func(_, _ []byte) []byte { return nil }).String()+"\", min_poll: -3, max_poll: -3}]\n")
	local := start(t, "clock: {driver: virtual}\nlocal: {stratum: 3}\n")
	good.until("it is synchronized", good.synchronized)
	local.until("it serves its clock", local.synchronized)
	for _, test := range []struct {
		name   string
		d      *daemon
		args   string
		status int
		want   []string
	}{
		{"well", good, "", 0, []string{"TIMEBALL OK - ", "synchronized to", " | offset=", "error_bound=", ";0.05;1;0", "stratum=2", "sources=1"}},
		{"a bound above the warning", good, "--warning 1ns --critical 10s", 1, []string{"TIMEBALL WARNING - ", "error bound"}},
		{"a bound above both", good, "-w 1ns -c 1ns", 2, []string{"TIMEBALL CRITICAL - ", "error bound"}},
		{"too few sources", good, "--warning-sources 2", 1, []string{"1 source in use, fewer than 2", "sources=1;2:;;0"}},
		{"far too few sources", good, "--critical-sources 2", 2, []string{"fewer than 2"}},
		{"not synchronized", bad, "", 2, []string{"TIMEBALL CRITICAL - ", "not synchronized", "waiting", "error_bound=U"}},
		{"the local clock", local, "", 1, []string{"TIMEBALL WARNING - ", "local clock", "not known"}},
		{"wrong usage", good, "--warning x", 3, []string{"TIMEBALL UNKNOWN - "}},
		{"a negative number", good, "--warning-sources -1", 3, []string{"TIMEBALL UNKNOWN - ", "0 or more"}},
		{"wrong arguments", good, "extra", 3, []string{"TIMEBALL UNKNOWN - "}},
		{"nobody there", good, "--socket /nonexistent/socket", 3, []string{"TIMEBALL UNKNOWN - ", "no timeball answers"}},
	} {
		// A source may be lost for a moment where the machine stands still.
		peers.Eventually(t, patience, test.name, func() error {
			out, _, err := test.d.Run(append([]string{"health"}, strings.Fields(test.args)...)...)
			if status := exitStatus(err); status != test.status || !hasAll(out, test.want) || strings.Count(out, "\n") != 1 {
				return fmt.Errorf("got status %d and %q, want %d and one line with %q", status, out, test.status, test.want)
			}
			return nil
		})
	}
}

// history prints what is remembered, for people, for programs and as a picture.
func TestHistoryPrintsAndDraws(t *testing.T) {
	d := start(t, "clock: {driver: virtual}\nsources: [{server: \""+falseServer(t, func(_, r []byte) []byte { return r }).String()+"\", min_poll: -3, max_poll: -3}]\n")
	d.until("there is a point with the source", func() bool {
		var answer struct {
			Span    string
			Points  []struct{ Synchronized bool }
			Sources []struct{ Name string }
		}
		err := d.Report(&answer, "history")
		return err == nil && answer.Span == "hour" && len(answer.Points) > 0 && len(answer.Sources) == 1
	})
	for _, span := range []string{"hour", "day", "week"} {
		if out, _, err := d.Run("history", "--span", span); err != nil || !hasAll(out, []string{"OFFSET", "BOUND", "ppm"}) {
			t.Errorf("%s: got %v and %q, want a table", span, err, out)
		}
	}
	picture := d.Host.Dir + "/past.svg"
	if _, said, err := d.Run("history", "--svg", picture); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if _, _, err := d.Run("history", "--span", "year"); exitStatus(err) != 64 {
		t.Errorf("a span that is not: got %v, want 64", err)
	}
}
