// Package simulate runs whole timeball hosts in virtual time: the same engine that the
// daemon runs, over modelled clocks and networks. It moves real packets between them and
// knows, as the daemon cannot, how wrong every clock is.
//
// The models are those of the reference tables (docs/simulate.md): random-walk
// oscillators, memoryless jitter drawn for each packet and direction, hosts with
// no delay of their own. Everything drawn comes from streams keyed by the seed and
// by what it is drawn for, so a scenario, a seed and a version give one result.
package simulate

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"timeball/internal/model"
	"timeball/internal/scenario"
)

// Options say how a scenario is run.
type Options struct {
	Parallel int  // runs at the same time; 0: one a core
	Series   bool // keep every sample, for WriteCSV and WriteSVG
	// Progress, if not nil, is told the share of the work that is done, 0 to 1, now and
	// then, by one goroutine at a time.
	Progress func(share float64)
}

// Result is what the runs of a scenario gave.
type Result struct {
	Scenario *scenario.Scenario
	Hosts    []HostResult // in the file's order
}

// HostResult is one host in all runs.
type HostResult struct {
	Name   string
	Median Figures
	Plain  Figures     // of a filter that takes the least delay of eight, where the host plays a record that knows the truth
	Runs   []RunResult // in the order of the seeds
}

// RunResult is one host in one run.
type RunResult struct {
	Seed    uint64
	Figures Figures
	Final   *model.Snapshot // at the end; nil: no program was running
	Events  []Happened      // what the core said, in order, at most maxEvents
	plain   Figures
	windows []Figures // of the rows of `expect:` that have an interval, in their order
	series  []float64
	marks   []mark
	states  map[string]string // of each source, by the name of its host
}

// Happened is an event of the core with the true time at which it happened.
type Happened struct {
	At    time.Duration // since the start
	Event model.Event
}

// maxEvents bounds what is kept of the events of one host in one run.
const maxEvents = 1000

// Run runs a scenario once for each seed, several at a time. Each run is a world of
// its own on one goroutine, so the result does not depend on how many there are.
func Run(ctx context.Context, s *scenario.Scenario, o Options) (*Result, error) {
	if err := runnable(s); err != nil {
		return nil, err
	}
	return run(ctx, s, o, boot)
}

func run(ctx context.Context, s *scenario.Scenario, o Options, boot func(*machine) program) (*Result, error) {
	workers := o.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	worlds := make([][]RunResult, s.Runs)
	meter := newMeter(s, o.Progress)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(workers, s.Runs) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < s.Runs && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				worlds[i] = runOnce(ctx, s, s.Seed+uint64(i), o.Series, boot, meter)
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(errors.New("simulation was interrupted"), err)
	}
	return collect(s, worlds), nil
}

// runOnce simulates one seed; nil if it was interrupted.
func runOnce(ctx context.Context, s *scenario.Scenario, seed uint64, series bool, boot func(*machine) program, meter *meter) []RunResult {
	w := newWorld(s, seed, series, boot)
	told := int64(0)
	if !w.run(func(now int64) bool {
		meter.add(now - told)
		told = now
		return ctx.Err() != nil
	}) {
		return nil
	}
	meter.add(w.end - told)
	results := make([]RunResult, len(w.machines))
	for i, m := range w.machines {
		results[i] = m.result(seed)
	}
	return results
}

// result gathers what is known of a machine at the end of a run.
func (m *machine) result(seed uint64) RunResult {
	r := RunResult{Seed: seed, Figures: m.stats.figures(0), series: m.stats.series, marks: m.marks, Events: m.events, states: map[string]string{}, plain: m.plain.stats.figures(0)}
	for i := 1; i < len(m.stats.windows); i++ {
		r.windows = append(r.windows, m.stats.figures(i))
	}
	if m.program == nil {
		return r
	}
	if r.Final = m.program.report(m.timestamp()); r.Final == nil {
		return r
	}
	for i := range r.Final.Sources {
		source := &r.Final.Sources[i]
		if host, known := m.world.address[source.Address.Addr()]; known {
			r.states[m.world.scenario.Hosts[host].Name] = source.State.String()
		}
	}
	return r
}

// collect puts the runs of each host together.
func collect(s *scenario.Scenario, worlds [][]RunResult) *Result {
	result := &Result{Scenario: s}
	for i := range s.Hosts {
		h := HostResult{Name: s.Hosts[i].Name}
		all := make([]Figures, len(worlds))
		for j := range worlds {
			h.Runs = append(h.Runs, worlds[j][i])
			all[j] = worlds[j][i].Figures
		}
		h.Median = median(all)
		h.Plain = worlds[0][i].plain
		result.Hosts = append(result.Hosts, h)
	}
	return result
}

// meter adds up the virtual time that all runs have gone through.
type meter struct {
	mutex sync.Mutex
	done  int64
	total float64
	tell  func(share float64)
}

func newMeter(s *scenario.Scenario, tell func(float64)) *meter {
	return &meter{total: float64(s.Duration) * float64(s.Runs), tell: tell}
}

func (m *meter) add(passed int64) {
	if m.tell == nil {
		return
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.done += passed
	m.tell(float64(m.done) / m.total)
}
