package clock

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRivalsAreNamed(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := Rivals(root); got != nil {
		t.Errorf("an empty machine: got %q", got)
	}
	write("proc/41/status", "Name:\tbash\nCapEff:\t000001ffffffffff\n")     // root's shell may, and does not
	write("proc/42/status", "Name:\tgpsclock\nCapEff:\t0000000002000400\n") // was given CAP_SYS_TIME
	write("proc/43/status", "Name:\tchronyd\nCapEff:\t0000000000000000\n")  // known
	write("proc/43/cgroup", "0::/system.slice/chrony.service\n")            // of this service
	write("proc/44/status", "Name:\ttimeball\nCapEff:\t0000000002000400\n") // another of us
	write("sys/fs/cgroup/system.slice/chrony.service/cgroup.events", "populated 1\nfrozen 0\n")
	write("sys/fs/cgroup/system.slice/systemd-timesyncd.service/cgroup.events", "populated 1\n")
	write("sys/fs/cgroup/system.slice/ntpsec.service/cgroup.events", "populated 0\n")
	want := []string{"chronyd (process 43, chrony.service)", "gpsclock (process 42)", "systemd-timesyncd.service"}
	if got := Rivals(root); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
