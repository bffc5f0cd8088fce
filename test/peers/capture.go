package peers

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Datagram is one of UDP as it passed a host's eth0, in or out.
type Datagram struct {
	At       time.Time
	From, To netip.AddrPort
	TTL      int  // or hop limit
	Whole    bool // may not be cut into fragments (IPv4's DF; IPv6 has none)
	Payload  []byte
}

// Capture sees every datagram from or to port 123 of a host, by a packet socket (packet(7)).
type Capture struct {
	mu    sync.Mutex
	list  []Datagram
	watch func(Datagram)
}

// Listen starts to look at the host's eth0.
func Listen(t testing.TB, h *Host) *Capture {
	t.Helper()
	var socket *os.File
	if err := h.Inside(func() (err error) { socket, err = packetSocket("eth0"); return err }); err != nil {
		t.Fatalf("a packet socket on %s: %v", h.Name, err)
	}
	c, done := &Capture{}, make(chan struct{})
	go func() {
		defer close(done)
		c.run(socket)
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-done
	})
	return c
}

func packetSocket(device string) (*os.File, error) {
	card, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	// Bound at once to no protocol, so that nothing comes before it is bound to the card.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	socket := os.NewFile(uintptr(fd), "packets")
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	every := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: card.Index}); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// run reads until the socket is closed.
func (c *Capture) run(socket *os.File) {
	frame := make([]byte, 1<<16)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, unix.ENETDOWN) {
			continue // the interface went down; it may come back
		}
		if err != nil {
			return
		}
		d, ok := parseFrame(frame[:n])
		if !ok || d.From.Port() != 123 && d.To.Port() != 123 {
			continue
		}
		d.At = time.Now()
		c.mu.Lock()
		c.list = append(c.list, d)
		watch := c.watch
		c.mu.Unlock()
		if watch != nil {
			watch(d)
		}
	}
}

// Each has watch called with what passes from now on, by one goroutine in its order.
func (c *Capture) Each(watch func(Datagram)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = watch
}

// Packets are those seen so far, in their order.
func (c *Capture) Packets() []Datagram {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

const (
	ethernetSize = 14
	ipv4Size     = 20 // without options
	ipv6Size     = 40
	udpSize      = 8
	protocolUDP  = 17
)

// parseFrame takes the datagram out of an Ethernet frame, where there is a whole one.
func parseFrame(b []byte) (d Datagram, ok bool) {
	if len(b) < ethernetSize {
		return d, false
	}
	var from, to netip.Addr
	switch kind, ip := binary.BigEndian.Uint16(b[12:]), b[ethernetSize:]; {
	case kind == unix.ETH_P_IP && len(ip) >= ipv4Size && ip[9] == protocolUDP && binary.BigEndian.Uint16(ip[6:])&0x1fff == 0:
		d.TTL, d.Whole = int(ip[8]), ip[6]&0x40 != 0
		from, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		b = ip[min(int(ip[0]&15)*4, len(ip)):]
	case kind == unix.ETH_P_IPV6 && len(ip) >= ipv6Size && ip[6] == protocolUDP:
		d.TTL, d.Whole = int(ip[7]), true
		from, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		b = ip[ipv6Size:]
	default:
		return d, false
	}
	if len(b) < udpSize {
		return d, false
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size < udpSize || size > len(b) {
		return d, false
	}
	d.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b))
	d.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	d.Payload = slices.Clone(b[udpSize:size])
	return d, true
}
