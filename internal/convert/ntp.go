package convert

import (
	"bytes"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"timeball/internal/config"
)

// ntpConf is the state of a conversion of ntp.conf.
type ntpConf struct {
	*builder
	sec       bool // ntpsec's: peer is server, reference clocks have names
	depth     int
	lineCount int
	access    accessTable
	// restricted are the flags of each network, of all its lines together.
	restricted map[netip.Prefix]restrictFlags
	limited    bool // somewhere limited
	all        bool // restrict default was given
	average    int  // discard average, log2 s
	names      map[string]bool
	fudges     map[string]map[string]string // by driver and unit
	refids     map[string]int               // how many clocks have each
	pulses     map[string]bool              // devices whose pulses belong to a serial receiver
	asked      map[string]bool              // what server, peer and pool lines name
	signed     []uint32                     // trustedkey
	trusts     bool                         // there is such a line
	off        map[string]bool              // what the last word on it disables
	ignore     []string                     // interfaces
	nic        nicRules
	noFile     map[string]bool // filegen that are disabled
	kinds      []string        // of statistics
	ca         string          // of every source with NTS
	orphan     mapping
	nts        mapping
	ntsOn      bool
}

// convertNTP converts ntp.conf as ntpsec 1.2 and ntp.org's ntpd 4.2.8 read it: lower-case
// words, # begins a comment anywhere, quotes.
func convertNTP(b *builder, path string, data []byte) {
	n := &ntpConf{builder: b, sec: b.o.Format == NTPsec, access: accessTable{}, restricted: map[netip.Prefix]restrictFlags{}, names: map[string]bool{}, average: 3,
		fudges: map[string]map[string]string{}, refids: map[string]int{}, pulses: map[string]bool{}, asked: map[string]bool{}, off: map[string]bool{}, noFile: map[string]bool{}}
	all := n.lines(path, data)
	if n.sec { // drop-ins are read after the file (ntp.conf(5), FILES)
		for _, file := range b.o.Files.Glob(filepath.Join(filepath.Dir(path), "ntp.d", "*.conf")) {
			if more, err := b.o.Files.Read(file); err == nil {
				all = append(all, n.lines(file, more)...)
			}
		}
	}
	n.builtIn()
	for _, l := range all {
		n.prepare(l)
	}
	n.trust()
	n.limited = n.isLimited()
	for _, l := range all {
		n.behind(func() { n.directive(l) })
	}
	n.finish()
}

// lines gives the directives of a file, with those of the files that it names.
func (n *ntpConf) lines(path string, data []byte) (all []line) {
	nr := 0
	for row := range bytes.Lines(data) {
		nr++
		text, _, _ := strings.Cut(string(row), "#")
		if text = strings.Join(strings.Fields(text), " "); text == "" {
			continue
		}
		l := line{path, nr, text}
		if n.lineCount++; n.lineCount > maxLines {
			n.tooMany(l, n.lineCount)
			break
		}
		all = append(all, l)
		words := ntpFields(text)
		if len(words) != 2 || words[0] != "includefile" || n.depth >= maxDepth {
			continue
		}
		for _, file := range n.included(path, words[1]) {
			more, err := n.o.Files.Read(file)
			if err != nil || file == path {
				continue
			}
			n.depth++
			all = append(all, n.lines(file, more)...)
			n.depth--
		}
	}
	return all
}

// included are the files that an includefile line names: a file, or those of a folder that
// end in .conf; a relative name starts at the folder of the file that names it (ntp.conf(5)).
func (n *ntpConf) included(from, name string) []string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(from), name)
	}
	if _, err := n.o.Files.Read(name); err == nil {
		return []string{name}
	}
	return n.o.Files.Glob(filepath.Join(name, "*.conf"))
}

// ntpFields cuts a line into words; quotes keep blanks together.
func ntpFields(text string) (words []string) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] == '"' {
			word, rest, _ := strings.Cut(text[1:], `"`)
			words, text = append(words, word), rest
			continue
		}
		end := strings.IndexAny(text, " \t")
		if end < 0 {
			end = len(text)
		}
		words, text = append(words, text[:end]), text[end:]
	}
	return words
}

// prepare notes what other lines rest on.
func (n *ntpConf) prepare(l line) {
	words := ntpFields(l.text)
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "keys":
		if len(words) == 2 {
			n.readNTPKeys(l, words[1])
		}
	case "trustedkey":
		n.trusts = true
		n.signed = append(n.signed, keyRange(words[1:])...)
	case "server", "peer", "pool":
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "-") { // -4 and -6 may come before it
				n.asked[strings.ToLower(word)] = true
				break
			}
		}
	case "restrict":
		n.all = n.all || slices.Contains(words[1:], "default")
		n.restrict(words[0], words[1:])
	case "unrestrict":
		n.restrict(words[0], words[1:])
	case "filegen":
		if len(words) > 2 && slices.Contains(words[2:], "disable") {
			n.noFile[words[1]] = true
		}
	case "disable":
		for _, word := range words[1:] {
			n.off[word] = true
		}
	case "enable":
		for _, word := range words[1:] {
			n.off[word] = false
		}
	case "fudge":
		if len(words) > 2 {
			if n.fudges[words[1]] == nil {
				n.fudges[words[1]] = map[string]string{}
			}
			maps.Copy(n.fudges[words[1]], pairs(words[2:]))
			if !strings.HasPrefix(words[1], "127.127.1.") { // the local clock is none here
				n.refids[pairs(words[2:])["refid"]]++
			}
		}
	case "refclock":
		if at := slices.Index(words, "refid"); at > 0 && at+1 < len(words) && ntpDrivers[words[1]] != "local" {
			n.refids[words[at+1]]++
		}
		if len(words) > 1 {
			if c, _ := ntpClockOf(words[1:]); c.pulsed() && c.has("ppspath") {
				n.pulses[c.get["ppspath"]] = true
			}
		}
	case "nts":
		n.prepareNTS(words)
	}
}

func (n *ntpConf) prepareNTS(words []string) {
	for i, word := range words {
		switch {
		case word == "enable", word == "disable":
			n.ntsOn = word == "enable"
		case word == "ca" && i+1 < len(words):
			n.ca = words[i+1]
		}
	}
}

// pairs reads words as NAME VALUE NAME VALUE.
func pairs(words []string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(words); i += 2 {
		m[words[i]] = words[i+1]
	}
	return m
}

// ntpNothing need nothing, ntpNoEqual have no equal.
var (
	ntpNothing = map[string]string{
		"driftfile": "timeball keeps its own, /var/lib/timeball/drift", "pidfile": "systemd knows its process",
		"logfile": "timeball logs to stderr, which systemd keeps", "logconfig": "every change of state is logged",
		"rlimit": "the program is small", "broadcastdelay": "the delay is measured",
		"statsdir": "statistics go to " + statisticsFolder + ", where timeball's user must be able to write", "dscp": "packets are not marked", "leapsmearinterval": "", "clockvar": "of a clock's driver",
	}
	ntpNoEqual = map[string]string{
		"crypto": "autokey was broken long ago; use NTS", "manycastclient": "no manycast", "manycastserver": "no manycast",
		"requestkey": "nothing is changed from afar", "controlkey": "nothing is changed from afar", "trap": "no traps", "setvar": "no variables of one's own",
		"ttl": "give ttl to each of server.multicast", "phone": "no modems", "saveconfigdir": "nothing is changed from afar",
		"ntpsigndsocket": "no signing for Windows domains", "simulate": "see timeball simulate", "unpeer": "leave the source out", "unconfig": "leave the source out",
		"reset": "counters begin with the process", "device": "see refclock", "extra": "no second port: list it in server.listen",
		"calldelay": "no modems", "automax": "autokey", "identity": "autokey", "revoke": "autokey", "pollskewlist": learned, "end": "",
	}
)

// directive converts one line.
func (n *ntpConf) directive(l line) {
	words := ntpFields(l.text)
	if len(words) == 0 {
		return
	}
	word, args := words[0], words[1:]
	if convert := ntpDirectives[word]; convert != nil {
		convert(n, l, args)
		return
	}
	if reason := ntpNothing[word]; reason != "" {
		n.note(l, NoteNothing, "%s", reason)
		return
	}
	if reason := ntpNoEqual[word]; reason != "" {
		n.note(l, NoteNoEqual, "%s", reason)
		return
	}
	if ntpDirectives[strings.ToLower(word)] != nil || ntpNothing[strings.ToLower(word)] != "" {
		n.note(l, NoteRefused, "ntpd takes lower-case words only, so it drops this line")
		return
	}
	n.note(l, NoteRefused, "ntpd has no directive %q, or timeball convert does not know it", shorten(word, 30))
}

// finish writes what all lines together say.
func (n *ntpConf) finish() {
	n.openAccess()
	if n.limited {
		n.fill("server", "rate_limit", "{interval: "+seconds(float64(int(1)<<min(max(n.average, 0), 12)))+"}")
	}
	if at := n.nic.listen(); len(at) > 0 {
		n.fillListen(at)
		if !n.nic.listens {
			n.note(n.nic.first, NoteChanged, `ntpd opens no address that no interface line names, also where they only ignore some: this host alone is served, as by ntpd; if all others are meant, write listen: [":123"]`)
		}
	}
	if len(n.ignore) > 0 {
		n.fill("server", "interfaces", "{ignore: "+list(n.ignore)+"}")
	}
	if len(n.kinds) > 0 {
		n.fill("statistics", "directory", statisticsFolder)
		n.fill("statistics", "format", "ntpd")
		n.fill("statistics", "kinds", list(n.kinds))
	}
	if len(n.nts) > 0 && !n.ntsOn {
		n.remark("ntpd without `nts enable` makes no key exchange with clients, so server.nts " + n.nts.String() + " is left out")
	}
	if n.ntsOn && len(n.nts) > 0 {
		if err := try("server", "{nts: "+n.nts.String()+"}"); err == nil {
			n.fill("server", "nts", n.nts.String())
		} else {
			n.remark("server.nts " + n.nts.String() + " is not complete: " + err.Error())
		}
	}
	if slices.ContainsFunc(n.orphan, func(p string) bool { return strings.HasPrefix(p, "stratum") }) && n.sections["local"] == nil {
		n.section("local").items = []item{{text: n.orphan.String()}}
	}
}

// addNTPSource writes a source, once.
func (n *ntpConf) addSource(l line, kind config.SourceKind, host string, m mapping) bool {
	name := string(kind) + " " + strings.ToLower(host)
	if n.names[name] {
		n.note(l, NoteRefused, "it is given twice; ntpd uses it once")
		return false
	}
	if !n.entry(l, "sources", append(mapping{string(kind) + ": " + quote(host)}, m...).String()) {
		return false
	}
	n.names[name] = true
	return true
}

// integer reads a whole number as ntpd does: decimal, hexadecimal with 0x, octal with 0.
// What it cannot read is refused: ntpd drops the source then.
func (n *ntpConf) integer(l line, option, text string, lowest, highest int64) (int, bool) {
	v, err := strconv.ParseInt(text, 0, 64)
	if err != nil || v < lowest || v > highest {
		n.note(l, NoteRefused, "%s %s is not a whole number from %d to %d", option, shorten(text, 20), lowest, highest)
		return 0, false
	}
	return int(v), true
}
