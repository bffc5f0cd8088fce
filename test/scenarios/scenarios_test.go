// Package scenarios holds scenarios in virtual time with what is expected of them:
// accuracy has the rows of the reference tables, behaviour what happens to machines
// and networks besides. Every file can be run by itself: timeball simulate FILE.
package scenarios

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/scenario"
	"timeball/internal/simulate"
)

// seeds is how many seeds the quick tests run of each row; the table has ten.
const seeds = 3

func TestEveryScenarioGoesAsItExpects(t *testing.T) {
	files, err := filepath.Glob("*/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("got %d scenarios and error %v, want them all", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			s, err := scenario.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Expect) == 0 {
				t.Error("got no expectations; a scenario without them proves nothing")
			}
			s.Runs = min(s.Runs, seeds)
			result, err := simulate.Run(context.Background(), s, simulate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, violation := range result.Violations() {
				t.Error(violation)
			}
		})
	}
}

// The goals for the rows of the reference tables, with room for the chance of few seeds.
func TestRowsOfTheReferenceTables(t *testing.T) {
	all := rows(t, seeds)
	for i := range all {
		r := &all[i]
		name := r.scenario + " " + r.polling.name
		most := 1.0
		if r.scenario == "outage-2h-lan" && r.polling.name != "def" {
			most = 2.2 // at the limit of holdover; the peers' figure is the luck of their seeds
		}
		if r.toBest() > most {
			t.Errorf("%s: got %.3g of the best peer's RMS error (%s), want at most %.2g", name, r.toBest(), r.best.program, most)
		}
		if f := &r.figures; f.BoundCoverage < 0.999 {
			t.Errorf("%s: got a bound that holds in %.3f %% of the seconds, want 99.9", name, f.BoundCoverage*100)
		}
		checkPackets(t, name, r)
		if strings.HasPrefix(r.scenario, "startup-lan") {
			below1ms, below100us := r.below[time.Millisecond], r.below[100*time.Microsecond]
			if below1ms > 6 || below100us > 60 {
				t.Errorf("%s: got under 1 ms after %.0f s and under 100 us after %.0f s, want 6 and 60", name, below1ms, below100us)
			}
		}
	}
	for _, goal := range []struct {
		what  string
		ratio func(*row) float64
		most  float64
	}{
		{"RMS error to the best peer", (*row).toBest, 0.30},
		{"RMS error to the Bayes limit", (*row).toBayes, 1.2},
		{"RMS error to the delay-weighted Kalman limit", (*row).toDelayWeighted, 0.8},
		{"RMS frequency error to chrony", (*row).frequencyToChrony, 0.5},
	} {
		if mean, n := geometric(all, goal.ratio, everyRow); mean > goal.most*1.05 {
			t.Errorf("geometric mean of %s over %d rows: got %.3f, want at most %.2f", goal.what, n, mean, goal.most)
		}
	}
}

// checkPackets bounds the cost of default polling: 60 packets an hour and source.
func checkPackets(t *testing.T, name string, r *row) {
	t.Helper()
	sources := 1.0
	if strings.Contains(name, "four-equal") || strings.Contains(name, "1of4") {
		sources = 4
	}
	if got := r.figures.PacketsSentPerHour; r.polling.name == "def" && got > 60*sources {
		t.Errorf("%s: got %.1f packets an hour, want at most %.0f", name, got, 60*sources)
	}
}
