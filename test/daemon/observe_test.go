package daemon

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// ahead makes a server's clock differ from this machine's.
func ahead(by time.Duration) reply {
	return func(_, r []byte) []byte {
		now := time.Now().Add(by)
		putTimestamp(r[16:], now.Add(-5*time.Second))
		putTimestamp(r[32:], now)
		putTimestamp(r[40:], now)
		return r
	}
}

// With the driver observe nobody sets the machine's clock: how wrong it is stands in every
// report, apart from what the daemon serves.
func TestObserveSaysHowWrongTheMachinesClockIs(t *testing.T) {
	for _, test := range []struct {
		by   time.Duration
		want string
	}{
		{300 * time.Millisecond, `\+(2[89]|3[01])\d\.\d+ ms`},
		{-2 * time.Second, `-(1\.9[89]|2\.0[01])\d s`},
	} {
		t.Run(test.by.String(), func(t *testing.T) {
			t.Parallel()
			at := falseServer(t, ahead(test.by))
			d := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}]\nmetrics: {listen: \"127.0.0.1:0\"}\n", at))
			if _, complaint, err := d.Run("wait", "--timeout", patience.String()); err != nil {
				t.Fatalf("wait: %v: %s", err, complaint)
			}
			want := regexp.MustCompile(test.want)
			// The first answers may have waited for this process to be given the processor, and
			// be wrong by half of that; among more of them there are better ones.
			d.until("the offset is known to the hundredth of a second", func() bool {
				said, _, err := d.Run("tracking")
				return err == nil && want.MatchString(said)
			})
			for _, report := range []string{"status", "tracking"} {
				said, _, err := d.Run(report)
				if err != nil || !want.MatchString(said) || !strings.Contains(said, "served") {
					t.Errorf("%s: got %v and %q, want %s, and what is served apart from it", report, err, said, test.want)
				}
			}
			// A monitor's line says the same before the bar as behind it.
			line, _, err := d.Run("health", "--critical", "10s", "--warning", "10s")
			if words, data, _ := strings.Cut(line, "|"); err != nil || !want.MatchString(words) || !strings.Contains(data, fmt.Sprintf("offset=%.1f", test.by.Seconds())) && !strings.Contains(data, "offset=0.29") && !strings.Contains(data, "offset=-1.9") {
				t.Errorf("health: got %v and %q, want the machine's offset, %s", err, line, test.want)
			}
			said, _, err := d.Run("step")
			if err != nil || !strings.Contains(said, "left alone") {
				t.Errorf("step: got %v and %q, want it to say that the machine's clock was left alone", err, said)
			}
			said, _, err = d.Run("wait", "--timeout", "60s")
			if err != nil || !want.MatchString(said) {
				t.Errorf("wait: got %v and %q, want success and %s", err, said, test.want)
			}
			_, complaint, err := d.Run("wait", "--timeout", "3s", "--max-error", "10ms")
			if peers.ExitStatus(err) != 1 || !strings.Contains(complaint, "machine's clock") {
				t.Errorf("wait --max-error: got %v and %q, want 1: the machine's clock is not that right", err, complaint)
			}
			var tracking struct {
				Offset  float64
				Machine struct{ Offset float64 }
			}
			if err := d.Report(&tracking, "tracking"); err != nil {
				t.Fatal(err)
			}
			if off := tracking.Machine.Offset - test.by.Seconds(); math.Abs(off) > 0.02 {
				t.Errorf("got %+v, want the machine %s off", tracking, test.by)
			}
		})
	}
}

// wait says what was missing when the time was over, whatever that was.
func TestWaitSaysWhatIsMissing(t *testing.T) {
	silent := falseServer(t, func(_, _ []byte) []byte { return nil })
	for _, test := range []struct{ name, config, want string }{
		{"nobody answers", fmt.Sprintf("sources: [{server: \"%s\", min_poll: -2}]\n", silent), "unanswered"},
		{"no sources", "", "no sources"},
		{"answers are refused", fmt.Sprintf("sources: [{server: \"%s\", min_poll: -2}]\n", falseServer(t, kiss("RATE"))), "RATE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := start(t, "clock: {driver: virtual}\n"+test.config)
			_, complaint, err := d.Run("wait", "--timeout", "3s")
			if peers.ExitStatus(err) != 1 || !strings.Contains(complaint, test.want) || strings.Contains(complaint, "timeout") {
				t.Errorf("got %v and %q, want status 1 and %q", err, complaint, test.want)
			}
		})
	}
	h := peers.Here(t)
	_, complaint, err := h.Run(nil, peers.Binary(t), "wait", "--timeout", "300ms", "--socket", "/nonexistent/socket")
	if peers.ExitStatus(err) != 1 || !strings.Contains(complaint, "no timeball answers") {
		t.Errorf("no daemon: got %v and %q, want status 1 and that nobody answers", err, complaint)
	}
}
