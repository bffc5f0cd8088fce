package association

import (
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// seeded is a reproducible Random (splitmix64).
type seeded struct{ state uint64 }

func (s *seeded) Uint64() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

var (
	serverEnd  = netip.MustParseAddrPort("192.0.2.1:123")
	clientEnd  = netip.MustParseAddrPort("192.0.2.2:123")
	strangeEnd = netip.MustParseAddrPort("198.51.100.66:123")
	groupEnd   = netip.MustParseAddrPort("224.0.1.1:123")
)

// epoch is where invented instants begin: a moment of 2026.
var epoch = ntptime.WallOf(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))

// clockOf is a clock that begins at `start`, and is `behind` the true time.
type clockOf struct {
	start  ntptime.Wall
	behind time.Duration
	drift  ntptime.Frequency // how much too slow the raw oscillator is
}

// at reads the clock at true time t since the beginning.
func (c clockOf) at(t time.Duration) ntptime.Instant {
	raw := t - c.drift.Over(t)
	return ntptime.Instant{Wall: c.start.Add(raw - c.behind), Raw: ntptime.Raw(time.Hour + raw)}
}

// when is the true time at which the raw oscillator reads r.
func (c clockOf) when(r ntptime.Raw) time.Duration {
	raw := time.Duration(r) - time.Hour
	t := raw + c.drift.Over(raw)
	for c.at(t).Raw < r {
		t += time.Duration(r-c.at(t).Raw) + 1
	}
	return t
}

func instant(t time.Duration) ntptime.Instant { return clockOf{start: epoch}.at(t) }

func testKey(t testing.TB, id uint32) *mac.Key {
	t.Helper()
	key, err := mac.NewKey(id, mac.SHA1, []byte{byte(id), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func clientConfig() Config {
	return Config{ID: 1, Name: "server", Kind: KindClient, Remote: serverEnd, Version: 4, MinPoll: 6, MaxPoll: 10, MaxDelay: 3 * time.Second}
}

// bench holds one association and the true time at which it stands.
type bench struct {
	t     testing.TB
	a     *Association
	out   Output
	now   time.Duration
	clock clockOf
}

func newBench(t testing.TB, cfg Config) *bench {
	b := &bench{t: t, clock: clockOf{start: epoch}}
	b.a = New(cfg, b.clock.at(0), &seeded{7})
	return b
}

// sendNext waits for the next packet that the association sends and gives its bytes.
func (b *bench) sendNext() []byte {
	b.t.Helper()
	for range 10000 {
		b.out.Reset()
		due := b.a.Deadline()
		if due == ntptime.Never {
			b.t.Fatal("nothing is due any more")
		}
		b.now = max(b.now, b.clock.when(due))
		b.a.OnTimer(b.clock.at(b.now), &b.out)
		if len(b.out.Transmit) > 0 {
			return append([]byte(nil), b.out.Transmit[0].Data...)
		}
	}
	b.t.Fatal("it does not send")
	return nil
}

// deliver hands bytes to the association at a true time.
func (b *bench) deliver(data []byte, from netip.AddrPort, at time.Duration) {
	b.t.Helper()
	b.now = max(b.now, at)
	rx := model.Received{Data: data, Remote: from, Local: clientEnd.Addr(), At: b.clock.at(at), Timestamp: model.TimestampKernel}
	var p wire.Packet
	if defect := p.Decode(data); defect != wire.DefectNone {
		b.a.OnMalformed()
		return
	}
	b.out.Reset()
	b.a.OnPacket(&rx, &p, &b.out)
}

// header decodes what was sent.
func header(t testing.TB, data []byte) wire.Header {
	t.Helper()
	var p wire.Packet
	if defect := p.Decode(data); defect != wire.DefectNone {
		t.Fatalf("our own packet: %v", defect)
	}
	return p.Header
}

// encode gives the bytes of a header, signed if there is a key.
func encode(h *wire.Header, key *mac.Key) []byte {
	data := make([]byte, wire.HeaderSize)
	h.Put(data)
	if key != nil {
		data = key.AppendMAC(data, h.Version)
	}
	return data
}

// goodReply is a synchronized stratum 2 server's reply to a request, which it got and
// answered at its own time `served`.
func goodReply(request wire.Header, served ntptime.Wall) wire.Header {
	return wire.Header{Version: request.Version, Mode: wire.ModeServer, Stratum: 2, Poll: request.Poll, Precision: -20,
		RootDelay: ntptime.ShortOf(time.Millisecond), RootDispersion: ntptime.ShortOf(2 * time.Millisecond),
		ReferenceID:   wire.ReferenceAddress(netip.MustParseAddr("203.0.113.1")),
		ReferenceTime: served.Add(-10 * time.Second).Timestamp(), Origin: request.Transmit,
		Receive: served.Timestamp(), Transmit: served.Add(20 * time.Microsecond).Timestamp()}
}

// answer makes the good reply to the last request, 1 ms after it was sent.
func (b *bench) answer(request []byte) wire.Header {
	b.t.Helper()
	return goodReply(header(b.t, request), epoch.Add(b.now+500*time.Microsecond))
}

// exchange makes one good exchange.
func (b *bench) exchange() {
	b.t.Helper()
	h := b.answer(b.sendNext())
	b.deliver(encode(&h, b.a.cfg.Key), b.a.cfg.Remote, b.now+time.Millisecond)
}

func mustEnd(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func endOf(a [4]byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4(a), 123) }
