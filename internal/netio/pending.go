package netio

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	// pendingSize bounds the transmit timestamps awaited at one socket. They come within
	// microseconds of the datagram, from a slow NIC within milliseconds.
	pendingSize = 256
	// keyOffset is where the transmit timestamp stands in an NTP header: a datagram
	// that comes back with its timestamp is known by it and by its length.
	// (Counting the datagrams instead, as SOF_TIMESTAMPING_OPT_ID does, goes wrong with
	// the first that the kernel counts and does not send.)
	keyOffset = 40
	keyEnd    = 48

	udpHeader = 8
	udpLength = 4 // where the length of header and data stands in it
)

// pendingTimestamp is a datagram whose transmit timestamp is awaited.
type pendingTimestamp struct {
	token  Token
	length int // 0: an empty place
	key    uint64
}

// pendingTimestamps is a ring of them. Its lock is taken only for datagrams that want a timestamp.
type pendingTimestamps struct {
	waiting atomic.Int32
	mu      sync.Mutex
	next    int
	ring    [pendingSize]pendingTimestamp
}

// add awaits the timestamp of datagram b. It returns false for what is too short to be known again.
func (p *pendingTimestamps) add(b []byte, token Token) bool {
	if len(b) < keyEnd {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.ring[p.next]
	if e.length == 0 {
		p.waiting.Add(1)
	}
	*e = pendingTimestamp{token: token, length: len(b), key: binary.BigEndian.Uint64(b[keyOffset:])}
	p.next = (p.next + 1) % pendingSize
	return true
}

// is reports whether the bytes that came back are those of e: the headers of lower
// layers, of which UDP's with the length is the last, then all of the datagram.
func (e *pendingTimestamp) is(sent []byte) bool {
	start := len(sent) - e.length
	if e.length == 0 || start < 0 || binary.BigEndian.Uint64(sent[start+keyOffset:]) != e.key {
		return false
	}
	if start < udpHeader {
		return start == 0
	}
	return int(binary.BigEndian.Uint16(sent[start-udpHeader+udpLength:])) == e.length+udpHeader
}

// match finds the datagram that came back. keep leaves it pending, as another timestamp of it may follow.
func (p *pendingTimestamps) match(sent []byte, keep bool) (token Token, ok bool) {
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
		return e.token, true
	}
	return Token{}, false
}

// forget takes back the newest add of token: its datagram was not sent.
func (p *pendingTimestamps) forget(token Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range pendingSize {
		e := &p.ring[(p.next+pendingSize-1-i)%pendingSize]
		if e.length != 0 && e.token == token {
			e.length = 0
			p.waiting.Add(-1)
			return
		}
	}
}

// clear gives up all.
func (p *pendingTimestamps) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.ring {
		p.ring[i].length = 0
	}
	p.waiting.Store(0)
}
