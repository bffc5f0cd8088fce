package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/wire"
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
	// Columns: refid, stratum, type, when, poll, reach, delay, offset, jitter.
	peers.Eventually(t, time.Minute, "ntpq -p", func() error { // a poll may have been lost
		rows, err := ntpq.Peers(from, address)
		if err != nil || len(rows) != 1 || rows[0].Tally != "*" || rows[0].Remote != server.IPv4.String() ||
			len(rows[0].Fields) < 9 || rows[0].Fields[1] != "3" || rows[0].Fields[5] != "377" {
			return fmt.Errorf("got %q, %v, want one system peer %v of stratum 3, reach 377", rows, err, server.IPv4)
		}
		return nil
	})
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

// Every report of ntpq works: none ends with an error or lacks a number, and what they say
// is so. The daemon tells nobody the time (only `query` is set), and answers them all.
func TestNTPQReports(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
	peers.Chronyd(t, server, chronyServer)
	ntpq := peers.NTPQ(t)
	access := "server: {access: {query: [10.99.0.0/16, 127.0.0.0/8]}}\n"
	source := fmt.Sprintf("sources: [{server: %v, min_poll: 0, max_poll: 0}, {server: 10.99.255.254}]\n", server.IPv4)
	d := peers.Timeball(t, client, source+access+wrongClock)
	follows(t, d, 60*time.Second, server.IPv4)
	if _, err := monitor.Exchange(netip.AddrPortFrom(client.IPv4, 123), timeQuestion(), time.Second); err == nil {
		t.Error("with `query` alone somebody was told the time")
	}
	at := client.IPv4.String()
	for _, test := range []struct {
		command string
		words   []string
	}{
		{"sysinfo", []string{"system peer:", server.IPv4.String() + ":123", "system peer mode:", "client", "root distance", "clock jitter:"}},
		{"kerninfo", []string{"pll offset:", "maximum error:", "kernel status:", "frequency tolerance:", "stability exceeded:"}},
		{"sysstats", []string{"uptime:", "control requests:", "packets received:", "restricted:", "processed for time:"}},
		{"iostats", []string{"receive buffers:", "dropped packets:", "packets sent:", "packet send failures:"}},
		{"monstats", []string{"enabled:", "addresses in use:", "maximum addresses:", "kilobytes:"}},
		{"authinfo", []string{"stored keys:", "key lookups:"}},
		{"ntsinfo", []string{"NTS KE serves good:"}},
		{"timerstats", []string{"time since reset:", "calls to transmit:"}},
		{"pstats &1", []string{"remote host:", server.IPv4.String(), "time last received:", "packets sent:", "candidate order:"}},
		{"rv &1", []string{"srcadr=" + server.IPv4.String(), "hpoll=0", "reach=377"}},
		{"rv &2", []string{"srcadr=10.99.255.254", "hpoll=6", "ppoll=6"}},
		{"as", []string{"sys.peer"}},
		{"lpeers", []string{"10.99.255.254"}},
		{"opeers", []string{server.IPv4.String()}},
	} {
		// A poll may be lost, and an answer: ntpq waits five seconds for it.
		peers.Eventually(t, time.Minute, fmt.Sprintf("ntpq -c %q", test.command), func() error {
			out, err := ntpq.Ask(monitor, "-n", "-c", "as", "-c", test.command, at)
			if err != nil {
				return err
			}
			for _, bad := range []string{"???", "Traceback", "***", "Unknown", "unexpected"} {
				if strings.Contains(out, bad) {
					return fmt.Errorf("%q in\n%s", bad, out)
				}
			}
			for _, word := range test.words {
				if !strings.Contains(out, word) {
					return fmt.Errorf("%q is not in\n%s", word, out)
				}
			}
			return nil
		})
	}
}

// ntpq reads the list of clients, from this host and from another that has the right.
func TestNTPQReadsTheListOfClients(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client, monitor := lab.Host("server"), lab.Host("client"), lab.Host("monitor")
	ntpq := peers.NTPQ(t)
	peers.Timeball(t, server, "server: {access: {server: [0.0.0.0/0, \"::/0\"]}, client_log: {size: 1000}}\nlocal: {stratum: 3}\n"+wrongClock)
	serves(t, client, server.IPv4)
	question := timeQuestion()
	for range 4 {
		peers.Eventually(t, time.Minute, "an answer", func() error {
			_, err := client.Exchange(netip.AddrPortFrom(server.IPv4, 123), question, time.Second)
			return err
		})
	}
	for _, from := range []*peers.Host{server, monitor} {
		address := server.IPv4.String()
		if from == server {
			address = "127.0.0.1"
		}
		for _, command := range []string{"mru", "mru sort=count", "mru limit=1", "mru recent=5", "mru mincount=2"} {
			out, err := ntpq.Ask(from, "-n", "-c", command, address)
			if err != nil || !strings.Contains(out, " "+client.IPv4.String()) || !strings.Contains(out, "# Collected 1 slots") {
				t.Errorf("from %s: %s: got %q, %v, want a row of %v", from.Name, command, out, err, client.IPv4)
			}
		}
		if out, err := ntpq.Ask(from, "-n", "-c", "mru mincount=100", address); err != nil || !strings.Contains(out, "# Collected 0 slots") {
			t.Errorf("from %s: mincount=100: got %q, %v, want no rows", from.Name, out, err)
		}
	}
}

// A client of IPv6 stands in the list by its /56, and the list is read over IPv6.
func TestNTPQReadsTheListOverIPv6(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	ntpq := peers.NTPQ(t)
	peers.Timeball(t, server, "server: {access: {server: [\"::/0\"]}}\nlocal: {stratum: 3}\n"+wrongClock)
	question := timeQuestion()
	peers.Eventually(t, 30*time.Second, "the server answers over IPv6", func() error {
		_, err := client.Exchange(netip.AddrPortFrom(server.IPv6, 123), question, time.Second)
		return err
	})
	network := netip.PrefixFrom(client.IPv6, 56).Masked().Addr().String()
	out, err := ntpq.Ask(client, "-n", "-c", "mru", server.IPv6.String())
	if err != nil || !strings.Contains(out, " "+network) || !strings.Contains(out, "# Collected 1 slots") {
		t.Errorf("got %q, %v, want a row of %v", out, err, network)
	}
}

func timeQuestion() []byte {
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 0x1234567887654321}
	return h.Append(nil)
}

// ntpmon shows sources and clients, asking again and again.
func TestNTPMonWatchesTimeball(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	ntpq := peers.NTPQ(t)
	source := lab.Host("source")
	peers.Chronyd(t, source, chronyServer)
	d := peers.Timeball(t, server, fmt.Sprintf("sources: [{server: %v, min_poll: 0, max_poll: 0}]\nserver: {access: {server: [10.99.0.0/16, 127.0.0.0/8]}}\n%s", source.IPv4, wrongClock))
	follows(t, d, 60*time.Second, source.IPv4)
	serves(t, client, server.IPv4)
	out, err := ntpq.Monitor(server, "127.0.0.1", 4*time.Second)
	if err != nil {
		t.Skipf("ntpmon does not run here: %v\n%s", err, out)
	}
	for _, word := range []string{source.IPv4.String(), "lstint avgint", client.IPv4.String(), "timeball"} {
		if !strings.Contains(out, word) {
			t.Errorf("ntpmon: %q is not in\n%q", word, out)
		}
	}
	if strings.Contains(out, "Traceback") || strings.Contains(out, "rror") {
		t.Errorf("ntpmon: got\n%q", out)
	}
}
