package convert

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// ntpdRS is the state of a conversion of ntp.toml.
type ntpdRS struct {
	*builder
	path   string
	text   []byte
	polls  mapping // of source-defaults
	names  map[string]bool
	listen []string
	access accessTable
	nts    mapping
}

// table is one table of the file, with its lines.
type table struct {
	name string
	at   line
	rows []tomlRow
}

// tomlRow is one KEY = VALUE.
type tomlRow struct {
	key   string
	at    line
	value any
}

// convertNTPDRS converts ntp.toml as ntpd-rs 1.4 reads it.
func convertNTPDRS(b *builder, path string, data []byte) {
	r := &ntpdRS{builder: b, path: path, text: data, names: map[string]bool{}, access: accessTable{}}
	tables, ok := r.tables()
	if !ok {
		return
	}
	for _, t := range tables {
		if t.name == "source-defaults" {
			r.defaults(t)
		}
	}
	for _, t := range tables {
		if t.name == "source" { // one entry; other tables are a key a row
			r.behind(func() { r.table(t) })
			continue
		}
		r.table(t)
	}
	r.finish()
}

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

// table converts one table.
func (r *ntpdRS) table(t table) {
	switch {
	case t.name == "":
		r.inline(t)
	case t.name == "server.allowlist" || t.name == "server.denylist":
		both := map[string]any{}
		for _, w := range t.rows {
			both[w.key] = w.value
		}
		r.filter(tomlRow{key: strings.TrimPrefix(t.name, "server."), at: t.at, value: both})
	case t.name == "source":
		r.source(t)
	case t.name == "server":
		r.server(t)
	case t.name == "nts-ke-server":
		r.each(t, map[string]func(tomlRow){
			"listen":                 func(w tomlRow) { r.ntsKey(w, "listen", list([]string{text(w.value)})) },
			"certificate-chain-path": func(w tomlRow) { r.ntsKey(w, "certificate", quote(text(w.value))) },
			"private-key-path":       func(w tomlRow) { r.ntsKey(w, "key", quote(text(w.value))) },
			"ntp-server":             func(w tomlRow) { r.ntsKey(w, "ntp_server", quote(text(w.value))) },
			"ntp-port":               func(w tomlRow) { r.ntsKey(w, "ntp_port", quoteNumber(text(w.value))) },
		})
	case t.name == "keyset":
		r.each(t, map[string]func(tomlRow){
			"stale-key-count": func(w tomlRow) { r.ntsKey(w, "keep", quoteNumber(text(w.value))) },
			"key-rotation-interval": func(w tomlRow) {
				if v, ok := r.number(w.at, text(w.value), 60, 1e9); ok {
					r.ntsKey(w, "rotate", seconds(v))
				}
			},
		})
	case t.name == "synchronization":
		r.synchronization(t)
	case t.name == "observability":
		r.observability(t)
	case t.name == "source-defaults": // read before
	case t.name == "synchronization.algorithm" || strings.HasPrefix(t.name, "synchronization.algorithm."):
		for _, w := range t.rows {
			r.note(w.at, NoteNothing, learned)
		}
	default:
		for _, w := range t.rows {
			r.note(w.at, NoteRefused, "ntpd-rs has no such table, and does not start with it")
		}
	}
}

// inline converts tables that are written as values: source = [{...}].
func (r *ntpdRS) inline(t table) {
	for _, w := range t.rows {
		entries, ok := w.value.([]any)
		if one, is := w.value.(map[string]any); is {
			entries, ok = []any{one}, true
		}
		if !ok {
			r.note(w.at, NoteRefused, "ntpd-rs has no such setting, and does not start with it")
			continue
		}
		for _, e := range entries {
			values, _ := e.(map[string]any)
			whole := table{name: w.key, at: w.at}
			for _, key := range slices.Sorted(maps.Keys(values)) {
				whole.rows = append(whole.rows, tomlRow{key, w.at, values[key]})
			}
			if w.key != "" {
				r.table(whole)
			}
		}
	}
}

// each converts the rows of a table by their keys.
func (r *ntpdRS) each(t table, known map[string]func(tomlRow)) {
	for _, w := range t.rows {
		if convert := known[w.key]; convert != nil {
			convert(w)
			continue
		}
		r.note(w.at, NoteNoEqual, "there is no such setting here")
	}
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

// limits reads poll-interval-limits.
func (r *ntpdRS) limits(w tomlRow) (m mapping, ok bool) {
	both, _ := w.value.(map[string]any)
	for _, side := range []struct{ from, to string }{{"min", "min_poll"}, {"max", "max_poll"}} {
		if v, given := both[side.from]; given {
			n, fine := r.poll(w.at, side.from, text(v), -4, 17)
			if !fine {
				return nil, false
			}
			m.add(side.to, strconv.Itoa(int(n)))
		}
	}
	return m, true
}

// defaults reads what holds for every source.
func (r *ntpdRS) defaults(t table) {
	for _, w := range t.rows {
		switch w.key {
		case "poll-interval-limits":
			r.polls, _ = r.limits(w)
			r.out.Converted++
		case "poll-interval-limits.min", "poll-interval-limits.max":
			if n, ok := r.poll(w.at, w.key, text(w.value), -4, 17); ok {
				r.polls.add(map[string]string{"min": "min_poll", "max": "max_poll"}[w.key[len(w.key)-3:]], strconv.Itoa(int(n)))
				r.out.Converted++
			}
		case "initial-poll-interval":
			r.note(w.at, NoteNothing, "the first polls are 2 s apart (iburst)")
		default:
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
}

// source converts a [[source]].
func (r *ntpdRS) source(t table) {
	values := map[string]tomlRow{}
	for _, w := range t.rows {
		values[w.key] = w
	}
	mode, address := text(values["mode"].value), text(values["address"].value)
	at := t.at
	if w, given := values["address"]; given {
		at = w.at
	}
	m := slices.Clone(r.polls)
	var nts mapping
	for _, w := range t.rows {
		switch w.key {
		case "mode", "address":
		case "count":
			m.add("count", quoteNumber(text(w.value)))
		case "poll-interval-limits":
			own, ok := r.limits(w)
			if !ok {
				return
			}
			m = append(slices.DeleteFunc(m, func(p string) bool { return strings.Contains(p, "_poll:") }), own...)
		case "certificate-authority":
			nts.add("ca", quote(text(w.value)))
		case "ntp-version":
			r.note(w.at, NoteNothing, "version 4 is asked")
		case "path", "precision", "accuracy", "measurement_noise_estimate", "measurement-noise-estimate", "period":
		default:
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
	r.addNTPDRSSource(t, at, mode, address, m, nts, text(values["path"].value))
}

// addNTPDRSSource writes a source by its mode.
func (r *ntpdRS) addNTPDRSSource(t table, at line, mode, address string, m, nts mapping, path string) {
	kind := map[string]string{"server": "server", "pool": "pool", "nts": "server", "nts-pool": "pool", "simple": "server"}[mode]
	switch {
	case mode == "sock" || mode == "pps":
		clock := mapping{"driver: " + mode, "device: " + quote(path)}
		r.addRefclock(t.at, clock, m, "")
		return
	case kind == "":
		r.note(t.at, NoteNoEqual, "there is no mode %q here", shorten(mode, 20))
		return
	}
	if strings.HasPrefix(mode, "nts") {
		host, port, err := net.SplitHostPort(address)
		if err == nil {
			address = host
			if port != "4460" {
				nts.add("port", quoteNumber(port))
			}
		}
		m.add("nts", ntsValue(nts))
	}
	name := kind + " " + strings.ToLower(address)
	if r.names[name] {
		r.note(at, NoteRefused, "it is given twice, and would vote twice")
		return
	}
	if r.entry(at, "sources", append(mapping{kind + ": " + quote(address)}, m...).String()) {
		r.names[name] = true
	}
}

func ntsValue(m mapping) string {
	if len(m) == 0 {
		return "true"
	}
	return m.String()
}

// server converts a [[server]].
func (r *ntpdRS) server(t table) {
	for _, w := range t.rows {
		switch w.key {
		case "listen":
			r.listenAt(w)
		case "allowlist", "denylist":
			r.filter(w)
		case "rate-limiting-cutoff-ms":
			v, ok := r.number(w.at, text(w.value), 0, 1e9)
			switch {
			case !ok:
			case v == 0:
				r.note(w.at, NoteNothing, "no rate limit")
			default:
				r.set(w.at, "server", "rate_limit", "{interval: "+seconds(v/1000)+"}")
			}
		case "rate-limiting-cache-size":
			if v, ok := r.number(w.at, text(w.value), 0, 1<<24); ok && v > 0 {
				r.set(w.at, "server", "client_log", "{size: "+strconv.Itoa(int(max(v, 65536)))+"}")
			}
		case "require-nts":
			if text(w.value) == "true" || text(w.value) == "deny" || text(w.value) == "ignore" {
				r.set(w.at, "server", "require", "nts")
			}
		case "accept-ntp-versions":
			r.note(w.at, NoteNothing, "versions 1 to 4 are answered")
		default:
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
}

func (r *ntpdRS) listenAt(w tomlRow) {
	at, err := netip.ParseAddrPort(text(w.value))
	if err != nil {
		r.note(w.at, NoteRefused, "%q is no address and port", shorten(text(w.value), 40))
		return
	}
	address := at.String()
	if slices.Contains(r.listen, address) {
		r.note(w.at, NoteNothing, "it is given twice")
		return
	}
	if err := try("server", "{listen: "+list([]string{address})+"}"); err != nil {
		r.note(w.at, NoteRefused, "%v", err)
		return
	}
	r.place("server", "listen")
	r.listen = append(r.listen, address)
	r.out.Converted++
}

// filter converts allowlist and denylist: {filter = [...], action = ...}.
func (r *ntpdRS) filter(w tomlRow) {
	both, _ := w.value.(map[string]any)
	networks, _ := both["filter"].([]any)
	give := rightTime
	if w.key == "denylist" {
		give = rightNone
		for _, p := range everybody {
			if _, given := r.access[p]; !given {
				r.access[p] = rule{right: rightTime}
			}
		}
	}
	r.place("server", "access")
	for _, n := range networks {
		p, err := netip.ParsePrefix(text(n))
		if err != nil || p.Addr().Is4In6() {
			r.note(w.at, NoteRefused, "%q is no network", shorten(text(n), 40))
			continue
		}
		r.access[p.Masked()] = rule{right: give}
	}
	r.out.Converted++
	r.note(line{w.at.file, w.at.nr, "action"}, NoteNothing, "all others hear nothing")
}

// ntsKey takes a setting of server.nts.
func (r *ntpdRS) ntsKey(w tomlRow, key, value string) {
	if !hasKey("server.nts." + key) {
		r.note(w.at, NoteNoEqual, "server.nts has no %s here", key)
		return
	}
	r.nts = slices.DeleteFunc(r.nts, func(pair string) bool { return strings.HasPrefix(pair, key+":") })
	r.nts.add(key, value)
	r.place("server", "nts")
	r.out.Converted++
}
