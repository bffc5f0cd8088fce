package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "timeball-interop"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(status)
}

// build makes the binary as the Makefile does, once for all tests; TIMEBALL_BINARY names
// another one to be tried in its place.
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

func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// timeball is a running daemon.
type timeball struct {
	*peers.Process
	t      testing.TB
	socket string
}

// start runs a daemon on the host with this configuration; its control socket is added.
func start(t testing.TB, h *peers.Host, config string, env ...string) *timeball {
	t.Helper()
	program := binary(t)
	d := &timeball{t: t, socket: filepath.Join(h.Dir, "timeball.sock")}
	d.Process = h.Start("timeball", env, program, "run", "--config", d.configure(h, config))
	return d
}

// configure writes the daemon's configuration file.
func (d *timeball) configure(h *peers.Host, config string) string {
	return h.Write("timeball.yaml", config+fmt.Sprintf("\ncontrol: {socket: %s}\n", d.socket))
}

// command runs a report of the daemon on its host.
func (d *timeball) command(args ...string) (stdout, stderr string, err error) {
	return d.Host.Run([]string{"TIMEBALL_SOCKET=" + d.socket}, append([]string{binary(d.t)}, args...)...)
}

// source is a row of `timeball sources --json`, as far as interfaces.md promises it.
type source struct {
	Name        string   `json:"name"`
	Address     string   `json:"address"`
	Mode        string   `json:"mode"`
	State       string   `json:"state"`
	Reason      string   `json:"reason"`
	Stratum     int      `json:"stratum"`
	Poll        int      `json:"poll"`
	Reach       int      `json:"reach"`
	Offset      *float64 `json:"offset"`
	Delay       *float64 `json:"delay"`
	ReferenceID string   `json:"reference_id"`
}

func (s source) String() string {
	number := func(p *float64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprintf("%.6f", *p)
	}
	return fmt.Sprintf("%s (%s) %s stratum %d refid %s reach %d offset %s: %s: %s",
		s.Name, s.Address, s.Mode, s.Stratum, s.ReferenceID, s.Reach, number(s.Offset), s.State, s.Reason)
}

func (d *timeball) sources() ([]source, error) {
	if ended, err := d.Ended(); ended {
		return nil, fmt.Errorf("the daemon has ended: %v", err)
	}
	out, complaints, err := d.command("sources", "--json")
	if err != nil {
		return nil, fmt.Errorf("timeball sources: %w: %s", err, complaints)
	}
	var answer struct {
		Sources []source `json:"sources"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("timeball sources --json: %w: %q", err, out)
	}
	return answer.Sources, nil
}

// at says whether a source is at that address, with or without a port.
func (s source) at(a netip.Addr) bool {
	if ap, err := netip.ParseAddrPort(s.Address); err == nil {
		return ap.Addr().Unmap() == a
	}
	addr, err := netip.ParseAddr(s.Address)
	return err == nil && addr.Unmap() == a
}

// small says whether an offset is under 1 ms.
func small(offset *float64) bool { return offset != nil && *offset < 1e-3 && *offset > -1e-3 }

// follows waits until the daemon's system peer is at that address, all of the last
// eight polls were answered, and the offset is under 1 ms; it gives the row.
func (d *timeball) follows(within time.Duration, server netip.Addr) source {
	d.t.Helper()
	return d.eventually(within, fmt.Sprintf("timeball follows %v", server), func(s source) bool {
		return s.at(server) && s.State == "selected" && s.Reach == 255 && small(s.Offset)
	})
}

// eventually waits for a source that is as wanted.
func (d *timeball) eventually(within time.Duration, what string, wanted func(source) bool) source {
	d.t.Helper()
	var row source
	peers.Eventually(d.t, within, what, func() error {
		sources, err := d.sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if wanted(s) {
				row = s
				return nil
			}
		}
		return fmt.Errorf("its sources: %v", sources)
	})
	return row
}

// request is a client's request of a version, with a transmit stamp that says who asks.
func request(version uint8, cookie uint64) []byte {
	h := wire.Header{Version: version, Mode: wire.ModeClient, Transmit: ntptime.Timestamp(cookie)}
	return h.Append(nil)
}

// ask sends a request from a host and gives the reply's header.
func ask(from *peers.Host, server netip.Addr, version uint8) (wire.Packet, error) {
	const cookie = 0x0123456789abcdef
	reply, err := from.Exchange(netip.AddrPortFrom(server, 123), request(version, cookie), time.Second)
	if err != nil {
		return wire.Packet{}, err
	}
	var p wire.Packet
	if defect := p.Decode(reply); defect != wire.DefectNone {
		return p, fmt.Errorf("a reply that does not decode: %v: %x", defect, reply)
	}
	if p.Origin != cookie {
		return p, fmt.Errorf("origin: got %x, want what was sent", p.Origin)
	}
	return p, nil
}

// serves waits until a server is synchronized and says so, asked from a host.
func serves(t testing.TB, from *peers.Host, server netip.Addr) wire.Packet {
	t.Helper()
	var p wire.Packet
	peers.Eventually(t, 30*time.Second, fmt.Sprintf("%v serves", server), func() (err error) {
		p, err = ask(from, server, 4)
		switch {
		case err != nil:
			return err
		case p.Mode != wire.ModeServer || p.Leap == wire.LeapUnknown || p.Stratum == 0:
			return fmt.Errorf("mode %v, leap %v, stratum %d", p.Mode, p.Leap, p.Stratum)
		}
		return nil
	})
	return p
}

// oneLine says what is wrong with what should be one line that says what to do.
func oneLine(text string) error {
	if trimmed := strings.TrimSuffix(text, "\n"); trimmed == "" || strings.Contains(trimmed, "\n") {
		return fmt.Errorf("got %q, want one line", text)
	}
	return nil
}

// status is a command's exit status, -1 when there is none.
func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// The configurations' common parts. The clock of a server only measures: its time is
// this machine's. That of a client starts wrong, and must come right.
const (
	serverConfig = "local: {stratum: 3}\nserver: {}\nclock: {driver: observe}\n"
	wrongClock   = "clock: {driver: virtual, virtual: {offset: 100ms, frequency: 20ppm}}\n"
	chronyServer = "local stratum 3\nallow all"
)

// quickSource is a client's source with fast polls.
func quickSource(server netip.Addr, more string) string {
	return fmt.Sprintf("sources: [{server: %q, min_poll: -2, max_poll: 0%s}]\n", server, more)
}

// trueError waits until a chronyd, which follows nobody, finds the server's time to be
// under 1 ms off this machine's: the clock of the host that timeball disciplines.
func trueError(t testing.TB, monitor *peers.Host, server netip.Addr) {
	t.Helper()
	c := peers.Chronyd(t, monitor, fmt.Sprintf("server %v minpoll 0 maxpoll 0 iburst noselect", server))
	peers.Eventually(t, 60*time.Second, fmt.Sprintf("the clock of %v is right", server), func() error {
		sources, err := c.Sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if s.Address == server.String() && s.Reach >= 0o17 && s.Offset.Abs() < time.Millisecond {
				return nil
			}
		}
		return fmt.Errorf("as chronyd sees it: %+v", sources)
	})
}
