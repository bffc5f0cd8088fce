package config

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxSize is the largest configuration read, in bytes; a larger file is none.
const MaxSize = 1 << 20

// document gives the one YAML document of a file as a tree of nodes, or nil: the
// file is empty, or the problem has been reported.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > MaxSize {
		d.reportAt(nil, "", "is larger than %d KiB; this is not a configuration of timeball", MaxSize>>10)
		return nil
	}
	if !d.checkText(data) {
		return nil
	}
	lines := &lineReader{rest: data}
	decoder := yaml.NewDecoder(lines)
	first, err := nextDocument(decoder)
	if err != nil {
		d.syntaxError(err, lines, data)
		return nil
	}
	if first == nil || len(first.Content) == 0 {
		return nil
	}
	switch second, err := nextDocument(decoder); {
	case err != nil:
		d.syntaxError(err, lines, data)
	case second != nil:
		d.reportAt(second, "", "a second YAML document begins here; keep one document, without ---")
	}
	return first.Content[0]
}

// checkText reports the first byte that no YAML text has (YAML 1.2.2 §5.1).
func (d *decoder) checkText(data []byte) bool {
	for offset := 0; offset < len(data); {
		r, size := utf8.DecodeRune(data[offset:])
		message := ""
		switch {
		case r == utf8.RuneError && size == 1:
			message = fmt.Sprintf("is not UTF-8 text (byte 0x%02x); write the file as plain UTF-8", data[offset])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			message = fmt.Sprintf("holds the control character 0x%02x; a configuration is plain text", r)
		}
		if message != "" {
			before := data[:offset]
			line := 1 + bytes.Count(before, []byte("\n"))
			column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
			d.reportAt(&yaml.Node{Line: line, Column: column}, "", "%s", message)
			return false
		}
		offset += size
	}
	return true
}

// nextDocument gives the next document of a stream, or nil at its end. The parser
// panics on what it holds impossible; here that is one more faulty file.
func nextDocument(decoder *yaml.Decoder) (node *yaml.Node, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			node, err = nil, fmt.Errorf("yaml: the parser gave up (%v)", broken)
		}
	}()
	node = new(yaml.Node)
	if err = decoder.Decode(node); err == io.EOF {
		return nil, nil
	}
	return node, err
}

// lineReader hands out one line a call, so that the line at which the parser gave up
// is known: the one it names is where the surrounding block begins.
type lineReader struct {
	rest []byte
	line int // lines handed out, or begun
	open bool
}

func (l *lineReader) Read(into []byte) (int, error) {
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := len(l.rest)
	if end := bytes.IndexByte(l.rest, '\n'); end >= 0 {
		n = end + 1
	}
	if !l.open {
		l.line++
	}
	n = copy(into, l.rest[:n])
	l.open = l.rest[n-1] != '\n'
	l.rest = l.rest[n:]
	return n, nil
}

// syntaxError reports what the YAML parser says, in its place and with advice.
func (d *decoder) syntaxError(err error, lines *lineReader, data []byte) {
	line, message := splitSyntaxError(err)
	if name, found := strings.CutPrefix(message, "unknown anchor "); found {
		name = strings.Trim(strings.TrimSuffix(name, " referenced"), "'")
		at := &yaml.Node{Line: lineWith("*"+name, data, lines.line), Column: 1}
		d.reportAt(at, "", "the alias *%s has no anchor before it; write &%s in front of the value meant", name, name)
		return
	}
	if line == 0 || strings.HasPrefix(message, "did not find expected") {
		line = failingLine(message, data, line+1, lines.line)
	}
	advice := adviceFor(message, lineOf(data, line))
	d.reportAt(&yaml.Node{Line: max(line, 1), Column: 1}, "", "is not YAML: %s; %s", message, advice)
}

// splitSyntaxError gives the line, if the parser names one, and what it says.
func splitSyntaxError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if after, found := strings.CutPrefix(message, "line "); found {
		number, text, _ := strings.Cut(after, ": ")
		line, _ = strconv.Atoi(number)
		message = text
	}
	return line, message
}

// lookahead is how many lines the parser may have read past the faulty one.
const lookahead = 4

// failingLine finds the first line with which the file fails as it does. The parser
// itself names the one where the bracket or block round it begins, and has read up to
// the last; an open bracket fails with every line behind it, so there it is right.
func failingLine(message string, data []byte, begin, last int) int {
	for line := last; line > 1 && line > last-lookahead; line-- {
		decoder := yaml.NewDecoder(bytes.NewReader(data[:endOf(data, line-1)]))
		for {
			node, err := nextDocument(decoder)
			if err == nil && node != nil {
				continue
			}
			if err == nil {
				return line
			}
			if _, same := splitSyntaxError(err); same != message {
				return line
			}
			break
		}
	}
	return min(begin, max(last-lookahead, 1))
}

// endOf gives the offset behind a line, from 1.
func endOf(data []byte, line int) int {
	end := 0
	for ; line > 0; line-- {
		next := bytes.IndexByte(data[end:], '\n')
		if next < 0 {
			return len(data)
		}
		end += next + 1
	}
	return end
}

// lineWith finds the last line, up to a limit, that holds a text.
func lineWith(text string, data []byte, limit int) int {
	for line := limit; line > 1; line-- {
		if strings.Contains(lineOf(data, line), text) {
			return line
		}
	}
	return 1
}

// adviceFor says what is usually wrong.
func adviceFor(message, line string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "indent with spaces, not with tabs"
	case strings.Contains(message, "mapping values are not allowed"):
		return "put each key with its colon on a line of its own, and quote a value that holds a colon and a space"
	case strings.Contains(message, "unexpected end of stream"):
		return "close the quotes"
	case strings.Contains(message, "',' or"):
		return "close the bracket, and put commas between the entries"
	case strings.Contains(message, "node content"):
		return "quote what holds a colon or a bracket, like \":123\" or \"[::1]:123\""
	case strings.Contains(message, "<document start>"):
		return "keep one document, and one indentation for all keys of a section"
	case strings.Contains(message, "cannot start any token"):
		return "quote a value that begins with % @ or `"
	}
	return "check the indentation of this line and the one before"
}

// lineOf gives a line of the file, from 1.
func lineOf(data []byte, line int) string {
	return strings.TrimRight(string(data[endOf(data, line-1):endOf(data, line)]), "\r\n")
}
