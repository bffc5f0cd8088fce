package responder

import (
	"net/netip"
	"slices"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

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
	c.each(func(r *record) {
		report := r.report(now)
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

func (r *record) report(now ntptime.Raw) ClientReport {
	return ClientReport{
		Prefix: r.key.prefix(), LastSeen: max(now.Sub(r.last), 0),
		Interval: time.Duration(float64(r.interval) * float64(time.Second)),
		Hits:     r.hits, Drops: r.drops, Version: r.kind >> 3, Mode: wire.Mode(r.kind & 7), Poll: r.poll,
		Signed: r.flags&clientSigned != 0, Interleaved: r.flags&clientInterleaved != 0,
	}
}

// each gives every client to visit, in the order of the table. The locks are taken a
// stripe at a time, for less than a microsecond.
func (c *Clients) each(visit func(*record)) {
	var set [clientAssociativity]record
	for i := range c.sets {
		c.locks.lock(i)
		copy(set[:], c.records[i*clientAssociativity:])
		c.locks.unlock(i)
		for way := range set {
			if set[way].key != 0 {
				visit(&set[way])
			}
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
	c.each(func(r *record) {
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
