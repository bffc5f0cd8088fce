package daemon

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"timeball/test/peers"
)

// row is what `sources --json` tells of a name, "" its state if it has no row.
func (p *daemon) row(name string) (state, reason string) {
	var answer struct {
		Sources []struct{ Name, State, Reason string }
	}
	if p.Report(&answer, "sources") != nil {
		return "", ""
	}
	for _, s := range answer.Sources {
		if s.Name == name {
			return s.State, s.Reason
		}
	}
	return "", ""
}

// used reports whether a state is that of a source whose time counts.
func used(state string) bool { return state == "selected" || state == "combined" }

// An own address is no source, whatever it is called, and is said so.
func TestTheDaemonDoesNotFollowItself(t *testing.T) {
	good := falseServer(t, func(_, r []byte) []byte { return r })
	port := peers.FreePort(t, "udp")
	text := fmt.Sprintf("clock: {driver: virtual}\nlocal: {stratum: 5}\nserver: {listen: [\":%d\"], workers: 1}\nsources:\n  - {server: \"%s\", min_poll: -2, max_poll: -2}\n", port, good)
	own := []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.1.2.3:%d", port), fmt.Sprintf("[::1]:%d", port), fmt.Sprintf("localhost:%d", port)}
	for _, address := range ownAddresses(t) {
		own = append(own, netip.AddrPortFrom(address, port).String())
	}
	for i, name := range own {
		kind := [...]string{"server", "pool"}[i%2]
		text += fmt.Sprintf("  - {%s: \"%s\", min_poll: -2, max_poll: -2}\n", kind, name)
	}
	d := start(t, text)
	d.until("the good one is used", func() bool { state, _ := d.row(good.String()); return used(state) })
	for _, name := range own {
		d.until(name+" is no source, and is said so", func() bool {
			state, reason := d.row(name)
			return state == "excluded" && strings.Contains(reason, "own address") || strings.Contains(reason, "no such name")
		})
	}
}

// ownAddresses are those of this machine that others may know it by.
func ownAddresses(t *testing.T) (list []netip.Addr) {
	t.Helper()
	found, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range found {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && !prefix.Addr().IsLoopback() && !prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, prefix.Addr())
		}
	}
	return list
}

// Another server on this machine, at another port, is a source like others.
func TestAnotherServerOfThisMachineIsASource(t *testing.T) {
	other := falseServer(t, func(_, r []byte) []byte { return r })
	d := start(t, fmt.Sprintf("clock: {driver: virtual}\nserver: {listen: [\":%d\"], workers: 1}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}]\n",
		peers.FreePort(t, "udp"), other))
	d.until("it is used", func() bool { state, _ := d.row(other.String()); return used(state) })
}

// Of two lines with one address the one that says more wins, whatever comes first, and the
// other has a row with the reason.
func TestOneMachineHasOneVoteAndTwoRows(t *testing.T) {
	at := falseServer(t, func(_, r []byte) []byte { return r })
	second := netip.AddrPortFrom(at.Addr(), at.Port()+1)
	line := func(kind, more string, to netip.AddrPort) string {
		return fmt.Sprintf("  - {%s: \"%s\", min_poll: -2, max_poll: -2%s}\n", kind, to, more)
	}
	for _, test := range []struct{ name, winner, loser string }{
		{"a server before a pool", line("server", "", at), line("pool", ", count: 1", second)},
		{"a peer's key before a server without one", line("peer", ", key: 10", at), line("server", "", second)},
		{"a key before none", line("server", ", key: 10", at), line("server", "", second)},
		{"require before none", line("server", ", require: true", at), line("server", ", trust: true", second)},
		{"prefer before none", line("server", ", prefer: true", at), line("server", "", second)},
	} {
		for _, text := range []string{test.winner + test.loser, test.loser + test.winner} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				port := peers.FreePort(t, "udp") // a peer sends from it
				d := start(t, fmt.Sprintf("clock: {driver: observe}\nkeys: [{id: 10, type: sha256, hex: %s}]\nserver: {listen: [\"127.0.0.1:%d\"], workers: 1}\nsources:\n%s",
					strings.Repeat("ab", 32), port, text))
				d.until("the loser says why", func() bool {
					state, reason := d.row(second.String())
					return state == "excluded" && strings.Contains(reason, "one vote") && strings.Contains(reason, at.String())
				})
				if state, reason := d.row(at.String()); state == "excluded" || state == "" {
					t.Errorf("the winner: got state %q (%s), want it asked", state, reason)
				}
			})
		}
	}
}

// The same where the lines come to the address by names, in any order of the answers.
func TestANameThatLeadsToAnAddressInUse(t *testing.T) {
	at := localhostServer(t)
	for _, first := range []bool{true, false} {
		lines := []string{
			fmt.Sprintf("  - {pool: \"localhost:%d\", count: 1, min_poll: -2, max_poll: -2}\n", at.Port()),
			fmt.Sprintf("  - {server: \"%s\", min_poll: -2, max_poll: -2}\n", at),
		}
		if first {
			lines[0], lines[1] = lines[1], lines[0]
		}
		d := start(t, "clock: {driver: observe}\nsources:\n"+lines[0]+lines[1])
		d.until("the named machine is used", func() bool { state, _ := d.row(at.String()); return used(state) })
	}
}

// localhostServer is a server at 127.0.0.1.
func localhostServer(t *testing.T) netip.AddrPort {
	t.Helper()
	return falseServerAt(t, net.IPv4(127, 0, 0, 1), func(_, r []byte) []byte { return r })
}

// `require` holds the clock back also while its line has no association: because the name
// does not resolve. Where another line has its address, that one's time is what is required.
func TestRequireIsHonouredWithoutAnAssociation(t *testing.T) {
	at := falseServer(t, func(_, r []byte) []byte { return r })
	second := netip.AddrPortFrom(at.Addr(), at.Port()+1)
	d := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}, {server: nosuch.invalid, require: true}]\n", at))
	d.until("the other says that it waits for the required one", func() bool {
		_, reason := d.row(at.String())
		return strings.Contains(reason, "require")
	})
	if d.synchronized() {
		t.Error("got synchronized without the required source, want it held back")
	}
	d = start(t, fmt.Sprintf("clock: {driver: virtual}\nkeys: [{id: 10, type: sha256, hex: %s}]\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2, prefer: true}, {server: \"%s\", require: true, no_select: false, min_poll: -2, max_poll: -2}]\n",
		strings.Repeat("ab", 32), at, second))
	d.until("one of the two has a row that says why", func() bool {
		_, a := d.row(at.String())
		_, b := d.row(second.String())
		return strings.Contains(a+b, "one vote")
	})
}

// A line that has no association has a row in every report, with the resolver's error and
// when it is asked again.
func TestLinesWithoutAnAssociationHaveRows(t *testing.T) {
	good := falseServer(t, func(_, r []byte) []byte { return r })
	page := freePort(t)
	d := start(t, fmt.Sprintf("clock: {driver: virtual}\nmetrics: {listen: \"%s\"}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}, {server: nosuch.invalid}, {pool: pool.invalid}, {peer: peer.invalid, unauthenticated: true}]\nserver: {listen: [\"127.0.0.1:%d\"]}\n",
		page, good, peers.FreePort(t, "udp")))
	names := []string{"nosuch.invalid", "pool.invalid", "peer.invalid"}
	for _, report := range []string{"sources", "status", "explain"} {
		said := ""
		d.until(fmt.Sprintf("%s names %v", report, names), func() bool {
			said, _, _ = d.Run(report)
			return hasAll(said, names)
		})
	}
	for _, name := range names {
		d.until(name+" has the error and the next attempt", func() bool {
			_, reason := d.row(name)
			return strings.Contains(reason, "does not resolve") && strings.Contains(reason, "asked again")
		})
	}
	for _, c := range []struct{ path, want string }{
		{"/", "nosuch.invalid"},
		{"/metrics", "ntp_sources_configured 4"},
		{"/metrics", "ntp_sources_in_use 1"},
		{"/metrics", `name="nosuch.invalid",state="waiting"} 1`},
	} {
		d.until(c.path+" has "+c.want, func() bool { return strings.Contains(get(t, page, c.path), c.want) })
	}
}

// A broadcast client that has heard nobody has a poll interval all the same: 64 s, as ntpq shows too.
func TestABroadcastClientThatHasHeardNobody(t *testing.T) {
	at := freePort(t)
	d := start(t, fmt.Sprintf("clock: {driver: virtual}\nsources: [{broadcast_client: {interface: lo, port: %d}, unauthenticated: true}, {multicast_client: {group: 224.0.1.1, interface: lo, port: %d}, unauthenticated: true}]\n"+
		"server: {listen: [\"%s\"], access: {query: [127.0.0.0/8]}}\n", peers.FreePort(t, "udp"), peers.FreePort(t, "udp"), at))
	d.until("both rows say 64 s", func() bool {
		said, _, _ := d.Run("sources")
		return strings.Count(said, " 64s ") == 2
	})
}

// get fetches a page of the metrics listener, "" if there is none.
func get(t *testing.T, at netip.AddrPort, path string) string {
	t.Helper()
	answer, err := http.Get("http://" + at.String() + path)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			return text.String()
		}
	}
}

// Addresses that no machine has are no sources (RFC 1112 §4, RFC 919 §7).
func TestNobodysAddressesAreRefused(t *testing.T) {
	h := peers.Here(t)
	for _, address := range []string{"240.0.0.1", "255.255.255.255", "251.2.3.4"} {
		path := h.Write("c.yaml", "sources: [{pool: "+address+"}]\n")
		_, complaint, err := h.Run(nil, peers.Binary(t), "check", "--config", path)
		if err == nil || !strings.Contains(complaint, "sources[0]") {
			t.Errorf("%s: got %v and %q, want it refused with its place", address, err, complaint)
		}
	}
}
