package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const configuration = `sources:
  - {server: 10.7.0.11, min_poll: 2, max_poll: 4}
  - {server: 10.7.0.12, min_poll: 2, max_poll: 4}
  - {server: 10.7.0.13, min_poll: 2, max_poll: 4}
clock:
  drift_file: /var/lib/timeball/drift
  step: {threshold: 1s, updates: 3}
  panic: 1000s
log: {level: info}
control: {socket: /run/timeball/timeball.sock, mode: 0660}
`

// The one guest that the tests use, one after the other.
var machine struct {
	*Guest
	dir     string
	problem string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if machine.Guest != nil {
		machine.Close()
	}
	if machine.dir != "" {
		_ = os.RemoveAll(machine.dir)
	}
	os.Exit(code)
}

// guest gives the machine, which is made and booted for the first who asks: its clock
// starts at +37 s.
func guest(t *testing.T) *Guest {
	t.Helper()
	if os.Getenv("TIMEBALL_VM") == "" {
		t.Skip("TIMEBALL_VM is not set: make vm")
	}
	if machine.Guest == nil && machine.problem == "" {
		if err := prepare(); err != nil {
			machine.problem = err.Error()
		}
	}
	if machine.problem != "" {
		t.Fatal(machine.problem)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(machine.Log())
		}
	})
	return machine.Guest
}

// newImage makes an image of this tree's timeball, or of TIMEBALL_TREE's: another's, to
// see the tests fail.
func newImage(dir string) (*Image, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("needs root, to make a Debian")
	}
	for _, program := range []string{"qemu-system-x86_64", "debootstrap", "mkfs.ext4"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("needs %s (Debian: qemu-system-x86, debootstrap, e2fsprogs)", program)
		}
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	tree := os.Getenv("TIMEBALL_TREE")
	if tree == "" {
		tree = here
	}
	return MakeImage(dir, here, tree, configuration)
}

func prepare() error {
	dir, err := os.MkdirTemp("", "timeball-vm-")
	if err != nil {
		return err
	}
	machine.dir = dir
	image, err := newImage(dir)
	if err != nil {
		return err
	}
	machine.Guest, err = Start(image, filepath.Join(dir, "machine"), Options{RTC: 37 * time.Second})
	if err != nil {
		return err
	}
	if _, err = machine.RunFor("true", 3*time.Minute); err != nil {
		return fmt.Errorf("%w\n%s", err, machine.output())
	}
	return nil
}

// does runs a script that must succeed.
func (g *Guest) does(t *testing.T, script string) string {
	t.Helper()
	out, err := g.Run(script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(out)
}

// comes waits until a condition holds, for at most longest.
func comes(t *testing.T, what string, longest time.Duration, holds func() bool) {
	t.Helper()
	for began := time.Now(); time.Since(began) < longest; time.Sleep(300 * time.Millisecond) {
		if holds() {
			t.Logf("%s: after %v", what, time.Since(began).Round(100*time.Millisecond))
			return
		}
	}
	t.Fatalf("%s: not within %v", what, longest)
}

// right waits until the clock is within limit of the truth, by the kernel synchronized.
func (g *Guest) right(t *testing.T, limit, longest time.Duration) {
	t.Helper()
	comes(t, fmt.Sprintf("clock within %v and synchronized", limit), longest, func() bool {
		r := g.Clock.Last()
		return g.Truth().Sub(r.Truth) < 2*time.Second && r.Error.Abs() < limit && !r.Unsynchronized()
	})
}

// shown is a property of a unit.
func (g *Guest) shown(property, unit string) string {
	out, _ := g.Run("systemctl show -P " + property + " " + unit)
	return strings.TrimSpace(out)
}

// ready waits until timeball is active and the clock right, so that a test begins well.
func (g *Guest) ready(t *testing.T) {
	t.Helper()
	g.Net.Cut(false)
	g.Net.All(Behaviour{})
	g.does(t, "systemctl reset-failed timeball; systemctl start timeball")
	g.right(t, 5*time.Millisecond, 3*time.Minute)
}

// long says that there is time for what takes long: make vm-long.
func long() bool { return os.Getenv("TIMEBALL_VM") == "long" }

// bounded holds that from a mark on the kernel has never called a clock synchronized
// whose true error was beyond its maxerror. What adjtimex said is up to a reading older.
func (g *Guest) bounded(t *testing.T, mark int) {
	t.Helper()
	readings := g.Clock.Since(mark)
	broken := beyond(readings)
	for _, r := range broken[:min(len(broken), 10)] {
		t.Logf("beyond its bound: %v", r)
	}
	if len(broken) > 0 {
		t.Errorf("%d of %d readings beyond maxerror", len(broken), len(readings))
	}
}

// beyond gives the readings of a clock that was called synchronized and off by more than maxerror.
func beyond(readings []Reading) (broken []Reading) {
	for i := 1; i+1 < len(readings); i++ {
		before, r, after := readings[i-1], readings[i], readings[i+1]
		if before.Unsynchronized() || r.Unsynchronized() || after.Unsynchronized() {
			continue
		}
		bound := time.Duration(max(before.Page.MaxError, r.Page.MaxError, after.Page.MaxError)) * time.Microsecond
		if r.Error.Abs()-r.Width > bound {
			broken = append(broken, r)
		}
	}
	return broken
}
