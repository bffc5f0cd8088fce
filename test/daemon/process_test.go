package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// patience is for what happens in any case, on a machine however slow; it says nothing of
// how fast that is.
const patience = 2 * time.Minute

// prompt is within what a daemon must have ended: waiting for anything but the processor takes
// longer, or for ever.
const prompt = 15 * time.Second

func TestMain(m *testing.M) { peers.Main(m) }

// daemon is a running timeball with a directory of its own.
type daemon struct {
	*peers.Daemon
	t *testing.T
}

// launch starts a process, by way of a shell that does something first if any is given.
func launch(t *testing.T, config, first string) *daemon {
	t.Helper()
	return &daemon{peers.Timeball(t, peers.Here(t), config, "/bin/sh", "-c", first+` exec "$0" "$@"`), t}
}

// start launches a daemon and waits until it runs.
func start(t *testing.T, config string) *daemon {
	t.Helper()
	p := launch(t, config, "")
	p.Says(patience, "timeball runs")
	return p
}

// kill ends the daemon at once.
func (p *daemon) kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Ends(patience)
}

// terminate ends the daemon in order and gives its exit status.
func (p *daemon) terminate() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Ends(patience)
}

// until asks more often than peers.Eventually: a start is over in some milliseconds.
func (p *daemon) until(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// report asks the daemon by the command line.
func (p *daemon) report(command string) (answer map[string]any, err error) {
	err = p.Report(&answer, command)
	return answer, err
}

func (p *daemon) synchronized() bool {
	answer, err := p.report("tracking")
	return err == nil && answer["synchronized"] == true
}

var taken atomic.Int32

// freePort is a UDP port that is free, at an address of its own so that no other test
// takes it meanwhile.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	n := taken.Add(1)
	conn, err := net.ListenPacket("udp4", fmt.Sprintf("127.9.%d.%d:0", n/250, 1+n%250))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serves waits for so many answers to proper requests; single ones may be lost where the
// machine is busy.
func (p *daemon) serves(at netip.AddrPort, what string, times int) {
	p.t.Helper()
	for range times {
		p.until(what, func() bool { return p.answers(at) })
	}
}

// answers reports whether a proper request is answered.
func (p *daemon) answers(at netip.AddrPort) bool {
	p.t.Helper()
	request := make([]byte, 48)
	request[0], request[40] = 0x23, 0xe9
	reply, err := p.Host.Exchange(at, request, 500*time.Millisecond)
	return err == nil && len(reply) == 48
}

// serverConfig is the configuration of a stratum 1 whose clock is off.
func serverConfig(at netip.AddrPort, offset string) string {
	return fmt.Sprintf("clock: {driver: virtual, virtual: {offset: %s}}\nlocal: {stratum: 1}\nserver: {listen: [\"%s\"], workers: 1}\n", offset, at)
}

// clientConfig is that of one that follows a server and keeps its state in a directory.
func clientConfig(server netip.AddrPort, state, more string) string {
	return fmt.Sprintf("clock: {driver: virtual, drift_file: %[1]s/drift, state_dir: %[1]s, step: {threshold: 1s, updates: 3}, panic: 1000s%[3]s}\n"+
		"sources: [{server: \"%[2]s\", min_poll: -3, max_poll: -3}]\n", state, server, more)
}
