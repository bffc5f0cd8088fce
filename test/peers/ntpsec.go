package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// NTPsecd is ntpsec's ntpd; its attempts on the clock fail.
type NTPsecd struct {
	*Process
	tools NTPTools
}

// NTPsec starts ntpsec's daemon on the host with these configuration lines. It lets
// everybody query it.
func NTPsec(t testing.TB, h *Host, conf string) *NTPsecd {
	t.Helper()
	daemon := Unpack(t, "ntpsec", "usr/sbin/ntpd")
	n := &NTPsecd{tools: NTPQ(t)}
	const always = "disable kernel\nrestrict default\nrestrict 10.0.0.0 mask 255.0.0.0\nrestrict fd00::/8\nrestrict 127.0.0.1\nrestrict ::1\n"
	path := h.Write("ntp.conf", always+conf+"\n")
	n.Process = h.Start("ntpd", daemon.Env(), daemon.Path, "-n", "-g", "-c", path, "-l", "/dev/stderr",
		"-f", filepath.Join(h.Dir, "drift"), "-p", filepath.Join(h.Dir, "ntpd.pid"))
	return n
}

// NTPTools is ntpq with what it needs of Python.
type NTPTools struct {
	ntpq   Program
	python string
	env    []string
}

// ready guards what NTPQ has made ready.
var (
	ready     sync.Mutex
	readyNTPQ *NTPTools
)

// NTPQ makes ntpq ready, or skips the test.
func NTPQ(t testing.TB) NTPTools {
	t.Helper()
	ready.Lock()
	defer ready.Unlock()
	if readyNTPQ != nil {
		return *readyNTPQ
	}
	tools := NTPTools{ntpq: Unpack(t, "ntpsec", "usr/bin/ntpq")}
	modules := Unpack(t, "python3-ntp", "usr/lib/python3/dist-packages/ntp/packet.py")
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if path, err := exec.LookPath(python); err == nil {
			tools.python = path
			break
		}
	}
	if tools.python == "" {
		t.Skip("ntpq needs python3")
	}
	found, _ := filepath.Glob(filepath.Join(modules.Root, "usr/lib/*/ntp/libntpc.so*"))
	if len(found) == 0 {
		t.Skipf("ntpq needs libntpc, which is not in %s", modules.Root)
	}
	// The module looks beside itself first.
	beside := filepath.Join(filepath.Dir(modules.Path), "libntpc.so")
	if err := os.Symlink(found[0], beside); err != nil && !os.IsExist(err) {
		t.Skipf("libntpc: %v", err)
	}
	library := Program{Path: beside, Root: modules.Root}
	for _, soname := range missingLibraries(library) {
		dir, err := unpackLibrary(soname)
		if err != nil {
			t.Skipf("ntpq: %v", err)
		}
		library.Libraries = append(library.Libraries, dir)
	}
	tools.env = append(library.Env(), "PYTHONPATH="+filepath.Dir(filepath.Dir(modules.Path)), "PYTHONDONTWRITEBYTECODE=1")
	readyNTPQ = &tools
	return tools
}

// Ask runs ntpq on a host.
func (n NTPTools) Ask(from *Host, args ...string) (string, error) {
	out, complaints, err := from.Run(n.env, append([]string{n.python, n.ntpq.Path}, args...)...)
	if err != nil {
		return out, fmt.Errorf("ntpq %v: %w: %s", args, err, complaints)
	}
	return out, nil
}

// NTPQRow is a row of `ntpq -p`: the tally mark before the name, then the columns.
type NTPQRow struct {
	Tally  string // * system peer, + candidate, # backup, - outlier, x falseticker, blank refused
	Remote string
	Fields []string // refid st t when poll reach delay offset jitter
}

// Peers reads `ntpq -n -p`.
func (n NTPTools) Peers(from *Host, server string) ([]NTPQRow, error) {
	out, err := n.Ask(from, "-n", "-p", server)
	if err != nil {
		return nil, err
	}
	_, body, ok := strings.Cut(out, "=\n")
	if !ok {
		return nil, fmt.Errorf("ntpq -p: no table in %q", out)
	}
	var rows []NTPQRow
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\n")
		if fields := strings.Fields(line[min(1, len(line)):]); len(fields) > 1 {
			rows = append(rows, NTPQRow{Tally: line[:1], Remote: fields[0], Fields: fields[1:]})
		}
	}
	return rows, nil
}

// Peers are the daemon's own, asked at its own host.
func (n *NTPsecd) Peers() ([]NTPQRow, error) { return n.tools.Peers(n.Host, "127.0.0.1") }

// Selects waits until ntpd follows the source at that address, and gives its row.
func (n *NTPsecd) Selects(within time.Duration, address string) NTPQRow {
	n.t.Helper()
	var row NTPQRow
	Eventually(n.t, within, "ntpd selects "+address, func() error {
		rows, err := n.Peers()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Remote == address && r.Tally == "*" {
				row = r
				return nil
			}
		}
		return fmt.Errorf("its peers: %q", rows)
	})
	return row
}

// watch runs a program on a terminal of its own for a while and prints what it writes.
const watch = `
import os, pty, select, signal, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "vt100"
    os.execv(sys.argv[2], sys.argv[2:])
import fcntl, struct, termios
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
until = time.time() + float(sys.argv[1])
text = b""
while time.time() < until:
    if select.select([fd], [], [], 0.2)[0]:
        try:
            text += os.read(fd, 65536)
        except OSError:
            break
os.kill(pid, signal.SIGKILL)
sys.stdout.write(text.decode("latin-1"))
`

// Monitor runs ntpmon on a host for so long, on a terminal of its own, and gives what it
// has drawn.
func (n NTPTools) Monitor(from *Host, server string, lasts time.Duration) (string, error) {
	ntpmon := filepath.Join(filepath.Dir(n.ntpq.Path), "ntpmon")
	if err := exec.Command(n.python, "-c", "import curses").Run(); err != nil {
		return "", fmt.Errorf("%s has no curses: %w", n.python, err)
	}
	out, complaints, err := from.Run(n.env, n.python, "-c", watch, fmt.Sprint(lasts.Seconds()), n.python, ntpmon, "-n", server)
	if err != nil {
		return out, fmt.Errorf("ntpmon: %w: %s", err, complaints)
	}
	return out, nil
}
