package convert

import (
	"strconv"
	"strings"
)

// ntpClock is a reference clock of ntpd with its settings, from fudge or its own line.
type ntpClock struct {
	driver, unit string
	get          map[string]string
	sentences    string // the reference id of what numbers its pulses, where it has any
}

// ntpDrivers are timeball's drivers by ntpd's numbers and ntpsec's names.
var ntpDrivers = map[string]string{"28": "shm", "shm": "shm", "22": "pps", "pps": "pps", "20": "nmea", "nmea": "nmea", "1": "local", "local": "local"}

// localClock converts server 127.127.TYPE.UNIT with its fudge lines.
func (n *ntpConf) localClock(l line, unit string, options map[string]string) {
	kind, number, _ := strings.Cut(unit, ".")
	get := map[string]string{}
	for name, value := range n.fudges["127.127."+unit] {
		get[name] = value
	}
	for name, value := range options { // of the line itself
		get[name] = value
	}
	n.refclock(l, ntpClock{driver: ntpDrivers[kind], unit: number, get: get})
}

// ntpFudge says where a fudge line went.
func ntpFudge(n *ntpConf, l line, args []string) {
	switch {
	case len(args) < 3 || len(args)%2 == 0:
		n.note(l, NoteRefused, "a clock and pairs of setting and value are needed")
	case !n.asked[args[0]]:
		n.note(l, NoteRefused, "no server line names this clock, so ntpd does nothing with it")
	default:
		n.note(l, NoteNothing, "taken over with its clock")
	}
}

// ntpRefclock converts ntpsec's refclock NAME [unit N] [OPTION VALUE]...
func ntpRefclock(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		n.note(l, NoteRefused, "a driver is needed")
		return
	}
	c, lacking := ntpClockOf(args)
	if lacking != "" {
		n.note(l, NoteRefused, "%s lacks its value", shorten(lacking, 20))
		return
	}
	n.refclock(l, c)
}

// ntpClockOf reads what stands behind refclock, and tells the option that lacks its value.
func ntpClockOf(args []string) (c ntpClock, lacking string) {
	c = ntpClock{driver: ntpDrivers[args[0]], unit: "0", get: map[string]string{}}
	for i := 1; i < len(args); i++ {
		switch {
		case ntpFlags[args[i]]:
			c.get[args[i]] = ""
		case i+1 >= len(args):
			return c, args[i]
		default:
			c.get[args[i]] = args[i+1]
			i++
		}
	}
	if u, given := c.get["unit"]; given {
		c.unit = u
	}
	return c, ""
}

// refclock writes a reference clock.
func (n *ntpConf) refclock(l line, c ntpClock) {
	unit, ok := n.integer(l, "unit", c.unit, 0, 255)
	if !ok {
		return
	}
	if c.driver == "local" {
		n.localReference(l, c)
		return
	}
	clock, ok := n.ntpDriver(l, c, strconv.Itoa(unit))
	if !ok {
		return
	}
	if c.pulsed() {
		c.sentences = n.nameSentences(c)
		clock.add("refid", quote(c.sentences))
	} else if id := c.get["refid"]; id != "" {
		clock.add("refid", quote(id))
	}
	if !n.clockOffset(l, c, map[string]string{"nmea": "time2"}[c.driver], &clock) {
		return
	}
	if s := c.get["stratum"]; s != "" {
		v, fine := n.integer(l, "stratum", s, 0, 15)
		if !fine {
			return
		}
		clock.add("stratum", strconv.Itoa(v))
	}
	var source mapping
	if !n.polls(l, c.get, &source) {
		return
	}
	for _, flag := range ntpFlagKeys {
		if c.has(flag.option) && flag.option != "xleave" && (flag.option == "noselect" || !c.has("noselect")) {
			source.put(flag.key, flag.value)
		}
	}
	if c.pulsed() { // ntpd's one clock has the time of its pulses
		n.addRefclock(l, clock, mapping{"no_select: true"}, "")
		n.clockPulse(l, c, strconv.Itoa(unit), source)
	} else {
		n.addRefclock(l, clock, source, "")
	}
	n.clockFlags(l, c)
}

func (c *ntpClock) has(name string) bool { _, given := c.get[name]; return given }

// pulsed reports whether a receiver on a serial line gives pulses too (flag1 of driver 20).
func (c *ntpClock) pulsed() bool { return c.driver == "nmea" && c.get["flag1"] == "1" }

// nameSentences gives the sentences of a receiver a reference id that no other clock has,
// since its pulses are numbered by it.
func (n *ntpConf) nameSentences(c ntpClock) string {
	own := c.get["refid"]
	if own == "" {
		own = "GPS"
		n.refids[own]++
	}
	for i := 0; n.refids[own] > 1 && i < 10; i++ {
		name := "NME" + strconv.Itoa(i)
		if n.refids[name] == 0 {
			n.refids[own]--
			n.refids[name]++
			return name
		}
	}
	return own
}

// clockOffset adds time1, or what a driver has in its place.
func (n *ntpConf) clockOffset(l line, c ntpClock, name string, clock *mapping) bool {
	if name == "" {
		name = "time1"
	}
	text := c.get[name]
	if text == "" {
		return true
	}
	v, ok := n.builder.number(l, text, -3600, 3600)
	if ok {
		clock.add("offset", seconds(v))
	}
	return ok
}

// localReference converts the undisciplined local clock.
func (n *ntpConf) localReference(l line, c ntpClock) {
	if c.has("noselect") {
		n.note(l, NoteNothing, "a local clock that is never selected does nothing")
		return
	}
	stratum := 5
	if text := c.get["stratum"]; text != "" {
		var ok bool
		if stratum, ok = n.integer(l, "stratum", text, 0, 15); !ok {
			return
		}
	}
	n.value(l, "local", "{stratum: "+strconv.Itoa(max(stratum, 1))+"}")
	for _, name := range sortedKeys(c.get) {
		if name != "stratum" && name != "unit" {
			n.note(line{l.file, l.nr, strings.TrimSpace(name + " " + c.get[name])}, NoteNothing, "the local clock is served while no source is usable, whatever else is said of it")
		}
	}
}

// ntpDriver begins a reference clock with what its driver needs.
func (n *ntpConf) ntpDriver(l line, c ntpClock, unit string) (clock mapping, ok bool) {
	clock.add("driver", c.driver)
	device := c.get["path"]
	switch c.driver {
	case "shm":
		clock.add("unit", unit)
		return clock, true
	case "pps":
		if c.has("path") {
			n.note(line{l.file, l.nr, "path " + device}, NoteNothing, "ntpd takes the device of this driver from ppspath, else by its unit")
		}
		if device = c.get["ppspath"]; device == "" {
			device = "/dev/pps" + unit
		}
		if n.pulses[device] {
			n.note(l, NoteChanged, "these are the pulses of the serial receiver with this ppspath: they are one clock, numbered by its sentences")
			return nil, false
		}
		if c.get["flag2"] == "1" {
			clock.add("edge", "clear")
		}
	case "nmea":
		if device == "" {
			device = "/dev/gps" + unit
		}
		baud, fine := n.nmeaBaud(l, c)
		if !fine {
			return nil, false
		}
		clock.add("baud", baud)
		clock.add("delay", serialDelay)
	default:
		n.note(l, NoteNoEqual, "there is no such driver; shm, pps, nmea and the local clock are there, and gpsd writes to driver shm or sock")
		return nil, false
	}
	clock.add("device", quote(device))
	return clock, true
}

// serialDelay is what sentences of a serial line may be late by beyond what their offset says.
const serialDelay = "100ms"

// nmeaBaud is the speed of a serial receiver: baud, or bits 4 to 6 of mode (driver 20).
func (n *ntpConf) nmeaBaud(l line, c ntpClock) (baud string, ok bool) {
	if text := c.get["baud"]; text != "" {
		v, fine := n.integer(l, "baud", text, 300, 460800)
		return strconv.Itoa(v), fine
	}
	mode := 0
	if text := c.get["mode"]; text != "" {
		var fine bool
		if mode, fine = n.integer(l, "mode", text, 0, 1<<20); !fine {
			return "", false
		}
	}
	return []string{"4800", "9600", "19200", "38400", "57600", "115200", "4800", "4800"}[mode>>4&7], true
}

// clockPulse gives the pulses of a serial receiver a clock of their own, as timeball has them.
func (n *ntpConf) clockPulse(l line, c ntpClock, unit string, source mapping) {
	device, id := c.get["ppspath"], c.sentences
	if device == "" {
		device = "/dev/gpspps" + unit
	}
	pulse := mapping{"driver: pps", "device: " + quote(device), "lock: " + quote(id)}
	if c.get["flag2"] == "1" {
		pulse.add("edge", "clear")
	}
	if !n.clockOffset(l, c, "time1", &pulse) {
		return
	}
	n.addRefclock(l, pulse, source, id)
	n.note(line{l.file, l.nr, "flag1 1"}, NoteChanged, "the pulses are a clock of their own, and the sentences only number them")
}

// clockFlags notes the settings of a clock that are not taken over.
func (n *ntpConf) clockFlags(l line, c ntpClock) {
	used := wordSet("unit refid path baud stratum minpoll maxpoll prefer noselect true time1")
	if c.driver == "nmea" {
		used["time2"], used["mode"], used["flag1"] = true, true, true
		used["time1"] = c.pulsed()
		used["ppspath"] = c.pulsed()
	}
	if c.driver == "pps" || c.pulsed() {
		used["flag2"] = true
	}
	if c.driver == "pps" {
		used["ppspath"] = true
	}
	for _, name := range sortedKeys(c.get) {
		if used[name] {
			continue
		}
		reason, kind := "the driver has no such setting here", NoteNoEqual
		switch name {
		case "flag3":
			reason, kind = "pulses are timestamped by the kernel, and the clock is disciplined by timeball alone", NoteNothing
		case "flag4":
			reason, kind = "readings of clocks are among the measurements of statistics", NoteNothing
		case "iburst", "burst":
			reason, kind = "not needed here", NoteNothing
		}
		n.note(line{l.file, l.nr, strings.TrimSpace(name + " " + c.get[name])}, kind, "%s", reason)
	}
}
