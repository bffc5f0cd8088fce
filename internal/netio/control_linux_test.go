package netio

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// controlMessage encodes one control message as the kernel does.
func controlMessage(level, kind int, data []byte) []byte {
	room := make([]byte, 0, 512)
	b, to := appendControl(room, level, kind, len(data))
	copy(to, data)
	return b
}

func timespecs(ns ...int64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.NativeEndian.AppendUint64(b, uint64(n/1e9))
		b = binary.NativeEndian.AppendUint64(b, uint64(n%1e9))
	}
	return b
}

func oldTimespecs(ns ...int64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.NativeEndian.AppendUint32(b, uint32(n/1e9))
		b = binary.NativeEndian.AppendUint32(b, uint32(n%1e9))
	}
	return b
}

func pktinfo4(ifindex int, spec, dest string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(ifindex))
	s, d := netip.MustParseAddr(spec).As4(), netip.MustParseAddr(dest).As4()
	return append(append(b, s[:]...), d[:]...)
}

func pktinfo6(ifindex int, dest string) []byte {
	d := netip.MustParseAddr(dest).As16()
	return binary.NativeEndian.AppendUint32(d[:], uint32(ifindex))
}

func extendedError(errno uint32, origin uint8, info, data uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, errno)
	b = append(b, origin, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, info)
	return binary.NativeEndian.AppendUint32(b, data)
}

func concat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestControlMessagesAreRead(t *testing.T) {
	const ns = 1_700_000_000_123_456_789
	a4, b4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.255"), netip.MustParseAddr("fe80::1")
	timestamps := controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, timespecs(ns, 0, 0))
	info4 := controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "192.0.2.1"))
	short := controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, []byte{1, 2, 3})
	lies := append([]byte(nil), timestamps...)
	lies[0] = 255
	tiny := append([]byte(nil), timestamps...)
	tiny[0] = 3
	for _, tt := range []struct {
		name string
		in   []byte
		want control
		bad  bool
	}{
		{name: "none at all"},
		{name: "a software timestamp", in: timestamps, want: control{software: ns}},
		{name: "a software timestamp in the form that outlives 2038", in: controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW, timespecs(ns, 0, 0)), want: control{software: ns}},
		{name: "a timestamp of a 32-bit system", in: controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, oldTimespecs(ns, 0, 5)), want: control{software: ns, hardware: 5}},
		{name: "a hardware timestamp with its interface", in: concat(controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, timespecs(0, 0, ns)),
			controlMessage(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING_PKTINFO, []byte{4, 0, 0, 0, 90, 0, 0, 0})), want: control{hardware: ns, nic: 4}},
		{name: "IPv4 arrival", in: info4, want: control{dest: a4, spec: a4, ifindex: 3}},
		{name: "IPv4 broadcast", in: controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "192.0.2.255")),
			want: control{dest: b4, spec: a4, ifindex: 3}},
		{name: "IPv6 arrival", in: controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6(9, "fe80::1")), want: control{dest: a6, ifindex: 9}},
		{name: "timestamp and arrival", in: concat(timestamps, info4), want: control{software: ns, dest: a4, spec: a4, ifindex: 3}},
		{name: "an error queue message", in: concat(timestamps, controlMessage(unix.IPPROTO_IP, unix.IP_RECVERR, extendedError(42, 4, 0, 77))),
			want: control{software: ns, extended: true, errno: 42, origin: 4, data: 77}},
		{name: "an IPv6 error queue message", in: controlMessage(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, extendedError(42, 4, 0, 78)),
			want: control{extended: true, errno: 42, origin: 4, data: 78}},
		{name: "unknown ones are passed over", in: concat(controlMessage(99, 98, []byte{1}), timestamps), want: control{software: ns}},
		{name: "one that is too short for its kind is passed over", in: concat(short, timestamps), want: control{software: ns}},
		{name: "nanoseconds beyond a second are no timestamp", in: controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
			concat(timespecs(5)[:8], binary.NativeEndian.AppendUint64(nil, 1e9), timespecs(0, 0)))},
		{name: "a length beyond the end", in: lies, bad: true},
		{name: "a length below the header", in: tiny, bad: true},
		{name: "bytes left over", in: append(append([]byte(nil), info4...), 1, 2), want: control{dest: a4, spec: a4, ifindex: 3}, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := control{ifindex: 12345, software: 1, extended: true} // left over from the last
			if ok := got.parse(tt.in); ok == tt.bad {
				t.Errorf("parse returned %v", ok)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestGroupsAndBroadcastsAreToldFromOurOwnAddresses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want bool
	}{
		{"our address", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "192.0.2.1")), false},
		{"subnet broadcast", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "192.0.2.255")), true},
		{"limited broadcast", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "255.255.255.255")), true},
		{"IPv4 group", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(3, "192.0.2.1", "224.0.1.1")), true},
		{"IPv6 group", controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6(3, "ff05::101")), true},
		{"IPv6 address", controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6(3, "2001:db8::1")), false},
		{"unknown", nil, false},
	} {
		var c control
		c.parse(tt.in)
		if got := c.isGroup(); got != tt.want {
			t.Errorf("%s: group %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSourceMessageReadsBackAsArrival(t *testing.T) {
	room := make([]byte, 0, controlSpace)
	v4, v6 := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	var c control
	if !c.parse(appendHops(appendSource(room, true, v6, 11), true, 16)) || c.dest != v6 || c.ifindex != 11 {
		t.Errorf("IPv6: got %+v", c)
	}
	if !c.parse(appendTimestamping(appendSource(room, false, v4, 12), askSoftware)) || c.spec != v4 || c.ifindex != 12 {
		t.Errorf("IPv4: got %+v", c)
	}
	if got := appendSource(room, false, netip.Addr{}, 0); len(got) != 0 {
		t.Errorf("no source: %d bytes, want 0", len(got))
	}
	// The longest set of messages that send can make has room.
	if got := len(appendTimestamping(appendHops(appendSource(room, true, v6, 1), true, 255), askSoftware)); got > controlSpace {
		t.Errorf("all messages take %d bytes of %d", got, controlSpace)
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte{})
	f.Add(controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, timespecs(1e18, 0, 1e18)))
	f.Add(concat(controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4(1, "127.0.0.1", "127.0.0.1")),
		controlMessage(unix.IPPROTO_IP, unix.IP_RECVERR, extendedError(42, 4, 0, 1))))
	f.Add(controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6(1, "::1")))
	f.Add(controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, oldTimespecs(1e18, 0, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again control
		ok := c.parse(b)
		if again.parse(b) != ok || again != c {
			t.Errorf("the same bytes read differently: %+v, %+v", c, again)
		}
		if c.software < 0 || c.hardware < 0 {
			t.Errorf("negative timestamp: %+v", c)
		}
	})
}

func TestPendingTimestampsFindTheirDatagram(t *testing.T) {
	// on puts link, IP and UDP headers before a datagram.
	on := func(lower int, b []byte) []byte {
		udp := []byte{0, 123, 0, 123, 0, byte(8 + len(b)), 0xff, 0xff}
		return concat(make([]byte, lower), udp, b)
	}
	var p pendingTimestamps
	if p.add(make([]byte, 47), Token{ID: 1}) {
		t.Error("a datagram too short to be known again was added")
	}
	for id := range uint32(5) {
		if !p.add(message(uint64(id)), Token{ID: id}) {
			t.Fatal("not added")
		}
	}
	longer := append(message(3), make([]byte, 20)...)
	p.add(longer, Token{ID: 30})
	for _, tt := range []struct {
		name string
		sent []byte
		keep bool
		id   uint32
		ok   bool
	}{
		{"one in the middle", on(34, message(3)), false, 3, true},
		{"the same again is unknown", on(34, message(3)), false, 0, false},
		{"with other lower headers", on(20, message(1)), true, 1, true},
		{"kept for a second timestamp", on(20, message(1)), false, 1, true},
		{"a longer one with the same transmit timestamp", on(34, longer), false, 30, true},
		{"never sent", on(34, message(1000)), false, 0, false},
		{"shorter than any", make([]byte, 42), false, 0, false},
	} {
		if token, ok := p.match(tt.sent, tt.keep); token.ID != tt.id || ok != tt.ok {
			t.Errorf("%s: got %d, %v; want %d, %v", tt.name, token.ID, ok, tt.id, tt.ok)
		}
	}
	if got := p.waiting.Load(); got != 3 {
		t.Errorf("waiting for %d, want 3", got)
	}
	p.forget(Token{ID: 2})
	if id, ok := p.match(on(34, message(2)), false); ok {
		t.Errorf("found %d, which was forgotten", id.ID)
	}
	for id := range uint32(3 * pendingSize) {
		p.add(message(uint64(1000+id)), Token{ID: id})
	}
	if got := p.waiting.Load(); got != pendingSize {
		t.Errorf("waiting for %d, want no more than %d", got, pendingSize)
	}
	p.clear()
	if id, ok := p.match(on(34, message(1000)), false); ok || p.waiting.Load() != 0 {
		t.Errorf("found %d after all were given up, %d waiting", id.ID, p.waiting.Load())
	}
}
