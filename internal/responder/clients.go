package responder

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// clientWays is the number of places a client can have: eight keys fill a cache line.
const clientWays = 8

// Clients is the log of who asks us, with the state of the rate limit: a table of
// fixed size without pointers, keyed by IPv4 address or IPv6 /56. The client that was
// silent longest makes room for a new one. The shards of a daemon share it.
type Clients struct {
	seed    Seed
	private bool
	sets    uint64
	keys    []clientKey // sets × clientWays; 0 is free
	records []client    // beside the keys
	gates   gates
}

// client is what is remembered of one client: 32 octets, so that none lies across two
// cache lines.
type client struct {
	last     ntptime.Raw // when it asked last
	due      ntptime.Raw // of its budget
	interval float32     // average seconds between its requests; 0 after the first
	hits     uint32      // requests; they stay at the greatest value
	drops    uint32      // of these over the rate limit
	kissed   uint8       // of its budget
	poll     ntptime.Log2
	kind     uint8 // version and mode, as in the first octet of a header
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
	sets := setsFor(size, clientWays)
	return &Clients{
		seed: seed, private: private, sets: uint64(sets),
		keys: make([]clientKey, sets*clientWays), records: make([]client, sets*clientWays),
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

// place is where a client's record is, for what is learnt of it later.
type place struct {
	key   clientKey
	index uint64
}

// admit logs a request and applies the limit to it. If the table is busy for the
// moment, or nil, the request is neither logged nor limited.
func (c *Clients) admit(addr netip.Addr, h *wire.Header, now ntptime.Raw, limit *RateLimit, chance *random) (admission, place) {
	if c == nil {
		return admitted, place{}
	}
	key := keyOf(addr)
	set := c.seed.mix(uint64(key), 0) & (c.sets - 1)
	if !c.gates.enter(set) {
		return admitted, place{}
	}
	index := c.find(set, key, now)
	r := &c.records[index]
	b := budget{r.due, r.kissed}
	verdict := b.admit(limit, now, chance)
	r.due, r.kissed = b.due, b.kissed
	r.note(h, now, verdict)
	c.gates.leave(set)
	return verdict, place{key, index}
}

// find gives the index of the record of key, in the place of the one silent longest
// if it has none.
func (c *Clients) find(set uint64, key clientKey, now ntptime.Raw) uint64 {
	first := set * clientWays
	keys := c.keys[first : first+clientWays]
	for i, k := range keys {
		if k == key {
			return first + uint64(i)
		}
	}
	oldest := first
	for i := range keys {
		at := first + uint64(i)
		if keys[i] == 0 {
			oldest = at
			break
		}
		if c.records[at].last < c.records[oldest].last {
			oldest = at
		}
	}
	c.keys[oldest] = key
	c.records[oldest] = client{due: now}
	return oldest
}

// note writes a request down.
func (r *client) note(h *wire.Header, now ntptime.Raw, verdict admission) {
	if r.hits > 0 {
		const weight = 8 // of the average over the newest interval
		gap := float32(now.Sub(r.last).Seconds())
		if r.interval == 0 {
			r.interval = gap
		} else {
			r.interval += (gap - r.interval) / weight
		}
	}
	r.last = now
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
	set := at.index / clientWays
	if !c.gates.enter(set) {
		return
	}
	if c.keys[at.index] == at.key {
		c.records[at.index].flags |= flags
	}
	c.gates.leave(set)
}

// ClientReport is one client as reports show it.
type ClientReport struct {
	Prefix      netip.Prefix  // its IPv4 address, or its IPv6 /56
	LastSeen    time.Duration // ago
	Interval    time.Duration // average between requests; 0 after the first one
	Hits        uint32        // requests since it is remembered
	Drops       uint32        // of these not answered because of the rate limit
	Version     uint8         // of its last request, as the following
	Mode        wire.Mode
	Poll        ntptime.Log2
	Signed      bool // with a key that we know
	Interleaved bool // answered in interleaved mode
}

// Order says which clients come first.
type Order uint8

// The orders.
const (
	ByRate   Order = iota // shortest interval first, among those heard twice
	ByHits                // most requests first
	ByDrops               // most requests over the limit first
	ByRecent              // last heard first
)

func (o Order) before(a, b *ClientReport) bool {
	switch {
	case o == ByRate && a.Interval != b.Interval:
		return b.Interval == 0 || a.Interval != 0 && a.Interval < b.Interval
	case o == ByHits && a.Hits != b.Hits:
		return a.Hits > b.Hits
	case o == ByDrops && a.Drops != b.Drops:
		return a.Drops > b.Drops
	case a.LastSeen != b.LastSeen:
		return a.LastSeen < b.LastSeen
	}
	return a.Prefix.Addr().Less(b.Prefix.Addr())
}

// Top returns the first n clients in that order; none where privacy is asked for.
func (c *Clients) Top(n int, by Order, now ntptime.Raw) []ClientReport {
	if c == nil || c.private || n <= 0 {
		return nil
	}
	var top []ClientReport
	c.each(func(key clientKey, r *client) {
		report := r.report(key, now)
		if len(top) == n {
			if !by.before(&report, &top[n-1]) {
				return
			}
			top = top[:n-1]
		}
		at, _ := slices.BinarySearchFunc(top, report, func(a, b ClientReport) int {
			if by.before(&a, &b) {
				return -1
			}
			return 1
		})
		top = slices.Insert(top, at, report)
	})
	return top
}

func (r *client) report(key clientKey, now ntptime.Raw) ClientReport {
	return ClientReport{
		Prefix: key.prefix(), LastSeen: now.Sub(r.last),
		Interval: time.Duration(float64(r.interval) * float64(time.Second)),
		Hits:     r.hits, Drops: r.drops, Version: r.kind >> 3, Mode: wire.Mode(r.kind & 7), Poll: r.poll,
		Signed: r.flags&clientSigned != 0, Interleaved: r.flags&clientInterleaved != 0,
	}
}

// each gives every client to visit, in the order of the table. The gates are shut a
// stripe at a time, for some microseconds.
func (c *Clients) each(visit func(clientKey, *client)) {
	batch := make([]struct {
		key clientKey
		client
	}, 0, clientWays)
	for set := range c.sets {
		batch = batch[:0]
		c.gates.enterPatiently(set)
		for i := set * clientWays; i < (set+1)*clientWays; i++ {
			if c.keys[i] != 0 {
				batch = append(batch, struct {
					key clientKey
					client
				}{c.keys[i], c.records[i]})
			}
		}
		c.gates.leave(set)
		for i := range batch {
			visit(batch[i].key, &batch[i].client)
		}
	}
}

// The histogram of the clients' average intervals: bin i holds those of up to
// 2^(i+FirstInterval) seconds, the last one all longer ones too.
const (
	FirstInterval = -4
	IntervalBins  = 22
)

// ClientTotals counts the clients without naming any.
type ClientTotals struct {
	Clients   int                  // heard within the time asked about
	Limited   int                  // of these, some request was over the limit
	Signed    int                  // of these, the last request was signed
	Intervals [IntervalBins]uint64 // of these heard twice, by average interval
	Versions  [8]uint64            // by the version of the last request
}

// Totals counts the clients heard within that time before now.
func (c *Clients) Totals(within time.Duration, now ntptime.Raw) ClientTotals {
	var t ClientTotals
	if c == nil {
		return t
	}
	c.each(func(_ clientKey, r *client) {
		if now.Sub(r.last) > within {
			return
		}
		t.Clients++
		t.Versions[r.kind>>3&7]++
		if r.drops > 0 {
			t.Limited++
		}
		if r.flags&clientSigned != 0 {
			t.Signed++
		}
		if r.hits > 1 {
			exponent := int(ntptime.Log2Of(time.Duration(float64(r.interval) * float64(time.Second))))
			t.Intervals[min(max(exponent-FirstInterval, 0), IntervalBins-1)]++
		}
	})
	return t
}
