package config

import "gopkg.in/yaml.v3"

// Reader walks the tree of a YAML file and collects the problems, each with its place: what
// reads a configuration reads a scenario with it. What is not as it should be is reported,
// and not given.
type Reader struct{ decoder *decoder }

// NewReader begins with a file; name stands for it in messages. Its aliases may be followed
// so often.
func NewReader(name string, aliases int) *Reader {
	d := newDecoder(name)
	d.mostAliases = aliases
	return &Reader{d}
}

// Document gives the one YAML document of a file as a tree of nodes, nil for an empty file,
// and where bytes that no YAML has, or what the parser says, are reported.
func (r *Reader) Document(data []byte) *yaml.Node { return r.decoder.document(data) }

// Name is that of the file.
func (r *Reader) Name() string { return r.decoder.file }

// Fail reports a problem at a node, nil for the file's beginning.
func (r *Reader) Fail(n *yaml.Node, path, format string, args ...any) {
	r.decoder.reportAt(n, path, format, args...)
}

// Failures is how many problems there are.
func (r *Reader) Failures() int { return len(r.decoder.problems) }

// Add takes over a problem that another reader has found in this file.
func (r *Reader) Add(p Problem) { r.decoder.problems = append(r.decoder.problems, p) }

// Problems gives them in the file's order; nil, and no error, if there are none.
func (r *Reader) Problems() error {
	if len(r.decoder.problems) == 0 {
		return nil
	}
	sortProblems(r.decoder.problems)
	return Problems(r.decoder.problems)
}

// Follow gives the node that aliases stand for.
func (r *Reader) Follow(n *yaml.Node, path string) (*yaml.Node, bool) {
	at, ok := r.decoder.enter(n, path)
	return at.node, ok
}

// Pairs calls f for each key of a mapping; example is how one is written.
func (r *Reader) Pairs(n *yaml.Node, path, example string, f func(key, value *yaml.Node, path string)) {
	for _, p := range r.decoder.mapping(place{n, path}, example) {
		if value, ok := r.decoder.enter(p.value, join(path, p.name)); ok {
			f(p.key, value.node, value.path)
		}
	}
}

// Rows calls f for each entry of a list; example is how one is written.
func (r *Reader) Rows(n *yaml.Node, path, example string, f func(n *yaml.Node, path string)) {
	for _, row := range r.decoder.sequence(place{n, path}, example) {
		if row.node != nil {
			f(row.node, row.path)
		}
	}
}

// Text gives the text of a scalar. `wants` names what is meant with its article, `example`
// is what to write.
func (r *Reader) Text(n *yaml.Node, path, wants, example string) (string, bool) {
	return r.decoder.scalar(place{n, path}, wants, example)
}

// Integer gives a whole number from low to high.
func (r *Reader) Integer(n *yaml.Node, path string, low, high int64) (int64, bool) {
	return r.decoder.integer(place{n, path}, low, high)
}

// Boolean gives true or false.
func (r *Reader) Boolean(n *yaml.Node, path string) (value, ok bool) {
	return r.decoder.boolean(place{n, path})
}

// Null reports whether a key has no value.
func Null(n *yaml.Node) bool { return isNull(n) }
