package convert

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tables reads the file, in the order of its lines. A file that is not TOML is refused as
// a whole, as ntpd-rs does.
func (r *ntpdRS) tables() ([]table, bool) {
	var whole map[string]any
	if err := toml.Unmarshal(r.text, &whole); err != nil {
		nr := 1
		if where := (*toml.DecodeError)(nil); errors.As(err, &where) {
			nr, _ = where.Position()
		}
		r.note(line{r.path, nr, "(this file)"}, NoteRefused, "it is not TOML: %v", err)
		return nil, false
	}
	list := []table{{name: "", at: line{r.path, 1, ""}}}
	p := unstable.Parser{}
	p.Reset(r.text)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name, at := r.keyOf(&p, e)
			list = append(list, table{name: name, at: at})
		case unstable.KeyValue:
			name, at := r.keyOf(&p, e)
			t := &list[len(list)-1]
			t.rows = append(t.rows, tomlRow{name, at, r.valueAt(at)})
		}
	}
	if err := p.Error(); err != nil {
		r.note(line{r.path, 1, "(this file)"}, NoteRefused, "it is not TOML: %v", err)
		return nil, false
	}
	return list, true
}

// regroup brings the ways of TOML to write one thing into one: a table of a table,
// [server.allowlist], and a dotted key, allowlist.action, become a value of the outer one.
func regroup(tables []table) (list []table) {
	last := map[string]int{} // of each name
	of := func(name string, at line) *table {
		if i, found := last[name]; found {
			return &list[i]
		}
		list = append(list, table{name: name, at: at})
		last[name] = len(list) - 1
		return &list[len(list)-1]
	}
	for _, t := range tables {
		outer, inner, nested := strings.Cut(t.name, ".")
		if t.name != "" && !nested {
			list = append(list, table{name: t.name, at: t.at})
			last[t.name] = len(list) - 1
		}
		for _, w := range t.rows {
			name, key := t.name, w.key
			switch head, rest, dotted := strings.Cut(key, "."); {
			case nested:
				name, key = outer, inner+"."+key
			case t.name == "" && dotted:
				name, key = head, rest
			}
			into := of(name, t.at)
			into.add(key, w)
		}
	}
	return list
}

// add puts a value into a table, a dotted one into the value that its first part names.
func (t *table) add(key string, w tomlRow) {
	head, rest, dotted := strings.Cut(key, ".")
	if !dotted || head == "algorithm" {
		w.key = key
		t.rows = append(t.rows, w)
		return
	}
	for _, row := range t.rows {
		if both, is := row.value.(map[string]any); is && row.key == head {
			both[rest] = w.value
			return
		}
	}
	t.rows = append(t.rows, tomlRow{head, w.at, map[string]any{rest: w.value}})
}

// keyOf is the dotted key of an expression and the line that it stands in.
func (r *ntpdRS) keyOf(p *unstable.Parser, e *unstable.Node) (string, line) {
	var parts []string
	nr := 1
	for it := e.Key(); it.Next(); {
		if len(parts) == 0 {
			nr = p.Shape(it.Node().Raw).Start.Line
		}
		parts = append(parts, string(it.Node().Data))
	}
	rows := bytes.Split(r.text, []byte("\n"))
	text := ""
	if nr >= 1 && nr <= len(rows) {
		text = strings.TrimSpace(string(rows[nr-1]))
	}
	return strings.Join(parts, "."), line{r.path, nr, text}
}

// valueAt reads the value that begins in a line, which may go on in the next ones.
func (r *ntpdRS) valueAt(at line) any {
	rows := bytes.Split(r.text, []byte("\n"))
	for end := at.nr; end <= min(len(rows), at.nr+maxValueLines); end++ {
		var one map[string]any
		if toml.Unmarshal(bytes.Join(rows[at.nr-1:end], []byte("\n")), &one) != nil {
			continue
		}
		for _, v := range one {
			for nested, ok := v.(map[string]any); ok && len(nested) == 1 && strings.Contains(strings.SplitN(at.text, "=", 2)[0], "."); nested, ok = v.(map[string]any) {
				for _, inner := range nested {
					v = inner
				}
			}
			return v
		}
	}
	return nil
}

// maxValueLines bounds how long a value may be.
const maxValueLines = 200
