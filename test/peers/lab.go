package peers

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// namePrefix begins the name of every namespace made here; the process that made it
// comes next, so that what a killed test left behind can be told from what is in use.
const namePrefix = "timeball"

// Lab is one network of hosts on a bridge, IPv4 10.99.N.0/24 and IPv6 fd00:99:N::/64.
// Each host is a network namespace, and so is the bridge: this machine's own network
// has no part in it. All of it goes when the test ends.
type Lab struct {
	t     testing.TB
	id    int
	hosts int
	all   []*Host
}

var labs atomic.Int32

// NewLab builds an empty network, or skips the test where that cannot be done.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	needNamespaces(t)
	l := &Lab{t: t, id: int(labs.Add(1))}
	l.namespace("switch")
	l.ip("-n", l.name("switch"), "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
	l.ip("-n", l.name("switch"), "link", "set", "bridge", "up")
	return l
}

// needNamespaces skips a test that cannot have network namespaces.
func needNamespaces(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("short: tests in network namespaces are left out")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, program := range []string{"ip", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	if err := probe(); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
}

// probe tries a namespace once, and clears away what tests left that were killed.
var probe = sync.OnceValue(func() error {
	sweep()
	name := fmt.Sprintf("%s-%d-probe", namePrefix, os.Getpid())
	if _, err := run("/", "ip", "netns", "add", name); err != nil {
		return err
	}
	_, err := run("/", "ip", "netns", "delete", name)
	return err
})

// sweep ends what runs in the namespaces of a test that is no more, and deletes them.
func sweep() {
	names, _ := filepath.Glob("/run/netns/" + namePrefix + "-*")
	for _, name := range names {
		fields := strings.Split(filepath.Base(name), "-")
		pid, err := strconv.Atoi(fields[1])
		if err != nil || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		left, _ := run("/", "ip", "netns", "pids", filepath.Base(name))
		for _, field := range strings.Fields(left) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_, _ = run("/", "ip", "netns", "delete", filepath.Base(name))
	}
}

// name of the namespace of a host of this network.
func (l *Lab) name(host string) string {
	return fmt.Sprintf("%s-%d-%d-%s", namePrefix, os.Getpid(), l.id, host)
}

func (l *Lab) ip(args ...string) {
	l.t.Helper()
	if _, err := run("/", "ip", args...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *Lab) namespace(host string) {
	l.t.Helper()
	name := l.name(host)
	l.ip("netns", "add", name)
	l.t.Cleanup(func() {
		if _, err := run("/", "ip", "netns", "delete", name); err != nil {
			l.t.Error(err)
		}
	})
	l.ip("-n", name, "link", "set", "lo", "up")
}

// Host is one machine: a namespace with lo and eth0 in a Lab, or Here.
type Host struct {
	Name string
	IPv4 netip.Addr
	IPv6 netip.Addr
	// Dir is a directory of its own, private to its owner and with a short name, as a
	// Unix socket's path must be.
	Dir string

	t         testing.TB
	namespace string // "": this machine itself
}

// newHost gives a host its directory.
func newHost(t testing.TB, name string) *Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &Host{Name: name, Dir: dir, t: t}
}

// Here is this machine itself, by its loopback interface, for tests that need neither a
// network nor root. What runs here keeps the test's rights: its clock must not be the
// machine's.
func Here(t testing.TB) *Host {
	t.Helper()
	h := newHost(t, "this machine")
	h.IPv4, h.IPv6 = netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	return h
}

// Broadcast is the subnet's broadcast address.
func (l *Lab) Broadcast() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 99, byte(l.id), 255})
}

// Host adds a host to the network. Its name has at most eight characters.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	l.hosts++
	h := newHost(l.t, name)
	h.IPv4 = netip.AddrFrom4([4]byte{10, 99, byte(l.id), byte(l.hosts)})
	h.IPv6 = netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x99, 5: byte(l.id), 15: byte(l.hosts)})
	h.namespace = l.name(name)
	l.namespace(name)
	l.quiet(h.namespace)
	l.connect(h)
	l.all = append(l.all, h)
	return h
}

// quiet turns off what IPv6 does by itself and takes seconds: duplicate address
// detection and the wait for routers.
func (l *Lab) quiet(namespace string) {
	l.t.Helper()
	const script = `cd /proc/sys/net/ipv6/conf && for i in all default; do echo 0 >$i/accept_dad; echo 0 >$i/dad_transmits; echo 0 >$i/router_solicitations; done`
	if _, err := run("/", "ip", "netns", "exec", namespace, "sh", "-c", script); err != nil {
		l.t.Logf("duplicate address detection stays on: %v", err)
	}
}

func (l *Lab) connect(h *Host) {
	l.t.Helper()
	port := fmt.Sprintf("port%d", l.hosts)
	sw := l.name("switch")
	l.ip("-n", sw, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.namespace)
	l.ip("-n", sw, "link", "set", port, "master", "bridge", "up")
	in := func(args ...string) { l.t.Helper(); l.ip(append([]string{"-n", h.namespace}, args...)...) }
	in("link", "set", "eth0", "up")
	in("address", "add", h.IPv4.String()+"/24", "broadcast", "+", "dev", "eth0")
	in("-6", "address", "add", h.IPv6.String()+"/64", "dev", "eth0", "nodad")
	in("route", "add", "224.0.0.0/4", "dev", "eth0")
	in("route", "add", "default", "dev", "eth0")
	in("-6", "route", "add", "default", "dev", "eth0")
}

// LikeCards makes the link of every host as one between two cards: checksums are made by
// who sends, and what XDP sends back is taken. A veth does the latter reliably only where a
// program is attached at its other end: object is one that lets everything pass. It skips
// the test where that cannot be had.
func (l *Lab) LikeCards(object string) {
	l.t.Helper()
	for i := 1; i <= l.hosts; i++ {
		l.attempt("ip", "-n", l.name("switch"), "link", "set", "dev", fmt.Sprintf("port%d", i), "xdpdrv", "obj", object, "sec", "xdp")
	}
	for _, h := range l.all {
		l.attempt("ip", "netns", "exec", h.namespace, "ethtool", "-K", "eth0", "tx", "off")
	}
}

// Cable joins two hosts directly, with an interface cable0 at either end: the first has the
// address 10.98.N.1, the second 10.98.N.2, and they know each other's link addresses. What
// the first sends to 10.97.0.0/16 goes to the second. It returns the addresses.
func (l *Lab) Cable(a, b *Host) (atA, atB netip.Addr) {
	l.t.Helper()
	l.ip("-n", a.namespace, "link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", b.namespace)
	hosts, addrs, macs := [2]*Host{a, b}, [2]netip.Addr{}, [2]string{}
	for i, h := range hosts {
		addrs[i], macs[i] = netip.AddrFrom4([4]byte{10, 98, byte(l.id), byte(i + 1)}), fmt.Sprintf("02:98:00:00:00:%02x", i+1)
		l.ip("-n", h.namespace, "link", "set", "cable0", "address", macs[i], "up")
		l.ip("-n", h.namespace, "address", "add", addrs[i].String()+"/24", "dev", "cable0")
	}
	for i, h := range hosts {
		l.ip("-n", h.namespace, "neighbour", "replace", addrs[1-i].String(), "lladdr", macs[1-i], "dev", "cable0", "nud", "permanent")
	}
	l.ip("-n", a.namespace, "route", "add", "10.97.0.0/16", "via", addrs[1].String())
	return addrs[0], addrs[1]
}

func (l *Lab) attempt(argv ...string) {
	l.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		l.t.Skipf("%v: %v: %s", argv, err, out)
	}
}

// Write puts a file into the host's directory and gives its path.
func (h *Host) Write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// withoutClock is how each program starts: CAP_SYS_TIME taken away for good.
var withoutClock = []string{"setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"}

// Command prepares a command that will run on the host; in a namespace without the right
// to set the clock. ip and setpriv replace themselves: the command's process id is the
// program's.
func (h *Host) Command(env []string, argv ...string) *exec.Cmd {
	if h.namespace != "" {
		argv = slices.Concat([]string{"ip", "netns", "exec", h.namespace}, withoutClock, argv)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	cmd.Dir = h.Dir
	return cmd
}

// Run runs a command on the host to its end and gives what it printed.
func (h *Host) Run(env []string, argv ...string) (stdout, stderr string, err error) {
	var out, complaints strings.Builder
	cmd := h.Command(env, argv...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	return out.String(), complaints.String(), err
}
