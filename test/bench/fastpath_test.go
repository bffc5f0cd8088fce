package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/internal/control"
	"timeball/test/peers"
)

var against = flag.String("against", "", "`FILE` of an earlier timeball, to which one without a fast path is compared")

// driven is a server on a rig.
type driven struct {
	*rig
	name   string
	server *contender // nil: all requests are dropped
}

// process is the server's, nil where there is none.
func (d *driven) process() *peers.Process {
	if d.server == nil {
		return nil
	}
	return d.server.Process
}

// onRig makes a rig and has serve start a server there.
func onRig(b *testing.B, lab *peers.Lab, name string, threaded bool, serve func(r *rig) *contender) *driven {
	b.Helper()
	r, err := newRig(lab, name, 123, threaded)
	if errors.Is(err, errUnsupported) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.close)
	d := &driven{rig: r, name: name}
	if serve == nil {
		if err := r.drains(); err != nil {
			b.Fatal(err)
		}
		return d
	}
	d.server = serve(r)
	peers.Eventually(b, 30*time.Second, name+" answers", func() error {
		m, err := r.open(d.process(), 200, 1, 100*time.Millisecond)
		if err == nil && m.received == 0 {
			err = fmt.Errorf("%d sent, %d invalid", m.sent, m.invalid)
		}
		return err
	})
	if err := putAll(d.process(), serverEnd); err != nil {
		b.Skip(err)
	}
	return d
}

const fastPathOn = "fast_path: {interfaces: [cable0], mode: native}"

// BenchmarkFastPath compares what is answered in the driver with the sockets of timeball, of
// chronyd and of the bare loop: a rig for each, a slice of each load in turn.
func BenchmarkFastPath(b *testing.B) {
	lab := peers.NewLab(b)
	loop := func(r *rig) *contender { return startReference(b, r.server, r.address.String(), r.port) }
	chronyd := func(r *rig) *contender { return startChronyd(b, r.server, r.port) }
	sockets := func(r *rig) *contender { return startTimeball(b, r.server, "timeball", r.port, "") }
	fast := func(r *rig) *contender { return startTimeball(b, r.server, "timeball", r.port, fastPathOn) }
	servers := []*driven{onRig(b, lab, "loop", true, loop), onRig(b, lab, "chronyd", true, chronyd), onRig(b, lab, "sockets", true, sockets), onRig(b, lab, "fast", true, fast)}
	if *against != "" {
		servers = append(servers, onRig(b, lab, "earlier", true, func(r *rig) *contender { return startProgram(b, r.server, *against, "timeball", r.port, "") }))
	}
	drain := onRig(b, lab, "drain", true, nil)
	lab = peers.NewLab(b)
	prompt := []*driven{onRig(b, lab, "loop", false, loop), onRig(b, lab, "chronyd", false, chronyd), onRig(b, lab, "sockets", false, sockets), onRig(b, lab, "fast", false, fast)}
	f := make(figures)
	b.ResetTimer()
	for range b.N {
		for range *rounds {
			saturate(b, servers, f)
			work(b, servers, drain, f)
			latency(b, prompt, f)
			for _, s := range prompt[2:] {
				f.add(s.name, "noise", offsetNoise(b, s).Seconds()*1e6)
			}
		}
	}
	b.StopTimer()
	reportFastPath(b, f)
}

// must ends the benchmark where a load could not be had.
func must(b *testing.B, s *driven, d drive, err error) drive {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", s.name, err)
	}
	return d
}

// inFlight are how many requests are kept unanswered: each server counts with what suits it
// best. With more, those with a small receive buffer lose some.
var inFlight = []int{32, 128}

// saturate takes what each server answers at most.
func saturate(b *testing.B, servers []*driven, f figures) {
	b.Helper()
	best := map[string]drive{}
	for _, n := range inFlight {
		sums := map[string]drive{}
		for range *turns {
			for _, s := range servers {
				d, err := s.closed(s.process(), n, *stretch/time.Duration(*turns))
				sums[s.name] = sums[s.name].plus(must(b, s, d, err))
			}
		}
		for name, d := range sums {
			if before, ok := best[name]; !ok || d.rate() > before.rate() {
				best[name] = d
			}
		}
	}
	for name, d := range best {
		f.add(name, "rate", d.rate())
		f.add(name, "invalid", float64(d.invalid))
		f.add(name, "core", d.per(d.process+d.serverThread))
		f.add(name, "other core", d.per(d.clientThread))
	}
}

// per is so much time for each reply, in microseconds.
func (d *drive) per(spent time.Duration) float64 {
	return spent.Seconds() * 1e6 / float64(max(d.received, 1))
}

// work takes what a reply costs at both ends, at a rate that all can keep, less what the same
// requests cost where they are dropped.
func work(b *testing.B, servers []*driven, drain *driven, f figures) {
	b.Helper()
	const rate, burst = 50_000, 16
	sums := map[string]drive{}
	for range *turns {
		for _, s := range append(slices.Clone(servers), drain) {
			d, err := s.open(s.process(), rate, burst, *stretch/time.Duration(*turns))
			sums[s.name] = sums[s.name].plus(must(b, s, d, err))
		}
	}
	dropped := sums[drain.name]
	floor := dropped.work().Seconds() / float64(max(dropped.sent, 1))
	f.add(drain.name, "work", floor*1e6)
	for _, s := range servers {
		d := sums[s.name]
		f.add(s.name, "work", (d.work().Seconds()-floor*float64(d.sent))/float64(max(d.received, 1))*1e6)
		f.add(s.name, "lost", 1-float64(d.received)/float64(max(d.sent, 1)))
		f.add(s.name, "rss", s.server.resident())
	}
}

// latency takes how long a reply takes at a low rate.
func latency(b *testing.B, servers []*driven, f figures) {
	b.Helper()
	latencies := make(figures)
	for range *turns {
		for _, s := range servers {
			d, err := s.open(s.process(), 10_000, 1, *stretch/time.Duration(*turns))
			latencies.add(s.name, "p50", must(b, s, d, err).p50.Seconds()*1e6)
			if d.received < d.sent*9/10 {
				b.Errorf("%s: %d of %d requests answered at 10,000 a second", s.name, d.received, d.sent)
			}
		}
	}
	for _, s := range servers {
		f.add(s.name, "p50", latencies.median(s.name, "p50"))
	}
}

// offsetNoise is the scatter of the offsets that a chronyd sees, around their median.
func offsetNoise(b *testing.B, s *driven) time.Duration {
	b.Helper()
	const polls = 100 // at 16 a second
	dir, err := os.MkdirTemp(s.client.Dir, "log")
	if err != nil {
		b.Fatal(err)
	}
	c := peers.Chronyd(b, s.client, fmt.Sprintf("server %v minpoll -4 maxpoll -4\nlogdir %s\nlog rawmeasurements\nlogbanner 0", s.address, dir))
	if err := putAll(c.Process, clientEnd); err != nil {
		b.Fatal(err)
	}
	var offsets []float64
	peers.Eventually(b, time.Minute, "chronyd measures", func() error {
		text, _ := os.ReadFile(filepath.Join(dir, "measurements.log"))
		offsets = offsets[:0]
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 11 {
				if x, err := strconv.ParseFloat(fields[11], 64); err == nil {
					offsets = append(offsets, x)
				}
			}
		}
		if len(offsets) < polls {
			return fmt.Errorf("%d measurements, %q", len(offsets), text[:min(len(text), 200)])
		}
		return nil
	})
	if _, err := c.Stop(); err != nil {
		b.Log(err)
	}
	middle := median(offsets)
	for i := range offsets {
		offsets[i] = math.Abs(offsets[i] - middle)
	}
	return time.Duration(median(offsets) * 1e9)
}

// reportFastPath prints the table and what was asked of it.
func reportFastPath(b *testing.B, f figures) {
	b.Helper()
	names := []string{"loop", "chronyd", "sockets", "fast"}
	if *against != "" {
		names = append(names, "earlier")
	}
	fmt.Printf("\n%-8s %10s %10s %10s | %8s %6s | %6s %8s | %6s\n", "server", "replies/s", "us a reply", "other core", "both, 50k", "lost", "p50 us", "noise us", "MiB")
	for _, name := range names {
		m := func(what string) float64 { return f.median(name, what) }
		fmt.Printf("%-8s %10.0f %10.2f %10.2f | %8.2f %6.3f | %6.1f %8.2f | %6.1f\n",
			name, m("rate"), m("core"), m("other core"), m("work"), m("lost"), m("p50"), m("noise"), m("rss"))
	}
	fmt.Printf("a request that is dropped: %.2f us\n\n", f.median("drain", "work"))
	bar := func(name string, got float64, relation string, want float64) {
		judge(b, os.Stdout, name, got, relation, want)
	}
	bar("fast path to the bare loop: replies a second", f.ratio("fast", "rate", "loop", "rate"), ">=", 1.5)
	bar("fast path to chronyd: replies a second", f.ratio("fast", "rate", "chronyd", "rate"), ">=", 2.0)
	bar("fast path to the bare loop: by work on the server's core", f.ratio("loop", "core", "fast", "core"), ">=", 1.5)
	bar("fast path to chronyd: by work on the server's core", f.ratio("chronyd", "core", "fast", "core"), ">=", 2.0)
	bar("fast path to chronyd: work a reply", f.ratio("fast", "work", "chronyd", "work"), "<=", 0.5)
	bar("fast path to chronyd: median latency", f.ratio("fast", "p50", "chronyd", "p50"), "<=", 0.6)
	bar("fast path to sockets: offset noise of a chronyd", f.ratio("fast", "noise", "sockets", "noise"), "<=", 1)
	if *against != "" {
		bar("no fast path, to an earlier timeball: replies a second", f.ratio("sockets", "rate", "earlier", "rate"), ">=", 0.98)
		bar("no fast path, to an earlier timeball: resident, MiB more", f.median("sockets", "rss")-f.median("earlier", "rss"), "<=", 0.5)
	}
}

// statistics are what a timeball on a rig says of its packets.
func (d *driven) statistics() (*control.ServerStats, error) {
	program, err := peers.Build()
	if err != nil {
		return nil, err
	}
	out, complaints, err := d.rig.server.Run([]string{"TIMEBALL_SOCKET=" + filepath.Join(d.rig.server.Dir, "timeball.sock")}, program, "serverstats", "--json")
	if err != nil {
		return nil, fmt.Errorf("serverstats: %w: %s", err, complaints)
	}
	s := new(control.ServerStats)
	return s, json.Unmarshal([]byte(out), s)
}
