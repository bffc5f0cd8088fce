package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	// maxAliases bounds how often aliases are followed: enough for a shared list of
	// options, too few for a bomb, and the end of an alias that holds itself.
	maxAliases = 32
	// maxProblems bounds the list of problems; a file with more is no configuration.
	maxProblems = 500
	// maxRows bounds each list of a configuration.
	maxRows = 4096
)

// place is a node of the file and the path that leads to it.
type place struct {
	node *yaml.Node
	path string
}

// decoder walks the node tree and collects the problems. It remembers where every
// key stands, so that a check made later can still name the line.
type decoder struct {
	file        string
	problems    []Problem
	places      map[string]*yaml.Node // by path; looked up, never ranged over
	aliases     int
	mostAliases int                   // that are followed
	included    string                // the drop-in that is being read; "": the file itself
	origins     map[*yaml.Node]string // of the places in drop-ins, which of them
	first       int                   // index of the first source of the file that is being read
	keyIDs      map[uint32]string     // path of each key of `keys:`; nil: not known
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, mostAliases: maxAliases, places: map[string]*yaml.Node{}, origins: map[*yaml.Node]string{}}
}

// reportAt adds a problem at a node.
func (d *decoder) reportAt(node *yaml.Node, path, format string, args ...any) {
	switch {
	case d.full():
		return
	case len(d.problems) == maxProblems:
		path, format, args = "", "more than %d problems; mend these first", []any{maxProblems}
	}
	for i := range args {
		if text, ok := args[i].(string); ok {
			args[i] = shorten(text, 120)
		}
	}
	p := d.problemAt(node, path, shorten(fmt.Sprintf(format, args...), 600))
	if d.aliases > 0 && slices.ContainsFunc(d.problems, p.sameBut) {
		return // the anchor's fault is told once, not at every alias
	}
	d.problems = append(d.problems, p)
}

// shorten cuts what would bury the message: a value may be as long as the file.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// full says that no more problems are taken.
func (d *decoder) full() bool { return len(d.problems) > maxProblems }

func (d *decoder) problemAt(node *yaml.Node, path, message string) Problem {
	p := Problem{File: d.file, Line: 1, Column: 1, Path: path, Message: message}
	if origin, dropIn := d.origins[node]; dropIn {
		p.File = origin
	} else if d.included != "" {
		p.File = d.included
	}
	if node != nil && node.Line > 0 {
		p.Line, p.Column = node.Line, node.Column
	}
	return p
}

// report adds a problem at the key with this path, or, where the file does not have
// it, at the nearest key above it.
func (d *decoder) report(path, format string, args ...any) {
	d.reportAt(d.nearest(path), path, format, args...)
}

// nearest finds the node of a path, or of the nearest path above it that the file has.
func (d *decoder) nearest(path string) *yaml.Node {
	for path != "" {
		if node := d.places[path]; node != nil {
			return node
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.places[""]
}

// given says whether the file has this key.
func (d *decoder) given(path string) bool { return d.places[path] != nil }

// enter follows aliases to the node meant, and remembers where its path stands.
// False: a problem has been reported, and the node is not to be read.
func (d *decoder) enter(node *yaml.Node, path string) (place, bool) {
	for node.Kind == yaml.AliasNode {
		if d.aliases++; d.aliases > d.mostAliases {
			if d.aliases == d.mostAliases+1 {
				d.reportAt(node, path, "more than %d uses of aliases (*%s); write the values out", d.mostAliases, node.Value)
			}
			return place{}, false
		}
		node = node.Alias
	}
	at := place{node, path}
	d.places[path] = node
	if d.included != "" {
		d.origins[node] = d.included
	}
	if node.Style&yaml.TaggedStyle != 0 {
		d.reportAt(node, path, "has the YAML tag %s; leave tags out", node.ShortTag())
		return at, false
	}
	return at, true
}

// pair is one key of a mapping with its value.
type pair struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
}

// mapping gives the pairs of a mapping without doubled ones. A key without value
// stands for an empty mapping.
func (d *decoder) mapping(at place, example string) []pair {
	if isNull(at.node) {
		return nil
	}
	if at.node.Kind != yaml.MappingNode {
		if at.path == "" {
			d.reportAt(at.node, "", "a configuration is a mapping, not %s; begin with a key like sources: or server:", describe(at.node))
			return nil
		}
		d.reportAt(at.node, at.path, "wants a mapping, not %s; write %s", describe(at.node), example)
		return nil
	}
	var pairs []pair
	first := map[string]int{}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key := at.node.Content[i]
		switch line, seen := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.reportAt(key, at.path, "has a key that is not plain text; write one name and a colon")
		case key.Value == "<<":
			d.reportAt(key, at.path, "merge keys (<<) are not supported; write the keys out")
		case seen:
			d.reportAt(key, join(at.path, key.Value), "is given twice, first on line %d; keep one", line)
		default:
			first[key.Value] = key.Line
			pairs = append(pairs, pair{key.Value, key, at.node.Content[i+1]})
		}
	}
	return pairs
}

// sequence gives the entries of a list; one that could not be entered has no node.
func (d *decoder) sequence(at place, example string) []place {
	if isNull(at.node) {
		return nil
	}
	if at.node.Kind != yaml.SequenceNode {
		d.reportAt(at.node, at.path, "wants a list, not %s; write %s", describe(at.node), example)
		return nil
	}
	if len(at.node.Content) > maxRows {
		d.reportAt(at.node, at.path, "has %d entries; up to %d are possible", len(at.node.Content), maxRows)
		return nil
	}
	rows := make([]place, 0, len(at.node.Content))
	for i, node := range at.node.Content {
		if at.path == "sources" {
			i += d.first
		}
		row, ok := d.enter(node, at.path+"["+strconv.Itoa(i)+"]")
		if !ok {
			row.node = nil
		}
		rows = append(rows, row)
	}
	return rows
}

// sections gives the entries of a list of sections. An empty entry is a slip of the
// pen, not a section with its defaults; it has no node, as one that could not be entered.
func (d *decoder) sections(at place, example string) []place {
	rows := d.sequence(at, example)
	for i, row := range rows {
		if row.node != nil && isNull(row.node) {
			d.reportAt(row.node, row.path, "has nothing behind its -; write its keys, or leave the entry out")
			rows[i].node = nil
		}
	}
	return rows
}

// scalar gives the text of a scalar, whatever its type. `wants` names what is meant
// with its article, `example` is what to write.
func (d *decoder) scalar(at place, wants, example string) (string, bool) {
	switch {
	case isNull(at.node):
		d.reportAt(at.node, at.path, "has no value; write %s like %s, or leave the key out", wants, example)
	case at.node.Kind != yaml.ScalarNode:
		d.reportAt(at.node, at.path, "wants %s, not %s; write it like %s", wants, describe(at.node), example)
	default:
		return at.node.Value, true
	}
	return "", false
}

// text gives the text of a scalar; one that YAML takes for something else is good
// only for saying what is wrong with it (quoted is false).
func (d *decoder) text(at place, wants, example string) (value string, quoted, ok bool) {
	value, ok = d.scalar(at, wants, example)
	if ok && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		d.reportAt(at.node, at.path, "has a line break or another control character in it; write %s in one line", wants)
		ok = false
	}
	return value, at.node.ShortTag() == "!!str", ok
}

// integer gives a whole number within its range. Other bases than ten are refused:
// YAML takes 010 for eight.
func (d *decoder) integer(at place, low, high int64) (int64, bool) {
	value, ok := d.scalar(at, "a whole number", strconv.FormatInt(max(low, min(high, 1)), 10))
	if !ok {
		return 0, false
	}
	node := at.node
	number, err := strconv.ParseInt(value, 10, 64)
	digits := strings.Trim(value, "0123456789") == ""
	switch tag := node.ShortTag(); {
	case tag == "!!str" && node.Style != 0 && err == nil:
		d.reportAt(node, at.path, "is text; write %s without quotes", value)
	case tag != "!!int" && !(tag == "!!float" && digits):
		d.reportAt(node, at.path, "%q is not a whole number; write a number from %d to %d", value, low, high)
	case strings.Trim(value, "0123456789-") != "" || len(value) > 1 && value[0] == '0':
		d.reportAt(node, at.path, "%q is not written in decimal; write it without leading zeros, prefix, sign or _", value)
	case err != nil || number < low || number > high:
		d.reportAt(node, at.path, "%s is out of range; write a number from %d to %d", value, low, high)
	default:
		return number, true
	}
	return 0, false
}

// boolean gives true or false; YAML 1.1's other words for them are refused.
func (d *decoder) boolean(at place) (value, ok bool) {
	text, ok := d.scalar(at, "true or false", "true")
	if !ok {
		return false, false
	}
	if at.node.ShortTag() == "!!bool" {
		return strings.EqualFold(text, "true"), true
	}
	meant := "true or false"
	if at.node.Style != 0 && (text == "true" || text == "false") {
		d.reportAt(at.node, at.path, "is text; write %s without quotes", text)
		return false, false
	}
	switch strings.ToLower(text) {
	case "yes", "y", "on", "1", "true":
		meant = "true"
	case "no", "n", "off", "0", "false":
		meant = "false"
	}
	d.reportAt(at.node, at.path, "%q is not true or false; write %s", text, meant)
	return false, false
}

// scenarioKeys are what every scenario begins with, and no configuration.
var scenarioKeys = []string{"duration", "hosts", "links"}

// unknown reports a key that does not exist, with the one that may be meant.
func (d *decoder) unknown(path string, p pair, names []string) {
	near, other := nearest(p.name, names), pathOfKey(p.name)
	if slices.Contains(names, other) {
		near = other
	}
	message := "unknown key; see docs/configuration.md"
	switch {
	case path == "" && slices.Contains(scenarioKeys, p.name):
		message = "is of a scenario, not of a configuration; `timeball lab FILE` and `timeball simulate FILE` run one"
	case near != "" && (other == "" || near == other || plainName(near) == plainName(p.name)):
		message = "unknown key; did you mean " + near + "?"
	case other != "":
		message = "does not belong here; did you mean " + other + "?"
	}
	d.reportAt(p.key, join(path, p.name), "%s", message)
}

// isNull says whether a node has no value.
func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// describe names what a node is, with its article.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "nothing"
	}
	return "text"
}

// join puts a key behind the path of its mapping. A key too long to be one is cut.
func join(path, key string) string {
	key = shorten(key, 60)
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
