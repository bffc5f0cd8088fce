package daemon

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"timeball/test/peers"
)

// resident is how much memory the daemon has that is its own, in kB.
func (p *daemon) resident() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			kB, _ := strconv.Atoi(fields[1])
			return kB
		}
	}
	p.t.Skip("the kernel does not tell RssAnon")
	return 0
}

// reopen reloads so many times, each time with a listen address that was not there before.
func (p *daemon) reopen(times int) {
	p.t.Helper()
	for i := range times {
		at := freePort(p.t)
		p.Configure(serverConfig(at, "0s"))
		p.Signal(syscall.SIGHUP)
		p.until(fmt.Sprintf("served after reload %d", i), func() bool { return p.answers(at) })
	}
}

// A listener that a reload closes leaves nothing behind: neither memory nor descriptors.
func TestReopenedListenersLeaveNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("reloads 800 times")
	}
	p := &daemon{peers.Timeball(t, peers.Here(t), serverConfig(freePort(t), "0s"), "env", "GOGC=25", "GOMEMLIMIT=24MiB"), t}
	p.Says(patience, "timeball runs")
	p.reopen(200)
	first, descriptors := p.resident(), p.Descriptors()
	p.reopen(600)
	last := p.resident()
	t.Logf("after 200 reloads %d kB, after 800 %d kB", first, last)
	// Each used to leave 67 kB, so that 600 would make 40 MB.
	if last > first+6000 {
		t.Errorf("after 200 reloads %d kB, after 800 %d kB; want about the same", first, last)
	}
	p.until(fmt.Sprintf("no more than the %d descriptors that there were after 200 reloads", descriptors), func() bool { return p.Descriptors() <= descriptors+2 })
}
