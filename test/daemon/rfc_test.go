package daemon

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// asked is a daemon that is asked.
type asked struct {
	t  *testing.T
	at netip.AddrPort
}

// server starts a daemon that serves its local clock, with more of a configuration.
func server(t *testing.T, more string) *asked {
	t.Helper()
	at := freePort(t)
	d := start(t, "clock: {driver: virtual}\nkeys: [{id: 7, type: sha1, text: the secret of this test}]\n"+strings.ReplaceAll(more, "HERE", at.String()))
	if strings.Contains(more, "local:") {
		d.until("synchronized", d.synchronized)
	}
	return &asked{t, at}
}

const plainServer = "local: {stratum: 1}\nserver: {listen: [\"HERE\"], workers: 1}\n"

// answer sends a packet and gives the reply; nil is silence.
func (a *asked) answer(data []byte, expected bool) []byte {
	a.t.Helper()
	return askFrom(a.t, "127.0.0.1", a.at, data, expected)
}

// silent fails the test where a packet draws anything.
func (a *asked) silent(what string, data []byte) {
	a.t.Helper()
	if got := a.answer(data, false); got != nil {
		a.t.Errorf("%s: got %x, want silence", what, got)
	}
}

// reply is the decoded answer to a packet.
func (a *asked) reply(what string, data []byte) wire.Packet {
	a.t.Helper()
	got := a.answer(data, true)
	var p wire.Packet
	if got == nil || p.Decode(got) != wire.DefectNone {
		a.t.Fatalf("%s: got %x, want an answer", what, got)
	}
	if len(got) > len(data) {
		a.t.Errorf("%s: %d bytes for %d", what, len(got), len(data))
	}
	return p
}

// packet is one of a version and mode with a transmit timestamp.
func packet(version, mode byte, tail ...byte) []byte {
	p := make([]byte, 48)
	p[0], p[2] = version<<3|mode, 6
	putTimestamp(p[40:], time.Now())
	return append(p, tail...)
}

// rows are rules of docs/RFC.md, by section and first words, with what shows them on the
// running program.
var rows = []struct {
	row  string
	hold func(t *testing.T)
}{
	{"| 7.3 | header; 48 bytes at least", func(t *testing.T) {
		s := server(t, plainServer)
		for _, length := range []int{0, 1, 47} {
			s.silent(fmt.Sprint(length, " bytes"), packet(4, 3)[:length])
		}
		s.silent("49 bytes", packet(4, 3, 0))
		s.reply("48 bytes", packet(4, 3))
	}},
	{"| 7.3 | versions 1 to 4", func(t *testing.T) {
		s := server(t, plainServer)
		for version := byte(0); version < 8; version++ {
			if version == 0 || version > 4 {
				s.silent(fmt.Sprint("version ", version), packet(version, 3))
			} else if p := s.reply("a request", packet(version, 3)); p.Version != version {
				t.Errorf("version %d: answered in %d", version, p.Version)
			}
		}
	}},
	{"| 7.3 | reference time ≤ receive ≤ transmit", func(t *testing.T) {
		s := server(t, plainServer)
		for range 20 {
			if p := s.reply("a request", packet(4, 3)); p.Receive.Sub(p.ReferenceTime) < 0 || p.Transmit.Sub(p.Receive) < 0 {
				t.Errorf("got reference %v, receive %v, transmit %v", p.ReferenceTime, p.Receive, p.Transmit)
			}
		}
	}},
	{"| 7.4 | the server's RATE", func(t *testing.T) {
		s := server(t, "local: {stratum: 1}\nserver: {listen: [\"HERE\"], workers: 1, rate_limit: {interval: 1000s, burst: 2, leak: 16}}\n")
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.at))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 6 {
			_, _ = conn.Write(packet(4, 3))
		}
		times, kisses, buffer := 0, 0, make([]byte, 512)
		for wait := patience; ; { // for what must come, then for what must not
			_ = conn.SetReadDeadline(time.Now().Add(wait))
			n, err := conn.Read(buffer)
			if err != nil {
				break
			}
			if n == 48 && buffer[1] == 0 && string(buffer[12:16]) == "RATE" {
				kisses++
			} else {
				times++
			}
			if times+kisses >= 3 {
				wait = 300 * time.Millisecond
			}
		}
		if times != 2 || kisses != 1 {
			t.Errorf("of 6 requests with a burst of 2: got %d times the time and %d kisses, want 2 and 1", times, kisses)
		}
	}},
	{"| 7.4 | DENY and RSTR end the association", func(t *testing.T) {
		for _, code := range []string{"DENY", "RSTR"} {
			count := counter{}
			deny := falseServer(t, func(request, r []byte) []byte { count.add(); return kiss(code)(request, r) })
			d := start(t, clientConfig(deny, t.TempDir(), ""))
			d.until("it has asked", func() bool { return count.now() > 0 })
			d.until("it asks no more after "+code, func() bool { // a request may have been on its way
				asked := count.now()
				time.Sleep(time.Second) // eight polls
				return count.now() == asked
			})
		}
	}},
	{"| 8 | the packet tests 1 to 7", func(t *testing.T) {
		for what, spoil := range map[string]reply{
			"another origin (TEST2)":       func(_, r []byte) []byte { r[31] ^= 1; return r },
			"no origin (CVE-2015-8138)":    func(_, r []byte) []byte { clear(r[24:32]); return r },
			"no receive timestamp (TEST3)": func(_, r []byte) []byte { clear(r[32:40]); return r },
			"leap 3 (TEST6)":               func(_, r []byte) []byte { r[0] |= 0xc0; return r },
			"stratum 16 (TEST6)":           func(_, r []byte) []byte { r[1] = 16; return r },
			"a reference in the future (TEST7)": func(_, r []byte) []byte {
				putTimestamp(r[16:], time.Now().Add(time.Hour))
				return r
			},
			"a root distance of 16 s (TEST7)": func(_, r []byte) []byte { binary.BigEndian.PutUint32(r[8:], 16<<16); return r },
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				d := start(t, clientConfig(falseServer(t, spoil), t.TempDir(), ""))
				d.until("it is refused", func() bool { return d.refusals() > 2 })
				if d.synchronized() {
					t.Error("synchronized")
				}
			})
		}
	}},
	{"| 9.2 | the dispatch table, Figure 20", func(t *testing.T) {
		s := server(t, plainServer)
		for mode, want := range map[byte]byte{0: 0, 1: 2, 2: 0, 3: 4, 4: 0, 5: 0, 7: 0} {
			if want == 0 {
				s.silent(fmt.Sprint("mode ", mode), packet(4, mode))
			} else if p := s.reply("a request", packet(4, mode)); byte(p.Mode) != want {
				t.Errorf("mode %d: answered by mode %d, want %d", mode, p.Mode, want)
			}
		}
	}},
	{"| 9.2 | crypto-NAK to who shows a wrong MAC", func(t *testing.T) {
		s := server(t, plainServer)
		for _, mode := range []byte{3, 1} {
			bad := timeRequest(7, "another secret")
			bad[0] = 4<<3 | mode
			s.silent(fmt.Sprintf("a wrong MAC in mode %d", mode), bad)
			s.silent("a key that is not known", packet(4, mode, append([]byte{0, 0, 0, 9}, make([]byte, 20)...)...))
			s.silent("a crypto-NAK", packet(4, mode, 0, 0, 0, 0))
		}
		if p := s.reply("a true MAC", timeRequest(7, "the secret of this test")); !p.HasMAC || p.KeyID != 7 {
			t.Errorf("a true MAC: got %+v, want one in the reply", p.Header)
		}
	}},
	{"| 9.2 | Figure 31: the fields of a reply", func(t *testing.T) {
		s := server(t, plainServer)
		begun, request := ntptime.WallOf(time.Now()), packet(4, 3)
		p := s.reply("a request", request)
		if p.Mode != wire.ModeServer || p.Leap != wire.LeapNone || p.Stratum != 1 || p.Poll != 6 || uint64(p.Origin) != binary.BigEndian.Uint64(request[40:]) {
			t.Errorf("got %+v", p.Header)
		}
		if at := p.Transmit.Wall(begun); at.Sub(begun) < -time.Second || ntptime.WallOf(time.Now()).Sub(at) < -time.Second {
			t.Errorf("the time is %v, asked for since %v", at, begun)
		}
	}},
	{"| 11.1 | not synchronized: leap 3, stratum 0", func(t *testing.T) {
		s := server(t, "server: {listen: [\"HERE\"], workers: 1, silent_start: 0s}\n")
		if p := s.reply("a request", packet(4, 3)); p.Leap != wire.LeapUnknown || p.Stratum != 0 || p.ReferenceID != 0 {
			t.Errorf("got %+v, want leap 3, stratum 0, no reference id", p.Header)
		}
	}},
	{"| 1059 (v1) | mode 0 from a high port is a request", func(t *testing.T) {
		s := server(t, plainServer)
		if p := s.reply("version 1, mode 0", packet(1, 0)); p.Version != 1 || p.Mode != wire.ModeServer {
			t.Errorf("got %+v, want version 1, mode 4", p.Header)
		}
	}},
	{"| 7822 §3 | extension fields", func(t *testing.T) {
		s := server(t, plainServer)
		unknown := append([]byte{0x7f, 0xff, 0, 28}, make([]byte, 24)...)
		s.reply("an unknown field", packet(4, 3, unknown...))
		unknown[3] = 26
		s.silent("a field of 26 bytes", packet(4, 3, unknown...))
	}},
	{"| 9109 | random source port for each request", func(t *testing.T) {
		var mu sync.Mutex
		ports, bare := map[uint16]bool{}, true
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			buffer := make([]byte, 512)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(buffer)
				if err != nil {
					return
				}
				mu.Lock()
				ports[from.Port()] = true
				for i, b := range buffer[:n] {
					bare = bare && (i == 0 || i == 2 || i >= 40 || b == 0)
				}
				mu.Unlock()
			}
		}()
		d := start(t, clientConfig(conn.LocalAddr().(*net.UDPAddr).AddrPort(), t.TempDir(), ""))
		d.until("five requests", func() bool { mu.Lock(); defer mu.Unlock(); return len(ports) >= 5 })
		mu.Lock()
		defer mu.Unlock()
		if !bare {
			t.Error("a request shows more than version, mode, poll and its transmit field")
		}
	}},
	{"| 9327 §2 | replies in pieces", func(t *testing.T) {
		s := server(t, plainServer+"sources: [{server: 127.1.1.1}, {server: 127.1.1.2}]\n")
		query := []byte{4<<3 | 6, 2, 0x47, 0x11, 0, 0, 0, 0, 0, 0, 0, 0}
		got := s.answer(query, true)
		if len(got) < 12 || len(got) > 480 || len(got)%4 != 0 || got[1]&0x9f != 0x82 || got[2] != 0x47 || got[3] != 0x11 {
			t.Errorf("got %x, want a response of at most 480 bytes in fours, with the sequence", got)
		}
		s.silent("a response", append([]byte{4<<3 | 6, 0x82}, query[2:]...))
	}},
	{"| 9769 §2 | interleaved client/server", func(t *testing.T) {
		s := server(t, plainServer)
		// The transmit timestamp of the first reply may be known too late for the second request
		// where the machine is busy: then both are made again.
		peers.Eventually(t, patience, "an interleaved reply", func() error {
			request := packet(4, 3)
			request[39] = 1 // a receive field of its own: it may ask for an interleaved reply
			request[31] = 9
			first := s.reply("a request", request)
			time.Sleep(20 * time.Millisecond) // until its transmit timestamp is known
			binary.BigEndian.PutUint64(request[24:], uint64(first.Receive))
			request[39], request[47] = 2, request[47]^0x55
			p := s.reply("an interleaved request", request)
			if uint64(p.Origin) != binary.BigEndian.Uint64(request[32:]) || p.Transmit.Sub(first.Transmit).Abs() > 10*time.Millisecond || p.Receive == first.Receive {
				return fmt.Errorf("got %+v after %+v, want its receive field as origin and the transmit timestamp of the first", p.Header, first.Header)
			}
			return nil
		})
	}},
}

// counter counts from several goroutines.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() { c.mu.Lock(); c.n++; c.mu.Unlock() }

func (c *counter) now() int { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

// refusals is how many packets of its one source a daemon has refused.
func (p *daemon) refusals() (n int) {
	associations, err := p.Associations()
	if err != nil || len(associations) != 1 {
		return 0
	}
	for _, count := range associations[0].Rejected {
		n += count
	}
	return n
}

// Rows of docs/RFC.md, shown on the program as it is built, and not on a package with a
// policy of its own. Each names this test.
func TestRowsOfRFCHoldOnTheProgram(t *testing.T) {
	text, err := os.ReadFile("../../docs/RFC.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		t.Run(strings.Trim(strings.ReplaceAll(r.row, "|", ""), " "), func(t *testing.T) {
			t.Parallel()
			_, rest, found := strings.Cut(string(text), "\n"+r.row)
			line, _, _ := strings.Cut(rest, "\n")
			if !found || !strings.Contains(line, "`TestRowsOfRFCHoldOnTheProgram`") {
				t.Errorf("docs/RFC.md has no row %q that names this test", r.row)
			}
			r.hold(t)
		})
	}
}
