package convert

import (
	"slices"
	"strconv"
	"strings"

	"timeball/internal/config"
)

func sortStrings(list []string) { slices.Sort(list) }

// chronyDirectives are the directives that become something.
var chronyDirectives map[string]func(*chrony, line, []string)

func init() { // the table refers to functions that refer to it
	chronyDirectives = map[string]func(*chrony, line, []string){
		"server": chronySource(config.ServerSource), "pool": chronySource(config.Pool), "peer": chronySource(config.Peer),
		"refclock": chronyRefclock,
		"makestep": chronyMakestep, "maxchange": chronyMaxchange, "maxslewrate": chronyMaxslewrate,
		"minsources": chronyMinsources, "maxdistance": chronyMaxdistance,
		"leapsectz": chronyLeapsectz, "leapseclist": chronyLeapseclist, "leapsecmode": chronyLeapsecmode, "smoothtime": chronySmoothtime,
		"local": chronyLocal, "allow": chronyAllow(rightTime), "deny": chronyAllow(rightNone),
		"ratelimit": chronyRatelimit, "port": chronyPort, "bindaddress": chronyBind, "broadcast": chronyBroadcast,
		"hwtimestamp": chronyHardware, "keyfile": chronyKeyfile, "log": chronyLog, "noclientlog": chronyNoClientLog,
		"clientloglimit": chronyNoClientLog, "include": chronyInclude, "confdir": chronyInclude, "sourcedir": chronySourcedir,
		"ntsserverkey": chronyNTS("key"), "ntsservercert": chronyNTS("certificate"), "ntsrotate": chronyNTS("rotate"), "ntsport": chronyNTS("listen"),
		"ntsntpserver": chronyNTS("ntp_server"), "maxntsconnections": chronyNTS("max_connections"),
		"ntstrustedcerts": chronyTrustedCerts, "authselectmode": chronyAuthSelect, "bindcmdaddress": chronyCommandSocket,
		"cmdport": chronyCmdport,
	}
}

// chronyNothing are those that need nothing: timeball does so anyway.
var chronyNothing = map[string]string{
	"rtcsync":    "always so: the kernel keeps the clock of the board right while the system's is synchronized",
	"driftfile":  "timeball keeps its own, /var/lib/timeball/drift",
	"ntsdumpdir": "cookies and keys are kept in /var/lib/timeball", "ntscachedir": "cookies and keys are kept in /var/lib/timeball",
	"dumpdir": "the state is learned anew within minutes", "dumponexit": "the state is learned anew within minutes",
	"maxupdateskew": learned, "corrtimeratio": learned, "stratumweight": learned, "combinelimit": learned, "reselectdist": learned,
	"minsamples": learned, "maxsamples": learned, "maxjitter": learned, "maxclockerror": learned, "maxdrift": learned,
	"fallbackdrift": learned, "clockprecision": "measured at the start",
	"user": "the unit says who timeball runs as", "pidfile": "systemd knows its process", "lock_all": "the program is small and busy enough to stay in memory",
	"sched_priority": "kernel timestamps make it unnecessary; the unit sets nice", "logbanner": "log files of statistics have one header",
	"logdir": "see log", "linux_hz": "of kernels long gone", "linux_freq_scale": "of kernels long gone", "generatecommandkey": "of old chronyd",
	"commandkey": "of old chronyd", "acquisitionport": "each request leaves from a random port of its own (RFC 9109)",
	"ntsrefresh": "the session is renewed when the cookies run out", "ntsprocesses": "key establishment runs on all cores",
	"nosystemcert": "where a source has nts.ca, only that file is trusted", "maxtxbuffers": "found by itself",
	"hwtstimeout": "found by itself", "refresh": "names are looked up again every hour",
}

// chronyNoEqual are those without an equal.
var chronyNoEqual = map[string]string{
	"tempcomp": "no compensation by temperature sensors", "manual": "time cannot be typed in", "mailonchange": "no mail; see the alerts in docs/metrics.md",
	"initstepslew": "clock.step sets the clock in the first updates", "ntpsigndsocket": "no signing for Windows domains",
	"rtcfile": "the board's clock is read by the kernel at boot, and not modelled", "rtcdevice": "the board's clock is left to the kernel",
	"rtconutc": "the board's clock is left to the kernel", "rtcautotrim": "the board's clock is left to the kernel", "hwclockfile": "the board's clock is left to the kernel",
	"logchange": "every change of state is logged; alerts are in docs/metrics.md", "dscp": "packets are not marked",
	"binddevice": "listen at an address of the interface: server.listen", "bindacqdevice": "give `interface` to the sources",
	"bindacqaddress": "give `source_address` to the sources", "ntsaeads": "the best algorithm that both sides have is taken",
	"ntsratelimit": "connections for keys are bounded, not by client", "cmdratelimit": "answers are bounded by their sockets",
	"nocerttimecheck": "see nts.cold_start",
	"ptpport":         "no NTP over PTP", "ptpdomain": "no NTP over PTP",
	"cmdallow": "the control socket is for this machine alone", "cmddeny": "the control socket is for this machine alone",
	"bindcmddevice": "the control socket is for this machine alone",
	"opencommands":  "chrony's requests are answered on loopback and on control.chrony_socket alone",
}

func chronyMakestep(c *chrony, l line, args []string) {
	if len(args) != 2 {
		c.note(l, NoteRefused, "a threshold and a number of updates are needed")
		return
	}
	threshold, ok := c.builder.number(l, args[0], 0, 1e9)
	if !ok {
		return
	}
	updates, err := strconv.Atoi(args[1])
	if err != nil {
		c.note(l, NoteRefused, "%q is not a whole number of updates", shorten(args[1], 20))
		return
	}
	c.steps = true
	c.set(l, "clock", "step", "{threshold: "+seconds(max(threshold, 1e-6))+", updates: "+strconv.Itoa(min(max(updates, -1), 1000000))+"}")
}

func chronyMaxchange(c *chrony, l line, args []string) {
	if len(args) != 3 {
		c.note(l, NoteRefused, "three numbers are needed")
		return
	}
	if limit, ok := c.builder.number(l, args[0], 0, 1e9); ok {
		c.set(l, "clock", "panic", seconds(limit))
		c.note(line{l.file, l.nr, "maxchange"}, NoteChanged, "the first correction may be of any size, all others are refused beyond it, and timeball goes on running")
	}
}

func chronyMaxslewrate(c *chrony, l line, args []string) {
	if rate, ok := c.number(l, args, 1, 100000); ok {
		c.set(l, "clock", "max_slew", strconv.FormatFloat(rate, 'f', -1, 64)+"ppm")
	}
}

func chronyMinsources(c *chrony, l line, args []string) {
	if n, ok := c.number(l, args, 1, 100); ok {
		c.set(l, "selection", "min_sources", strconv.Itoa(int(n)))
	}
}

func chronyMaxdistance(c *chrony, l line, args []string) {
	if len(args) == 1 && strings.EqualFold(args[0], "inf") {
		args = []string{"1e9"}
	}
	if d, ok := c.number(l, args, 1e-6, 1e9); ok {
		c.maxDistance(l, d)
	}
}

// leapList is where tzdata keeps the list of leap seconds.
const leapList = "/usr/share/zoneinfo/leap-seconds.list"

// leap sets parts of clock.leap, whichever lines they come from.
func (b *builder) leap(l line, key, value string) {
	s := b.section("clock")
	var m mapping
	for i := range s.items {
		if s.items[i].key == "leap" {
			for pair := range strings.SplitSeq(strings.Trim(s.items[i].text, "{}"), ", ") {
				if name, _, _ := strings.Cut(pair, ":"); name != key {
					m = append(m, pair)
				}
			}
		}
	}
	m.add(key, value)
	if err := try("clock", "{leap: "+m.String()+"}"); err != nil {
		b.note(l, NoteRefused, "%v", err)
		return
	}
	b.fill("clock", "leap", m.String())
	b.out.Converted++
}

func chronyLeapsectz(c *chrony, l line, _ []string) {
	c.leap(l, "file", leapList)
	c.note(l, NoteChanged, "leap seconds are read from the list that tzdata brings, not from the time zone")
}

func chronyLeapseclist(c *chrony, l line, args []string) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "a file is needed")
		return
	}
	c.leap(l, "file", quote(args[0]))
}

func chronyLeapsecmode(c *chrony, l line, args []string) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "a mode is needed")
		return
	}
	mode := strings.ToLower(args[0])
	switch {
	case mode == "system":
		mode = "kernel"
	case mode == "slew" && c.smooth:
		mode = "smear"
	case !slices.Contains([]string{"step", "slew", "ignore"}, mode):
		c.note(l, NoteRefused, "chronyd has no mode %q", shorten(args[0], 20))
		return
	}
	c.leap(l, "mode", mode)
}

func chronySmoothtime(c *chrony, l line, _ []string) {
	if c.slews {
		c.note(l, NoteChanged, "with leapsecmode slew: clock.leap.mode smear, linear in 24 h around the leap second (clock.leap.smear has window and shape); our own clock takes the second as the kernel does")
		if !slices.Contains(strings.Fields(strings.ToLower(l.text)), "leaponly") {
			c.note(line{l.file, l.nr, "smoothtime without leaponly"}, NoteNoEqual, "other corrections are served as they are, not smoothed")
		}
		return
	}
	c.note(l, NoteNoEqual, "served time is smoothed over leap seconds only: leapsecmode slew with it would be clock.leap.mode smear")
}

func chronyLocal(c *chrony, l line, args []string) {
	stratum, m := "10", mapping{}
	for i := 0; i < len(args); i++ {
		word := strings.ToLower(args[i])
		if word == "orphan" {
			m.put("orphan", "true")
			continue
		}
		if i++; i >= len(args) {
			c.note(l, NoteRefused, "%s lacks its value", shorten(word, 20))
			return
		}
		v, ok := c.builder.number(l, args[i], 0, 1e6)
		if !ok {
			return
		}
		option := line{l.file, l.nr, word + " " + args[i]}
		switch word {
		case "stratum":
			stratum = strconv.Itoa(int(v))
		case "waitunsynced":
			m.put("activate", seconds(v))
		case "distance", "activate", "waitsynced":
			c.note(option, NoteNoEqual, "a distance does not decide when the local clock is served; `activate` is how long it waits without a usable source")
		default:
			c.note(l, NoteRefused, "%q is no option of local", shorten(word, 20))
			return
		}
	}
	m = append(mapping{"stratum: " + stratum}, m...)
	c.value(l, "local", m.String())
}

// listItem adds an entry to a key that holds a list of sections.
func (b *builder) listItem(l line, name, key, entry string) {
	if err := try(name, "{"+key+": ["+entry+"]}"); err != nil {
		b.note(l, NoteRefused, "%v", err)
		return
	}
	b.place(name, key)
	s := b.sections[name]
	for i := range s.items {
		if s.items[i].key != key {
			continue
		}
		if s.items[i].text == "" {
			s.items[i].text = "[" + entry + "]"
		} else {
			s.items[i].text = strings.TrimSuffix(s.items[i].text, "]") + ", " + entry + "]"
		}
	}
	b.out.Converted++
}

func chronyHardware(c *chrony, l line, args []string) {
	if len(args) == 0 {
		c.note(l, NoteRefused, "an interface is needed")
		return
	}
	if c.entry(l, "hardware_timestamps", quote(args[0])) && len(args) > 1 {
		c.note(line{l.file, l.nr, strings.Join(args[1:], " ")}, NoteNothing, "found by itself")
	}
}

func chronyKeyfile(c *chrony, l line, args []string) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "a file is needed")
		return
	}
	c.useKeys(l)
}

// chronyLog converts the logs that have an equal.
func chronyLog(c *chrony, l line, args []string) {
	for _, word := range args {
		kind := ""
		switch strings.ToLower(word) {
		case "measurements", "rawmeasurements":
			kind = "measurements"
		case "tracking", "selection":
			kind = strings.ToLower(word)
		default:
			c.note(line{l.file, l.nr, "log " + word}, NoteNoEqual, "statistics are measurements, tracking and selection")
			continue
		}
		if !hasKey("statistics.directory") {
			c.note(line{l.file, l.nr, "log " + word}, NoteNoEqual, "this version writes no statistics")
			continue
		}
		c.place("statistics", "directory")
		if !slices.Contains(c.kinds, kind) {
			c.kinds = append(c.kinds, kind)
		}
	}
	c.out.Converted++
}

// chronyInclude says where the lines of other files went.
func chronyInclude(c *chrony, l line, args []string) {
	switch files := c.named(l); {
	case len(args) == 0:
		c.note(l, NoteRefused, "a file or folder is needed")
	case len(files) > 0:
		c.note(l, NoteNothing, "its %d files stand here, converted", len(files))
	case strings.EqualFold(strings.Fields(l.text)[0], "include") && strings.ContainsAny(l.text, "*?["):
		c.note(l, NoteChanged, "no file matches; chronyd would not start if the folder were missing")
	case strings.EqualFold(strings.Fields(l.text)[0], "include"):
		c.note(l, NoteChanged, "no file is there; chronyd would not start")
	default:
		c.note(l, NoteNothing, "no file is there; what is added later goes into /etc/timeball/conf.d")
	}
}

func chronySourcedir(c *chrony, l line, args []string) {
	if strings.Contains(l.text, "dhcp") && hasKey("include") && c.sections["include"] == nil {
		c.entry(l, "include", dropIns)
		c.remark("servers of DHCP: timeball's helpers write dhcp-IFACE.yaml there")
		return
	}
	chronyInclude(c, l, args)
}

// dropIns is where sources are added from elsewhere.
const dropIns = `"/etc/timeball/conf.d/*.yaml"`

// chronyCmdport keeps chrony's tools working.
func chronyCmdport(c *chrony, l line, args []string) {
	n, ok := c.number(l, args, 0, 65535)
	switch {
	case !ok:
	case n == 0:
		c.note(l, NoteNothing, "chrony's requests are answered only where control says so")
	case hasKey("control.chrony_port"):
		c.set(l, "control", "chrony_port", strconv.Itoa(int(n)))
	default:
		c.note(l, NoteNoEqual, "this version does not answer chrony's requests")
	}
}
