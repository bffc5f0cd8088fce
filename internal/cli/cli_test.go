package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
)

func TestExitStatusAndWords(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "nobody.sock")
	good := write(t, "good.yaml", "clock: {driver: virtual}\nlocal: {stratum: 10}\n")
	bad := write(t, "bad.yaml", "sauces: []\nclock: {panic: 5}\n")
	for _, test := range []struct {
		args   string
		status int
		want   string // in stderr if status ≠ 0, else in stdout
	}{
		{"", 0, "Usage:"},
		{"--help", 0, "Reports of a running daemon"},
		{"version", 0, "timeball"},
		{"version --json", 0, `"version"`},
		{"completion bash", 0, "bash"},
		{"frobnicate", exitUsage, "frobnicate"},
		{"--frob", exitUsage, "--frob"},
		{"version extra", exitUsage, "extra"},
		{"run extra", exitUsage, "extra"},
		{"query", exitUsage, "at least 1"},
		{"lab", exitUsage, "accepts 1 arg"},
		{"query --count 0 x", exitUsage, "--count 0"},
		{"query --version 5 x", exitUsage, "--version 5"},
		{"query 127.0.0.1:0", exitUsage, "is no port"},
		{"query [::1", exitUsage, "[ADDRESS]:PORT"},
		{"query a..b", exitUsage, "is not a host name"},
		{"query 1.2.3:123", exitUsage, "is not an IPv4 address"},
		{"query --nts --version 3 x", exitUsage, "NTS is of version 4"},
		{"query --nts-port 0 x", exitUsage, "--nts-port 0"},
		{"query --source nonsense 127.0.0.1", exitUsage, "nonsense"},
		{"keygen --type rot13", exitUsage, "rot13"},
		{"keygen --id 0", exitUsage, "key id 0"},
		{"check --config " + good, 0, "good"},
		{"check --config /nonexistent/timeball.yaml", 1, "/nonexistent/timeball.yaml"},
		{"run --config /nonexistent/timeball.yaml", 1, "/nonexistent/timeball.yaml"},
		{"lab /nonexistent/scenario.yaml", 1, "scenario.yaml"},
		{"simulate /nonexistent/scenario.yaml", 1, "scenario.yaml"},
		{"wait --timeout 10ms --socket " + nobody, 1, "no timeball answers"},
		{"status --socket " + nobody, 1, "is it running?"},
		{"sources --socket " + nobody, 1, "is it running?"},
		{"sources --watch --socket " + nobody, 1, "is it running?"},
		{"explain a b --socket " + nobody, exitUsage, "arg"},
		{"status --interval nonsense", exitUsage, "nonsense"},
	} {
		t.Run(test.args, func(t *testing.T) {
			o := run(strings.Fields(test.args)...)
			if test.status != 0 {
				o.errorLine(t, test.status, test.want)
				return
			}
			if o.status != 0 || !strings.Contains(o.stdout, test.want) {
				t.Errorf("got status %d, stdout %q, stderr %q; want status 0 and %q", o.status, o.stdout, o.stderr, test.want)
			}
		})
	}
	o := run("check", "--config", bad)
	if o.status != 1 || strings.Count(o.stderr, "bad.yaml:") < 2 || !strings.Contains(o.stderr, "bad.yaml:1:1: ") {
		t.Errorf("got status %d, %q; want 1 and every problem as FILE:LINE:COL", o.status, o.stderr)
	}
}

func TestCheckWarnsOfTraps(t *testing.T) {
	o := run("check", "--config", write(t, "one.yaml", "sources: [{server: 192.0.2.1}]\n"))
	if o.status != 0 || !strings.Contains(o.stderr, "warning:") || !strings.Contains(o.stderr, "one source only") {
		t.Errorf("got status %d, %q; want 0 and a warning of the lone source", o.status, o.stderr)
	}
	o = run("check", "--config", write(t, "leap.yaml", "clock: {driver: virtual, leap: {file: "+write(t, "leap.list", "nonsense\n")+"}}\n"))
	if o.status != 0 || !strings.Contains(o.stderr, "leap second list") {
		t.Errorf("got status %d, %q; want 0 and a warning of the list", o.status, o.stderr)
	}
}

func TestCheckAsksTheSources(t *testing.T) {
	p := running(t)
	good := write(t, "probe.yaml", fmt.Sprintf("sources: [{server: \"%s\"}]\nclock: {driver: observe}\n", p.address))
	o := eventually(succeeds, "check", "--probe", "--config", good)
	if o.status != 0 || !strings.Contains(o.stdout, "selected") {
		t.Errorf("got status %d, stdout %q, stderr %q; want the reference selected", o.status, o.stdout, o.stderr)
	}
	if fields := strings.Fields(o.stdout[strings.Index(o.stdout, "*"):]); len(fields) < 4 || fields[3] != "1" {
		t.Errorf("got %q, want stratum 1 as the third column", o.stdout)
	}
	if strings.Contains(o.stdout, "REACH") || strings.Contains(o.stdout, "POLL") || !strings.Contains(o.stdout, "system peer") {
		t.Errorf("got %q, want the reason, and no column that one exchange cannot fill", o.stdout)
	}
	silent := write(t, "silent.yaml", fmt.Sprintf("sources: [{server: \"%s\"}]\nclock: {driver: observe}\n", deaf(t)))
	o = run("check", "--probe", "--config", silent)
	if o.status != 1 || !strings.Contains(o.stderr, "no answer") || !strings.Contains(o.stderr, "no source would be selected") {
		t.Errorf("got status %d, stderr %q; want 1, who did not answer, and that none would be selected", o.status, o.stderr)
	}
}

func TestQuery(t *testing.T) {
	p := running(t)
	o := eventually(succeeds, "query", p.address)
	if o.status != 0 || !strings.Contains(o.stdout, "LOCL") || strings.Count(o.stdout, "\n") != 2 {
		t.Errorf("got status %d, %q; want a header and a row with LOCL", o.status, o.stdout)
	}
	silent := deaf(t)
	o = run("query", silent)
	o.errorLine(t, 1, silent)
	o = eventually(succeeds, "query", silent, p.address)
	if o.status != 0 || !strings.Contains(o.stdout, p.address) || !strings.Contains(o.stderr, silent) {
		t.Errorf("one of two answers: got status %d, %q, %q; want 0, a row and an error", o.status, o.stdout, o.stderr)
	}
	var answer struct{ Servers []struct{ Offsets []float64 } }
	two := func(o outcome) bool {
		return json.Unmarshal([]byte(o.stdout), &answer) == nil && len(answer.Servers) == 1 && len(answer.Servers[0].Offsets) == 2
	}
	o = eventually(two, "query", "--json", "--count", "2", p.address)
	if lost := missing(shape(t, o.stdout), "servers[].name:string", "servers[].address:string", "servers[].offset:number",
		"servers[].delay:number", "servers[].dispersion:number", "servers[].stratum:number", "servers[].reference_id:string",
		"servers[].leap:string", "servers[].root_delay:number", "servers[].root_dispersion:number", "servers[].offsets[]:number"); lost != nil {
		t.Errorf("JSON lacks %v", lost)
	}
	if !two(o) {
		t.Errorf("got %v, want two offsets", answer)
	}
}

func TestKeygenMakesKeysThatAreRead(t *testing.T) {
	for kind := range secretSizes {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		if o := run("keygen", "--id", "4294967295", "--type", kind, "--file", path); o.status != 0 {
			t.Errorf("%s: %s", kind, o.stderr)
			continue
		}
		keys, err := config.LoadKeys(path)
		if err != nil || len(keys) != 1 || keys[0].ID != 4294967295 || string(keys[0].Type) != kind || len(keys[0].Secret) != secretSizes[kind] {
			t.Errorf("%s: got %+v, %v", kind, keys, err)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, want 0600", kind, info.Mode())
		}
		before, _ := os.ReadFile(path)
		run("keygen", "--type", kind, "--file", path).errorLine(t, 1, "exists")
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s: an existing file was touched", kind)
		}
	}
	if one, two := run("keygen").stdout, run("keygen").stdout; one == two {
		t.Error("two keys are the same")
	}
}

// Threats 41: what is generated is always read back.
func TestManyKeysAreReadBack(t *testing.T) {
	var text strings.Builder
	for id := range 2000 {
		entry, err := newKeyEntry(uint32(id+1), "aes128-cmac")
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(entry)
	}
	keys, err := config.LoadKeys(write(t, "keys.yaml", text.String()))
	if err != nil || len(keys) != 2000 {
		t.Errorf("got %d keys, %v, want 2000", len(keys), err)
	}
}

func TestWaitHeedsTheErrorBound(t *testing.T) {
	p := running(t)
	if o := run("wait", "--socket", p.socket("client"), "--timeout", patience.String(), "--max-error", "1s"); o.status != 0 {
		t.Errorf("1 s: got status %d, %q, want 0", o.status, o.stderr)
	}
	longer(300*time.Millisecond, func(o outcome) bool { return strings.Contains(o.stderr, "error bound") }, "--timeout",
		"wait", "--socket", p.socket("client"), "--max-error", "1ns").errorLine(t, 1, "error bound")
}

func TestTheSocketComesFromTheEnvironment(t *testing.T) {
	p := running(t)
	t.Setenv(socketVariable, p.socket("client"))
	if o := run("tracking"); o.status != 0 || !strings.Contains(o.stdout, "Stratum") {
		t.Errorf("got status %d, %q", o.status, o.stderr)
	}
}

// LoseFiles: a working directory with a planted configuration changes nothing (threats 42).
func TestTheWorkingDirectoryIsNotLookedInto(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "timeball.yaml"), []byte("clock: {driver: virtual}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if o := run("check"); o.status == 0 && !strings.Contains(o.stdout, defaultConfig) {
		t.Errorf("got %q, want %s or nothing", o.stdout, defaultConfig)
	}
}
