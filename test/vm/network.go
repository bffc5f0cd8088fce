package vm

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// Behaviour is what one server of the guest's network does; the zero one is right.
type Behaviour struct {
	Offset time.Duration // what it says is later than the truth by this
	Leap   byte          // leap indicator, 0 to 3
	Silent bool
}

// Network is all of the guest's world: servers of NTP at the addresses of 10.7.0.0/24,
// in frames of Ethernet as QEMU hands them over a socket.
type Network struct {
	conn *net.UnixConn
	peer *net.UnixAddr

	mu      sync.Mutex
	now     func() time.Time
	cut     bool
	servers map[netip.Addr]Behaviour
	asked   map[netip.Addr]int
}

// Servers are the addresses at which somebody answers.
var Servers = []netip.Addr{netip.MustParseAddr("10.7.0.11"), netip.MustParseAddr("10.7.0.12"), netip.MustParseAddr("10.7.0.13")}

var serverMAC = []byte{0x02, 0, 0, 0, 0, 1}

// newNetwork listens at here for frames that QEMU sends from there.
func newNetwork(here, there string, now func() time.Time) (*Network, error) {
	_ = os.Remove(here)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: here, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &Network{conn: conn, peer: &net.UnixAddr{Name: there, Net: "unixgram"}, now: now, servers: map[netip.Addr]Behaviour{}, asked: map[netip.Addr]int{}}
	go n.serve()
	return n, nil
}

// All sets the behaviour of all servers.
func (n *Network) All(b Behaviour) {
	for _, s := range Servers {
		n.One(s, b)
	}
}

// One sets the behaviour of one.
func (n *Network) One(server netip.Addr, b Behaviour) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[server] = b
}

// Cut takes the network away, or gives it back.
func (n *Network) Cut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// Asked is how many requests of NTP have come to all servers.
func (n *Network) Asked() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, count := range n.asked {
		sum += count
	}
	return sum
}

func (n *Network) serve() {
	frame := make([]byte, 4096)
	for {
		size, err := n.conn.Read(frame)
		if err != nil {
			return
		}
		arrived := n.now()
		if answer := n.answer(frame[:size], arrived); answer != nil {
			_, _ = n.conn.WriteToUnix(answer, n.peer) // QEMU not there yet: as a lost packet
		}
	}
}

func (n *Network) answer(frame []byte, arrived time.Time) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut || len(frame) < 14 {
		return nil
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		return n.answerARP(frame)
	case 0x0800:
		return n.answerNTP(frame, arrived)
	}
	return nil
}

func (n *Network) known(address []byte) bool {
	a, _ := netip.AddrFromSlice(address)
	return slices.Contains(Servers, a)
}

func (n *Network) answerARP(frame []byte) []byte {
	if len(frame) < 42 || binary.BigEndian.Uint16(frame[20:]) != 1 || !n.known(frame[38:42]) {
		return nil
	}
	out := append([]byte(nil), frame[:42]...)
	copy(out[0:], frame[6:12])
	copy(out[6:], serverMAC)
	out[21] = 2
	copy(out[22:], serverMAC)
	copy(out[28:], frame[38:42])
	copy(out[32:], frame[22:32])
	return out
}

// answerNTP answers a request of mode 3 (RFC 5905, section 9.2) over IPv4 (RFC 791) and
// UDP (RFC 768, without a checksum).
func (n *Network) answerNTP(frame []byte, arrived time.Time) []byte {
	const ip, udp, ntp = 14, 34, 42
	if len(frame) < ntp+48 || frame[ip] != 0x45 || frame[ip+9] != 17 || binary.BigEndian.Uint16(frame[udp+2:]) != 123 ||
		frame[ntp]&7 != 3 || !n.known(frame[ip+16:ip+20]) {
		return nil
	}
	server, _ := netip.AddrFromSlice(frame[ip+16 : ip+20])
	n.asked[server]++
	b := n.servers[server]
	if b.Silent {
		return nil
	}
	out := append([]byte(nil), frame[:ntp+48]...)
	copy(out[0:], frame[6:12])
	copy(out[6:], serverMAC)
	copy(out[ip+12:], frame[ip+16:ip+20])
	copy(out[ip+16:], frame[ip+12:ip+16])
	binary.BigEndian.PutUint16(out[ip+2:], 20+8+48)
	binary.BigEndian.PutUint16(out[ip+10:], 0)
	binary.BigEndian.PutUint16(out[ip+10:], checksum(out[ip:ip+20]))
	copy(out[udp:], frame[udp+2:udp+4])
	copy(out[udp+2:], frame[udp:udp+2])
	binary.BigEndian.PutUint16(out[udp+4:], 8+48)
	binary.BigEndian.PutUint16(out[udp+6:], 0)
	packet := out[ntp:]
	packet[0] = b.Leap<<6 | frame[ntp]&0x38 | 4
	packet[1] = 1    // stratum
	packet[3] = 0xec // precision 2^-20 s
	copy(packet[4:], make([]byte, 8))
	packet[11] = 2 // root dispersion 30 µs
	copy(packet[12:], "TEST")
	copy(packet[24:32], frame[ntp+40:ntp+48])
	writeTimestamp(packet[16:], arrived.Add(b.Offset).Truncate(time.Second))
	writeTimestamp(packet[32:], arrived.Add(b.Offset))
	writeTimestamp(packet[40:], n.now().Add(b.Offset))
	return out
}

// writeTimestamp writes an NTP timestamp (RFC 5905, section 6).
func writeTimestamp(to []byte, at time.Time) {
	const from1900 = 2208988800
	binary.BigEndian.PutUint32(to, uint32(at.Unix()+from1900))
	binary.BigEndian.PutUint32(to[4:], uint32(uint64(at.Nanosecond())<<32/1e9))
}

// checksum is that of RFC 791.
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
