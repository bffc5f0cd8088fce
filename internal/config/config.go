// Package config turns timeball's YAML configuration into plain values: strict,
// with every problem of a file in one run, each as FILE:LINE:COL, and with all
// defaults applied. It decides what a configuration means and nothing else: no
// socket, clock or goroutine, and only load.go touches a file.
package config

import (
	"net/netip"
	"strconv"
	"time"
)

// Config is a whole configuration with its defaults applied. It holds plain
// values only: two configurations that mean the same are reflect.DeepEqual.
type Config struct {
	Sources            []Source // with those of the drop-ins
	Include            []string // patterns of drop-ins, in the order in which they are read
	Server             *Server  // nil: no port 123 is opened
	Symmetric          Symmetric
	Local              *Local // nil: the local clock is never a reference
	Keys               []Key  // sorted by id; from `keys:` in place or from KeyFile
	KeyFile            string // empty: the keys are in place, or there are none
	Clock              Clock
	Selection          Selection
	Metrics            *Metrics // nil: no metrics listener
	Control            Control
	Statistics         Statistics
	History            History
	ClockBound         *ClockBound // nil: not written
	Log                Log
	NTS                NTS
	HardwareTimestamps []string // interface names; "*" means all
}

// Alone reports whether nobody is configured who may ever tell this machine the time.
func (c *Config) Alone() bool { return len(c.Sources) == 0 && !c.Symmetric.Passive }

// LocalActivate is how long to wait until the local clock is served: not at all where
// there is nobody to wait for.
func (c *Config) LocalActivate() time.Duration {
	if c.Local == nil || c.Alone() {
		return 0
	}
	return c.Local.Activate
}

// Serves reports whether others may set their clocks by this machine's: it answers, or
// has peers.
func (c *Config) Serves() bool {
	if c.Server != nil || c.Symmetric.Passive {
		return true
	}
	for i := range c.Sources {
		if c.Sources[i].Kind == Peer {
			return true
		}
	}
	return false
}

// Poll is the log2 of an interval in seconds (RFC 5905 §7.3), MinPoll to MaxPoll.
type Poll int8

// The bounds and defaults of poll exponents, in log2 seconds.
const (
	MinPoll        Poll = -4
	MaxPoll        Poll = 17
	DefaultMinPoll Poll = 6
	DefaultMaxPoll Poll = 10

	DefaultRefclockPoll Poll = 4
)

// NTPPort is the port of NTP (RFC 5905 §7.2), NTSPort that of NTS key
// establishment (RFC 8915 §7).
const (
	NTPPort = 123
	NTSPort = 4460
)

// SourceKind says what a source is, by the name of its key in the file.
type SourceKind string

// The kinds of sources.
const (
	Pool            SourceKind = "pool"             // mode 3, many addresses under one name
	ServerSource    SourceKind = "server"           // mode 3
	Peer            SourceKind = "peer"             // symmetric active, mode 1
	BroadcastClient SourceKind = "broadcast_client" // listens for mode 5
	MulticastClient SourceKind = "multicast_client" // listens for mode 5 in a group
	RefclockSource  SourceKind = "refclock"
)

// Source is one entry of `sources:`. Kind says which fields have meaning; the
// others are zero.
type Source struct {
	Kind SourceKind

	Host  string     // pool, server, peer: a name, or an IP address without brackets
	Port  uint16     // all but refclock: where to send, or where to listen; 123
	Count int        // pool: how many addresses to keep in use, from 1
	Group netip.Addr // multicast_client: the group

	Interface     string     // empty: any
	SourceAddress netip.Addr // invalid: what the route says

	IBurst  bool // pool, server, peer: a startup burst
	Burst   bool // pool, server: a burst at every poll
	MinPoll Poll
	MaxPoll Poll
	Version uint8 // 1 to 4, sent; pool, server, peer

	Key             uint32     // symmetric key id; 0: none
	Unauthenticated bool       // modes 1, 2 and 5 without a key, said in words
	NTS             *NTSClient // nil: no NTS
	Interleaved     Interleaved

	Prefer   bool // take this one where several are good
	Trust    bool // believed even against a majority
	NoSelect bool // measured only
	Fallback bool // used only while no other source is
	Require  bool // no update of the clock unless this one is among the selected

	Offset   time.Duration // added to every offset (reference − local) of this source
	MaxDelay time.Duration // samples with a longer round trip are not used

	Refclock *Refclock // only with Kind RefclockSource
}

// Name is what reports, logs and metrics call the source: the host with its port
// if that is not 123, or the kind with what it listens to.
func (s *Source) Name() string {
	switch s.Kind {
	case BroadcastClient:
		return joinWords(string(s.Kind), s.Interface)
	case MulticastClient:
		return joinWords(string(s.Kind), s.Group.String(), s.Interface)
	case RefclockSource:
		if s.Refclock.Device != "" {
			return joinWords(string(s.Kind), string(s.Refclock.Driver), s.Refclock.Device)
		}
		return joinWords(string(s.Kind), string(s.Refclock.Driver), strconv.Itoa(s.Refclock.Unit))
	}
	if s.Port == NTPPort {
		return s.Host
	}
	return hostPort(s.Host, s.Port)
}

// Interleaved says whether a client uses interleaved mode (RFC 9769).
type Interleaved string

// The settings of interleaved mode.
const (
	InterleavedOff  Interleaved = "off"
	InterleavedOn   Interleaved = "on"
	InterleavedAuto Interleaved = "auto" // where the server does it too
)

// NTSClient is NTS (RFC 8915) of a pool or server source.
type NTSClient struct {
	Server string // key establishment server; empty: the source's host
	Port   uint16
	CA     string // file of PEM certificates to trust; empty: those of the system
	Name   string // that the certificate must be for; empty: Server, or the source's host
}

// Server is what makes this machine a server of time.
type Server struct {
	Listen      []ListenAddress // never empty
	ListenGiven bool            // false: Listen is the default
	Workers     int             // sockets per address; 0: one a core
	Access      Access
	RateLimit   *RateLimit // nil: none
	Require     Require
	NTS         *NTSServer // nil: none
	FastPath    *FastPath  // nil: none
	Broadcast   []Broadcast
	Multicast   []Multicast
	Ignore      []string // interfaces on which no NTP message is received
	ClientLog   ClientLog
	Interleaved bool          // answer in interleaved mode those who ask so
	SilentStart time.Duration // at most this long after the start nothing is answered before there is a time to tell
}

// FastPathMode says where on its way a packet is looked at.
type FastPathMode string

// The modes of the fast path.
const (
	FastPathAuto    FastPathMode = "auto"
	FastPathNative  FastPathMode = "native"
	FastPathGeneric FastPathMode = "generic"
)

// FastPath answers plain requests in the driver (XDP).
type FastPath struct {
	Interfaces []string // never empty
	Mode       FastPathMode
	Fields     bool // requests with extension fields or a MAC pass by the kernel's UDP as well
}

// ListenAddress is an address and port to listen at. An invalid Addr means every
// address, IPv4 and IPv6; port 0 any free one.
type ListenAddress struct {
	Addr netip.Addr
	Port uint16
	// Smear has the time served there smeared round leap seconds; server.listen alone.
	Smear bool
}

// String gives the address as net.Listen takes it: ":123", "[::1]:123".
func (l ListenAddress) String() string {
	if !l.Addr.IsValid() {
		return ":" + strconv.Itoa(int(l.Port))
	}
	return netip.AddrPortFrom(l.Addr, l.Port).String()
}

// Access holds the four rights from the widest to the narrowest. The first list
// that holds an address counts, and in it the longest network; with any list set the
// others get nothing; with none set everybody has Peer.
type Access struct {
	Peer            []AccessRule // time, control queries, and we may follow them
	Server          []AccessRule // time and control queries
	Synchronization []AccessRule // time only
	Query           []AccessRule // control queries only
}

// AccessRule is one entry of an access list: a network, or several with more to say.
type AccessRule struct {
	Networks []netip.Prefix // never empty
	Require  Require        // to be told the time; "": what the server requires
	Deny     bool           // nothing for these, whatever the lists after this one say
}

// RateLimit bounds the answers to one client.
type RateLimit struct {
	Interval time.Duration // average wait between answered requests
	Burst    int           // requests answered at once after a silence
	Leak     int           // of those over the limit 1 in 2^Leak is answered
}

// Require says what a client must show to be answered.
type Require string

// What a client must show.
const (
	RequireNone Require = "none"
	RequireKey  Require = "key"
	RequireNTS  Require = "nts"
)

// NTSServer is NTS key establishment (RFC 8915 §4) and the keys of its cookies.
type NTSServer struct {
	Listen         []ListenAddress
	Certificate    string        // file, PEM, with the chain
	Key            string        // file, PEM
	Rotate         time.Duration // age at which the cookie key is replaced
	Keep           int           // old cookie keys that are still taken
	Keys           string        // file of the cookie keys; empty: they do not outlive the process
	NTPServer      string        // told to clients; empty: they ask where the key exchange was
	NTPPort        uint16        // told to clients; 0: that of server.listen
	MaxConnections int           // key exchanges at any one time
	AEAD           []uint16      // algorithms that may be used; empty: all
}

// NTS is what NTS needs besides sources and server.
type NTS struct {
	ColdStart bool   // at a start with a clock that is not set, first exchanges do without the dates of certificates
	State     string // folder of what sources have been given, so that a restart needs no exchange; empty: nothing is kept
}

// Broadcast is one sender of mode 5 to a broadcast address.
type Broadcast struct {
	Address         netip.Addr
	Port            uint16
	Interface       string // empty: what the route says
	Interval        time.Duration
	Key             uint32 // 0: none
	Unauthenticated bool
	Version         uint8
}

// Multicast is one sender of mode 5 to a group.
type Multicast struct {
	Group           netip.Addr
	Port            uint16
	Interface       string // empty: what the route says
	Interval        time.Duration
	TTL             uint8  // 1 to 255
	Key             uint32 // 0: none
	Unauthenticated bool
	Version         uint8
}

// ClientLog is the table of clients behind interleaved mode, rate limits and
// `timeball clients`.
type ClientLog struct {
	Size    int  // clients remembered; 0: none
	Privacy bool // no address is reported, only totals
}

// Symmetric says who may mobilize an ephemeral passive association by mode 1.
type Symmetric struct {
	Passive         bool
	Keys            []uint32 // ids that may
	Unauthenticated bool     // anybody with the access right may
	MaxAssociations int      // 0 to 100
}

// Local is the local clock as reference, served when no source is usable.
type Local struct {
	Stratum  uint8         // 1 to 15
	Activate time.Duration // wait without a usable source before it is served
	Orphan   bool          // several of this stratum elect one of them
}

// ClockDriver says which clock is disciplined.
type ClockDriver string

// The clock drivers.
const (
	ClockKernel  ClockDriver = "kernel"
	ClockVirtual ClockDriver = "virtual"
	ClockObserve ClockDriver = "observe"
)

// Clock says which clock is disciplined, and within which bounds.
type Clock struct {
	Driver       ClockDriver
	Virtual      Virtual
	DriftFile    string // empty: none
	StateDir     string // folder of the panic gate; empty: none
	Step         Step
	MaxSlew      Frequency
	Panic        time.Duration // larger corrections after the first are refused; 0: none is
	Leap         Leap
	AccuracyGoal time.Duration // the poll rule polls no more than this needs; 0: no goal
}

// Virtual says how wrong a virtual clock starts.
type Virtual struct {
	Offset    time.Duration // reference − local: positive, the clock is behind
	Frequency Frequency     // positive: the clock runs too fast
}

// Step says when the clock is stepped rather than slewed.
type Step struct {
	Threshold time.Duration // smaller offsets are slewed
	Updates   int           // only in the first updates; 0: never, -1: always
}

// LeapMode says how the clock takes a leap second.
type LeapMode string

// The ways to take a leap second.
const (
	LeapKernel LeapMode = "kernel"
	LeapStep   LeapMode = "step"
	LeapSlew   LeapMode = "slew"
	LeapSmear  LeapMode = "smear"
	LeapIgnore LeapMode = "ignore"
)

// Leap says where leap seconds are known from, and how they are taken.
type Leap struct {
	File  string // leap-seconds.list; empty: the majority of the sources alone
	Mode  LeapMode
	Smear Smear // with LeapSmear
}

// ClockBound is where the error bound is written for ClockBound's clients; an empty path
// leaves a version out.
type ClockBound struct {
	Version1 string // for clients of releases 1.x
	Version2 string // for those of 2.x
}

// SmearShape is how a leap second is spread.
type SmearShape string

// The shapes.
const (
	SmearLinear SmearShape = "linear"
	SmearCosine SmearShape = "cosine"
)

// Smear spreads a leap second in what is served.
type Smear struct {
	Window time.Duration // centred on the leap second
	Shape  SmearShape
}

// Selection bounds which sources may set the clock.
type Selection struct {
	MinSources  int           // selectable sources needed for an update
	MaxDistance time.Duration // root distance over which a source is not used
}

// Metrics is the HTTP listener of /metrics and of the status page.
type Metrics struct {
	Listen ListenAddress
	Hosts  []string // names by which the pages for people may be asked for, besides localhost and addresses
}

// History is the memory behind the page's past and `timeball history`.
type History struct {
	Size int // bytes, at most; 0: none
}

// Control is the Unix socket of the reports.
type Control struct {
	Socket      string // empty: none
	SocketGiven bool   // false: Socket is the default
	Mode        uint32 // permission bits
	// ChronySocket and ChronyPort answer chrony's tools: a Unix datagram socket, and UDP on
	// loopback; "" and 0: not.
	ChronySocket string
	ChronyPort   uint16
}

// StatisticsKind and StatisticsFormat say what is written to files, and how.
type (
	StatisticsKind   string
	StatisticsFormat string
)

// The kinds and formats of statistics.
const (
	StatisticsMeasurements StatisticsKind = "measurements" // each exchange
	StatisticsTracking     StatisticsKind = "tracking"     // each update of the clock
	StatisticsSelection    StatisticsKind = "selection"    // each change of a source's state

	StatisticsCSV  StatisticsFormat = "csv"
	StatisticsNTPD StatisticsFormat = "ntpd" // loopstats, peerstats and rawstats
)

// Statistics are files of what was measured, a new one each day.
type Statistics struct {
	Directory string // empty: none are written
	Kinds     []StatisticsKind
	Format    StatisticsFormat
	Keep      int // days; 0: for ever
}

// LogLevel is the least level logged, LogFormat the form of a line.
type (
	LogLevel  string
	LogFormat string
)

// The log levels and formats.
const (
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"

	FormatConsole LogFormat = "console"
	FormatJSON    LogFormat = "json"
)

// Log says what is logged, and how; always to stderr.
type Log struct {
	Level  LogLevel
	Format LogFormat
}
