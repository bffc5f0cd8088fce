package scenarios

import (
	"context"
	"math"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/internal/scenario"
	"timeball/internal/simulate"
)

// polling is how the clients of a row poll; nothing is changed for the default.
type polling struct {
	name     string
	exponent config.Poll // 0: as the file has it
}

var pollings = []polling{{"def", 0}, {"p4", 4}, {"p6", 6}}

// row is one scenario at one polling: what we reached and what others did.
type row struct {
	scenario string
	polling  polling
	figures  simulate.Figures
	below    map[time.Duration]float64 // seconds until |error| stays below for half an hour, median
	best     *peer                     // of all peers at this polling; nil: no figure
	chrony   *peer
	limit    *limit // nil: none is known
}

// accuracyFiles are the scenarios of the reference tables.
func accuracyFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("accuracy/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	sort.Strings(files)
	return files
}

// load reads a scenario and makes its sources poll as wanted.
func load(t *testing.T, file string, p polling, runs int) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s.Runs = runs
	for i := range s.Hosts {
		sources := s.Hosts[i].Config.Sources
		for j := range sources {
			if p.exponent != 0 {
				sources[j].MinPoll, sources[j].MaxPoll = p.exponent, p.exponent
			}
		}
	}
	return s
}

// rows runs every scenario of the reference tables at every polling.
func rows(t *testing.T, runs int) []row {
	peers, limits := readPeers(t), readLimits(t)
	var all []row
	for _, file := range accuracyFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		for _, p := range pollings {
			result, err := simulate.Run(context.Background(), load(t, file, p, runs), simulate.Options{Series: true})
			if err != nil {
				t.Fatal(err)
			}
			client := &result.Hosts[len(result.Hosts)-1]
			r := row{scenario: name, polling: p, figures: client.Median, below: map[time.Duration]float64{}}
			for _, below := range []time.Duration{time.Millisecond, 100 * time.Microsecond} {
				r.below[below] = client.Converged(below)
			}
			r.best, r.chrony = best(peers[name], p.name)
			if l, known := limits[name][1<<p.exponent]; known && p.exponent != 0 {
				r.limit = &l
			}
			all = append(all, r)
		}
	}
	return all
}

// ratios of a row; NaN where there is nothing to compare with.
func (r *row) toBest() float64 {
	if r.best == nil {
		return math.NaN()
	}
	return r.figures.RMSError / r.best.rms
}

func (r *row) frequencyToChrony() float64 {
	if r.chrony == nil {
		return math.NaN()
	}
	return r.figures.RMSFrequencyError / r.chrony.frequency
}

func (r *row) toBayes() float64 {
	if r.limit == nil {
		return math.NaN()
	}
	return r.figures.RMSError / r.limit.bayes
}

func (r *row) toDelayWeighted() float64 {
	if r.limit == nil {
		return math.NaN()
	}
	return r.figures.RMSError / r.limit.delayWeighted
}

// geometric is the geometric mean of a ratio over the rows that have one, and how many.
func geometric(all []row, ratio func(*row) float64, which func(*row) bool) (mean float64, n int) {
	sum := 0.0
	for i := range all {
		if value := ratio(&all[i]); which(&all[i]) && !math.IsNaN(value) {
			sum += math.Log(value)
			n++
		}
	}
	return math.Exp(sum / float64(n)), n
}

func everyRow(*row) bool { return true }
