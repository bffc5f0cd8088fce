package interop

import (
	"fmt"
	"testing"
	"time"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// keyKind is one kind of key in the three programs' words. The secret is the same in all.
type keyKind struct {
	name, timeball, chronyd, ntpd string
	hex                           string
}

const (
	secret16 = "00112233445566778899aabbccddeeff"
	secret32 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	other16  = "ffeeddccbbaa99887766554433221100"
)

var keyKinds = []keyKind{
	{"MD5", "md5", "MD5", "MD5", secret16},
	{"SHA1", "sha1", "SHA1", "SHA1", secret16 + "01234567"},
	{"SHA256", "sha256", "SHA256", "SHA256", secret32},
	{"AES128", "aes128-cmac", "AES128", "AES-128", secret16},
}

// ours, chrony and ntp are the key as number 7 in each one's configuration.
func (k keyKind) ours() string {
	return fmt.Sprintf("keys: [{id: 7, type: %s, hex: %q}]\n", k.timeball, k.hex)
}
func (k keyKind) chrony() string { return fmt.Sprintf("7 %s HEX:%s", k.chronyd, k.hex) }
func (k keyKind) ntp() string    { return fmt.Sprintf("7 %s %s\n", k.ntpd, k.hex) }

func TestTimeballFollowsChronydByKey(t *testing.T) {
	t.Parallel()
	for _, kind := range keyKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			peers.Chronyd(t, server, fmt.Sprintf("keyfile %s\n%s", peers.ChronyKeys(server, kind.chrony()), chronyServer))
			capture := peers.Listen(t, client)
			d := peers.Timeball(t, client, quickSource(server.IPv4, ", key: 7")+kind.ours()+wrongClock)
			follows(t, d, 60*time.Second, server.IPv4)
			allSigned(t, capture)
		})
	}
}

func TestChronydFollowsTimeballByKey(t *testing.T) {
	t.Parallel()
	for _, kind := range keyKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			peers.Timeball(t, server, "local: {stratum: 3}\nserver: {require: key}\nclock: {driver: observe}\n"+kind.ours())
			capture := peers.Listen(t, client)
			c := peers.Chronyd(t, client, fmt.Sprintf("keyfile %s\nserver %v minpoll 0 maxpoll 0 iburst key 7",
				peers.ChronyKeys(client, kind.chrony()), server.IPv4))
			c.Selects(30*time.Second, server.IPv4.String())
			allSigned(t, capture)
			if reply, err := ask(client, server.IPv4, 4); !peers.Silent(err) {
				t.Errorf("a request without a key, where one is required: got stratum %d, %v, want silence", reply.Stratum, err)
			}
		})
	}
}

// SHA256 is 32 bytes long in chronyd's version 3 and cut to 20 in its version 4: the
// answer is of the same kind.
func TestChronydFollowsTimeballBySHA256OfVersion4(t *testing.T) {
	t.Parallel()
	lab := peers.NewLab(t)
	server, client := lab.Host("server"), lab.Host("client")
	kind := keyKinds[2]
	peers.Timeball(t, server, serverConfig+kind.ours())
	serves(t, client, server.IPv4)
	c := peers.Chronyd(t, client, fmt.Sprintf("keyfile %s\nserver %v minpoll 0 maxpoll 0 iburst key 7 version 4",
		peers.ChronyKeys(client, kind.chrony()), server.IPv4))
	c.Selects(30*time.Second, server.IPv4.String())
}

// allSigned looks at what was captured: requests and replies, each with key 7.
func allSigned(t *testing.T, capture *peers.Capture) {
	t.Helper()
	seen := map[wire.Mode]int{}
	for _, captured := range capture.Packets() {
		var p wire.Packet
		if defect := p.Decode(captured.Payload); defect != wire.DefectNone {
			t.Errorf("a packet from %v: %v: %x", captured.From, defect, captured.Payload)
			continue
		}
		seen[p.Mode]++
		if !p.HasMAC || p.KeyID != 7 || len(p.Digest) == 0 {
			t.Errorf("a packet of mode %v from %v: got MAC %v, key %d, want key 7", p.Mode, captured.From, p.HasMAC, p.KeyID)
		}
	}
	if seen[wire.ModeClient] == 0 || seen[wire.ModeServer] == 0 {
		t.Errorf("captured by mode: got %v, want requests and replies", seen)
	}
}

// With another secret under the same number nobody follows anybody.
func TestAWrongKeyIsNotBelieved(t *testing.T) {
	t.Parallel()
	right, wrong := keyKinds[3], keyKinds[3]
	wrong.hex = other16
	t.Run("by timeball", func(t *testing.T) {
		t.Parallel()
		lab := peers.NewLab(t)
		server, client := lab.Host("server"), lab.Host("client")
		peers.Chronyd(t, server, fmt.Sprintf("keyfile %s\n%s", peers.ChronyKeys(server, right.chrony()), chronyServer))
		serves(t, client, server.IPv4)
		d := peers.Timeball(t, client, quickSource(server.IPv4, ", key: 7")+wrong.ours()+wrongClock)
		d.Says(60*time.Second, "unreachable")
		if sources, err := d.Sources(); err != nil || len(sources) != 1 || sources[0].Reach != 0 || sources[0].Offset != nil && *sources[0].Offset != 0 {
			t.Errorf("chronyd as timeball sees it: got %v, %v, want reach 0 and nothing measured", sources, err)
		}
	})
	t.Run("by chronyd", func(t *testing.T) {
		t.Parallel()
		lab := peers.NewLab(t)
		server, client := lab.Host("server"), lab.Host("client")
		peers.Timeball(t, server, serverConfig+right.ours())
		serves(t, client, server.IPv4)
		c := peers.Chronyd(t, client, fmt.Sprintf("keyfile %s\nserver %v minpoll 0 maxpoll 0 iburst key 7",
			peers.ChronyKeys(client, wrong.chrony()), server.IPv4))
		peers.Eventually(t, 30*time.Second, "chronyd has asked six times", func() error {
			rows, err := c.Chronyc("ntpdata", server.IPv4.String())
			if err != nil || len(rows) == 0 {
				return fmt.Errorf("ntpdata: %q, %v", rows, err)
			}
			// The last but five column counts what was sent, the ones after what came.
			row := rows[0]
			var sent int
			if _, err := fmt.Sscan(row[len(row)-4], &sent); err != nil || sent < 6 {
				return fmt.Errorf("ntpdata: %q", row)
			}
			return nil
		})
		sources, err := c.Sources()
		if err != nil || len(sources) != 1 || sources[0].Reach != 0 {
			t.Errorf("timeball as chronyd sees it: got %+v, %v, want reach 0", sources, err)
		}
	})
}

func TestTimeballFollowsNTPsecByKey(t *testing.T) {
	t.Parallel()
	for _, kind := range []keyKind{keyKinds[1], keyKinds[3]} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			peers.NTPsec(t, server, fmt.Sprintf("keys %s\ntrustedkey 7\ntos orphan 2 orphanwait 1", server.Write("ntp.keys", kind.ntp())))
			d := peers.Timeball(t, client, quickSource(server.IPv4, ", key: 7")+kind.ours()+wrongClock)
			follows(t, d, 90*time.Second, server.IPv4)
		})
	}
}

func TestNTPsecFollowsTimeballByKey(t *testing.T) {
	t.Parallel()
	for _, kind := range []keyKind{keyKinds[1], keyKinds[3]} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			lab := peers.NewLab(t)
			server, client := lab.Host("server"), lab.Host("client")
			peers.Timeball(t, server, "local: {stratum: 3}\nserver: {require: key}\nclock: {driver: observe}\n"+kind.ours())
			n := peers.NTPsec(t, client, fmt.Sprintf("keys %s\ntrustedkey 7\nserver %v minpoll 0 maxpoll 0 iburst key 7",
				client.Write("ntp.keys", kind.ntp()), server.IPv4))
			n.Selects(90*time.Second, server.IPv4.String())
		})
	}
}
