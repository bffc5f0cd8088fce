package daemon

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// nullLists finds keys of a report that are null where a list of the same name is
// documented: those whose name is a plural. What has not happened yet is an age or a bound.
func nullLists(path string, value any) (found []string) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if inner == nil && strings.HasSuffix(key, "s") {
				found = append(found, path+key)
			}
			found = append(found, nullLists(path+key+".", inner)...)
		}
	case []any:
		for _, inner := range value {
			found = append(found, nullLists(path, inner)...)
		}
	}
	return found
}

// A program that reads a list must find one, also where there is nothing yet.
func TestReportsOfNothingHaveEmptyLists(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"", "server: {listen: [\"127.0.0.1:0\"]}\n", "sources: [{server: nosuch.invalid}]\n"} {
		p := start(t, "clock: {driver: observe}\n"+config)
		for _, command := range []string{"status", "sources", "explain", "tracking", "associations", "trace", "clients", "serverstats", "history"} {
			answer, err := p.report(command)
			if err != nil {
				t.Errorf("%s with %q: %v", command, config, err)
			}
			if null := nullLists("", answer); null != nil {
				t.Errorf("%s with %q: %v are null, want lists", command, config, null)
			}
		}
	}
}

// A reference clock is one from its first row on, not only after its first poll.
func TestAReferenceClockBeforeItsFirstPoll(t *testing.T) {
	t.Parallel()
	p := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{refclock: {driver: sock, device: %s}}]\n", filepath.Join(t.TempDir(), "gps.sock")))
	p.until("its row", func() bool {
		row := p.source("")
		return row != nil && row["mode"] == "reference-clock" && row["interval"] == 16.0 && row["reference_id"] == "SOCK"
	})
	if row := p.source(""); row["last_sample_age"] != nil {
		t.Errorf("row: %v; the first poll is over, so this shows nothing", row)
	}
}

// A line without an association is called by its number as by its name.
func TestAnIdleLineIsCalledByItsNumber(t *testing.T) {
	t.Parallel()
	p := start(t, "clock: {driver: observe}\nsources: [{server: nosuch.invalid}]\n")
	p.until("its row", func() bool { return p.source("") != nil })
	id := fmt.Sprint(p.source("")["id"])
	for _, command := range []string{"offline", "online"} {
		if out, stderr, err := p.operate(command, id); err != nil || !strings.Contains(out, "nosuch.invalid") {
			t.Errorf("%s %s: got %q %q %v, want nosuch.invalid", command, id, out, stderr, err)
		}
	}
}

// Another name for the pages is a change like any other: the address stays open.
func TestNamesOfThePagesChangeWithAReload(t *testing.T) {
	t.Parallel()
	at := freeTCP(t)
	config := func(name string) string {
		return fmt.Sprintf("clock: {driver: observe}\nmetrics: {listen: \"%s\", hosts: [%s]}\n", at, name)
	}
	p := start(t, config("old.example"))
	p.Configure(config("new.example"))
	if out, stderr, err := p.operate("reload"); err != nil || !strings.Contains(out, "metrics") {
		t.Fatalf("reload: got %q, %q, %v", out, stderr, err)
	}
	for name, want := range map[string]int{"old.example": 421, "new.example": 200} {
		p.until(name, func() bool {
			status, _ := askPage(t, at, name, "/")
			return status == want
		})
	}
}
