package config

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// KeyInfo describes one key of the schema, for the documentation and for completion.
type KeyInfo struct {
	Path    string // like sources[].min_poll
	Type    string // in a word or two
	Default string // as it would be written; "none", or "required"
	Range   string // empty: whatever the type allows
}

// field is one key of a section that fills a T: what it is called, what it takes,
// its default and how it is read. The tables of schema.go are made of them.
type field[T any] struct {
	key          string
	info         KeyInfo // without its path
	inner        func() []KeyInfo
	defaultValue func(*T)
	decode       func(*decoder, place, *T)
	example      string
}

// section is the table of the keys that fill a T.
type section[T any] []field[T]

// defaults fills in all defaults.
func (s section[T]) defaults(into *T) {
	for _, f := range s {
		if f.defaultValue != nil {
			f.defaultValue(into)
		}
	}
}

// decode reads a mapping into a T that holds its defaults.
func (s section[T]) decode(d *decoder, at place, into *T) {
	for _, p := range d.mapping(at, s.example()) {
		if d.full() {
			return
		}
		f := s.find(p.name)
		if f == nil {
			d.unknown(at.path, p, s.names())
			continue
		}
		if value, ok := d.enter(p.value, join(at.path, p.name)); ok {
			f.decode(d, value, into)
		}
	}
}

func (s section[T]) find(key string) *field[T] {
	for i := range s {
		if s[i].key == key {
			return &s[i]
		}
	}
	return nil
}

func (s section[T]) names() []string {
	names := make([]string, len(s))
	for i := range s {
		names[i] = s[i].key
	}
	return names
}

// example shows how the section may be written.
func (s section[T]) example() string { return "{" + s[0].key + ": " + s[0].example + "}" }

// keys lists the section's keys, and those below them, under a path.
func (s section[T]) keys(path string) []KeyInfo {
	var all []KeyInfo
	for _, f := range s {
		info := f.info
		info.Path = f.key
		if path != "" {
			info.Path = path + "." + f.key
		}
		all = append(all, info)
		if f.inner == nil {
			continue
		}
		for _, below := range f.inner() {
			below.Path = info.Path + below.Path
			all = append(all, below)
		}
	}
	return all
}

// boolean is a key that is true or false.
func boolean[T any](key string, defaultValue bool, target func(*T) *bool) field[T] {
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "boolean", Default: strconv.FormatBool(defaultValue)},
		example:      "true",
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			if value, ok := d.boolean(at); ok {
				*target(t) = value
			}
		},
	}
}

// whole is any integer type a key may have.
type whole interface {
	~int | ~int8 | ~uint8 | ~uint16 | ~uint32
}

// number is a key that is a whole number from low to high.
func number[T any, N whole](key string, defaultValue, low, high N, target func(*T) *N) field[T] {
	span := strconv.FormatInt(int64(low), 10) + " to " + strconv.FormatInt(int64(high), 10)
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "integer", Default: strconv.FormatInt(int64(defaultValue), 10), Range: span},
		example:      strconv.FormatInt(int64(defaultValue), 10),
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			if value, ok := d.integer(at, int64(low), int64(high)); ok {
				*target(t) = N(value)
			}
		},
	}
}

// keyNumber is a key that names an entry of `keys:`.
func keyNumber[T any](key string, target func(*T) *uint32) field[T] {
	f := number(key, 0, 1, 1<<32-1, target)
	f.info.Type, f.info.Default, f.example = "key id", "none", "10"
	return f
}

// span is a key that is a duration from low to high.
func span[T any](key string, defaultValue, low, high time.Duration, target func(*T) *time.Duration) field[T] {
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "duration", Default: FormatDuration(defaultValue), Range: FormatDuration(low) + " to " + FormatDuration(high)},
		example:      "64s",
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			text, ok := d.scalar(at, "a duration", "64s")
			if !ok {
				return
			}
			value, err := ParseDuration(text)
			switch {
			case err != nil:
				d.reportAt(at.node, at.path, "%q %v", text, err)
			case value < low || value > high:
				d.reportAt(at.node, at.path, "%s is out of range; write a duration from %s to %s", text, FormatDuration(low), FormatDuration(high))
			default:
				*target(t) = value
			}
		},
	}
}

// ratio is a key that is a frequency from low to high.
func ratio[T any](key string, defaultValue, low, high Frequency, target func(*T) *Frequency) field[T] {
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "frequency", Default: defaultValue.String(), Range: low.String() + " to " + high.String()},
		example:      "12ppm",
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			text, ok := d.scalar(at, "a frequency", "12ppm")
			if !ok {
				return
			}
			value, err := ParseFrequency(text)
			switch {
			case err != nil:
				d.reportAt(at.node, at.path, "%q %v", text, err)
			case value < low || value > high:
				d.reportAt(at.node, at.path, "%s is out of range; write a frequency from %s to %s", text, low, high)
			default:
				*target(t) = value
			}
		},
	}
}

// choice is a key that is one of a few words.
func choice[T any, S ~string](key string, defaultValue S, words []S, target func(*T) *S) field[T] {
	names := make([]string, len(words))
	for i, word := range words {
		names[i] = string(word)
	}
	list := strings.Join(names, ", ")
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "word", Default: string(defaultValue), Range: list},
		example:      names[0],
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			text, ok := d.scalar(at, "one of "+list, names[0])
			if !ok {
				return
			}
			for _, word := range words {
				if string(word) == text {
					*target(t) = word
					return
				}
			}
			near := nearest(text, names)
			if at.node.ShortTag() == "!!bool" && text == "true" {
				near = nearest("on", names)
			}
			if near != "" {
				d.reportAt(at.node, at.path, "%q is none of %s; did you mean %s?", text, list, near)
				return
			}
			d.reportAt(at.node, at.path, "%q is none of %s; write one of them", text, list)
		},
	}
}

// kind is a type of text values: how it is called, an example, and its parser, whose
// error says what the value is not, and what to write.
type kind[V any] struct {
	name    string // "file", for the documentation
	wants   string // "a file name", for messages
	example string
	parse   func(string) (V, error)
}

// read reads one value of this kind.
func (k kind[V]) read(d *decoder, at place, into *V) bool {
	text, quoted, ok := d.text(at, k.wants, k.example)
	if !ok {
		return false
	}
	value, err := k.parse(text)
	secret := errSecret("")
	switch {
	case errors.As(err, &secret):
		d.reportAt(at.node, at.path, "%v", err)
	case err != nil:
		d.reportAt(at.node, at.path, "%q %v", text, err)
	case !quoted:
		d.reportAt(at.node, at.path, "wants %s, and YAML takes this for %s; put it in quotes", k.wants, describe(at.node))
	default:
		*into = value
		return true
	}
	return false
}

// value is a key of a kind, with its default as it would be written ("" for none).
func value[T, V any](key string, k kind[V], defaultValue string, target func(*T) *V) field[T] {
	f := field[T]{
		key:     key,
		info:    KeyInfo{Type: k.name, Default: defaultValue},
		example: k.example,
		decode:  func(d *decoder, at place, t *T) { k.read(d, at, target(t)) },
	}
	if defaultValue == "" {
		f.info.Default = "none"
		return f
	}
	f.defaultValue = func(t *T) {
		if v, err := k.parse(defaultValue); err == nil { // a default that does not parse fails a test
			*target(t) = v
		}
	}
	return f
}

// list is a key that is a list of values of one kind, at least one.
func list[T, V any](key string, k kind[V], defaultValue string, target func(*T) *[]V) field[T] {
	f := field[T]{
		key:     key,
		info:    KeyInfo{Type: "list of " + k.name, Default: "[" + defaultValue + "]"},
		example: "[" + k.example + "]",
		decode: func(d *decoder, at place, t *T) {
			var values []V
			for _, row := range d.sequence(at, "["+k.example+"]") {
				var v V
				if row.node != nil && k.read(d, row, &v) {
					values = append(values, v)
				}
			}
			d.refuseEmpty(at, k.example)
			*target(t) = values
		},
	}
	if defaultValue == "" {
		f.info.Default = "none"
		return f
	}
	f.defaultValue = func(t *T) {
		if v, err := k.parse(strings.Trim(defaultValue, `"`)); err == nil {
			*target(t) = []V{v}
		}
	}
	return f
}

// refuseEmpty reports a list that holds nothing: whether that means nobody or
// everybody is not to be guessed.
func (d *decoder) refuseEmpty(at place, example string) {
	if isNull(at.node) || at.node.Kind == yaml.SequenceNode && len(at.node.Content) == 0 {
		d.reportAt(at.node, at.path, "is empty; write [%s], or leave the key out", example)
	}
}

// group is a key that is a section of its own, with its defaults when it is left out.
func group[T, U any](key string, keys section[U], target func(*T) *U) field[T] {
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "section", Default: "{}"},
		example:      keys.example(),
		inner:        func() []KeyInfo { return prefixed(".", keys.keys("")) },
		defaultValue: func(t *T) { keys.defaults(target(t)) },
		decode:       func(d *decoder, at place, t *T) { keys.decode(d, at, target(t)) },
	}
}

// optional is a key that is a section of its own, and nil when it is left out.
func optional[T, U any](key string, keys section[U], target func(*T) **U) field[T] {
	return field[T]{
		key:     key,
		info:    KeyInfo{Type: "section", Default: "none"},
		example: "{}",
		inner:   func() []KeyInfo { return prefixed(".", keys.keys("")) },
		decode: func(d *decoder, at place, t *T) {
			into := new(U)
			keys.defaults(into)
			keys.decode(d, at, into)
			*target(t) = into
		},
	}
}

// rows is a key that is a list of sections.
func rows[T, U any](key string, keys section[U], target func(*T) *[]U) field[T] {
	return field[T]{
		key:     key,
		info:    KeyInfo{Type: "list of sections", Default: "none"},
		example: "[" + keys.example() + "]",
		inner:   func() []KeyInfo { return prefixed("[].", keys.keys("")) },
		decode: func(d *decoder, at place, t *T) {
			for _, row := range d.sections(at, "a list, with - before each entry") {
				var into U
				keys.defaults(&into)
				if row.node != nil {
					keys.decode(d, row, &into)
				}
				*target(t) = append(*target(t), into)
			}
		},
	}
}

// prefixed puts a prefix before each path.
func prefixed(prefix string, list []KeyInfo) []KeyInfo {
	for i := range list {
		list[i].Path = prefix + list[i].Path
	}
	return list
}
