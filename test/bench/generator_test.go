package bench

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
)

// responder is a server for the generator to be tried on.
type responder func(rx *model.Received, reply []byte) int

func (r responder) Expect([]netip.AddrPort) {}

func (r responder) Handle(rx *model.Received, _ time.Duration, reply []byte) (int, netio.Token) {
	return r(rx, reply), netio.Token{}
}

func (r responder) Sent(netio.Token, ntptime.Instant, model.TimestampKind) {}

// good answers as a server would, in basic mode; with the receive field as origin where
// the request has one, as in interleaved mode.
func good(rx *model.Received, reply []byte) int {
	n := copy(reply, rx.Data)
	reply[0] = 4<<3 | 4
	reply[1] = 1
	origin := rx.Data[offSend:]
	if binary.BigEndian.Uint64(rx.Data[offReceive:]) != 0 {
		origin = rx.Data[offReceive:]
	}
	copy(reply[offOrigin:offReceive], origin)
	binary.BigEndian.PutUint64(reply[offReceive:], uint64(rx.At.Wall.Timestamp()))
	binary.BigEndian.PutUint64(reply[offSend:], uint64(rx.At.Wall.Timestamp())+1)
	return n
}

func serve(t *testing.T, r responder) string {
	t.Helper()
	p, err := netio.Listen(netio.ListenConfig{Address: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = p.Serve(0, r) })
	t.Cleanup(func() {
		_ = p.Close()
		serving.Wait()
	})
	return p.LocalAddr().String()
}

func TestGeneratorCountsWhatAServerAnswers(t *testing.T) {
	bad := func(change func(reply []byte)) responder {
		return func(rx *model.Received, reply []byte) int {
			n := good(rx, reply)
			change(reply)
			return n
		}
	}
	for _, tt := range []struct {
		name  string
		serve responder
		load  Load
		valid bool
	}{
		{"closed loop, bursts", good, Load{Kind: KindPlain, InFlight: 16, Burst: 4}, true},
		{"closed loop, many addresses", good, Load{Kind: KindPlain, InFlight: 16, Burst: 4, Addresses: 500}, true},
		{"open loop", good, Load{Kind: KindPlain, Rate: 2000, Burst: 1}, true},
		{"keyed", good, Load{Kind: KindKeyed, InFlight: 8, Burst: 4, Key: key}, true},
		{"interleaved", good, Load{Kind: KindInterleaved, Rate: 2000, Burst: 1, Addresses: 20}, true},
		{"unsynchronized", bad(func(r []byte) { r[0] |= 0xc0 }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
		{"kiss", bad(func(r []byte) { r[1] = 0 }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
		{"another mode", bad(func(r []byte) { r[0] = 4<<3 | 5 }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
		{"another version", bad(func(r []byte) { r[0] = 3<<3 | 4 }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
		{"a wrong origin", bad(func(r []byte) { r[offOrigin] ^= 1 }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
		{"no timestamp", bad(func(r []byte) { clear(r[offSend:headerSize]) }), Load{Kind: KindPlain, InFlight: 8, Burst: 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.load.Target = serve(t, tt.serve)
			inTime(t, &tt.load, func(r *Result) error {
				switch {
				case r.Sent == 0 || (r.Received > 0) != tt.valid || (r.Invalid > 0) == tt.valid:
					return fmt.Errorf("%d sent, %d valid, %d invalid; want valid %v", r.Sent, r.Received, r.Invalid, tt.valid)
				case (r.Interleaved > 0) != (tt.load.Kind == KindInterleaved):
					return fmt.Errorf("%d interleaved replies", r.Interleaved)
				case tt.valid && (r.P50 <= 0 || r.P99 < r.P50 || r.P99 > 10*time.Second):
					return fmt.Errorf("latencies %v and %v", r.P50, r.P99)
				}
				return nil
			})
		})
	}
}

// inTime generates a load until what came of it is as wanted: one whose generator or server
// was not given the processor in time says nothing, so that a longer one is tried.
func inTime(t *testing.T, load *Load, judge func(*Result) error) {
	t.Helper()
	for load.Duration = 50 * time.Millisecond; ; load.Duration *= 2 {
		r, err := Generate(*load)
		if err != nil {
			t.Fatal(err)
		}
		err = judge(&r)
		switch {
		case err == nil:
			return
		case load.Duration > 5*time.Second:
			t.Fatal(err)
		}
	}
}

func TestEveryReplyIsCountedOnce(t *testing.T) {
	load := Load{Kind: KindPlain, Rate: 1000, Burst: 1, Target: serve(t, good)}
	inTime(t, &load, func(r *Result) error {
		if most := uint64(load.Duration.Seconds() * load.Rate); r.Sent == 0 || r.Sent > most || r.Received != r.Sent || r.Loss() != 0 {
			return fmt.Errorf("%d sent, %d received; want no loss, and at most %d", r.Sent, r.Received, most)
		}
		return nil
	})
	slots, err := newSlots(4, Load{Kind: KindPlain})
	if err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, headerSize)
	binary.BigEndian.PutUint64(reply[offOrigin:], timestampMagic+2)
	if _, _, ok := slotOf(slots, reply); ok {
		t.Error("a reply to what was not asked")
	}
	slots[2].waiting = true
	if i, interleaved, ok := slotOf(slots, reply); i != 2 || interleaved || !ok {
		t.Errorf("reply of slot %d, interleaved %v, %v; want 2", i, interleaved, ok)
	}
	if _, _, ok := slotOf(slots, reply[:40]); ok {
		t.Error("a reply too short")
	}
	binary.BigEndian.PutUint64(reply[offOrigin:], timestampMagic+4)
	if _, _, ok := slotOf(slots, reply); ok {
		t.Error("a reply of a slot beyond the last")
	}
}

func TestRequestsAreWhatTheyShouldBe(t *testing.T) {
	slots, err := newSlots(3, Load{Kind: KindKeyed, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	k, err := mac.NewKey(key.ID, mac.AES128, key.Secret)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range slots {
		if len(s.request) != keyedSize || !k.Verify(s.request[:headerSize], s.request[headerSize+4:]) {
			t.Errorf("request %d of %d bytes has no good MAC", i, len(s.request))
		}
	}
	if _, err := newSlots(1, Load{Kind: KindKeyed, Key: Key{ID: 1, Secret: []byte("short")}}); err == nil {
		t.Error("a key too short was taken")
	}
	seen := make(map[int]bool)
	mixed, err := newSlots(4096, Load{Kind: KindMixed})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range mixed {
		seen[len(s.request)] = true
	}
	if !seen[0] || !seen[47] || !seen[48] || !seen[52] || !seen[68] || len(seen) < 200 {
		t.Errorf("%d different lengths, want some hundred, from 0 on", len(seen))
	}
}

func TestLoadsThatCannotBeAreRefused(t *testing.T) {
	for name, load := range map[string]Load{
		"no target":                     {InFlight: 1},
		"IPv6":                          {Target: "[::1]:123", InFlight: 1},
		"more addresses than there are": {Target: "127.0.0.1:9", Addresses: 1<<16 + 1, InFlight: 1},
		"more in flight than addresses": {Target: "127.0.0.1:9", Addresses: 4, InFlight: 5},
	} {
		if _, err := Generate(load); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestStatisticsOfRounds(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v: %v, want %v", tt.values, got, tt.want)
		}
	}
	d := []time.Duration{5, 1, 4, 2, 3}
	if got := percentile(d, 0.5); got != 3 {
		t.Errorf("median %d, want 3", got)
	}
	if got := percentile(d, 1); got != 5 {
		t.Errorf("greatest %d, want 5", got)
	}
	if got := percentile(nil, 0.5); got != 0 {
		t.Errorf("median of nothing %d, want 0", got)
	}
	if got := rms([]time.Duration{3, -4, 0, 0}); got != 2 {
		t.Errorf("rms %d, want 2", got)
	}
	f := make(figures)
	for i := range 3 {
		f.add("a", "x", float64(2*i+2))
		f.add("b", "x", float64(i+1))
	}
	if got := f.ratio("a", "x", "b", "x"); got != 2 {
		t.Errorf("ratio %v, want 2", got)
	}
}
