package modes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/wire"
	"timeball/test/peers"
)

// seen is one NTP datagram as it passed a host's eth0, in or out.
type seen struct {
	At      time.Time
	From    netip.AddrPort
	To      netip.AddrPort
	TTL     int  // or hop limit
	Whole   bool // may not be cut into fragments (IPv4's DF; IPv6 has none)
	Payload []byte
	wire.Packet
}

// tap sees every NTP datagram of a host by a packet socket (packet(7)).
type tap struct {
	mu    sync.Mutex
	list  []seen
	watch func(*seen) // called with each as it comes, if not nil
}

// listen starts to look at a host's eth0.
func listen(t testing.TB, h *peers.Host) *tap {
	t.Helper()
	var socket *os.File
	if err := h.Inside(func() (err error) { socket, err = packetSocket(); return err }); err != nil {
		t.Fatalf("a packet socket on %s: %v", h.Name, err)
	}
	w := &tap{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, err := socket.Read(b)
			if errors.Is(err, unix.ENETDOWN) {
				continue // the interface went down; it may come back
			}
			if err != nil {
				return
			}
			if p, ok := parseFrame(b[:n]); ok {
				w.mu.Lock()
				w.list = append(w.list, p)
				watch := w.watch
				w.mu.Unlock()
				if watch != nil {
					watch(&p)
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-done
	})
	return w
}

func packetSocket() (*os.File, error) {
	protocol := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	return os.NewFile(uintptr(fd), "packets"), nil
}

// each has watch called with what passes from now on, on the tap's goroutine.
func (w *tap) each(watch func(*seen)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = watch
}

// packets are those seen so far, in their order.
func (w *tap) packets() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// parseFrame takes an NTP datagram out of an Ethernet frame.
func parseFrame(b []byte) (seen, bool) {
	const ethernet, udp = 14, 17
	if len(b) < ethernet {
		return seen{}, false
	}
	p := seen{At: time.Now(), Whole: true}
	var source, to netip.Addr
	switch kind, ip := binary.BigEndian.Uint16(b[12:]), b[ethernet:]; {
	case kind == unix.ETH_P_IP && len(ip) >= 20 && ip[9] == udp:
		p.TTL, p.Whole = int(ip[8]), ip[6]&0x40 != 0
		source, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		b = ip[min(int(ip[0]&15)*4, len(ip)):]
	case kind == unix.ETH_P_IPV6 && len(ip) >= 40 && ip[6] == udp:
		p.TTL = int(ip[7])
		source, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		b = ip[40:]
	default:
		return seen{}, false
	}
	if len(b) < 8 || int(binary.BigEndian.Uint16(b[4:])) > len(b) || binary.BigEndian.Uint16(b[4:]) < 8 {
		return seen{}, false
	}
	p.From = netip.AddrPortFrom(source, binary.BigEndian.Uint16(b))
	p.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	p.Payload = slices.Clone(b[8:binary.BigEndian.Uint16(b[4:])])
	if p.From.Port() != 123 && p.To.Port() != 123 {
		return seen{}, false
	}
	return p, p.Decode(p.Payload) == wire.DefectNone
}

// between leaves the packets between two hosts, and those of either to a group.
func between(packets []seen, a, b *peers.Host) []seen {
	of := func(h *peers.Host, addr netip.Addr) bool { return addr == h.IPv4 || addr == h.IPv6 }
	others := func(addr netip.Addr) bool { return addr.IsMulticast() || addr.Is4() && addr.As4()[3] == 255 }
	var left []seen
	for _, p := range packets {
		from, to := p.From.Addr(), p.To.Addr()
		if of(a, from) && (of(b, to) || others(to)) || of(b, from) && (of(a, to) || others(to)) {
			left = append(left, p)
		}
	}
	return left
}

// step is a packet of an exchange: who sends it, and in which mode.
type step struct {
	from *peers.Host
	mode wire.Mode
}

func (s step) String() string { return fmt.Sprintf("%s: mode %d", s.from.Name, s.mode) }

func (s step) is(p *seen) bool {
	return p.Mode == s.mode && (p.From.Addr() == s.from.IPv4 || p.From.Addr() == s.from.IPv6)
}

// inOrder looks for steps one after the other among packets, others between them
// allowed, and says which is missing.
func inOrder(packets []seen, steps []step) error {
	at := 0
	for _, want := range steps {
		i := slices.IndexFunc(packets[at:], func(p seen) bool { return want.is(&p) })
		if i < 0 {
			return fmt.Errorf("of %d packets none after the first %d is from %v", len(packets), at, want)
		}
		at += i + 1
	}
	return nil
}

// modesFrom are the modes of a host's packets, each once, in ascending order.
func modesFrom(packets []seen, h *peers.Host) []wire.Mode {
	var modes []wire.Mode
	for i := range packets {
		if p := &packets[i]; (step{h, p.Mode}).is(p) {
			modes = append(modes, p.Mode)
		}
	}
	slices.Sort(modes)
	return slices.Compact(modes)
}
