package xdp

import (
	"bytes"
	"testing"
)

// turned is the reply with a payload to a request, as a worker makes it.
func turned(t testing.TB, request, payload []byte) []byte {
	t.Helper()
	var d datagram
	if !d.parse(request) {
		t.Fatalf("no datagram in % x", request)
	}
	buffer := make([]byte, frameSize)
	copy(buffer[d.udp+udpSize:], payload)
	return d.turn(buffer, request, len(payload))
}

func TestAReplyGoesBack(t *testing.T) {
	for _, f := range []frame{
		{from: client4, to: server4}, {from: client6, to: server6},
		{from: client4, to: server4, tags: 1}, {from: client6, to: server6, tags: 2},
	} {
		for size := 0; size <= 1472; size += 7 {
			f.payload = make([]byte, 1472)
			for i := range f.payload {
				f.payload[i] = byte(i * size)
			}
			request := f.bytes()
			var d datagram
			if !d.parse(request) || d.from != f.from || d.to != f.to || !bytes.Equal(d.payload, f.payload) {
				t.Fatalf("from %v to %v, %d bytes; want %v, %v, %d", d.from, d.to, len(d.payload), f.from, f.to, len(f.payload))
			}
			reply := turned(t, request, f.payload[:size])
			from, to, payload := payloadOf(t, reply)
			if from != f.to || to != f.from || !bytes.Equal(payload, f.payload[:size]) {
				t.Fatalf("reply from %v to %v, %d bytes; want %v, %v, %d", from, to, len(payload), f.to, f.from, size)
			}
			if !bytes.Equal(reply[:6], request[6:12]) || !bytes.Equal(reply[6:12], request[:6]) || !bytes.Equal(reply[12:d.network], request[12:d.network]) {
				t.Fatalf("link layer % x, of the request % x", reply[:d.network], request[:d.network])
			}
		}
	}
}

// A checksum of 0 would say that there is none, which IPv6 forbids (RFC 8200 section 8.1).
func TestRFC768_NoChecksumIsZero(t *testing.T) {
	f := frame{from: client6, to: server6, payload: make([]byte, 52)}
	request := f.bytes()
	payload := make([]byte, 52)
	reply := turned(t, request, payload)
	at := len(reply) - len(payload) - 2
	copy(payload, reply[at:at+2]) // makes the sum of all else and this all ones
	if reply = turned(t, request, payload); reply[at] != 0xff || reply[at+1] != 0xff {
		t.Errorf("checksum % x, want ff ff", reply[at:at+2])
	}
	payloadOf(t, reply)
}

func FuzzDatagram(f *testing.F) {
	for _, seed := range []frame{{from: client4, to: server4, tags: 1}, {from: client6, to: server6, tags: 2}} {
		seed.payload = make([]byte, 68)
		f.Add(seed.bytes(), 68)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		var d, back datagram
		if len(b) > frameSize || !d.parse(b) {
			return
		}
		if n < 0 || n > len(d.payload) {
			return
		}
		before := bytes.Clone(b)
		reply := turned(t, b, d.payload[:n])
		if !back.parse(reply) || back.from != d.to || back.to != d.from || !bytes.Equal(back.payload, d.payload[:n]) || len(reply) > len(b) {
			t.Errorf("% x\nwas answered by\n% x", b, reply)
		}
		if !bytes.Equal(b, before) {
			t.Error("the request was changed")
		}
		payloadOf(t, reply)
	})
}

func TestOddSums(t *testing.T) {
	b := make([]byte, 0, 64)
	for i := range 64 {
		if got, want := folded(added(0, b)), sum(b); got != want {
			t.Errorf("%d bytes: %x, want %x", len(b), got, want)
		}
		b = append(b, byte(251*i+200))
	}
	all := bytes.Repeat([]byte{0xff}, 4096)
	if got := folded(added(^uint64(0), all)); got != 0xffff {
		t.Errorf("all ones: %x", got)
	}
}
