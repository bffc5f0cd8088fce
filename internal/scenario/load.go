package scenario

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
	"timeball/internal/ntptime"
)

// Defaults of a scenario.
const (
	defaultConvergedBelow = time.Millisecond
	defaultSeed           = 1
)

// DefaultStart is when a scenario begins that does not say: 00:00:00 UTC on
// 1 January 2026, a day without a leap second.
var DefaultStart = ntptime.WallOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

// Load reads a scenario file. The error is config.Problems where the file is read
// but is no valid scenario: every problem of it, with its place.
func Load(path string) (*Scenario, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("scenario cannot be read: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a scenario from its text; file is what problems are reported under.
func Parse(file string, data []byte) (*Scenario, error) {
	r := &reader{config.NewReader(file, maxAliases)}
	root := r.root(data)
	if err := r.Problems(); err != nil {
		return nil, err
	}
	s := &Scenario{File: file, Start: DefaultStart, Runs: 1, Seed: defaultSeed, ConvergedBelow: defaultConvergedBelow}
	r.scenario(root, s)
	r.check(root, s)
	if err := r.Problems(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.Events, func(a, b Event) int { return int(min(max(a.At-b.At, -1), 1)) })
	return s, nil
}

// root gives the root node of the one document in a file, nil where a problem is reported.
func (r *reader) root(data []byte) *yaml.Node {
	n := r.Document(data)
	switch {
	case r.Failures() > 0:
		return nil
	case n == nil || config.Null(n):
		r.Fail(nil, "", "is empty; a scenario needs at least `duration:` and `hosts:`")
		return nil
	}
	n, ok := r.Follow(n, "")
	if ok && n.Kind != yaml.MappingNode {
		r.Fail(n, "", "is no scenario: it is a mapping, which begins with a key like duration: or hosts:")
	}
	return n
}

func (r *reader) scenario(root *yaml.Node, s *Scenario) {
	r.mapping(root, "", []field{
		{"description", r.words(&s.Description, "text", "two servers, one of which lies")},
		{"start", r.wall(&s.Start)},
		{"duration", r.duration(&s.Duration, time.Second, maxDuration)},
		{"settle", r.duration(&s.Settle, 0, maxDuration)},
		{"runs", r.integer(1, 100000, func(v int64) { s.Runs = int(v) })},
		{"seed", r.integer(0, 1<<62, func(v int64) { s.Seed = uint64(v) })},
		{"converged_below", r.duration(&s.ConvergedBelow, time.Nanosecond, time.Hour)},
		{"leap", func(n *yaml.Node, path string) { s.Leap = r.leap(n, path) }},
		{"hosts", func(n *yaml.Node, path string) { r.hosts(n, path, s) }},
		{"links", func(n *yaml.Node, path string) {
			r.Rows(n, path, "[{between: [client, server], delay: 1ms}]", func(n *yaml.Node, path string) { s.Links = append(s.Links, r.link(n, path)) })
		}},
		{"events", func(n *yaml.Node, path string) {
			r.Rows(n, path, "[{at: 5000s, host: client, stop: true}]", func(n *yaml.Node, path string) { s.Events = append(s.Events, r.event(n, path)) })
		}},
		{"expect", func(n *yaml.Node, path string) {
			r.Rows(n, path, "[{host: client, max_error: 1ms}]", func(n *yaml.Node, path string) { s.Expect = append(s.Expect, r.expectation(n, path)) })
		}},
	})
}

// smeared is the curve that a host's time is to follow.
func (r *reader) smeared(n *yaml.Node, path string) *config.Smear {
	curve := &config.Smear{Window: 24 * time.Hour, Shape: config.SmearLinear}
	var shape string
	r.mapping(n, path, []field{
		{"window", r.duration(&curve.Window, time.Minute, 7*24*time.Hour)},
		{"shape", r.words(&shape, "linear or cosine", "linear")},
	})
	switch curve.Shape = config.SmearShape(shape); curve.Shape {
	case "":
		curve.Shape = config.SmearLinear
	case config.SmearLinear, config.SmearCosine:
	default:
		r.Fail(n, path+".shape", "%q is no shape; write linear or cosine", shape)
	}
	return curve
}

func (r *reader) leap(n *yaml.Node, path string) *LeapSecond {
	leap := &LeapSecond{}
	kind := "insert"
	r.mapping(n, path, []field{
		{"at", r.wall(&leap.At)},
		{"kind", r.words(&kind, "insert or delete", "insert")},
	})
	if leap.At%ntptime.Wall(24*time.Hour) != 0 || leap.At == 0 {
		r.Fail(n, path+".at", "is not the end of a day of UTC; write a midnight like 2027-01-01T00:00:00Z")
	}
	if kind != "insert" && kind != "delete" {
		r.Fail(n, path+".kind", "%q is neither insert nor delete", kind)
	}
	leap.Delete = kind == "delete"
	return leap
}

func (r *reader) hosts(n *yaml.Node, path string, s *Scenario) {
	r.Pairs(n, path, "{client: {config: {}}}", func(key, value *yaml.Node, at string) {
		if len(s.Hosts) == maxHosts {
			r.Fail(key, path, "has more than %d hosts", maxHosts)
			return
		}
		if why := badHostName(key.Value); why != "" {
			r.Fail(key, at, "%s", why)
			return
		}
		s.Hosts = append(s.Hosts, r.host(key, value, at))
	})
}

// badHostName says why a name cannot stand where a configuration has a host name.
func badHostName(name string) string {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" || name[0] == '-' {
		return "is no name of a host; use up to 63 letters, digits, - and _"
	}
	if strings.Trim(name, "0123456789") == "" {
		return "is no name of a host; it needs a letter"
	}
	return ""
}

func (r *reader) host(key, value *yaml.Node, path string) Host {
	h := Host{Name: key.Value, Line: key.Line, Column: key.Column}
	var configuration *yaml.Node
	r.mapping(value, path, []field{
		{"clock", func(n *yaml.Node, path string) { r.clock(n, path, &h.Clock) }},
		{"turnaround", r.duration(&h.Turnaround, 0, time.Second)},
		{"receivers", func(n *yaml.Node, path string) {
			r.Rows(n, path, "[{refid: GPS}]", func(n *yaml.Node, path string) { h.Receivers = append(h.Receivers, r.receiver(n, path)) })
		}},
		{"smeared", func(n *yaml.Node, path string) { h.Smeared = r.smeared(n, path) }},
		{"config", func(n *yaml.Node, _ string) { configuration = n }},
	})
	if configuration == nil {
		configuration = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: key.Line, Column: key.Column}
	}
	records, configuration := r.replays(configuration, path+".config")
	h.Config = r.configuration(configuration, path+".config")
	h.take(records)
	return h
}

// configuration reads a host's configuration as package config does; its problems
// get the path of the host in front.
func (r *reader) configuration(n *yaml.Node, path string) *config.Config {
	c, problems := config.ParseNode(r.Name(), n)
	for _, p := range problems {
		p.Path = strings.TrimSuffix(path+"."+p.Path, ".")
		r.Add(p)
	}
	return c
}

func (r *reader) clock(n *yaml.Node, path string, c *Clock) {
	r.mapping(n, path, []field{
		{"offset", r.duration(&c.Offset, -maxDuration, maxDuration)},
		{"frequency", r.frequency(&c.Frequency, 0.1)},
		{"wander", r.number(&c.Wander, 0, 1e-3)},
		{"read_noise", r.duration(&c.ReadNoise, 0, time.Second)},
		{"tick", r.duration(&c.Tick, 0, time.Minute)},
		{"precision", func(n *yaml.Node, path string) {
			log2 := 0.0
			r.number(&log2, -30, 6)(n, path)
			c.Precision = ntptime.Log2(log2)
		}},
		{"sine", func(n *yaml.Node, path string) {
			r.mapping(n, path, []field{
				{"amplitude", r.frequency(&c.Sine.Amplitude, 0.01)},
				{"period", r.duration(&c.Sine.Period, time.Second, maxDuration)},
			})
			if c.Sine.Period == 0 {
				r.Fail(n, path, "has no period; write {amplitude: 0.1ppm, period: 3600s}")
			}
		}},
	})
}

// ReadRecord reads recorded exchanges: comma-separated values whose first line names the
// columns t1, t2, t3 and t4 (others may stand between, and true_offset, source, stratum,
// root_delay, root_dispersion have a meaning), or the rawstats of ntpd. Times are seconds,
// or dates like 2026-01-01T00:00:00.000000001Z; lines beginning with # are comments. from
// chooses one of several sources. Errors have the file and the line.
func ReadRecord(file, from string) (*Record, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := readRecord(io.LimitReader(f, maxRecordSize), from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r.File = file
	return r, nil
}
