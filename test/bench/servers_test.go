package bench

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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

// apart prepares a command that will run on a core in a session of its own, and so in a
// group of tasks of its own (sched(7), autogroup).
func apart(h *peers.Host, core, env []string, argv ...string) *exec.Cmd {
	cmd := h.Command(env, slices.Concat(core, argv)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// ahead puts a process's group before all others on its core; nice alone orders only the
// tasks within. A kernel without groups of tasks has no such file, and needs none.
func ahead(pid int) { _ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte("-20"), 0) }

// key is known to timeball and chronyd.
var key = Key{ID: 7, Secret: []byte("a 16 byte secret")}

// contender is a server under test.
type contender struct {
	*peers.Process
	name string
	port int
}

// start runs a server on its core until the benchmark ends.
func start(b testing.TB, h *peers.Host, name string, port int, env []string, argv ...string) *contender {
	b.Helper()
	c := &contender{h.StartCommand(name, apart(h, onServerCore, env, argv...)), name, port}
	ahead(c.Pid())
	return c
}

func (c *contender) target() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }

// startTimeball runs the whole daemon: access list, client log, statistics, keys, control
// socket. more is added to its server section.
func startTimeball(b testing.TB, h *peers.Host, name string, port int, more string) *contender {
	b.Helper()
	program, err := peers.Build()
	if err != nil {
		b.Fatal(err)
	}
	return startProgram(b, h, program, name, port, more)
}

// startProgram is startTimeball for a program that was built before.
func startProgram(b testing.TB, h *peers.Host, program, name string, port int, more string) *contender {
	b.Helper()
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
	keys := peers.ChronyKeys(h, fmt.Sprintf("%d AES128 HEX:%s", key.ID, hex.EncodeToString(key.Secret)))
	env, argv := peers.ChronydCommand(b, h, fmt.Sprintf("local stratum 1\nallow all\nport %d\nkeyfile %s", port, keys))
	return start(b, h, "chronyd", port, env, argv...)
}

func startReference(b testing.TB, h *peers.Host, address string, port int) *contender {
	b.Helper()
	program := filepath.Join(h.Dir, "reference")
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	if out, err := exec.Command(cc, "-O2", "-o", program, "testdata/reference.c").CombinedOutput(); err != nil {
		b.Skipf("the reference loop needs a C compiler: %v\n%s", err, out)
	}
	return start(b, h, "reference", port, nil, program, address, strconv.Itoa(port))
}

// resident is the memory in use, in MiB.
func (c *contender) resident() float64 { return float64(c.Memory()) / (1 << 20) }

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
	before := c.Worked()
	var out, complaints bytes.Buffer
	cmd := apart(h, onGeneratorCore, []string{loadVariable + "=" + string(text), "GOMAXPROCS=1"}, os.Args[0])
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err = cmd.Start(); err == nil {
		ahead(cmd.Process.Pid)
		err = cmd.Wait()
	}
	if err != nil {
		b.Fatalf("generator: %v: %s", err, complaints.String())
	}
	m := measured{spent: c.Worked() - before}
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
