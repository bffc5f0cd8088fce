package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/netio/xdp"
	"timeball/test/peers"
)

// watchedPorts is the source port of a request of no bytes (generator.c): each byte more
// is a port further, so that a reply tells how long its request was.
const watchedPorts = 20000

var (
	soakServer6 = netip.MustParseAddr("fd00:98::1")
	soakClients = netip.MustParseAddr("fd00:97::")
)

// BenchmarkFastPathEndurance sends ten million frames of all sorts to a server that answers
// in the driver, and past the kernel's UDP: what it has counted is what was sent to it, no
// reply is longer than its request, and it still answers.
func BenchmarkFastPathEndurance(b *testing.B) {
	lab := peers.NewLab(b)
	s := onRig(b, lab, "fast", false, func(r *rig) *contender {
		for _, argv := range [][]string{
			{"ip", "-6", "address", "add", soakServer6.String() + "/64", "dev", "cable0", "nodad"},
			{"ip", "-6", "neighbour", "replace", "fd00:98::2", "lladdr", "02:98:00:00:00:02", "dev", "cable0", "nud", "permanent"},
			{"ip", "-6", "route", "add", "fd00:97::/64", "via", "fd00:98::2"},
		} {
			if _, complaints, err := r.server.Run(nil, argv...); err != nil {
				b.Fatalf("%v: %v: %s", argv, err, complaints)
			}
		}
		return startTimeball(b, r.server, "timeball", r.port, fieldsOn+"\n  rate_limit: {interval: 2s, burst: 8, leak: 4}")
	})
	frames := make([][]byte, 1<<16)
	for i := range frames {
		frames[i] = mixedFrame(i, s.address)
	}
	if err := s.links[0].Update(s.objects.Watch); err != nil {
		b.Skip(err)
	}
	if _, err := s.sendAll(frames, 4*len(frames)); err != nil { // tables fill
		b.Fatal(err)
	}
	for range b.N {
		before, answered := s.passed(b)
		if err := s.read(); err != nil {
			b.Fatal(err)
		}
		arrived := s.counts.Received
		memory := s.server.resident()
		sent, err := s.sendAll(frames, int(*packets))
		if err != nil {
			b.Fatal(err)
		}
		want := uint64(0) // of those the server's address, of the size of a plain request
		for i, frame := range frames {
			if countedByFastPath(frame, s.address) {
				want += uint64((sent + len(frames) - 1 - i) / len(frames))
			}
		}
		after, replies := s.passed(b)
		after.Answered -= before.Answered
		after.RateKoD -= before.RateKoD
		after.Limited -= before.Limited
		after.Forwarded -= before.Forwarded
		after.Redirected -= before.Redirected
		if got := after.Answered + after.RateKoD + after.Limited + after.Forwarded; got != want {
			b.Errorf("the fast path has counted %d, %+v; %d of %d frames were for it", got, after, want, sent)
		}
		if err := s.read(); err != nil {
			b.Fatal(err)
		}
		replies += after.Answered + after.RateKoD - answered
		arrived = s.counts.Received - arrived
		if s.counts.Longer != 0 || arrived == 0 || arrived > replies {
			b.Errorf("%d replies arrived of %d, %d of them longer than their requests", arrived, replies, s.counts.Longer)
		}
		if grown := s.server.resident() - memory; grown > 1 {
			b.Errorf("resident memory grew by %.1f MiB", grown)
		}
		fmt.Printf("\nfast path: %d frames, %d counted: %+v; %d of %d replies arrived, none longer than its request: %v; resident memory %.1f MiB before, %.1f after\n",
			sent, want, after, arrived, replies, s.counts.Longer == 0, memory, s.server.resident())
	}
	if err := s.links[0].Update(s.objects.Turn); err != nil {
		b.Fatal(err)
	}
	if d, err := s.open(s.process(), 200, 1, 500*time.Millisecond); err != nil || d.received == 0 {
		b.Errorf("no answers any more: %+v, %v", d, err)
	}
}

// passed is what the fast path has counted, and how many datagrams the sockets of its host and
// the workers have sent, once all stand still.
func (d *driven) passed(b *testing.B) (c xdp.Counters, sockets uint64) {
	b.Helper()
	last := xdp.Counters{Answered: 1 << 63}
	peers.Eventually(b, time.Minute, "the counters stand still", func() error {
		s, err := d.statistics()
		if err != nil {
			return err
		}
		c = xdp.Counters{Answered: s.FastPath.Answered, RateKoD: s.FastPath.RateKoD, Limited: s.FastPath.Limited, Forwarded: s.FastPath.Forwarded, Redirected: s.FastPath.Redirected}
		sockets = s.FastPath.Replied
		if l := s.FastPath.Lost; l.Malformed+l.Overlong > 0 {
			b.Errorf("the workers could not read what they were given, or replied too long: %+v", l)
		}
		if c == last {
			return nil
		}
		last = c
		time.Sleep(700 * time.Millisecond) // they are read twice a second
		return errors.New("they go on")
	})
	out, _, err := d.rig.server.Run(nil, "cat", "/proc/net/snmp", "/proc/net/snmp6")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var in, none, failed, sent uint64
		if n, _ := fmt.Sscanf(line, "Udp: %d %d %d %d", &in, &none, &failed, &sent); n == 4 {
			sockets += sent
		}
		if n, _ := fmt.Sscanf(line, "Udp6OutDatagrams %d", &sent); n == 1 {
			sockets += sent
		}
	}
	return c, sockets
}

// mixedFrame is one of 65,536 frames, good and broken on every layer.
func mixedFrame(i int, server netip.Addr) []byte {
	random := rand.New(rand.NewPCG(7, uint64(i)))
	header := make([]byte, headerSize)
	header[0], header[2] = 4<<3|3, 6
	binary.BigEndian.PutUint64(header[offSend:], random.Uint64())
	payload, tags := broken(header, i), max(0, random.IntN(8)-4)
	port := uint16(watchedPorts + len(payload))
	from, to := netip.AddrPort{}, netip.AddrPortFrom(server, 123)
	client := clientNetwork | uint32(random.IntN(1<<16))
	if i/16%3 == 0 {
		octets := soakClients.As16()
		binary.BigEndian.PutUint32(octets[12:], client)
		from, to = netip.AddrPortFrom(netip.AddrFrom16(octets), port), netip.AddrPortFrom(soakServer6, 123)
	} else {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, client))), port)
	}
	switch random.IntN(20) {
	case 0: // not for this host
		to = netip.AddrPortFrom(to.Addr().Next().Next().Next(), 123)
	case 1:
		to = netip.AddrPortFrom(to.Addr(), 124)
	}
	b := frameOf(from, to, tags, payload)
	udp := len(b) - len(payload) - 8
	switch random.IntN(10) {
	case 0: // cut short
		b = b[:14+random.IntN(len(b)-14)]
	case 1: // bits flipped, but for the port that a reply goes to
		for range 1 + random.IntN(4) {
			if at := random.IntN(len(b)); at != udp && at != udp+1 {
				b[at] ^= 1 << random.IntN(8)
			}
		}
	case 2: // no checksum
		b[udp+6], b[udp+7] = 0, 0
	}
	return b
}

// countedByFastPath says whether the fast path takes a frame as an NTP packet for the server
// of the size that it answers, whatever then becomes of it (docs/public-server.md).
func countedByFastPath(b []byte, server netip.Addr) bool {
	if b[0]&1 != 0 {
		return false
	}
	at := 12
	for range 2 {
		if len(b) >= at+6 && (b[at] == 0x81 && b[at+1] == 0 || b[at] == 0x88 && b[at+1] == 0xa8) {
			at += 4
		}
	}
	if len(b) < at+2 {
		return false
	}
	ip := b[at+2:]
	var udp []byte
	var to netip.Addr
	switch protocol := binary.BigEndian.Uint16(b[at:]); {
	case protocol == 0x0800 && len(ip) >= 20 && ip[0] == 0x45 && ip[9] == protocolUDP:
		first := ip[12]
		if binary.BigEndian.Uint16(ip[2:]) != 76 || binary.BigEndian.Uint16(ip[6:])&0xbfff != 0 ||
			first >= 224 || first == 0 || first == 127 || internetSum(ip[:20], 0) != 0xffff {
			return false
		}
		to, udp = netip.AddrFrom4([4]byte(ip[16:20])), ip[20:]
	case protocol == 0x86dd && len(ip) >= 40 && ip[0]>>4 == 6 && ip[6] == protocolUDP:
		if binary.BigEndian.Uint16(ip[4:]) != 56 || ip[8] == 0xff || binary.BigEndian.Uint64(ip[8:]) == 0 {
			return false
		}
		to, udp = netip.AddrFrom16([16]byte(ip[24:40])), ip[40:]
	default:
		return false
	}
	return len(udp) >= 56 && binary.BigEndian.Uint16(udp[4:]) == 56 && binary.BigEndian.Uint16(udp) != 0 &&
		binary.BigEndian.Uint16(udp[2:]) == 123 && (to == server || to == soakServer6)
}

// sendAll sends so many frames, one after the other of the list, past the queue of the
// interface, and gives how many have left.
func (r *rig) sendAll(frames [][]byte, count int) (sent int, err error) {
	err = r.client.Inside(func() error {
		if err := put(0, clientEnd, priorityProgram); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: r.cable}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		var iov [batch]unix.Iovec
		var messages [batch]unix.Mmsghdr
		for i := range messages {
			messages[i].Hdr.Iov = &iov[i]
			messages[i].Hdr.SetIovlen(1)
		}
		for sent < count {
			n := min(batch, count-sent)
			for i := range n {
				frame := frames[(sent+i)%len(frames)]
				iov[i].Base = unsafe.SliceData(frame)
				iov[i].SetLen(len(frame))
			}
			done, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(n), 0, 0, 0)
			switch errno {
			case 0:
				sent += int(done)
			case unix.ENOBUFS, unix.EAGAIN, unix.EINTR: // this frame did not leave
			default:
				return os.NewSyscallError("sendmmsg", errno)
			}
		}
		return nil
	})
	return sent, err
}
