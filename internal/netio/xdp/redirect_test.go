package xdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/ntptime"
)

const redirected = 4

// apart puts the test into a network namespace of its own, with nothing but a loopback interface.
func apart(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for ever: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
}

// withWorker is a server whose program has a worker for the queue that frames of run come by.
func withWorker(t *testing.T) (*server, *Worker) {
	t.Helper()
	apart(t)
	s := newServer(t)
	w, err := s.program.worker(1, 0, func() ntptime.Instant { return s.now })
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOBUFS) {
		t.Skip("no AF_XDP here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

// fielded is a request of n bytes that has more than a header.
func fielded(n int) *frame {
	f := plainFrame()
	f.payload = append(f.payload, bytes.Repeat([]byte{0x5a}, n-len(f.payload))...)
	return f
}

func TestWhatIsRedirected(t *testing.T) {
	s, w := withWorker(t)
	want := uint64(0)
	for _, test := range []struct {
		name   string
		change func(s *State, f *frame)
		action uint32
	}{
		{"extension fields", func(*State, *frame) {}, redirected},
		{"a MAC", func(_ *State, f *frame) { f.payload = f.payload[:68] }, redirected},
		{"a crypto-NAK", func(_ *State, f *frame) { f.payload = f.payload[:52] }, redirected},
		{"version 3", func(_ *State, f *frame) { f.payload[0] = 3<<3 | 3 }, redirected},
		{"version 2", func(_ *State, f *frame) { f.payload[0] = 2<<3 | 3 }, pass},
		{"mode 1", func(_ *State, f *frame) { f.payload[0] = 4<<3 | 1 }, pass},
		{"mode 6", func(_ *State, f *frame) { f.payload[0] = 2<<3 | 6 }, pass},
		{"the longest", func(_ *State, f *frame) { f.payload = fielded(1472).payload }, redirected},
		{"longer", func(_ *State, f *frame) { f.payload = fielded(1476).payload }, pass},
		{"no multiple of four", func(_ *State, f *frame) { f.payload = f.payload[:70] }, pass},
		{"shorter than a header", func(_ *State, f *frame) { f.payload = f.payload[:44] }, pass},
		{"a plain request is answered", func(_ *State, f *frame) { f.payload = f.payload[:48] }, back},
		{"a plain request, where something must be shown", func(s *State, f *frame) { s.NotPlain, f.payload = true, f.payload[:48] }, pass},
		{"fields, where something must be shown", func(s *State, f *frame) { s.NotPlain = true }, redirected},
		{"no workers", func(s *State, _ *frame) { s.Fields = false }, pass},
		{"a state that is too old", func(s *State, _ *frame) { s.At, s.Valid = s.At-3e9, 2e9 }, pass},
		{"interleaved", func(_ *State, f *frame) { f.payload[31] = 1 }, pass},
		{"an origin without interleaved mode", func(s *State, f *frame) { s.Interleaved, f.payload[31] = false, 1 }, redirected},
		{"a wrong checksum", func(_ *State, f *frame) { f.badSum = true }, pass},
		{"no checksum", func(_ *State, f *frame) { f.noSum = true }, pass},
		{"another port", func(_ *State, f *frame) { f.to = netip.MustParseAddrPort("192.0.2.1:124") }, pass},
		{"another address", func(_ *State, f *frame) { f.to = netip.MustParseAddrPort("192.0.2.2:123") }, pass},
		{"from port 0", func(_ *State, f *frame) { f.from = netip.AddrPortFrom(f.from.Addr(), 0) }, pass},
		{"a fragment", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[6] = 0x20 } }, pass},
		{"IP options", func(_ *State, f *frame) { f.spoil = func(ip, _ []byte) { ip[0] = 0x46 } }, pass},
		{"an IP length beyond the frame", func(_ *State, f *frame) {
			f.spoil = func(ip, udp []byte) {
				binary.BigEndian.PutUint16(ip[2:], binary.BigEndian.Uint16(ip[2:])+4)
				binary.BigEndian.PutUint16(udp[4:], binary.BigEndian.Uint16(udp[4:])+4)
			}
		}, pass},
		{"lengths that differ", func(_ *State, f *frame) {
			f.spoil = func(_, udp []byte) { binary.BigEndian.PutUint16(udp[4:], binary.BigEndian.Uint16(udp[4:])-4) }
		}, pass},
		{"IPv6", func(_ *State, f *frame) { f.from, f.to = client6, server6 }, redirected},
		{"IPv6 from a link-local address", func(_ *State, f *frame) { f.from, f.to = netip.MustParseAddrPort("[fe80::7]:5"), server6 }, pass},
		{"IPv6, a wrong checksum", func(_ *State, f *frame) { f.from, f.to, f.badSum = client6, server6, true }, pass},
		{"two VLAN tags", func(_ *State, f *frame) { f.tags = 2 }, redirected},
		{"three VLAN tags", func(_ *State, f *frame) { f.tags = 3 }, pass},
	} {
		state, f := s.state(t), fielded(228)
		state.Fields = true
		test.change(&state, f)
		if err := s.program.Update(&state); err != nil {
			t.Fatal(err)
		}
		in := f.bytes()
		before := Monotonic()
		action, out := run(t, s.program, in)
		if action == redirected && len(out) == arrivalSize+len(in) {
			want++
			if at := time.Duration(binary.NativeEndian.Uint64(out)); at < before || at > Monotonic() {
				t.Errorf("%s: arrived at %v, after %v", test.name, at, before)
			}
			out = out[arrivalSize:]
		}
		if action != test.action {
			t.Errorf("%s: action %d, want %d", test.name, action, test.action)
		}
		if action != back && !bytes.Equal(in, out) {
			t.Errorf("%s: changed on its way", test.name)
		}
	}
	state := s.state(t)
	state.Fields = true
	if err := errors.Join(s.program.Update(&state), w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if action, _ := run(t, s.program, fielded(228).bytes()); action != pass {
		t.Errorf("without its worker: action %d, want %d", action, pass)
	}
	c, err := s.program.Counters()
	if err != nil || c.Redirected != want || want == 0 {
		t.Errorf("counted %+v %v, want %d redirected", c, err, want)
	}
}

// With access lists a worker has the responder look; nothing is refused unseen.
func TestAccessOfWhatIsRedirected(t *testing.T) {
	s, _ := withWorker(t)
	state := s.state(t)
	state.Fields, state.Restricted = true, true
	if err := s.program.Update(&state); err != nil {
		t.Fatal(err)
	}
	if action, _ := run(t, s.program, fielded(228).bytes()); action != redirected {
		t.Errorf("action %d, want %d", action, redirected)
	}
}
