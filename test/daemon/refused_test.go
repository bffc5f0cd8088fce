package daemon

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"timeball/test/peers"
)

// refusals are the kinds of answers that are refused, and what reports must say of each.
var refusals = []struct {
	name, source string
	answer       reply
	want         []string // in every report
}{
	{"no MAC where one is due", "key: 10", func(_, r []byte) []byte { return r }, []string{"refused", "MAC missing or wrong", "key 10"}},
	{"a MAC of another key", "key: 10", func(_, r []byte) []byte {
		return append(append(r, 0, 0, 0, 11), make([]byte, 20)...)
	}, []string{"refused", "MAC missing or wrong", "key 10"}},
	{"a crypto-NAK", "key: 10", func(_, r []byte) []byte { return append(r, 0, 0, 0, 0) }, []string{"refused", "MAC missing or wrong", "key 10"}},
	{"a crypto-NAK without a key", "version: 4", func(_, r []byte) []byte { return append(r, 0, 0, 0, 0) }, []string{"refused", "crypto-NAK", "`key`"}},
	{"another version", "version: 3", func(_, r []byte) []byte { r[0] = r[0]&^0x38 | 4<<3; return r }, []string{"refused", "version", "3"}},
	{"another mode", "version: 4", func(_, r []byte) []byte { r[0] = r[0]&^7 | 3; return r }, []string{"refused", "mode"}},
	{"another origin", "version: 4", func(_, r []byte) []byte { r[31] ^= 1; return r }, []string{"refused", "origin"}},
	{"timestamps of zero", "version: 4", func(_, r []byte) []byte { clear(r[40:48]); return r }, []string{"refused", "zero"}},
	{"no NTP packet", "version: 4", func(_, r []byte) []byte { return []byte("hello") }, []string{"refused", "not NTP packets"}},
	{"kiss RATE", "version: 4", kiss("RATE"), []string{"refused", "kiss code RATE", "too often"}},
	{"kiss ACST", "version: 4", kiss("ACST"), []string{"refused", "kiss code ACST", "does not serve"}},
}

// A source whose answers are refused is not a silent one: explain, sources, the log and
// the probe say that it answers, why that is not taken, and what to do.
func TestRefusedAnswersAreToldWithReasonAndRemedy(t *testing.T) {
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at := falseServer(t, test.answer)
			config := fmt.Sprintf("clock: {driver: observe}\nkeys: [{id: 10, type: sha256, hex: %s}]\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2, %s}]\n",
				strings.Repeat("ab", 32), at, test.source)
			d := start(t, config)
			for _, report := range [][]string{{"explain"}, {"sources", "-v"}} {
				// No word of silence: it answers, if not always in time where the machine is busy.
				peers.Eventually(t, patience, fmt.Sprintf("%s says %q, and not \"no answer\"", report, test.want), func() error {
					said, _, err := d.Run(report...)
					if err != nil || !hasAll(said, test.want) || strings.Contains(said, "no answer") {
						return fmt.Errorf("got %q, %v", said, err)
					}
					return nil
				})
			}
			if !strings.HasPrefix(test.name, "kiss") {
				d.until("the log says so", func() bool { return hasAll(d.Log(), test.want) })
			}
			path := d.Host.Write("probe.yaml", config)
			peers.Eventually(t, patience, fmt.Sprintf("check --probe says %q", test.want), func() error {
				_, complaint, err := d.Run("check", "--probe", "--config", path)
				if err == nil || !hasAll(complaint, test.want) {
					return fmt.Errorf("got %q, %v", complaint, err)
				}
				return nil
			})
		})
	}
}

// hasAll reports whether a text has all the words; reports end their lines at 80 columns.
func hasAll(text string, words []string) bool {
	text = strings.Join(strings.Fields(text), " ")
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// A source that has never answered is shown as it is: how many polls were for nothing, at
// once and not when something else happens.
func TestASourceThatOnlyMissesIsShownAtOnce(t *testing.T) {
	at := falseServer(t, func(_, _ []byte) []byte { return nil })
	d := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}]\n", at))
	// Not each number need be seen: where the machine is busy more than one poll has passed.
	told := regexp.MustCompile(`(\d+) polls`)
	for _, least := range []int{2, 5} {
		d.until(fmt.Sprint("explain tells of as many polls as ", least), func() bool {
			said, _, _ := d.Run("explain")
			match := told.FindStringSubmatch(strings.Join(strings.Fields(said), " "))
			if match == nil {
				return false
			}
			polls, _ := strconv.Atoi(match[1])
			return polls >= least
		})
	}
	d.until("it is unreachable", func() bool {
		said, _, _ := d.Run("status")
		return strings.Contains(said, "unreachable")
	})
}

// closedPort is a port at which nothing listens.
func closedPort(t *testing.T) netip.AddrPort { return freePort(t) }

// query and the daemon tell a closed port from silence, and at once.
func TestRefusedConnectionsAreToldApartFromSilence(t *testing.T) {
	closed := closedPort(t)
	silent := falseServer(t, func(_, _ []byte) []byte { return nil })
	h := peers.Here(t)
	for _, test := range []struct{ host, want, not string }{
		{closed.String(), "refused", "no word"},
		{"::ffff:" + closed.Addr().String(), "refused", "::ffff"},
		{silent.String(), "no answer within", "refused"},
	} {
		_, complaint, err := h.Run(nil, peers.Binary(t), "query", test.host)
		if peers.ExitStatus(err) != 1 || !strings.Contains(complaint, test.want) || strings.Contains(complaint, test.not) {
			t.Errorf("query %s: got %v and %q, want status 1, %q and not %q", test.host, err, complaint, test.want, test.not)
		}
	}
	d := start(t, fmt.Sprintf("clock: {driver: observe}\nsources: [{server: \"%s\", min_poll: -2, max_poll: -2}]\n", closed))
	d.until("explain says that the connection is refused", func() bool {
		said, _, _ := d.Run("explain")
		return hasAll(said, []string{"connection refused"})
	})
}

// A server that has no time itself is shown with what it answers, and is not taken for one
// that has.
func TestQueryShowsAnUnsynchronizedServer(t *testing.T) {
	at := falseServer(t, func(_, r []byte) []byte { r[0], r[1] = r[0]|0xc0, 0; copy(r[12:16], "INIT"); return r })
	h := peers.Here(t)
	out, complaint, err := h.Run(nil, peers.Binary(t), "query", at.String())
	if err != nil || !hasAll(out, []string{"unsynchronized", "OFFSET", "s"}) || !strings.Contains(complaint, "not synchronized") {
		t.Errorf("got %v, %q and %q, want its offset and leap, and a word that its time is not to be used", err, out, complaint)
	}
}
