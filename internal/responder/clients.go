package responder

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// A client has clientAssociativity places, of which the lineAssociativity in one cache line come first.
const (
	clientAssociativity = 16
	lineAssociativity   = 2
)

// Clients is the log of who asks us, with the state of the rate limit: a table of
// fixed size without pointers, keyed by IPv4 address or IPv6 /56. The client that was
// silent longest makes room for a new one. The shards of a daemon share it.
type Clients struct {
	seed    Seed
	private bool
	sets    uint64
	records []record      // sets × clientAssociativity
	due     []ntptime.Raw // of the records' budgets; memory that a server without a rate limit never writes to, and so never takes
	locks   tryLocks
}

// record is a client with its key: 32 bytes, so that none lies across two cache lines
// and a request costs one look into memory.
type record struct {
	key clientKey // 0: free; written atomically, because expect reads it at any time
	client
}

// client is what is remembered of one client.
type client struct {
	last     ntptime.Raw // when it asked last
	interval float32     // average seconds between its requests; 0 after the first
	hits     uint32      // requests; they stay at the greatest value
	drops    uint32      // of these over the rate limit
	kissed   uint8       // of its budget
	poll     ntptime.Log2
	kind     uint8 // version and mode, as in the first byte of a header
	flags    clientFlags
}

type clientFlags uint8

const (
	clientSigned clientFlags = 1 << iota
	clientInterleaved
)

// NewClients makes a table for about size clients at once; nil, which remembers and
// limits nobody, for size 0 or less. With private no report shows an address.
func NewClients(size int, seed Seed, private bool) *Clients {
	if size <= 0 {
		return nil
	}
	sets := setsFor(size, clientAssociativity)
	return &Clients{
		seed: seed, private: private, sets: sets,
		records: make([]record, sets*clientAssociativity), due: make([]ntptime.Raw, sets*clientAssociativity),
	}
}

// clientKey is the address of a client, cut to what counts, never 0.
type clientKey uint64

const (
	keyIPv4 = 4
	keyIPv6 = 6
)

func keyOf(addr netip.Addr) clientKey {
	b := addr.As16()
	if addr.Is4() || addr.Is4In6() {
		return clientKey(binary.BigEndian.Uint32(b[12:]))<<8 | keyIPv4
	}
	return clientKey(binary.BigEndian.Uint64(b[:8]))&^0xff | keyIPv6
}

// prefix is the way back from a key.
func (k clientKey) prefix() netip.Prefix {
	if k&0xff == keyIPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k>>8))
		return netip.PrefixFrom(netip.AddrFrom4(b), 32)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(k)&^0xff)
	return netip.PrefixFrom(netip.AddrFrom16(b), 56)
}

// bucket is the place where a client is looked for first, or one beside it in the same
// cache line: nearly nine in ten are there in a table as full as it is made for.
func (c *Clients) bucket(key clientKey) uint64 {
	hash := c.seed.mix(uint64(key), 0)
	return within(hash, c.sets)*clientAssociativity + hash%(clientAssociativity/lineAssociativity)*lineAssociativity
}

// place is where a client's record is, for what is learnt of it later.
type place struct {
	key   clientKey
	index uint64
}

// expected is how many clients are expected at once; more are not waited for.
const expected = 16

// expect fetches the records of clients that are about to be admitted: waiting for
// memory for all of them together takes little longer than for one. What it returns
// says nothing, but has to go somewhere, or nothing would be fetched. It takes no lock.
func (c *Clients) expect(remotes []netip.AddrPort) (fetched uint64) {
	var buckets [expected]uint64
	n := min(len(remotes), expected)
	for i := range n {
		buckets[i] = c.bucket(keyOf(remotes[i].Addr()))
	}
	for _, bucket := range buckets[:n] { // nothing but loads, so that the processor has all of them under way
		fetched ^= atomic.LoadUint64((*uint64)(&c.records[bucket].key))
	}
	return fetched
}

// admit logs a request and applies the limit to it. If the table is busy for the
// moment, or nil, the request is neither logged nor limited.
func (c *Clients) admit(addr netip.Addr, h *wire.Header, now ntptime.Raw, limit *RateLimit, chance *random) (admission, place) {
	if c == nil {
		return admitted, place{}
	}
	key := keyOf(addr)
	bucket := c.bucket(key)
	set := bucket / clientAssociativity
	if !c.locks.try(set) {
		return admitted, place{}
	}
	index := c.find(bucket, key)
	r := &c.records[index].client
	verdict := admitted
	if limit != nil {
		b := budget{c.due[index], r.kissed}
		verdict = b.admit(limit, now, chance)
		c.due[index], r.kissed = b.due, b.kissed
	}
	r.note(h, now, verdict)
	c.locks.unlock(set)
	return verdict, place{key, index}
}

// find gives the index of the record of key, in the place of the one silent longest
// if it has none.
func (c *Clients) find(bucket uint64, key clientKey) uint64 {
	for at := bucket; at < bucket+lineAssociativity; at++ {
		if c.records[at].key == key {
			return at
		}
	}
	first := bucket - bucket%clientAssociativity
	for at := first; at < first+clientAssociativity; at++ {
		if c.records[at].key == key {
			return at
		}
	}
	at := c.room(bucket)
	atomic.StoreUint64((*uint64)(&c.records[at].key), uint64(key))
	c.records[at].client = client{}
	if c.due[at] != 0 {
		c.due[at] = 0 // of the one that was here
	}
	return at
}

// room finds a place for a client that has none: a free one, in its bucket if there is, else
// that of the client silent longest.
func (c *Clients) room(bucket uint64) uint64 {
	first := bucket - bucket%clientAssociativity
	best := bucket
	for i := range uint64(clientAssociativity) {
		at := first + (bucket+i)%clientAssociativity // from its bucket on
		switch {
		case c.records[at].key == 0:
			return at
		case c.records[at].last < c.records[best].last:
			best = at
		}
	}
	return best
}

// note writes a request down.
func (r *client) note(h *wire.Header, now ntptime.Raw, verdict admission) {
	if r.hits > 0 {
		const weight = 8                                  // of the average over the newest interval
		gap := float32(max(now.Sub(r.last), 0).Seconds()) // timestamps of several sockets may cross
		if r.interval == 0 {
			r.interval = gap
		} else {
			r.interval += (gap - r.interval) / weight
		}
	}
	r.last = max(r.last, now)
	if r.hits++; r.hits == 0 {
		r.hits--
	}
	if verdict != admitted {
		r.drops++
	}
	r.kind, r.poll, r.flags = h.Version<<3|uint8(h.Mode), h.Poll, 0
}

// mark adds to what is known of a client's last request.
func (c *Clients) mark(at place, flags clientFlags) {
	if at.key == 0 || flags == 0 {
		return
	}
	set := at.index / clientAssociativity
	if !c.locks.try(set) {
		return
	}
	if c.records[at.index].key == at.key {
		c.records[at.index].flags |= flags
	}
	c.locks.unlock(set)
}
