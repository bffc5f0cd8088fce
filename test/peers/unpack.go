package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Program is an unpacked program: where it lies, and where the libraries lie that this
// system does not have itself.
type Program struct {
	Path      string
	Root      string // the root of its package
	Libraries []string
}

// Env is what its environment needs beside the usual.
func (p Program) Env() []string {
	if len(p.Libraries) == 0 {
		return nil
	}
	return []string{"LD_LIBRARY_PATH=" + strings.Join(p.Libraries, ":")}
}

// unpacking guards unpacked: what this process has unpacked already, by package and path. To ask
// apt for a package takes most of a second of the processor's time, and tests ask a hundred times.
var (
	unpacking sync.Mutex
	unpacked  = map[[2]string]Program{}
)

// Unpack gives the program at that path of a Debian package, or skips the test.
func Unpack(t testing.TB, pkg, path string) Program {
	t.Helper()
	if testing.Short() {
		t.Skip("short: other programs are left out")
	}
	unpacking.Lock()
	defer unpacking.Unlock()
	p, known := unpacked[[2]string{pkg, path}]
	if !known {
		var err error
		if p, err = unpackProgram(pkg, path); err != nil {
			t.Skipf("%s of package %s cannot be had: %v", filepath.Base(path), pkg, err)
		}
		unpacked[[2]string{pkg, path}] = p
	}
	return p
}

func unpackProgram(pkg, path string) (Program, error) {
	unlock, err := lockCache()
	if err != nil {
		return Program{}, err
	}
	defer unlock()
	root, err := unpack(pkg)
	if err != nil {
		return Program{}, err
	}
	p := Program{Path: filepath.Join(root, path), Root: root}
	// Each round finds the libraries of the libraries found in the one before.
	for range 8 {
		missing := missingLibraries(p)
		if len(missing) == 0 {
			return p, nil
		}
		for _, soname := range missing {
			dir, err := unpackLibrary(soname)
			if err != nil {
				return p, err
			}
			if !slices.Contains(p.Libraries, dir) {
				p.Libraries = append(p.Libraries, dir)
			}
		}
	}
	return p, fmt.Errorf("libraries still missing: %v", missingLibraries(p))
}

// cacheDir is where packages are unpacked, a directory for each package and version.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "timeball-peers")
	return dir, os.MkdirAll(dir, 0o755)
}

// lockCache keeps other test binaries out of the cache while this one fills it.
func lockCache() (unlock func(), err error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// unpack gives the root of the unpacked package, in the version that apt would install,
// or, where apt cannot say, in the version that is here.
func unpack(pkg string) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	file, err := candidate(pkg)
	if err != nil {
		if here, _ := filepath.Glob(filepath.Join(dir, pkg+"_*")); len(here) > 0 {
			return here[len(here)-1], nil
		}
		return "", err
	}
	root := filepath.Join(dir, strings.TrimSuffix(file, ".deb"))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	work, err := os.MkdirTemp(dir, "work-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if _, err := run(work, "apt-get", "download", "-q", pkg); err != nil {
		return "", err
	}
	if _, err := run(work, "dpkg-deb", "-x", file, "root"); err != nil {
		return "", err
	}
	// dpkg-deb gives the top directory the package's own mode; others must get in.
	if err := os.Chmod(filepath.Join(work, "root"), 0o755); err != nil {
		return "", err
	}
	return root, os.Rename(filepath.Join(work, "root"), root)
}

var debFile = regexp.MustCompile(`(?m)^'[^']*' (\S+\.deb) `)

// candidate is the file name of the version that apt would download, asked for once. The
// lists are fetched once where there are none.
var candidate = func() func(pkg string) (string, error) {
	var mu sync.Mutex
	updated, files := false, map[string]string{}
	return func(pkg string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		for files[pkg] == "" {
			// In a directory without packages, as apt does not name one that lies there.
			out, err := run("/", "apt-get", "download", "--print-uris", "-q", pkg)
			if m := debFile.FindStringSubmatch(out); m != nil {
				files[pkg] = m[1]
				continue
			}
			if updated {
				return "", fmt.Errorf("apt has no package %s: %w", pkg, err)
			}
			updated = true
			if _, err := run("/", "timeout", "60", "apt-get", "update", "-qq"); err != nil {
				return "", fmt.Errorf("the package lists cannot be fetched: %w", err)
			}
		}
		return files[pkg], nil
	}
}()

// libraryPackages says which package has a library that a program may lack here.
var libraryPackages = map[string]string{
	"libbluetooth.so.3":        "libbluetooth3",
	"libbsd.so.0":              "libbsd0",
	"libcap.so.2":              "libcap2",
	"libcrypto.so.3":           "libssl3",
	"libdbus-1.so.3":           "libdbus-1-3",
	"libedit.so.2":             "libedit2",
	"libffi.so.8":              "libffi8",
	"libgmp.so.10":             "libgmp10",
	"libgnutls.so.30":          "libgnutls30",
	"libhogweed.so.6":          "libhogweed6",
	"libidn2.so.0":             "libidn2-0",
	"libmd.so.0":               "libmd0",
	"libnettle.so.8":           "libnettle8",
	"libp11-kit.so.0":          "libp11-kit0",
	"libseccomp.so.2":          "libseccomp2",
	"libsystemd-shared-252.so": "libsystemd-shared",
	"libtasn1.so.6":            "libtasn1-6",
	"libtinfo.so.6":            "libtinfo6",
	"libudev.so.1":             "libudev1",
	"libusb-1.0.so.0":          "libusb-1.0-0",
	"libunistring.so.2":        "libunistring2",
	"libsystemd.so.0":          "libsystemd0",
	"liblz4.so.1":              "liblz4-1",
	"libgcrypt.so.20":          "libgcrypt20",
	"libgpg-error.so.0":        "libgpg-error0",
	"libcap-ng.so.0":           "libcap-ng0",
	"libssl.so.3":              "libssl3",
	// of chromium-headless-shell
	"libFLAC.so.12":             "libflac12",
	"libXNVCtrl.so.0":           "libxnvctrl0",
	"libasyncns.so.0":           "libasyncns0",
	"libdouble-conversion.so.3": "libdouble-conversion3",
	"libharfbuzz-subset.so.0":   "libharfbuzz-subset0",
	"libminizip.so.1":           "libminizip1",
	"libmp3lame.so.0":           "libmp3lame0",
	"libmpg123.so.0":            "libmpg123-0",
	"libogg.so.0":               "libogg0",
	"libopenh264.so.7":          "libopenh264-7",
	"libopenjp2.so.7":           "libopenjp2-7",
	"libopus.so.0":              "libopus0",
	"libpulse.so.0":             "libpulse0",
	"libpulsecommon-16.1.so":    "libpulse0",
	"libsndfile.so.1":           "libsndfile1",
	"libvorbis.so.0":            "libvorbis0a",
	"libvorbisenc.so.2":         "libvorbisenc2",
}

// unpackLibrary gives the directory that holds a library.
func unpackLibrary(soname string) (string, error) {
	pkg, ok := libraryPackages[soname]
	if !ok {
		return "", fmt.Errorf("%s is missing, and no package is known for it", soname)
	}
	root, err := unpack(pkg)
	if err != nil {
		return "", err
	}
	for _, pattern := range []string{"lib/*/", "usr/lib/*/", "lib/", "usr/lib/", "lib/systemd/", "usr/lib/systemd/", "usr/lib/*/*/"} {
		if found, _ := filepath.Glob(filepath.Join(root, pattern+soname)); len(found) > 0 {
			return filepath.Dir(found[0]), nil
		}
	}
	return "", fmt.Errorf("package %s has no %s", pkg, soname)
}

var notFound = regexp.MustCompile(`(?m)^\s*(\S+) => not found`)

// missingLibraries asks the loader what it does not find. A script has none.
func missingLibraries(p Program) []string {
	cmd := exec.Command("ldd", p.Path)
	cmd.Env = append(os.Environ(), p.Env()...)
	out, _ := cmd.Output()
	var missing []string
	for _, m := range notFound.FindAllStringSubmatch(string(out), -1) {
		missing = append(missing, m[1])
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// run runs a command to its end in dir and gives what it printed; its complaints are
// part of the error.
func run(dir, name string, args ...string) (string, error) {
	var complaints strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stderr = dir, &complaints
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return string(out), err
}
