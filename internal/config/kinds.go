package config

import (
	"errors"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// The kinds of text values, and the keys that fit none of the usual fields.

const defaultGroup = "224.0.1.1" // NTP's own group (RFC 5905 §7.2)

var (
	hostKind         = kind[target]{"host", "a host", "time.example.net", parseHost}
	nameKind         = kind[string]{"host", "a host name", "ke.example.net", parseName}
	listenKind       = kind[ListenAddress]{"address:port", "an address and port", `":123"`, parseListen}
	prefixKind       = kind[netip.Prefix]{"network", "a network", "192.0.2.0/24", parsePrefix}
	addressKind      = kind[netip.Addr]{"address", "an IP address", "192.0.2.1", parseAddress}
	groupKind        = kind[netip.Addr]{"address", "a multicast group", defaultGroup, parseGroup}
	broadcastKind    = kind[netip.Addr]{"address", "a broadcast address", "192.0.2.255", parseBroadcast}
	patternKind      = kind[string]{"file", "the pattern of a file", "/etc/timeball/conf.d/*.yaml", parsePattern}
	statisticsKind   = kind[StatisticsKind]{"word", "a kind of statistics", "measurements", parseStatistics}
	interfaceKind    = kind[string]{"interface", "the name of an interface", "eth0", parseInterface}
	fileKind         = kind[string]{"file", "a file name", "/etc/timeball/keys.yaml", parseFile}
	optionalFileKind = kind[string]{"file", "a file name", "/var/lib/timeball/drift", parseAny}
	socketKind       = kind[string]{"file", "a file name", DefaultSocket, parseSocket}
	sizeKind         = kind[int]{"size", "a size", "1MB", parseSize}
	refidKind        = kind[string]{"text", "a reference id", "GPS", parseRefID}
)

// Targets with types too long for a line of the tables.
func sourceAddress(s *Source) *netip.Addr           { return &s.SourceAddress }
func sourceGroup(s *Source) *netip.Addr             { return &s.Group }
func broadcastAddress(b *Broadcast) *netip.Addr     { return &b.Address }
func multicastGroup(m *Multicast) *netip.Addr       { return &m.Group }
func accessPeer(a *Access) *[]AccessRule            { return &a.Peer }
func accessServer(a *Access) *[]AccessRule          { return &a.Server }
func accessSynchronization(a *Access) *[]AccessRule { return &a.Synchronization }
func accessQuery(a *Access) *[]AccessRule           { return &a.Query }

func parseAny(text string) (string, error) { return text, nil }

// CheckHost refuses what is neither an address of one machine nor can be a host name; the
// error says so without the text.
func CheckHost(text string) error {
	_, err := parseName(text)
	return err
}

func parseName(text string) (string, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.String(), checkUnicast(addr)
	}
	if strings.Contains(text, ":") {
		return "", errors.New("is not a host name; write the name alone, and the port under `port`")
	}
	return text, checkName(text)
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, errors.New("is not an IP address; write one like 192.0.2.1 or 2001:db8::1")
	}
	return addr, checkUnicast(addr)
}

func parseGroup(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.IsMulticast() || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, errors.New("is not a multicast group; write one like " + defaultGroup + " or ff05::101")
	}
	return addr, nil
}

func parseBroadcast(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || !addr.Is4() || addr.IsUnspecified():
		return netip.Addr{}, errors.New("is not an IPv4 broadcast address; write 255.255.255.255 or that of a subnet like 192.0.2.255")
	case addr.IsMulticast():
		return netip.Addr{}, errors.New("is a multicast group; write it under server.multicast")
	}
	return addr, nil
}

// parseInterface refuses what Linux refuses as an interface's name.
func parseInterface(text string) (string, error) {
	if text == "" || len(text) > 15 || text == "." || text == ".." || strings.ContainsAny(text, "/: ") {
		return "", errors.New("is not the name of an interface; write one like eth0, up to 15 characters")
	}
	return text, nil
}

// parsePattern takes a pattern of path.Match.
func parsePattern(text string) (string, error) {
	if _, err := path.Match(text, ""); err != nil || text == "" {
		return "", errors.New("is not a file or a pattern; write one like /etc/timeball/conf.d/*.yaml")
	}
	return text, nil
}

func parseStatistics(text string) (StatisticsKind, error) {
	switch k := StatisticsKind(text); k {
	case StatisticsMeasurements, StatisticsTracking, StatisticsSelection:
		return k, nil
	}
	return "", errors.New("is no kind of statistics; write measurements, tracking or selection")
}

func parseFile(text string) (string, error) {
	if text == "" {
		return "", errors.New("is not a file name; write one, or leave the key out")
	}
	return text, nil
}

// maxSocketName is what sun_path of Linux has room for beside its final NUL.
const maxSocketName = 107

var errSocketName = errors.New("is too long for a Unix socket; up to 107 bytes are possible")

func parseSocket(text string) (string, error) {
	if len(text) > maxSocketName {
		return "", errSocketName
	}
	return text, nil
}

// maxSize is the most that is spent on memories: what the ring of the history can use.
const maxSize = 1_000_000

// sizeKey is a key that holds a number of bytes up to maxSize.
func sizeKey[T any](key, defaultValue string, target func(*T) *int) field[T] {
	f := value(key, sizeKind, defaultValue, target)
	f.info.Range = "0 to 1MB"
	return f
}

// parseSize reads bytes: 0, 500kB, 1MB.
func parseSize(text string) (int, error) {
	number, unit := text, 1
	if cut, found := strings.CutSuffix(text, "MB"); found {
		number, unit = cut, 1_000_000
	} else if cut, found := strings.CutSuffix(text, "kB"); found {
		number, unit = cut, 1000
	}
	value, err := strconv.ParseUint(number, 10, 32)
	switch {
	case err != nil || unit == 1 && value != 0:
		return 0, errors.New("is not a size; write one like 500kB or 1MB, or 0 for none")
	case value*uint64(unit) > maxSize:
		return 0, errors.New("is too large; up to 1MB is used")
	}
	return int(value) * unit, nil
}

func parseRefID(text string) (string, error) {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return "", errors.New("is not a reference id; write 1 to 4 ASCII characters like GPS")
		}
	}
	if text == "" || len(text) > 4 {
		return "", errors.New("is not a reference id; write 1 to 4 ASCII characters like GPS")
	}
	return text, nil
}

// listenKeys are those of an entry of server.listen that is a section.
var listenKeys = section[ListenAddress]{
	value("address", listenKind, "", func(l *ListenAddress) *ListenAddress { return l }).required(),
	boolean("smear", false, func(l *ListenAddress) *bool { return &l.Smear }),
}

// listenKey is the list of addresses to serve at; an entry is an address, or a section
// that says besides whether smeared time is served there.
var listenKey = func() field[Server] {
	f := list("listen", listenKind, `":123"`, func(s *Server) *[]ListenAddress { return &s.Listen })
	f.info.Type = "list of address:port or section"
	f.inner = func() []KeyInfo { return prefixed("[].", listenKeys.keys("")) }
	f.decode = func(d *decoder, at place, s *Server) {
		s.Listen = nil
		for _, row := range d.sequence(at, `[":123"]`) {
			var l ListenAddress
			switch {
			case row.node == nil:
			case row.node.Kind == yaml.MappingNode:
				if listenKeys.decode(d, row, &l); !d.given(row.path + ".address") {
					d.reportAt(row.node, row.path, `has no address; write {address: ":123"}`)
				}
			default:
				listenKind.read(d, row, &l)
			}
			s.Listen = append(s.Listen, l) // also a faulty one: its index is that of its place
		}
		d.refuseEmpty(at, `":123"`)
	}
	return f
}()

// settleSmear: where smearing is on, every address serves smeared time that does not say
// otherwise.
func (c *Config) settleSmear(d *decoder) {
	if c.Server == nil || c.Clock.Leap.Mode != LeapSmear {
		return
	}
	for i := range c.Server.Listen {
		if l := &c.Server.Listen[i]; !d.given("server.listen[" + strconv.Itoa(i) + "].smear") {
			l.Smear = true
		}
	}
}

// required says in the schema that the key has no default; a check reports its lack.
func (f field[T]) required() field[T] {
	f.info.Default = "required"
	f.defaultValue = nil
	return f
}

// by says in the schema what a default is worked out from.
func (f field[T]) by(rule string) field[T] {
	f.info.Default = rule
	return f
}

// keyNumbers is a key that names entries of `keys:`. One that cannot be read is 0.
func keyNumbers[T any](key string, target func(*T) *[]uint32) field[T] {
	return field[T]{
		key:     key,
		info:    KeyInfo{Type: "list of key id", Default: "none", Range: "1 to 4294967295"},
		example: "[10]",
		decode: func(d *decoder, at place, t *T) {
			for _, row := range d.sequence(at, "[10]") {
				var id int64
				if row.node != nil {
					id, _ = d.integer(row, 1, 1<<32-1)
				}
				*target(t) = append(*target(t), uint32(id))
			}
			d.refuseEmpty(at, "10")
		},
	}
}

// aeadNumbers is a key that lists AEAD algorithms by their numbers in IANA's registry:
// those of NTS (RFC 8915 §5.1), and AES-128-GCM-SIV (RFC 8452).
func aeadNumbers[T any](key string, target func(*T) *[]uint16) field[T] {
	return field[T]{
		key:     key,
		info:    KeyInfo{Type: "list of integer", Default: "none", Range: "15, 16, 17, 30"},
		example: "[15]",
		decode: func(d *decoder, at place, t *T) {
			for _, row := range d.sequence(at, "[15]") {
				if row.node == nil {
					continue
				}
				n, ok := d.integer(row, 15, 30)
				if ok && n > 17 && n < 30 {
					d.reportAt(row.node, row.path, "%d is no AEAD algorithm of NTS here; write 15, 16, 17 or 30", n)
				}
				*target(t) = append(*target(t), uint16(n))
			}
			d.refuseEmpty(at, "15")
		},
	}
}

// permissionKey is a key that holds permission bits, written in octal.
func permissionKey[T any](key string, defaultValue uint32, target func(*T) *uint32) field[T] {
	return field[T]{
		key:          key,
		info:         KeyInfo{Type: "octal", Default: "0" + strconv.FormatUint(uint64(defaultValue), 8), Range: "0000 to 0777"},
		example:      "0660",
		defaultValue: func(t *T) { *target(t) = defaultValue },
		decode: func(d *decoder, at place, t *T) {
			text, ok := d.scalar(at, "permission bits", "0660")
			if !ok {
				return
			}
			bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
			if err != nil || bits > 0o777 || !strings.HasPrefix(text, "0") {
				d.reportAt(at.node, at.path, "%q is not permission bits; write them in octal with a leading 0, like 0660", text)
				return
			}
			*target(t) = uint32(bits)
		},
	}
}

// secretField is a key that holds a secret; YAML may take its digits for a number.
func secretField(key string, k kind[string], target func(*secretRow) *string) field[secretRow] {
	f := value(key, k, "", target)
	f.decode = func(d *decoder, at place, r *secretRow) {
		if at.node.Kind == yaml.ScalarNode && !isNull(at.node) {
			plain := *at.node
			plain.Tag = "!!str"
			at.node = &plain
		}
		k.read(d, at, target(r))
	}
	return f
}
