package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// units are the files that `make install` puts into systemd's directory.
var units = []string{"timeball.service", "timeball-wait.service"}

// staged copies the units into a directory, with a program that is there in place of
// the one that will be installed.
func staged(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skipf("needs systemd-analyze: %v", err)
	}
	dir := t.TempDir()
	for _, unit := range units {
		text, err := os.ReadFile(filepath.Join("..", "..", "configs", unit))
		if err != nil {
			t.Fatal(err)
		}
		staged := strings.ReplaceAll(string(text), "/usr/local/bin/timeball", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, unit), []byte(staged), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUnitsAreVerified(t *testing.T) {
	dir := staged(t)
	for _, unit := range units {
		out, err := exec.Command("systemd-analyze", "verify", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil || strings.Contains(string(out), unit) {
			t.Errorf("systemd-analyze verify %s: %v: %s", unit, err, out)
		}
	}
}

// The exposure is at most 2.0 of 10, as systemd-analyze reckons it.
func TestUnitsAreLittleExposed(t *testing.T) {
	dir := staged(t)
	for _, unit := range units {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v: %s", unit, err, out)
		}
	}
}

// What adjtimex needs must stay allowed, whatever is added to the sandbox.
func TestTheUnitLetsTheClockBeSet(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "configs", "timeball.service"))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			settings[name] = append(settings[name], value)
		}
	}
	for _, name := range []string{"ProtectClock", "PrivateUsers", "PrivateNetwork", "DynamicUser"} {
		if values, ok := settings[name]; ok {
			t.Errorf("%s: got %q, want it left alone", name, values)
		}
	}
	for _, name := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if got, want := strings.Join(settings[name], ";"), "CAP_SYS_TIME CAP_NET_BIND_SERVICE"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	filter := settings["SystemCallFilter"]
	if len(filter) == 0 || filter[len(filter)-1] != "@clock" {
		t.Errorf("SystemCallFilter: got %q, want @clock as the last word", filter)
	}
	for name, want := range map[string]string{
		"Type": "notify", "NotifyAccess": "main", "ExecReload": "/usr/local/bin/timeball reload --config /etc/timeball/timeball.yaml",
		"Restart": "on-failure", "RestartPreventExitStatus": "64",
		"StateDirectory": "timeball", "RuntimeDirectory": "timeball",
	} {
		if got := strings.Join(settings[name], ";"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if len(settings["WatchdogSec"]) != 1 {
		t.Errorf("WatchdogSec: got %q, want one", settings["WatchdogSec"])
	}
}
