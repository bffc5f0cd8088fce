package vm

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	accuracySettled = 240 * time.Second // from here on it is the steady state
	accuracyRun     = 15 * time.Minute
	accuracyWidth   = 5 * time.Microsecond // readings known to this count for it: an emulated processor that waited tells of the host
)

// contender is one daemon and how it is started in a guest where timeball is stopped.
type contender struct {
	name  string
	start func(poll string) string
}

var timeball = contender{"timeball", func(poll string) string {
	line := "server: 10.7.0.11"
	if poll != "" {
		line += ", min_poll: " + poll + ", max_poll: " + poll
	}
	return "systemctl stop timeball; printf '%b' 'sources: [{" + line + "}]\\nclock: {drift_file: /var/lib/timeball/drift}\\n' > /etc/timeball/timeball.yaml; rm -f /var/lib/timeball/*; " + noise + "; systemctl start timeball"
}}

// others run in the other guest; TIMEBALL_VM_AGAINST names one.
var others = map[string]contender{
	"chronyd": {"chronyd", func(poll string) string {
		return "systemctl stop timeball; printf '%b' 'server 10.7.0.11 iburst" + asNTP(poll) + "\\nmakestep 1 3\\n' > /root/chrony.conf; " + noise + "; systemd-run --unit=chronyd-beside /opt/beside/usr/sbin/chronyd -n -u root -f /root/chrony.conf"
	}},
	"ntpsec": {"ntpsec", func(poll string) string {
		return "systemctl stop timeball; printf '%b' 'server 10.7.0.11 iburst" + asNTP(poll) + "\\ndriftfile /root/ntp.drift\\n' > /root/ntp.conf; " + noise + "; systemd-run --unit=ntpd-beside /opt/beside/usr/sbin/ntpd -n -g -c /root/ntp.conf"
	}},
}

// asNTP is a fixed poll exponent as chrony and ntpd are told it.
func asNTP(poll string) string {
	if poll == "" {
		return ""
	}
	return " minpoll " + poll + " maxpoll " + poll
}

// noise makes a clock as it is after a boot: wrong, and with no frequency of before.
const noise = "/usr/local/bin/timeball release-clock; date -s '+2 seconds'"

// TestAccuracy runs the contenders at the same time, each in a guest of its own, and
// then with the guests swapped; it prints the table of docs/accuracy.md, section 10.
// It wants a machine with nothing else to do.
func TestAccuracy(t *testing.T) {
	if os.Getenv("TIMEBALL_VM") != "accuracy" {
		t.Skip("takes an hour of a quiet machine: make vm-accuracy")
	}
	dir := t.TempDir()
	image, err := newImage(dir)
	if err != nil {
		t.Fatal(err)
	}
	run := accuracyRun
	if text := os.Getenv("TIMEBALL_VM_RUN"); text != "" {
		if run, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	other, known := others[cmp.Or(os.Getenv("TIMEBALL_VM_AGAINST"), "chronyd")]
	if !known {
		t.Fatal("TIMEBALL_VM_AGAINST: want chronyd or ntpsec")
	}
	fmt.Println("| polls | run | daemon | true RMS | bias | scatter | largest | below 1 ms | below 100 µs for good | beyond maxerror | requests | frequency |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, polls := range []struct{ name, exponent string }{{"16s", "4"}, {"default", ""}} {
		t.Run(polls.name, func(t *testing.T) {
			for swap := range 2 {
				compare(t, image, filepath.Join(dir, fmt.Sprintf("%s-%d", polls.name, swap)), [2]contender{timeball, other}, swap, run, polls.name, polls.exponent)
			}
		})
	}
}

func compare(t *testing.T, image *Image, dir string, both [2]contender, swap int, run time.Duration, name, poll string) {
	t.Helper()
	guests := make([]*Guest, len(both))
	for i := range guests {
		g, err := Start(image, fmt.Sprintf("%s-%d", dir, i), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		guests[i] = g
	}
	marks, asked := make([]int, len(guests)), make([]int, len(guests))
	for i, g := range guests {
		if _, err := g.RunFor("systemctl is-system-running --wait; true", 3*time.Minute); err != nil {
			t.Fatalf("%v\n%s", err, g.output())
		}
		g.does(t, both[(i+swap)%len(both)].start(poll))
		marks[i], asked[i] = g.Clock.Mark(), g.Net.Asked()
	}
	time.Sleep(run)
	for i, g := range guests {
		c, readings := both[(i+swap)%len(both)], g.Clock.Since(marks[i])
		broken := beyond(readings)
		fmt.Printf("| %s | %d | %s | %s | %d of %d | %d | %.3f ppm |\n", name, swap+1, c.name, measure(readings), len(broken), len(readings), g.Net.Asked()-asked[i], float64(g.Clock.Last().Page.Freq)/65536)
		if keep := os.Getenv("TIMEBALL_VM_KEEP"); keep != "" {
			save(t, filepath.Join(keep, fmt.Sprintf("%s-%d-%s.txt", name, swap+1, c.name)), readings)
		}
		if c.name == timeball.name && len(broken) > 0 {
			t.Errorf("%d of %d readings beyond maxerror, the first: %v\n%s", len(broken), len(readings), broken[0], g.Log())
		}
	}
}

// save writes readings for a closer look: seconds, error and its width in µs, rate in ppm, maxerror in µs.
func save(t *testing.T, path string, readings []Reading) {
	t.Helper()
	var text strings.Builder
	for _, r := range readings {
		rate := float64(r.Page.Tick-10000)*100 + float64(r.Page.Freq)/65536
		fmt.Fprintf(&text, "%.3f %.3f %.3f %.4f %d\n", r.Truth.Sub(readings[0].Truth).Seconds(), r.Error.Seconds()*1e6, r.Width.Seconds()*1e6, rate, r.Page.MaxError)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Error(err)
	}
}

// measure gives the cells of a run's true error: the steady state's, and how soon it was good.
func measure(readings []Reading) string {
	if len(readings) == 0 {
		return "nothing was read | | | | |"
	}
	began := readings[0].Truth
	var sum, squares, largest, count float64
	first, good := time.Duration(-1), time.Duration(0)
	for _, r := range readings {
		at, seconds := r.Truth.Sub(began), r.Error.Seconds()
		if first < 0 && r.Error.Abs() < time.Millisecond {
			first = at
		}
		if r.Error.Abs()-r.Width >= 100*time.Microsecond {
			good = at
		}
		if at >= accuracySettled && r.Width <= accuracyWidth {
			sum, squares, largest, count = sum+seconds, squares+seconds*seconds, max(largest, math.Abs(seconds)), count+1
		}
	}
	mean := sum / max(count, 1)
	rms := math.Sqrt(squares / max(count, 1))
	return fmt.Sprintf("%.1f µs | %+.1f µs | %.1f µs | %.1f µs | %.1f s | %.1f s", rms*1e6, mean*1e6, math.Sqrt(max(0, rms*rms-mean*mean))*1e6, largest*1e6, first.Seconds(), good.Seconds())
}
