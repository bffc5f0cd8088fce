package convert

import (
	"net/netip"
	"slices"
	"strconv"
)

// ntpRestrict converts restrict [-4|-6] ADDRESS [mask MASK] [FLAG]... to a right.
func ntpRestrict(n *ntpConf, l line, args []string) {
	families := 3
	if len(args) > 0 && (args[0] == "-4" || args[0] == "-6") {
		families = map[string]int{"-4": 1, "-6": 2}[args[0]]
		args = args[1:]
	}
	if len(args) == 0 {
		n.note(l, NoteRefused, "it names no address")
		return
	}
	if args[0] == "source" {
		n.note(l, NoteNothing, "rights do not bear on the servers that are asked")
		return
	}
	flags := args[1:]
	var networks []netip.Prefix
	switch mask := ""; {
	case args[0] == "default":
		networks = everybody
	default:
		if len(flags) > 1 && flags[0] == "mask" {
			mask, flags = flags[1], flags[2:]
		}
		p, ok := ntpNetwork(args[0], mask)
		if !ok {
			n.note(l, NoteRefused, "%s %s is no network; names are not looked up for rights", shorten(args[0], 40), shorten(mask, 40))
			return
		}
		networks = []netip.Prefix{p}
	}
	r, ok := n.rights(l, flags)
	if !ok {
		return
	}
	for _, p := range networks {
		if p.Addr().Is4() && families&1 != 0 || p.Addr().Is6() && families&2 != 0 {
			n.access[p] = r
		}
	}
	n.place("server", "access")
	n.out.Converted++
}

// rights are what flags leave of all rights.
func (n *ntpConf) rights(l line, flags []string) (r rule, ok bool) {
	noquery, nopeer, noserve, none := false, false, false, false
	for _, flag := range flags {
		switch flag {
		case "ignore":
			return rule{}, true
		case "noserve":
			noserve = true
		case "noquery":
			noquery = true
		case "nopeer", "noepeer":
			nopeer = true
		case "notrust":
			if r.key = len(n.keys) > 0; !r.key {
				n.note(line{l.file, l.nr, flag}, NoteChanged, "there are no keys to show, so nobody there is answered")
				none = true
			}
		case "limited":
			n.limited = true
		case "kod", "nomodify", "notrap", "lowpriotrap", "nomrulist", "epeer", "flake", "ntpport", "serverresponse":
		case "version", "mssntp", "fuzz":
			n.note(line{l.file, l.nr, flag}, NoteNoEqual, "there is no such rule here")
		default:
			n.note(l, NoteRefused, "%q is no flag of restrict", shorten(flag, 30))
			return rule{}, false
		}
	}
	switch {
	case none, noserve && noquery:
		r.right = rightNone
	case noserve:
		r.right = rightQuery
	case noquery:
		r.right = rightTime
	case nopeer:
		r.right = rightServer
	default:
		r.right = rightPeer
	}
	return r, true
}

// ntpNetwork reads an address with a mask, or with the bits of its prefix.
func ntpNetwork(address, mask string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(address); err == nil && mask == "" {
		return p.Masked(), !p.Addr().Is4In6()
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	bits := a.BitLen()
	if mask != "" {
		m, err := netip.ParseAddr(mask)
		if err != nil || m.BitLen() != bits {
			return netip.Prefix{}, false
		}
		if bits = leadingOnes(m); bits < 0 {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// leadingOnes counts the ones of a mask; -1: it has a hole.
func leadingOnes(m netip.Addr) int {
	count, ended := 0, false
	for _, octet := range m.AsSlice() {
		for bit := 7; bit >= 0; bit-- {
			switch one := octet>>bit&1 == 1; {
			case one && ended:
				return -1
			case one:
				count++
			default:
				ended = true
			}
		}
	}
	return count
}

// ntpTinker converts the settings of the discipline that have an equal.
func ntpTinker(n *ntpConf, l line, args []string) {
	if len(args)%2 != 0 {
		n.note(l, NoteRefused, "%s lacks its value", shorten(args[len(args)-1], 20))
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		one := line{l.file, l.nr, "tinker " + args[i] + " " + args[i+1]}
		v, ok := n.builder.number(one, args[i+1], -1e9, 1e9)
		switch {
		case !ok:
		case args[i] == "panic":
			n.set(one, "clock", "panic", seconds(max(v, 0)))
		case args[i] == "step" && v == 0:
			n.set(one, "clock", "step", "{updates: 0}")
		case args[i] == "step":
			n.set(one, "clock", "step", "{threshold: "+seconds(max(v, 1e-6))+", updates: -1}")
		default:
			n.note(one, NoteNothing, learned)
		}
	}
}

// ntpTos converts the settings of selection and orphan mode.
func ntpTos(n *ntpConf, l line, args []string) {
	if len(args)%2 != 0 {
		n.note(l, NoteRefused, "%s lacks its value", shorten(args[len(args)-1], 20))
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		one := line{l.file, l.nr, "tos " + args[i] + " " + args[i+1]}
		v, ok := n.builder.number(one, args[i+1], -1e9, 1e9)
		switch {
		case !ok:
		case args[i] == "minsane":
			n.set(one, "selection", "min_sources", strconv.Itoa(int(min(max(v, 1), 100))))
		case args[i] == "maxdist":
			n.set(one, "selection", "max_distance", seconds(v))
		case args[i] == "orphan" && v >= 1 && v < 16:
			n.orphan.put("stratum", strconv.Itoa(int(v)))
			n.orphan.put("orphan", "true")
			n.out.Converted++
		case args[i] == "orphanwait":
			n.orphan.put("activate", seconds(min(max(v, 0), 3e7)))
			n.out.Converted++
		case args[i] == "maxclock":
			n.note(one, NoteNothing, "each pool has its own number of servers in use: count, 4 unless given")
		case args[i] == "minclock", args[i] == "mindist", args[i] == "mindisp":
			n.note(one, NoteNothing, learned)
		default:
			n.note(one, NoteNoEqual, "sources are not chosen by stratum here")
		}
	}
}

func ntpLeapfile(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		n.note(l, NoteRefused, "a file is needed")
		return
	}
	n.leap(l, "file", quote(args[0]))
}

func ntpSmear(n *ntpConf, l line, args []string) {
	if len(args) != 1 {
		n.note(l, NoteRefused, "an interval is needed")
		return
	}
	v, ok := n.builder.number(l, args[0], 0, 1e6)
	if !ok || v == 0 {
		return
	}
	n.leap(l, "mode", "smear")
	if hasKey("clock.leap.smear.window") {
		n.leap(l, "smear", "{window: "+seconds(v)+"}")
	} else if v != 86400 {
		n.note(l, NoteChanged, "the window is 24 h")
	}
}

// ntpStatistics converts the kinds of statistics, in ntpd's own format.
func ntpStatistics(n *ntpConf, l line, args []string) {
	var kinds []string
	for _, word := range args {
		kind := ""
		switch word {
		case "loopstats":
			kind = "tracking"
		case "peerstats", "rawstats":
			kind = "measurements"
		default:
			n.note(line{l.file, l.nr, "statistics " + word}, NoteNoEqual, "loopstats, peerstats and rawstats are written")
			continue
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	switch {
	case n.statsOff || len(kinds) == 0:
		n.note(l, NoteNothing, "no statistics are written")
	case !hasKey("statistics.directory"):
		n.note(l, NoteNoEqual, "this version writes no statistics")
	default:
		n.set(l, "statistics", "directory", statisticsFolder)
		n.set(l, "statistics", "format", "ntpd")
		n.set(l, "statistics", "kinds", list(kinds))
	}
}

func ntpDisable(n *ntpConf, l line, args []string) {
	for _, word := range args {
		one := line{l.file, l.nr, "disable " + word}
		switch word {
		case "ntp":
			n.set(one, "clock", "driver", "observe")
		case "monitor":
			n.set(one, "server", "client_log", "{size: 0}")
		case "auth":
			n.note(one, NoteChanged, "where a key would be needed it says unauthenticated: true")
		case "kernel", "stats", "bclient", "calibrate", "mode7", "pps", "peer_clear_digest_early", "unpeer_crypto_early", "unpeer_crypto_nak_early", "unpeer_digest_early":
			n.note(one, NoteNothing, "not needed here")
		default:
			n.note(one, NoteRefused, "%q cannot be disabled", shorten(word, 20))
		}
	}
}

func ntpEnable(n *ntpConf, l line, args []string) {
	for _, word := range args {
		one := line{l.file, l.nr, "enable " + word}
		switch word {
		case "bclient":
			ntpBroadcastClient(n, one, nil)
		case "auth", "kernel", "monitor", "ntp", "stats", "calibrate", "mode7", "pps", "peer_clear_digest_early", "unpeer_crypto_early", "unpeer_crypto_nak_early", "unpeer_digest_early":
			n.note(one, NoteNothing, "always so, or not needed")
		default:
			n.note(one, NoteRefused, "%q cannot be enabled", shorten(word, 20))
		}
	}
}

// ntpDiscard takes the average of ntp.org's discard; ntpsec's limit has others.
func ntpDiscard(n *ntpConf, l line, args []string) {
	options := pairs(args)
	for _, option := range sortedKeys(options) {
		text := options[option]
		if option == "average" {
			if v, ok := n.integer(l, option, text, 0, 12); ok {
				n.average = v
				n.out.Converted++
			}
			continue
		}
		n.note(line{l.file, l.nr, option + " " + text}, NoteNothing, "a rate limit has interval, burst and leak: server.rate_limit")
	}
}

// ntpInterface converts interface listen|ignore|drop WHAT.
func ntpInterface(n *ntpConf, l line, args []string) {
	if len(args) != 2 {
		n.note(l, NoteRefused, "listen, ignore or drop and an interface or address are needed")
		return
	}
	address, err := netip.ParseAddr(args[1])
	switch {
	case args[0] == "listen" && err == nil && address.Is6():
		n.listen = append(n.listen, "["+address.String()+"]:123")
	case args[0] == "listen" && err == nil:
		n.listen = append(n.listen, address.String()+":123")
	case args[0] == "listen" && (args[1] == "all" || args[1] == "wildcard"):
		n.note(l, NoteNothing, "every address is listened at unless server.listen says otherwise")
		return
	case args[0] == "listen":
		n.note(l, NoteChanged, "give the addresses of the interface: server.listen")
		return
	case err != nil && !slices.Contains([]string{"all", "wildcard", "ipv4", "ipv6"}, args[1]) && try("server", "{interfaces: {ignore: "+list(args[1:])+"}}") == nil:
		n.ignore = append(n.ignore, args[1])
	default:
		n.note(l, NoteChanged, "server.listen names the addresses that are listened at; all others are not")
		return
	}
	slices.Sort(n.listen)
	n.listen, n.ignore = slices.Compact(n.listen), slices.Compact(n.ignore)
	n.place("server", "listen")
	n.out.Converted++
}

func ntpInclude(n *ntpConf, l line, args []string) {
	if len(args) != 1 {
		n.note(l, NoteRefused, "one file is needed")
		return
	}
	n.note(l, NoteNothing, "its lines stand here, converted, if it could be read")
}

// ntpNTS collects the settings of server.nts.
func ntpNTS(n *ntpConf, l line, args []string) {
	for i := 0; i < len(args); i++ {
		switch word := args[i]; word {
		case "enable", "disable":
		case "key", "cert":
			if i++; i >= len(args) {
				n.note(l, NoteRefused, "%s lacks its file", word)
				return
			}
			n.nts.put(map[string]string{"key": "key", "cert": "certificate"}[word], quote(args[i]))
			n.place("server", "nts")
			n.out.Converted++
		default:
			if i++; i >= len(args) {
				n.note(l, NoteRefused, "%s lacks its value", shorten(word, 20))
				return
			}
			n.note(line{l.file, l.nr, "nts " + word + " " + args[i]}, NoteNoEqual, "NTS has no such setting here; ca stands at each source")
		}
	}
}

func ntpMRU(n *ntpConf, l line, args []string) {
	if text := pairs(args)["maxdepth"]; text != "" {
		if v, ok := n.integer(l, "maxdepth", text, 0, 1<<24); ok {
			n.set(l, "server", "client_log", "{size: "+strconv.Itoa(v)+"}")
		}
		return
	}
	n.note(l, NoteNothing, "the table of clients has a fixed size: server.client_log.size")
}
