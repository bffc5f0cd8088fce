package responder

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
)

// Seed makes the places of addresses in a table unpredictable from outside. It is to
// be drawn at random at every start.
type Seed [2]uint64

// mix spreads two words over one (multiply and fold, twice).
func (s Seed) mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^s[0]^0x9e3779b97f4a7c15, b^s[1]^0xbf58476d1ce4e5b9)
	hi, lo = bits.Mul64(hi^lo^s[1], lo^0x94d049bb133111eb)
	return hi ^ lo
}

// address hashes a whole address; zones do not count.
func (s Seed) address(addr netip.Addr) uint64 {
	b := addr.As16()
	return s.mix(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

// random is a small generator of unpredictable enough bits (SplitMix64): it decides
// which requests over a limit are answered all the same.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Clients and their timestamps are shared by the shards of a daemon. A try-lock keeps a
// stripe of a table to one of them, for less than a microsecond. A shard that finds it
// taken tries again a few times and then does without the table for that packet; it never
// waits.
const (
	stripes    = 256 // a power of two
	lockTrials = 64
)

type tryLock struct {
	taken atomic.Uint32
	_     [60]byte // a cache line each
}

type tryLocks [stripes]tryLock

// try takes the lock of a set; false if somebody else has it.
func (g *tryLocks) try(set uint64) bool {
	taken := &g[set%stripes].taken
	for range lockTrials {
		if taken.CompareAndSwap(0, 1) {
			return true
		}
	}
	return false
}

func (g *tryLocks) unlock(set uint64) { g[set%stripes].taken.Store(0) }

// lock is try for reports, which may wait.
func (g *tryLocks) lock(set uint64) {
	for !g.try(set) {
	}
}

// setsFor returns the number of sets that hold size entries in sets of ways with few
// of them overflowing: two thirds as many ways again as entries. In sets of sixteen, one
// entry in 250 finds its set full.
func setsFor(size, ways int) uint64 {
	return uint64((size + size*2/3 + ways - 1) / ways)
}

// within spreads a hash over the numbers below n, by its high bits.
func within(hash, n uint64) uint64 {
	hi, _ := bits.Mul64(hash, n)
	return hi
}
