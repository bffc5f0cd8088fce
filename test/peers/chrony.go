package peers

import (
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Chrony is a chronyd that does not touch the clock (-x).
type Chrony struct {
	*Process
	chronyc Program
	socket  string
}

// Chronyd starts chrony's daemon on the host with these configuration lines; where its
// files and its control socket lie is added.
func Chronyd(t testing.TB, h *Host, conf string) *Chrony {
	t.Helper()
	env, argv := ChronydCommand(t, h, conf)
	c := &Chrony{chronyc: Unpack(t, "chrony", "usr/bin/chronyc"), socket: chronydSocket(h)}
	c.Process = h.Start("chronyd", env, argv...)
	return c
}

// ChronydCommand is the command that starts it, for who does that himself.
func ChronydCommand(t testing.TB, h *Host, conf string) (env, argv []string) {
	t.Helper()
	daemon := Unpack(t, "chrony", "usr/sbin/chronyd")
	conf += fmt.Sprintf("\npidfile %s\nbindcmdaddress %s\ncmdport 0\n", filepath.Join(h.Dir, "chronyd.pid"), chronydSocket(h))
	return daemon.Env(), []string{daemon.Path, "-x", "-d", "-u", "root", "-f", h.Write("chrony.conf", conf)}
}

func chronydSocket(h *Host) string { return filepath.Join(h.Dir, "chronyd.sock") }

// ChronyKeys writes a key file of chrony's form and gives its path. Lines are "ID TYPE
// HEX:..." or "ID TYPE ASCII:...".
func ChronyKeys(h *Host, lines ...string) string {
	return h.Write("chrony.keys", strings.Join(lines, "\n")+"\n")
}

// Chronyc asks the daemon and gives the answer's rows, in the numeric form of -n -c.
func (c *Chrony) Chronyc(args ...string) ([][]string, error) {
	argv := append([]string{c.chronyc.Path, "-h", c.socket, "-n", "-c"}, args...)
	out, complaints, err := c.Host.Run(c.chronyc.Env(), argv...)
	if err != nil {
		return nil, fmt.Errorf("chronyc %v: %w: %s%s", args, err, out, complaints)
	}
	r := csv.NewReader(strings.NewReader(out))
	r.FieldsPerRecord = -1
	return r.ReadAll()
}

// ChronySource is a row of `chronyc sources`.
type ChronySource struct {
	Mode    string // ^ server, = peer, # reference clock
	State   string // * selected, + combined, - not combined, ? unusable, x falseticker, ~ too variable
	Address string
	Stratum int
	Poll    int
	Reach   uint64
	Offset  time.Duration // positive: our clock is behind, as everywhere in timeball
}

// Sources are the daemon's.
func (c *Chrony) Sources() ([]ChronySource, error) {
	rows, err := c.Chronyc("sources")
	if err != nil {
		return nil, err
	}
	var sources []ChronySource
	for _, row := range rows {
		if len(row) < 10 {
			return nil, fmt.Errorf("chronyc sources: a row of %d columns: %q", len(row), row)
		}
		s := ChronySource{Mode: row[0], State: row[1], Address: row[2]}
		s.Stratum, _ = strconv.Atoi(row[3])
		s.Poll, _ = strconv.Atoi(row[4])
		s.Reach, _ = strconv.ParseUint(row[5], 8, 16)
		seconds, _ := strconv.ParseFloat(row[7], 64)
		s.Offset = -time.Duration(seconds * float64(time.Second))
		sources = append(sources, s)
	}
	return sources, nil
}

// Selects waits until chrony follows the source at that address, and gives its row.
func (c *Chrony) Selects(within time.Duration, address string) ChronySource {
	c.t.Helper()
	var row ChronySource
	Eventually(c.t, within, "chronyd selects "+address, func() error {
		sources, err := c.Sources()
		if err != nil {
			return err
		}
		for _, s := range sources {
			if s.Address == address && s.State == "*" {
				row = s
				return nil
			}
		}
		return fmt.Errorf("its sources: %+v", sources)
	})
	return row
}
