package responder_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// world is a server and its surroundings as a test has them: a synchronized clock,
// a key of every type, everybody welcome.
type world struct {
	shard      *responder.Shard
	clients    *responder.Clients
	timestamps *responder.Timestamps
	policy     *responder.Policy
	snapshot   *model.Snapshot
	env        responder.Env
	now        ntptime.Instant // when the next request comes
	took       time.Duration   // from a request to the transmit timestamp
	keys       []*mac.Key
	buffer     [2048]byte
}

var (
	seed = responder.Seed{0x0123456789abcdef, 0xfedcba9876543210}
	// client and server are addresses set aside for documentation (RFC 5737).
	clientAt = netip.MustParseAddrPort("192.0.2.7:40123")
	serverAt = netip.MustParseAddr("192.0.2.1")
	start    = ntptime.WallOf(time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC))
)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		clients:    responder.NewClients(65536, seed, false),
		timestamps: responder.NewTimestamps(65536, seed),
		policy:     &responder.Policy{},
		now:        ntptime.Instant{Wall: start, Raw: 1_000_000_000_000},
		took:       20 * time.Microsecond,
	}
	for kind := mac.MD5; kind <= mac.AES256; kind++ {
		secret := bytes.Repeat([]byte{byte(kind)}, 16)
		if kind == mac.AES256 {
			secret = bytes.Repeat(secret, 2)
		}
		k, err := mac.NewKey(uint32(kind)+100, kind, secret)
		if err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, k)
	}
	ring, err := mac.NewKeyRing(w.keys...)
	if err != nil {
		t.Fatal(err)
	}
	w.policy.Keys = ring
	w.snapshot = &model.Snapshot{
		At: w.now, Synchronized: true, Leap: wire.LeapNone, Stratum: 2,
		ReferenceID: wire.ReferenceAddress(netip.MustParseAddr("198.51.100.5")), ReferenceTime: start.Add(-17 * time.Second),
		RootDelay: 3 * time.Millisecond, RootDispersion: 5 * time.Millisecond, DispersionRate: 15 * ntptime.PPM,
		Precision: -24, Updates: 9,
	}
	w.shard = responder.NewShard(responder.ShardConfig{Clients: w.clients, Timestamps: w.timestamps, Random: 42})
	w.env = responder.Env{Snapshot: w.snapshot, Policy: w.policy, Now: func() ntptime.Instant { return w.later(w.took) }}
	return w
}

func (w *world) later(d time.Duration) ntptime.Instant {
	return ntptime.Instant{Wall: w.now.Wall.Add(d), Raw: w.now.Raw.Add(d)}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.now = w.later(d) }

// key gives the key of that type.
func (w *world) key(t testing.TB, kind mac.Type) *mac.Key {
	t.Helper()
	for _, k := range w.keys {
		if k.Type() == kind {
			return k
		}
	}
	t.Fatalf("no key of type %v", kind)
	return nil
}

// ask sends a datagram from the client and gives the reply, nil for silence.
func (w *world) ask(data []byte) ([]byte, responder.Verdict) { return w.askFrom(clientAt, data) }

func (w *world) askFrom(remote netip.AddrPort, data []byte) ([]byte, responder.Verdict) {
	return w.receive(&model.Received{Data: data, Remote: remote, Local: serverAt, Interface: 2, At: w.now})
}

func (w *world) receive(rx *model.Received) ([]byte, responder.Verdict) {
	n, v := w.shard.Respond(w.buffer[:], rx, &w.env)
	if n == 0 {
		return nil, v
	}
	return bytes.Clone(w.buffer[:n]), v
}

// request is an ordinary one of mode 3, as most clients send it.
func request(version uint8) wire.Header {
	return wire.Header{Version: version, Mode: wire.ModeClient, Poll: 6, Transmit: 0xdeadbeef01234567}
}

// answered checks that a request is answered with the time, and decodes the reply.
func (w *world) answered(t testing.TB, h wire.Header, tail ...byte) wire.Packet {
	t.Helper()
	reply, v := w.ask(append(h.Append(nil), tail...))
	if !v.Result.Time() {
		t.Fatalf("got %v (%v), want an answer", v.Result, v.Reason)
	}
	return decode(t, reply)
}

func decode(t testing.TB, reply []byte) wire.Packet {
	t.Helper()
	var p wire.Packet
	if defect := p.Decode(reply); defect != wire.DefectNone {
		t.Fatalf("got a reply with defect %v: %x", defect, reply)
	}
	return p
}

// silent checks that a datagram draws nothing, for that reason.
func (w *world) silent(t testing.TB, what string, data []byte, want responder.Reason) {
	t.Helper()
	reply, v := w.ask(data)
	if reply != nil || v.Reason != want {
		t.Errorf("%s: got %d bytes, %v (%v), want silence (%v)", what, len(reply), v.Result, v.Reason, want)
	}
}
