package convert

import (
	"strconv"
	"strings"
)

// synchronization converts what decides about the clock.
func (r *ntpdRS) synchronization(t table) {
	for _, w := range t.rows {
		switch w.key {
		case "minimum-agreeing-sources":
			r.set(w.at, "selection", "min_sources", quoteNumber(text(w.value)))
		case "single-step-panic-threshold":
			r.panicLimit(w)
		case "local-stratum":
			if s := text(w.value); s != "16" {
				r.value(w.at, "local", "{stratum: "+quoteNumber(s)+"}")
			} else {
				r.note(w.at, NoteNothing, "no local clock is served")
			}
		case "startup-step-panic-threshold":
			r.note(w.at, NoteChanged, "the first correction may be of any size")
		case "accumulated-step-panic-threshold":
			r.note(w.at, NoteNoEqual, "each correction is judged by itself (clock.panic)")
		case "warn-on-jump":
			r.note(w.at, NoteNothing, "a clock set by somebody else is always told")
		default:
			if strings.HasPrefix(w.key, "algorithm.") {
				r.note(w.at, NoteNothing, learned)
				continue
			}
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
}

// panicLimit converts a number of seconds, "inf", or one for each direction.
func (r *ntpdRS) panicLimit(w tomlRow) {
	if both, is := w.value.(map[string]any); is {
		forward, backward := text(both["forward"]), text(both["backward"])
		r.note(w.at, NoteChanged, "one limit holds for both directions: the lower one")
		w.value = forward
		f, err := strconv.ParseFloat(forward, 64)
		if b, other := strconv.ParseFloat(backward, 64); other == nil && (err != nil || b < f) {
			w.value = backward
		}
	}
	if s := strings.ToLower(text(w.value)); s == "inf" || s == "+inf" {
		r.set(w.at, "clock", "panic", "0s")
		return
	}
	if v, ok := r.number(w.at, text(w.value), 0, 1e9); ok { // 0 would be none for timeball
		r.set(w.at, "clock", "panic", seconds(max(v, 1e-6)))
	}
}

// observability converts logs, socket and metrics.
func (r *ntpdRS) observability(t table) {
	for _, w := range t.rows {
		switch w.key {
		case "log-level":
			level := text(w.value)
			if level == "trace" {
				r.note(w.at, NoteChanged, "debug is all that there is")
				level = "debug"
			}
			r.set(w.at, "log", "level", quote(level))
		case "metrics-exporter-listen":
			r.set(w.at, "metrics", "listen", quote(text(w.value)))
		case "observation-path", "observation-permissions":
			r.note(w.at, NoteNothing, "timeball's socket is /run/timeball/timeball.sock; its metrics need no exporter")
		case "ansi-colors":
			r.note(w.at, NoteNothing, "the log has no colours")
		default:
			r.note(w.at, NoteNoEqual, "there is no such setting here")
		}
	}
}

// finish writes what several tables say.
func (r *ntpdRS) finish() {
	if len(r.listen) > 0 && r.lists == 0 {
		r.fill("server", "access", timeForAll)
	}
	if r.lists > 0 {
		r.rights()
		access := r.access.access()
		if access == "" {
			access = nobody
		}
		r.fill("server", "access", access)
	}
	if len(r.listen) > 0 {
		r.fillListen(r.listen)
	}
	if len(r.nts) > 0 && r.sections["server"] != nil {
		if err := try("server", "{nts: "+r.nts.String()+"}"); err != nil {
			r.remark("server.nts " + r.nts.String() + " is not complete: " + err.Error())
			r.nts = nil
		} else {
			r.fill("server", "nts", r.nts.String())
		}
	}
	switch {
	case r.require == nil:
	case len(r.nts) > 0:
		r.fill("server", "require", "nts")
	default: // nobody, rather than everybody
		r.fill("server", "access", nobody)
		r.note(*r.require, NoteRefused, "server.require: nts needs server.nts, which is not complete; nobody is told the time until it is")
	}
}

// rights makes a table of the lists. ntpd-rs looks into denylist first, and who is on no
// allowlist gets nothing where there is one.
func (r *ntpdRS) rights() {
	if len(r.allowed) == 0 && !r.allows {
		r.allowed = everybody
	}
	for _, p := range r.allowed {
		r.access[p] = rule{right: rightTime}
	}
	for _, p := range r.denied {
		r.access.within(p)
		r.access[p] = rule{}
	}
}
