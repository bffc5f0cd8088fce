package convert

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ntpdRS is the state of a conversion of ntp.toml.
type ntpdRS struct {
	*builder
	path            string
	text            []byte
	polls           mapping // of source-defaults
	names           map[string]bool
	listen          []string
	access          accessTable
	nts             mapping
	allowed, denied []netip.Prefix
	allows          bool  // there is an allowlist
	require         *line // require-nts
	lists           int   // of allowed and denied networks
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
	tables = regroup(tables)
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

// table converts one table.
func (r *ntpdRS) table(t table) {
	switch {
	case t.name == "":
		r.inline(t)
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
			"concurrent-connections": func(w tomlRow) { r.ntsKey(w, "max_connections", quoteNumber(text(w.value))) },
			"ntp-port":               func(w tomlRow) { r.ntsKey(w, "ntp_port", quoteNumber(text(w.value))) },
		})
	case t.name == "keyset":
		r.each(t, map[string]func(tomlRow){
			"key-storage-path": func(w tomlRow) {
				r.note(w.at, NoteNothing, "the keys of cookies are in server.nts.keys, in a format of their own; clients make one new exchange")
			},
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
	var nts, clock mapping
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
			if v := text(w.value); v == "3" || v == "4" {
				m.add("version", v)
			} else {
				r.note(w.at, NoteChanged, "version 4 is asked: NTPv5 is a draft")
			}
		case "path":
		case "initial-poll-interval":
			r.note(w.at, NoteNothing, "the first polls are 2 s apart (iburst)")
		case "precision", "accuracy", "measurement_noise_estimate", "measurement-noise-estimate", "period":
			if !r.clockSetting(w, mode, &clock) {
				return
			}
		default:
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
	if mode == "sock" || mode == "pps" {
		clock = append(mapping{"driver: " + mode, "device: " + quote(text(values["path"].value))}, clock...)
		r.addRefclock(t.at, clock, m, "")
		return
	}
	r.addNTPDRSSource(t, at, mode, address, m, nts)
}

// clockSetting converts a setting of a reference clock: the scatter of its readings, how
// far all of them may be off together, and the time between pulses.
func (r *ntpdRS) clockSetting(w tomlRow, mode string, clock *mapping) bool {
	if mode != "sock" && mode != "pps" {
		r.note(w.at, NoteNoEqual, "it is a setting of clocks")
		return true
	}
	v, ok := r.number(w.at, text(w.value), 0, 1e6)
	switch {
	case !ok || v == 0:
	case w.key == "accuracy":
		clock.put("delay", seconds(min(2*v, 2))) // half of it goes into the error bound
	case w.key == "period" && math.Round(1/v)*v == 1:
		clock.put("rate", strconv.Itoa(int(math.Round(1/v))))
	case w.key == "period":
		r.note(w.at, NoteNoEqual, "pulses come a whole number of times a second")
	default:
		clock.put("precision", seconds(min(v, 1)))
	}
	return ok
}

// addNTPDRSSource writes a source by its mode.
func (r *ntpdRS) addNTPDRSSource(t table, at line, mode, address string, m, nts mapping) {
	kind := map[string]string{"server": "server", "pool": "pool", "nts": "server", "nts-pool": "pool", "simple": "server"}[mode]
	if kind == "" {
		r.note(t.at, NoteNoEqual, "there is no mode %q here, and the source is left out", shorten(mode, 20))
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
			v, ok := r.number(w.at, text(w.value), 0, 1<<24)
			switch {
			case !ok:
			case v > 65536:
				r.set(w.at, "server", "client_log", "{size: "+strconv.Itoa(int(v))+"}")
			default:
				r.note(w.at, NoteNothing, "65536 clients are remembered")
			}
		case "require-nts":
			if text(w.value) == "true" || text(w.value) == "deny" || text(w.value) == "ignore" {
				r.place("server", "require")
				r.require = &w.at
				r.out.Converted++
			} else {
				r.note(w.at, NoteNothing, "plain requests are answered too")
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
	into := &r.denied
	if w.key == "allowlist" {
		into, r.allows = &r.allowed, true
	}
	r.place("server", "access")
	for _, n := range networks {
		p, err := netip.ParsePrefix(text(n))
		if err != nil || p.Addr().Is4In6() {
			r.note(w.at, NoteRefused, "%q is no network", shorten(text(n), 40))
			continue
		}
		*into = append(*into, p.Masked())
	}
	r.out.Converted++
	if action, given := both["action"]; given {
		r.note(line{w.at.file, w.at.nr, w.key + " action " + text(action)}, NoteNothing, "who may not hears nothing")
	}
	for key := range both {
		if key != "filter" && key != "action" {
			r.note(line{w.at.file, w.at.nr, w.key + " " + key}, NoteRefused, "ntpd-rs has no such setting, and does not start with it")
		}
	}
	if r.lists++; r.lists > 1 {
		r.note(line{w.at.file, w.at.nr, w.key}, NoteChanged, "rights do not depend on where we listen: the lists hold together, and where there is an allowlist, who is on none gets nothing")
	}
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
