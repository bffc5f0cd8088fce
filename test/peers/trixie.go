package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Newer is a program of Debian 13, with the loader and the libraries of that release.
type Newer struct{ loader, libraries, path string }

// Argv begins a command line of the program.
func (n Newer) Argv(args ...string) []string {
	return append([]string{n.loader, "--library-path", n.libraries, n.path}, args...)
}

// UnpackNewer gives the program at that path of a package of Debian 13, unpacked with the
// packages that hold its libraries, or skips the test: it takes a second configuration of
// apt, of which this machine's own hears nothing.
func UnpackNewer(t testing.TB, path string, packages ...string) Newer {
	t.Helper()
	if testing.Short() {
		t.Skip("short: other programs are left out")
	}
	unpacking.Lock()
	defer unpacking.Unlock()
	n, err := unpackNewer(path, packages)
	if err != nil {
		t.Skipf("%s of Debian 13 cannot be had: %v", filepath.Base(path), err)
	}
	return n
}

func unpackNewer(path string, packages []string) (Newer, error) {
	cache, err := cacheDir()
	if err != nil {
		return Newer{}, err
	}
	unlock, err := lockCache()
	if err != nil {
		return Newer{}, err
	}
	defer unlock()
	dir := filepath.Join(cache, "trixie-"+packages[0])
	root := filepath.Join(dir, "root")
	n := Newer{filepath.Join(root, "usr/lib64/ld-linux-x86-64.so.2"), filepath.Join(root, "usr/lib/x86_64-linux-gnu"), filepath.Join(root, path)}
	if _, err := os.Stat(n.path); err == nil {
		return n, nil
	}
	for _, sub := range []string{"parts", "lists/partial", "cache/archives/partial", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return n, err
		}
	}
	own, err := os.ReadFile("/etc/apt/sources.list.d/debian.sources")
	if err != nil {
		return n, err
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(own), "bookworm", "trixie"), "Types:", "Trusted: yes\nTypes:")
	if err := os.WriteFile(filepath.Join(dir, "parts/debian.sources"), []byte(text), 0o644); err != nil {
		return n, err
	}
	apt := func(args ...string) error {
		options := []string{"-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=" + dir + "/parts",
			"-o", "Dir::State::lists=" + dir + "/lists", "-o", "Dir::Cache=" + dir + "/cache"}
		_, err := run(dir, "apt-get", append(options, args...)...)
		return err
	}
	if err := apt("update"); err != nil {
		return n, err
	}
	if err := apt(append([]string{"download"}, packages...)...); err != nil {
		return n, err
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	for _, file := range files {
		if _, err := run(dir, "dpkg-deb", "-x", file, root); err != nil {
			return n, err
		}
	}
	if _, err := os.Stat(n.path); err != nil {
		return n, fmt.Errorf("it is not in %v", packages)
	}
	return n, nil
}
