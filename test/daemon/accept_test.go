package daemon

import (
	"fmt"
	"strings"
	"testing"
)

// A server that is wrong by more than clock.panic is refused, and the clock runs freely;
// the operator lets the correction through by naming its size, and only that.
func TestAnOperatorAcceptsTheCorrectionRefused(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	first := start(t, serverConfig(at, "0s"))
	p := start(t, fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 2ms}, panic: 100s}\nsources: [{server: \"%s\", min_poll: -3, max_poll: -3}]\n", at))
	tracking := func(key string) any {
		answer, err := p.report("tracking")
		if err != nil {
			return nil
		}
		return answer[key]
	}
	p.until("it is synchronized", func() bool { return tracking("state") == "sync" })
	if _, complaint, err := p.operate("accept-correction", "-2000s"); exitStatus(err) != 1 || !strings.Contains(complaint, "no correction is being refused") {
		t.Errorf("with nothing refused: got %v, %q", err, complaint)
	}
	first.kill()
	start(t, serverConfig(at, "2000s")) // whose clock is behind by as much
	p.until("it is refused", func() bool { return tracking("state") == "panic" && p.Said("accept-correction") > 0 })
	if slew := tracking("slew"); slew != 0.0 {
		t.Errorf("a slew of %v while the correction is refused, want none", slew)
	}
	out, _, _ := p.Run("status")
	if !strings.Contains(out, "timeball accept-correction -33m20s") && !strings.Contains(out, "timeball accept-correction -33m19s") {
		t.Errorf("status does not name the way out: %q", out)
	}
	if _, complaint, err := p.operate("accept-correction"); exitStatus(err) != 1 || !strings.Contains(complaint, "accept-correction -33m") {
		t.Errorf("without a size: got %v, %q, want the size shown", err, complaint)
	}
	for _, wrong := range []string{"2000s", "-1990s"} {
		if _, complaint, err := p.operate("accept-correction", wrong); exitStatus(err) != 1 || !strings.Contains(complaint, "is -2000.0") && !strings.Contains(complaint, "is -1999.9") {
			t.Errorf("%s: got %v, %q, want it refused with the true size", wrong, err, complaint)
		}
	}
	if _, complaint, err := p.operate("accept-correction", "1fortnight"); exitStatus(err) != 64 {
		t.Errorf("no size: got %v, %q, want wrong usage", err, complaint)
	}
	if out, complaint, err := p.operate("accept-correction", "-33m20s"); err != nil || !strings.Contains(out, "set by -33m") {
		t.Fatalf("the right size: got %v, %q, %q", err, out, complaint)
	}
	p.until("it is synchronized to the new time", func() bool {
		o, _ := tracking("offset").(float64)
		return tracking("synchronized") == true && o < 1 && o > -1
	})
}
