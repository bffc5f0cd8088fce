package modes

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/mac"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
	"timeball/test/peers"
)

// sender sends datagrams under any source address.
type sender interface {
	Send(from, to netip.AddrPort, payload []byte) error
}

// forger6 is peers.Forger for IPv6: a raw socket that takes whole packets.
type forger6 struct{ socket *os.File }

func newForger(t testing.TB, h *peers.Host, ipv6 bool) sender {
	t.Helper()
	if !ipv6 {
		return peers.Forge(t, h)
	}
	f := &forger6{}
	err := h.Inside(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		f.socket = os.NewFile(uintptr(fd), "raw6")
		return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0")
	})
	if err != nil {
		t.Fatalf("a raw socket on %s: %v", h.Name, err)
	}
	t.Cleanup(func() { _ = f.socket.Close() })
	return f
}

// Send sends a payload as if it came from an address and port (RFC 8200 §3, RFC 768).
func (f *forger6) Send(from, to netip.AddrPort, payload []byte) error {
	const udp = 17
	size := 8 + len(payload)
	source, target := from.Addr().As16(), to.Addr().As16()
	b := []byte{0x60, 0, 0, 0, byte(size >> 8), byte(size), udp, 64}
	b = append(append(b, source[:]...), target[:]...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(append(b, 0, 0), payload...)
	sum := udp + size
	for part := slices.Concat(b[8:], make([]byte, len(payload)%2)); len(part) > 0; part = part[2:] {
		sum += int(binary.BigEndian.Uint16(part))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[46:], max(^uint16(sum), 1))
	return unix.Sendto(int(f.socket.Fd()), b, 0, &unix.SockaddrInet6{Addr: target})
}

// payload makes the packet of a round; nil for none.
type payload func(round int) []byte

// forged is one kind of packet as the attacker sends it.
type forged struct {
	from, to netip.AddrPort
	payload  payload
}

// lie is a packet that says it is an hour later than it is, by a server of stratum 1.
func lie(mode wire.Mode) payload {
	return func(round int) []byte {
		later := ntptime.WallOf(time.Now().Add(time.Hour)).Timestamp()
		h := wire.Header{Version: 4, Mode: mode, Stratum: 1, Precision: -20, ReferenceID: wire.ReferenceName("GPS"),
			ReferenceTime: later, Receive: later, Transmit: later + ntptime.Timestamp(round)}
		switch {
		case mode == wire.ModeBroadcast:
			h.Receive = 0
		case round%2 == 0: // else the origin of 0 (threats 8)
			h.Origin = ntptime.Timestamp(round)
		}
		return h.Append(nil)
	}
}

// kiss is a refusal in the server's name, its origin invented (threats 7).
func kiss(code wire.ReferenceID) payload {
	return func(round int) []byte {
		h := wire.Header{Leap: wire.LeapUnknown, Version: 4, Mode: wire.ModeServer, Poll: 17, ReferenceID: code, Origin: ntptime.Timestamp(round)}
		return h.Append(nil)
	}
}

// signed puts a true MAC behind a lie, by whatever key.
func signed(p payload, key *mac.Key) payload {
	return func(round int) []byte { return key.AppendMAC(p(round), 4) }
}

// falsely puts octets behind a lie that are no MAC of it.
func falsely(p payload, octets int) payload {
	return func(round int) []byte {
		return append(wire.AppendKeyID(p(round), keyID), slices.Repeat([]byte{0xa5}, octets)...)
	}
}

// refusal is a crypto-NAK (threats 14).
func refusal(p payload) payload {
	return func(round int) []byte { return wire.AppendCryptoNAK(p(round)) }
}

// recorded are a host's packets of a mode so far.
func recorded(packets []seen, from *peers.Host, mode wire.Mode) [][]byte {
	var list [][]byte
	for i := range packets {
		if p := &packets[i]; (step{from, mode}).is(p) {
			list = append(list, p.Payload)
		}
	}
	return list
}

// replayed sends recorded packets again, the oldest first or the newest.
func replayed(list [][]byte, reversed bool) payload {
	return func(round int) []byte {
		if len(list) == 0 {
			return nil
		}
		i := round % len(list)
		if reversed {
			i = len(list) - 1 - i
		}
		return list[i]
	}
}

// slots bounds how many tests attack at once: a flood must meet daemons that have a
// processor to run on, or their clocks are judged by the machine's load.
var slots = make(chan struct{}, 2)

func takeSlot(t *testing.T) {
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

// storm sends each of its packets ten times a second until it is ended.
type storm struct {
	stop chan struct{}
	sent chan int
}

func begin(t *testing.T, s sender, packets []forged) *storm {
	t.Helper()
	w := &storm{make(chan struct{}), make(chan int, 1)}
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		sent := 0
		for round := 1; ; round++ {
			sent += once(s, packets, round)
			select {
			case <-w.stop:
				w.sent <- sent
				return
			case <-ticker.C:
			}
		}
	}()
	return w
}

// once sends each packet once.
func once(s sender, packets []forged, round int) (sent int) {
	for _, p := range packets {
		if b := p.payload(round); b != nil && s.Send(p.from, p.to, b) == nil {
			sent++
		}
	}
	return sent
}

// burst sends n packets at once.
func burst(s sender, packets []forged, n int) {
	for round := 1000; n > 0; round++ {
		n -= max(once(s, packets, round), 1)
	}
}

// end stops the storm and says how many packets it had.
func (w *storm) end() int {
	close(w.stop)
	return <-w.sent
}
