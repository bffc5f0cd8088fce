package config

import (
	"reflect"
	"strings"
	"unicode"
)

// Plan says what a reload has to do. The zero Plan: nothing.
type Plan struct {
	Keep    []Kept   // sources that stay as they are, with filter and poll
	Stop    []int    // indexes into the old sources
	Start   []int    // indexes into the new sources
	Changed []string // sections to be taken over, such as "server.access", in order
	Restart []string // sections that a running daemon cannot take over
}

// Kept is a source that is the same in both configurations.
type Kept struct{ Old, New int }

// Has says whether a section has changed.
func (p *Plan) Has(section string) bool {
	for _, changed := range p.Changed {
		if changed == section {
			return true
		}
	}
	return false
}

// Empty says whether the two configurations mean the same.
func (p *Plan) Empty() bool {
	return len(p.Stop)+len(p.Start)+len(p.Changed)+len(p.Restart) == 0
}

// parts are the sections that Diff compares, all but the sources; together they hold
// every field of a Config. A true restart says that a daemon takes it over only when
// it starts.
var parts = []struct {
	section string
	restart bool
	value   func(*Config) any
}{
	{"server", false, func(c *Config) any { return c.Server != nil }},
	{"server.listen", false, func(c *Config) any { return c.server().Listen }},
	{"server.workers", false, func(c *Config) any { return c.server().Workers }},
	{"server.access", false, func(c *Config) any { return c.server().Access }},
	{"server.rate_limit", false, func(c *Config) any { return c.server().RateLimit }},
	{"server.require", false, func(c *Config) any { return c.server().Require }},
	{"server.nts", false, func(c *Config) any { return c.server().NTS }},
	{"server.fast_path", true, func(c *Config) any { return c.server().FastPath }},
	{"server.broadcast", false, func(c *Config) any { return c.server().Broadcast }},
	{"server.multicast", false, func(c *Config) any { return c.server().Multicast }},
	{"server.interfaces", false, func(c *Config) any { return c.server().Ignore }},
	{"server.client_log", false, func(c *Config) any { return c.server().ClientLog }},
	{"server.interleaved", false, func(c *Config) any { return c.server().Interleaved }},
	{"server.silent_start", false, func(c *Config) any { return c.server().SilentStart }},
	{"include", false, func(c *Config) any { return c.Include }},
	{"symmetric", false, func(c *Config) any { return c.Symmetric }},
	{"local", false, func(c *Config) any { return c.Local }},
	{"keys", false, func(c *Config) any { return []any{c.Keys, c.KeyFile} }},
	{"nts.cold_start", false, func(c *Config) any { return c.NTS.ColdStart }},
	{"nts.state", true, (*Config).givenNTSState},
	{"clock.driver", true, func(c *Config) any { return c.Clock.Driver }},
	{"clock.virtual", true, func(c *Config) any { return c.Clock.Virtual }},
	{"clock.drift_file", true, func(c *Config) any { return c.Clock.DriftFile }},
	{"clock.state_dir", true, func(c *Config) any { return c.Clock.StateDir }},
	{"clock.step", false, func(c *Config) any { return c.Clock.Step }},
	{"clock.max_slew", false, func(c *Config) any { return c.Clock.MaxSlew }},
	{"clock.panic", false, func(c *Config) any { return c.Clock.Panic }},
	{"clock.leap", false, func(c *Config) any { return c.Clock.Leap }},
	{"clock.accuracy_goal", false, func(c *Config) any { return c.Clock.AccuracyGoal }},
	{"selection", false, func(c *Config) any { return c.Selection }},
	{"metrics", false, func(c *Config) any { return c.Metrics }},
	{"control", true, func(c *Config) any {
		return []any{c.Control.Socket, c.Control.Mode, c.Control.ChronySocket, c.Control.ChronyPort}
	}},
	{"history", true, func(c *Config) any { return c.History }},
	{"clockbound", true, func(c *Config) any { return c.ClockBound }},
	{"statistics", true, func(c *Config) any { return c.Statistics }},
	{"log.level", false, func(c *Config) any { return c.Log.Level }},
	{"log.format", true, func(c *Config) any { return c.Log.Format }},
	{"hardware_timestamps", true, func(c *Config) any { return c.HardwareTimestamps }},
}

// server gives the server, or one that does nothing.
func (c *Config) server() *Server {
	if c.Server == nil {
		return &Server{}
	}
	return c.Server
}

// RestartReason says why a running daemon cannot take a section over.
func RestartReason(section string) string {
	switch section {
	case "clock.driver", "clock.virtual":
		return "the clock that is disciplined is chosen at the start"
	case "nts.state":
		return "what was kept of NTS is read at the start"
	case "clock.drift_file", "clock.state_dir":
		return "drift and panic gate are read at the start"
	case "history":
		return "what is remembered would be lost"
	case "statistics":
		return "the files are open already"
	case "control":
		return "the control socket is open already"
	case "log.format":
		return "the log's form is chosen at the start"
	case "hardware_timestamps":
		return "NICs are set up at the start"
	}
	return "sockets that are open already keep it"
}

// ChangedKeys names the keys of `sources:` in which two sources of one name differ.
func ChangedKeys(a, b *Source) (keys []string) {
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			keys = append(keys, snakeCase(va.Type().Field(i).Name))
		}
	}
	return keys
}

// snakeCase is the key of a field: MinPoll is min_poll, IBurst iburst, NTS nts.
func snakeCase(field string) string {
	var key strings.Builder
	for i, r := range field {
		startsWord := i > 1 && unicode.IsUpper(r) && unicode.IsLower(rune(field[i-1]))
		if startsWord {
			key.WriteByte('_')
		}
		key.WriteRune(unicode.ToLower(r))
	}
	return key.String()
}

// Diff plans the change from one configuration to another.
func Diff(old, next *Config) Plan {
	var plan Plan
	plan.diffSources(old.Sources, next.Sources)
	for _, part := range parts {
		if reflect.DeepEqual(part.value(old), part.value(next)) {
			continue
		}
		if part.restart {
			plan.Restart = append(plan.Restart, part.section)
		} else {
			plan.Changed = append(plan.Changed, part.section)
		}
	}
	return plan
}

// diffSources finds for each new source the first equal old one not taken yet.
func (p *Plan) diffSources(old, next []Source) {
	taken := make([]bool, len(old))
	for j := range next {
		found := -1
		for i := range old {
			if !taken[i] && reflect.DeepEqual(old[i], next[j]) {
				found = i
				break
			}
		}
		if found < 0 {
			p.Start = append(p.Start, j)
			continue
		}
		taken[found] = true
		p.Keep = append(p.Keep, Kept{found, j})
	}
	for i := range old {
		if !taken[i] {
			p.Stop = append(p.Stop, i)
		}
	}
}
