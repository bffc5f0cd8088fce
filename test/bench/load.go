// Package bench measures servers: a load generator of its own, and a benchmark that runs
// timeball's daemon, chronyd and a bare loop over sockets side by side, in turn, on one
// core, and prints their ratios. All of it happens in a network namespace.
package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"timeball/internal/nts"
)

// Load is what the generator is to do.
type Load struct {
	Target   string        // ADDRESS:PORT of the server, IPv4
	Duration time.Duration // of sending
	// InFlight requests are kept unanswered (closed loop); if 0, Rate is kept (open loop).
	InFlight int
	Rate     float64 // requests a second
	Burst    int     // requests that leave together, 1 to 16
	// Addresses is how many client addresses ask in turn, from 127.1.0.0 on, 1 to 65536; 0
	// is one connected socket.
	Addresses int
	Kind      Kind
	Key       Key // of KindKeyed
	NTS       NTS // of KindNTS
}

// NTS is what a key exchange has brought; a server that keeps nothing about its clients
// takes one cookie again and again.
type NTS struct {
	Secrets nts.Secrets
	Cookie  []byte
}

// Kind says what the requests are.
type Kind string

// The kinds of requests.
const (
	KindPlain       Kind = "plain"       // 48 bytes, version 4, mode 3
	KindKeyed       Kind = "keyed"       // with a MAC
	KindNTS         Kind = "nts"         // with a cookie, and room for one in the reply (RFC 8915)
	KindInterleaved Kind = "interleaved" // each client asks for interleaved mode (RFC 9769) once it can
	KindMixed       Kind = "mixed"       // valid and broken ones of every sort; replies are only counted
)

// Key is a symmetric key of AES-128-CMAC.
type Key struct {
	ID     uint32
	Secret []byte // 16 bytes
}

// Result is what came of a Load.
type Result struct {
	Sent        uint64
	Received    uint64 // valid replies
	Invalid     uint64 // not a reply to anything asked, or no time in it
	Interleaved uint64 // of Received
	Seconds     float64
	// The same in the second half of the time, when clients know each other's habits.
	LateReceived, LateInterleaved uint64
	P50, P99                      time.Duration // from before the request's system call to after the reply's
}

// Rate is valid replies a second.
func (r Result) Rate() float64 { return float64(r.Received) / r.Seconds }

// Loss is the share of requests without a valid reply.
func (r Result) Loss() float64 {
	if r.Sent == 0 {
		return 0
	}
	return 1 - float64(r.Received)/float64(r.Sent)
}

// percentile returns the value below which a share of the durations lies. It sorts them.
func percentile(d []time.Duration, share float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(share*float64(len(d))), len(d)-1)]
}

// median is the middle of values, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// rms is the root of the mean square.
func rms(d []time.Duration) time.Duration {
	var sum float64
	for _, v := range d {
		sum += float64(v) * float64(v)
	}
	return time.Duration(math.Sqrt(sum / float64(max(len(d), 1))))
}

func abs(d []time.Duration) []time.Duration {
	out := make([]time.Duration, len(d))
	for i, v := range d {
		out[i] = max(v, -v)
	}
	return out
}

// loadVariable tells a process of this program to be the generator.
const loadVariable = "TIMEBALL_BENCH_LOAD"

// beGenerator runs the Load in the environment and prints its Result, if there is one.
func beGenerator() (did bool, err error) {
	text := os.Getenv(loadVariable)
	if text == "" {
		return false, nil
	}
	var load Load
	if err := json.Unmarshal([]byte(text), &load); err != nil {
		return true, fmt.Errorf("%s: %w", loadVariable, err)
	}
	result, err := Generate(load)
	if err != nil {
		return true, err
	}
	return true, json.NewEncoder(os.Stdout).Encode(result)
}
