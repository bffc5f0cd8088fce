package vm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What an administrator sees of a boot: the clock, which starts 37 s fast, and systemd.
func TestBoot(t *testing.T) {
	g := guest(t)
	g.right(t, 5*time.Millisecond, 3*time.Minute)
	defer g.bounded(t, g.Clock.Mark())
	comes(t, "the boot is over", 2*time.Minute, func() bool { return g.shown("ActiveState", "vm-after-time") == "active" })

	t.Run("ready by notification", func(t *testing.T) {
		if got := g.shown("Type", "timeball") + " " + g.shown("ActiveState", "timeball") + " " + g.shown("NRestarts", "timeball"); got != "notify active 0" {
			t.Errorf("type, state, restarts: got %s, want notify active 0", got)
		}
	})
	t.Run("own user and two capabilities", func(t *testing.T) {
		out := g.does(t, "pid=$(systemctl show -P MainPID timeball); ps -o user= -p $pid; getpcaps $pid; grep -e NoNewPrivs -e Seccomp: /proc/$pid/status")
		for _, want := range []string{"timeball", "cap_net_bind_service,cap_sys_time=eip", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(out, want) {
				t.Errorf("got %q, want %q in it", out, want)
			}
		}
	})
	t.Run("time-sync.target waits for the clock", func(t *testing.T) {
		began, done := g.monotonic(t, "ActiveEnterTimestampMonotonic", "timeball"), g.monotonic(t, "ActiveEnterTimestampMonotonic", "timeball-wait")
		target, after := g.monotonic(t, "ActiveEnterTimestampMonotonic", "time-sync.target"), g.monotonic(t, "ExecMainStartTimestampMonotonic", "vm-after-time")
		if !(0 < began && began < done && done <= target && target <= after) {
			t.Errorf("ready at %d µs, waited until %d, time-sync.target %d, what wants the time %d: want this order", began, done, target, after)
		}
		var synchronized float64
		if _, err := fmt.Sscanf(g.saying(0, "info", "the clock is synchronized"), "[%f]", &synchronized); err != nil || synchronized > float64(done)/1e6+0.1 {
			t.Errorf("synchronized at %v s (%v), waited until %d µs: want it before", synchronized, err, done)
		}
		if result := g.shown("Result", "timeball-wait"); result != "success" {
			t.Errorf("timeball-wait: %s", result)
		}
	})
	t.Run("timedatectl", func(t *testing.T) {
		out := g.does(t, "timedatectl show")
		for _, want := range []string{"NTPSynchronized=yes", "NTP=yes", "CanNTP=yes"} {
			if !strings.Contains(out, want) {
				t.Errorf("got %q, want %q in it", out, want)
			}
		}
		g.does(t, "timedatectl set-ntp false")
		comes(t, "set-ntp false stops it", time.Minute, func() bool { return g.shown("ActiveState", "timeball") == "inactive" })
		g.does(t, "timedatectl set-ntp true")
		comes(t, "set-ntp true starts it", time.Minute, func() bool { return g.shown("ActiveState", "timeball") == "active" })
	})
	t.Run("systemctl status says how the clock stands", func(t *testing.T) {
		g.right(t, 5*time.Millisecond, time.Minute)
		comes(t, "synchronized, and the error", 20*time.Second, func() bool {
			return regexp.MustCompile(`^synchronized to 10\.7\.0\.1[123], error at most \d+ (µs|ms)$`).MatchString(g.shown("StatusText", "timeball"))
		})
	})
	t.Run("resident memory", func(t *testing.T) {
		time.Sleep(20 * time.Second) // the start's is given back
		out := g.does(t, "grep -e VmRSS -e RssAnon /proc/$(systemctl show -P MainPID timeball)/status")
		t.Log(strings.Join(strings.Fields(out), " "))
	})
	t.Run("no denied system call", func(t *testing.T) {
		// As it is installed a denied call fails with EPERM and leaves no trace: here it kills.
		g.does(t, "mkdir -p /run/systemd/system/timeball.service.d; printf '[Service]\\nSystemCallErrorNumber=kill\\n' > /run/systemd/system/timeball.service.d/kill.conf; systemctl daemon-reload; systemctl restart timeball")
		g.ready(t)
		g.does(t, "systemctl reload timeball; timeball status; timeball sources; systemctl stop timeball; systemctl start timeball")
		if out := g.does(t, "dmesg | grep -e type=1326 -e SIGSYS || true; journalctl -u timeball | grep -i -e SYS/ -e 'bad system call' || true"); out != "" {
			t.Errorf("denied: %s", out)
		}
		if got := g.shown("NRestarts", "timeball"); got != "0" {
			t.Errorf("%s restarts, want none", got)
		}
		g.does(t, "rm -r /run/systemd/system/timeball.service.d; systemctl daemon-reload; systemctl restart timeball")
	})
	t.Run("journal has priorities, and no time twice", func(t *testing.T) {
		g.ready(t)
		out := g.does(t, "journalctl -o json --output-fields=PRIORITY,MESSAGE -u timeball _COMM=timeball -n 200")
		if !strings.Contains(out, `"PRIORITY":"4"`) || !strings.Contains(out, `"PRIORITY":"6"`) {
			t.Errorf("want warnings (4) and information (6): %s", out)
		}
		if again := regexp.MustCompile(`"MESSAGE":"(<\d>|\d{4}-\d\d-\d\d|\d\d:\d\d:)[^"]*"`).FindString(out); again != "" {
			t.Errorf("a time, or a prefix that is no text: %s", again)
		}
	})
	t.Run("no true server is called a falseticker", func(t *testing.T) {
		if out := g.does(t, "journalctl -u timeball -o short-monotonic | grep falseticker || true"); out != "" {
			t.Errorf("all servers tell the truth:\n%s", out)
		}
	})
	t.Run("hardware clock", func(t *testing.T) {
		comes(t, "hardware clock within 2 s", 2*time.Minute, func() bool {
			text := first(g.Run("cat /sys/class/rtc/rtc0/since_epoch"))
			seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return err == nil && time.Unix(seconds, 0).Sub(g.Truth()).Abs() <= 2*time.Second
		})
	})
}

// Whatever ends it other than wrong usage, systemd starts it again.
func TestRestart(t *testing.T) {
	g := guest(t)
	g.ready(t)
	defer g.bounded(t, g.Clock.Mark())
	mark := g.mark(t)
	for _, kill := range []struct{ name, script string }{
		{"SIGKILL", "systemctl kill -s KILL --kill-whom=main timeball"},
		{"SIGABRT", "systemctl kill -s ABRT --kill-whom=main timeball"},
		{"SIGSEGV", "systemctl kill -s SEGV --kill-whom=main timeball"}, // a Go program ends with 2
		{"SIGQUIT", "systemctl kill -s QUIT --kill-whom=main timeball"}, // with its stacks, and 2
		{"SIGSTOP, so the watchdog", "systemctl kill -s STOP --kill-whom=main timeball"},
	} {
		t.Run(kill.name, func(t *testing.T) {
			g.ready(t)
			before := g.shown("MainPID", "timeball")
			g.does(t, kill.script)
			comes(t, "started again", 2*time.Minute, func() bool {
				pid := g.shown("MainPID", "timeball")
				return pid != before && pid != "0" && g.shown("ActiveState", "timeball") == "active"
			})
			g.right(t, 5*time.Millisecond, 2*time.Minute)
		})
	}
	if line := g.saying(mark, "warning", "falseticker"); line != "" {
		t.Errorf("all servers tell the truth: %s", line)
	}
	t.Run("wrong usage is not tried again", func(t *testing.T) {
		g.does(t, "systemctl stop timeball; mkdir -p /run/systemd/system/timeball.service.d; printf '[Service]\\nExecStart=\\nExecStart=/usr/local/bin/timeball run --no-such-flag\\n' > /run/systemd/system/timeball.service.d/wrong.conf; systemctl daemon-reload; systemctl start timeball || true")
		time.Sleep(8 * time.Second)
		if got := g.shown("ActiveState", "timeball") + " " + g.shown("ExecMainStatus", "timeball") + " " + g.shown("NRestarts", "timeball"); got != "failed 64 0" {
			t.Errorf("state, status, restarts: got %s, want failed 64 0", got)
		}
		g.does(t, "rm -r /run/systemd/system/timeball.service.d; systemctl daemon-reload")
		g.ready(t)
	})
}

func TestReloadAndStop(t *testing.T) {
	g := guest(t)
	g.ready(t)
	const file = "/etc/timeball/timeball.yaml"
	g.does(t, "cp "+file+" /root/good.yaml")
	pid := g.shown("MainPID", "timeball")

	g.does(t, "sed -i /10.7.0.13/d "+file+"; systemctl reload timeball")
	comes(t, "a good file is taken", 20*time.Second, func() bool {
		return !strings.Contains(first(g.Run("timeball sources")), "10.7.0.13")
	})
	out, err := g.Run("echo 'nonsense: yes' >> " + file + "; systemctl reload timeball")
	if err == nil {
		t.Errorf("the reload of a faulty file succeeds: %s", out)
	}
	if got := g.shown("MainPID", "timeball") + " " + g.shown("ActiveState", "timeball"); got != pid+" active" {
		t.Errorf("after a refused reload: process and state %s, want %s active", got, pid)
	}
	if status := g.does(t, "timeball status || true"); !strings.Contains(strings.ToLower(status), "refused") {
		t.Errorf("status does not tell of the refused reload:\n%s", status)
	}
	g.does(t, "cp /root/good.yaml "+file+"; systemctl reload timeball; rm -f /var/lib/timeball/drift")
	comes(t, "the frequency is worth a file", 3*time.Minute, func() bool {
		known := g.estimate().FrequencyError
		return known > 0 && known < 9e-6
	})

	g.does(t, "systemctl stop timeball; test -s /var/lib/timeball/drift")
	began := g.Clock.Mark()
	if result := g.shown("Result", "timeball"); result != "success" {
		t.Errorf("the stop ends with %s", result)
	}
	comes(t, "the clock is read", time.Minute, func() bool { return g.Clock.Mark() >= began+2 })
	r := g.Clock.Last()
	if r.Page.Tick != 10000 || r.Page.Freq > 200<<16 || r.Page.Freq < -200<<16 {
		t.Errorf("the clock's rate after a stop: %v", r)
	}
	g.ready(t)
}

// monotonic is a moment of a unit's life, in µs since the boot.
func (g *Guest) monotonic(t *testing.T, property, unit string) int64 {
	t.Helper()
	at, err := strconv.ParseInt(g.shown(property, unit), 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("%s of %s: %w", property, unit, err))
	}
	return at
}

func first(text string, _ error) string { return text }
