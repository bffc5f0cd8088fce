package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"timeball/internal/config"
)

// line is a line of the input with its place.
type line struct {
	file string
	nr   int
	text string // trimmed
}

// builder collects the sections of the result in the order in which the input fills them.
type builder struct {
	o         Options
	path      string
	order     []string // sections by first use
	sections  map[string]*section
	last      string // the section that the line before went to
	head      []string
	keys      keyTable
	needsKeys bool
	untrusted map[uint32]bool // keys of the file that are not to be used
	// holding keeps comments back until the line that they are about is written.
	holding bool
	held    []string
	// keyTrouble is why the keys could not be read, "" if they could.
	keyTrouble string
	out        Result
}

// section is one top-level key of the result.
type section struct {
	list  bool
	items []item
}

// item is a key of a section, an entry of a list, or comments.
type item struct {
	at    line
	key   string // "": an entry, or comments alone
	text  string // behind the key or the dash; "" for comments
	notes []string
}

func newBuilder(path string, o Options) *builder {
	return &builder{o: o, path: path, sections: map[string]*section{}, keys: keyTable{}, out: Result{Format: o.Format}}
}

func (b *builder) section(name string) *section {
	s := b.sections[name]
	if s == nil {
		s = &section{list: name == "sources" || name == "include" || name == "hardware_timestamps"}
		b.sections[name] = s
		b.order = append(b.order, name)
	}
	b.last = name
	return s
}

// try reports why timeball would not take a section alone, nil if it would.
func try(section, body string) error {
	text := section + ": " + body + "\n"
	if section != "keys" {
		text += "keys: /keys.yaml\n" // not read here, so every id is as good as another
	}
	if section == "symmetric" {
		text += "server: {}\n"
	}
	err := check([]byte(text))
	if problems, ok := err.(config.Problems); ok {
		return fmt.Errorf("%s", problems[0].Message)
	}
	return err
}

// set makes a line a key of a section; the last one of doubled lines counts.
func (b *builder) set(l line, name, key, value string) {
	if err := try(name, "{"+key+": "+value+"}"); err != nil {
		b.note(l, NoteRefused, "%s.%s: %s %v", name, key, value, err)
		return
	}
	s := b.section(name)
	for i := range s.items {
		if s.items[i].key == key {
			if s.items[i].text != value {
				b.note(l, NoteChanged, "given twice; this one counts")
			}
			s.items[i].text = value
			return
		}
	}
	s.items = append(s.items, item{key: key, text: value})
	b.out.Converted++
}

// entry makes a line an entry of a list.
func (b *builder) entry(l line, name, value string, beside ...string) bool {
	if err := try(name, "["+strings.Join(append(beside, value), ", ")+"]"); err != nil {
		b.note(l, NoteRefused, "%v", err)
		return false
	}
	s := b.section(name)
	s.items = append(s.items, item{at: l, text: value})
	b.out.Converted++
	return true
}

// tooMany notes the first of the lines that are not read; count is how many there were with it.
func (b *builder) tooMany(l line, count int) {
	if count == maxLines+1 {
		b.note(l, NoteRefused, "from here on nothing is read: a configuration has at most %d lines; convert the rest by itself", maxLines)
	}
}

// loose takes the sources out that do not go together with the others, as a lock to a
// clock that was refused; each becomes a comment.
func (b *builder) loose() {
	s := b.sections["sources"]
	for range maxLines {
		if s == nil || len(s.items) == 0 {
			return
		}
		var text bytes.Buffer
		text.WriteString("keys: /keys.yaml\n")
		s.render(&text, "sources")
		problems, _ := check(text.Bytes()).(config.Problems)
		at := -1
		for _, p := range problems {
			if _, err := fmt.Sscanf(p.Path, "sources[%d]", &at); err == nil && at < len(s.items) {
				b.takeOut(s, at, p.Message)
				break
			}
		}
		if at < 0 {
			return
		}
	}
}

// takeOut makes an entry of a list a comment.
func (b *builder) takeOut(s *section, at int, why string) {
	gone := s.items[at]
	s.items = slices.Delete(s.items, at, at+1)
	b.last = ""
	if at > 0 {
		before := &s.items[at-1]
		before.notes = append(before.notes, gone.notes...)
	} else {
		b.head = append(b.head, gone.notes...)
	}
	b.out.Converted--
	b.note(gone.at, NoteRefused, "%s", why)
}

// place keeps the place of a key whose value is known only when all lines are read.
func (b *builder) place(name, key string) {
	s := b.section(name)
	for i := range s.items {
		if s.items[i].key == key {
			return
		}
	}
	s.items = append(s.items, item{key: key})
}

// fillListen fills server.listen without the addresses that others hold, as 192.0.2.1:123 is
// among those of :123: the kernel would refuse the second, and so does timeball.
func (b *builder) fillListen(addresses []string) {
	wide := func(at string) int {
		switch {
		case strings.HasPrefix(at, ":"):
			return 0
		case strings.HasPrefix(at, "[::]:"), strings.HasPrefix(at, "0.0.0.0:"):
			return 1
		}
		return 2
	}
	ordered := slices.Clone(addresses)
	slices.SortStableFunc(ordered, func(a, b string) int { return wide(a) - wide(b) })
	var kept, dropped []string
	for _, at := range ordered {
		if try("server", "{listen: "+list(append(slices.Clone(kept), at))+"}") == nil {
			kept = append(kept, at)
		} else {
			dropped = append(dropped, at)
		}
	}
	b.fill("server", "listen", list(kept))
	if len(dropped) > 0 {
		b.remark("server.listen: the others hold " + strings.Join(dropped, ", "))
	}
}

// fill gives a key its value, in the place that was kept for it.
func (b *builder) fill(name, key, value string) {
	b.place(name, key)
	s := b.sections[name]
	for i := range s.items {
		if s.items[i].key == key {
			s.items[i].text = value
		}
	}
}

// note leaves a line as a comment in its place.
func (b *builder) note(l line, kind NoteKind, format string, args ...any) {
	n := Note{File: l.file, Line: l.nr, Text: l.text, Reason: fmt.Sprintf(format, args...), Kind: kind}
	b.out.Notes = append(b.out.Notes, n)
	where := fmt.Sprintf("line %d", l.nr)
	if l.file != b.path {
		where = fmt.Sprintf("%s:%d", l.file, l.nr)
	}
	b.remark(fmt.Sprintf("%s: %s", where, shorten(l.text, 200)))
	mark := ""
	if kind == NoteRefused {
		mark = "REFUSED: "
	}
	b.remark("  " + mark + n.Reason)
}

// behind writes the comments of a conversion behind what it writes.
func (b *builder) behind(convert func()) {
	b.holding = true
	convert()
	b.holding = false
	for _, text := range b.held {
		b.remark(text)
	}
	b.held = nil
}

// remark adds a comment where the last line went.
func (b *builder) remark(text string) {
	text = printable(text)
	if b.holding {
		b.held = append(b.held, text)
		return
	}
	if b.last == "" {
		b.head = append(b.head, text)
		return
	}
	s := b.sections[b.last]
	if len(s.items) == 0 || b.sections[b.last] == nil {
		b.head = append(b.head, text)
		return
	}
	last := &s.items[len(s.items)-1]
	last.notes = append(last.notes, text)
}

// printable makes a text fit for a comment of a YAML file.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// result renders what was collected.
func (b *builder) result() (*Result, error) {
	if b.o.KeyFile != "" && len(b.keys) > 0 {
		b.out.Keys, b.out.KeyCount = b.keys.render()
	}
	b.loose()
	var text bytes.Buffer
	fmt.Fprintf(&text, "# Made of %s (%s) by timeball convert; every key: docs/configuration.md.\n", printable(b.path), b.o.Format)
	for _, remark := range b.head {
		fmt.Fprintf(&text, "# %s\n", remark)
	}
	for _, name := range b.order {
		b.sections[name].render(&text, name)
	}
	if len(b.order) == 0 {
		text.WriteString("sources: []\n")
	}
	b.out.YAML = text.Bytes()
	// Keys of a file are not looked up by Parse: the file is written besides.
	if err := check(b.out.YAML); err != nil {
		return nil, fmt.Errorf("%s: the parts do not go together: %w", b.path, err)
	}
	return &b.out, nil
}

func (s *section) render(text *bytes.Buffer, name string) {
	text.WriteByte('\n')
	switch {
	case len(s.items) == 1 && s.items[0].key == "" && !s.list: // a section that is one value
		fmt.Fprintf(text, "%s: %s\n", name, s.items[0].text)
		writeNotes(text, "", s.items[0].notes)
		return
	case len(s.items) == 0 && s.list:
		fmt.Fprintf(text, "%s: []\n", name)
		return
	case len(s.items) == 0:
		fmt.Fprintf(text, "%s: {}\n", name)
		return
	}
	fmt.Fprintf(text, "%s:\n", name)
	for i := range s.items {
		it := &s.items[i]
		switch {
		case it.key != "" && it.text == "": // a place that nothing filled
		case it.key != "":
			fmt.Fprintf(text, "  %s: %s\n", it.key, it.text)
		default:
			fmt.Fprintf(text, "  - %s\n", it.text)
		}
		writeNotes(text, "  ", it.notes)
	}
}

func writeNotes(text *bytes.Buffer, indent string, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(text, "%s# %s\n", indent, n)
	}
}

// value makes a section one value, like keys: FILE.
func (b *builder) value(l line, name, value string) {
	if err := try(name, value); err != nil {
		b.note(l, NoteRefused, "%s: %v", name, err)
		return
	}
	s := b.section(name)
	s.items = []item{{text: value}}
	b.out.Converted++
}

// plain is text that YAML takes for a string without quotes, in a flow collection too.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// quote writes a string for YAML.
func quote(text string) string {
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
	default:
		if plain.MatchString(text) {
			return text
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(strings.ToValidUTF8(text, "?"))
	return strings.TrimSpace(out.String())
}

// seconds writes a number of seconds as a duration.
func seconds(s float64) string {
	const limit = 1e9 // 31 years; more than any key takes
	return config.FormatDuration(time.Duration(max(min(s, limit), -limit) * 1e9))
}

// mapping joins pairs of key and value, in their order.
type mapping []string

func (m *mapping) add(key, value string) { *m = append(*m, key+": "+value) }

// put sets a key, in place of what it had.
func (m *mapping) put(key, value string) {
	*m = slices.DeleteFunc(*m, func(pair string) bool { return strings.HasPrefix(pair, key+":") })
	m.add(key, value)
}

func (m mapping) String() string { return "{" + strings.Join(m, ", ") + "}" }

// list writes strings as a list of YAML.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = quote(text)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// hostPort joins a host with a port that is not the usual one.
func hostPort(host string, port int) string {
	if port == 0 || port == config.NTPPort {
		return host
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
