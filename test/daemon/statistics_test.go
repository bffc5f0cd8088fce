package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a daemon writes is there within seconds, and the simulator replays it.
func TestStatisticsAreWrittenAndReplayed(t *testing.T) {
	t.Parallel()
	at, dir := freePort(t), filepath.Join(t.TempDir(), "statistics")
	start(t, serverConfig(at, "0s"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 5ms}}\nsources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\n"+
		"statistics: {directory: %s, kinds: [measurements, tracking, selection]}\n", at, dir))
	found := func(kind string) (path string, rows int) {
		files, _ := filepath.Glob(filepath.Join(dir, kind+"-*.csv"))
		if len(files) == 0 {
			return "", 0
		}
		text, _ := os.ReadFile(files[0])
		return files[0], strings.Count(string(text), "\n") - 1
	}
	p.until("files of all kinds", func() bool {
		_, m := found("measurements")
		_, k := found("tracking")
		_, s := found("selection")
		return m > 16 && k > 8 && s > 0
	})
	file, _ := found("measurements")
	scenario := filepath.Join(t.TempDir(), "replay.yaml")
	text := fmt.Sprintf("duration: 2s\nsettle: 0s\nhosts:\n  client:\n    clock: {}\n    config: {sources: [{replay: %s, min_poll: -3, max_poll: -3}]}\n", file)
	if err := os.WriteFile(scenario, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, complaint, err := p.Run("simulate", scenario); err != nil {
		t.Errorf("replayed: %v: %s%s", err, out, complaint)
	}
}
