package state

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/internal/ntptime"
)

var someTime = ntptime.WallOf(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))

func TestDriftComesBackAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drift")
	for _, want := range []Drift{
		{Frequency: -12.345678e-6, Error: 0.01e-6, Written: someTime},
		{Frequency: 500e-6, Error: 0, Written: someTime},
		{Written: someTime},
	} {
		if err := WriteDrift(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadDrift(path)
		if err != nil || math.Abs(float64(got.Frequency-want.Frequency)) > 1e-12 ||
			math.Abs(float64(got.Error-want.Error)) > 1e-12 || got.Written != want.Written {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if names := list(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("the directory holds %v, want the drift file alone", names)
	}
	text, _ := os.ReadFile(path)
	if !strings.Contains(string(text), "frequency_ppm: 0.000000\n") {
		t.Errorf("not readable by people:\n%s", text)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

const good = "frequency_ppm: 1.5\nerror_ppm: 0.1\nwritten: 2026-03-04T05:06:07Z\n"

// Each of these is ignored with one warning.
func TestCorruptDriftFileIsIgnoredWithOneWarning(t *testing.T) {
	for what, text := range map[string]string{
		"empty":             "",
		"no number":         strings.Replace(good, "1.5", "fast", 1),
		"NaN":               strings.Replace(good, "1.5", "NaN", 1),
		"infinite":          strings.Replace(good, "1.5", "-Inf", 1),
		"1e99":              strings.Replace(good, "1.5", "1e99", 1),
		"1e999":             strings.Replace(good, "1.5", "1e999", 1),
		"-600 ppm":          strings.Replace(good, "1.5", "-600", 1),
		"negative error":    strings.Replace(good, "0.1", "-0.1", 1),
		"NaN error":         strings.Replace(good, "0.1", "nan", 1),
		"no time":           strings.Replace(good, "2026-03-04T05:06:07Z", "yesterday", 1),
		"time before 2025":  strings.Replace(good, "2026", "1970", 1),
		"time in year 9999": strings.Replace(good, "2026", "9999", 1),
		"cut short":         good[:20],
		"doubled key":       good + "frequency_ppm: 2\n",
		"binary":            "\x00\xff\x00\x01",
		"too long":          good + strings.Repeat("#", maxSize),
	} {
		path := filepath.Join(t.TempDir(), "drift")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := ReadDrift(path)
		if err == nil || got != (Drift{}) {
			t.Errorf("%s: got %+v, %v, want nothing and an error", what, got, err)
			continue
		}
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the warning is not one line that names the file: %q", what, err)
		}
	}
}

func TestWhatIsNoPlainFileIsIgnored(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(path("target"), []byte(good), 0o644)
	os.Symlink(path("target"), path("link"))
	os.Mkdir(path("directory"), 0o755)
	syscall.Mkfifo(path("pipe"), 0o644)
	huge, err := os.Create(path("huge"))
	if err != nil {
		t.Fatal(err)
	}
	huge.Truncate(1 << 30) // sparse
	huge.Close()
	for _, name := range []string{"link", "directory", "pipe", "huge"} {
		if d, err := ReadDrift(path(name)); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %+v, %v, want an error", name, d, err)
		}
	}
	if _, err := ReadDrift(path("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v, want fs.ErrNotExist", err)
	}
}

// Threats 38: what a link in the state directory points at is neither believed nor told
// of, be it good, missing or another link.
func TestNoReaderFollowsALink(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(WriteDrift(path("drift"), Drift{Written: someTime}), WriteGate(path("gate"), Gate{Boot: "a"}),
		WriteTime(path("time"), someTime)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"drift", "gate", "time"} {
		for link, target := range map[string]string{".link": name, ".dangling": "nowhere", ".chain": name + ".link"} {
			if err := os.Symlink(path(target), path(name+link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, link := range []string{".link", ".dangling", ".chain"} {
		_, drift := ReadDrift(path("drift" + link))
		open, gate := ReadGate(path("gate"+link), "a")
		floor, last := ReadTime(path("time" + link))
		for file, err := range map[string]error{"drift": drift, "gate": gate, "time": last} {
			if err == nil || !strings.Contains(err.Error(), file+link+" is a symbolic link") {
				t.Errorf("%s%s: got %v, want the link refused", file, link, err)
			}
		}
		if open || floor != earliest {
			t.Errorf("%s: got a gate open %v and the time %v, want it shut and the program's own date", link, open, floor.Time())
		}
	}
}

func TestWriteFollowsNoPlantedLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	os.WriteFile(victim, []byte("precious"), 0o644)
	for _, planted := range []string{"drift", ".drift.new"} {
		os.Symlink(victim, filepath.Join(dir, planted))
	}
	if err := WriteDrift(filepath.Join(dir, "drift"), Drift{Written: someTime}); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(victim); string(text) != "precious" {
		t.Errorf("the link's target was overwritten: %q", text)
	}
	if _, err := ReadDrift(filepath.Join(dir, "drift")); err != nil {
		t.Errorf("the drift file is not there: %v", err)
	}
}

func TestLeftoverOfAKilledWriterIsNoObstacle(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, ".drift.new"), []byte("frequ"), 0o600)
	path := filepath.Join(dir, "drift")
	if err := WriteDrift(path, Drift{Frequency: 1e-6, Written: someTime}); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDrift(path); err != nil {
		t.Error(err)
	}
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "drift")
	os.WriteFile(path, []byte(good), 0o644)
	os.MkdirAll(filepath.Join(dir, ".drift.new", "in the way"), 0o755)
	if err := WriteDrift(path, Drift{Written: someTime}); err == nil {
		t.Error("got no error where the new file cannot be made")
	}
	if d, err := ReadDrift(path); err != nil || math.Abs(d.Frequency.PPM()-1.5) > 1e-9 {
		t.Errorf("old file: got %+v, %v", d, err)
	}
	if err := WriteDrift(filepath.Join(dir, "nowhere", "drift"), Drift{}); err == nil {
		t.Error("a missing directory: got no error")
	}
	os.Mkdir(filepath.Join(dir, "folder"), 0o755)
	if err := WriteDrift(filepath.Join(dir, "folder"), Drift{Written: someTime}); err == nil {
		t.Error("a directory in the file's place: got no error")
	}
	if names := list(t, dir); len(names) != 3 {
		t.Errorf("left behind: %v", names)
	}
}

func TestUnbelievableDriftIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drift")
	nan := ntptime.Frequency(math.NaN())
	for _, d := range []Drift{{Frequency: nan}, {Error: nan}, {Frequency: 501e-6}, {Error: -1e-9}} {
		if err := WriteDrift(path, d); err == nil {
			t.Errorf("%+v was written", d)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
}

func TestRFC8633_5_2_GateOpensOncePerBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate")
	check := func(what, boot string, want bool) {
		t.Helper()
		if got, warning := ReadGate(path, boot); got != want || warning != nil {
			t.Errorf("%s: got %v, %v, want %v", what, got, warning, want)
		}
	}
	check("no file", "a", true)
	WriteGate(path, Gate{Boot: "a"})
	check("not used", "a", true)
	WriteGate(path, Gate{Boot: "a", Used: true})
	check("used in this boot", "a", false)
	check("used in another boot", "b", true)
}

func TestCorruptGateStaysShut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate")
	for _, text := range []string{"", "boot: a\n", "used: true\n", "boot: a\nused: perhaps\n", "\x00", "boot: a\nboot: b\nused: false\n"} {
		os.WriteFile(path, []byte(text), 0o644)
		if open, warning := ReadGate(path, "z"); open || warning == nil {
			t.Errorf("%q: got open %v, warning %v, want it shut with a warning", text, open, warning)
		}
	}
}

func TestBootIDIsReadOrRefused(t *testing.T) {
	if id, err := BootID(); err != nil || len(id) < 8 {
		t.Errorf("this machine: got %q, %v", id, err)
	}
	path := filepath.Join(t.TempDir(), "boot_id")
	for text, good := range map[string]bool{"": false, "\n": false, "a\nb": false, "abc\n": true} {
		os.WriteFile(path, []byte(text), 0o644)
		if id, err := bootID(path); (err == nil) != good {
			t.Errorf("%q: got %q, %v", text, id, err)
		}
	}
}

func TestLastKnownTimeIsAFloor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "time")
	if w, err := ReadTime(path); w != earliest || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, %v, want the program's own date", w.Time(), err)
	}
	if err := WriteTime(path, someTime); err != nil {
		t.Fatal(err)
	}
	if w, err := ReadTime(path); w != someTime || err != nil {
		t.Errorf("got %v, %v, want %v", w.Time(), err, someTime.Time())
	}
	of2099 := ntptime.WallOf(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
	for _, w := range []ntptime.Wall{0, of2099, math.MaxInt64, math.MinInt64} {
		if err := WriteTime(path, w); err == nil {
			t.Errorf("%v was written", w.Time())
		}
	}
	if w, err := ReadTime(path); w != someTime || err != nil {
		t.Errorf("after refused writes: got %v, %v", w.Time(), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{good, "", "a:b:c", "#", "\x00:\n", "used: true\nboot: x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := parse(text)
		if err != nil {
			return
		}
		if v, err := number(fields, "frequency_ppm", -maxDrift, maxDrift); err == nil && !(math.Abs(v) <= maxDrift) {
			t.Errorf("%q: believed %v", text, v)
		}
		if w, err := moment(fields, "written"); err == nil && (w < earliest || w > latest) {
			t.Errorf("%q: believed %v", text, w.Time())
		}
	})
}

func TestUsable(t *testing.T) {
	dir := t.TempDir()
	if err := Usable(dir); err != nil {
		t.Errorf("a folder of ours: got %v, want nothing wrong", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir + "/none": "does not exist", file: "is no folder", file + "/below": "not a directory", "/proc/self": "cannot be written to",
	} {
		if err := Usable(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}
