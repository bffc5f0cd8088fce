package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"timeball/test/peers"
)

// long is the variable that asks for the tests of ten minutes:
//
//	TIMEBALL_LONG=1 go test -timeout 20m -parallel 8 -run TestTenMinutesOfNTS ./test/interop
const long = "TIMEBALL_LONG"

// process is what a test can end.
type process interface{ Stop() (time.Duration, error) }

// endurance is a server and a client that exchange time by NTS for ten minutes.
type endurance struct {
	serve, ask     func() process // start the server, the client
	rotate         func()         // between the server's end and its start; nil: its keys change every minute
	judge          func() error   // nil: selected, by NTS, and never a NAK
	server, client process
}

// run plays it: a rotation of the keys of the cookies, a restart of the server, one of the client.
func (e *endurance) run(t *testing.T) {
	good := func(what string, within time.Duration) {
		t.Helper()
		peers.Eventually(t, within, what, e.judge)
	}
	e.server, e.client = e.serve(), e.ask()
	good("selected", 2*time.Minute)
	begun := time.Now()
	reach := func(minute time.Duration) { time.Sleep(time.Until(begun.Add(minute * time.Minute))) } // the test is that of so long a time
	reach(3)
	good("after rotations", 10*time.Second)
	_, _ = e.server.Stop()
	if e.rotate != nil {
		e.rotate()
	}
	e.server = e.serve()
	reach(5)
	good("after a restart of the server", 10*time.Second)
	_, _ = e.client.Stop()
	e.client = e.ask()
	good("after a restart of the client", 2*time.Minute)
	reach(10)
	good("after ten minutes", 10*time.Second)
}

// chronyJudge is the judgement of a chronyd that asks: keys from one key exchange, no NAK.
func chronyJudge(c **peers.Chrony, address string) func() error {
	return func() error {
		sources, err := (*c).Sources()
		if err != nil || len(sources) != 1 || sources[0].State != "*" || sources[0].Reach != 0o377 {
			return fmt.Errorf("chronyd's sources: %+v, %v", sources, err)
		}
		return authenticated(*c, address)
	}
}

// noNAK is the judgement of a timeball that serves, beside another's.
func noNAK(d **peers.Daemon, other func() error) func() error {
	return func() error {
		switch accepted, naks, err := ntsCounts(*d); {
		case err != nil:
			return err
		case naks != 0 || accepted == 0:
			return fmt.Errorf("timeball's server: %d requests accepted, %d NAKs", accepted, naks)
		}
		return other()
	}
}

// timeballJudge is the judgement of a timeball that asks: after a NAK, and after eight lost
// answers, it would make another key exchange; after a restart it has its keys from the file.
func timeballJudge(d **peers.Daemon, starts *int) func() error {
	return func() error {
		var report struct {
			Sources []struct {
				State    string
				Reach    int
				Security struct {
					State              string
					Exchanges, Cookies int
				}
			}
		}
		if err := (*d).Report(&report, "sources"); err != nil {
			return err
		}
		exchanges := 0
		if *starts == 1 {
			exchanges = 1
		}
		if len(report.Sources) != 1 || report.Sources[0].State != "selected" || report.Sources[0].Reach != 255 ||
			report.Sources[0].Security.Exchanges != exchanges || report.Sources[0].Security.Cookies == 0 {
			return fmt.Errorf("got %+v, want selected after %d key exchanges", report.Sources, exchanges)
		}
		return nil
	}
}

// ntpsecJudge is the judgement of an ntpd that asks.
func ntpsecJudge(n **peers.NTPsecd, address string) func() error {
	return func() error {
		if strings.Contains((*n).Log(), "NAK") {
			return errors.New("ntpd's log has a NAK")
		}
		rows, err := (*n).Peers()
		for _, r := range rows {
			if r.Remote == address && r.Tally == "*" && (r.Fields[2] == "8" || r.Fields[2] == "7") {
				return nil
			}
		}
		return fmt.Errorf("ntpd's peers: %q, %v", rows, err)
	}
}

// ageCookieKeys makes the keys in NTPsec's file a day older, so that it takes a new one at
// its start: it has no setting for that.
func ageCookieKeys(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`(?m)^T: *(\d+)$`)
	found := written.FindSubmatch(text)
	if found == nil {
		t.Fatal("no line T in NTPsec's file of cookie keys")
	}
	at, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, written.ReplaceAll(text, fmt.Appendf(nil, "T: %d", at-90000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTenMinutesOfNTS(t *testing.T) {
	if os.Getenv(long) == "" {
		t.Skipf("takes ten minutes; asked for with %s=1", long)
	}
	for family, of := range map[string]addressOf{
		"IPv4": func(h *peers.Host) netip.Addr { return h.IPv4 },
		"IPv6": func(h *peers.Host) netip.Addr { return h.IPv6 },
	} {
		t.Run("chronyd asks timeball by "+family, func(t *testing.T) { chronydAsks(t, of) })
		t.Run("NTPsec asks timeball by "+family, func(t *testing.T) { ntpsecAsks(t, of) })
		t.Run("timeball asks chronyd by "+family, func(t *testing.T) { chronydServes(t, of) })
		t.Run("timeball asks NTPsec by "+family, func(t *testing.T) { ntpsecServes(t, of) })
	}
}

// addressOf is an address of a host, of the family that a test is about.
type addressOf func(*peers.Host) netip.Addr

func chronydAsks(t *testing.T, of addressOf) {
	t.Helper()
	a, server, client := ntsLab(t)
	address := of(server)
	var d *peers.Daemon
	var c *peers.Chrony
	conf, ca := ntsServer(a, server, ", rotate: 60s, keep: 3"), a.Write(client)
	e := &endurance{judge: noNAK(&d, chronyJudge(&c, address.String()))}
	e.serve = func() process { d = peers.Timeball(t, server, conf); return d }
	e.ask = func() process {
		c = peers.Chronyd(t, client, fmt.Sprintf("server %v nts minpoll 0 maxpoll 0 iburst\nntstrustedcerts %s\nntsdumpdir %s", address, ca, client.Dir))
		return c
	}
	e.run(t)
}

func ntpsecAsks(t *testing.T, of addressOf) {
	t.Helper()
	a, server, client := ntsLab(t)
	address := of(server)
	if address.Is6() {
		t.Skip("NTPsec 1.2.2 takes what follows the first colon of an IPv6 address for the port of its key exchange, also in brackets")
	}
	var d *peers.Daemon
	var n *peers.NTPsecd
	conf, ca := ntsServer(a, server, ", rotate: 60s, keep: 3"), a.Write(client)
	e := &endurance{judge: noNAK(&d, ntpsecJudge(&n, address.String()))}
	e.serve = func() process { d = peers.Timeball(t, server, conf); return d }
	e.ask = func() process {
		n = peers.NTPsec(t, client, fmt.Sprintf("server %v nts ca %s minpoll 0 maxpoll 0 iburst", address, ca))
		return n
	}
	e.run(t)
}

func chronydServes(t *testing.T, of addressOf) {
	t.Helper()
	a, server, client := ntsLab(t)
	address := of(server)
	var d *peers.Daemon
	starts, conf, ask := 0, chronydNTS(a, server, "ntsrotate 60"), ntsClient(a, client, address.String())
	e := &endurance{judge: timeballJudge(&d, &starts)}
	e.serve = func() process { c := peers.Chronyd(t, server, conf); serves(t, client, address); return c }
	e.ask = func() process { starts++; d = peers.Timeball(t, client, ask); return d }
	e.run(t)
}

func ntpsecServes(t *testing.T, of addressOf) {
	t.Helper()
	a, server, client := ntsLab(t)
	address := of(server)
	var d *peers.Daemon
	certificate, key := a.Issue(server, server.IPv4.String(), server.IPv6.String())
	cookies := filepath.Join(server.Dir, "cookies")
	starts, ask := 0, ntsClient(a, client, address.String())
	e := &endurance{judge: timeballJudge(&d, &starts), rotate: func() { ageCookieKeys(t, cookies) }}
	e.serve = func() process {
		n := peers.NTPsec(t, server, fmt.Sprintf("tos orphan 2 orphanwait 1\nnts enable\nnts key %s\nnts cert %s\nnts cookie %s", key, certificate, cookies))
		if d == nil { // later ones are waited for by the client itself
			peers.Eventually(t, 90*time.Second, "ntpd serves", func() error {
				p, err := askServer(client, address)
				if err == nil && p == 0 {
					err = errors.New("no time yet")
				}
				return err
			})
		}
		return n
	}
	e.ask = func() process { starts++; d = peers.Timeball(t, client, ask); return d }
	e.run(t)
}

// askServer gives the stratum that a server claims.
func askServer(from *peers.Host, address netip.Addr) (uint8, error) {
	p, err := ask(from, address, 4)
	return p.Stratum, err
}
