package netio

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// inNamespace moves the test's thread into a network namespace of its own, with lo up,
// and back when it is over. Sockets that the test opens belong to the namespace;
// goroutines that it starts must not open any.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		_ = unix.Close(home)
		runtime.UnlockOSThread()
		t.Skipf("no network namespace to be had: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			t.Fatalf("back to the namespace of the tests: %v", err)
		}
		_ = unix.Close(home)
		runtime.UnlockOSThread()
	})
	ip(t, "link set lo up")
	for _, which := range []string{"all", "default"} { // a namespace may inherit a filter of source addresses
		_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+which+"/rp_filter", []byte("0"), 0)
	}
}

// ip runs a command of iproute2 in the thread's namespace.
func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// collector hands on what a port receives.
type collector chan model.Received

func (c collector) Expect([]netip.AddrPort) {}

func (c collector) Sent(Token, ntptime.Instant, model.TimestampKind) {}

func (c collector) Handle(rx *model.Received, _ time.Duration, _ []byte) (int, Token) {
	copied := *rx
	copied.Data = append([]byte(nil), rx.Data...)
	c <- copied
	return 0, Token{}
}

func (c collector) next(t *testing.T) model.Received {
	t.Helper()
	select {
	case rx := <-c:
		return rx
	case <-time.After(patience):
		t.Fatal("nothing was received")
		return model.Received{}
	}
}

func TestGroupIsReceivedOnTheInterfaceThatJoinedIt(t *testing.T) {
	inNamespace(t)
	near, peer := newPeer(t)
	group := netip.MustParseAddr("224.0.1.1")
	got := make(collector, 100)
	p := listenAt(t, ListenConfig{Workers: 3}, got)
	to := netip.AddrPortFrom(group, p.LocalAddr().Port())
	if err := p.JoinGroup(group, "lo"); err != nil {
		t.Fatal(err)
	}
	peer.send(t, "192.0.2.2", to, message(1)) // not joined there
	if err := p.JoinGroup(group, "near"); err != nil {
		t.Fatal(err)
	}
	if err := p.JoinGroup(group, "near"); err == nil {
		t.Error("joined twice")
	}
	peer.send(t, "192.0.2.2", to, message(2))
	if rx := got.next(t); rx.Local != group || rx.Interface != near || rx.Data[47] != 2 {
		t.Errorf("received %d for %s by %d; want 2 for %s by %d", rx.Data[47], rx.Local, rx.Interface, group, near)
	}
	if err := p.LeaveGroup(group, "near"); err != nil {
		t.Fatal(err)
	}
	if err := p.LeaveGroup(group, "near"); err == nil {
		t.Error("left twice")
	}
	peer.send(t, "192.0.2.2", to, message(3))
	peer.send(t, "192.0.2.2", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), to.Port()), message(4))
	if rx := got.next(t); rx.Data[47] != 4 {
		t.Errorf("received %d after leaving, want 4", rx.Data[47])
	}
}

// Linux may give a datagram for a group to any socket of the port, by a hash of the
// addresses, once the one member has been found (inet_steal_sock).
func TestGroupIsReceivedOnceWhicheverSocketItComesBy(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	group := netip.MustParseAddr("224.0.1.1")
	got := make(collector, 100)
	p := listenAt(t, ListenConfig{Workers: 2}, got)
	if err := p.JoinGroup(group, "near"); err != nil {
		t.Fatal(err)
	}
	for n := byte(2); n < 40; n++ {
		from := netip.AddrFrom4([4]byte{192, 0, 2, n})
		peer.send(t, from.String(), netip.AddrPortFrom(group, p.LocalAddr().Port()), message(uint64(n)))
		if rx := got.next(t); rx.Data[47] != n || rx.Remote.Addr() != from {
			t.Fatalf("received %d from %s, want %d from %s", rx.Data[47], rx.Remote, n, from)
		}
	}
}

func TestWhatIsSentToAGroupGoesByTheInterfaceWithItsHopLimit(t *testing.T) {
	inNamespace(t)
	near, peer := newPeer(t)
	ip(t, "addr add 2001:db8::1/64 dev near nodad")
	for _, tt := range []struct {
		group  string
		ttl    int
		offset int // of the hop limit in the frame
	}{{"224.0.1.1", 0, 22}, {"ff05::101", 0, 21}, {"224.0.1.2", 3, 22}, {"ff05::102", 4, 21}} {
		group, want := netip.MustParseAddr(tt.group), DefaultMulticastTTL
		got := make(collector, 10)
		p := listenAt(t, ListenConfig{}, got)
		if err := p.JoinGroup(group, "near"); err != nil { // to hear our own: multicast loop
			t.Fatal(err)
		}
		if tt.ttl != 0 {
			want = tt.ttl
			if err := p.SetMulticastTTL(group, tt.ttl); err != nil {
				t.Fatal(err)
			}
		}
		var m, frame []byte
		for n, err := uint64(0x1122334455667700), error(unix.EAGAIN); err != nil; n++ { // the kernel drops what comes in a flood, also another program's
			if m = message(n); n > 0x1122334455667700+20 {
				t.Fatalf("%s: nothing came by the wire: %v", group, err)
			}
			if _, err := p.Send(m, netip.AddrPortFrom(group, p.LocalAddr().Port()), netip.Addr{}, near, Token{}); err != nil {
				t.Fatal(err)
			}
			if rx := got.next(t); rx.Local != group {
				t.Errorf("%s: our own datagram came for %s", group, rx.Local)
			}
			frame, err = peer.readWithin(t, time.Second, m)
		}
		if got := int(frame[tt.offset]); got != want {
			t.Errorf("%s: hop limit %d, want %d", group, got, want)
		}
	}
	p := listenAt(t, ListenConfig{}, echo)
	for _, ttl := range []int{0, 256, -1} {
		if p.SetMulticastTTL(netip.MustParseAddr("224.0.1.1"), ttl) == nil {
			t.Errorf("ttl %d was taken", ttl)
		}
	}
}

func TestDatagramsAreNotFragmented(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	ip(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev near")
	p := listenAt(t, ListenConfig{}, echo)
	request := message(0x0102030405060708)
	to := netip.MustParseAddrPort("192.0.2.2:200")
	peer.send(t, "192.0.2.2", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p.LocalAddr().Port()), request)
	reply := peer.read(t, request)
	own := message(0x1112131415161718)
	if _, err := p.Send(own, to, netip.Addr{}, 0, Token{}); err != nil {
		t.Fatal(err)
	}
	sent := peer.read(t, own)
	c := clientOf(t, ClientConfig{Remote: to})
	asked := message(0x2122232425262728)
	if _, err := c.Send(asked); err != nil {
		t.Fatal(err)
	}
	for name, frame := range map[string][]byte{"reply": reply, "sent from the port": sent, "client's request": peer.read(t, asked)} {
		if frame[20]&0x40 == 0 {
			t.Errorf("%s: DF is not set", name)
		}
	}
	if _, err := p.Send(make([]byte, 1600), to, netip.Addr{}, 0, Token{}); err == nil {
		t.Error("a datagram longer than the link takes was sent in fragments")
	}
}

func TestClientIsBoundToItsInterface(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	ip(t, "neigh add 127.0.0.1 lladdr 02:00:00:00:00:02 dev near")
	ip(t, "neigh add 203.0.113.1 lladdr 02:00:00:00:00:02 dev near")
	ip(t, "route add 203.0.113.0/24 dev lo")
	c := clientOf(t, ClientConfig{Remote: netip.MustParseAddrPort("203.0.113.1:123"), Interface: "near",
		Local: netip.MustParseAddr("192.0.2.1")})
	if got, want := c.LocalAddr().Addr().String(), "192.0.2.1"; got != want {
		t.Errorf("source address %s, want %s", got, want)
	}
	m := message(77)
	if _, err := c.Send(m); err != nil {
		t.Fatal(err)
	}
	peer.read(t, m)
	if c, err := OpenClient(ClientConfig{Remote: netip.MustParseAddrPort("203.0.113.1:123"), Interface: "absent"}); err == nil {
		t.Errorf("opened %s on an interface that is not there", c.LocalAddr())
	}
}

func TestBroadcastIsHandledOnceAndBySubnet(t *testing.T) {
	inNamespace(t)
	host, peer := newPeer(t)
	got := make(collector, 100)
	p := listenAt(t, ListenConfig{Workers: 4}, got)
	for _, address := range []string{"192.0.2.255", "255.255.255.255"} {
		peer.send(t, "192.0.2.2", netip.AddrPortFrom(netip.MustParseAddr(address), p.LocalAddr().Port()), message(9))
		rx := got.next(t)
		if rx.Local.String() != address || rx.Interface != host {
			t.Errorf("received for %s by %d, want %s by %d", rx.Local, rx.Interface, address, host)
		}
	}
	// Unicast after it: had there been copies, they would have come before.
	peer.send(t, "192.0.2.2", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p.LocalAddr().Port()), message(10))
	if rx := got.next(t); rx.Data[47] != 10 {
		t.Errorf("received %x once more", rx.Data)
	}
	for p.Counters().Duplicate != 6 {
		runtime.Gosched()
	}
}

// Datagrams to an address that nobody has fill the send buffer while their neighbour is
// looked for; a transmit timestamp beside it is then an event of EPOLLERR alone.
func TestAFullSendBufferDoesNotEndServing(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	ip(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 nud permanent dev near")
	got, timestamped := make(collector, 100), make(chan uint32, 100)
	p := listenAt(t, ListenConfig{Workers: 1}, telling{
		func(rx *model.Received, _ []byte) int { got.Handle(rx, 0, nil); return 0 },
		func(token Token, _ ntptime.Instant, _ model.TimestampKind) { timestamped <- token.ID },
	})
	port := p.LocalAddr().Port()
	for range 200 { // over half of the buffer: epoll then says no more that it can be written
		_, _ = p.Send(message(0), netip.MustParseAddrPort("192.0.2.77:123"), netip.Addr{}, 0, Token{})
	}
	for n := byte(1); n <= 20; n++ {
		if _, err := p.Send(message(uint64(n)), netip.MustParseAddrPort("192.0.2.2:123"), netip.Addr{}, 0, Token{ID: uint32(n)}); err != nil {
			t.Fatal(err)
		}
		peer.send(t, "192.0.2.2", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), message(uint64(n)))
		if rx := got.next(t); rx.Data[47] != n {
			t.Fatalf("received %d, want %d", rx.Data[47], n)
		}
		select {
		case id := <-timestamped:
			if id != uint32(n) {
				t.Fatalf("timestamp of %d, want %d", id, n)
			}
		case <-time.After(patience):
			t.Fatalf("no timestamp of %d", n)
		}
	}
}

func TestNothingIsReceivedOnAnIgnoredInterface(t *testing.T) {
	inNamespace(t)
	_, peer := newPeer(t)
	got := make(collector, 100)
	p := listenAt(t, ListenConfig{Ignore: []string{"near", "absent"}}, got)
	to := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p.LocalAddr().Port())
	peer.send(t, "192.0.2.2", to, message(1))
	for p.Counters().Ignored == 0 {
		runtime.Gosched()
	}
	if len(got) != 0 {
		t.Error("a datagram of the ignored interface was handled")
	}
	// What is renamed is not the interface that was named.
	ip(t, "link set near down")
	ip(t, "link set near name other")
	ip(t, "link set other up")
	if err := p.Refresh(); err != nil {
		t.Fatal(err)
	}
	peer.resolve(t, "other")
	peer.sendUntilReceived(t, to, 2, got)
}

func TestGroupIsJoinedAgainWhenItsInterfaceComesBack(t *testing.T) {
	inNamespace(t)
	group := netip.MustParseAddr("224.0.1.1")
	got := make(collector, 100)
	p := listenAt(t, ListenConfig{}, got)
	if err := p.JoinGroup(group, "near"); err != nil {
		t.Fatalf("join on an interface that is not there yet: %v", err)
	}
	// The kernel keeps 20 groups a socket: memberships must not pile up.
	for round := range 22 {
		_, peer := newPeer(t)
		if err := p.Refresh(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		ip(t, "link set near down")
		ip(t, "link set near up")
		if err := p.Refresh(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		to := netip.AddrPortFrom(group, p.LocalAddr().Port())
		peer.sendUntilReceived(t, to, byte(round), got)
		peer.close()
		ip(t, "link del near")
		if err := p.Refresh(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func TestMonitorTellsOfInterfacesAndAddresses(t *testing.T) {
	inNamespace(t)
	m, err := OpenMonitor()
	if err != nil {
		t.Fatal(err)
	}
	// The monitor looks at the interfaces of the thread it runs on, so it must be this one.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	steps := []string{"link set near up", "addr add 192.0.2.1/24 dev near", "addr del 192.0.2.1/24 dev near", "link del near"}
	ip(t, "link add near type veth peer name far")
	done := 0
	err = m.Run(ctx, func() {
		if done == len(steps) {
			cancel()
			return
		}
		ip(t, steps[done])
		done++
	})
	if err != nil || done != len(steps) {
		t.Errorf("told of %d changes, want %d; %v", done, len(steps), err)
	}
	if err := ctx.Err(); err != context.Canceled {
		t.Error("the last change was not told")
	}
}

func TestLinkLocalExchangeNeedsNoMoreThanTheZone(t *testing.T) {
	inNamespace(t)
	newPeer(t)
	ip(t, "addr add fe80::7/64 dev near nodad")
	index := fmt.Sprint(interfaceIndex(t, "near"))
	alone := netip.MustParseAddrPort("[fe80::7%near]:0")
	for _, tt := range []struct {
		zone   string
		listen netip.AddrPort
	}{{"near", netip.AddrPort{}}, {index, netip.AddrPort{}}, {"near", alone}} {
		requests := make(collector, 10)
		p := listenAt(t, ListenConfig{Address: tt.listen}, handlerFunc(func(rx *model.Received, reply []byte) int {
			requests.Handle(rx, 0, nil)
			return copy(reply, rx.Data)
		}))
		remote := netip.AddrPortFrom(netip.MustParseAddr("fe80::7%"+tt.zone), p.LocalAddr().Port())
		c := clientOf(t, ClientConfig{Remote: remote})
		exchangeOnce(t, c)
		rx := requests.next(t)
		if got, want := rx.Remote.Addr().String(), "fe80::7%near"; got != want {
			t.Errorf("request from %s, want %s", got, want)
		}
		if got, want := rx.Local.String(), "fe80::7"; got != want {
			t.Errorf("request to %s, want %s", got, want)
		}
		if _, err := p.Send(message(2), rx.Remote, rx.Local, rx.Interface, Token{}); err != nil {
			t.Fatal(err)
		}
		if got := readPacket(t, c).Data[47]; got != 2 {
			t.Errorf("second datagram is %d, want 2", got)
		}
	}
}

// exchangeOnce sends until a datagram comes back: IPv6 on an interface that has just come
// up loses some.
func exchangeOnce(t *testing.T, c *Client) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := c.Send(message(1)); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			var rx model.Received
			event, err := c.Read(make([]byte, bufferSize), &rx)
			if err == nil && event.Transmitted {
				continue
			}
			if err == nil {
				if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				return
			}
			break
		}
	}
	t.Fatal("nothing comes back")
}

func interfaceIndex(t *testing.T, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// wire is the far end of a cable: it sends whole frames, so the host under test sees
// them as another host's.
type wire struct {
	fd   int
	far  int
	dest net.HardwareAddr
}

// newPeer makes interface near with 192.0.2.1/24 and a raw far end. It returns near's index.
func newPeer(t *testing.T) (int, *wire) {
	t.Helper()
	ip(t, "link add near type veth peer name far")
	ip(t, "link set far up")
	ip(t, "link set near up")
	ip(t, "addr add 192.0.2.1/24 dev near brd +")
	// The kernel notices the carrier of a new cable some time later, and what is sent before is lost.
	for deadline := time.Now().Add(patience); !running(t, "near") || !running(t, "far"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the cable does not come up")
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fd, far: interfaceIndex(t, "far")}
	t.Cleanup(w.close)
	w.resolve(t, "near")
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: w.far}); err != nil {
		t.Fatal(err)
	}
	return interfaceIndex(t, "near"), w
}

// running reports whether an interface is up and has a carrier.
func running(t *testing.T, name string) bool {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Flags&net.FlagRunning != 0
}

func (w *wire) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
	}
	w.fd = -1
}

// resolve learns the link address of the host's interface.
func (w *wire) resolve(t *testing.T, name string) {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	w.dest = i.HardwareAddr
}

// read returns the next frame from the host that ends in payload.
func (w *wire) read(t *testing.T, payload []byte) []byte {
	t.Helper()
	frame, err := w.readWithin(t, patience, payload)
	if err != nil {
		t.Fatalf("nothing came by the wire: %v", err)
	}
	return frame
}

// readWithin is read for so long.
func (w *wire) readWithin(t *testing.T, while time.Duration, payload []byte) ([]byte, error) {
	t.Helper()
	timeout := unix.NsecToTimeval(int64(while))
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 4096)
	for {
		n, from, err := unix.Recvfrom(w.fd, frame, 0)
		if err != nil {
			return nil, err
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if ok && link.Pkttype != unix.PACKET_OUTGOING && bytes.HasSuffix(frame[:n], payload) {
			return frame[:n], nil
		}
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// send puts a frame with an IPv4 UDP datagram on the wire.
func (w *wire) send(t *testing.T, from string, to netip.AddrPort, payload []byte) {
	t.Helper()
	frame := concat(w.linkAddress(to.Addr()), []byte{2, 0, 0, 0, 0, 2, 8, 0}, datagram4(netip.MustParseAddr(from), to, payload))
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.far, Halen: 6}); err != nil {
		t.Fatal(err)
	}
}

// linkAddress is where a frame for an address goes: the kernel takes datagrams to a
// group other ways than its own (RFC 1112 §6.4).
func (w *wire) linkAddress(to netip.Addr) net.HardwareAddr {
	b := to.As4()
	switch {
	case to.IsMulticast():
		return net.HardwareAddr{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	case b[3] == 255:
		return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	return w.dest
}

// sendUntilReceived sends datagrams with a number until one is received: a link that was
// set up takes a moment to carry.
func (w *wire) sendUntilReceived(t *testing.T, to netip.AddrPort, number byte, got collector) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		w.send(t, "192.0.2.2", to, message(uint64(number)))
		select {
		case rx := <-got:
			if rx.Data[47] == number {
				return
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("datagram %d was not received", number)
}

// datagram4 is an IPv4 packet with UDP, its checksum left out.
func datagram4(from netip.Addr, to netip.AddrPort, payload []byte) []byte {
	total, udp := 28+len(payload), 8+len(payload)
	src, dst := from.As4(), to.Addr().As4()
	head := []byte{0x45, 0, byte(total >> 8), byte(total), 0, 0, 0x40, 0, 64, 17, 0, 0}
	head = concat(head, src[:], dst[:])
	sum := 0
	for i := 0; i < 20; i += 2 {
		sum += int(head[i])<<8 | int(head[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	head[10], head[11] = byte(^sum>>8), byte(^sum)
	return concat(head, []byte{0, 200, byte(to.Port() >> 8), byte(to.Port()), byte(udp >> 8), byte(udp), 0, 0}, payload)
}
