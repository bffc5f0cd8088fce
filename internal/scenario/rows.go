package scenario

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
)

// event reads one row of `events:`: when, to whom, and exactly one thing.
func (r *reader) event(n *yaml.Node, path string) Event {
	var e Event
	given := map[string]bool{}
	note := func(name string, read func(*yaml.Node, string)) field {
		return field{name, func(n *yaml.Node, path string) { given[name] = true; read(n, path) }}
	}
	what := func(kind EventKind, read func(*yaml.Node, string)) field {
		return field{string(kind), func(n *yaml.Node, path string) {
			if e.Kind != "" {
				r.Fail(n, path, "stands beside %s; write a row for each", e.Kind)
			}
			e.Kind = kind
			read(n, path)
		}}
	}
	r.mapping(n, path, []field{
		note("at", r.duration(&e.At, 0, maxDuration)),
		note("host", r.words(&e.Host, "the name of a host", "client")),
		what(FrequencyStep, r.frequency(&e.Frequency, 0.01)),
		what(OffsetStep, r.duration(&e.Value, -maxDuration, maxDuration)),
		what(WanderChange, r.number(&e.Wander, 0, 1e-3)),
		what(Suspend, r.duration(&e.Value, time.Millisecond, maxDuration)),
		what(Stop, r.plain),
		what(Reload, func(n *yaml.Node, path string) { e.Config = r.configuration(n, path) }),
		what(Start, func(n *yaml.Node, path string) { e.Reboot = r.reboot(n, path) }),
	})
	if e.Kind == "" {
		r.Fail(n, path, "says not what happens; write one of frequency_step, offset_step, wander, suspend, stop, start, reload")
	}
	if !given["at"] || !given["host"] {
		r.Fail(n, path, "has no \"at\" or no \"host\"; write {at: 5000s, host: client, ...}")
	}
	return e
}

// plain reads the value of a key that needs none: true, or nothing.
func (r *reader) plain(n *yaml.Node, path string) {
	if config.Null(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		return
	}
	if value, ok := r.Boolean(n, path); ok && !value {
		r.Fail(n, path, "false has no meaning; leave the row out")
	}
}

// reboot reads what `start:` says of a reboot: {keep_drift: true, offset: 2s}.
func (r *reader) reboot(n *yaml.Node, path string) *Reboot {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		r.plain(n, path)
		return nil
	}
	boot := &Reboot{}
	r.mapping(n, path, []field{
		{"keep_drift", func(n *yaml.Node, path string) { boot.KeepDrift, _ = r.Boolean(n, path) }},
		{"offset", r.duration(&boot.Offset, -maxDuration, maxDuration)},
	})
	return boot
}

// figures are what `expect:` may bound, by their names in the JSON report.
var figures = []struct {
	name     string
	duration bool
}{
	{"rms_error", true}, {"mean_error", true}, {"p95_error", true}, {"max_error", true}, {"convergence", true}, {"mean_error_bound", true},
	{"rms_frequency_error", false}, {"packets_sent_per_hour", false}, {"steps", false}, {"bound_coverage", false},
}

func (r *reader) expectation(n *yaml.Node, path string) Expectation {
	e := Expectation{Line: n.Line, Column: n.Column}
	fields := []field{
		{"host", r.words(&e.Host, "the name of a host", "client")},
		{"interval", func(n *yaml.Node, path string) { r.interval(n, path, &e.From, &e.To) }},
		{"runs", func(n *yaml.Node, path string) {
			text, _ := r.Text(n, path, "median or every", "every")
			if e.Every = text == "every"; !e.Every && text != "median" {
				r.Fail(n, path, "%q is neither median nor every", text)
			}
		}},
		{"synchronized", func(n *yaml.Node, path string) {
			if value, ok := r.Boolean(n, path); ok {
				e.Synchronized = &value
			}
		}},
		{"stratum", r.integer(1, 16, func(v int64) { stratum := uint8(v); e.Stratum = &stratum })},
		{"sources", func(n *yaml.Node, path string) {
			r.Pairs(n, path, "{server: selected}", func(key, value *yaml.Node, path string) {
				e.Sources = append(e.Sources, SourceExpectation{key.Value, r.states(value, path)})
			})
		}},
	}
	for _, figure := range figures {
		fields = append(fields, field{figure.name, func(n *yaml.Node, path string) {
			if bound, ok := r.bounds(n, path, figure.duration); ok {
				e.Figures = append(e.Figures, FigureExpectation{figure.name, bound})
			}
		}})
	}
	r.mapping(n, path, fields)
	if e.Host == "" {
		r.Fail(n, path, "says not of which host; write {host: client, ...}")
	}
	return e
}

// states reads one state or a list of those allowed.
func (r *reader) states(n *yaml.Node, path string) []string {
	var states []string
	add := func(n *yaml.Node, path string) {
		text, ok := r.Text(n, path, "a state of a source", "selected")
		if !ok {
			return
		}
		if !slices.Contains(stateNames(), text) {
			r.Fail(n, path, "%q is no state of a source; %s", text, config.Suggest(text, stateNames()))
		}
		states = append(states, text)
	}
	if n.Kind == yaml.SequenceNode {
		r.Rows(n, path, "[selected, combined]", add)
	} else {
		add(n, path)
	}
	return states
}

// bounds reads what a figure must lie in: a value it must not exceed, or [LOW, HIGH].
// A coverage is the other way round: a value it must reach.
func (r *reader) bounds(n *yaml.Node, path string, duration bool) (Range, bool) {
	bound := Range{High: math.Inf(1), Duration: duration}
	if n.Kind == yaml.SequenceNode {
		if len(n.Content) != 2 {
			r.Fail(n, path, "wants what the figure must not exceed, or [LOW, HIGH]")
			return bound, false
		}
		low, okLow := r.value(n.Content[0], path, duration)
		high, okHigh := r.value(n.Content[1], path, duration)
		bound.Low, bound.High = low, high
		if okLow && okHigh && low > high {
			r.Fail(n, path, "has its ends the wrong way round")
		}
		return bound, okLow && okHigh
	}
	value, ok := r.value(n, path, duration)
	if strings.HasSuffix(path, "bound_coverage") {
		bound.Low = value
	} else {
		bound.High = value
	}
	return bound, ok
}

// value reads a duration in seconds, a frequency as a ratio, or a plain number.
func (r *reader) value(n *yaml.Node, path string, duration bool) (float64, bool) {
	n, ok := r.Follow(n, path)
	if !ok {
		return 0, false
	}
	text, ok := r.Text(n, path, "a value", "1ms")
	if !ok {
		return 0, false
	}
	if duration {
		value, err := config.ParseDuration(text)
		if err != nil {
			r.Fail(n, path, "%q %v", text, err)
		}
		return value.Seconds(), err == nil
	}
	if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
		return value, true
	}
	value, err := config.ParseFrequency(text)
	if err != nil {
		r.Fail(n, path, "%q is no number", text)
	}
	return float64(value), err == nil
}

// check looks at what only the whole scenario shows.
func (r *reader) check(root *yaml.Node, s *Scenario) {
	r.checkReplays(root, s)
	r.checkReceivers(s)
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Smeared != nil && s.Leap == nil {
			r.Fail(&yaml.Node{Line: h.Line, Column: h.Column}, "hosts."+h.Name+".smeared", "has no meaning without a leap second; write leap: {at: ..., kind: insert}, or leave it out")
		}
	}
	if s.Duration == 0 && r.Failures() == 0 {
		r.Fail(root, "duration", "is missing; write how long to simulate, like 20000s")
	}
	if len(s.Hosts) == 0 {
		r.Fail(root, "hosts", "is missing; name at least one host")
	}
	if s.Settle >= s.Duration && s.Duration > 0 {
		r.Fail(root, "settle", "leaves nothing for the statistics: it is not below duration")
	}
	for i := range s.Links {
		l := &s.Links[i]
		at := fmt.Sprintf("links[%d].between", i)
		for _, name := range l.Between {
			r.known(s, name, l.Line, l.Column, at)
		}
		if l.Between[0] == l.Between[1] {
			r.Fail(&yaml.Node{Line: l.Line, Column: l.Column}, at, "has the same host at both ends")
		}
	}
	for i := range s.Events {
		r.known(s, s.Events[i].Host, 0, 0, fmt.Sprintf("events[%d].host", i))
	}
	for i := range s.Expect {
		e := &s.Expect[i]
		r.known(s, e.Host, e.Line, e.Column, fmt.Sprintf("expect[%d].host", i))
		for _, source := range e.Sources {
			r.known(s, source.Source, e.Line, e.Column, fmt.Sprintf("expect[%d].sources", i))
		}
	}
	r.checkSources(s)
}

// known reports a name that is no host's.
func (r *reader) known(s *Scenario, name string, line, column int, path string) {
	if name == "" || s.Host(name) != nil {
		return
	}
	names := make([]string, len(s.Hosts))
	for i := range s.Hosts {
		names[i] = s.Hosts[i].Name
	}
	r.Fail(&yaml.Node{Line: line, Column: column}, path, "%q is no host of this scenario; %s", name, config.Suggest(name, names))
}

// checkSources holds the sources of each host against the names of the hosts.
func (r *reader) checkSources(s *Scenario) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.Config == nil {
			continue
		}
		for j := range h.Config.Sources {
			if source := &h.Config.Sources[j]; source.Host != "" {
				r.known(s, source.Host, h.Line, h.Column, fmt.Sprintf("hosts.%s.config.sources[%d]", h.Name, j))
			}
		}
	}
}
