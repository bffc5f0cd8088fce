package interop

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// chronyc is a chronyc that asks a timeball.
type chronyc struct {
	t    *testing.T
	host *peers.Host
	env  []string
	argv []string
}

// ask runs one report, by UDP or by the socket.
func (c *chronyc) ask(how []string, command ...string) (string, error) {
	argv := append(append(append(c.argv[:len(c.argv):len(c.argv)], how...), "-n"), command...)
	out, complaint, err := c.host.Run(c.env, argv...)
	if err != nil || strings.Contains(out, "506 Cannot talk") {
		return out, fmt.Errorf("chronyc %v: %v: %s%s", command, err, out, complaint)
	}
	return out, nil
}

// row is one line of machine-readable output.
func (c *chronyc) row(how []string, command ...string) []string {
	c.t.Helper()
	out, err := c.ask(append(how, "-c"), command...)
	if err != nil {
		c.t.Fatal(err)
	}
	first, _, _ := strings.Cut(out, "\n")
	return strings.Split(first, ",")
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Errorf("%q is not a number", text)
	}
	return v
}

// Real chronyc of Debian 12 and of Debian 13 see timeball as a chronyd, by its socket and
// by UDP: every report, and the figures are those of timeball's own.
func TestChronycSeesTimeball(t *testing.T) {
	old := peers.Unpack(t, "chrony", "usr/bin/chronyc")
	t.Run("4.3", func(t *testing.T) { chronycSees(t, old.Env(), []string{old.Path}) })
	t.Run("4.6.1", func(t *testing.T) {
		newer := peers.UnpackNewer(t, "usr/bin/chronyc", "chrony", "libc6", "libedit2", "libnettle8t64", "libgnutls30t64", "libcap2",
			"libseccomp2", "libtinfo6", "libbsd0", "libmd0")
		chronycSees(t, nil, newer.Argv())
	})
}

func chronycSees(t *testing.T, env, argv []string) {
	server := peers.Here(t)
	at := "127.8.0." + strconv.Itoa(10+len(argv)) // one for each version
	peers.Timeball(t, server, fmt.Sprintf("clock: {driver: virtual, virtual: {frequency: 40ppm}}\nlocal: {stratum: 3}\nserver: {listen: [\"%s:11123\"]}\n", at))
	host := peers.Here(t)
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	conn.Close()
	socket := filepath.Join(host.Dir, "chronyd.sock")
	conf := fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 30ms}}\nsources:\n- {server: \"%[1]s:11123\", min_poll: -1, max_poll: 0, prefer: true}\n"+
		"- {server: 127.8.0.99, no_select: true}\n- {server: nowhere.invalid}\nserver: {listen: [\"%[1]s:11124\"], access: {server: [10.0.0.0/8, {networks: [10.2.0.0/16], deny: true}, \"2001:db8::/32\"]}}\n", at)
	text := host.Write("timeball.yaml", conf+fmt.Sprintf("control: {socket: %s, chrony_socket: %s, chrony_port: %d}\n", filepath.Join(host.Dir, "timeball.sock"), socket, port))
	d := &peers.Daemon{Process: host.Start("timeball", nil, peers.Binary(t), "run", "--config", text)}
	follows(t, d, 30*time.Second, netipOf(at))
	time.Sleep(3 * time.Second) // a few polls at rest
	follows(t, d, time.Minute, netipOf(at))
	c := &chronyc{t: t, host: host, env: env, argv: argv}
	for name, how := range map[string][]string{"UDP": {"-h", "127.0.0.1", "-p", strconv.Itoa(port)}, "socket": {"-h", socket}} {
		for _, report := range []string{"tracking", "sources", "sourcestats", "selectdata", "ntpdata", "authdata", "activity", "serverstats", "clients", "manual list"} {
			out, err := c.ask(how, strings.Fields(report)...)
			if err != nil || out == "" || strings.Contains(out, "Not authorised") || strings.Contains(out, "mismatch") {
				t.Errorf("%s by %s: got %q, %v", report, name, out, err)
			}
		}
		for _, change := range []string{"makestep", "offline", "burst 1/2", "add server 192.0.2.1", "settime 12:00", "allow all", "shutdown", "rekey", "reload sources"} {
			if out, _ := c.ask(how, strings.Fields(change)...); !strings.Contains(out, "Not authorised") && !strings.Contains(out, "Invalid") {
				t.Errorf("%s by %s: got %q, want it refused", change, name, out)
			}
		}
		c.compare(how, d, at)
		c.access(how)
		c.unresolved(how)
	}
}

// compare holds chronyc's figures beside timeball's.
func (c *chronyc) compare(how []string, d *peers.Daemon, at string) {
	c.t.Helper()
	type figures struct {
		Stratum        int
		Leap           string
		Offset         float64
		Frequency      float64
		FrequencyError float64 `json:"frequency_error"`
		RootDelay      float64 `json:"root_delay"`
		RootDispersion float64 `json:"root_dispersion"`
		PollInterval   float64 `json:"poll_interval"`
		ReferenceTime  float64 `json:"reference_time"`
	}
	// Both are asked for one state: what timeball has before and after chronyc has asked.
	var ours figures
	var row []string
	peers.Eventually(c.t, time.Minute, "chronyc's report between two of timeball's that are alike", func() error {
		var after figures
		if err := d.Report(&ours, "tracking"); err != nil {
			return err
		}
		row = c.row(how, "tracking")
		if err := d.Report(&after, "tracking"); err != nil {
			return err
		}
		if ours.ReferenceTime != after.ReferenceTime || math.Abs(ours.RootDispersion-after.RootDispersion) > 0.5e-3 {
			return fmt.Errorf("%+v, then %+v", ours, after)
		}
		return nil
	})
	near := func(what, got string, want, within float64) {
		c.t.Helper()
		if g := number(c.t, got); math.Abs(g-want) > within {
			c.t.Errorf("%s: chronyc has %s, timeball %g", what, got, want)
		}
	}
	if row[1] != at || row[len(row)-1] != "Normal" {
		c.t.Errorf("tracking: got %v, want the reference %s and leap Normal", row, at)
	}
	near("stratum", row[2], float64(ours.Stratum), 0)
	near("reference time", row[3], ours.ReferenceTime, 3)
	near("system time", row[4], ours.Offset, 100e-6)
	near("frequency, positive if fast", row[7], -ours.Frequency*1e6, 2)
	near("skew", row[9], ours.FrequencyError*1e6, 2)
	near("root delay", row[10], ours.RootDelay, 1e-3)
	near("root dispersion", row[11], ours.RootDispersion, 1e-3)
	near("update interval", row[12], ours.PollInterval, 1)
	if math.Abs(ours.Frequency*1e6) < 20 {
		c.t.Errorf("frequency: got %g, want some 40 ppm, so that its sign is tried", ours.Frequency)
	}
	sources, err := d.Sources()
	if err != nil {
		c.t.Fatal(err)
	}
	var source []string
	peers.Eventually(c.t, time.Minute, "chronyc's row of the source", func() error {
		if source = c.row(how, "sources"); source[0] != "^" || source[1] != "*" || source[2] != at || source[5] != "377" {
			return fmt.Errorf("got %v, want ^,*,%s and reach 377", source, at)
		}
		return nil
	})
	near("stratum of the source", source[3], float64(sources[0].Stratum), 0)
	if data := c.row(how, "ntpdata", at); data[0] != at || data[3] != "127.0.0.1" {
		c.t.Errorf("ntpdata: got %v, want it from %s to our own address 127.0.0.1", data, at)
	}
	if activity := c.row(how, "activity"); activity[0] != "2" || activity[4] != "1" {
		c.t.Errorf("activity: got %v, want 2 online and 1 unresolved", activity)
	}
}

// access holds what chronyc says of who is served beside the access lists.
func (c *chronyc) access(how []string) {
	c.t.Helper()
	for _, tt := range [][2]string{
		{"accheck 10.1.2.3", "208 Access allowed"}, {"accheck 10.2.0.1", "209 Access denied"}, {"accheck 192.0.2.1", "209 Access denied"},
		{"accheck 2001:db8::7", "208 Access allowed"}, {"accheck 2001:db9::7", "209 Access denied"},
		{"cmdaccheck 127.0.0.1", "208 Access allowed"}, {"cmdaccheck ::1", "208 Access allowed"}, {"cmdaccheck 10.1.2.3", "209 Access denied"},
	} {
		if out, err := c.ask(how, strings.Fields(tt[0])...); err != nil || strings.TrimSpace(out) != tt[1] {
			c.t.Errorf("%s: got %q, %v, want %q", tt[0], out, err, tt[1])
		}
	}
}

// unresolved looks for the name without an address where all sources are asked for, and
// only there.
func (c *chronyc) unresolved(how []string) {
	c.t.Helper()
	for _, report := range []string{"sources", "sourcestats", "selectdata", "authdata"} {
		out, err := c.ask(how, report)
		all, allErr := c.ask(how, report, "-a")
		if err != nil || allErr != nil || strings.Contains(out, "ID#") || strings.Count(all, "ID#") != 1 || strings.Count(all, "\n") != strings.Count(out, "\n")+1 {
			c.t.Errorf("%s without and with -a: got %q, %v and %q, %v, want one row more, of a name without an address", report, out, err, all, allErr)
		}
		_, number, found := strings.Cut(all, "ID#")
		if !found {
			continue
		}
		number, _, _ = strings.Cut(number, " ")
		if name, err := c.ask(how, "sourcename", "ID#"+number); err != nil || strings.TrimSpace(name) != "nowhere.invalid" {
			c.t.Errorf("sourcename ID#%s: got %q, %v, want nowhere.invalid", number, name, err)
		}
	}
}

func netipOf(text string) netip.Addr { return netip.MustParseAddr(text) }
