package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The schema of `sources:`, and how an entry becomes one of the kinds.

var sourceKeys = section[Source]{
	hostKey(Pool, "pool.ntp.org"),
	hostKey(ServerSource, "time.example.net"),
	hostKey(Peer, "192.0.2.20"),
	listenerKey(BroadcastClient, broadcastClientKeys),
	listenerKey(MulticastClient, multicastClientKeys),
	refclockKey,
	number("count", 4, 1, 32, func(s *Source) *int { return &s.Count }),
	boolean("iburst", true, func(s *Source) *bool { return &s.IBurst }),
	boolean("burst", false, func(s *Source) *bool { return &s.Burst }),
	number("min_poll", DefaultMinPoll, MinPoll, MaxPoll, func(s *Source) *Poll { return &s.MinPoll }),
	number("max_poll", DefaultMaxPoll, MinPoll, MaxPoll, func(s *Source) *Poll { return &s.MaxPoll }),
	number("version", 4, 1, 4, func(s *Source) *uint8 { return &s.Version }),
	keyNumber("key", func(s *Source) *uint32 { return &s.Key }),
	boolean("unauthenticated", false, func(s *Source) *bool { return &s.Unauthenticated }),
	ntsKey,
	choice("interleaved", InterleavedAuto, []Interleaved{InterleavedOff, InterleavedOn, InterleavedAuto},
		func(s *Source) *Interleaved { return &s.Interleaved }),
	boolean("prefer", false, func(s *Source) *bool { return &s.Prefer }),
	boolean("trust", false, func(s *Source) *bool { return &s.Trust }),
	boolean("no_select", false, func(s *Source) *bool { return &s.NoSelect }),
	boolean("require", false, func(s *Source) *bool { return &s.Require }),
	boolean("fallback", false, func(s *Source) *bool { return &s.Fallback }),
	span("offset", 0, -time.Hour, time.Hour, func(s *Source) *time.Duration { return &s.Offset }),
	span("max_delay", 3*time.Second, time.Microsecond, 1000*time.Second, func(s *Source) *time.Duration { return &s.MaxDelay }),
	value("interface", interfaceKind, "", func(s *Source) *string { return &s.Interface }),
	value("source_address", addressKind, "", sourceAddress),
}

var broadcastClientKeys = section[Source]{
	value("interface", interfaceKind, "", func(s *Source) *string { return &s.Interface }),
	number("port", NTPPort, 1, 65535, func(s *Source) *uint16 { return &s.Port }),
}

var multicastClientKeys = section[Source]{
	value("group", groupKind, defaultGroup, sourceGroup),
	value("interface", interfaceKind, "", func(s *Source) *string { return &s.Interface }),
	number("port", NTPPort, 1, 65535, func(s *Source) *uint16 { return &s.Port }),
}

var refclockKeys = section[Refclock]{
	choice("driver", "", []RefclockDriver{RefclockSHM, RefclockSOCK, RefclockPPS, RefclockPHC, RefclockNMEA},
		func(r *Refclock) *RefclockDriver { return &r.Driver }).required(),
	number("unit", 0, 0, 255, func(r *Refclock) *int { return &r.Unit }),
	value("device", fileKind, "", func(r *Refclock) *string { return &r.Device }),
	value("refid", refidKind, "", func(r *Refclock) *string { return &r.RefID }),
	span("offset", 0, -time.Hour, time.Hour, func(r *Refclock) *time.Duration { return &r.Offset }),
	span("delay", time.Microsecond, 0, 2*time.Second, func(r *Refclock) *time.Duration { return &r.Delay }),
	span("precision", 0, 0, time.Second, func(r *Refclock) *time.Duration { return &r.Precision }),
	number("stratum", 0, 0, 14, func(r *Refclock) *uint8 { return &r.Stratum }),
	number("min_samples", 1, 1, 64, func(r *Refclock) *int { return &r.MinReadings }),
	value("lock", refidKind, "", func(r *Refclock) *string { return &r.Lock }),
	choice("edge", EdgeAssert, []PulseEdge{EdgeAssert, EdgeClear}, func(r *Refclock) *PulseEdge { return &r.Edge }),
	number("rate", 1, 1, 100, func(r *Refclock) *int { return &r.Rate }),
	boolean("tai", false, func(r *Refclock) *bool { return &r.TAI }),
	number("baud", 0, 0, 460800, func(r *Refclock) *int { return &r.Baud }),
	permissionKey("mode", 0o600, func(r *Refclock) *uint32 { return &r.Mode }),
}

// refclockDrivers are the drivers for which a key has meaning; all, where it does not
// stand here.
var refclockDrivers = map[string][]RefclockDriver{ // looked up, never ranged over
	"unit":   {RefclockSHM, RefclockPPS, RefclockPHC},
	"device": {RefclockSOCK, RefclockPPS, RefclockPHC, RefclockNMEA},
	"lock":   {RefclockPPS, RefclockSOCK},
	"edge":   {RefclockPPS},
	"rate":   {RefclockPPS},
	"tai":    {RefclockPHC},
	"baud":   {RefclockNMEA},
	"mode":   {RefclockSOCK},
}

var ntsClientKeys = section[NTSClient]{
	value("server", nameKind, "", func(n *NTSClient) *string { return &n.Server }),
	number("port", NTSPort, 1, 65535, func(n *NTSClient) *uint16 { return &n.Port }),
	value("ca", fileKind, "", func(n *NTSClient) *string { return &n.CA }),
	value("name", nameKind, "", func(n *NTSClient) *string { return &n.Name }),
}

// The kinds of source for which a key has meaning; all, where it does not stand here.
var (
	sourceKinds  = []SourceKind{Pool, ServerSource, Peer, BroadcastClient, MulticastClient, RefclockSource}
	unicastKinds = []SourceKind{Pool, ServerSource, Peer}
	clientKinds  = []SourceKind{Pool, ServerSource}
	polledKinds  = []SourceKind{Pool, ServerSource, Peer, RefclockSource}
	packetKinds  = []SourceKind{Pool, ServerSource, Peer, BroadcastClient, MulticastClient}
	unaskedKinds = []SourceKind{Peer, BroadcastClient, MulticastClient}

	kindsOfKey = map[string][]SourceKind{ // looked up, never ranged over
		"count":           {Pool},
		"iburst":          unicastKinds,
		"burst":           clientKinds,
		"min_poll":        polledKinds,
		"max_poll":        polledKinds,
		"version":         unicastKinds,
		"key":             packetKinds,
		"unauthenticated": unaskedKinds,
		"nts":             clientKinds,
		"interleaved":     unicastKinds,
		"max_delay":       packetKinds,
		"interface":       unicastKinds,
		"source_address":  packetKinds,
	}
)

// fits says whether a key has meaning for a kind of source.
func fits(key string, kind SourceKind) bool {
	kinds := kindsOfKey[key]
	return kinds == nil || slices.Contains(kinds, kind)
}

// sourcePath is the path of a source by its index.
func sourcePath(i int) string { return "sources[" + strconv.Itoa(i) + "]" }

// sourceList is the top-level key `sources`. Its defaults wait for the kind.
var sourceList = func() field[Config] {
	f := rows("sources", sourceKeys, func(c *Config) *[]Source { return &c.Sources })
	f.decode = func(d *decoder, at place, c *Config) {
		for _, row := range d.sections(at, "a list, with - before each source, like - server: time.example.net") {
			var s Source
			if row.node != nil {
				sourceKeys.decode(d, row, &s)
				s.settle(d, row.path)
			}
			c.Sources = append(c.Sources, s)
		}
	}
	return f
}()

// settle fills in the defaults that have meaning for the kind. A poll exponent that
// is given moves the default of the other one with it.
func (s *Source) settle(d *decoder, path string) {
	for _, f := range sourceKeys {
		if f.defaultValue != nil && fits(f.key, s.Kind) && !d.given(path+"."+f.key) {
			f.defaultValue(s)
		}
	}
	switch {
	case !fits("min_poll", s.Kind):
	case s.Kind == RefclockSource:
		s.settleRefclock(d.given(path+".min_poll"), d.given(path+".max_poll"))
	case !d.given(path + ".min_poll"):
		s.MinPoll = min(s.MinPoll, s.MaxPoll)
	case !d.given(path + ".max_poll"):
		s.MaxPoll = max(s.MinPoll, s.MaxPoll)
	}
}

// settleRefclock: a reference clock costs nobody a packet, so it gives a sample every
// 2^min_poll seconds, by default 16 s, and never less often.
func (s *Source) settleRefclock(minGiven, maxGiven bool) {
	if !minGiven {
		s.MinPoll = DefaultRefclockPoll
	}
	if !maxGiven {
		s.MaxPoll = s.MinPoll
	} else if !minGiven {
		s.MinPoll = min(s.MinPoll, s.MaxPoll)
	}
	if r := s.Refclock; r.RefID == "" {
		r.RefID = strings.ToUpper(string(r.Driver))
	}
}

// claim makes a source one of a kind, the first that its entry names.
func (d *decoder) claim(at place, s *Source, kind SourceKind) bool {
	if s.Kind != "" {
		d.reportAt(at.node, at.path, "this source is a %s already; begin another entry with - for the %s", s.Kind, kind)
		return false
	}
	s.Kind = kind
	return true
}

// hostKey is a kind of source that is named by a host.
func hostKey(kind SourceKind, example string) field[Source] {
	return field[Source]{
		key:     string(kind),
		info:    KeyInfo{Type: "host", Default: "none"},
		example: example,
		decode: func(d *decoder, at place, s *Source) {
			if !d.claim(at, s, kind) {
				return
			}
			var to target
			if hostKind.read(d, at, &to) {
				s.Host, s.Port = to.host, to.port
			}
		},
	}
}

// listenerKey is a kind of source that listens for mode 5.
func listenerKey(kind SourceKind, keys section[Source]) field[Source] {
	return field[Source]{
		key:     string(kind),
		info:    KeyInfo{Type: "section", Default: "none"},
		example: keys.example(),
		inner:   func() []KeyInfo { return prefixed(".", keys.keys("")) },
		decode: func(d *decoder, at place, s *Source) {
			if d.claim(at, s, kind) {
				keys.defaults(s)
				keys.decode(d, at, s)
			}
		},
	}
}

// refclockKey is the kind of source that is a clock at this machine.
var refclockKey = field[Source]{
	key:     string(RefclockSource),
	info:    KeyInfo{Type: "section", Default: "none"},
	example: "{driver: shm}",
	inner:   func() []KeyInfo { return prefixed(".", refclockKeys.keys("")) },
	decode: func(d *decoder, at place, s *Source) {
		s.Refclock = &Refclock{}
		if d.claim(at, s, RefclockSource) {
			refclockKeys.defaults(s.Refclock)
			refclockKeys.decode(d, at, s.Refclock)
		}
	},
}

// ntsKey is `nts: true`, or a section for more.
var ntsKey = field[Source]{
	key:     "nts",
	info:    KeyInfo{Type: "boolean or section", Default: "false"},
	example: "true",
	inner:   func() []KeyInfo { return prefixed(".", ntsClientKeys.keys("")) },
	decode: func(d *decoder, at place, s *Source) {
		use := true
		if len(at.node.Content) == 0 && at.node.Value != "" {
			use, _ = d.boolean(at)
		}
		if !use {
			return
		}
		s.NTS = &NTSClient{}
		ntsClientKeys.defaults(s.NTS)
		if at.node.Value == "" {
			ntsClientKeys.decode(d, at, s.NTS)
		}
	},
}
