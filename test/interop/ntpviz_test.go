package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// ntpsec's ntpviz draws what timeball writes in ntpd's formats. Where there is no gnuplot
// a stand-in takes the plots and keeps them.
func TestNTPVizDrawsTheStatistics(t *testing.T) {
	viz := peers.Unpack(t, "ntpsec-ntpviz", "usr/bin/ntpviz")
	library := peers.Unpack(t, "python3-ntp", "usr/lib/x86_64-linux-gnu/ntp/libntpc.so")
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("needs python3")
	}
	h := peers.Here(t)
	peers.Timeball(t, h, "clock: {driver: virtual}\nlocal: {stratum: 1}\nserver: {listen: [\"127.8.1.1:11123\"]}\n")
	client := peers.Here(t)
	stats, out, bin, modules := filepath.Join(client.Dir, "stats"), t.TempDir(), t.TempDir(), t.TempDir()
	d := peers.Timeball(t, client, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 5ms}}\nsources: [{server: \"127.8.1.1:11123\", min_poll: -2, max_poll: -2}]\n"+
		"statistics: {directory: %s, kinds: [measurements, tracking], format: ntpd}\n", stats))
	lines := func(kind string) int {
		files, _ := filepath.Glob(filepath.Join(stats, kind+".*"))
		if len(files) == 0 {
			return 0
		}
		text, _ := os.ReadFile(files[0])
		return strings.Count(string(text), "\n")
	}
	peers.Eventually(t, 60*time.Second, "statistics", func() error {
		if lines("loopstats") < 12 || lines("peerstats") < 12 || lines("rawstats") < 12 {
			return fmt.Errorf("%d, %d and %d lines", lines("loopstats"), lines("peerstats"), lines("rawstats"))
		}
		return nil
	})
	if _, err := d.Stop(); err != nil {
		t.Error(err)
	}
	// The modules look for their library beside themselves.
	copyTree(t, filepath.Join(library.Root, "usr/lib/python3/dist-packages/ntp"), filepath.Join(modules, "ntp"))
	copyTree(t, filepath.Dir(library.Path), filepath.Join(modules, "ntp"))
	plots := filepath.Join(out, "plots")
	if err := os.WriteFile(filepath.Join(bin, "gnuplot"), []byte("#!/bin/sh\ncat \"$1\" >>"+plots+"\nprintf PNG\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	stdout, complaint, err := client.Run([]string{"PATH=" + bin + ":/usr/bin:/bin", "PYTHONPATH=" + modules},
		"/usr/bin/python3", viz.Path, "-p", "1", "-d", stats, "-o", out, "-n", "timeball")
	if err != nil || strings.Contains(complaint, "ERROR") {
		t.Fatalf("ntpviz: %v: %s%s", err, stdout, complaint)
	}
	for _, picture := range []string{"local-offset.png", "local-jitter.png", "peer-offset-127.8.1.1.png", "peer-offsets.png"} {
		if _, err := os.Stat(filepath.Join(out, picture)); err != nil {
			t.Errorf("ntpviz drew no %s", picture)
		}
	}
	text, _ := os.ReadFile(plots)
	if rows := strings.Count(string(text), "\n1"); rows < 50 {
		t.Errorf("got %d points to draw, want 50 or more", rows)
	}
}

// copyTree copies the files of a folder.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(from, "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a folder
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
