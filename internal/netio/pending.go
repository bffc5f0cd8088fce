package netio

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	// pendingSize bounds the transmit stamps awaited at one socket. They come within
	// microseconds of the datagram, from a slow card within milliseconds.
	pendingSize = 256
	// keyOffset is where the transmit timestamp stands in an NTP header: a datagram
	// that comes back with its stamp is known by it and by its length.
	// (Counting the datagrams instead, as SOF_TIMESTAMPING_OPT_ID does, goes wrong with
	// the first that the kernel counts and does not send.)
	keyOffset = 40
	keyEnd    = 48

	udpHeader = 8
	udpLength = 4 // where the length of header and data stands in it
)

// pendingStamp is a datagram whose transmit stamp is awaited.
type pendingStamp struct {
	id     uint32
	length int // 0: an empty place
	key    uint64
}

// pendingStamps is a ring of them. Its lock is taken only for datagrams that want a stamp.
type pendingStamps struct {
	waiting atomic.Int32
	mu      sync.Mutex
	next    int
	ring    [pendingSize]pendingStamp
}

// add awaits the stamp of datagram b. It returns false for what is too short to be known again.
func (p *pendingStamps) add(b []byte, id uint32) bool {
	if len(b) < keyEnd {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.ring[p.next]
	if e.length == 0 {
		p.waiting.Add(1)
	}
	*e = pendingStamp{id: id, length: len(b), key: binary.BigEndian.Uint64(b[keyOffset:])}
	p.next = (p.next + 1) % pendingSize
	return true
}

// is reports whether the octets that came back are those of e: the headers of lower
// layers, of which UDP's with the length is the last, then all of the datagram.
func (e *pendingStamp) is(sent []byte) bool {
	start := len(sent) - e.length
	if e.length == 0 || start < 0 || binary.BigEndian.Uint64(sent[start+keyOffset:]) != e.key {
		return false
	}
	if start < udpHeader {
		return start == 0
	}
	return int(binary.BigEndian.Uint16(sent[start-udpHeader+udpLength:])) == e.length+udpHeader
}

// match finds the datagram that came back. keep leaves it pending, as another stamp of it may follow.
func (p *pendingStamps) match(sent []byte, keep bool) (id uint32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range pendingSize {
		e := &p.ring[(p.next+i)%pendingSize] // the oldest first
		if !e.is(sent) {
			continue
		}
		if !keep {
			e.length = 0
			p.waiting.Add(-1)
		}
		return e.id, true
	}
	return 0, false
}

// forget takes back the newest add of id: its datagram was not sent.
func (p *pendingStamps) forget(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range pendingSize {
		e := &p.ring[(p.next+pendingSize-1-i)%pendingSize]
		if e.length != 0 && e.id == id {
			e.length = 0
			p.waiting.Add(-1)
			return
		}
	}
}

// clear gives up all.
func (p *pendingStamps) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.ring {
		p.ring[i].length = 0
	}
	p.waiting.Store(0)
}
