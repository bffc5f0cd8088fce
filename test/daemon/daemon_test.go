package daemon

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// Threat 45: a second instance on the port refuses with one line, and the first is unharmed.
func TestASecondInstanceRefuses(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	first := start(t, serverConfig(at, "0s"))
	second := launch(t, serverConfig(at, "0s"), "")
	if got := second.Ends(patience); got != 1 {
		t.Errorf("exit status: got %d, want 1", got)
	}
	if text := second.Log(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "in use") || !strings.Contains(text, at.String()) {
		t.Errorf("got %q, want one line that names the address in use", text)
	}
	first.until("served", func() bool { return first.answers(at) })
}

func TestSignals(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := start(t, serverConfig(at, "0s"))
		begun := time.Now()
		p.Signal(s)
		if got := p.Ends(patience); got != 0 {
			t.Errorf("%v: exit status %d, want 0", s, got)
		}
		if took := time.Since(begun); took > prompt {
			t.Errorf("%v: took %s, want under %s", s, took, prompt)
		}
		if _, err := os.Stat(p.Socket()); err == nil {
			t.Errorf("%v: the control socket is left", s)
		}
	}
}

// A hangup at any moment of the start must not end the process.
func TestHangupsAtTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, serverConfig(freePort(t), "0s"), "trap '' HUP;")
	p.until("the program instead of the shell", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.Pid()))
		return err == nil && strings.TrimSpace(string(comm)) == filepath.Base(peers.Binary(t))
	})
	p.until("it runs", func() bool { p.Signal(syscall.SIGHUP); return strings.Contains(p.Log(), "timeball runs") })
	p.Signal(syscall.SIGHUP) // those before may all have come while the program ignored them
	p.until("reloaded", func() bool { return p.Said("configuration reloaded") > 0 })
	if status := p.terminate(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// A bad file changes nothing, and many reloads leave nothing behind, from outside.
func TestHangups(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	p := start(t, serverConfig(at, "0s"))
	before := p.Descriptors()
	p.Configure("sauces: []\n")
	p.Signal(syscall.SIGHUP)
	p.until("refused", func() bool { return p.Said("reload refused") == 1 })
	if p.Said("timeball.yaml:1:1") == 0 {
		t.Error("the log does not name the line at fault")
	}
	status, err := p.report("status")
	if err != nil || !strings.Contains(fmt.Sprint(status["daemon"]), "sauces") {
		t.Errorf("status: got %v, %v, want the fault in it", status["daemon"], err)
	}
	p.Configure(serverConfig(at, "0s") + "selection: {max_distance: 1s}\n")
	p.Signal(syscall.SIGHUP)
	p.until("taken", func() bool { return p.Said("configuration reloaded") == 1 })
	for range 100 {
		p.Signal(syscall.SIGHUP)
	}
	p.until("served", func() bool { return p.answers(at) })
	p.until("descriptors as before", func() bool { return p.Descriptors() <= before+2 })
	for range 5 {
		p.Signal(syscall.SIGHUP)
	}
	begun := time.Now()
	if status := p.terminate(); status != 0 || time.Since(begun) > prompt {
		t.Errorf("stop in the middle: got status %d after %s, want 0 within %s", status, time.Since(begun), prompt)
	}
}

// Threat 9: kill -9 and restart under a server 2000 s off: no second free step.
func TestAKilledDaemonHasNoSecondFreeStep(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/sys/kernel/random/boot_id"); err != nil {
		t.Skip("the boot cannot be told here")
	}
	at, state := freePort(t), t.TempDir()
	start(t, serverConfig(at, "-2000s"))
	first := start(t, clientConfig(at, state, ""))
	first.until("the free step", func() bool { return first.Said(`"event": "step"`) == 1 && first.synchronized() })
	first.kill()
	second := start(t, clientConfig(at, state, ""))
	second.until("refused", func() bool { return second.Said(`"event": "panic"`) == 1 })
	var answer map[string]any
	second.until("what was refused is reported", func() (good bool) { // the log comes before the reports
		var err error
		answer, err = second.report("tracking")
		return err == nil && answer["panic_offset"] != 0.0
	})
	if answer["synchronized"] != false || answer["steps"] != 0.0 {
		t.Errorf("got %v; want not synchronized, and no step", answer)
	}
}

func TestDriftIsWrittenAtTheStopAndUsedAgain(t *testing.T) {
	t.Parallel()
	at, state := freePort(t), t.TempDir()
	start(t, serverConfig(at, "0s"))
	p := start(t, clientConfig(at, state, ", virtual: {frequency: 50ppm}"))
	// What the first second's samples say of it may be off by several times their error, where
	// the machine is busy.
	p.until("the frequency learned", func() bool {
		answer, err := p.report("tracking")
		if err != nil {
			return false
		}
		frequency, _ := answer["frequency"].(float64)
		uncertainty, _ := answer["frequency_error"].(float64)
		return answer["synchronized"] == true && uncertainty > 0 && uncertainty < 5e-6 && math.Abs(frequency+50e-6) < 5e-6
	})
	if status := p.terminate(); status != 0 {
		t.Fatalf("exit status %d, want 0", status)
	}
	text, err := os.ReadFile(filepath.Join(state, "drift"))
	_, after, _ := strings.Cut(string(text), "frequency_ppm: ")
	written := 0.0
	if _, scanned := fmt.Sscan(after, &written); err != nil || scanned != nil || written >= 0 {
		t.Fatalf("got %q, %v, want a drift of about -50 ppm", text, err)
	}
	again := start(t, clientConfig(freePort(t), state, ", virtual: {frequency: 50ppm}")) // nobody answers: all it has is the file
	again.until(fmt.Sprintf("the file's %.3f ppm in force", written), func() bool {
		answer, err := again.report("tracking")
		f, _ := answer["frequency"].(float64)
		return err == nil && math.Abs(f*1e6-written) < 0.001
	})
}

// State of no use (threat 52), from outside: one warning each, and the time is kept.
func TestStateThatIsOfNoUse(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, serverConfig(at, "0s"))
	for name, spoil := range map[string]func(state string) error{
		"a corrupt drift file": func(s string) error { return os.WriteFile(s+"/drift", []byte("frequency_ppm: NaN\n"), 0o644) },
		"a drift file that is a link": func(s string) error {
			return os.Symlink("/etc/hostname", s+"/drift")
		},
		"a directory in the drift's place": func(s string) error { return os.Mkdir(s+"/drift", 0o755) },
		"a file in the directory's place":  func(s string) error { return os.WriteFile(s+"/x", nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			if err := spoil(state); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "directory's place") {
				state += "/x"
			}
			p := start(t, clientConfig(at, state, ""))
			p.until("synchronized", p.synchronized)
			if got := p.Said("WARN\tdrift"); got > 1 {
				t.Errorf("got %d warnings of the drift, want one at most", got)
			}
			if status := p.terminate(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
		})
	}
	if text, err := os.ReadFile("/etc/hostname"); err == nil && strings.Contains(string(text), "frequency") {
		t.Error("a link in the state directory was followed")
	}
}

// A state directory that is full costs no time.
func TestAFullStateDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	state := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16k", "none", state).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", state).Run() })
	at := freePort(t)
	start(t, serverConfig(at, "0s"))
	_ = os.WriteFile(filepath.Join(state, "fill"), make([]byte, 16<<10), 0o644)
	p := start(t, clientConfig(at, state, ""))
	p.until("synchronized", p.synchronized)
	if status := p.terminate(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if got := p.Said("state not saved"); got != 1 {
		t.Errorf("got %d warnings, want 1", got)
	}
}

// Threat 25: out of descriptors, it lives, and recovers when they are free again.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	p := launch(t, serverConfig(at, "0s")+"metrics: {listen: \"127.0.0.1:0\"}\n", "ulimit -n 32;")
	p.Says(patience, "timeball runs")
	var held []net.Conn
	for range 60 {
		if c, err := net.DialTimeout("unix", p.Socket(), time.Second); err == nil {
			held = append(held, c)
		}
	}
	p.serves(at, "served while descriptors are out", 10)
	for _, c := range held {
		c.Close()
	}
	p.until("reports again", func() bool { _, err := p.report("tracking"); return err == nil })
	if size := len(p.Log()); size > 64<<10 {
		t.Errorf("the log has grown to %d bytes", size)
	}
}

// The same for a client, which needs a descriptor for each poll.
func TestAClientOutOfDescriptors(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, serverConfig(at, "0s"))
	p := launch(t, clientConfig(at, t.TempDir(), ""), "ulimit -n 24;")
	p.until("synchronized", p.synchronized)
	var held []net.Conn
	for range 40 {
		if c, err := net.DialTimeout("unix", p.Socket(), time.Second); err == nil {
			held = append(held, c)
		}
	}
	for _, c := range held {
		c.Close()
	}
	p.until("synchronized and polling", func() bool {
		answer, err := p.report("sources")
		return err == nil && strings.Contains(fmt.Sprint(answer), "reach:255")
	})
}

// RFC 5905 §13: the server is gone for a while: reach falls, and the first answers bring it back.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	server := start(t, serverConfig(at, "0s"))
	p := start(t, clientConfig(at, t.TempDir(), ""))
	p.until("synchronized", p.synchronized)
	server.kill()
	// It may be lost and found more than once, where the machine stands still for a second.
	times := func(event string) int { return p.Said(`"event": "` + event + `"`) }
	p.until("unreachable", func() bool { return times("unreachable") == times("reachable") })
	bound := func() float64 {
		answer, err := p.report("tracking")
		if err != nil {
			return 0
		}
		bound, _ := answer["error_bound"].(float64)
		return bound
	}
	before := bound()
	p.until("its error bound grows", func() bool { return bound() > before })
	start(t, serverConfig(at, "0s"))
	p.until("reachable again", func() bool { return times("reachable") > times("unreachable") })
	p.until("synchronized", p.synchronized)
}

// Threat 38: killed at any moment and started again, the state files are always readable.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	at, state := freePort(t), t.TempDir()
	start(t, serverConfig(at, "0s"))
	for i := range 12 {
		p := launch(t, clientConfig(at, state, ""), "")
		time.Sleep(time.Duration(i*17) * time.Millisecond) // another moment each time; any will do
		p.kill()
		if p.Said("not used") > 0 {
			t.Errorf("after %d kills a state file was of no use:\n%s", i, p.Log())
		}
	}
	p := start(t, clientConfig(at, state, ""))
	p.until("synchronized", p.synchronized)
}

func TestABadConfigurationEndsTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, "sauces: []\n", "")
	if got := p.Ends(patience); got != 1 {
		t.Errorf("exit status %d, want 1", got)
	}
	if !strings.Contains(p.Log(), "timeball.yaml:1:1: ") {
		t.Errorf("got %q, want FILE:LINE:COL", p.Log())
	}
}

// `make run`, shorter: exit 0 and one line that says what was shown.
func TestTheQuickstartLab(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	out, err := exec.Command(peers.Binary(t), "lab", "../../configs/quickstart.yaml", "--duration", "15s").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all 7 hosts synchronized; largest true error ") {
		t.Errorf("got %v:\n%s", err, out)
	}
}
