package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// A client whose clock starts 100 ms and 20 ppm off follows chronyd, says so, and
// serves what it has: one stratum more, chronyd's address as reference id.
func TestTimeballFollowsChronyd(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
	peers.Chronyd(t, server, chronyServer)
	capture := peers.Listen(t, server)
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+"server: {}\n"+wrongClock)
	row := follows(t, d, 60*time.Second, server.IPv4)
	if row.Stratum != 3 || row.ReferenceID != "127.127.1.1" || row.Mode != "client" {
		t.Errorf("chronyd as timeball sees it: got %v, want client, stratum 3, refid 127.127.1.1", row)
	}
	reply := serves(t, monitor, client.IPv4)
	if want := wire.ReferenceAddress(server.IPv4); reply.Stratum != 4 || reply.ReferenceID != want || reply.Leap != wire.LeapNone {
		t.Errorf("what timeball serves: got stratum %d, refid %v, leap %v, want 4, %v, none", reply.Stratum, reply.ReferenceID, reply.Leap, want)
	}
	trueError(t, monitor, client.IPv4)
	checkMinimised(t, capture, client)
}

// checkMinimised looks at a client's requests on the wire (RFC 9109: a port of its own
// for each; draft data minimization: nothing that a server need not know).
func checkMinimised(t *testing.T, capture *peers.Capture, client *peers.Host) {
	t.Helper()
	ports, requests := map[uint16]bool{}, 0
	for _, p := range capture.Packets() {
		if p.From.Addr() != client.IPv4 || len(p.Payload) < wire.HeaderSize {
			continue
		}
		if _, mode := wire.Peek(p.Payload); mode != wire.ModeClient {
			continue
		}
		requests++
		ports[p.From.Port()] = true
	}
	if requests < 8 {
		t.Errorf("requests captured: got %d, want at least 8", requests)
	}
	// Two requests may draw the same port by chance; hardly more.
	if len(ports) < requests*3/4 {
		t.Errorf("source ports of %d requests: got %d, want a new one for each", requests, len(ports))
	}
	if ports[123] {
		t.Error("a request came from port 123")
	}
}

func TestTimeballFollowsChronydOverIPv6(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Chronyd(t, server, chronyServer)
	d := peers.Timeball(t, client, quickSource(server.IPv6, "")+wrongClock)
	if row := follows(t, d, 60*time.Second, server.IPv6); row.Stratum != 3 {
		t.Errorf("chronyd as timeball sees it: got %v, want stratum 3", row)
	}
}

func TestTimeballFollowsNTPsec(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
	peers.NTPsec(t, server, "tos orphan 2 orphanwait 1")
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+"server: {}\n"+wrongClock)
	row := follows(t, d, 90*time.Second, server.IPv4)
	if row.Stratum != 2 || row.ReferenceID != "127.0.0.1" {
		t.Errorf("ntpd as timeball sees it: got %v, want stratum 2, refid 127.0.0.1", row)
	}
	if reply := serves(t, monitor, client.IPv4); reply.Stratum != 3 || reply.Leap != wire.LeapNone {
		t.Errorf("what timeball serves: got stratum %d, leap %v, want 3, none", reply.Stratum, reply.Leap)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Chronyd(t, server, chronyServer)
	serves(t, client, server.IPv4)
	out, complaints, err := client.Run(nil, peers.Binary(t), "query", server.IPv4.String())
	if err != nil {
		t.Fatalf("query chronyd: %v: %s", err, complaints)
	}
	lower := strings.ToLower(out)
	for _, word := range []string{"offset", "delay", "stratum", "leap", "none", "127.127.1.1", "3"} {
		if !strings.Contains(lower, word) {
			t.Errorf("what query prints: got %q, want %q in it", out, word)
		}
	}
	// Both an address without a host and a port without a program.
	for _, target := range []string{"10.99.255.9", client.IPv4.String()} {
		_, complaints, err := client.Run(nil, "timeout", "30", peers.Binary(t), "query", target)
		if got := peers.ExitStatus(err); got != 1 {
			t.Errorf("status of a query that nobody answers: got %d, want 1", got)
		}
		if err := oneLine(complaints); err != nil {
			t.Errorf("complaint of a query that nobody answers: %v", err)
		}
	}
}

func TestWaitEndsOnceSynchronized(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+wrongClock)
	peers.Eventually(t, 20*time.Second, "the daemon answers", func() error { _, err := d.Sources(); return err })
	_, complaints, err := d.Run("wait", "--timeout", "1s")
	if got := peers.ExitStatus(err); got != 1 {
		t.Errorf("status of wait without a server: got %d, want 1", got)
	}
	if err := oneLine(complaints); err != nil {
		t.Errorf("complaint of wait: %v", err)
	}
	peers.Chronyd(t, server, chronyServer)
	if _, complaints, err := d.Run("wait", "--timeout", "90s", "--max-error", "50ms"); err != nil {
		t.Errorf("wait with a server: %v: %s", err, complaints)
	}
}

// A source that comes and goes: chronyd is stopped, timeball says so, and follows it
// again when it is back.
func TestTimeballLosesAndFindsChronyd(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	first := peers.Chronyd(t, server, chronyServer)
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+wrongClock)
	follows(t, d, 60*time.Second, server.IPv4)
	_, _ = first.Stop()
	d.Has(60*time.Second, "chronyd is unreachable", func(s peers.Source) bool { return s.Reach == 0 && s.State == "unreachable" })
	peers.Chronyd(t, server, chronyServer)
	follows(t, d, 60*time.Second, server.IPv4)
}

func TestSIGTERMEndsTheDaemonAndLeavesTheDrift(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Chronyd(t, server, chronyServer)
	drift := client.Dir + "/drift"
	clock := fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 10ms, frequency: 20ppm}, drift_file: %s}\n", drift)
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+clock)
	follows(t, d, 60*time.Second, server.IPv4)
	knowsFrequency(t, d, 90*time.Second, 20e-6)
	took, err := d.Stop()
	if err != nil { // which it is where Stop's patience was over
		t.Errorf("end on %v: got %v after %v, want a good end", syscall.SIGTERM, err, took)
	}
	if out, _, err := client.Run(nil, "cat", drift); err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("drift file: got %q, %v, want a frequency", out, err)
	}
}

// knowsFrequency waits until the daemon knows its clock's frequency within 1 ppm, s/s.
func knowsFrequency(t *testing.T, d *peers.Daemon, within time.Duration, want float64) {
	t.Helper()
	peers.Eventually(t, within, "timeball knows its frequency", func() error {
		answer, err := d.Tracking()
		if err != nil {
			return err
		}
		if off := math.Abs(math.Abs(answer.Frequency) - want); answer.FrequencyError <= 0 || answer.FrequencyError > 1e-6 || off > 2e-6 {
			return fmt.Errorf("frequency %g ± %g, want a correction of %g", answer.Frequency, answer.FrequencyError, want)
		}
		return nil
	})
}

func TestMetricsPassPromtool(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	peers.Chronyd(t, server, chronyServer)
	d := peers.Timeball(t, client, quickSource(server.IPv4, "")+"server: {}\nmetrics: {listen: 127.0.0.1:9123}\n"+wrongClock)
	follows(t, d, 60*time.Second, server.IPv4)
	if _, err := ask(client, client.IPv4, 3); err != nil {
		t.Errorf("a request to count: %v", err)
	}
	page := fetch(t, client, "http://127.0.0.1:9123/metrics")
	if err := peers.CheckMetrics(t, page); err != nil {
		t.Error(err)
	}
	peers.Eventually(t, time.Minute, "the request is counted, and the daemon synchronized", func() error {
		page = fetch(t, client, "http://127.0.0.1:9123/metrics")
		if !strings.Contains(page, "ntp_server_packets_total") || !strings.Contains(page, "ntp_system_synchronized 1") {
			return errors.New("not yet")
		}
		return nil
	})
	for _, name := range []string{
		"ntp_build_info", "ntp_uptime_seconds", "ntp_system_synchronized 1", "ntp_system_offset_seconds",
		"ntp_system_frequency_ratio", "ntp_system_jitter_seconds", "ntp_system_error_bound_seconds",
		"ntp_source_state", "ntp_source_stratum", "ntp_source_reachability_ratio", "ntp_server_packets_total",
	} {
		if !strings.Contains(page, name) {
			t.Errorf("metrics: %s is not there", name)
		}
	}
}

// fetch gets a page from a server on the host itself.
func fetch(t *testing.T, h *peers.Host, url string) string {
	t.Helper()
	client := http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return h.Dial(network, address)
		}},
	}
	defer client.CloseIdleConnections()
	reply, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	page, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %s, %v", url, reply.Status, err)
	}
	return string(page)
}

// Among one that lies by a second and two that do not, the liar is found out.
func TestTimeballFindsTheFalseticker(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	client := lab.Host("client")
	var lines []string
	for i := range 2 {
		h := lab.Host(fmt.Sprintf("true%d", i))
		peers.Chronyd(t, h, chronyServer)
		lines = append(lines, fmt.Sprintf("  - {server: %v, min_poll: -2, max_poll: 0}", h.IPv4))
	}
	liar := lab.Host("liar")
	peers.Timeball(t, liar, "local: {stratum: 3}\nserver: {}\nclock: {driver: virtual, virtual: {offset: 1s}}\n")
	lines = append(lines, fmt.Sprintf("  - {server: %v, min_poll: -2, max_poll: 0}", liar.IPv4))
	d := peers.Timeball(t, client, "sources:\n"+strings.Join(lines, "\n")+"\n"+wrongClock)
	d.Has(60*time.Second, "the liar is found out", func(s peers.Source) bool { return s.At(liar.IPv4) && s.State == "falseticker" })
	d.Has(60*time.Second, "a true one is followed", func(s peers.Source) bool { return s.State == "selected" && !s.At(liar.IPv4) && small(s.Offset) })
	out, complaints, err := d.Run("explain", liar.IPv4.String())
	if err != nil || !strings.Contains(out, "falseticker") {
		t.Errorf("explain: got %q, %v, %s, want the word falseticker", out, err, complaints)
	}
}
