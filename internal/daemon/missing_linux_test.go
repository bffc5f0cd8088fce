package daemon

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/internal/control"
)

// alone runs the test again in a process with a network namespace of its own, where it
// may add and remove addresses; it reports whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv("TIMEBALL_TEST_NAMESPACE") != "" {
		ip(t, "link set lo up")
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "TIMEBALL_TEST_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("no network namespace to be had: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// ip runs a command of iproute2.
func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// slow is a pace at which nothing but the interface monitor can be the reason of a change.
func slow(t *testing.T) {
	was := hurried
	hurried.Tend = time.Hour
	t.Cleanup(func() { hurried = was })
}

// unserved are the addresses at which status says that nothing is served.
func (w *world) unserved() (list []string) {
	for _, l := range call[control.Status](w, control.Request{Command: control.CommandStatus}).Daemon.NotListening {
		list = append(list, l.Address)
	}
	return list
}

// No network at boot, and an address that changes.
func TestAnAddressThatIsMissingIsServedWhenItComes(t *testing.T) {
	if !alone(t) {
		return
	}
	slow(t)
	const here, there = "127.0.0.1:1123", "192.0.2.1:1123"
	w := start(t, "local: {stratum: 1}\nserver: {listen: [\""+here+"\", \""+there+"\"], workers: 2}\nmetrics: {listen: \"192.0.2.1:9123\"}\n")
	mustAnswer(t, netip.MustParseAddrPort(here))
	if got := w.unserved(); len(got) != 1 || got[0] != there {
		t.Errorf("status: got %v not served, want %s", got, there)
	}
	if got := (metricsSource{w.d}).Server().NotListening; len(got) != 1 || got[0] != there {
		t.Errorf("metrics: got %v not served, want %s", got, there)
	}
	for round := range 3 {
		ip(t, "addr add 192.0.2.1/32 dev lo")
		until(t, "served where the address has come", func() bool { return len(w.unserved()) == 0 })
		mustAnswer(t, netip.MustParseAddrPort(there))
		if got := call[control.ServerStats](w, control.Request{Command: control.CommandServerStats}); len(got.Listeners) != 2 {
			t.Errorf("round %d: got %d listeners, want 2", round, len(got.Listeners))
		}
		ip(t, "addr del 192.0.2.1/32 dev lo")
		until(t, "known to be gone", func() bool { return len(w.unserved()) == 1 })
		mustAnswer(t, netip.MustParseAddrPort(here))
	}
	until(t, "metrics served at the address that has come", func() bool { return w.d.metrics.Load() != nil })
	for text, want := range map[string]int{
		"no metrics yet": 1, "serving metrics at an address that has come": 1,
		"nothing is served at an address yet": 1, "serving at an address that has come": 1,
		"an address that is served at has gone from this machine": 3, "serving at an address that is back": 2,
	} {
		until(t, text, func() bool { return w.lines(text) >= want })
		if got := w.lines(text); got != want {
			t.Errorf("%q: got %d lines, want %d", text, got, want)
		}
	}
}

// Where no interface tells of it, the slow timer finds out: here the kernel begins to
// allow addresses that nobody has.
func TestAMissingAddressIsTriedAgainByTheClock(t *testing.T) {
	if !alone(t) {
		return
	}
	w := start(t, "local: {stratum: 1}\nserver: {listen: [\"192.0.2.1:1123\"]}\n")
	if got := w.unserved(); len(got) != 1 {
		t.Errorf("got %v not served, want one", got)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_nonlocal_bind", []byte("1"), 0); err != nil {
		t.Skip(err)
	}
	until(t, "the address is bound", func() bool { return len(w.d.Addresses()) == 1 && len(w.unserved()) == 0 })
}

// A link-local address belongs to its interface, which may come back under another index.
func TestALinkLocalAddressFollowsItsInterface(t *testing.T) {
	if !alone(t) {
		return
	}
	slow(t)
	w := start(t, "local: {stratum: 1}\nserver: {listen: [\"[fe80::7%near]:1123\"]}\n")
	for range 3 {
		ip(t, "link add near type veth peer name far")
		ip(t, "link set near up")
		ip(t, "link set far up")
		ip(t, "addr add fe80::7/64 dev near nodad")
		until(t, "served", func() bool { return len(w.unserved()) == 0 })
		mustAnswer6(t, "[fe80::7%near]:1123")
		ip(t, "link del near")
		until(t, "known to be gone", func() bool { return len(w.unserved()) == 1 })
	}
}

// mustAnswer6 is mustAnswer with a zone.
func mustAnswer6(t *testing.T, address string) {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	// By its number, since the standard library remembers for a minute which one a name had.
	at = netip.AddrPortFrom(at.Addr().WithZone(strconv.Itoa(interfaceIndex(at.Addr().Zone()))), at.Port())
	conn, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	untilAnswer(t, "an answer at "+address, conn, isTime)
}

// A reload keeps waiting, forgets what is no longer wanted, and serves a new server at
// once beside it.
func TestAReloadKeepsWaitingForAnAddress(t *testing.T) {
	if !alone(t) {
		return
	}
	slow(t)
	const local = "local: {stratum: 1}\n"
	f := startFile(t, quiet+local+"server: {listen: [\"127.0.0.1:1123\", \"192.0.2.1:1123\"]}\n")
	f.reload(quiet + local + "server: {listen: [\"127.0.0.1:1124\", \"192.0.2.1:1123\"]}\n")
	if got := f.d.reloads.problem(); got != "" || len(f.unserved()) != 1 {
		t.Errorf("got problem %q, unserved %v; want none, and the one waited for", got, f.unserved())
	}
	mustAnswer(t, netip.MustParseAddrPort("127.0.0.1:1124"))
	other := startFile(t, quiet+local+"server: {listen: [\"127.0.0.1:1125\", \"192.0.2.2:1125\"]}\n")
	other.reload(quiet + local + "server: {listen: [\"127.0.0.1:1125\"]}\n")
	if got := other.unserved(); len(got) != 0 {
		t.Errorf("waited for, and no longer wanted: got %v, want none", got)
	}
	ip(t, "addr add 192.0.2.1/32 dev lo")
	mustAnswer(t, netip.MustParseAddrPort("192.0.2.1:1123"))
	ip(t, "addr del 192.0.2.1/32 dev lo")
	until(t, "known to be gone", func() bool { return len(f.unserved()) == 1 })
	f.reload(quiet + local + "server: {listen: [\"127.0.0.1:1124\"]}\n")
	if got := f.unserved(); len(got) != 0 {
		t.Errorf("no longer wanted: got %v, want none", got)
	}
	ip(t, "addr add 192.0.2.1/32 dev lo")
	f.look(func(g *registry) { g.tendAll() })
	if got := f.d.Addresses(); len(got) != 1 {
		t.Errorf("got sockets at %v, want one", got)
	}
}
