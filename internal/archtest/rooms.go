package archtest

// Room is one package under internal/ or cmd/: its layer, and what its own kind of
// work entitles it to.
type Room struct {
	Layer int
	// Beside names the packages of the same layer it may import. A package of a lower
	// layer may be imported by any higher one; the other way round never.
	Beside []string
	// Pure rooms take time as an argument and give actions back: no clock, timer,
	// file, socket, goroutine, channel, lock, logger or global randomness.
	Pure bool
	// Atomics says that a pure room may hold counters and pointers to snapshots that
	// another goroutine reads.
	Atomics bool
	// OS names the one file of a pure room that may import os.
	OS string
	// Goroutines is the reason why a room other than daemon may start some; empty:
	// it may not.
	Goroutines string
}

// Rooms is the plan of the house, layer by layer.
var Rooms = map[string]Room{
	// L0: leafs
	"internal/ntptime":  {Layer: 0, Pure: true},
	"internal/wire":     {Layer: 0, Pure: true, Beside: []string{"ntptime"}},
	"internal/model":    {Layer: 0, Pure: true, Beside: []string{"ntptime", "wire", "smear"}},
	"internal/mac":      {Layer: 0, Pure: true},
	"internal/siv":      {Layer: 0, Pure: true},
	"internal/nts":      {Layer: 0, Pure: true, Beside: []string{"ntptime", "wire", "siv"}},
	"internal/leapfile": {Layer: 0, Pure: true, Beside: []string{"ntptime"}},
	"internal/smear":    {Layer: 0, Pure: true, Beside: []string{"ntptime", "wire"}},
	"internal/config":   {Layer: 0, Pure: true, OS: "load.go"},

	"internal/scenario": {Layer: 0, Pure: true, Beside: []string{"config", "ntptime", "model"}, OS: "load.go"},

	// L1: the core
	"internal/association": {Layer: 1, Pure: true},
	"internal/filter":      {Layer: 1, Pure: true},
	"internal/bound":       {Layer: 1, Pure: true},
	"internal/reference":   {Layer: 1, Pure: true},
	"internal/history":     {Layer: 1, Pure: true},
	"internal/selection":   {Layer: 1, Pure: true},
	"internal/discipline":  {Layer: 1, Pure: true},
	"internal/system":      {Layer: 1, Pure: true, Beside: []string{"filter", "selection", "discipline"}},
	"internal/responder":   {Layer: 1, Pure: true, Atomics: true},
	"internal/engine":      {Layer: 1, Pure: true, Beside: []string{"association", "reference", "system", "responder"}},

	// L2: the edges
	"internal/footprint":  {Layer: 2},
	"internal/logging":    {Layer: 2, Goroutines: "writes what is queued, since standard error may block for ever"},
	"internal/netio":      {Layer: 2, Goroutines: "waits for sockets that have no deadline of their own"},
	"internal/netio/xdp":  {Layer: 2},
	"internal/clock":      {Layer: 2},
	"internal/refclock":   {Layer: 2, Goroutines: "a driver waits in a device's blocking read"},
	"internal/ntske":      {Layer: 2, Goroutines: "one for each TLS connection, bounded"},
	"internal/resolve":    {Layer: 2, Goroutines: "a look-up may block for as long as the system's resolver likes"},
	"internal/chrony":     {Layer: 2},
	"internal/control":    {Layer: 2, Goroutines: "one for each connection to the control socket, bounded"},
	"internal/statistics": {Layer: 2},
	"internal/state":      {Layer: 2},
	"internal/clockbound": {Layer: 2},
	"internal/metrics":    {Layer: 2, Goroutines: "the HTTP server's own"},

	// L3: the drivers. The lab runs a simulator's scenario through the daemon.
	"internal/serve":    {Layer: 3},
	"internal/probe":    {Layer: 3, Goroutines: "one for each socket and each server asked, until the reply"},
	"internal/daemon":   {Layer: 3, Beside: []string{"serve", "probe"}, Goroutines: "starts all that run for the daemon's life"},
	"internal/virtual":  {Layer: 3},
	"internal/picture":  {Layer: 3},
	"internal/simulate": {Layer: 3, Beside: []string{"virtual", "picture"}, Goroutines: "several runs of a scenario in parallel"},
	"internal/lab":      {Layer: 3, Beside: []string{"daemon"}, Goroutines: "one for each host's daemon"},

	// L4: the faces
	"internal/convert": {Layer: 4},
	"internal/cli":     {Layer: 4, Beside: []string{"convert"}, Goroutines: "several hosts asked at once"},
	"cmd/timeball":     {Layer: 4, Beside: []string{"cli"}},

	// no room of the program
	"internal/archtest": {Layer: 0},
}

// OutsideModules says which rooms may import a module that is not ours, by prefix of the
// import path.
var OutsideModules = map[string][]string{
	"github.com/ajstarks/svgo":     {"picture", "history"},
	"github.com/cilium/ebpf":       {"xdp"},
	"github.com/coreos/go-systemd": {"daemon", "cli", "netio"},
	"github.com/pelletier/go-toml": {"convert"},
	"github.com/prometheus":        {"metrics"},
	"github.com/spf13/cobra":       {"cli"},
	"github.com/spf13/pflag":       {"cli"},
	"go.uber.org/zap":              {"logging", "serve", "daemon", "simulate", "lab", "cli"},
	"golang.org/x/net":             {"netio"},
	"golang.org/x/sys":             {"footprint", "netio", "xdp", "clock", "clockbound", "refclock", "control", "daemon", "cli"},
	"gopkg.in/yaml.v3":             {"config", "scenario", "daemon", "cli"},
	"go.yaml.in/yaml":              {"config", "scenario", "daemon", "cli"},
}

// impure names the packages of the standard library that no pure room imports; those
// below one of them are meant too. net/netip is values only.
var impure = []string{
	"context", "crypto/rand", "log", "math/rand", "net", "os", "plugin", "runtime", "sync", "syscall",
	"testing", "unsafe",
}

// pureAfterAll are the exceptions from impure.
var pureAfterAll = []string{"net/netip"}

// clockFunctions of package time read a clock or wait for one.
var clockFunctions = []string{
	"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Timer", "Ticker",
}

// clockCalls set or slew the system clock, by whatever package they are called.
var clockCalls = []string{
	"Adjtimex", "ClockAdjtime", "ClockSettime", "Settimeofday",
	"SYS_ADJTIMEX", "SYS_CLOCK_ADJTIME", "SYS_CLOCK_SETTIME", "SYS_SETTIMEOFDAY",
}

// unwanted is what no file of the tree says: the names of registries, which are the
// go command's and apt's own settings, and thoughts that were not finished. The pieces
// are joined here so that this table passes its own test.
var unwanted = []string{
	"proxy." + "golang.org", "deb." + "debian.org", "registry." + "npmjs.org",
	"TO" + "DO", "FIX" + "ME",
}

// Limits of house style.
const (
	longestFunction = 60
	longestFile     = 500
)
