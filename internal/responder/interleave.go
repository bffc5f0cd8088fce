package responder

import (
	"net/netip"

	"timeball/internal/ntptime"
)

// timestampAssociativity is the number of places for the timestamps of one client.
const timestampAssociativity = 16

// Timestamps remembers, for the clients that ask so, when the last reply to each really
// left, so that the next one can say it: interleaved mode (RFC 9769 §2). It is a
// table of fixed size without pointers, shared by the shards of a daemon.
//
// An entry is found by the client's address and by the receive timestamp of our last
// reply, which only its receiver knows. Who forges a client's address can only have
// a tentative entry of it replaced: one that has been confirmed, by a request that
// knew its receive timestamp, changes by such a request alone, or makes room after
// all tentative ones when its set is full.
type Timestamps struct {
	seed    Seed
	sets    uint64
	entries []transmission
	locks   tryLocks
}

type transmission struct {
	receive  ntptime.Timestamp
	transmit ntptime.Timestamp // 0: the reply has not left
	client   uint32            // of the hash of the whole address, beside what tells the set; 0: free
	used     usage
}

// usage is when an entry was last used, in seconds of raw time, and whether it has been
// confirmed: that is the lowest bit.
type usage uint32

func usageOf(now ntptime.Raw, confirmed bool) usage {
	u := usage(now/1_000_000_000) << 1
	if confirmed {
		u |= 1
	}
	return u
}

func (u usage) confirmed() bool { return u&1 != 0 }

// since is the time from earlier to u, in seconds; it is right over the wrap after 68 years.
func (u usage) since(earlier usage) uint32 { return uint32(u&^1-earlier&^1) >> 1 }

// NewTimestamps makes a table for about size clients; nil, which has every reply in basic
// mode, for size 0 or less.
func NewTimestamps(size int, seed Seed) *Timestamps {
	if size <= 0 {
		return nil
	}
	sets := setsFor(size, timestampAssociativity)
	return &Timestamps{seed: seed, sets: sets, entries: make([]transmission, sets*timestampAssociativity)}
}

// slot is where the timestamps of a reply are; the zero value is nowhere.
type slot struct {
	index   uint64 // plus one
	receive ntptime.Timestamp
}

// exchange takes a request whose origin timestamp is origin and that we received at
// receive. If origin is the receive timestamp of an earlier reply to that address, it
// returns when that reply left, and true: the reply may be interleaved. The slot is
// for the new reply's timestamps.
func (t *Timestamps) exchange(addr netip.Addr, origin, receive ntptime.Timestamp, now ntptime.Raw) (transmit ntptime.Timestamp, at slot, interleaved bool) {
	hash := t.seed.address(addr)
	client, set := max(uint32(hash), 1), within(hash, t.sets)
	if !t.locks.try(set) {
		return 0, slot{}, false
	}
	defer t.locks.unlock(set)
	entries := t.entries[set*timestampAssociativity:][:timestampAssociativity]
	place := -1
	for i := range entries {
		if e := &entries[i]; e.client == client && e.receive == origin && e.transmit != 0 {
			transmit, interleaved, place = e.transmit, true, i
			break
		}
	}
	if interleaved {
		forget(entries, client)
	} else {
		place = roomFor(entries, client, usageOf(now, false))
	}
	entries[place] = transmission{client: client, receive: receive, used: usageOf(now, interleaved)}
	return transmit, slot{set*timestampAssociativity + uint64(place) + 1, receive}, interleaved
}

// forget drops all that is known of a client.
func forget(entries []transmission, client uint32) {
	for i := range entries {
		if entries[i].client == client {
			entries[i] = transmission{}
		}
	}
}

// roomFor finds the place of a tentative entry: the client's own, a free one, the
// oldest tentative one, the oldest of all, in this order.
func roomFor(entries []transmission, client uint32, now usage) int {
	best, rank := 0, -1
	age := uint32(0)
	for i := range entries {
		e := &entries[i]
		r := 0
		switch {
		case e.client == client && !e.used.confirmed():
			return i
		case e.client == 0:
			r = 2
		case !e.used.confirmed():
			r = 1
		}
		if silent := now.since(e.used); r > rank || r == rank && silent > age {
			best, rank, age = i, r, silent
		}
	}
	return best
}

// sent notes when the reply of a slot left. A later, better timestamp replaces it; one
// that comes after the client's next request is too late and dropped.
func (t *Timestamps) sent(at slot, transmit ntptime.Timestamp) {
	if at.index == 0 {
		return
	}
	set := (at.index - 1) / timestampAssociativity
	if !t.locks.try(set) {
		return
	}
	if e := &t.entries[at.index-1]; e.client != 0 && e.receive == at.receive {
		e.transmit = transmit
	}
	t.locks.unlock(set)
}
