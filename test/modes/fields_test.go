package modes

import (
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// failing reports each kind of fault once, with the packet that shows it first.
type failing struct {
	t    *testing.T
	said map[string]bool
}

func faults(t *testing.T) *failing { return &failing{t, map[string]bool{}} }

func (f *failing) unless(ok bool, p *seen, what string) {
	f.t.Helper()
	if ok || f.said[what] {
		return
	}
	f.said[what] = true
	f.t.Errorf("mode %d from %v to %v: want %s; got ttl %d, %d bytes, %+v", p.Mode, p.From, p.To, what, p.TTL, len(p.Payload), p.Header)
}

// minimal is a request that tells nothing of its sender: only version, mode and a
// random transmit timestamp (draft-ietf-ntp-data-minimization; threats 10).
func (f *failing) minimal(p *seen) {
	f.t.Helper()
	bare := wire.Header{Version: p.Version, Mode: wire.ModeClient, Precision: p.Precision, Poll: p.Poll, Transmit: p.Transmit}
	f.unless(p.Header == bare && p.Transmit != 0, p, "a request with nothing in it but a transmit timestamp")
}

// checkClient looks at modes 3 and 4.
func checkClient(t *testing.T, n *network, packets []seen) {
	f := faults(t)
	ports, close, requests := map[uint16]int{}, 0, 0
	timestamps := map[uint64]bool{}
	for i := range packets {
		p := &packets[i]
		switch p.Mode {
		case wire.ModeClient:
			requests++
			f.minimal(p)
			f.unless(!timestamps[uint64(p.Transmit)], p, "a transmit timestamp that was not used before")
			timestamps[uint64(p.Transmit)] = true
			if p.Transmit.Wall(ntptime.WallOf(p.At)).Sub(ntptime.WallOf(p.At)).Abs() < time.Hour {
				close++
			}
			f.unless(p.From.Port() != 123 && p.To.Port() == 123, p, "a source port of its own (RFC 9109)")
			f.unless(p.Whole, p, "no fragments allowed (threats 15)")
			ports[p.From.Port()]++
		case wire.ModeServer:
			f.unless(p.From.Port() == 123, p, "a reply from port 123")
			f.unless(timestamps[uint64(p.Origin)], p, "the request's transmit timestamp as origin")
			f.unless(p.Receive != 0 && p.Transmit.Sub(p.Receive) > 0, p, "receive before transmit")
			f.unless(p.Stratum == 3 && p.Leap == wire.LeapNone, p, "stratum 3")
		}
	}
	if close > requests/2 {
		t.Errorf("transmit timestamps of requests near the time: got %d of %d, want random ones", close, requests)
	}
	if len(ports) < requests/2 {
		t.Errorf("source ports of %d requests: got %d, want about as many", requests, len(ports))
	}
}

// checkInterleaved looks for replies of interleaved mode: their origin is the receive
// field of a request, which is no transmit field (RFC 9769 §2).
func checkInterleaved(t *testing.T, n *network, packets []seen) {
	f := faults(t)
	basic, interleaved := map[uint64]bool{}, map[uint64]bool{}
	replies, late := 0, 0
	for i := range packets {
		p := &packets[i]
		switch p.Mode {
		case wire.ModeClient:
			f.unless(p.From.Port() != 123 && p.To.Port() == 123, p, "a source port of its own (RFC 9109)")
			f.unless(p.ReferenceID == 0 && p.ReferenceTime == 0 && p.Stratum == 0 && p.RootDelay == 0, p, "a request that tells nothing of its sender")
			basic[uint64(p.Transmit)], interleaved[uint64(p.Receive)] = true, true
		case wire.ModeServer:
			replies++
			late += bit(interleaved[uint64(p.Origin)])
			f.unless(basic[uint64(p.Origin)] || interleaved[uint64(p.Origin)], p, "an origin that a request has")
		}
	}
	if late < replies/2 {
		t.Errorf("replies of interleaved mode: got %d of %d, want most", late, replies)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkSymmetric looks at modes 1 and 2, and at the exchange that they begin with.
func checkSymmetric(t *testing.T, n *network, packets []seen) {
	f, key := faults(t), testKey(t)
	sent := map[uint64]bool{}
	for i := range packets {
		p := &packets[i]
		f.unless(p.HasMAC && p.KeyID == keyID && key.Verify(p.Signed, p.Digest), p, "a MAC of the key that verifies")
		switch p.Mode {
		case wire.ModeActive, wire.ModePassive:
			f.unless(p.From.Port() == 123 && p.To.Port() == 123, p, "ports 123 to 123")
			f.unless(p.Transmit != 0 && !sent[uint64(p.Transmit)], p, "a transmit timestamp that was not used before")
			f.unless(p.Origin == 0 || sent[uint64(p.Origin)], p, "the other's transmit timestamp as origin, or 0")
			f.unless((p.Origin == 0) == (p.Receive == 0), p, "origin and receive together")
			sent[uint64(p.Transmit)] = true
		case wire.ModeClient:
			f.minimal(p)
		}
	}
}

// checkBroadcast looks at mode 5 and the volley; a ttl of 0 says any.
func checkBroadcast(t *testing.T, n *network, packets []seen, ttl int) {
	f, key := faults(t), testKey(t)
	var last *seen
	for i := range packets {
		p := &packets[i]
		f.unless(p.HasMAC && p.KeyID == keyID && key.Verify(p.Signed, p.Digest), p, "a MAC of the key that verifies")
		f.unless(p.From.Port() == 123 && p.To.Port() == 123, p, "ports 123 to 123")
		switch p.Mode {
		case wire.ModeBroadcast:
			f.unless(p.Origin == 0 && p.Receive == 0, p, "origin and receive of 0 (RFC 5905 §8)")
			f.unless(p.Poll == -4, p, "the interval as poll")
			f.unless(p.Stratum == 3 && p.Leap == wire.LeapNone, p, "stratum 3")
			f.unless(ttl == 0 || p.TTL == ttl, p, "the ttl of the configuration")
			f.unless(ttl == 0 || p.To.Addr().IsMulticast(), p, "a group as destination")
			f.unless(last == nil || p.Transmit.Sub(last.Transmit) >= 62500*time.Microsecond, p, "an interval that is never too short")
			last = p
		case wire.ModeClient:
			f.minimal(p)
		}
	}
}
