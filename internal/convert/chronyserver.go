package convert

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// chronyAllow converts allow and deny: [all] [SUBNET].
func chronyAllow(r right) func(*chrony, line, []string) {
	return func(c *chrony, l line, args []string) {
		all := len(args) > 0 && strings.EqualFold(args[0], "all")
		if all {
			args = args[1:]
		}
		networks := everybody
		switch len(args) {
		case 0:
		case 1:
			p, ok := chronySubnet(args[0])
			if !ok {
				c.note(l, NoteRefused, "%q is no network; names are not looked up for rights", shorten(args[0], 40))
				return
			}
			networks = []netip.Prefix{p}
		default:
			c.note(l, NoteRefused, "one network is needed, and there are %d words", len(args))
			return
		}
		if !c.allows {
			c.note(l, NoteNothing, "nobody is allowed, so nobody is served")
			return
		}
		c.place("server", "access")
		for _, p := range networks {
			if all {
				c.access.within(p)
			}
			c.access[p] = rule{right: r}
		}
		c.out.Converted++
	}
}

// chronySubnet reads 1, 1.2, 1.2.3, an address, or one with the bits of its prefix.
func chronySubnet(text string) (netip.Prefix, bool) {
	address, bits, given := strings.Cut(text, "/")
	parts := strings.Split(address, ".")
	if !strings.Contains(address, ":") && len(parts) < 4 {
		if !given {
			bits, given = strconv.Itoa(8*len(parts)), true
		}
		address += strings.Repeat(".0", 4-len(parts))
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	n := a.BitLen()
	if given {
		if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > a.BitLen() {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(a, n).Masked(), true
}

func chronyRatelimit(c *chrony, l line, args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		n, err := strconv.Atoi(args[i+1])
		if err != nil {
			c.note(l, NoteRefused, "%q is not a whole number", shorten(args[i+1], 20))
			return
		}
		switch strings.ToLower(args[i]) {
		case "interval":
			c.rate.interval = n
		case "burst":
			c.rate.burst = n
		case "leak":
			c.rate.leak = n
		default:
			c.note(l, NoteRefused, "%q is no option of ratelimit", shorten(args[i], 20))
			return
		}
	}
	if len(args)%2 != 0 {
		c.note(l, NoteRefused, "%s lacks its value", shorten(args[len(args)-1], 20))
		return
	}
	if !c.serving(l) {
		return
	}
	m := mapping{"interval: " + seconds(math.Exp2(float64(min(max(c.rate.interval, -19), 12)))), "burst: " + strconv.Itoa(c.rate.burst), "leak: " + strconv.Itoa(c.rate.leak)}
	c.set(l, "server", "rate_limit", m.String())
}

// serving reports whether anybody is served; without, what is said of the server needs
// nothing.
func (c *chrony) serving(l line) bool {
	if !c.allows {
		c.note(l, NoteNothing, "nobody is allowed, so nobody is served")
	}
	return c.allows
}

func chronyPort(c *chrony, l line, args []string) {
	if n, ok := c.number(l, args, 0, 65535); ok && c.serving(l) {
		c.port = strconv.Itoa(int(n))
		c.place("server", "listen")
		c.out.Converted++
	}
}

func chronyBind(c *chrony, l line, args []string) {
	if len(args) != 1 {
		c.note(l, NoteRefused, "an address is needed")
		return
	}
	if _, err := netip.ParseAddr(args[0]); err != nil {
		c.note(l, NoteRefused, "%q is not an address", shorten(args[0], 40))
		return
	}
	if c.serving(l) {
		c.place("server", "listen")
		c.binds = append(c.binds, args[0])
		c.out.Converted++
	}
}

// chronyBroadcast converts broadcast INTERVAL ADDRESS [PORT]; chronyd signs none.
func chronyBroadcast(c *chrony, l line, args []string) {
	if len(args) < 2 || len(args) > 3 {
		c.note(l, NoteRefused, "an interval and an address are needed")
		return
	}
	interval, ok := c.builder.number(l, args[0], 1, 1<<17)
	if !ok {
		return
	}
	address, err := netip.ParseAddr(args[1])
	if err != nil {
		c.note(l, NoteRefused, "%q is not an address", shorten(args[1], 40))
		return
	}
	m, key := mapping{}, "broadcast"
	if address.IsMulticast() {
		key = "multicast"
		m.add("group", quote(args[1]))
	} else {
		m.add("address", quote(args[1]))
	}
	m.add("interval", seconds(interval))
	m.add("unauthenticated", "true")
	if len(args) == 3 {
		m.add("port", quoteNumber(args[2]))
	}
	if !c.serving(l) {
		return
	}
	c.listItem(l, "server", key, m.String())
}

// chronyNTS collects the settings of server.nts.
func chronyNTS(key string) func(*chrony, line, []string) {
	return func(c *chrony, l line, args []string) {
		if len(args) != 1 {
			c.note(l, NoteRefused, "one value is needed")
			return
		}
		if !c.serving(l) {
			return
		}
		value := quote(args[0])
		switch key {
		case "rotate":
			v, ok := c.builder.number(l, args[0], 0, 1e9)
			if !ok {
				return
			}
			value = seconds(max(v, 60))
		case "listen":
			value = list([]string{":" + args[0]})
		case "max_connections":
			value = quoteNumber(args[0])
		}
		if !hasKey("server.nts." + key) {
			c.note(l, NoteNoEqual, "server.nts has no %s here", key)
			return
		}
		for _, pair := range c.ntsFiles {
			if strings.HasPrefix(pair, key+":") {
				c.note(l, NoteNoEqual, "one %s is used, the first", key)
				return
			}
		}
		c.place("server", "nts")
		c.ntsFiles.add(key, value)
		c.out.Converted++
	}
}

func chronyNoClientLog(c *chrony, l line, args []string) {
	if !c.serving(l) {
		return
	}
	if strings.HasPrefix(strings.ToLower(l.text), "noclientlog") {
		c.set(l, "server", "client_log", "{size: 0}")
		return
	}
	if n, ok := c.number(l, args, 0, 1e12); ok { // bytes; a client takes 128 of them in chronyd
		c.set(l, "server", "client_log", "{size: "+strconv.Itoa(int(min(max(n/128, 1024), 1<<24)))+"}")
	}
}
