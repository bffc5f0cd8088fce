package convert

import (
	"fmt"
	"strconv"
	"strings"

	"timeball/internal/config"
)

// optionArgs is how many words follow an option of chrony's server, pool and peer lines.
var optionArgs = map[string]int{
	"minpoll": 1, "maxpoll": 1, "key": 1, "maxdelay": 1, "maxdelayratio": 1, "maxdelaydevratio": 1, "maxdelayquant": 1, "mindelay": 1,
	"asymmetry": 1, "offset": 1, "minsamples": 1, "maxsamples": 1, "filter": 1, "polltarget": 1, "port": 1, "ntsport": 1, "presend": 1,
	"minstratum": 1, "version": 1, "extfield": 1, "maxsources": 1, "certset": 1, "maxunreach": 1,
	"iburst": 0, "burst": 0, "nts": 0, "offline": 0, "auto_offline": 0, "prefer": 0, "noselect": 0, "trust": 0, "require": 0, "xleave": 0,
	"copy": 0, "ipv4": 0, "ipv6": 0,
}

// learned are the options that the estimator makes superfluous, and other ones without an
// equal, with the reason.
var chronyOptionReasons = map[string]string{
	"minsamples": learned, "maxsamples": learned, "filter": learned, "polltarget": learned,
	"maxdelayratio": learned, "maxdelaydevratio": learned, "maxdelayquant": learned, "mindelay": learned, "asymmetry": learned,
	"presend": "the estimator allows for the delay of a first packet", "minstratum": "the stratum is taken as the server tells it",
	"extfield": "timestamps of better resolution than NTP's are not exchanged", "copy": "reference id and stratum of another are not copied",
	"auto_offline": "a network that cannot be reached is found again by itself", "maxunreach": "sources that are silent are polled ever more slowly",
	"ipv4": "both families of addresses are used", "ipv6": "both families of addresses are used",
}

const learned = "not needed: the estimator learns it from the exchanges"

// chronySource converts server, pool and peer.
func chronySource(kind config.SourceKind) func(*chrony, line, []string) {
	return func(c *chrony, l line, args []string) {
		if len(args) == 0 {
			c.note(l, NoteRefused, "it names no host")
			return
		}
		host, options := args[0], map[string]string{}
		for i := 1; i < len(args); i++ {
			name := strings.ToLower(args[i])
			count, known := optionArgs[name]
			if !known || i+count >= len(args) {
				c.note(l, NoteRefused, "%q is no option of chronyd's, or lacks its value", shorten(args[i], 30))
				return
			}
			value := ""
			if count == 1 {
				i++
				value = args[i]
			}
			options[name] = value // the last of doubled ones counts
		}
		c.addSource(l, kind, host, options)
	}
}

// addSource writes a source with the options that have an equal.
func (c *chrony) addSource(l line, kind config.SourceKind, host string, options map[string]string) {
	m, ok := c.sourceOptions(l, kind, options)
	if !ok {
		return
	}
	port := 0
	if text, given := options["port"]; given {
		v, ok := c.builder.number(l, text, 1, 65535)
		if !ok {
			return
		}
		port = int(v)
	}
	name := string(kind) + " " + strings.ToLower(hostPort(host, port))
	if c.names[name] {
		c.note(l, NoteRefused, "it is given twice, and would vote twice")
		return
	}
	entry := append(mapping{string(kind) + ": " + quote(hostPort(host, port))}, m...)
	if !c.entry(l, "sources", entry.String()) {
		return
	}
	c.names[name] = true
	for _, option := range sortedKeys(options) {
		if reason, known := chronyOptionReasons[option]; known {
			kind := NoteNoEqual
			if reason == learned {
				kind = NoteNothing
			}
			c.note(line{l.file, l.nr, strings.TrimSpace(option + " " + options[option])}, kind, "%s", reason)
		}
	}
	if _, offline := options["offline"]; offline {
		c.note(line{l.file, l.nr, "offline"}, NoteChanged, "it is online at the start here; `timeball offline` ends that")
	}
}

// sourceOptions converts the options of a source; false: the line has been refused.
func (c *chrony) sourceOptions(l line, kind config.SourceKind, options map[string]string) (m mapping, ok bool) {
	has := func(name string) bool { _, there := options[name]; return there }
	if text, given := options["maxsources"]; given && kind == config.Pool {
		n, fine := c.builder.number(l, text, 1, 1e6)
		if !fine {
			return nil, false
		}
		if n > 16 {
			c.note(l, NoteChanged, "maxsources %s: chronyd uses 16 of a pool at most, and so it is here", text)
		}
		m.add("count", strconv.Itoa(min(int(n), 16)))
	}
	if kind != config.Peer && !has("iburst") {
		m.add("iburst", "false")
	}
	if kind != config.Peer && has("burst") {
		m.add("burst", "true")
	}
	if !c.pollOptions(l, options, &m) {
		return nil, false
	}
	if text, given := options["version"]; given {
		if _, fine := c.builder.number(l, text, 1, 4); !fine {
			return nil, false
		}
		m.add("version", text)
	}
	switch {
	case has("key"):
		id, fine := c.key(l, options["key"])
		if !fine {
			return nil, false
		}
		m.add("key", id)
	case kind == config.Peer:
		m.add("unauthenticated", "true")
	}
	if has("nts") {
		client, fine := c.ntsClient(l, kind, options)
		if !fine {
			return nil, false
		}
		m.add("nts", client)
	}
	if has("xleave") {
		m.add("interleaved", "on")
	}
	c.authPolicy(l, has("key") || has("nts"), options)
	for _, flag := range []string{"prefer", "trust", "require"} {
		if has(flag) && !has("noselect") {
			m.add(flag, "true")
		}
	}
	if has("noselect") {
		m.add("no_select", "true")
	}
	ok = c.spanOptions(l, options, &m)
	return m, ok
}

// spanOptions converts the options that are times.
func (c *chrony) spanOptions(l line, options map[string]string, m *mapping) bool {
	for _, span := range []struct {
		option, key     string
		lowest, highest float64
	}{{"offset", "offset", -3600, 3600}, {"maxdelay", "max_delay", 1e-6, 1000}} {
		text, given := options[span.option]
		if !given {
			continue
		}
		v, fine := c.builder.number(l, text, span.lowest, span.highest)
		if !fine {
			return false
		}
		m.add(span.key, seconds(v))
	}
	return true
}

// pollOptions converts minpoll and maxpoll. Where they contradict, chronyd raises maxpoll.
func (c *chrony) pollOptions(l line, options map[string]string, m *mapping) bool {
	low, high := config.DefaultMinPoll, config.DefaultMaxPoll
	text, lowGiven := options["minpoll"]
	if lowGiven {
		var ok bool
		if low, ok = c.poll(l, "minpoll", text, -7, 24); !ok {
			return false
		}
		m.add("min_poll", strconv.Itoa(int(low)))
	}
	text, highGiven := options["maxpoll"]
	if highGiven {
		var ok bool
		if high, ok = c.poll(l, "maxpoll", text, -7, 24); !ok {
			return false
		}
	}
	if high < low {
		if highGiven {
			c.note(l, NoteChanged, "maxpoll is below minpoll: chronyd takes minpoll for both, and so it is here")
		}
		high, highGiven = low, true
	}
	if highGiven {
		if !lowGiven && low > high {
			m.add("min_poll", strconv.Itoa(int(high)))
		}
		m.add("max_poll", strconv.Itoa(int(high)))
	}
	return true
}

// ntsClient is NTS with the port of the key establishment and the file of trusted
// certificates.
func (c *chrony) ntsClient(l line, kind config.SourceKind, options map[string]string) (client string, ok bool) {
	if kind == config.Peer {
		c.note(l, NoteRefused, "chronyd knows no NTS for peers")
		return "", false
	}
	var m mapping
	set := options["certset"]
	if set == "" {
		set = "0"
	}
	files := c.trusted[set]
	if set != "0" && len(files) == 0 {
		c.note(l, NoteRefused, "no ntstrustedcerts fills the set %s, so chronyd believes no certificate", shorten(set, 20))
		return "", false
	}
	if port, given := options["ntsport"]; given {
		m.add("port", quoteNumber(port))
	}
	if len(files) > 0 {
		m.add("ca", quote(files[0]))
		if len(files) > 1 {
			c.note(line{l.file, l.nr, "ntstrustedcerts " + set}, NoteChanged, "nts.ca is one file; put the certificates of all %d into it", len(files))
		}
	}
	if len(m) == 0 {
		return "true", true
	}
	return m.String(), true
}

// quoteNumber leaves a number as it is and quotes everything else.
func quoteNumber(text string) string {
	if _, err := strconv.Atoi(text); err == nil {
		return text
	}
	return quote(text)
}

// chronyRefclock converts refclock lines: DRIVER PARAMETER[:OPTION,...] [OPTION VALUE]...
func chronyRefclock(c *chrony, l line, args []string) {
	if len(args) < 2 {
		c.note(l, NoteRefused, "a driver and its parameter are needed")
		return
	}
	number := c.clocks
	c.clocks++ // a line that has no equal counts too: others are named by their number
	parameter, more, _ := strings.Cut(args[1], ":")
	clock, ok := refclockDriver(args[0], parameter)
	if !ok {
		c.note(l, NoteNoEqual, "there is no driver %s; shm, sock, pps and phc are there", shorten(args[0], 20))
		return
	}
	for option := range strings.SplitSeq(more, ":") {
		switch option {
		case "":
		case "clear":
			clock.put("edge", "clear")
		case "extpps":
			c.note(l, NoteNoEqual, "pulses are not read by a PTP clock: wire them to a device of driver pps; the clock itself, which this line does not follow, is left out")
			return
		default:
			c.note(line{l.file, l.nr, option}, NoteNoEqual, "the driver has no such option here")
		}
	}
	var source mapping
	lock := ""
	for i := 2; i < len(args); i++ {
		name := strings.ToLower(args[i])
		if refclockWords[name] {
			if !c.refclockWord(l, name, strings.ToUpper(args[0]), &clock, &source) {
				return
			}
			continue
		}
		if i++; i >= len(args) {
			c.note(l, NoteRefused, "%s lacks its value", shorten(name, 20))
			return
		}
		if name == "lock" {
			lock = args[i]
		}
		if !c.refclockOption(l, name, args[i], &clock, &source) {
			return
		}
	}
	if !strings.Contains(clock.String(), "refid: ") { // chronyd names it by its line, and others lock to that
		clock.add("refid", quote(fmt.Sprintf("%.3s%d", strings.ToUpper(args[0]), number)))
	}
	c.refclockPolicy(&source)
	c.addRefclock(l, clock, source, lock)
}

// refclockDriver begins a reference clock by chrony's name of its driver.
func refclockDriver(driver, parameter string) (m mapping, ok bool) {
	switch strings.ToUpper(driver) {
	case "SHM":
		m.add("driver", "shm")
		m.add("unit", quoteNumber(parameter))
	case "SOCK":
		m.add("driver", "sock")
		m.add("device", quote(parameter))
	case "PPS", "PHC":
		m.add("driver", strings.ToLower(driver))
		m.add("device", quote(parameter))
	default:
		return nil, false
	}
	return m, true
}

// refclockWords are the options without a value.
var refclockWords = wordSet("prefer trust require noselect tai local pps")

// refclockWord converts one of them; false: the line has no equal, since without the word
// it would be another clock.
func (c *chrony) refclockWord(l line, name, driver string, clock, source *mapping) bool {
	switch name {
	case "prefer", "trust", "require":
		source.put(name, "true")
	case "noselect":
		source.put("no_select", "true")
	case "tai":
		clock.put("tai", "true")
	case "local":
		c.note(l, NoteNoEqual, "a clock that is only steady, and not right, is no source here")
		return false
	case "pps":
		switch driver {
		case "PPS":
			c.note(line{l.file, l.nr, name}, NoteNothing, "the driver reads pulses only")
		case "SOCK":
			c.note(line{l.file, l.nr, name}, NoteChanged, "taken for a pulse where the program that sends it says so")
		default:
			c.note(l, NoteNoEqual, "only the drivers pps and sock take a pulse without its second")
			return false
		}
	}
	return true
}

// refclockOption converts an option with a value; false: the line has been refused.
func (c *chrony) refclockOption(l line, name, value string, clock, source *mapping) bool {
	switch name {
	case "refid", "lock":
		clock.put(name, quote(value))
	case "minsamples":
		c.note(line{l.file, l.nr, name + " " + value}, NoteNothing, learned)
	case "offset", "delay", "precision":
		v, ok := c.builder.number(l, value, -3600, 3600)
		if !ok {
			return false
		}
		clock.put(name, seconds(v))
	case "stratum", "rate":
		v, ok := c.builder.number(l, value, 0, 1e6)
		if !ok {
			return false
		}
		clock.put(name, strconv.Itoa(int(v)))
	case "poll":
		n, ok := c.poll(l, "poll", value, -7, 24)
		if !ok {
			return false
		}
		source.put("min_poll", strconv.Itoa(int(n)))
		source.put("max_poll", strconv.Itoa(int(n)))
	case "dpoll", "filter", "maxdispersion", "maxlockage", "width", "maxsamples", "maxunreach":
		c.note(line{l.file, l.nr, name + " " + value}, NoteNothing, learned)
	default:
		c.note(l, NoteRefused, "%q is no option of a reference clock", shorten(name, 20))
		return false
	}
	return true
}

// addRefclock writes a reference clock without what timeball has no key for.
func (b *builder) addRefclock(l line, clock, source mapping, lock string) {
	var kept mapping
	for _, pair := range clock {
		key, _, _ := strings.Cut(pair, ":")
		if hasKey("sources[].refclock." + key) {
			kept = append(kept, pair)
		} else {
			b.note(line{l.file, l.nr, pair}, NoteNoEqual, "a reference clock has no such key here")
		}
	}
	entry := append(mapping{"refclock: " + kept.String()}, source...)
	var beside []string
	if lock != "" { // to a clock of another line, perhaps of a later one
		beside = append(beside, "{refclock: {driver: shm, unit: 255, refid: "+quote(lock)+"}}")
	}
	b.entry(l, "sources", entry.String(), beside...)
}

// hasKey reports whether the configuration has a key.
func hasKey(path string) bool {
	for _, key := range config.Schema() {
		if key.Path == path {
			return true
		}
	}
	return false
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sortStrings(keys)
	return keys
}
