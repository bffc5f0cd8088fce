package convert

import "strings"

// localClock converts server 127.127.TYPE.UNIT with its fudge line.
func (n *ntpConf) localClock(l line, unit string, options map[string]string) {
	kind, number, _ := strings.Cut(unit, ".")
	fudge := n.fudges["127.127."+unit]
	driver := map[string]string{"28": "shm", "22": "pps", "20": "nmea", "46": "gpsd"}[kind]
	if kind == "1" {
		stratum := fudge["stratum"]
		if stratum == "" {
			stratum = "5"
		}
		n.value(l, "local", "{stratum: "+quoteNumber(stratum)+"}")
		return
	}
	n.refclock(l, driver, number, fudge, options)
}

// refclock writes a reference clock; fudge and options may both hold its settings.
func (n *ntpConf) refclock(l line, driver, unit string, fudge, options map[string]string) {
	get := func(name string) string {
		if v, given := options[name]; given {
			return v
		}
		return fudge[name]
	}
	clock := ntpDriver(driver, unit, get)
	if clock == nil {
		n.note(l, NoteNoEqual, "there is no such driver; gpsd's clocks are driver shm or sock")
		return
	}
	if id := get("refid"); id != "" {
		clock.add("refid", quote(id))
	}
	for _, time := range []string{"time1", "time2"} {
		text := get(time)
		if text == "" {
			continue
		}
		v, ok := n.builder.number(l, text, -3600, 3600)
		if !ok {
			return
		}
		if driver == "nmea" && time == "time1" {
			n.note(line{l.file, l.nr, time + " " + text}, NoteNoEqual, "the pulse is a clock of its own (driver pps), with its own offset")
			continue
		}
		if driver != "nmea" && time == "time2" {
			continue
		}
		clock.add("offset", seconds(v))
	}
	if s := get("stratum"); s != "" {
		clock.add("stratum", quoteNumber(s))
	}
	var source mapping
	if !n.polls(l, options, &source) {
		return
	}
	if _, given := options["prefer"]; given {
		source.add("prefer", "true")
	}
	if _, given := options["noselect"]; given {
		source.add("no_select", "true")
	}
	n.addRefclock(l, clock, source, "")
}

// ntpRefclock converts ntpsec's refclock NAME [unit N] [OPTION VALUE]...
func ntpRefclock(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		n.note(l, NoteRefused, "a driver is needed")
		return
	}
	options, unit := map[string]string{}, "0"
	for i := 1; i < len(args); i++ {
		if ntpFlags[args[i]] {
			options[args[i]] = ""
			continue
		}
		if i+1 >= len(args) {
			n.note(l, NoteRefused, "%s lacks its value", shorten(args[i], 20))
			return
		}
		options[args[i]] = args[i+1]
		i++
	}
	if u, given := options["unit"]; given {
		unit = u
	}
	n.refclock(l, map[string]string{"shm": "shm", "pps": "pps", "nmea": "nmea"}[args[0]], unit, nil, options)
}

// ntpDriver begins a reference clock with what its driver needs; nil: there is no such one.
func ntpDriver(driver, unit string, get func(string) string) mapping {
	clock := mapping{"driver: " + driver}
	device := get("path")
	switch driver {
	case "shm":
		clock.add("unit", quoteNumber(unit))
		return clock
	case "pps":
		if device == "" {
			device = "/dev/pps" + unit
		}
	case "nmea":
		if device == "" {
			device = "/dev/gps" + unit
		}
		if baud := get("baud"); baud != "" {
			clock.add("baud", quoteNumber(baud))
		}
	default:
		return nil
	}
	clock.add("device", quote(device))
	return clock
}
