package interop

import (
	"errors"
	"fmt"
	"net/netip"
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
