package convert

import (
	"slices"
	"strconv"
	"strings"
)

// pairs takes words and their numbers, each as a line of its own.
func (n *ntpConf) pairs(l line, word string, args []string, take func(one line, key string, v float64)) {
	if len(args)%2 != 0 {
		n.note(l, NoteRefused, "%s lacks its value", shorten(args[len(args)-1], 20))
		return
	}
	for i := 0; i+1 < len(args); i += 2 {
		one := line{l.file, l.nr, word + " " + args[i] + " " + args[i+1]}
		if v, ok := n.builder.number(one, args[i+1], -1e9, 1e9); ok {
			take(one, args[i], v)
		}
	}
}

// ntpTinker converts the settings of the discipline that have an equal.
func ntpTinker(n *ntpConf, l line, args []string) {
	n.pairs(l, "tinker", args, func(one line, key string, v float64) {
		switch {
		case key == "panic":
			n.set(one, "clock", "panic", seconds(max(v, 0)))
		case key == "step" && v == 0:
			n.set(one, "clock", "step", "{updates: 0}")
		case key == "step":
			n.set(one, "clock", "step", "{threshold: "+seconds(max(v, 1e-6))+", updates: -1}")
		case tinkerLearned[key]:
			n.note(one, NoteNothing, learned)
		default:
			n.note(one, NoteRefused, "ntpd has no such setting of tinker")
		}
	})
}

// tinkerLearned are the settings of the discipline that are learned, or bounded by
// clock.step alone.
var tinkerLearned = wordSet("allan dispersion freq huffpuff stepout stepback stepfwd tick")

// ntpTos converts the settings of selection and orphan mode.
func ntpTos(n *ntpConf, l line, args []string) {
	n.pairs(l, "tos", args, func(one line, key string, v float64) {
		switch {
		case key == "minsane":
			n.set(one, "selection", "min_sources", strconv.Itoa(int(min(max(v, 1), 100))))
		case key == "maxdist":
			n.maxDistance(one, v)
		case key == "orphan" && v >= 16:
			n.note(one, NoteNothing, "there is no orphan mode at this stratum")
		case key == "orphan" && v >= 1:
			n.orphan.put("stratum", strconv.Itoa(int(v)))
			n.orphan.put("orphan", "true")
			n.out.Converted++
		case key == "orphanwait":
			n.orphan.put("activate", seconds(min(max(v, 0), 3e7)))
			n.note(one, NoteNothing, "it is local.activate, where there is an orphan stratum")
		case key == "maxclock":
			n.note(one, NoteNothing, "each pool has its own number of servers in use: count, 4 unless given")
		case key == "minclock", key == "mindist", key == "mindisp":
			n.note(one, NoteNothing, learned)
		case key == "ceiling", key == "floor", key == "cohort", key == "basedate", key == "beacon", key == "bcpollbstep":
			n.note(one, NoteNoEqual, "sources are not chosen by stratum, nor found by manycast, here")
		default:
			n.note(one, NoteRefused, "ntpd has no such setting of tos")
		}
	})
}

func ntpLeapfile(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		n.note(l, NoteRefused, "a file is needed")
		return
	}
	n.leap(l, "file", quote(args[0]))
	if len(args) > 1 {
		n.note(line{l.file, l.nr, strings.Join(args[1:], " ")}, NoteNothing, "the list's hash is checked where it has one")
	}
}

func ntpSmear(n *ntpConf, l line, args []string) {
	if len(args) != 1 {
		n.note(l, NoteRefused, "an interval is needed")
		return
	}
	v, ok := n.builder.number(l, args[0], 0, 1e6)
	switch {
	case !ok:
		return
	case v == 0:
		n.note(l, NoteNothing, "nothing is smeared")
		return
	}
	n.note(l, NoteChanged, "ntpd's smear ends with the leap second, and this one is centred on it, as the public clouds have it; do not mix them")
	n.leap(l, "mode", "smear")
	n.leap(l, "smear", "{window: "+seconds(v)+"}")
}

// ntpStatistics converts the kinds of statistics, in ntpd's own format.
func ntpStatistics(n *ntpConf, l line, args []string) {
	for _, word := range args {
		if n.noFile[word] {
			n.note(line{l.file, l.nr, "statistics " + word}, NoteNothing, "filegen disables it")
			continue
		}
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
		if n.off["stats"] {
			continue
		}
		n.place("statistics", "directory")
		if !slices.Contains(n.kinds, kind) {
			n.kinds = append(n.kinds, kind)
		}
	}
	if n.off["stats"] {
		n.note(l, NoteNothing, "disable stats: none are written")
		return
	}
	n.out.Converted++
}

// ntpFilegen says what becomes of a file set.
func ntpFilegen(n *ntpConf, l line, args []string) {
	options := pairs(args[min(1, len(args)):])
	switch kind := options["type"]; {
	case len(args) > 0 && n.noFile[args[0]]:
		n.note(l, NoteNothing, "it is disabled, so it is not among statistics.kinds")
	case kind == "" || kind == "day":
		n.note(l, NoteNothing, "there is a file a day, with the names of ntpd's")
	default:
		n.note(l, NoteChanged, "there is a file a day (statistics.keep), not one a %s", shorten(kind, 20))
	}
}
func ntpDisable(n *ntpConf, l line, args []string) {
	for _, word := range args {
		one := line{l.file, l.nr, "disable " + word}
		if !n.off[word] {
			n.note(one, NoteNothing, "a later line enables it again")
			continue
		}
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
		if n.off[word] {
			n.note(one, NoteNothing, "a later line disables it again")
			continue
		}
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

func ntpInclude(n *ntpConf, l line, args []string) {
	if len(args) != 1 {
		n.note(l, NoteRefused, "one file is needed")
		return
	}
	if count := len(n.included(l.file, args[0])); count > 0 {
		n.note(l, NoteNothing, "its %d files stand here, converted", count)
		return
	}
	n.note(l, NoteRefused, "it cannot be read, so what it says is missing here")
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
			n.ntsSetting(line{l.file, l.nr, "nts " + word + " " + args[i]}, word)
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
