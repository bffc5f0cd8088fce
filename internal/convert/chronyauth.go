package convert

import (
	"path/filepath"
	"strconv"
	"strings"
)

// certificateSet reads ntstrustedcerts [SET-ID] FILE.
func certificateSet(l line) (set, file string, ok bool) {
	switch words := strings.Fields(l.text); len(words) {
	case 2:
		return "0", words[1], true
	case 3:
		if n, err := strconv.ParseUint(words[1], 10, 32); err == nil {
			return strconv.FormatUint(n, 10), words[2], true
		}
	}
	return "", "", false
}

// chronyTrustedCerts says where the certificates went.
func chronyTrustedCerts(c *chrony, l line, _ []string) {
	set, _, ok := certificateSet(l)
	switch {
	case !ok:
		c.note(l, NoteRefused, "a file is needed, and before it perhaps the number of a set")
	case set == "0" && !c.ownOnly:
		c.note(l, NoteChanged, "named as nts.ca of each source with NTS and without certset; chronyd trusts the system's certificates besides, so take it away from sources that have one of theirs")
	default:
		c.note(l, NoteNothing, "named as nts.ca of the sources of its set")
	}
}

// mixed finds out whether authselectmode bears on the sources: in the modes mix (which is
// the default) and prefer, only where some of them are authenticated and others are not
// (chrony.conf(5)). Sources that are never selected do not count.
func (c *chrony) mixed(all []line) {
	signed, plain := false, false
	for _, l := range all {
		words := strings.Fields(strings.ToLower(l.text))
		switch words[0] {
		case "server", "pool", "peer":
		default:
			continue
		}
		proof, out := false, false
		for _, word := range words[1:] {
			proof = proof || word == "key" || word == "nts"
			out = out || word == "noselect"
		}
		signed, plain = signed || proof && !out, plain || !proof && !out
	}
	if c.auth != "require" && !(signed && plain) {
		c.auth = "ignore"
	}
}

// authPolicy gives a source the options that authselectmode gives it.
func (c *chrony) authPolicy(l line, proof bool, options map[string]string) {
	if _, out := options["noselect"]; out {
		return
	}
	switch {
	case c.auth == "mix" && proof:
		options["require"], options["trust"] = "", ""
	case (c.auth == "require" || c.auth == "prefer") && !proof:
		options["noselect"] = ""
	default:
		return
	}
	if !c.policy {
		c.policy = true
		c.note(line{l.file, l.nr, "authselectmode " + c.auth}, NoteNothing,
			"chronyd gives `require` and `trust` to authenticated sources beside plain ones in the mode mix, its default; `noselect` to plain ones in the modes require and prefer; so it is written out")
	}
}

// refclockPolicy gives a reference clock what the mode mix gives it.
func (c *chrony) refclockPolicy(source *mapping) {
	if c.auth != "mix" || strings.Contains(source.String(), "no_select") {
		return
	}
	source.put("trust", "true")
	source.put("require", "true")
}

// chronyAuthSelect says what became of the mode.
func chronyAuthSelect(c *chrony, l line, args []string) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "a mode is needed")
		return
	}
	switch strings.ToLower(args[0]) {
	case "mix", "prefer", "require":
		c.note(l, NoteNothing, "written out as options of the sources, where it changes any")
	case "ignore":
		c.note(l, NoteNothing, "sources have the options that they are given")
	default:
		c.note(l, NoteRefused, "chronyd has no mode %q", shorten(args[0], 20))
	}
}

// chronyCommandSocket keeps the socket at which chrony's tools are answered.
func chronyCommandSocket(c *chrony, l line, args []string) {
	switch {
	case len(args) != 1:
		c.note(l, NoteRefused, "an address or a socket is needed")
	case args[0] == "/":
		c.note(l, NoteNothing, "there is no socket for chrony's tools unless control.chrony_socket names one")
	case filepath.IsAbs(args[0]):
		c.set(l, "control", "chrony_socket", quote(args[0]))
	default:
		c.note(l, NoteNoEqual, "chrony's tools are answered at loopback addresses alone: control.chrony_port")
	}
}
