package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// R47: a second instance on the port refuses with one line, and the first is unharmed.
func TestASecondInstanceRefuses(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	first := start(t, dir(t), serverConfig(at, "0s"))
	second := launch(t, dir(t), serverConfig(at, "0s"), "")
	if got := second.exit(); got != 1 {
		t.Errorf("exit status: got %d, want 1", got)
	}
	if text := second.log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "in use") || !strings.Contains(text, at.String()) {
		t.Errorf("got %q, want one line that names the address in use", text)
	}
	first.until("served", func() bool { return answers(t, at) })
}

func TestSignals(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := start(t, dir(t), serverConfig(at, "0s"))
		begun := time.Now()
		p.signal(s)
		if got := p.exit(); got != 0 {
			t.Errorf("%v: exit status %d, want 0; log:\n%s", s, got, p.log)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%v: took %s, want under 2 s", s, took)
		}
		if _, err := os.Stat(p.socket()); err == nil {
			t.Errorf("%v: the control socket is left", s)
		}
	}
}

// A hangup at any moment of the start must not end the process.
func TestHangupsAtTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, dir(t), serverConfig(freePort(t), "0s"), "trap '' HUP;")
	p.until("the program instead of the shell", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
		return err == nil && strings.TrimSpace(string(comm)) == "timeball"
	})
	p.until("it runs", func() bool { p.signal(syscall.SIGHUP); return strings.Contains(p.log.String(), "timeball runs") })
	p.until("reloaded", func() bool { return p.said("configuration reloaded") > 0 })
	if status, _ := p.terminate(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// R32 and R33, from outside.
func TestHangups(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	p := start(t, dir(t), serverConfig(at, "0s"))
	before := p.descriptors()
	p.write("sauces: []\n")
	p.signal(syscall.SIGHUP)
	p.until("refused", func() bool { return p.said("reload refused") == 1 })
	if p.said("timeball.yaml:1:1") == 0 {
		t.Error("the log does not name the line at fault")
	}
	status, err := p.report("status")
	if err != nil || !strings.Contains(fmt.Sprint(status["daemon"]), "sauces") {
		t.Errorf("status: got %v, %v, want the fault in it", status["daemon"], err)
	}
	p.write(serverConfig(at, "0s") + "selection: {max_distance: 1s}\n")
	p.signal(syscall.SIGHUP)
	p.until("taken", func() bool { return p.said("configuration reloaded") == 1 })
	for range 100 {
		p.signal(syscall.SIGHUP)
	}
	p.until("served", func() bool { return answers(t, at) })
	p.until("descriptors as before", func() bool { return p.descriptors() <= before+2 })
	for range 5 {
		p.signal(syscall.SIGHUP)
	}
	if status, took := p.terminate(); status != 0 || took > 2*time.Second {
		t.Errorf("stop in the middle: got status %d after %s, want 0 within 2 s", status, took)
	}
}

// R28: kill -9 and restart under a server 2000 s off: no second free step.
func TestAKilledDaemonHasNoSecondFreeStep(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/sys/kernel/random/boot_id"); err != nil {
		t.Skip("the boot cannot be told here")
	}
	at, state := freePort(t), dir(t)
	start(t, dir(t), serverConfig(at, "-2000s"))
	first := start(t, dir(t), clientConfig(at, state, ""))
	first.until("the free step", func() bool { return first.said("\tstep\t") == 1 && first.synchronized() })
	_ = first.cmd.Process.Kill()
	first.exit()
	second := start(t, dir(t), clientConfig(at, state, ""))
	second.until("refused", func() bool { return second.said("\tpanic\t") == 1 })
	answer, err := second.report("tracking")
	if err != nil || answer["synchronized"] != false || answer["panic_offset"] == 0.0 || answer["steps"] != 0.0 {
		t.Errorf("got %v, %v; want not synchronized, no step, and what was refused", answer, err)
	}
}

func TestDriftIsWrittenAtTheStopAndUsedAgain(t *testing.T) {
	t.Parallel()
	at, state := freePort(t), dir(t)
	start(t, dir(t), serverConfig(at, "0s"))
	p := start(t, dir(t), clientConfig(at, state, ", virtual: {frequency: 50ppm}"))
	p.until("the frequency learned", func() bool {
		answer, err := p.report("tracking")
		if err != nil {
			return false
		}
		uncertainty, _ := answer["frequency_error"].(float64)
		return answer["synchronized"] == true && uncertainty > 0 && uncertainty < 5e-6
	})
	if status, _ := p.terminate(); status != 0 {
		t.Fatalf("exit status %d, want 0", status)
	}
	text, err := os.ReadFile(filepath.Join(state, "drift"))
	if err != nil || !strings.Contains(string(text), "frequency_ppm: -") {
		t.Fatalf("got %q, %v, want a drift of about -50 ppm", text, err)
	}
	again := start(t, dir(t), clientConfig(at, state, ", virtual: {frequency: 50ppm}"))
	again.until("synchronized", again.synchronized)
	answer, err := again.report("tracking")
	if err != nil {
		t.Fatal(err)
	}
	if f, _ := answer["frequency"].(float64); f > -35e-6 || f < -65e-6 {
		t.Errorf("frequency at once: got %.1f ppm, want about -50", f*1e6)
	}
}

// R36 and R35, from outside: one warning each, and the time is kept.
func TestStateThatIsOfNoUse(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, dir(t), serverConfig(at, "0s"))
	for name, spoil := range map[string]func(state string) error{
		"a corrupt drift file": func(s string) error { return os.WriteFile(s+"/drift", []byte("frequency_ppm: NaN\n"), 0o644) },
		"a drift file that is a link": func(s string) error {
			return os.Symlink("/etc/hostname", s+"/drift")
		},
		"a directory in the drift's place": func(s string) error { return os.Mkdir(s+"/drift", 0o755) },
		"a file in the directory's place":  func(s string) error { return os.WriteFile(s+"/x", nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			state := dir(t)
			if err := spoil(state); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "directory's place") {
				state += "/x"
			}
			p := start(t, dir(t), clientConfig(at, state, ""))
			p.until("synchronized", p.synchronized)
			if got := p.said("WARN\tdrift"); got > 1 {
				t.Errorf("got %d warnings of the drift, want one at most", got)
			}
			if status, _ := p.terminate(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
		})
	}
	if text, err := os.ReadFile("/etc/hostname"); err == nil && strings.Contains(string(text), "frequency") {
		t.Error("a link in the state directory was followed")
	}
}

// R35: a state directory that is full.
func TestAFullStateDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	state := dir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16k", "none", state).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", state).Run() })
	at := freePort(t)
	start(t, dir(t), serverConfig(at, "0s"))
	_ = os.WriteFile(filepath.Join(state, "fill"), make([]byte, 16<<10), 0o644)
	p := start(t, dir(t), clientConfig(at, state, ""))
	p.until("synchronized", p.synchronized)
	if status, _ := p.terminate(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if got := p.said("state not saved"); got != 1 {
		t.Errorf("got %d warnings, want 1; log:\n%s", got, p.log)
	}
}

// R44: out of descriptors, it lives, and recovers when they are free again.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	p := launch(t, dir(t), serverConfig(at, "0s")+"metrics: {listen: \"127.0.0.1:0\"}\n", "ulimit -n 32;")
	p.until("it runs", func() bool { return strings.Contains(p.log.String(), "timeball runs") })
	var held []net.Conn
	for range 60 {
		if c, err := net.DialTimeout("unix", p.socket(), time.Second); err == nil {
			held = append(held, c)
		}
	}
	for range 10 {
		if !answers(t, at) {
			t.Error("not served while descriptors are out")
		}
	}
	for _, c := range held {
		c.Close()
	}
	p.until("reports again", func() bool { _, err := p.report("tracking"); return err == nil })
	if size := len(p.log.String()); size > 64<<10 {
		t.Errorf("the log has grown to %d octets", size)
	}
}

// The same for a client, which needs a descriptor for each poll.
func TestAClientOutOfDescriptors(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	start(t, dir(t), serverConfig(at, "0s"))
	p := launch(t, dir(t), clientConfig(at, dir(t), ""), "ulimit -n 24;")
	p.until("synchronized", p.synchronized)
	var held []net.Conn
	for range 40 {
		if c, err := net.DialTimeout("unix", p.socket(), time.Second); err == nil {
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

// R29: the server is gone for a while: reach falls, and the first answers bring it back.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	server := start(t, dir(t), serverConfig(at, "0s"))
	p := start(t, dir(t), clientConfig(at, dir(t), ""))
	p.until("synchronized", p.synchronized)
	_ = server.cmd.Process.Kill()
	server.exit()
	p.until("unreachable", func() bool { return p.said("\tunreachable\t") == 1 })
	one, _ := p.report("tracking")
	p.until("its error bound grows", func() bool {
		two, err := p.report("tracking")
		if err != nil {
			return false
		}
		before, _ := one["error_bound"].(float64)
		after, _ := two["error_bound"].(float64)
		return after > before
	})
	start(t, dir(t), serverConfig(at, "0s"))
	p.until("reachable again", func() bool { return p.said("\treachable\t") == 2 })
	p.until("synchronized", p.synchronized)
}

// R34: killed at any moment and started again, the state files are always readable.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	at, state := freePort(t), dir(t)
	start(t, dir(t), serverConfig(at, "0s"))
	for i := range 12 {
		p := launch(t, dir(t), clientConfig(at, state, ""), "")
		time.Sleep(time.Duration(i*17) * time.Millisecond) // another moment each time; any will do
		_ = p.cmd.Process.Kill()
		p.exit()
		if p.said("not used") > 0 {
			t.Errorf("after %d kills a state file was of no use:\n%s", i, p.log)
		}
	}
	p := start(t, dir(t), clientConfig(at, state, ""))
	p.until("synchronized", p.synchronized)
}

func TestABadConfigurationEndsTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, dir(t), "sauces: []\n", "")
	if got := p.exit(); got != 1 {
		t.Errorf("exit status %d, want 1", got)
	}
	if !strings.Contains(p.log.String(), "timeball.yaml:1:1: ") {
		t.Errorf("got %q, want FILE:LINE:COL", p.log)
	}
}

// `make run`, shorter: exit 0 and one line that says what was shown.
func TestTheQuickstartLab(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "lab", "../../configs/quickstart.yaml", "--duration", "15s").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all 7 hosts synchronized; largest true error ") {
		t.Errorf("got %v:\n%s", err, out)
	}
}
