package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"timeball/internal/config"
	"timeball/test/golden"
)

// mains are where a daemon's configuration lies.
var mains = []string{"etc/chrony/chrony.conf", "etc/ntpsec/ntp.conf", "etc/ntp.conf", "etc/systemd/timesyncd.conf", "etc/openntpd/ntpd.conf", "etc/ntpd-rs/ntp.toml"}

// Each folder of testdata is a machine's file system; what comes out is beside it, and is
// read by people when it changes.
func TestConvert(t *testing.T) {
	folders, err := filepath.Glob("testdata/*/etc")
	if err != nil || len(folders) < 20 {
		t.Fatalf("got %d folders, %v, want 20 or more", len(folders), err)
	}
	for _, etc := range folders {
		root := filepath.Dir(etc)
		name := filepath.Base(root)
		t.Run(name, func(t *testing.T) {
			r := convertIn(t, root)
			if want, _, _ := strings.Cut(name, "-"); name != "ntpd-rs" && !strings.HasPrefix(string(r.Format), want) {
				t.Errorf("got format %s, want %s", r.Format, name)
			}
			var got bytes.Buffer
			got.Write(r.YAML)
			for _, n := range r.Notes {
				if n.Kind == NoteRefused {
					got.WriteString("# refused: " + printable(n.String()) + "\n")
				}
			}
			golden.Compare(t, filepath.Join("testdata", name+".yaml"), got.String()) // a new key changes this
			if strings.HasSuffix(name, "-bad") && r.Count(NoteRefused) == 0 || strings.HasSuffix(name, "-stock") && r.Count(NoteRefused) > 0 {
				t.Errorf("got %d refused lines", r.Count(NoteRefused))
			}
			loads(t, r)
		})
	}
}

func convertIn(t *testing.T, root string) *Result {
	t.Helper()
	for _, main := range mains {
		if _, err := os.Stat(filepath.Join(root, main)); err != nil {
			continue
		}
		r, err := Convert("/"+main, Options{Files: Disk{Root: root}, KeyFile: "/etc/timeball/keys.yaml"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Fatalf("no configuration in %s", root)
	return nil
}

// loads checks that timeball takes the result, with the keys beside it.
func loads(t *testing.T, r *Result) {
	t.Helper()
	dir := t.TempDir()
	keys, conf := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "timeball.yaml")
	text := bytes.ReplaceAll(r.YAML, []byte("/etc/timeball/keys.yaml"), []byte(keys))
	if err := os.WriteFile(keys, r.Keys, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Load(conf); err != nil {
		t.Errorf("timeball does not take it: %v\n%s", err, text)
	}
}

func TestKeysNeedAFile(t *testing.T) {
	_, err := Convert("/etc/chrony/chrony.conf", Options{Files: Disk{Root: "testdata/chrony-client"}})
	if err == nil || !strings.Contains(err.Error(), "--keys") {
		t.Errorf("got %v, want the advice to name a file of keys", err)
	}
}

func TestNoSecretIsShown(t *testing.T) {
	r := convertIn(t, "testdata/chrony-client")
	for _, secret := range []string{"plainmd5", "0001020304", "secret"} {
		if bytes.Contains(r.YAML, []byte(secret)) {
			t.Errorf("the configuration holds %q", secret)
		}
		for _, n := range r.Notes {
			if strings.Contains(n.String(), secret) {
				t.Errorf("a note holds %q: %s", secret, n)
			}
		}
	}
}

// memory is a file system of one file.
type memory struct {
	path string
	data []byte
}

func (m memory) Read(path string) ([]byte, error) {
	if path == m.path {
		return m.data, nil
	}
	return nil, os.ErrNotExist
}

func (m memory) Glob(string) []string { return []string{m.path} } // a file that names itself

// Whatever a file says, what comes out is a configuration of timeball, or nothing does.
func FuzzConvert(f *testing.F) {
	for _, main := range mains {
		files, _ := filepath.Glob("testdata/*/" + main)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for i := range Formats {
				f.Add(data, byte(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		if len(data) > 4096 {
			return
		}
		r, err := Convert("/conf", Options{Format: Formats[int(which)%len(Formats)], Files: memory{"/conf", data}, KeyFile: "/keys.yaml"})
		if err != nil {
			if strings.Contains(err.Error(), "do not go together") {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := check(r.YAML); err != nil {
			t.Fatalf("timeball does not take it: %v\n%s", err, r.YAML)
		}
	})
}
