package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// proc is a path below the program's directory of proc(5).
func (p *Process) proc(path string) string {
	return filepath.Join("/proc", strconv.Itoa(p.Pid()), path)
}

// Memory is the program's resident memory in bytes.
func (p *Process) Memory() int {
	p.t.Helper()
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	p.t.Fatalf("%s: no VmRSS in %s", p.Name, text)
	return 0
}

// Worked is the time that all threads of the program have run, by the scheduler's account.
func (p *Process) Worked() (sum time.Duration) {
	p.t.Helper()
	threads, err := filepath.Glob(p.proc("task/*/schedstat"))
	if err != nil || len(threads) == 0 {
		p.t.Fatalf("threads of %s: got %v, %v, want one at least", p.Name, threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // one that has ended just now
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			p.t.Fatalf("%s: got %q, want numbers: %v", thread, text, err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// Descriptors is how many files and sockets the program has open.
func (p *Process) Descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(p.proc("fd"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}
