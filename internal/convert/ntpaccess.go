package convert

import (
	"net/netip"
	"slices"
	"strings"
)

// restrictFlags are those flags of restrict that take rights away. The lines for one network
// add up: a later line without a flag does not take it back, only unrestrict does.
type restrictFlags uint8

const (
	flagIgnore restrictFlags = 1 << iota
	flagNoServe
	flagNoQuery
	flagNoPeer
	flagNoTrust
	flagLimited // takes no right away
)

// flagNames are they by name.
var flagNames = map[string]restrictFlags{
	"ignore": flagIgnore, "noserve": flagNoServe, "noquery": flagNoQuery, "nopeer": flagNoPeer, "noepeer": flagNoPeer, "notrust": flagNoTrust, "limited": flagLimited,
}

// rule is what the flags leave of all rights. Who has to show a key gets nothing where there are none.
func (n *ntpConf) rule(f restrictFlags) (r rule) {
	r.key = f&flagNoTrust != 0
	switch {
	case f&flagIgnore != 0, r.key && len(n.keys) == 0, f&flagNoServe != 0 && f&flagNoQuery != 0:
		return rule{}
	case f&flagNoServe != 0:
		r.right = rightQuery
	case f&flagNoQuery != 0:
		r.right = rightTime
	case f&flagNoPeer != 0:
		r.right = rightServer
	default:
		r.right = rightPeer
	}
	return r
}

// builtIn gives all others what they have before any line: everything in ntp.org's ntpd,
// the time, limited, without queries in ntpsec (ntp.conf(5)).
func (n *ntpConf) builtIn() {
	for _, p := range everybody {
		n.restricted[p] = 0
		if n.sec {
			n.restricted[p] = flagNoQuery | flagLimited
		}
	}
}

// restrict takes a restrict or unrestrict line into the flags. A line that cannot be read
// gives nobody anything.
func (n *ntpConf) restrict(word string, args []string) {
	networks, words, why := restrictNetworks(args)
	if why != "" || len(networks) == 0 {
		return
	}
	var flags restrictFlags
	for _, flag := range words {
		flags |= flagNames[flag]
		if unknownFlag(flag) {
			flags |= flagIgnore
		}
	}
	for _, p := range networks {
		_, there := n.restricted[p]
		switch {
		case word == "restrict":
			n.restricted[p] |= flags
		case !there:
		case len(words) > 0:
			n.restricted[p] &^= flags
		case p.Bits() > 0: // what is built in stays
			delete(n.restricted, p)
		}
	}
}

// isLimited reports whether anybody who is told the time is told it at a bounded rate.
func (n *ntpConf) isLimited() bool {
	for _, f := range n.restricted {
		if f&flagLimited != 0 && f&(flagIgnore|flagNoServe) == 0 {
			return true
		}
	}
	return false
}

// ntpRestrict says what became of restrict [-4|-6] ADDRESS [mask MASK] [FLAG]...
func ntpRestrict(n *ntpConf, l line, args []string) {
	networks, words, why := restrictNetworks(args)
	switch {
	case why != "" && len(args) > 0 && n.asked[strings.ToLower(args[0])], why == "" && len(networks) == 0:
		n.note(l, NoteNothing, "rights do not bear on the servers that are asked")
		return
	case why != "":
		n.note(l, NoteRefused, "%s", why)
		return
	case !n.flags(l, words):
		return
	}
	n.place("server", "access")
	n.out.Converted++
	all, there := n.restricted[networks[0]]
	switch right := n.rule(all).right; {
	case !there || right < rightTime || networks[0].Addr().IsLoopback():
	case n.sec && networks[0].Bits() == 0 && right == rightTime && all&flagLimited != 0 && !(slices.Contains(words, "noquery") && slices.Contains(words, "limited")):
		n.note(l, NoteChanged, "ntpsec has noquery and limited for all others, and no restrict takes them back: unrestrict default noquery limited does")
	case n.limited && all&flagLimited == 0:
		n.note(l, NoteChanged, "it is not limited, but server.rate_limit holds for everybody")
	}
}

// ntpUnrestrict says what became of a line that takes flags back.
func ntpUnrestrict(n *ntpConf, l line, args []string) {
	_, words, why := restrictNetworks(args)
	switch {
	case why != "":
		n.note(l, NoteRefused, "%s", why)
	case n.flags(l, words):
		n.note(l, NoteNothing, "the rights are written without what it takes back")
	}
}

// restrictNetworks reads [-4|-6] ADDRESS [mask MASK]; more are the words behind it, why is
// what is wrong. The template for those who are asked, "source", is no network.
func restrictNetworks(args []string) (networks []netip.Prefix, more []string, why string) {
	families := everybody
	if len(args) > 0 && (args[0] == "-4" || args[0] == "-6") {
		families = map[string][]netip.Prefix{"-4": everybody[:1], "-6": everybody[1:]}[args[0]]
		args = args[1:]
	}
	if len(args) == 0 {
		return nil, nil, "it names no address"
	}
	address, more, mask := args[0], args[1:], ""
	switch address {
	case "default":
		return families, more, ""
	case "source":
		return nil, more, ""
	}
	if len(more) > 1 && more[0] == "mask" {
		mask, more = more[1], more[2:]
	}
	p, ok := ntpNetwork(address, mask)
	if !ok {
		return nil, nil, shorten(strings.TrimSpace(address+" "+mask), 80) + " is no network; names are not looked up for rights"
	}
	return []netip.Prefix{p}, more, ""
}

// flags notes those flags of a line that are not what they were; false: it is refused.
func (n *ntpConf) flags(l line, words []string) bool {
	for _, flag := range words {
		one := line{l.file, l.nr, flag}
		switch {
		case flag == "notrust" && len(n.keys) == 0:
			n.note(one, NoteChanged, "there are no keys to show, so nobody there is answered")
		case flag == "ntpport":
			n.note(one, NoteChanged, "rights do not depend on the port that a request comes from; the line holds for all ports")
		case strangeFlags[flag]:
			n.note(one, NoteNoEqual, "there is no such rule here")
		case unknownFlag(flag):
			n.note(l, NoteRefused, "%q is no flag of restrict", shorten(flag, 30))
			return false
		}
	}
	return true
}

func unknownFlag(flag string) bool {
	return flagNames[flag] == 0 && !harmlessFlags[flag] && !strangeFlags[flag]
}

// Flags that take nothing away here, and those without an equal.
var (
	harmlessFlags = wordSet("kod nomodify notrap lowpriotrap nomrulist epeer serverresponse ntpport")
	strangeFlags  = wordSet("version mssntp fuzz flake")
)

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

// openAccess writes the rights.
func (n *ntpConf) openAccess() {
	for p, f := range n.restricted {
		n.access[p] = n.rule(f)
	}
	access := n.access.access()
	if access == "" {
		access = nobody
	}
	n.fill("server", "access", access)
	switch {
	case n.all:
	case n.sec:
		n.remark("ntpsec without restrict default gives everybody the time, limited, and no queries")
	default:
		n.remark("ntpd without restrict default lets all others in, with queries; think about it")
	}
}

// nicRules is what the interface lines say together. With any such line ntpd listens at
// what they name and at the loopback addresses alone; without, at every address.
type nicRules struct {
	addresses []string
	families  [2]bool // listen ipv4, ipv6
	ignored   [2]bool // ignore ipv4, ipv6
	all       bool
	listens   bool // listen WHAT
	first     line // without a number where there is none
}

// listen gives server.listen; nothing: every address.
func (r *nicRules) listen() []string {
	const four, six = "0.0.0.0:123", "[::]:123"
	switch {
	case r.all || r.families[0] && r.families[1]:
		return nil
	case r.families[0]:
		return append(slices.DeleteFunc(slices.Clone(r.addresses), func(a string) bool { return a[0] != '[' }), four)
	case r.families[1]:
		return append(slices.DeleteFunc(slices.Clone(r.addresses), func(a string) bool { return a[0] == '[' }), six)
	case r.first.nr == 0:
		return nil
	}
	at := slices.Clone(r.addresses)
	for family, loopback := range []string{"127.0.0.1:123", "[::1]:123"} {
		if !r.ignored[family] {
			at = append(at, loopback)
		}
	}
	if len(at) == 0 { // an empty list would be every address
		at = []string{"127.0.0.1:123"}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// ntpInterface converts interface listen|ignore|drop WHAT.
func ntpInterface(n *ntpConf, l line, args []string) {
	if len(args) != 2 || !slices.Contains([]string{"listen", "ignore", "drop"}, args[0]) {
		n.note(l, NoteRefused, "listen, ignore or drop and an interface or address are needed")
		return
	}
	what := args[1]
	family := map[string]int{"ipv4": 1, "ipv6": 2}[what]
	address, err := netip.ParseAddr(what)
	listens := args[0] == "listen"
	n.nic.listens = n.nic.listens || listens && what != "wildcard"
	if n.nic.first.nr == 0 {
		n.nic.first = l
	}
	n.place("server", "listen")
	switch {
	case listens && err == nil:
		at := netip.AddrPortFrom(address, 123).String()
		if bad := try("server", "{listen: "+list([]string{at})+"}"); bad != nil {
			n.note(l, NoteRefused, "%v", bad)
			return
		}
		n.nic.addresses = append(n.nic.addresses, at)
	case listens && family > 0:
		n.nic.families[family-1] = true
	case listens && what == "all":
		n.nic.all = true
		n.note(l, NoteNothing, "every address is listened at unless server.listen says otherwise")
		return
	case listens && what == "wildcard":
		n.note(l, NoteNothing, "ntpd answers nobody at the wildcard address")
		return
	case listens:
		n.note(l, NoteChanged, "server.listen takes addresses, not %s: add those that it has; until then nobody is served there", shorten(what, 40))
		return
	case family > 0:
		n.nic.ignored[family-1] = true
	case what == "all" || what == "wildcard":
		n.note(l, NoteNothing, "where server.listen names addresses, no other is listened at")
		return
	case err == nil || strings.Contains(what, "/"):
		n.note(l, NoteChanged, "where server.listen names addresses, no other is listened at; name all but these")
		return
	case try("server", "{interfaces: {ignore: "+list(args[1:])+"}}") != nil:
		n.note(l, NoteRefused, "%q is no interface", shorten(what, 40))
		return
	default:
		if !slices.Contains(n.ignore, what) {
			n.ignore = append(n.ignore, what)
			slices.Sort(n.ignore)
		}
	}
	n.out.Converted++
}
