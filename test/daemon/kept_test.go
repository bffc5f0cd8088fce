package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Keys of sources that never came back are secrets of no use: old ones go, and no more than
// some hundred stay. What is not the daemon's own stays.
func TestKeptKeysOfSourcesThatNeverCameBackAreRemoved(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	write := func(name, text string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	const day, kept = 24 * time.Hour, "timeball-nts-source 1\nname pool.example\n"
	write("old", kept, 40*day)
	write("new", kept, 20*day)
	write("an administrator's", "not ours\n", 40*day)
	for i := range 300 {
		write(fmt.Sprintf("many-%03d", i), kept, 21*day+time.Duration(i)*time.Minute)
	}
	start(t, fmt.Sprintf("clock: {driver: virtual}\nnts: {state: %q}\n", dir))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, entry := range entries {
		there[entry.Name()] = true
	}
	if there["old"] || !there["new"] || !there["an administrator's"] || !there["many-000"] || there["many-299"] || len(there) != 257 {
		t.Errorf("got %d files, old %v, new %v, another's %v, the newest of many %v, the oldest %v; want the newest 256 of 30 days and another's",
			len(there), there["old"], there["new"], there["an administrator's"], there["many-000"], there["many-299"])
	}
}
