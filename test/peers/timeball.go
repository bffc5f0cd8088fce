package peers

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

var buildDir string

// Main runs a package's tests, and takes away what they have built. A package that runs
// timeball has it as its TestMain.
func Main(m *testing.M) {
	status := m.Run()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
	}
	os.Exit(status)
}

// Build gives the path of timeball's binary, made as the Makefile does, once for all tests
// of a package; TIMEBALL_BINARY names another one to be tried in its place.
var Build = sync.OnceValues(func() (path string, err error) {
	if path := os.Getenv("TIMEBALL_BINARY"); path != "" {
		return path, nil
	}
	if buildDir, err = os.MkdirTemp("", "timeball"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "timeball")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "timeball/cmd/timeball")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// Binary is what Build gives, or the end of the test.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Daemon is a timeball; a host has one at a time.
type Daemon struct{ *Process }

// Timeball starts timeball's daemon on the host with this configuration; its control
// socket is added. The words of by come before the program and must end in its place, as
// env(1), nice(1) and a shell's exec do.
func Timeball(t testing.TB, h *Host, conf string, by ...string) *Daemon {
	t.Helper()
	argv := append(by[:len(by):len(by)], Binary(t), "run", "--config", h.configure(conf))
	return &Daemon{h.Start("timeball", nil, argv...)}
}

// socket is where the daemon of a host is asked.
func (h *Host) socket() string { return filepath.Join(h.Dir, "timeball.sock") }

func (h *Host) configure(conf string) string {
	h.t.Helper()
	return h.Write("timeball.yaml", fmt.Sprintf("%s\ncontrol: {socket: %s}\n", conf, h.socket()))
}

// Socket is the path of the daemon's control socket.
func (d *Daemon) Socket() string { return d.Host.socket() }

// Configure puts another configuration in place, which the daemon reads on SIGHUP.
func (d *Daemon) Configure(conf string) {
	d.t.Helper()
	d.Host.configure(conf)
}

// Reload puts another configuration in place and waits until the daemon has taken it.
func (d *Daemon) Reload(conf string) {
	d.t.Helper()
	d.Configure(conf)
	const words = "configuration reloaded"
	before := d.Said(words)
	d.Signal(syscall.SIGHUP)
	Eventually(d.t, 20*time.Second, "the configuration is reloaded", func() error {
		if d.Said(words) == before {
			return fmt.Errorf("the last it said: %s", tail(d.Log(), 3))
		}
		return nil
	})
}

// Run runs a command of timeball's on the daemon's host, where it finds this daemon.
func (d *Daemon) Run(command ...string) (stdout, stderr string, err error) {
	return d.Host.Run([]string{"TIMEBALL_SOCKET=" + d.Socket()}, append([]string{Binary(d.t)}, command...)...)
}

// Report runs a command and decodes what it prints with --json.
func (d *Daemon) Report(answer any, command ...string) error {
	if ended, err := d.Ended(); ended {
		return fmt.Errorf("the daemon has ended: %v", err)
	}
	out, complaints, err := d.Run(append(command, "--json")...)
	if err != nil {
		return fmt.Errorf("timeball %v: %w: %s", command, err, complaints)
	}
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		return fmt.Errorf("timeball %v --json: %w: %q", command, err, out)
	}
	return nil
}

// Tracking is `timeball tracking --json`, as far as it is looked at.
type Tracking struct {
	Synchronized   bool
	State          string
	Stratum        int
	ReferenceID    string `json:"reference_id"`
	Frequency      float64
	FrequencyError float64 `json:"frequency_error"`
}

// Tracking asks how the daemon's clock does.
func (d *Daemon) Tracking() (answer Tracking, err error) {
	err = d.Report(&answer, "tracking")
	return answer, err
}

// Source is a row of `timeball sources --json`, as far as it is looked at.
type Source struct {
	Name, Address, Mode  string
	State, Reason        string
	Stratum, Poll, Reach int
	Samples              int
	Offset               *float64 // s
	ReferenceID          string   `json:"reference_id"`
	Dynamic              bool
}

func (s Source) String() string {
	offset := "-"
	if s.Offset != nil {
		offset = fmt.Sprintf("%.6f", *s.Offset)
	}
	return fmt.Sprintf("%s (%s) %s stratum %d refid %s reach %d samples %d offset %s: %s: %s",
		s.Name, s.Address, s.Mode, s.Stratum, s.ReferenceID, s.Reach, s.Samples, offset, s.State, s.Reason)
}

// At says whether the source is at that address, on whatever link and port.
func (s Source) At(a netip.Addr) bool {
	ap, err := netip.ParseAddrPort(s.Address)
	return err == nil && ap.Addr().Unmap().WithZone("") == a
}

// Sources are the daemon's.
func (d *Daemon) Sources() ([]Source, error) {
	var answer struct {
		Sources []Source `json:"sources"`
	}
	err := d.Report(&answer, "sources")
	return answer.Sources, err
}

// Has waits until the daemon has a source as wanted, and gives its row.
func (d *Daemon) Has(within time.Duration, what string, wanted func(Source) bool) (row Source) {
	d.t.Helper()
	Eventually(d.t, within, what, func() error {
		sources, err := d.Sources()
		if err != nil {
			return err
		}
		for _, row = range sources {
			if wanted(row) {
				return nil
			}
		}
		return fmt.Errorf("its sources: %v", sources)
	})
	return row
}

// Selects waits until the daemon has selected the source at that address, and gives its row.
func (d *Daemon) Selects(within time.Duration, address netip.Addr) Source {
	d.t.Helper()
	return d.Has(within, fmt.Sprintf("%s selects %v", d.Host.Name, address), func(s Source) bool {
		return s.At(address) && s.State == "selected"
	})
}

// Association is a row of `timeball associations --json`, as far as it is looked at.
type Association struct {
	Address  string
	Accepted int
	Rejected map[string]int // by the reason
}

// Associations are the daemon's.
func (d *Daemon) Associations() ([]Association, error) {
	var answer struct {
		Associations []Association `json:"associations"`
	}
	err := d.Report(&answer, "associations")
	return answer.Associations, err
}
