package peers

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// witness is a test that another one watches: its faults are kept, and its cleanups run
// when ended says so.
type witness struct {
	testing.TB
	faults, log string
	cleanups    []func()
}

func (w *witness) Errorf(format string, args ...any) { w.faults += fmt.Sprintf(format, args...) }
func (w *witness) Logf(format string, args ...any)   { w.log += fmt.Sprintf(format, args...) }
func (w *witness) Failed() bool                      { return w.faults != "" }
func (w *witness) Cleanup(f func())                  { w.cleanups = append(w.cleanups, f) }

func (w *witness) ended() {
	for i := range w.cleanups {
		w.cleanups[len(w.cleanups)-1-i]()
	}
}

func TestTheEndOfATest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, says  string
		fails       bool // the test, of something else
		faults, log string
	}{
		{"of a good test is silent", "all is well", false, "", ""},
		{"of a failed test shows the log", "all is well", true, "something else", "sh on this machine said:\nall is well"},
		{"finds a panic in the log", "panic: oops\n\ngoroutine 1 [running]:", false,
			"the log of sh on this machine holds a panic:\npanic: oops\n\ngoroutine 1 [running]:\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &witness{TB: t}
			h := Here(w)
			p := h.Start("sh", nil, "sh", "-c", `echo "$0"; exec sleep 1000`, tt.says)
			p.Says(30*time.Second, tt.says)
			if tt.fails {
				w.Errorf("something else")
			}
			w.ended()
			if w.faults != tt.faults || w.log != tt.log {
				t.Errorf("got %q, %q, want %q, %q", w.faults, w.log, tt.faults, tt.log)
			}
			if ended, err := p.Ended(); !ended || ExitStatus(err) != -1 {
				t.Errorf("the program: got its end %v, %v, want it ended by a signal", ended, err)
			}
			if _, err := os.Stat(h.Dir); !os.IsNotExist(err) {
				t.Errorf("its directory: got %v, want it gone", err)
			}
		})
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": -1} {
		p := Here(t).Start("sh", nil, "sh", "-c", script)
		if got := p.Ends(30 * time.Second); got != want {
			t.Errorf("%s: got %d, want %d", script, got, want)
		}
	}
	if got := ExitStatus(os.ErrNotExist); got != -1 {
		t.Errorf("what did not start: got %d, want -1", got)
	}
}

func TestTheProgramGetsItsSignals(t *testing.T) {
	t.Parallel()
	p := Here(t).Start("sh", []string{"WORD=heard"}, "sh", "-c", `trap 'echo $WORD' USR1; echo ready; while :; do sleep 0.05; done`)
	p.Says(30*time.Second, "ready")
	for times := 1; times <= 2; times++ {
		p.Signal(syscall.SIGUSR1)
		Eventually(t, 30*time.Second, "it says so", func() error {
			if got := p.Said("heard"); got != times {
				return fmt.Errorf("%d lines so far, want %d", got, times)
			}
			return nil
		})
	}
}

func TestWhatTheKernelSaysOfAProgram(t *testing.T) {
	t.Parallel()
	p := Here(t).Start("sh", nil, "sh", "-c", `exec 3</dev/null 4</dev/null; a=$(head -c 8000000 /dev/zero | tr '\0' x); echo ready; while :; do :; done`)
	p.Says(60*time.Second, "ready")
	if got := p.Memory(); got < 8e6 || got > 1e9 {
		t.Errorf("memory: got %d bytes, want 8 million and what a shell needs", got)
	}
	if got := p.Descriptors(); got < 5 {
		t.Errorf("descriptors: got %d, want 5 at least", got)
	}
	before := p.Worked()
	Eventually(t, 60*time.Second, "it works", func() error {
		if got := p.Worked() - before; got < 10*time.Millisecond {
			return fmt.Errorf("%v so far", got)
		}
		return nil
	})
	if worked, lived := p.Worked(), time.Since(p.Begun); worked > lived {
		t.Errorf("worked: got %v in a life of %v by one thread", worked, lived)
	}
}

func TestSourceIsAtItsAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		row, address string
		want         bool
	}{
		{"192.0.2.1:123", "192.0.2.1", true},
		{"192.0.2.1:1123", "192.0.2.1", true},
		{"192.0.2.11:123", "192.0.2.1", false},
		{"[::ffff:192.0.2.1]:123", "192.0.2.1", true},
		{"[fe80::1%eth0]:123", "fe80::1", true},
		{"[2001:db8::1]:123", "2001:db8::1", true},
		{"", "192.0.2.1", false},
	} {
		if got := (Source{Address: tt.row}).At(netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%q at %s: got %v, want %v", tt.row, tt.address, got, tt.want)
		}
	}
}

// On this machine itself, so that it is tried where there is no root.
func TestTimeball(t *testing.T) {
	t.Parallel()
	d := Timeball(t, Here(t), "clock: {driver: virtual}\nlocal: {stratum: 3}\n", "env", "LC_ALL=C", "sh", "-c", `echo "before $1"; exec "$@"`, "sh")
	d.Says(30*time.Second, "timeball runs")
	if got := d.Said("before "); got != 1 {
		t.Errorf("what comes before the program: got it %d times, want once", got)
	}
	for _, stratum := range []int{3, 5} {
		if stratum == 5 {
			d.Reload("clock: {driver: virtual}\nlocal: {stratum: 5}\n")
			if got := d.Said("configuration reloaded"); got != 1 {
				t.Errorf("after a reload: got %d lines that say so, want one", got)
			}
		}
		Eventually(t, 30*time.Second, "it serves its stratum", func() error {
			if got, err := d.Tracking(); err != nil || got.Stratum != stratum {
				return fmt.Errorf("got %+v, %v, want stratum %d", got, err, stratum)
			}
			return nil
		})
	}
	if got, err := d.Sources(); err != nil || len(got) != 0 {
		t.Errorf("sources: got %v, %v, want none", got, err)
	}
	if got, err := d.Associations(); err != nil || len(got) != 0 {
		t.Errorf("associations: got %v, %v, want none", got, err)
	}
	var answer string
	if err := d.Report(&answer, "tracking"); err == nil || !strings.Contains(err.Error(), "[tracking] --json") {
		t.Errorf("a report into what it is not: got %v, want an error that names it", err)
	}
	if err := d.Report(&answer, "sauces"); err == nil || !strings.Contains(err.Error(), "sauces") {
		t.Errorf("no command: got %v, want an error that names it", err)
	}
	d.Signal(syscall.SIGTERM)
	if got := d.Ends(30 * time.Second); got != 0 {
		t.Errorf("exit status: got %d, want 0", got)
	}
	if _, err := d.Sources(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a report of one that has ended: got %v, want that said", err)
	}
}
