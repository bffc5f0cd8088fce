package convert

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"timeball/internal/config"
)

// ntpDirectives are the directives that become something.
var ntpDirectives map[string]func(*ntpConf, line, []string)

func init() { // the table refers to functions that refer to it
	ntpDirectives = map[string]func(*ntpConf, line, []string){
		"server": ntpServer(config.ServerSource), "pool": ntpServer(config.Pool), "peer": ntpServer(config.Peer),
		"broadcast": ntpBroadcast, "broadcastclient": ntpBroadcastClient, "multicastclient": ntpMulticastClient,
		"refclock": ntpRefclock, "restrict": ntpRestrict, "unrestrict": ntpUnrestrict, "tinker": ntpTinker, "tos": ntpTos, "leapfile": ntpLeapfile,
		"keys": ntpKeys, "statistics": ntpStatistics, "disable": ntpDisable, "enable": ntpEnable,
		"filegen": ntpFilegen, "fudge": ntpFudge, "trustedkey": ntpTrustedKey, "discard": ntpDiscard, "limit": ntpDiscard, "interface": ntpInterface, "nic": ntpInterface, "includefile": ntpInclude,
		"leapsmearinterval": ntpSmear, "nts": ntpNTS, "mru": ntpMRU, "monitor": ntpMRU,
	}
}

// ntpFlags are the options of a source without a value, ntpValues those with one.
var (
	ntpFlags  = wordSet("burst iburst prefer noselect true preempt autokey xleave nts noval dynamic")
	ntpValues = wordSet("minpoll maxpoll key version mode ttl bias ask require ca cert subtype aead expire minpoll")
)

// ntpOptions cuts a source's words into options. ntpd keeps what stands before an unknown
// word and drops the rest without a word: here the line is refused.
func (n *ntpConf) options(l line, args []string) (map[string]string, bool) {
	options := map[string]string{}
	for i := 0; i < len(args); i++ {
		switch {
		case ntpFlags[args[i]]:
			options[args[i]] = ""
		case ntpValues[args[i]] && i+1 < len(args):
			options[args[i]] = args[i+1]
			i++
		default:
			n.note(l, NoteRefused, "%q is no option of a source, or lacks its value; ntpd drops the rest of the line", shorten(args[i], 30))
			return nil, false
		}
	}
	return options, true
}

// ntpServer converts server, pool and peer.
func ntpServer(kind config.SourceKind) func(*ntpConf, line, []string) {
	return func(n *ntpConf, l line, args []string) {
		if len(args) > 0 && (args[0] == "-4" || args[0] == "-6") {
			n.note(line{l.file, l.nr, args[0]}, NoteNoEqual, "both families of addresses are used")
			args = args[1:]
		}
		if len(args) == 0 {
			n.note(l, NoteRefused, "it names no host")
			return
		}
		options, ok := n.options(l, args[1:])
		if !ok {
			return
		}
		if unit, found := strings.CutPrefix(args[0], "127.127."); found {
			n.localClock(l, unit, options)
			return
		}
		kind := kind
		if kind == config.Peer && n.sec {
			kind = config.ServerSource
			n.note(line{l.file, l.nr, "peer"}, NoteNothing, "ntpsec asks a peer like a server, and so it is here")
		}
		m, host, ok := n.sourceOptions(l, kind, args[0], options)
		if ok {
			n.addSource(l, kind, host, m)
		}
	}
}

// ntpFlagKeys are the flags with an equal.
var ntpFlagKeys = []struct{ option, key, value string }{
	{"prefer", "prefer", "true"}, {"true", "trust", "true"}, {"noselect", "no_select", "true"}, {"xleave", "interleaved", "on"},
}

// sourceOptions converts the options of a source; false: the line has been refused.
func (n *ntpConf) sourceOptions(l line, kind config.SourceKind, host string, options map[string]string) (m mapping, at string, ok bool) {
	has := func(name string) bool { _, there := options[name]; return there }
	if kind != config.Peer && !has("iburst") {
		m.add("iburst", "false")
	}
	if has("burst") && kind != config.Peer {
		m.add("burst", "true")
	}
	if !n.polls(l, options, &m) {
		return nil, "", false
	}
	if text, given := options["version"]; given {
		v, fine := n.integer(l, "version", text, 1, 4)
		if !fine {
			return nil, "", false
		}
		m.add("version", strconv.Itoa(v))
	}
	switch {
	case has("autokey"):
		n.note(l, NoteRefused, "autokey was broken long ago, and without it this would be unauthenticated; use NTS")
		return nil, "", false
	case has("key"):
		id, fine := n.key(l, options["key"])
		if !fine {
			return nil, "", false
		}
		m.add("key", id)
	case kind == config.Peer && n.off["auth"]:
		m.add("unauthenticated", "true")
	case kind == config.Peer:
		n.note(l, NoteChanged, "a configured peer without a key is believed by ntpd, and so it is here")
		m.add("unauthenticated", "true")
	}
	if has("nts") || has("ca") || has("ask") {
		var fine bool
		if host, fine = n.ntsOptions(l, host, options, &m); !fine {
			return nil, "", false
		}
	}
	for _, flag := range ntpFlagKeys {
		if has(flag.option) && (flag.option == "noselect" || !has("noselect")) {
			m.add(flag.key, flag.value)
		}
	}
	if has("bias") {
		v, fine := n.builder.number(l, options["bias"], -3600, 3600)
		if !fine {
			return nil, "", false
		}
		m.add("offset", seconds(v))
	}
	n.leftOver(l, options, "preempt", "ttl", "mode", "dynamic", "subtype")
	if !has("nts") && !has("ca") && !has("ask") {
		n.leftOver(l, options, "require", "cert", "aead", "expire")
	}
	return m, host, true
}

// leftOver notes the options that nothing has used.
func (n *ntpConf) leftOver(l line, options map[string]string, names ...string) {
	for _, name := range names {
		if value, given := options[name]; given {
			n.note(line{l.file, l.nr, strings.TrimSpace(name + " " + value)}, NoteNothing, "not needed here")
		}
	}
}

// polls converts minpoll and maxpoll. ntpd polls at the smaller one where they contradict.
func (n *ntpConf) polls(l line, options map[string]string, m *mapping) bool {
	low, high := config.DefaultMinPoll, config.DefaultMaxPoll
	for _, o := range []struct {
		option string
		into   *config.Poll
	}{{"minpoll", &low}, {"maxpoll", &high}} {
		text, given := options[o.option]
		if !given {
			continue
		}
		v, ok := n.integer(l, o.option, text, 0, 17)
		if !ok {
			return false
		}
		*o.into = config.Poll(v)
	}
	_, lowGiven := options["minpoll"]
	_, highGiven := options["maxpoll"]
	if low > high {
		if lowGiven && highGiven {
			n.note(l, NoteRefused, "minpoll is above maxpoll; ntpd polls at the lower one, which nobody means")
			return false
		}
		if lowGiven {
			high = low
		} else {
			low = high
		}
	}
	if lowGiven || low != config.DefaultMinPoll {
		m.add("min_poll", strconv.Itoa(int(low)))
	}
	if highGiven || high != config.DefaultMaxPoll {
		m.add("max_poll", strconv.Itoa(int(high)))
	}
	return true
}

// ntsOptions converts NTS: a port behind the host is that of the key establishment.
func (n *ntpConf) ntsOptions(l line, host string, options map[string]string, m *mapping) (string, bool) {
	if _, blind := options["noval"]; blind {
		n.note(l, NoteRefused, "noval believes any certificate, which timeball never does; name its authority with ca")
		return "", false
	}
	var nts mapping
	if name, port, err := net.SplitHostPort(host); err == nil {
		host = name
		nts.add("port", quoteNumber(port))
	}
	if ca, given := options["ca"]; given {
		nts.add("ca", quote(ca))
	} else if n.ca != "" {
		nts.add("ca", quote(n.ca))
	}
	for _, option := range []string{"ask", "require", "cert", "aead", "expire"} {
		if value, given := options[option]; given {
			n.note(line{l.file, l.nr, option + " " + value}, NoteNoEqual, "NTS has no such setting here")
		}
	}
	if len(nts) == 0 {
		m.add("nts", "true")
	} else {
		m.add("nts", nts.String())
	}
	return host, true
}

// ntpBroadcast converts broadcast ADDRESS [key N] [minpoll N] [ttl N].
func ntpBroadcast(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		n.note(l, NoteRefused, "an address is needed")
		return
	}
	options, ok := n.options(l, args[1:])
	if !ok {
		return
	}
	address, err := netip.ParseAddr(args[0])
	if err != nil {
		n.note(l, NoteRefused, "%q is not an address", shorten(args[0], 40))
		return
	}
	m, key := mapping{}, "broadcast"
	if address.IsMulticast() {
		key = "multicast"
		m.add("group", quote(args[0]))
		if ttl, given := options["ttl"]; given {
			v, fine := n.integer(l, "ttl", ttl, 1, 255)
			if !fine {
				return
			}
			m.add("ttl", strconv.Itoa(v))
		}
	} else {
		m.add("address", quote(args[0]))
	}
	if text, given := options["minpoll"]; given {
		poll, ok := n.integer(l, "minpoll", text, 0, 17)
		if !ok {
			return
		}
		m.add("interval", seconds(float64(int(1)<<poll)))
	}
	if text, given := options["key"]; given {
		id, ok := n.key(l, text)
		if !ok {
			return
		}
		m.add("key", id)
	} else {
		m.add("unauthenticated", "true")
	}
	if text, given := options["version"]; given {
		v, fine := n.integer(l, "version", text, 1, 4)
		if !fine {
			return
		}
		m.add("version", strconv.Itoa(v))
	}
	n.listItem(l, "server", key, m.String())
	n.leftOver(l, options, "iburst", "burst", "maxpoll", "prefer", "noselect", "true", "mode", "preempt")
	if _, given := options["xleave"]; given {
		n.note(line{l.file, l.nr, "xleave"}, NoteNoEqual, "broadcasts are not interleaved")
	}
}

// signature says how mode 5 is believed: by the one trusted key, or by none.
func (n *ntpConf) signature(l line) (string, bool) {
	switch {
	case n.off["auth"]:
		return "unauthenticated: true", true
	case len(n.signed) == 1:
		id, ok := n.key(l, strconv.FormatUint(uint64(n.signed[0]), 10))
		return "key: " + id, ok
	}
	n.note(l, NoteRefused, "it needs a key, and %d are trusted; add the source with its key", len(n.signed))
	return "", false
}

func ntpBroadcastClient(n *ntpConf, l line, _ []string) {
	if proof, ok := n.signature(l); ok {
		n.entry(l, "sources", "{broadcast_client: {}, "+proof+"}")
	}
}

func ntpMulticastClient(n *ntpConf, l line, args []string) {
	if len(args) == 0 {
		args = []string{"224.0.1.1"}
	}
	proof, ok := n.signature(l)
	for _, group := range args {
		if ok {
			n.entry(l, "sources", "{multicast_client: {group: "+quote(group)+"}, "+proof+"}")
		}
	}
}
