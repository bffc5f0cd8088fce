package interop

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"timeball/test/peers"
)

// makeIn runs make at the module's root, with what it builds put aside.
func makeIn(t *testing.T, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("short: the binary is not built")
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skipf("needs make: %v", err)
	}
	cmd := exec.Command("make", append([]string{"-C", filepath.Join("..", "..")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// What make install puts where, and that a second one leaves the configuration alone.
func TestInstall(t *testing.T) {
	bin, root := t.TempDir(), t.TempDir()
	args := []string{"install", "BIN=" + bin, "DESTDIR=" + root, "PREFIX=/opt/timeball", "VERSION=v9.8.7"}
	makeIn(t, args...)
	for _, want := range []string{
		"opt/timeball/bin/timeball", "opt/timeball/lib/systemd/system/timeball.service",
		"opt/timeball/lib/systemd/system/timeball-wait.service", "opt/timeball/lib/sysusers.d/timeball.conf", "opt/timeball/lib/systemd/ntp-units.d/50-timeball.list",
		"opt/timeball/share/timeball/timeball.yaml", "opt/timeball/share/timeball/rules.yaml", "opt/timeball/share/timeball/grafana.json", "etc/timeball/timeball.yaml", "var/lib/timeball",
	} {
		if _, err := os.Stat(filepath.Join(root, want)); err != nil {
			t.Errorf("installed: %v", err)
		}
	}
	config := filepath.Join(root, "etc/timeball/timeball.yaml")
	if err := os.WriteFile(config, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	makeIn(t, args...)
	if text, err := os.ReadFile(config); err != nil || string(text) != "# mine\n" {
		t.Errorf("the configuration after a second install: got %q, %v, want it as it was", text, err)
	}
	checkUnits(t, root)
	checkBinary(t, filepath.Join(root, "opt/timeball/bin/timeball"))
}

// checkUnits looks for the place where the binary was put, and for no other.
func checkUnits(t *testing.T, root string) {
	t.Helper()
	for _, unit := range units {
		text, err := os.ReadFile(filepath.Join(root, "opt/timeball/lib/systemd/system", unit))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(text), "ExecStart=/opt/timeball/bin/timeball ") || strings.Contains(string(text), "/usr/local/") {
			t.Errorf("%s: got %q, want the binary where it was put", unit, text)
		}
	}
}

// checkBinary wants a static binary that knows its version.
func checkBinary(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the binary needs a loader: it is not static")
		}
	}
	out, err := exec.Command(path, "version").Output()
	if err != nil || !strings.Contains(string(out), "v9.8.7") {
		t.Errorf("version: got %q, %v, want v9.8.7 in it", out, err)
	}
}

// The example that is installed is good as it stands.
func TestTheExampleConfigurationIsGood(t *testing.T) {
	if testing.Short() {
		t.Skip("short: the binary is not built")
	}
	example := filepath.Join("..", "..", "configs", "timeball.yaml")
	out, err := exec.Command(peers.Binary(t), "check", "--config", example).CombinedOutput()
	if err != nil {
		t.Errorf("timeball check: %v: %s", err, out)
	}
}
