package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"timeball/internal/lab"
)

// Bounds of what may grow between the first and the last third of a run.
const (
	maxGoroutines = 12        // sockets are opened and closed all the time
	maxMemory     = 3 << 20   // bytes
	maxLog        = 128 << 10 // bytes, in the whole run after the warm-up
)

// point is one measurement.
type point struct {
	goroutines int
	resident   int64 // bytes
	log        int64 // bytes written so far
}

// record is the measurements after the warm-up.
type record []point

// watch measures until ctx ends and prints a line a minute.
func watch(ctx context.Context, s *settings, written *counter, flood *flood) record {
	var points record
	begun, said := time.Now(), time.Time{}
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return points
		case <-ticker.C:
		}
		p := point{runtime.NumGoroutine(), resident(), written.octets.Load()}
		if time.Since(begun) >= s.warm {
			points = append(points, p)
		}
		if time.Since(said) >= time.Minute {
			said = time.Now()
			fmt.Printf("%6.0f s: %d goroutines, %.1f MB resident, log %d bytes, %d packets sent, %d answers\n",
				time.Since(begun).Seconds(), p.goroutines, mega(p.resident), p.log, flood.sent.Load(), flood.answers.Load())
		}
	}
}

// resident is the memory of this process itself that is in use (RssAnon), 0 if unknown.
// Pages of the executable are left out, as they come and go with what is run, and so
// is garbage: it is collected and given back first.
func resident() int64 {
	debug.FreeOSMemory()
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "RssAnon:"); found {
			kilo, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kilo << 10
		}
	}
	return 0
}

func mega(octets int64) float64 { return float64(octets) / (1 << 20) }

// thirds are the first and the last third of the measurements.
func (r record) thirds() (first, last record) {
	n := max(len(r)/3, 1)
	return r[:n], r[len(r)-n:]
}

// median of one figure of the points.
func (r record) median(figure func(point) int64) int64 {
	values := make([]int64, len(r))
	for i, p := range r {
		values[i] = figure(p)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func goroutines(p point) int64 { return int64(p.goroutines) }
func memory(p point) int64     { return p.resident }

// summary says in a line what was measured.
func (r record) summary(f *flood) string {
	if len(r) == 0 {
		return "the run was shorter than its warm-up"
	}
	first, last := r.thirds()
	return fmt.Sprintf("goroutines %d then %d, resident %.1f MB then %.1f MB, log +%d bytes, %d packets sent, %d answers",
		first.median(goroutines), last.median(goroutines), mega(first.median(memory)), mega(last.median(memory)),
		r[len(r)-1].log-r[0].log, f.sent.Load(), f.answers.Load())
}

// judge says what grew, or which host has lost the time.
func (r record) judge(state *lab.State) error {
	if missing := state.Unsynchronized(); len(missing) > 0 {
		return fmt.Errorf("not synchronized: %s", strings.Join(missing, ", "))
	}
	if len(r) == 0 {
		return fmt.Errorf("nothing was measured: --duration must be longer than --warm")
	}
	first, last := r.thirds()
	switch {
	case last.median(goroutines)-first.median(goroutines) > maxGoroutines:
		return fmt.Errorf("goroutines have grown from %d to %d", first.median(goroutines), last.median(goroutines))
	case last.median(memory)-first.median(memory) > maxMemory:
		return fmt.Errorf("memory has grown from %.1f MB to %.1f MB", mega(first.median(memory)), mega(last.median(memory)))
	case r[len(r)-1].log-r[0].log > maxLog:
		return fmt.Errorf("the log has grown by %d bytes", r[len(r)-1].log-r[0].log)
	}
	return nil
}
