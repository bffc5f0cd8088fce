package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// ntpq -p and ntpq -c rv understand timeball, from its own host and from one that has
// the right to query.
func TestNTPQAsksTimeball(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
	peers.Chronyd(t, server, chronyServer)
	ntpq := peers.NTPQ(t)
	access := "server: {access: {peer: [10.99.0.0/16, 127.0.0.0/8]}}\n"
	// This ntpq does not live through a poll exponent below 0.
	source := fmt.Sprintf("sources: [{server: %v, min_poll: 0, max_poll: 0}]\n", server.IPv4)
	d := peers.Timeball(t, client, source+access+wrongClock)
	follows(t, d, 60*time.Second, server.IPv4)
	for _, from := range []*peers.Host{client, monitor} {
		address := client.IPv4.String()
		if from == client {
			address = "127.0.0.1"
		}
		t.Run("from "+from.Name, func(t *testing.T) { checkNTPQ(t, ntpq, from, address, server) })
	}
}

func checkNTPQ(t *testing.T, ntpq peers.NTPTools, from *peers.Host, address string, server *peers.Host) {
	rows, err := ntpq.Peers(from, address)
	if err != nil {
		t.Fatal(err)
	}
	// Columns: refid, stratum, type, when, poll, reach, delay, offset, jitter.
	if len(rows) != 1 || rows[0].Tally != "*" || rows[0].Remote != server.IPv4.String() ||
		len(rows[0].Fields) < 9 || rows[0].Fields[1] != "3" || rows[0].Fields[5] != "377" {
		t.Errorf("ntpq -p: got %q, want one system peer %v of stratum 3, reach 377", rows, server.IPv4)
	}
	out, err := ntpq.Ask(from, "-n", "-c", "rv", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"stratum=4", "refid=" + server.IPv4.String(), "leap_none", "rootdelay=", "rootdisp=", "offset=", "frequency=", "version="} {
		if !strings.Contains(out, word) {
			t.Errorf("ntpq -c rv: %q is not in %q", word, out)
		}
	}
}

// By default only the host itself may ask.
func TestNTPQIsRefusedFromElsewhere(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	ntpq := peers.NTPQ(t)
	peers.Timeball(t, server, serverConfig)
	serves(t, client, server.IPv4)
	if out, err := ntpq.Ask(client, "-n", "-c", "rv", server.IPv4.String()); err == nil && strings.Contains(out, "stratum=") {
		t.Errorf("ntpq from elsewhere: got %q, want nothing", out)
	}
	if out, err := ntpq.Ask(server, "-n", "-c", "rv", "127.0.0.1"); err != nil || !strings.Contains(out, "stratum=3") {
		t.Errorf("ntpq at the host: got %q, %v, want stratum=3", out, err)
	}
}

// Symmetric associations are seen by ntpq too: one from configuration.
func TestNTPQSeesAPeer(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	ours, theirs := lab.Host("ours"), lab.Host("theirs")
	ntpq := peers.NTPQ(t)
	peers.Chronyd(t, theirs, chronyServer)
	peers.Timeball(t, ours, fmt.Sprintf("sources: [{peer: %v, unauthenticated: true, min_poll: 0, max_poll: 0}]\nserver: {}\n%s", theirs.IPv4, wrongClock))
	peers.Eventually(t, 60*time.Second, "ntpq -p shows the peer", func() error {
		rows, err := ntpq.Peers(ours, "127.0.0.1")
		if err != nil || len(rows) != 1 || rows[0].Remote != theirs.IPv4.String() {
			return fmt.Errorf("got %q, %v, want %v", rows, err, theirs.IPv4)
		}
		return nil
	})
}
