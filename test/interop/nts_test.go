package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// ntsLab is a network with an authority, a host that is to serve with a certificate of
// its own, and one that is to ask.
func ntsLab(t *testing.T) (authority *peers.Authority, server, client *peers.Host) {
	t.Helper()
	t.Parallel()
	lab := peers.NewLab(t)
	return peers.NewAuthority(t), lab.Host("server"), lab.Host("client")
}

// ntsServer is the configuration of a timeball that serves its local clock with NTS.
func ntsServer(a *peers.Authority, h *peers.Host, more string) string {
	certificate, key := a.Issue(h, h.IPv4.String(), h.IPv6.String())
	return fmt.Sprintf("local: {stratum: 3}\nserver: {nts: {certificate: %s, key: %s, keys: %s/nts-keys%s}}\nclock: {driver: observe}\n",
		certificate, key, h.Dir, more)
}

// authenticated says whether chrony's source at an address has keys, and how many cookies.
func authenticated(c *peers.Chrony, address string) error {
	rows, err := c.Chronyc("authdata")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row[0] == address && row[1] == "NTS" && row[7] == "0" && row[8] == "8" {
			return nil
		}
	}
	return fmt.Errorf("chronyc authdata: %q", rows)
}

// Who is asked must not send the client to itself; that the client asks itself is its own affair.
func TestRFC8915_4_1_7_QueryIsNotSentBackToItself(t *testing.T) {
	a, server, client := ntsLab(t)
	peers.Timeball(t, server, ntsServer(a, server, ", ntp_server: "+client.IPv4.String()))
	d := peers.Timeball(t, client, ntsServer(a, client, ""))
	serves(t, client, server.IPv4)
	serves(t, client, client.IPv4)
	ca := a.Write(client)
	if _, said, err := d.Run("query", "--nts", "--nts-ca", ca, server.IPv4.String()); err == nil || !strings.Contains(said, "own address") {
		t.Errorf("got %v, %s; want a failed exchange, for our own address", err, said)
	}
	if _, said, err := d.Run("query", "--nts", "--nts-ca", ca, client.IPv4.String()); err != nil {
		t.Errorf("of our own server: %v, %s", err, said)
	}
}

func TestChronydSelectsTimeballByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	peers.Timeball(t, server, ntsServer(a, server, ""))
	serves(t, client, server.IPv4)
	ca := a.Write(client)
	for _, address := range []string{server.IPv4.String(), server.IPv6.String()} {
		c := peers.Chronyd(t, client, fmt.Sprintf("server %s nts minpoll 0 maxpoll 0 iburst\nntstrustedcerts %s\nntsdumpdir %s", address, ca, client.Dir))
		c.Selects(40*time.Second, address)
		if err := authenticated(c, address); err != nil {
			t.Error(err)
		}
		if _, err := c.Stop(); err != nil {
			t.Log(err)
		}
	}
}

func TestNTPsecSelectsTimeballByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	peers.Timeball(t, server, ntsServer(a, server, ""))
	serves(t, client, server.IPv4)
	n := peers.NTPsec(t, client, fmt.Sprintf("server %v nts ca %s minpoll 0 maxpoll 0 iburst", server.IPv4, a.Write(client)))
	row := n.Selects(90*time.Second, server.IPv4.String())
	if row.Fields[2] != "8" && row.Fields[2] != "7" {
		t.Errorf("cookies in column t: got %q, want 8", row.Fields)
	}
	if strings.Contains(n.Log(), "NAK") {
		t.Errorf("ntpd's log has a NAK:\n%s", n.Log())
	}
}

// chronydNTS is the configuration of a chronyd that serves its local clock with NTS.
func chronydNTS(a *peers.Authority, h *peers.Host, more string) string {
	certificate, key := a.Issue(h, h.IPv4.String(), h.IPv6.String(), "localhost")
	return fmt.Sprintf("local stratum 3\nallow\nntsserverkey %s\nntsservercert %s\nntsdumpdir %s\n%s", key, certificate, h.Dir, more)
}

// ntsClient is the configuration of a timeball that asks servers by NTS.
func ntsClient(a *peers.Authority, h *peers.Host, addresses ...string) string {
	text := "sources:\n"
	for _, address := range addresses {
		text += fmt.Sprintf("  - {server: %q, nts: {ca: %s}, min_poll: 0, max_poll: 0}\n", address, a.Write(h))
	}
	return text + fmt.Sprintf("clock: {driver: virtual, virtual: {offset: 30ms}}\nnts: {state: %s/nts}\n", h.Dir)
}

func TestTimeballSelectsChronydByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	peers.Chronyd(t, server, chronydNTS(a, server, ""))
	serves(t, client, server.IPv4)
	for _, address := range []netip.Addr{server.IPv4, server.IPv6} {
		d := peers.Timeball(t, client, ntsClient(a, client, address.String()))
		follows(t, d, 60*time.Second, address)
		if _, err := d.Stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestTimeballSelectsNTPsecByNTS(t *testing.T) {
	a, server, client := ntsLab(t)
	certificate, key := a.Issue(server, server.IPv4.String(), server.IPv6.String())
	peers.NTPsec(t, server, fmt.Sprintf("tos orphan 2 orphanwait 1\nnts enable\nnts key %s\nnts cert %s\nnts cookie %s/cookies", key, certificate, server.Dir))
	peers.Eventually(t, 90*time.Second, "ntpd serves", func() error {
		p, err := ask(client, server.IPv4, 4)
		if err == nil && p.Stratum == 0 {
			err = errors.New("no time yet")
		}
		return err
	})
	d := peers.Timeball(t, client, ntsClient(a, client, server.IPv4.String()))
	follows(t, d, 60*time.Second, server.IPv4)
}

// ntsCounts are the requests with NTS that a timeball has answered with the time, and by NTSN.
func ntsCounts(d *peers.Daemon) (accepted, naks int, err error) {
	var stats struct {
		Listeners []struct {
			Accepted int `json:"nts_accepted"`
			NAK      int `json:"nts_nak"`
		} `json:"listeners"`
	}
	if err := d.Report(&stats, "serverstats"); err != nil {
		return 0, 0, err
	}
	for _, l := range stats.Listeners {
		accepted, naks = accepted+l.Accepted, naks+l.NAK
	}
	return accepted, naks, nil
}

// answersByNTS waits until so many requests were answered, and gives the NAKs.
func answersByNTS(t *testing.T, d *peers.Daemon, least int) (naks int) {
	t.Helper()
	peers.Eventually(t, 60*time.Second, "requests answered by NTS", func() error {
		accepted, n, err := ntsCounts(d)
		if naks = n; err == nil && accepted < least {
			err = fmt.Errorf("%d answered, %d NAKs", accepted, n)
		}
		return err
	})
	return naks
}

// threats 32: cookies outlive the server's restart and the rotation of their key; once the
// key is lost the client is told, and makes another key exchange.
func TestNTSThroughKeyRotationAndRestarts(t *testing.T) {
	a, server, client := ntsLab(t)
	config, file := ntsServer(a, server, ", rotate: 60s, keep: 1"), filepath.Join(server.Dir, "nts-keys")
	d := peers.Timeball(t, server, config)
	serves(t, client, server.IPv4)
	c := peers.Chronyd(t, client, fmt.Sprintf("server %v nts minpoll 0 maxpoll 0 iburst\nntstrustedcerts %s", server.IPv4, a.Write(client)))
	c.Selects(40*time.Second, server.IPv4.String())
	if _, err := d.Stop(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("nts-keys: got %v, %v, want mode 0600", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The key becomes as old as it may: it is replaced soon after the start.
	head, rest, _ := strings.Cut(string(text), "\n")
	_, secret, _ := strings.Cut(rest, " ")
	old := head + "\n" + time.Now().UTC().Add(-65*time.Second).Format(time.RFC3339) + " " + secret
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	d = peers.Timeball(t, server, config)
	d.Says(40*time.Second, "new key for NTS cookies")
	if naks := answersByNTS(t, d, 12); naks != 0 {
		t.Errorf("after a restart and a rotation: got %d NAKs, want none", naks)
	}
	if _, err := d.Stop(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	d = peers.Timeball(t, server, config)
	if naks := answersByNTS(t, d, 5); naks == 0 {
		t.Error("the keys are lost: got no NAK")
	}
	c.Selects(60*time.Second, server.IPv4.String())
}

// A restart of timeball as client needs no key exchange, and one that finds its cookies
// refused makes another.
func TestTimeballsCookiesOutliveARestart(t *testing.T) {
	a, server, client := ntsLab(t)
	s := peers.Chronyd(t, server, chronydNTS(a, server, ""))
	serves(t, client, server.IPv4)
	config := ntsClient(a, client, server.IPv4.String())
	d := peers.Timeball(t, client, config)
	follows(t, d, 60*time.Second, server.IPv4)
	if _, err := d.Stop(); err != nil {
		t.Error(err)
	}
	kept, _ := filepath.Glob(filepath.Join(client.Dir, "nts", "*"))
	if len(kept) != 1 {
		t.Fatalf("got %q kept, want one file", kept)
	}
	if info, err := os.Stat(kept[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: got %v, %v, want mode 0600", kept[0], info, err)
	}
	d = peers.Timeball(t, client, config)
	follows(t, d, 60*time.Second, server.IPv4)
	if left, _ := filepath.Glob(filepath.Join(client.Dir, "nts", "*")); len(left) != 0 {
		t.Errorf("got %q while it runs: cookies might be used twice", left)
	}
	exchanges := func() (n, cookies int) {
		var report struct {
			Sources []struct {
				Security struct{ Exchanges, Cookies int }
			}
		}
		if err := d.Report(&report, "sources"); err != nil {
			t.Fatal(err)
		}
		return report.Sources[0].Security.Exchanges, report.Sources[0].Security.Cookies
	}
	if n, cookies := exchanges(); n != 0 || cookies != 8 {
		t.Errorf("after the restart: got %d key exchanges and %d cookies, want 0 and 8", n, cookies)
	}
	if _, err := s.Stop(); err != nil {
		t.Log(err)
	}
	for _, file := range []string{"ntskeys"} { // chronyd forgets its cookies' keys
		_ = os.Remove(filepath.Join(server.Dir, file))
	}
	peers.Chronyd(t, server, chronydNTS(a, server, ""))
	peers.Eventually(t, 90*time.Second, "another key exchange after NTSN", func() error {
		if n, cookies := exchanges(); n == 0 || cookies == 0 {
			return fmt.Errorf("%d key exchanges, %d cookies", n, cookies)
		}
		return nil
	})
	follows(t, d, 60*time.Second, server.IPv4)
}

// The key exchange and the time are on different hosts, three of which are one pool: they
// share the keys of the cookies.
func TestNTSKeyExchangeElsewhere(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	a, ke, ntp, client := peers.NewAuthority(t), lab.Host("ke"), lab.Host("ntp"), lab.Host("client")
	certificate, key := a.Issue(ke, ke.IPv4.String())
	peers.Timeball(t, ke, fmt.Sprintf("local: {stratum: 3}\nclock: {driver: observe}\nserver: {require: nts, nts: {certificate: %s, key: %s, keys: %s/nts-keys, ntp_server: %v}}",
		certificate, key, ke.Dir, ntp.IPv4))
	keys := filepath.Join(ke.Dir, "nts-keys")
	peers.Eventually(t, 20*time.Second, "the keys of the cookies", func() error { _, err := os.Stat(keys); return err })
	text, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	copied := ntp.Write("nts-keys", string(text))
	if err := os.Chmod(copied, 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, key = a.Issue(ntp, ntp.IPv4.String())
	peers.Timeball(t, ntp, fmt.Sprintf("local: {stratum: 3}\nclock: {driver: observe}\nserver: {nts: {certificate: %s, key: %s, keys: %s}}", certificate, key, copied))
	serves(t, client, ntp.IPv4)
	d := peers.Timeball(t, client, ntsClient(a, client, ke.IPv4.String()))
	follows(t, d, 60*time.Second, ntp.IPv4)
	if reply, err := ask(client, ke.IPv4, 4); err == nil {
		t.Errorf("require: nts: a plain request was answered: %+v", reply.Header)
	}
}

// Each member of a pool makes a key exchange of its own, with a certificate for the pool's
// name.
func TestAPoolOfThreeByNTS(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	a, client := peers.NewAuthority(t), lab.Host("client")
	var addresses []string
	for i := range 3 {
		h := lab.Host(fmt.Sprintf("server%d", i))
		certificate, key := a.Issue(h, "pool.example.net")
		peers.Timeball(t, h, fmt.Sprintf("local: {stratum: 3}\nclock: {driver: observe}\nserver: {nts: {certificate: %s, key: %s, keys: %s/nts-keys}}", certificate, key, h.Dir))
		serves(t, client, h.IPv4)
		addresses = append(addresses, h.IPv4.String())
	}
	hosts := client.Write("hosts", strings.Join(addresses, " pool.example.net\n")+" pool.example.net\n")
	d := peers.Timeball(t, client, fmt.Sprintf("sources: [{pool: pool.example.net, count: 3, nts: {ca: %s}, min_poll: 0, max_poll: 0}]\nclock: {driver: virtual, virtual: {offset: 30ms}}",
		a.Write(client)), "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts)
	peers.Eventually(t, 60*time.Second, "three members with keys", func() error {
		rows, err := d.Sources()
		used := 0
		for _, r := range rows {
			if (r.State == "selected" || r.State == "combined") && r.Reach == 255 {
				used++
			}
		}
		if err == nil && used < 3 {
			err = fmt.Errorf("its sources: %v", rows)
		}
		return err
	})
}
