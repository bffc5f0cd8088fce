package scenarios

import (
	"context"
	"path/filepath"
	"testing"

	"timeball/internal/simulate"
)

// Paths whose queues stand in one direction, begin, end or turn, at every polling: the
// first hour. What each expects holds at default polls (TestEveryScenarioGoesAsItExpects),
// and so at polls of 16 and 64 s.
func TestPathsAtFixedPolls(t *testing.T) {
	files, err := filepath.Glob("paths/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("got %d scenarios and error %v, want them all", len(files), err)
	}
	for _, file := range files {
		for _, p := range pollings[1:] {
			t.Run(file+" "+p.name, func(t *testing.T) {
				result, err := simulate.Run(context.Background(), load(t, file, p, seeds), simulate.Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, violation := range result.Violations() {
					t.Error(violation)
				}
			})
		}
	}
}

// A day on the worst of paths costs no more than 60 packets an hour, the start included.
func TestADayOnABadPathIsCheap(t *testing.T) {
	for _, file := range []string{"paths/bursts.yaml", "paths/two-sided-rare.yaml", "paths/onesided-gamma.yaml", "paths/queue-turns.yaml"} {
		s := load(t, file, polling{}, 2)
		s.Duration, s.Settle, s.Expect = 24*3600e9, 0, nil
		result, err := simulate.Run(context.Background(), s, simulate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Hosts[1].Median.PacketsSentPerHour; got > 60 {
			t.Errorf("%s: got %.1f packets an hour, want at most 60", file, got)
		}
	}
}
