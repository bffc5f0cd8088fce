package modes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/test/peers"
)

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "timeball-modes"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(status)
}

// build makes the binary once for all tests; TIMEBALL_BINARY names another one to be
// tried in its place.
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

func program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// daemon is a running timeball.
type daemon struct {
	*peers.Process
	t      testing.TB
	path   string // of its configuration
	socket string
	begun  time.Time
}

// start runs a daemon on the host with this configuration; its control socket is added.
func start(t testing.TB, h *peers.Host, config string) *daemon {
	t.Helper()
	d := &daemon{t: t, socket: filepath.Join(h.Dir, "timeball.sock")}
	d.configure(h, config)
	d.begun = time.Now()
	d.Process = h.Start("timeball", nil, program(t), "run", "--config", d.path)
	return d
}

func (d *daemon) configure(h *peers.Host, config string) {
	d.path = h.Write("timeball.yaml", config+fmt.Sprintf("\ncontrol: {socket: %s}\n", d.socket))
}

// report runs a command of the daemon on its host and decodes what it prints.
func (d *daemon) report(answer any, command ...string) error {
	if ended, err := d.Ended(); ended {
		return fmt.Errorf("the daemon has ended: %v", err)
	}
	argv := append([]string{program(d.t)}, command...)
	out, complaints, err := d.Host.Run([]string{"TIMEBALL_SOCKET=" + d.socket}, append(argv, "--json")...)
	if err != nil {
		return fmt.Errorf("timeball %v: %w: %s", command, err, complaints)
	}
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		return fmt.Errorf("timeball %v --json: %w: %q", command, err, out)
	}
	return nil
}

// source is a row of `timeball sources --json`.
type source struct {
	Name        string  `json:"name"`
	Address     string  `json:"address"`
	Mode        string  `json:"mode"`
	State       string  `json:"state"`
	Reason      string  `json:"reason"`
	Stratum     int     `json:"stratum"`
	Poll        int     `json:"poll"`
	Reach       int     `json:"reach"`
	Offset      float64 `json:"offset"`
	Samples     int     `json:"samples"`
	Key         int     `json:"key"`
	ReferenceID string  `json:"reference_id"`
	Dynamic     bool    `json:"dynamic"`
}

func (s source) String() string {
	return fmt.Sprintf("%s (%s) %s stratum %d refid %s reach %d samples %d offset %.6f: %s: %s",
		s.Name, s.Address, s.Mode, s.Stratum, s.ReferenceID, s.Reach, s.Samples, s.Offset, s.State, s.Reason)
}

// at says whether a source is at that address.
func (s source) at(a netip.Addr) bool {
	ap, err := netip.ParseAddrPort(s.Address)
	return err == nil && ap.Addr().Unmap().WithZone("") == a
}

func (d *daemon) sources() ([]source, error) {
	var answer struct {
		Sources []source `json:"sources"`
	}
	err := d.report(&answer, "sources")
	return answer.Sources, err
}

// follows waits until the daemon has selected the source at an address.
func (d *daemon) follows(within time.Duration, server netip.Addr) source {
	d.t.Helper()
	return d.has(within, fmt.Sprintf("%s follows %v", d.Host.Name, server), func(s source) bool {
		return s.at(server) && s.State == "selected"
	})
}

// has waits for a source that is as wanted.
func (d *daemon) has(within time.Duration, what string, wanted func(source) bool) source {
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

// association is a row of `timeball associations --json`.
type association struct {
	Address  string         `json:"address"`
	Mode     string         `json:"mode"`
	Dynamic  bool           `json:"dynamic"`
	Reach    int            `json:"reach"`
	Sent     int            `json:"sent"`
	Accepted int            `json:"accepted"`
	Rejected map[string]int `json:"rejected"`
}

func (d *daemon) associations() ([]association, error) {
	var answer struct {
		Associations []association `json:"associations"`
	}
	err := d.report(&answer, "associations")
	return answer.Associations, err
}

// tracking is `timeball tracking --json`.
type tracking struct {
	Synchronized bool    `json:"synchronized"`
	State        string  `json:"state"`
	Address      string  `json:"address"`
	Stratum      int     `json:"stratum"`
	ReferenceID  string  `json:"reference_id"`
	Offset       float64 `json:"offset"`
	Steps        int     `json:"steps"`
}

func (d *daemon) tracking() (tracking, error) {
	var answer tracking
	err := d.report(&answer, "tracking")
	return answer, err
}

// memory is the daemon's resident memory in octets.
func (d *daemon) memory() int {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.Pid()), "statm"))
	if err != nil {
		d.t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		d.t.Fatalf("statm: got %q, want at least two numbers", text)
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		d.t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// within looks at something again and again for a while; the first error ends it.
func within(during time.Duration, look func() error) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(during); time.Now().Before(end); <-ticker.C {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// exitStatus is a command's exit status, -1 when there is none.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// The configurations' common parts: a server whose time is this machine's, and a clock
// that starts wrong.
const (
	reference  = "local: {stratum: 3}\nclock: {driver: observe}\n"
	wrongClock = "clock: {driver: virtual, virtual: {offset: 100ms, frequency: 20ppm}}\n"
)
