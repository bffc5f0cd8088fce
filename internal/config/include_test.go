package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folder writes a configuration with its drop-ins.
func folder(t *testing.T, files map[string]string) (main string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "timeball.yaml")
}

const withDropIns = "sources: [{server: 192.0.2.1}]\ninclude: [conf.d/*.yaml]\n"

func TestDropInsBringSources(t *testing.T) {
	main := folder(t, map[string]string{"timeball.yaml": withDropIns,
		"conf.d/20-b.yaml": "sources: [{server: 192.0.2.3}]\n", "conf.d/10-a.yaml": "sources:\n- {server: 192.0.2.2}\n- {server: 192.0.2.1}\n",
		"conf.d/empty.yaml": "", "conf.d/other.txt": "not: read\n"})
	c, _, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for i := range c.Sources {
		hosts = append(hosts, c.Sources[i].Host)
	}
	if got := strings.Join(hosts, " "); got != "192.0.2.1 192.0.2.2 192.0.2.3" {
		t.Errorf("got %s, want those of all files in order, each once", got)
	}
}

func TestProblemsOfDropInsNameThem(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"an unknown option", "sources:\n- {server: 192.0.2.2, minpoll: 3}\n", "10-a.yaml:2:23: sources[1].minpoll: "},
		{"no list", "sources: 3\n", "10-a.yaml:1:10: sources: "},
		{"another section", "server: {}\n", "10-a.yaml:1:1: server: cannot stand in an included file"},
		{"what a check finds", "sources:\n  - {server: 192.0.2.2, min_poll: 9, max_poll: 8}\n", "10-a.yaml:2:35: sources[1].min_poll: "},
		{"a key that there is not", "sources: [{server: 192.0.2.2, key: 4}]\n", "10-a.yaml:1:36: sources[1].key: "},
		{"no YAML", "sources: [\n", "10-a.yaml:1:1: is not YAML"},
		{"doubled in itself", "sources: []\nsources: []\n", "10-a.yaml:2:1: sources: is given twice"},
	} {
		main := folder(t, map[string]string{"timeball.yaml": withDropIns, "conf.d/10-a.yaml": test.text})
		_, _, err := Load(main)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// A faulty drop-in does not move the blame for what the file itself says.
func TestProblemsBesideDropIns(t *testing.T) {
	main := folder(t, map[string]string{"timeball.yaml": "sources: [{server: 192.0.2.1, key: 3}]\ninclude: [conf.d/*.yaml]\nselection: {min_sources: 0}\n",
		"conf.d/10-a.yaml": "sources: [{server: 192.0.2.2}]\n"})
	_, _, err := Load(main)
	for _, want := range []string{"timeball.yaml:1:36: sources[0].key", "timeball.yaml:3:26: selection.min_sources"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
