// Package metrics shows a running timeball to Prometheus and to a browser: /metrics and
// a status page at /. Both read a model.Snapshot and counters, and hold up nobody. Where
// ntpd-rs's exporter has a name for a thing it is used here, with its labels and unit.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"timeball/internal/history"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// Source is the running daemon. Its methods are called by several goroutines, at
// every scrape, and must not block.
type Source interface {
	// Snapshot is the latest state of the system process; nil before the first.
	Snapshot() *model.Snapshot
	// Now reads the disciplined clock.
	Now() ntptime.Instant
	// Process is what the process knows of itself.
	Process() Process
	// Server is what has been served; nil without a server section.
	Server() *Server
	// History is what is remembered of a span; false: nothing is.
	History(span string) (history.View, bool)
}

// Process is what a process knows of itself.
type Process struct {
	Version    string
	Revision   string // of the source, "" if not known
	CommitDate string // of the revision, "" if not known
	Uptime     time.Duration
	// LastReload is when a configuration was last read and taken, at the start too.
	LastReload ntptime.Wall
	// ReloadFailed says that a later one was refused; the old one is in force.
	ReloadFailed bool
	// ReloadError is why, in words.
	ReloadError string
	Host        string // name of this machine
	Clock       string // driver
	// Machine is the time worked out minus the machine's clock, where that is only observed.
	Machine *time.Duration
	// AssociationDrops are packets for associations that came faster than they were read.
	AssociationDrops uint64
	// LogLinesLost are lines of the log that were dropped, since nobody read them.
	LogLinesLost uint64
}

// Server is what has been served.
type Server struct {
	Listeners []Listener
	// NotListening are addresses of the configuration that this machine does not have;
	// one of Listeners may be among them. NotListeningWhy has the reasons.
	NotListening    []string
	NotListeningWhy []string
	Clients         responder.ClientTotals
	Broadcast       uint64            // packets sent in mode 5
	NTS             *NTS              // nil: no key establishment
	FastPath        map[string]uint64 // by result; nil: nothing is answered in the driver
	FastPathLost    map[string]uint64 // of those redirected to workers, by reason
}

// Listener counts at one address listened at. Every packet received is one of those
// that responder.Counters tells apart.
type Listener struct {
	Address    string
	Counters   responder.Counters
	SendErrors uint64
	// What the sockets gave up: by the kernel for want of buffer, by us as too old, as
	// longer than any NTP message, and as come in by an interface that is ignored; and
	// replies refused as longer than their request.
	Overflow, Stale, Truncated, IgnoredInterface, Overlong, Unresolved uint64
}

// NTS is the state of the key establishment server.
type NTS struct {
	Connections       map[string]uint64 // by result
	CertificateExpiry ntptime.Wall      // 0: not known
	KeyAge            time.Duration     // of the key that new cookies are sealed with
}

// Bounds of a scrape.
const (
	scrapesAtOnce = 8
	scrapeTimeout = 5 * time.Second
)

// New returns the handler of /metrics and of the status page.
//
// hosts are the names by which the pages for people may be asked for, besides localhost and
// literal addresses: a browser that was led here by a name of an attacker's shows nothing
// (DNS rebinding). /metrics is not checked.
func New(source Source, hosts []string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&collector{source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOnce,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /now", func(w http.ResponseWriter, _ *http.Request) { writeNow(w, source) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { writeReady(w, source) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, source) })
	known := knownHosts(hosts)
	mux.Handle("GET /{$}", known.only(page{source}))
	return mux
}
