package xdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// bench is a worker whose rings are not the kernel's: frames are put in and taken out by hand.
type bench struct {
	*Worker
	at  ntptime.Instant // now
	in  uint32          // frames put in so far
	out uint32          // frames taken out
}

func newBench() *bench {
	b := &bench{at: ntptime.Instant{Wall: 1e18, Raw: 1e15}}
	s := &socket{fd: -1, memory: make([]byte, memorySize)}
	s.fill, s.rx = ringOf(receiving), ringOf(receiving)
	s.completed, s.tx = ringOf(sending), ringOf(sending)
	b.Worker = newWorker(s, 3, func() ntptime.Instant { return b.at })
	b.monotonic = func() time.Duration { return benchTime }
	return b
}

func ringOf(n uint32) ring {
	entries := make([]unix.XDPDesc, n)
	return ring{new(uint32), new(uint32), unsafe.Pointer(&entries[0]), n - 1}
}

const benchTime = 1000 * time.Second // on the program's clock, where nothing takes time

// put has a frame come in, of an age.
func (b *bench) put(frame []byte, age time.Duration) {
	address := uint64(b.in%receiving)*frameSize + 256
	copy(b.socket.memory[address:], frame)
	binary.NativeEndian.PutUint64(b.socket.memory[address-arrivalSize:], uint64(benchTime-age))
	*b.socket.rx.descriptor(b.in) = unix.XDPDesc{Addr: address, Len: uint32(len(frame))}
	b.in++
	*b.socket.rx.producer = b.in
}

// sent takes the frames out that have been sent.
func (b *bench) sent() (list [][]byte) {
	tx, done := &b.socket.tx, &b.socket.completed
	for ; b.out != *tx.producer; b.out++ {
		d := tx.descriptor(b.out)
		list = append(list, bytes.Clone(b.socket.memory[d.Addr:][:d.Len]))
		*done.address(*done.producer) = d.Addr
		*done.producer++
	}
	*tx.consumer = b.out
	return list
}

// repeats answers each request with its own bytes, reversed, and some more.
type repeats struct {
	got  []model.Received
	to   []netip.AddrPort
	more int
}

func (r *repeats) Expect([]netip.AddrPort) {}

func (r *repeats) Handle(rx *model.Received, to netip.AddrPort, _ time.Duration, reply []byte) int {
	if len(r.got) < cap(r.got) {
		r.got, r.to = append(r.got, *rx), append(r.to, to)
	}
	n := len(rx.Data)
	for i, c := range rx.Data {
		reply[n-1-i] = c
	}
	return n + r.more
}

func TestAWorkerAnswers(t *testing.T) {
	b, h := newBench(), &repeats{got: make([]model.Received, 0, 64)}
	b.handler = h
	for i := range 40 {
		f := fielded(68)
		if i%2 == 1 {
			f.from, f.to = client6, server6
		}
		f.payload[60] = byte(i)
		b.put(f.bytes(), time.Duration(i)*time.Millisecond)
	}
	b.drain()
	replies := b.sent()
	if len(replies) != 40 || b.Counters().Received != 40 {
		t.Fatalf("%d replies, %+v", len(replies), b.Counters())
	}
	for i, reply := range replies {
		rx := &h.got[i]
		from, to, payload := payloadOf(t, reply)
		if from != h.to[i] || to != rx.Remote || payload[7] != byte(i) || rx.Local != from.Addr() || rx.Interface != 3 {
			t.Errorf("reply %d from %v to %v: % x; of %+v", i, from, to, payload, rx)
		}
		age := time.Duration(i) * time.Millisecond
		if got := b.at.Wall.Sub(rx.At.Wall); got != age || b.at.Raw.Sub(rx.At.Raw) != age {
			t.Errorf("request %d is %v old, want %v", i, got, age)
		}
	}
	if given := *b.socket.fill.producer; given != 40 {
		t.Errorf("%d frames given back, want 40", given)
	}
}

func TestWhatAWorkerDrops(t *testing.T) {
	b, h := newBench(), &repeats{more: 1}
	b.handler = h
	b.put(fielded(68).bytes(), 0)
	b.drain()
	h.more = 0
	b.put([]byte{1, 2, 3}, 0)
	b.put(make([]byte, 100), 0)
	b.drain()
	for range 2 * batchSize { // the first batch is full
		b.put(fielded(68).bytes(), staleAfter+time.Second)
	}
	b.drain()
	b.put(fielded(68).bytes(), staleAfter+time.Second) // nothing waits behind it
	b.drain()
	if n := len(b.sent()); n != 1 {
		t.Errorf("%d replies, want 1", n)
	}
	c := b.Counters()
	c.Replied = 0
	if want := (WorkerCounters{Received: 2, Malformed: 2, Stale: 2 * batchSize, Overlong: 1}); c != want {
		t.Errorf("counted %+v, want %+v", c, want)
	}
	if given := *b.socket.fill.producer; given != b.in {
		t.Errorf("%d frames given back, want %d", given, b.in)
	}
}

// A driver that sends nothing for a while costs replies, and no more.
func TestADriverWithoutRoom(t *testing.T) {
	b := newBench()
	b.handler = &repeats{}
	for range sending + 3*batchSize {
		b.put(fielded(68).bytes(), 0)
		b.drain()
	}
	if c := b.Counters(); c.SendErrors != 3*batchSize || c.Replied != 0 {
		t.Errorf("%+v, want %d send errors", c, 3*batchSize)
	}
	if n := len(b.sent()); n != sending {
		t.Errorf("%d frames left when there was room, want %d", n, sending)
	}
	b.put(fielded(68).bytes(), 0)
	b.drain()
	if n := len(b.sent()); n != 1 {
		t.Errorf("%d replies after that, want 1", n)
	}
	b.put(fielded(68).bytes(), 0)
	b.drain()
	if c := b.Counters(); c.Replied != sending+1 {
		t.Errorf("%+v, want %d replied", c, sending+1)
	}
}

func TestAWorkerAllocatesNothing(t *testing.T) {
	b := newBench()
	b.handler = &repeats{}
	frame := fielded(228).bytes()
	if n := testing.AllocsPerRun(200, func() {
		for range batchSize {
			b.put(frame, 0)
		}
		b.drain()
		tx, done := &b.socket.tx, &b.socket.completed
		for ; b.out != *tx.producer; b.out++ {
			*done.address(*done.producer) = tx.descriptor(b.out).Addr
			*done.producer++
		}
		*tx.consumer = b.out
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}
