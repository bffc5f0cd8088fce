package convert

import (
	"net/netip"
	"slices"
	"strings"
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
	if args[0] == "source" { // a template for those who are asked
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
	loopback := len(networks) == 1 && networks[0].Addr().IsLoopback()
	if n.limited && !slices.Contains(flags, "limited") && r.right >= rightTime && !loopback {
		n.note(l, NoteChanged, "it is not limited, but server.rate_limit holds for everybody")
	}
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
		case "limited", "kod", "nomodify", "notrap", "lowpriotrap", "nomrulist", "epeer", "serverresponse":
		case "ntpport":
			n.note(line{l.file, l.nr, flag}, NoteChanged, "rights do not depend on the port that a request comes from; the line holds for all ports")
		case "version", "mssntp", "fuzz", "flake":
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

// openAccess writes the rights. Where no line speaks of all others, ntp.org's ntpd serves
// and answers them; ntpsec has a default of its own, noquery and limited (ntp.conf(5)).
func (n *ntpConf) openAccess() {
	if !n.all {
		n.limited = n.limited || n.sec
		for _, p := range everybody {
			if _, given := n.access[p]; !given {
				n.access[p] = rule{right: rightPeer}
				if n.sec {
					n.access[p] = rule{right: rightTime}
				}
			}
		}
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
	case len(r.addresses) > 0:
		at := append([]string{"127.0.0.1:123", "[::1]:123"}, r.addresses...)
		slices.Sort(at)
		return slices.Compact(at)
	case r.ignored[0] && !r.ignored[1]:
		return []string{six}
	case r.ignored[1] && !r.ignored[0]:
		return []string{four}
	}
	return nil
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
	case listens && (what == "all" || what == "wildcard"):
		n.nic.all = what == "all" || n.nic.all
		n.note(l, NoteNothing, "every address is listened at unless server.listen says otherwise")
		return
	case listens:
		n.note(l, NoteChanged, "server.listen takes addresses, not %s: name those that it has, or timeball listens at what the other lines leave", shorten(what, 40))
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
	n.place("server", "listen")
	n.out.Converted++
}
