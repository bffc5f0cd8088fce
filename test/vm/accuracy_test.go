package vm

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	accuracySettled = 240 * time.Second // from here on it is the steady state
	accuracyRun     = 15 * time.Minute
)

// contender is one daemon and how it is started in a guest where timeball is stopped.
type contender struct {
	name  string
	start func(poll string) string
}

var contenders = []contender{
	{"timeball", func(poll string) string {
		return "systemctl stop timeball; printf '%b' 'sources: [{server: 10.7.0.11" + poll + "}]\\nclock: {drift_file: /var/lib/timeball/drift}\\n' > /etc/timeball/timeball.yaml; rm -f /var/lib/timeball/*; " + noise + "; systemctl start timeball"
	}},
	{"chronyd", func(poll string) string {
		line := "server 10.7.0.11 iburst"
		if poll != "" {
			line += " minpoll 4 maxpoll 4"
		}
		return "systemctl stop timeball; printf '%b' '" + line + "\\nmakestep 1 3\\n' > /root/chrony.conf; " + noise + "; systemd-run --unit=chronyd-beside /opt/beside/usr/sbin/chronyd -n -u root -f /root/chrony.conf"
	}},
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
	fmt.Println("| polls | run | daemon | true RMS | bias | scatter | largest | below 1 ms | below 100 µs for good | requests | frequency |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	for _, polls := range []struct{ name, text string }{{"16 s", ", min_poll: 4, max_poll: 4"}, {"default", ""}} {
		for swap := range 2 {
			compare(t, image, filepath.Join(dir, fmt.Sprintf("%s-%d", polls.name, swap)), swap, run, polls.name, polls.text)
		}
	}
}

func compare(t *testing.T, image *Image, dir string, swap int, run time.Duration, name, polls string) {
	t.Helper()
	guests := make([]*Guest, len(contenders))
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
		g.does(t, contenders[(i+swap)%len(contenders)].start(polls))
		marks[i], asked[i] = g.Clock.Mark(), g.Net.Asked()
	}
	time.Sleep(run)
	for i, g := range guests {
		c := contenders[(i+swap)%len(contenders)]
		fmt.Printf("| %s | %d | %s | %s | %d | %.3f ppm |\n", name, swap+1, c.name, measure(g.Clock.Since(marks[i])), g.Net.Asked()-asked[i], float64(g.Clock.Last().Page.Freq)/65536)
		if c.name == "timeball" && t.Failed() {
			t.Log(g.Log())
		}
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
		if r.Error.Abs() >= 100*time.Microsecond {
			good = at
		}
		if at >= accuracySettled {
			sum, squares, largest, count = sum+seconds, squares+seconds*seconds, max(largest, math.Abs(seconds)), count+1
		}
	}
	mean := sum / max(count, 1)
	rms := math.Sqrt(squares / max(count, 1))
	return fmt.Sprintf("%.1f µs | %+.1f µs | %.1f µs | %.1f µs | %.1f s | %.1f s", rms*1e6, mean*1e6, math.Sqrt(max(0, rms*rms-mean*mean))*1e6, largest*1e6, first.Seconds(), good.Seconds())
}
