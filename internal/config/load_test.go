package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// write puts a file into a fresh folder, and gives its name.
func write(t *testing.T, name, text string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask must not decide
		t.Fatal(err)
	}
	return path
}

// loadError loads what must not load, and gives the message behind the file's name.
func loadError(t *testing.T, path string) string {
	t.Helper()
	c, warnings, err := Load(path)
	var problems Problems
	if c != nil || warnings != nil || !errors.As(err, &problems) {
		t.Fatalf("got %v, %v, %v, want Problems only", c, warnings, err)
	}
	return strings.TrimPrefix(err.Error(), path+":")
}

func TestFilesThatCannotBeRead(t *testing.T) {
	if got, want := loadError(t, filepath.Join(t.TempDir(), "none.yaml")), "1:1: does not exist; make it, or give the right name"; got != want {
		t.Errorf("missing: got %q, want %q", got, want)
	}
	if got, want := loadError(t, t.TempDir()), "1:1: is a directory; name a file in it"; got != want {
		t.Errorf("directory: got %q, want %q", got, want)
	}
	if got := loadError(t, write(t, "c", "", 0o644)+"/below"); !strings.Contains(got, "not a directory; check the file") {
		t.Errorf("file as directory: got %q, want that it is no directory", got)
	}
}

func TestUnreadableFile(t *testing.T) {
	want := "1:1: cannot be read: permission denied; run as its owner, or change its mode"
	refuse := func(path string) (fs.File, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	if _, _, err := load("c", refuse); message(err) != "c:"+want {
		t.Errorf("got %q, want %q", message(err), want)
	}
	if os.Geteuid() == 0 {
		t.Skip("root reads every file")
	}
	if got := loadError(t, write(t, "c", "{}", 0)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// broken is a file that fails after it was opened.
type broken struct{ stat, read error }

func (b broken) Stat() (fs.FileInfo, error) { return brokenInfo{}, b.stat }
func (b broken) Read([]byte) (int, error)   { return 0, b.read }
func (b broken) Close() error               { return nil }

type brokenInfo struct{}

func (brokenInfo) Name() string       { return "c" }
func (brokenInfo) Size() int64        { return 1 }
func (brokenInfo) Mode() fs.FileMode  { return 0o600 }
func (brokenInfo) ModTime() time.Time { return time.Time{} }
func (brokenInfo) IsDir() bool        { return false }
func (brokenInfo) Sys() any           { return nil }

func TestFileThatFailsWhileItIsRead(t *testing.T) {
	fault := &fs.PathError{Op: "read", Path: "c", Err: errors.New("input/output error")}
	for _, file := range []broken{{stat: fault}, {read: fault}} {
		_, _, err := load("c", func(string) (fs.File, error) { return file, nil })
		if got, want := message(err), "c:1:1: cannot be read: input/output error; check the file"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestHugeFile refuses 100 MB by its size alone, and an endless one after its first
// megabyte.
func TestHugeFile(t *testing.T) {
	path := write(t, "huge.yaml", "log: {}\n", 0o600)
	if err := os.Truncate(path, 100<<20); err != nil {
		t.Fatal(err)
	}
	if got, want := loadError(t, path), "1:1: has 104857600 bytes, and up to 1048576 are read; this is not a configuration of timeball"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := loadError(t, "/dev/zero"), "1:1: is larger than 1024 KiB; this is not a configuration of timeball"; got != want {
		t.Errorf("/dev/zero: got %q, want %q", got, want)
	}
}

func TestEmptyFileIsSaidToBeEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "{}"} {
		path := write(t, "c.yaml", text, 0o600)
		c, warnings, err := Load(path)
		if err != nil || !reflect.DeepEqual(c, defaults()) {
			t.Fatalf("%q: got %v, %v, want the defaults", text, c, err)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0].String(), ":1:1: the configuration is empty") {
			t.Errorf("%q: got %v, want the warning that it is empty", text, warnings)
		}
	}
}

// TestMain makes files and folders as most systems do: of those that all may write to the
// configuration is warned of.
func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

const goodKeys = "- {id: 10, type: aes128-cmac, hex: 000102030405060708090a0b0c0d0e0f}\n- {id: 2, type: sha256, text: a secret of some length}\n"

func TestKeyFile(t *testing.T) {
	folder := t.TempDir()
	put := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(folder, name)
		_ = os.Chmod(path, 0o600) // else only root can write over what is there
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys := put("keys.yaml", goodKeys, 0o600)
	c, _, err := Load(put("c.yaml", "keys: keys.yaml\nsources: [{server: a, key: 10}]\n", 0o644))
	if err != nil || len(c.Keys) != 2 || c.Keys[0].ID != 2 || c.KeyFile != keys {
		t.Errorf("got %v, %v, want the two keys of %s by id", c, err, keys)
	}
	got := loadError(t, put("c.yaml", "keys: keys.yaml\nsources: [{server: a, key: 11}]\n", 0o644))
	if want := "2:28: sources[0].key: no entry of keys has the id 11; add it there, or name another"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o601, 0o620, 0o666} {
		put("keys.yaml", goodKeys, mode)
		got := loadError(t, filepath.Join(folder, "c.yaml"))
		want := "1:7: keys: " + keys + " can be read by others (mode " + modeText(mode) + "); run chmod 600 " + keys
		if got != want {
			t.Errorf("mode %04o: got %q, want %q", mode, got, want)
		}
	}
	put("keys.yaml", goodKeys, 0o440)
	if _, _, err := Load(filepath.Join(folder, "c.yaml")); err != nil && !strings.Contains(err.Error(), "the id 11") {
		t.Errorf("mode 0440 of our own group: got %v, want it taken", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(keys, 0, 54321); err != nil {
			t.Fatal(err)
		}
		if got := loadError(t, filepath.Join(folder, "c.yaml")); !strings.Contains(got, "can be read by others (mode 0440)") {
			t.Errorf("mode 0440 of another group: got %q, want it refused", got)
		}
		if err := os.Chown(keys, 54321, 0); err != nil {
			t.Fatal(err)
		}
		put("keys.yaml", goodKeys, 0o640)
		if _, _, err := Load(filepath.Join(folder, "c.yaml")); err != nil && !strings.Contains(err.Error(), "the id 11") {
			t.Errorf("another's, mode 0640 of our own group: got %v, want it taken", err)
		}
		if err := os.Chown(keys, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	put("keys.yaml", "- {id: 10, type: md5}\n- {id: 11, typ: md5, text: x}\n", 0o400)
	_, _, err = Load(filepath.Join(folder, "c.yaml"))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 3 || problems[0].File != keys || problems[0].Path != "keys[0]" {
		t.Errorf("got %v, want three problems in %s", err, keys)
	}
	put("c.yaml", "log: {}\nkeys: none.yaml\nfoo: 1\n", 0o644)
	want := "2:7: keys: " + filepath.Join(folder, "none.yaml") + " does not exist; make it, or give the right name"
	if got := loadError(t, filepath.Join(folder, "c.yaml")); !strings.HasPrefix(got, want+"\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want %q and the unknown key", got, want)
	}
}

func modeText(mode fs.FileMode) string {
	digits := []byte{'0', byte('0' + mode>>6&7), byte('0' + mode>>3&7), byte('0' + mode&7)}
	return string(digits)
}

func TestLoadKeys(t *testing.T) {
	keys, err := LoadKeys(write(t, "k", goodKeys, 0o600))
	if err != nil || len(keys) != 2 || keys[0].ID != 2 || keys[1].Type != "aes128-cmac" {
		t.Errorf("got %v, %v, want two keys by id", keys, err)
	}
	if keys, err := LoadKeys(write(t, "k", "", 0o600)); err != nil || len(keys) != 0 {
		t.Errorf("empty: got %v, %v, want none", keys, err)
	}
	tests := []struct{ name, text, want string }{
		{"a mapping", "keys: []", "1:1: keys: wants a list, not a mapping; write a list of {id: 10, type: aes128-cmac, hex: ...}"},
		{"broken YAML", "- {id: 1", "1:1: is not YAML: did not find expected ',' or '}'; close the bracket, and put commas between the entries"},
		{"binary", "\x00", "1:1: holds the control character 0x00; a configuration is plain text"},
		{"a bad key", "- {id: 1, type: md5, hex: 0}", "1:27: keys[0].hex: is not an even number of hex digits; write two for each byte of the secret"},
		{"a tag", "!x []", "1:1: keys: has the YAML tag !x; leave tags out"},
	}
	for _, test := range tests {
		path := write(t, "k", test.text, 0o600)
		keys, err := LoadKeys(path)
		if got := strings.TrimPrefix(message(err), path+":"); got != test.want || keys != nil {
			t.Errorf("%s: got %v, %q, want %q", test.name, keys, got, test.want)
		}
	}
	if _, err := LoadKeys(t.TempDir()); !strings.Contains(message(err), ":1:1: is a directory") {
		t.Errorf("got %v for a directory, want that it is one", err)
	}
}

func TestLoadThroughAnyFileSystem(t *testing.T) {
	files := fstest.MapFS{
		"c.yaml":    {Data: []byte("keys: keys.yaml\n"), Mode: 0o644},
		"keys.yaml": {Data: []byte(goodKeys), Mode: 0o600},
	}
	c, _, err := load("c.yaml", files.Open)
	if err != nil || len(c.Keys) != 2 {
		t.Errorf("got %v, %v, want two keys", c, err)
	}
}
