package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"timeball/test/peers"
)

// Each step of the start is made to fail: one line says what to do, the status is 1, and
// nothing is left behind.
func TestEachStepOfTheStartThatFails(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const virtual = "clock: {driver: virtual}\n"
	for _, tt := range []struct {
		name, config string

		words string
	}{
		{"the right to set the clock", "local: {stratum: 3}\nclock: {driver: kernel}\n", "CAP_SYS_TIME"},
		{"keys that others may read", virtual + "keys: " + file("keys", "[]\n", 0o644) + "\n", "chmod"},
		{"no keys", virtual + "keys: " + dir + "/none\n", "does not exist"},
		{"timestamps of a card that has none", virtual + "hardware_timestamps: [lo]\nlocal: {}\nserver: {listen: ['127.0.0.1:0']}\n", "hardware timestamps on lo"},
		{"a port of another", virtual + "local: {}\nserver: {listen: ['" + busyPort(t) + "']}\n", "in use"},
		{"a port that takes a right", virtual + "local: {}\nserver: {listen: ['127.0.0.1:123']}\n", "CAP_NET_BIND_SERVICE"},
		{"an address that is none of a host", virtual + "local: {}\nserver: {listen: ['224.0.1.1:1123']}\n", "224.0.1.1"},
		{"metrics where another listens", virtual + "metrics: {listen: '" + busy.Addr().String() + "'}\n", "metrics.listen"},
		{"a control socket in a file's place", virtual + "control: {socket: " + file("plain", "", 0o600) + "}\n", "is no socket"},
		{"a control socket without a directory", virtual + "control: {socket: " + dir + "/none/none/socket}\n", "control socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); tt.name == "a port that takes a right" && err == nil {
				if port, err := strconv.Atoi(strings.TrimSpace(string(first))); err == nil && port <= 123 {
					t.Skip("port 123 takes no right here: ip_unprivileged_port_start is ", port)
				}
			}
			h := peers.Here(t)
			config := h.Write("t.yaml", tt.config+map[bool]string{false: "control: {socket: " + h.Dir + "/s}\n"}[strings.Contains(tt.config, "control:")])
			cmd := exec.Command(peers.Binary(t), "run", "--config", config)
			if os.Geteuid() == 0 {
				cmd = exec.Command("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", peers.Binary(t), "run", "--config", config)
			}
			p := h.StartCommand("timeball", cmd)
			if got := p.Ends(patience); got != 1 {
				t.Errorf("exit status %d, want 1", got)
			}
			var lines []string
			for line := range strings.Lines(p.Log()) {
				if !strings.Contains(line, "\tWARN\tconfiguration: ") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], tt.words) {
				t.Errorf("got %q, want one line with %q", lines, tt.words)
			}
			if _, err := os.Stat(h.Dir + "/s"); err == nil {
				t.Error("the control socket is left behind")
			}
		})
	}
}

// busyPort is an address that somebody listens at.
func busyPort(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return fmt.Sprint(conn.LocalAddr())
}

// Where the control socket's default place cannot be written to, or is on a file system that
// is mounted read-only, the daemon runs without it; and check tells of state that cannot be kept.
func TestAReadOnlyRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system read-only")
	}
	h := peers.Here(t)
	at, state := freePort(t), t.TempDir()
	config := h.Write("t.yaml", serverConfig(at, "0s")+"log: {level: info}\n")
	keeping := h.Write("keeping.yaml", fmt.Sprintf("clock: {driver: observe, state_dir: %[1]s, drift_file: %[1]s/below/drift}\nlocal: {}\nstatistics: {directory: %[1]s/new/one}\n", state))
	inside := func(program string) *exec.Cmd {
		script := "mount -t tmpfs -o ro none /run && mount -t tmpfs -o ro none " + state + " && exec " + program
		return exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	}
	if out, err := inside("true").CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %s", out)
	}
	p := &daemon{&peers.Daemon{Process: h.StartCommand("timeball", inside(peers.Binary(t)+" run --config "+config))}, t}
	p.Says(patience, "timeball runs")
	p.Says(patience, "no control socket, so no reports")
	p.until("served", func() bool { return p.answers(at) })
	out, err := inside(peers.Binary(t) + " check --config " + keeping).CombinedOutput()
	for _, want := range []string{"clock.state_dir: " + state + " cannot be written to (read-only file system)", "clock.drift_file: " + state + "/below does not exist",
		"statistics.directory: the daemon will not start: " + state + " cannot be written to"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("check: got %v, %s; want %q", err, out, want)
		}
	}
}

// An interface that is to timestamp and is not there yet ends nothing, and is told.
func TestHardwareTimestampsOnAnInterfaceThatIsNotThere(t *testing.T) {
	t.Parallel()
	h := peers.Here(t)
	config := h.Write("t.yaml", "clock: {driver: observe}\ncontrol: {socket: ''}\nhardware_timestamps: [nosuch0]\n")
	p := h.StartCommand("timeball", exec.Command(peers.Binary(t), "run", "--config", config))
	p.Says(patience, "no hardware timestamps on an interface that this machine does not have")
	p.Says(patience, "timeball runs")
}

func TestCheckTellsOfInterfacesThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, want string }{
		{`sources: [{server: "fe80::1%nosuch0"}]`, "sources[0]: "},
		{`sources: [{pool: pool.ntp.org}, {server: "[fe80::1%nosuch0]:1123"}]`, "sources[1]: "},
		{`sources: [{peer: "fe80::1%nosuch0", unauthenticated: true}]`, "sources[0]: "},
		{`sources: [{broadcast_client: {interface: nosuch0}, unauthenticated: true}]`, "sources[0].interface: "},
		{`sources: [{multicast_client: {group: "ff02::101", interface: nosuch0}, unauthenticated: true}]`, "sources[0].interface: "},
		{`server: {listen: [":123", "[fe80::1%nosuch0]:1123"]}`, "server.listen[1]: "},
		{`server: {broadcast: [{address: 192.0.2.255, interface: nosuch0, unauthenticated: true}]}`, "server.broadcast[0].interface: "},
		{`server: {multicast: [{group: 224.0.1.1, interface: nosuch0, unauthenticated: true}]}`, "server.multicast[0].interface: "},
		{`metrics: {listen: "[fe80::1%nosuch0]:9123"}`, "metrics.listen: "},
	} {
		h := peers.Here(t)
		config := h.Write("t.yaml", "clock: {driver: observe}\ncontrol: {socket: ''}\n"+test.config+"\n")
		out, err := exec.Command(peers.Binary(t), "check", "--config", config).CombinedOutput()
		if want := test.want + "this machine has no interface nosuch0 now"; err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: got %v, %s; want %q", test.config, err, out, want)
		}
	}
	h := peers.Here(t)
	config := h.Write("t.yaml", "clock: {driver: observe}\ncontrol: {socket: ''}\nsources: [{server: \"fe80::1%lo\"}, {server: \"fe80::2%1\"}]\n")
	if out, _ := exec.Command(peers.Binary(t), "check", "--config", config).CombinedOutput(); strings.Contains(string(out), "no interface") {
		t.Errorf("got %s; lo is there, and is number 1", out)
	}
}
