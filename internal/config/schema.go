package config

import (
	"net/netip"
	"time"
)

// The schema: one table a section, one line a key, with type, default and range.
// What a key means is in docs/configuration.md, which a test holds to these tables.

var configKeys = section[Config]{
	sourceList,
	list("include", patternKind, "", func(c *Config) *[]string { return &c.Include }),
	optional("server", serverKeys, func(c *Config) **Server { return &c.Server }),
	group("symmetric", symmetricKeys, func(c *Config) *Symmetric { return &c.Symmetric }),
	optional("local", localKeys, func(c *Config) **Local { return &c.Local }),
	keyList,
	group("nts", ntsKeys, func(c *Config) *NTS { return &c.NTS }),
	group("clock", clockKeys, func(c *Config) *Clock { return &c.Clock }),
	group("selection", selectionKeys, func(c *Config) *Selection { return &c.Selection }),
	optional("metrics", metricsKeys, func(c *Config) **Metrics { return &c.Metrics }),
	group("control", controlKeys, func(c *Config) *Control { return &c.Control }),
	group("history", historyKeys, func(c *Config) *History { return &c.History }),
	optional("clockbound", clockBoundKeys, func(c *Config) **ClockBound { return &c.ClockBound }),
	group("statistics", statisticsKeys, func(c *Config) *Statistics { return &c.Statistics }),
	group("log", logKeys, func(c *Config) *Log { return &c.Log }),
	list("hardware_timestamps", interfaceKind, "", func(c *Config) *[]string { return &c.HardwareTimestamps }),
}

var serverKeys = section[Server]{
	listenKey,
	number("workers", 0, 0, 256, func(s *Server) *int { return &s.Workers }),
	group("access", accessKeys, func(s *Server) *Access { return &s.Access }),
	optional("rate_limit", rateLimitKeys, func(s *Server) **RateLimit { return &s.RateLimit }),
	choice("require", RequireNone, requirements, func(s *Server) *Require { return &s.Require }),
	optional("nts", ntsServerKeys, func(s *Server) **NTSServer { return &s.NTS }),
	optional("fast_path", fastPathKeys, func(s *Server) **FastPath { return &s.FastPath }),
	rows("broadcast", broadcastKeys, func(s *Server) *[]Broadcast { return &s.Broadcast }),
	rows("multicast", multicastKeys, func(s *Server) *[]Multicast { return &s.Multicast }),
	group("interfaces", serverInterfaceKeys, func(s *Server) *Server { return s }),
	group("client_log", clientLogKeys, func(s *Server) *ClientLog { return &s.ClientLog }),
	boolean("interleaved", true, func(s *Server) *bool { return &s.Interleaved }),
	span("silent_start", 10*time.Second, 0, 8760*time.Hour, func(s *Server) *time.Duration { return &s.SilentStart }),
}

var accessKeys = section[Access]{
	accessList("peer", true, accessPeer),
	accessList("server", false, accessServer),
	accessList("synchronization", false, accessSynchronization),
	accessList("query", false, accessQuery),
}

var accessRuleKeys = section[AccessRule]{
	list("networks", prefixKind, "", func(r *AccessRule) *[]netip.Prefix { return &r.Networks }).required(),
	choice("require", "", requirements, func(r *AccessRule) *Require { return &r.Require }).by("server.require"),
	boolean("deny", false, func(r *AccessRule) *bool { return &r.Deny }),
}

var rateLimitKeys = section[RateLimit]{
	span("interval", 2*time.Second, time.Microsecond, 4096*time.Second, func(r *RateLimit) *time.Duration { return &r.Interval }),
	number("burst", 8, 1, 255, func(r *RateLimit) *int { return &r.Burst }),
	number("leak", 4, 1, 16, func(r *RateLimit) *int { return &r.Leak }),
}

var fastPathKeys = section[FastPath]{
	list("interfaces", interfaceKind, "", func(f *FastPath) *[]string { return &f.Interfaces }).required(),
	choice("mode", FastPathAuto, []FastPathMode{FastPathAuto, FastPathNative, FastPathGeneric}, func(f *FastPath) *FastPathMode { return &f.Mode }),
	boolean("fields", false, func(f *FastPath) *bool { return &f.Fields }),
}

var ntsServerKeys = section[NTSServer]{
	list("listen", listenKind, `":4460"`, func(n *NTSServer) *[]ListenAddress { return &n.Listen }),
	value("certificate", fileKind, "", func(n *NTSServer) *string { return &n.Certificate }).required(),
	value("key", fileKind, "", func(n *NTSServer) *string { return &n.Key }).required(),
	span("rotate", 24*time.Hour, time.Minute, 8760*time.Hour, func(n *NTSServer) *time.Duration { return &n.Rotate }),
	number("keep", 7, 0, 100, func(n *NTSServer) *int { return &n.Keep }),
	value("keys", optionalFileKind, "", func(n *NTSServer) *string { return &n.Keys }).by("nts-keys below clock.state_dir"),
	value("ntp_server", nameKind, "", func(n *NTSServer) *string { return &n.NTPServer }),
	number("ntp_port", 0, 1, 65535, func(n *NTSServer) *uint16 { return &n.NTPPort }).by("the port of server.listen"),
	number("max_connections", 128, 1, 10000, func(n *NTSServer) *int { return &n.MaxConnections }),
	aeadNumbers("aead", func(n *NTSServer) *[]uint16 { return &n.AEAD }),
}

var ntsKeys = section[NTS]{
	boolean("cold_start", true, func(n *NTS) *bool { return &n.ColdStart }),
	value("state", optionalFileKind, "", func(n *NTS) *string { return &n.State }).by("nts below clock.state_dir"),
}

// The shortest and the longest interval that a poll exponent can tell.
const (
	shortestInterval = time.Second / (1 << -MinPoll)
	longestInterval  = time.Second << MaxPoll
)

var broadcastKeys = section[Broadcast]{
	value("address", broadcastKind, "255.255.255.255", broadcastAddress),
	value("interface", interfaceKind, "", func(b *Broadcast) *string { return &b.Interface }),
	span("interval", 64*time.Second, shortestInterval, longestInterval, func(b *Broadcast) *time.Duration { return &b.Interval }),
	keyNumber("key", func(b *Broadcast) *uint32 { return &b.Key }),
	boolean("unauthenticated", false, func(b *Broadcast) *bool { return &b.Unauthenticated }),
	number("version", 4, 1, 4, func(b *Broadcast) *uint8 { return &b.Version }),
	number("port", NTPPort, 1, 65535, func(b *Broadcast) *uint16 { return &b.Port }),
}

var multicastKeys = section[Multicast]{
	value("group", groupKind, defaultGroup, multicastGroup),
	value("interface", interfaceKind, "", func(m *Multicast) *string { return &m.Interface }),
	span("interval", 64*time.Second, shortestInterval, longestInterval, func(m *Multicast) *time.Duration { return &m.Interval }),
	number("ttl", 16, 1, 255, func(m *Multicast) *uint8 { return &m.TTL }),
	keyNumber("key", func(m *Multicast) *uint32 { return &m.Key }),
	boolean("unauthenticated", false, func(m *Multicast) *bool { return &m.Unauthenticated }),
	number("version", 4, 1, 4, func(m *Multicast) *uint8 { return &m.Version }),
	number("port", NTPPort, 1, 65535, func(m *Multicast) *uint16 { return &m.Port }),
}

var serverInterfaceKeys = section[Server]{
	list("ignore", interfaceKind, "", func(s *Server) *[]string { return &s.Ignore }),
}

var clientLogKeys = section[ClientLog]{
	number("size", 65536, 0, 1<<24, func(c *ClientLog) *int { return &c.Size }),
	boolean("privacy", false, func(c *ClientLog) *bool { return &c.Privacy }),
}

var symmetricKeys = section[Symmetric]{
	boolean("passive", false, func(s *Symmetric) *bool { return &s.Passive }),
	keyNumbers("keys", func(s *Symmetric) *[]uint32 { return &s.Keys }),
	boolean("unauthenticated", false, func(s *Symmetric) *bool { return &s.Unauthenticated }),
	number("max_associations", 100, 0, 100, func(s *Symmetric) *int { return &s.MaxAssociations }),
}

var localKeys = section[Local]{
	number("stratum", 10, 1, 15, func(l *Local) *uint8 { return &l.Stratum }),
	span("activate", 0, 0, 8760*time.Hour, func(l *Local) *time.Duration { return &l.Activate }),
	boolean("orphan", false, func(l *Local) *bool { return &l.Orphan }),
}

var secretKeys = section[secretRow]{
	keyNumber("id", func(r *secretRow) *uint32 { return &r.ID }).required(),
	choice("type", "", KeyTypes[:], func(r *secretRow) *string { return &r.Type }).required(),
	secretField("hex", hexKind, func(r *secretRow) *string { return &r.hex }),
	secretField("text", textKind, func(r *secretRow) *string { return &r.text }),
}

// forever bounds durations that need no bound of their own: 114 years.
const forever = 1000000 * time.Hour

// DefaultStateDir is where the kernel's clock keeps its drift and its panic gate.
const DefaultStateDir = "/var/lib/timeball"

var clockKeys = section[Clock]{
	choice("driver", ClockKernel, []ClockDriver{ClockKernel, ClockVirtual, ClockObserve}, func(c *Clock) *ClockDriver { return &c.Driver }),
	group("virtual", virtualKeys, func(c *Clock) *Virtual { return &c.Virtual }),
	value("drift_file", optionalFileKind, DefaultStateDir+"/drift", func(c *Clock) *string { return &c.DriftFile }),
	value("state_dir", optionalFileKind, "", func(c *Clock) *string { return &c.StateDir }).by("folder of drift_file"),
	group("step", stepKeys, func(c *Clock) *Step { return &c.Step }),
	ratio("max_slew", 83333e-6, 1e-6, 0.1, func(c *Clock) *Frequency { return &c.MaxSlew }),
	span("panic", 1000*time.Second, 0, forever, func(c *Clock) *time.Duration { return &c.Panic }),
	group("leap", leapKeys, func(c *Clock) *Leap { return &c.Leap }),
	span("accuracy_goal", 0, 0, time.Second, func(c *Clock) *time.Duration { return &c.AccuracyGoal }),
}

var virtualKeys = section[Virtual]{
	span("offset", 0, -forever, forever, func(v *Virtual) *time.Duration { return &v.Offset }),
	ratio("frequency", 0, -0.1, 0.1, func(v *Virtual) *Frequency { return &v.Frequency }),
}

var stepKeys = section[Step]{
	span("threshold", time.Second, time.Microsecond, forever, func(s *Step) *time.Duration { return &s.Threshold }),
	number("updates", 3, -1, 1000000, func(s *Step) *int { return &s.Updates }),
}

var leapKeys = section[Leap]{
	value("file", fileKind, "", func(l *Leap) *string { return &l.File }),
	choice("mode", LeapKernel, []LeapMode{LeapKernel, LeapStep, LeapSlew, LeapSmear, LeapIgnore}, func(l *Leap) *LeapMode { return &l.Mode }),
	group("smear", smearKeys, func(l *Leap) *Smear { return &l.Smear }),
}

var smearKeys = section[Smear]{
	span("window", 24*time.Hour, time.Minute, 48*time.Hour, func(s *Smear) *time.Duration { return &s.Window }),
	choice("shape", SmearLinear, []SmearShape{SmearLinear, SmearCosine}, func(s *Smear) *SmearShape { return &s.Shape }),
}

var selectionKeys = section[Selection]{
	number("min_sources", 1, 1, 100, func(s *Selection) *int { return &s.MinSources }),
	span("max_distance", 1500*time.Millisecond, time.Microsecond, 16*time.Second, func(s *Selection) *time.Duration { return &s.MaxDistance }),
}

var metricsKeys = section[Metrics]{
	value("listen", listenKind, "127.0.0.1:9123", func(m *Metrics) *ListenAddress { return &m.Listen }),
	list("hosts", nameKind, "", func(m *Metrics) *[]string { return &m.Hosts }),
}

// DefaultSocket is where the reports are asked for.
const DefaultSocket = "/run/timeball/timeball.sock"

var controlKeys = section[Control]{
	value("socket", socketKind, DefaultSocket, func(c *Control) *string { return &c.Socket }),
	permissionKey("mode", 0o660, func(c *Control) *uint32 { return &c.Mode }),
	value("chrony_socket", socketKind, "", func(c *Control) *string { return &c.ChronySocket }),
	number("chrony_port", 0, 0, 65535, func(c *Control) *uint16 { return &c.ChronyPort }),
}

var clockBoundKeys = section[ClockBound]{
	value("version1", optionalFileKind, "/var/run/clockbound/shm", func(c *ClockBound) *string { return &c.Version1 }),
	value("version2", optionalFileKind, "/var/run/clockbound/shm0", func(c *ClockBound) *string { return &c.Version2 }),
}

var historyKeys = section[History]{
	sizeKey("size", "1MB", func(h *History) *int { return &h.Size }),
}

var statisticsKeys = section[Statistics]{
	value("directory", optionalFileKind, "", func(s *Statistics) *string { return &s.Directory }),
	list("kinds", statisticsKind, "measurements", func(s *Statistics) *[]StatisticsKind { return &s.Kinds }),
	choice("format", StatisticsCSV, []StatisticsFormat{StatisticsCSV, StatisticsNTPD}, func(s *Statistics) *StatisticsFormat { return &s.Format }),
	number("keep", 30, 0, 36500, func(s *Statistics) *int { return &s.Keep }),
}

var logKeys = section[Log]{
	choice("level", LevelInfo, []LogLevel{LevelDebug, LevelInfo, LevelWarn, LevelError}, func(l *Log) *LogLevel { return &l.Level }),
	choice("format", FormatConsole, []LogFormat{FormatConsole, FormatJSON}, func(l *Log) *LogFormat { return &l.Format }),
}

// Schema lists every key of a configuration, in the order of the tables.
func Schema() []KeyInfo { return append([]KeyInfo(nil), schema...) }

// schema is filled by init: the tables refer to it through the decoder.
var schema []KeyInfo

func init() { schema = configKeys.keys("") }
