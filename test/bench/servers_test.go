package bench

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"timeball/test/peers"
)

// The server has the first core, the generator the second.
var (
	onServerCore    = []string{"taskset", "-c", "0", "nice", "-n", "-20"}
	onGeneratorCore = []string{"taskset", "-c", "1", "nice", "-n", "-20"}
)

// ahead starts a command before everything else on its core: in a session of its own, whose
// whole group of tasks (sched(7), autogroup) comes first; nice alone orders only those within.
func ahead(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	// A kernel without groups of tasks has no such file, and needs none.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte("-20"), 0)
	return nil
}

// key is known to timeball and chronyd.
var key = Key{ID: 7, Secret: []byte("sixteen octets!!")}

// contender is a server under test.
type contender struct {
	name string
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// start runs a server on its core until the benchmark ends.
func start(b testing.TB, h *peers.Host, name string, port int, env []string, argv ...string) *contender {
	b.Helper()
	c := &contender{name: name, port: port, cmd: h.Command(env, append(append([]string{}, onServerCore...), argv...)...)}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := ahead(c.cmd); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	b.Cleanup(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		_ = c.cmd.Wait()
		if b.Failed() {
			b.Logf("%s said:\n%s", name, c.log.String())
		}
	})
	return c
}

func (c *contender) target() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }

// build makes a program once.
var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("TIMEBALL_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(buildDir, "timeball")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "timeball/cmd/timeball")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var buildDir string

// startTimeball runs the whole daemon: access list, client log, statistics, keys, control
// socket. more is added to its server section.
func startTimeball(b testing.TB, h *peers.Host, name string, port int, more string) *contender {
	b.Helper()
	program, err := build()
	if err != nil {
		b.Fatal(err)
	}
	config := fmt.Sprintf(`
server:
  listen: [":%d"]
  access: {server: [192.0.2.0/24, 198.51.100.0/24], synchronization: [0.0.0.0/0, "::/0"], query: [127.0.0.0/8]}
  %s
local: {stratum: 1}
clock: {driver: observe}
keys: [{id: %d, type: aes128-cmac, hex: %s}]
control: {socket: %s}
`, port, more, key.ID, hex.EncodeToString(key.Secret), filepath.Join(h.Dir, name+".sock"))
	path := h.Write(name+".yaml", config)
	return start(b, h, name, port, nil, program, "run", "--config", path)
}

func startChronyd(b testing.TB, h *peers.Host, port int) *contender {
	b.Helper()
	daemon := peers.Unpack(b, "chrony", "usr/sbin/chronyd")
	keys := h.Write("chrony.keys", fmt.Sprintf("%d AES128 HEX:%s\n", key.ID, hex.EncodeToString(key.Secret)))
	conf := h.Write("chrony.conf", fmt.Sprintf("local stratum 1\nallow all\nport %d\ncmdport 0\nbindcmdaddress %s\npidfile %s\nkeyfile %s\n",
		port, filepath.Join(h.Dir, "chronyd.sock"), filepath.Join(h.Dir, "chronyd.pid"), keys))
	return start(b, h, "chronyd", port, daemon.Env(), daemon.Path, "-x", "-d", "-u", "root", "-f", conf)
}

func startReference(b testing.TB, h *peers.Host, port int) *contender {
	b.Helper()
	program := filepath.Join(buildDir, "reference")
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	if out, err := exec.Command(cc, "-O2", "-o", program, "testdata/reference.c").CombinedOutput(); err != nil {
		b.Skipf("the reference loop needs a C compiler: %v\n%s", err, out)
	}
	return start(b, h, "reference", port, nil, program, "127.0.0.1", strconv.Itoa(port))
}

// cpu is the time that all threads of a process have run, by the scheduler's account.
func (c *contender) cpu(b testing.TB) time.Duration {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// rss is the resident memory in MiB.
func (c *contender) rss(b testing.TB) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("%s: no VmRSS", c.name)
	return 0
}

// measured is a Result with what it cost the server.
type measured struct {
	Result
	spent time.Duration // of the server's CPU
}

// perMillion is CPU seconds for a million replies.
func (m measured) perMillion() float64 { return m.spent.Seconds() / float64(max(m.Received, 1)) * 1e6 }

// plus is the sum of two measurements; percentiles are not kept.
func (m measured) plus(n measured) measured {
	m.Sent += n.Sent
	m.Received += n.Received
	m.Invalid += n.Invalid
	m.Seconds += n.Seconds
	m.spent += n.spent
	return m
}

// apply runs a load against a server, from the generator's core.
func apply(b testing.TB, h *peers.Host, c *contender, load Load) measured {
	b.Helper()
	load.Target = c.target()
	text, err := json.Marshal(load)
	if err != nil {
		b.Fatal(err)
	}
	before := c.cpu(b)
	var out, complaints bytes.Buffer
	cmd := h.Command([]string{loadVariable + "=" + string(text), "GOMAXPROCS=1"}, append(append([]string{}, onGeneratorCore...), os.Args[0])...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = ahead(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		b.Fatalf("generator: %v: %s", err, complaints.String())
	}
	m := measured{spent: c.cpu(b) - before}
	if err := json.Unmarshal(out.Bytes(), &m.Result); err != nil {
		b.Fatalf("generator: %v: %s", err, out.String())
	}
	return m
}

// answers waits until a server gives good replies.
func (c *contender) answers(b testing.TB, h *peers.Host) {
	b.Helper()
	peers.Eventually(b, 30*time.Second, c.name+" answers", func() error {
		m := apply(b, h, c, Load{Kind: KindPlain, Rate: 200, Duration: 100 * time.Millisecond, Burst: 1})
		if m.Received == 0 {
			return fmt.Errorf("%d sent, %d invalid", m.Sent, m.Invalid)
		}
		return nil
	})
}
