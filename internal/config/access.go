package config

import (
	"net/netip"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// requirements are the words of `require`.
var requirements = []Require{RequireNone, RequireKey, RequireNTS}

// accessList is a key that is a list of networks, or of sections with more to say of some;
// inner has the schema list the keys of those, which are the same in all lists.
func accessList(key string, inner bool, target func(*Access) *[]AccessRule) field[Access] {
	const example = "192.0.2.0/24"
	f := field[Access]{
		key:     key,
		info:    KeyInfo{Type: "list of network or section", Default: "none"},
		example: "[" + example + "]",
		decode: func(d *decoder, at place, a *Access) {
			var rules []AccessRule
			for _, row := range d.sequence(at, "["+example+"]") {
				if rule, ok := d.accessRule(row); ok {
					rules = append(rules, rule)
				}
			}
			d.refuseEmpty(at, example)
			*target(a) = rules
		},
	}
	if inner {
		f.inner = func() []KeyInfo { return prefixed("[].", accessRuleKeys.keys("")) }
	}
	return f
}

// accessRule reads one entry of an access list; false: it says nothing.
func (d *decoder) accessRule(row place) (rule AccessRule, ok bool) {
	if row.node == nil {
		return rule, false
	}
	if row.node.Kind != yaml.MappingNode {
		var network netip.Prefix
		ok = prefixKind.read(d, row, &network)
		return AccessRule{Networks: []netip.Prefix{network}}, ok
	}
	accessRuleKeys.defaults(&rule)
	accessRuleKeys.decode(d, row, &rule)
	return rule, true
}

// lists are the four lists by the names of their keys, from the widest right.
func (a *Access) lists() [4]struct {
	name  string
	rules []AccessRule
} {
	return [4]struct {
		name  string
		rules []AccessRule
	}{{"peer", a.Peer}, {"server", a.Server}, {"synchronization", a.Synchronization}, {"query", a.Query}}
}

// Any says whether any right is set.
func (a *Access) Any() bool {
	return len(a.Peer)+len(a.Server)+len(a.Synchronization)+len(a.Query) > 0
}

// holds reports whether a list has a rule for an address, and gives that of the longest
// network.
func holds(rules []AccessRule, address netip.Addr) (rule AccessRule, ok bool) {
	bits := -1
	for _, r := range rules {
		for _, network := range r.Networks {
			if network.Contains(address) && network.Bits() > bits {
				rule, ok, bits = r, true, network.Bits()
			}
		}
	}
	return rule, ok
}

// right is the name of the list that counts for an address, "" where it gets nothing.
func (a *Access) right(address netip.Addr) string {
	if !a.Any() {
		return "peer"
	}
	for _, list := range a.lists() {
		if rule, ok := holds(list.rules, address); ok {
			if rule.Deny {
				return ""
			}
			return list.name
		}
	}
	return ""
}

// checkAccess checks the entries of the access lists.
func (d *draft) checkAccess(s *Server) {
	for _, list := range s.Access.lists() {
		seen := map[netip.Prefix]AccessRule{}
		for i := range list.rules {
			rule := &list.rules[i]
			path := "server.access." + list.name + "[" + strconv.Itoa(i) + "]"
			switch {
			case len(rule.Networks) == 0 && !d.given(path+".networks"):
				d.report(path, "names no networks; add networks: [192.0.2.0/24]")
			case rule.Deny && rule.Require != "":
				d.report(path+".require", "has no effect with deny: true; keep one of them")
			}
			d.checkRequirement(path+".require", rule.Require)
			for _, network := range rule.Networks {
				before, again := seen[network]
				if again && (before.Deny != rule.Deny || before.Require != rule.Require) {
					d.report(path, "%s stands twice in this list, with another meaning; keep one", network)
				}
				seen[network] = *rule
			}
		}
	}
}

// checkRequirement checks that what is required can be shown.
func (d *draft) checkRequirement(path string, r Require) {
	switch s := d.config.Server; {
	case r == RequireKey && d.keyIDs != nil && len(d.keyIDs) == 0:
		d.report(path, "key is required, and there is none; give keys")
	case r == RequireNTS && s.NTS == nil:
		d.report(path, "nts is required, and server.nts is not set up; give its certificate and key")
	}
}

// loopbacks are the addresses by which this host asks itself.
var loopbacks = []struct{ address, network string }{{"127.0.0.1", "127.0.0.0/8"}, {"::1", `"::1"`}}

// warnLoopback warns where the lists leave this host itself without the time or without
// control queries, which monitors on it want: the first list that holds an address counts,
// and one that holds the world holds this host, too.
func (d *draft) warnLoopback(s *Server) {
	if !s.Access.Any() {
		return
	}
	lacks := map[string]string{"synchronization": "control queries (ntpq)", "query": "the time", "": "the time or control queries (ntpq)"}
	var what string
	var networks []string
	for _, own := range loopbacks {
		lack, ok := lacks[s.Access.right(netip.MustParseAddr(own.address))]
		switch {
		case !ok:
			continue
		case what == "":
			what = lack
		case what != lack:
			what = lacks[""]
		}
		networks = append(networks, own.network)
	}
	if what != "" {
		d.warning("server.access", "this host itself does not get %s: the first list that holds its address counts; add server: [%s]",
			what, strings.Join(networks, ", "))
	}
}
