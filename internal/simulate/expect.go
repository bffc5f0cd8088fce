package simulate

import (
	"fmt"
	"slices"
	"strings"

	"timeball/internal/scenario"
	"timeball/internal/wire"
)

// Violations says in words which expectations do not hold, in the file's order.
func (r *Result) Violations() []string {
	var found []string
	used := map[string]int{}
	for i := range r.Scenario.Expect {
		e := &r.Scenario.Expect[i]
		for j := range r.Hosts {
			if h := &r.Hosts[j]; h.Name == e.Host {
				window := -1
				if e.To != 0 {
					window = used[e.Host]
					used[e.Host]++
				}
				found = append(found, compareFigures(e, h, window)...)
				found = append(found, compareStates(e, h)...)
			}
		}
	}
	return found
}

// in gives the figures of the n-th interval that `expect:` has for the host, of the
// whole run where n is negative.
func (r *RunResult) in(n int) Figures {
	if n < 0 {
		return r.Figures
	}
	return r.windows[n]
}

// compareFigures holds the figures of a window against their ranges, the medians or
// those of every run.
func compareFigures(e *scenario.Expectation, h *HostResult, window int) []string {
	all := make([]Figures, len(h.Runs))
	for i := range h.Runs {
		all[i] = h.Runs[i].in(window)
	}
	if !e.Every {
		middle := median(all)
		return compare(e, &middle, "")
	}
	var found []string
	for i := range all {
		found = append(found, compare(e, &all[i], fmt.Sprintf(" with seed %d", h.Runs[i].Seed))...)
	}
	return found
}

// compare holds figures against their ranges.
func compare(e *scenario.Expectation, f *Figures, when string) []string {
	var found []string
	if e.To != 0 {
		when += fmt.Sprintf(" from %s to %s", formatSpan(e.From), formatSpan(e.To))
	}
	for i := range e.Figures {
		want := &e.Figures[i]
		if got := f.get(want.Figure); !want.Range.Holds(got) {
			found = append(found, fmt.Sprintf("%s: %s%s: got %s, want %s", e.Host, want.Figure, when, want.Range.Format(got), want.Range))
		}
	}
	return found
}

// compareStates holds the state at the end of every run against what is expected.
// What is the same in several runs is said once.
func compareStates(e *scenario.Expectation, h *HostResult) []string {
	var found []string
	runs := map[string]int{}
	report := func(what string, got, want any) {
		text := fmt.Sprintf("%s: %s at the end: got %v, want %v", e.Host, what, got, want)
		if runs[text]++; runs[text] == 1 {
			found = append(found, text)
		}
	}
	for i := range h.Runs {
		run := &h.Runs[i]
		synchronized, stratum := false, uint8(wire.MaxStratum)
		if run.Final != nil {
			synchronized, stratum = run.Final.Synchronized, run.Final.Stratum
		}
		if e.Synchronized != nil && synchronized != *e.Synchronized {
			report("synchronized", synchronized, *e.Synchronized)
		}
		if e.Stratum != nil && stratum != *e.Stratum {
			report("stratum", stratum, *e.Stratum)
		}
		for _, source := range e.Sources {
			if got := run.states[source.Source]; !slices.Contains(source.States, got) {
				report("source "+source.Source, orNone(got), strings.Join(source.States, " or "))
			}
		}
	}
	for i, text := range found {
		found[i] = fmt.Sprintf("%s (%d of %d runs)", text, runs[text], len(h.Runs))
	}
	return found
}

func orNone(state string) string {
	if state == "" {
		return "none"
	}
	return state
}
