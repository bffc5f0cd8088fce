package xdp

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// What the kernel does with a frame (linux/bpf.h).
const (
	drop = 1
	pass = 2
	back = 3
)

// frame puts a datagram on an Ethernet link, with VLAN tags where there are some.
type frame struct {
	from, to netip.AddrPort
	tags     int
	payload  []byte
	spoil    func(ip, udp []byte) // before the checksums are made
	badSum   bool
	noSum    bool
}

func (f *frame) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for i := range f.tags {
		b = append(b, 0x81, 0, 0, byte(i+5))
	}
	udp := make([]byte, 8, 8+len(f.payload))
	binary.BigEndian.PutUint16(udp, f.from.Port())
	binary.BigEndian.PutUint16(udp[2:], f.to.Port())
	udp = append(udp, f.payload...)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	var pseudo, ip []byte
	if f.to.Addr().Is4() {
		b = append(b, 8, 0)
		ip = make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 55, 17
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
		from, to := f.from.Addr().As4(), f.to.Addr().As4()
		copy(ip[12:], from[:])
		copy(ip[16:], to[:])
		pseudo = append(append([]byte{}, ip[12:20]...), 0, 17)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(udp)))
	} else {
		b = append(b, 0x86, 0xdd)
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, 17, 55
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		from, to := f.from.Addr().As16(), f.to.Addr().As16()
		copy(ip[8:], from[:])
		copy(ip[24:], to[:])
		pseudo = append(append([]byte{}, ip[8:40]...), 0, 0)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(udp)))
		pseudo = append(pseudo, 0, 0, 0, 17)
	}
	if f.spoil != nil {
		f.spoil(ip, udp)
	}
	if len(ip) == 20 {
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
	}
	check := ^sum(append(pseudo, udp...))
	if check == 0 { // which would mean that there is none (RFC 768)
		check = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	if f.noSum {
		udp[6], udp[7] = 0, 0
	}
	if f.badSum {
		udp[7] ^= 0x55
	}
	return append(append(b, ip...), udp...)
}

// sum is the checksum of RFC 1071, not yet inverted.
func sum(b []byte) uint16 {
	total := uint32(0)
	for i := 0; i < len(b); i += 2 {
		total += uint32(b[i]) << 8
		if i+1 < len(b) {
			total += uint32(b[i+1])
		}
	}
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}

// run lets a frame come in.
func run(t testing.TB, p *Program, in []byte) (action uint32, out []byte) {
	t.Helper()
	out = make([]byte, len(in)+64)
	o := ebpf.RunOptions{Data: in, DataOut: out}
	action, err := p.objects.Fastpath.Run(&o)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrPermission) {
		t.Skip("programs cannot be tried here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return action, o.DataOut
}

// payloadOf is the datagram of a frame, whose checksums must be right.
func payloadOf(t testing.TB, b []byte) (from, to netip.AddrPort, payload []byte) {
	t.Helper()
	at := 12
	for b[at] == 0x81 && b[at+1] == 0 {
		at += 4
	}
	ip4 := b[at] == 8
	at += 2
	var pseudo []byte
	var source, dest netip.Addr
	if ip4 {
		if sum(b[at:at+20]) != 0xffff {
			t.Fatalf("IPv4 checksum: % x", b[at:at+20])
		}
		source, _ = netip.AddrFromSlice(b[at+12 : at+16])
		dest, _ = netip.AddrFromSlice(b[at+16 : at+20])
		pseudo = append(append([]byte{}, b[at+12:at+20]...), 0, 17)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)-at-20))
		at += 20
	} else {
		source, _ = netip.AddrFromSlice(b[at+8 : at+24])
		dest, _ = netip.AddrFromSlice(b[at+24 : at+40])
		pseudo = append(append([]byte{}, b[at+8:at+40]...), 0, 0)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)-at-40))
		pseudo = append(pseudo, 0, 0, 0, 17)
		at += 40
	}
	if sum(append(pseudo, b[at:]...)) != 0xffff {
		t.Fatalf("UDP checksum: % x", b[at:])
	}
	from = netip.AddrPortFrom(source, binary.BigEndian.Uint16(b[at:]))
	to = netip.AddrPortFrom(dest, binary.BigEndian.Uint16(b[at+2:]))
	return from, to, b[at+8:]
}

// server is a responder and the program, with the same state.
type server struct {
	program  *Program
	shard    *responder.Shard
	env      responder.Env
	snapshot *model.Snapshot
	now      ntptime.Instant
}

var (
	server4 = netip.MustParseAddrPort("192.0.2.1:123")
	server6 = netip.MustParseAddrPort("[2001:db8::1]:123")
	client4 = netip.MustParseAddrPort("198.51.100.7:40123")
	client6 = netip.MustParseAddrPort("[2001:db8:7::7]:40123")
)

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{program: loaded(t), now: ntptime.Instant{Wall: ntptime.WallOf(time.Date(2026, 11, 22, 15, 0, 0, 5e8, time.UTC)), Raw: 1e12}}
	s.snapshot = &model.Snapshot{
		At: s.now, Synchronized: true, Leap: wire.LeapInsert, Stratum: 2, ReferenceID: wire.ReferenceAddress(netip.MustParseAddr("198.51.100.5")),
		ReferenceTime: s.now.Wall.Add(-17 * time.Second), RootDelay: 3 * time.Millisecond, RootDispersion: 5 * time.Millisecond, Precision: -24, Updates: 9,
	}
	s.shard = responder.NewShard(responder.ShardConfig{Random: 42})
	s.env = responder.Env{Snapshot: s.snapshot, Policy: &responder.Policy{Interleaved: true}, Now: func() ntptime.Instant { return s.now }}
	if err := s.program.SetAddresses([]netip.AddrPort{server4, server6}); err != nil {
		t.Fatal(err)
	}
	return s
}

// reply is what the responder says to a datagram.
func (s *server) reply(from, to netip.AddrPort, data []byte) ([]byte, responder.Verdict) {
	buffer := make([]byte, 2048)
	n, v := s.shard.Respond(buffer, &model.Received{Data: data, Remote: from, Local: to.Addr(), At: s.now}, &s.env)
	return buffer[:n], v
}

// state is the program's, of a reply of the responder, as the daemon makes it.
func (s *server) state(t testing.TB) State {
	t.Helper()
	request := wire.Header{Version: 4, Mode: wire.ModeClient, Transmit: 1}
	data, v := s.reply(client4, server4, request.Append(nil))
	var p wire.Packet
	if p.Decode(data) != wire.DefectNone {
		t.Fatalf("the responder says %v", v)
	}
	return State{At: Monotonic(), Time: s.now.Timestamp(), Valid: time.Hour, Reply: p.Header, Interleaved: true}
}

// TestRFC5905_8_TheProgramSaysWhatTheResponderSays sends the same requests through both, and
// compares them byte by byte but for the two timestamps.
func TestRFC5905_8_TheProgramSaysWhatTheResponderSays(t *testing.T) {
	s := newServer(t)
	state := s.state(t)
	if err := s.program.Update(&state); err != nil {
		t.Fatal(err)
	}
	requests := 100_000
	if testing.Short() {
		requests = 10_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	answered := 0
	for i := range requests {
		f := frame{from: client4, to: server4, tags: random.IntN(3)}
		if i%2 == 1 {
			f.from, f.to = client6, server6
		}
		f.payload = mutated(random)
		f.badSum = random.IntN(20) == 0
		in := f.bytes()
		action, out := run(t, s.program, in)
		want, verdict := s.reply(f.from, f.to, f.payload)
		ours := plainRequest(f.payload) && !f.badSum
		if ours != (action == back) || action == drop {
			t.Fatalf("request %d, %d bytes % x, wrong checksum %v: action %d, to be answered here: %v", i, len(f.payload), f.payload[:min(48, len(f.payload))], f.badSum, action, ours)
		}
		if !ours {
			if string(out) != string(in) {
				t.Fatalf("request %d went up changed", i)
			}
			continue
		}
		answered++
		from, to, got := payloadOf(t, out)
		if from != f.to || to != f.from || len(out) != len(in) {
			t.Fatalf("reply from %v to %v, %d bytes of %d", from, to, len(out), len(in))
		}
		if verdict.Result != responder.Answered || len(want) != len(got) || string(want[:32]) != string(got[:32]) {
			t.Fatalf("request % x\nprogram   % x\nresponder % x (%v)", f.payload, got, want, verdict.Result)
		}
		receive, transmit := binary.BigEndian.Uint64(got[32:]), binary.BigEndian.Uint64(got[40:])
		if transmit <= receive || ntptime.Timestamp(transmit).Sub(ntptime.Timestamp(receive)) > time.Second {
			t.Fatalf("receive %x, transmit %x", receive, transmit)
		}
	}
	c, err := s.program.Counters()
	if err != nil || c.Answered != uint64(answered) || answered < requests/20 {
		t.Errorf("counted %+v %v, %d were answered", c, err, answered)
	}
}

// plainRequest says which requests the program is there for.
func plainRequest(b []byte) bool {
	return len(b) == 48 && b[0]&7 == 3 && b[0]>>3&7 >= 3 && b[0]>>3&7 <= 4 && binary.BigEndian.Uint64(b[24:]) == 0
}

// mutated is a request of any version, mode and length, more often a plain one.
func mutated(random *rand.Rand) []byte {
	lengths := []int{48, 48, 48, 48, 0, 1, 47, 49, 52, 68, 72, 100, 500}
	b := make([]byte, lengths[random.IntN(len(lengths))])
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if len(b) < 48 {
		return b
	}
	if random.IntN(2) == 0 {
		b[0] = byte(random.IntN(4)<<6 | (3+random.IntN(2))<<3 | 3)
	}
	if random.IntN(4) != 0 {
		clear(b[24:32])
	}
	return b
}

func plainFrame() *frame {
	h := wire.Header{Version: 4, Mode: wire.ModeClient, Poll: 6, Transmit: 0xdeadbeef01234567}
	return &frame{from: client4, to: server4, payload: h.Append(nil)}
}

func TestTimestampsAreOurClocks(t *testing.T) {
	s := newServer(t)
	state := s.state(t)
	state.Rate, state.Growth = 1e-4, 1e-3
	state.At -= 2 * time.Second // the state is two seconds old
	if err := s.program.Update(&state); err != nil {
		t.Fatal(err)
	}
	before := Monotonic()
	_, out := run(t, s.program, plainFrame().bytes())
	after := Monotonic()
	_, _, got := payloadOf(t, out)
	at := func(m time.Duration) time.Duration { return time.Duration(float64(m-state.At) * (1 + 1e-4)) }
	for _, where := range []int{32, 40} {
		d := ntptime.Timestamp(binary.BigEndian.Uint64(got[where:])).Sub(state.Time)
		if d < at(before)-time.Microsecond || d > at(after)+time.Microsecond {
			t.Errorf("timestamp %v after the state's moment, want %v to %v", d, at(before), at(after))
		}
	}
	dispersion := ntptime.Short(binary.BigEndian.Uint32(got[8:])).Duration()
	if d := dispersion - state.Reply.RootDispersion.Duration(); d < 1900*time.Microsecond || d > 200*time.Millisecond {
		t.Errorf("root dispersion has grown by %v in 2 s at 1000 ppm", d)
	}
}

func TestWhatGoesUp(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *State, f *frame)
		action uint32
	}{
		{"a plain request is answered", func(*State, *frame) {}, back},
		{"a state that is too old", func(s *State, f *frame) { s.At, s.Valid = s.At-3*time.Second, 2*time.Second }, pass},
		{"another address", func(_ *State, f *frame) { f.to = netip.MustParseAddrPort("192.0.2.2:123") }, pass},
		{"another port", func(_ *State, f *frame) { f.to = netip.MustParseAddrPort("192.0.2.1:124") }, pass},
		{"source port 0", func(_ *State, f *frame) { f.from = netip.AddrPortFrom(f.from.Addr(), 0) }, pass},
		{"from a group", func(_ *State, f *frame) { f.from = netip.MustParseAddrPort("224.0.1.1:123") }, pass},
		{"from loopback", func(_ *State, f *frame) { f.from = netip.MustParseAddrPort("127.0.0.1:123") }, pass},
		{"a fragment", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[6] = 0x20 } }, pass},
		{"a later fragment", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[7] = 1 } }, pass},
		{"do not fragment is no fragment", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[6] = 0x40 } }, back},
		{"IP options", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[0] = 0x46 } }, pass},
		{"IPv6", func(_ *State, f *frame) { f.from, f.to = client6, server6 }, back},
		{"IPv6 extension header", func(_ *State, f *frame) {
			f.from, f.to = client6, server6
			f.spoil = func(ip, _ []byte) { ip[6] = 0 }
		}, pass},
		{"from ::1", func(_ *State, f *frame) { f.from, f.to = netip.MustParseAddrPort("[::1]:5"), server6 }, pass},
		{"two VLAN tags", func(_ *State, f *frame) { f.tags = 2 }, back},
		{"three VLAN tags", func(_ *State, f *frame) { f.tags = 3 }, pass},
		{"interleaved", func(_ *State, f *frame) { f.payload[31] = 1 }, pass},
		{"an origin means nothing without interleaved mode", func(s *State, f *frame) { s.Interleaved, f.payload[31] = false, 1 }, back},
		{"access, and nobody is let in", func(s *State, f *frame) { s.Restricted = true }, pass},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			state, f := s.state(t), plainFrame()
			test.change(&state, f)
			if err := s.program.Update(&state); err != nil {
				t.Fatal(err)
			}
			if action, _ := run(t, s.program, f.bytes()); action != test.action {
				t.Errorf("action %d, want %d", action, test.action)
			}
		})
	}
}

func TestAccess(t *testing.T) {
	s := newServer(t)
	state := s.state(t)
	state.Restricted = true
	if err := errors.Join(s.program.Update(&state), s.program.SetAccess([]netip.Prefix{netip.MustParsePrefix("198.51.100.0/28"), netip.MustParsePrefix("2001:db8:7::/48")})); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]uint32{"198.51.100.15:5": back, "198.51.100.16:5": pass, "[2001:db8:7:ffff::1]:5": back, "[2001:db8:8::1]:5": pass} {
		f := plainFrame()
		if f.from = netip.MustParseAddrPort(from); f.from.Addr().Is6() {
			f.to = server6
		}
		if action, _ := run(t, s.program, f.bytes()); action != want {
			t.Errorf("%s: action %d, want %d", from, action, want)
		}
	}
	if err := s.program.SetAccess(nil); err != nil {
		t.Fatal(err)
	}
	if action, _ := run(t, s.program, plainFrame().bytes()); action != pass {
		t.Error("a network that was taken out is let in")
	}
}

// The limit is that of the responder: burst, leak, and one kiss in eight intervals.
func TestRateLimit(t *testing.T) {
	s := newServer(t)
	state := s.state(t)
	state.Limit = &Limit{Interval: time.Minute, Burst: 8, Leak: 31, Kiss: true}
	if err := s.program.Update(&state); err != nil {
		t.Fatal(err)
	}
	var got [4]int
	for range 100 {
		action, out := run(t, s.program, plainFrame().bytes())
		got[action]++
		if action != back {
			continue
		}
		_, _, reply := payloadOf(t, out)
		var p wire.Packet
		if p.Decode(reply) != wire.DefectNone {
			t.Fatalf("% x", reply)
		}
		if p.Stratum == 0 && (p.ReferenceID != wire.KissRATE || p.Poll < 6 || p.Leap != wire.LeapUnknown || p.ReferenceTime != 0 || p.Origin != 0xdeadbeef01234567) {
			t.Errorf("kiss: %+v", p.Header)
		}
	}
	if got[back] != 8+1 || got[drop] != 91 {
		t.Errorf("of 100 at once %d were answered or got RATE and %d dropped; want 9 and 91", got[back], got[drop])
	}
	c, err := s.program.Counters()
	if want := (Counters{Answered: 8, RateKoD: 1, Limited: 91}); err != nil || c != want {
		t.Errorf("counted %+v %v, want %+v", c, err, want)
	}
	other := plainFrame()
	other.from = netip.MustParseAddrPort("198.51.100.8:1")
	if action, _ := run(t, s.program, other.bytes()); action != back {
		t.Error("another client pays for the first")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(plainFrame().bytes())
	s := newServer(f)
	state := s.state(f)
	if err := s.program.Update(&state); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 14 || len(b) > 1500 {
			return
		}
		action, out := run(t, s.program, b)
		if len(out) > len(b) || action == drop {
			t.Errorf("action %d, %d bytes out of %d", action, len(out), len(b))
		}
	})
}

func TestASampleGoesUp(t *testing.T) {
	s := newServer(t)
	state := s.state(t)
	state.Sample = 16
	if err := s.program.Update(&state); err != nil {
		t.Fatal(err)
	}
	var got [4]int
	for range 4000 {
		action, _ := run(t, s.program, plainFrame().bytes())
		got[action]++
	}
	if got[pass] < 150 || got[pass] > 350 || got[pass]+got[back] != 4000 {
		t.Errorf("of 4000 requests %d went up, want about 250", got[pass])
	}
}
