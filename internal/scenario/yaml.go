package scenario

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"timeball/internal/config"
	"timeball/internal/ntptime"
)

// Bounds of what a scenario may hold: beyond them it is a mistake or an attack.
const (
	maxDuration = 100 * 365 * 24 * time.Hour
	maxHosts    = 1000
	maxRows     = 4096
	maxAliases  = 256
	maxProblems = 500
)

// reader walks the node tree of a scenario and collects the problems, as package
// config does for a configuration.
type reader struct {
	file     string
	problems config.Problems
	aliases  int
}

// field is one key of a mapping and what reads its value.
type field struct {
	name string
	read func(n *yaml.Node, path string)
}

func (r *reader) fail(n *yaml.Node, path, format string, args ...any) {
	if len(r.problems) >= maxProblems {
		return
	}
	p := config.Problem{File: r.file, Line: 1, Column: 1, Path: path, Message: fmt.Sprintf(format, args...)}
	if n != nil && n.Line > 0 {
		p.Line, p.Column = n.Line, n.Column
	}
	r.problems = append(r.problems, p)
}

// sorted gives the problems in the file's order, nil if there are none.
func (r *reader) sorted() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return r.problems
}

// follow resolves aliases, a bounded number of times.
func (r *reader) follow(n *yaml.Node, path string) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		if r.aliases++; r.aliases > maxAliases {
			r.fail(n, path, "more than %d uses of aliases; write the values out", maxAliases)
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
		}
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// pairs calls f for each key of a mapping; doubled keys are problems.
func (r *reader) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, "wants a mapping of keys and values")
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		line, seen := first[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.fail(key, path, "has a key that is not plain text; write one name and a colon")
		case seen:
			r.fail(key, join(path, key.Value), "is given twice, first on line %d; keep one", line)
		default:
			first[key.Value] = key.Line
			f(key, r.follow(n.Content[i+1], join(path, key.Value)))
		}
	}
}

// mapping reads a mapping whose keys are those of the table.
func (r *reader) mapping(n *yaml.Node, path string, fields []field) {
	r.pairs(n, path, func(key, value *yaml.Node) {
		for _, f := range fields {
			if f.name == key.Value {
				f.read(value, join(path, key.Value))
				return
			}
		}
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		r.fail(key, join(path, key.Value), "is no key of a scenario here; %s", config.Suggest(key.Value, names))
	})
}

// sequence calls f for each row of a list.
func (r *reader) sequence(n *yaml.Node, path string, f func(n *yaml.Node, path string)) {
	switch {
	case isNull(n):
	case n.Kind != yaml.SequenceNode:
		r.fail(n, path, "wants a list, with - before each entry")
	case len(n.Content) > maxRows:
		r.fail(n, path, "has %d entries; up to %d are possible", len(n.Content), maxRows)
	default:
		for i, row := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			f(r.follow(row, at), at)
		}
	}
}

// text reads a scalar as it stands.
func (r *reader) text(n *yaml.Node, path, wants string) (string, bool) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		r.fail(n, path, "wants %s", wants)
		return "", false
	}
	return n.Value, true
}

// duration reads a duration from low to high.
func (r *reader) duration(into *time.Duration, low, high time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.text(n, path, "a duration like 64s")
		if !ok {
			return
		}
		value, err := config.ParseDuration(text)
		switch {
		case err != nil:
			r.fail(n, path, "%q %v", text, err)
		case value < low || value > high:
			r.fail(n, path, "%s is out of range; write a duration from %s to %s", text,
				config.FormatDuration(low), config.FormatDuration(high))
		default:
			*into = value
		}
	}
}

// frequency reads a frequency of up to limit either way.
func (r *reader) frequency(into *ntptime.Frequency, limit float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.text(n, path, "a frequency like 12ppm")
		if !ok {
			return
		}
		value, err := config.ParseFrequency(text)
		switch {
		case err != nil:
			r.fail(n, path, "%q %v", text, err)
		case math.Abs(float64(value)) > limit:
			r.fail(n, path, "%s is out of range; write a frequency from %g to %g ppm", text, -limit*1e6, limit*1e6)
		default:
			*into = ntptime.Frequency(value)
		}
	}
}

// number reads a number from low to high.
func (r *reader) number(into *float64, low, high float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.text(n, path, "a number")
		if !ok {
			return
		}
		value, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(value):
			r.fail(n, path, "%q is not a number; write one from %g to %g", text, low, high)
		case value < low || value > high:
			r.fail(n, path, "%s is out of range; write a number from %g to %g", text, low, high)
		default:
			*into = value
		}
	}
}

// integer reads a whole number from low to high.
func (r *reader) integer(low, high int64, set func(int64)) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.text(n, path, "a whole number")
		if !ok {
			return
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < low || value > high {
			r.fail(n, path, "%q is not a whole number from %d to %d", text, low, high)
			return
		}
		set(value)
	}
}

// boolean reads true or false.
func (r *reader) boolean(n *yaml.Node, path string) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		r.fail(n, path, "wants true or false")
		return false, false
	}
	return strings.EqualFold(n.Value, "true"), true
}

// words reads a text into what it is given.
func (r *reader) words(into *string, wants string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if text, ok := r.text(n, path, wants); ok {
			*into = text
		}
	}
}

// wall reads a moment of UTC.
func (r *reader) wall(into *ntptime.Wall) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		text, ok := r.text(n, path, "a date and time like 2036-02-07T06:00:00Z")
		if !ok {
			return
		}
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || moment.Year() < 1970 || moment.Year() > 2150 {
			r.fail(n, path, "%q is not a date and time from 1970 to 2150; write it like 2036-02-07T06:00:00Z", text)
			return
		}
		*into = ntptime.WallOf(moment)
	}
}

// join puts a key behind the path of its mapping.
func join(path, key string) string {
	if len(key) > 60 {
		key = key[:60] + "..."
	}
	if strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
