package responder

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"timeball/internal/ntptime"
)

// The list of most recently used addresses (RFC 9327 §4, read MRU list; `ntpq -c mrulist`,
// ntpmon) is the table of clients, in parts from the one silent longest on. A request names
// the newest entries that the reader has, and goes on after the first of them that has not
// asked since; without any it begins anew.

// Bounds of a part: as many datagrams as ntpq takes, and rows besides.
const (
	maxListFragments = 32
	maxListRows      = 256
	maxListRecent    = 8192
	listRowRoom      = 256 // bytes that a row, or what ends the list, takes at most
)

// listRequest is what a request for a part of the list asks.
type listRequest struct {
	nonce      string
	fragments  int
	rows       int
	recent     int // begin with the newest so many; 0: with the oldest
	minCount   uint64
	minDrop    uint64
	maxSilence time.Duration // 0: no bound
	minSilence time.Duration
	all, any   uint64 // of restriction flags
	known      []listKnown
}

// listKnown is an entry that the reader has.
type listKnown struct{ address, last string }

// parseListRequest reads "name=value, name=value"; false: a name or value that there is not.
func parseListRequest(text string) (r listRequest, ok bool) {
	for item := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.Trim(item, " \r\n\t\x00"), "=")
		if name == "" {
			continue
		}
		if !r.set(name, strings.Trim(value, ` "`)) {
			return r, false
		}
	}
	return r, true
}

func (r *listRequest) set(name, value string) bool {
	if field, index, indexed := strings.Cut(name, "."); indexed {
		return r.setKnown(field, index, value)
	}
	if name == "nonce" {
		r.nonce = value
		return true
	}
	n, err := strconv.ParseUint(value, 0, 32)
	switch name {
	case "frags":
		r.fragments = int(min(n, maxListFragments))
	case "limit":
		r.rows = int(min(n, maxListRows))
	case "recent":
		r.recent = int(n)
	case "mincount":
		r.minCount = n
	case "mindrop":
		r.minDrop = n
	case "maxlstint":
		r.maxSilence = time.Duration(n) * time.Second
	case "minlstint":
		r.minSilence = time.Duration(n) * time.Second
	case "resall":
		r.all = n
	case "resany":
		r.any = n
	default:
		return false // laddr and minscore among them: that is not kept
	}
	return err == nil
}

// setKnown takes addr.N or last.N.
func (r *listRequest) setKnown(field, index, value string) bool {
	const most = 16
	i, err := strconv.ParseUint(index, 10, 8)
	if err != nil || i >= most {
		return false
	}
	for len(r.known) <= int(i) {
		r.known = append(r.known, listKnown{})
	}
	switch field {
	case "addr":
		r.known[i].address = value
	case "last":
		r.known[i].last = value
	default:
		return false
	}
	return true
}

// list answers a request for a part of the list.
func (q *query) list(r *listRequest) [][]byte {
	clients := q.view.Clients
	switch {
	case clients == nil || clients.private:
		return q.fail(controlProhibited)
	case !q.monitor.fresh(r.nonce, q.remote, q.view.Now.Raw), r.fragments == 0 && r.rows == 0:
		return q.fail(controlBadValue)
	}
	q.monitor.dateList(q.view.Now)
	from, ok := q.listStart(r)
	if !ok {
		return q.fail(controlBadVariable) // none of them is as it was: the reader begins anew
	}
	rows, room := maxListRows, maxListFragments*controlData
	if r.rows > 0 {
		rows = r.rows
	} else {
		room = r.fragments * controlData
	}
	now := q.view.Now.Raw
	found := clients.after(from, rows+1, func(c *record) bool { return r.wants(c, now) })
	return q.reply(q.systemStatus(), q.listPart(found, rows, room))
}

// dateList keeps the moment that raw 0 stands for, unless the clock has been changed by
// more than slewing does while a list is read.
func (m *Monitor) dateList(now ntptime.Instant) {
	const most = time.Second
	base := now.Wall.Add(-now.Raw.Sub(0))
	if off := base.Sub(m.base); off > most || off < -most {
		m.base = base
	}
}

// dated is a moment as the list has it.
func (m *Monitor) dated(at ntptime.Raw) string { return hexWall(m.base.Add(at.Sub(0))) }

// listStart is the place after which a part begins.
func (q *query) listStart(r *listRequest) (listPlace, bool) {
	for _, k := range r.known {
		address, err := parseListAddress(k.address)
		if err != nil {
			continue
		}
		if c, ok := q.view.Clients.lookup(keyOf(address)); ok && q.monitor.dated(c.last) == k.last {
			return listPlace{c.last, c.key}, true
		}
	}
	if len(r.known) > 0 {
		return listPlace{}, false
	}
	if r.recent > 0 && r.recent <= maxListRecent {
		return q.view.Clients.newest(r.recent), true
	}
	return listPlace{}, true
}

func parseListAddress(text string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr(), nil
	}
	return netip.ParseAddr(text)
}

// wants reports whether a client is one that the reader asks about.
func (r *listRequest) wants(c *record, now ntptime.Raw) bool {
	silence := now.Sub(c.last)
	flags := c.restrictions()
	return uint64(c.hits) >= r.minCount && uint64(c.drops) >= r.minDrop &&
		silence >= r.minSilence && (r.maxSilence == 0 || silence <= r.maxSilence) &&
		flags&r.all == r.all && (r.any == 0 || flags&r.any != 0)
}

// restrictions are a client's in ntpd's numbering: over the rate limit, and told so.
func (c *client) restrictions() uint64 {
	const limited, kissed = 0x20, 0x400
	var flags uint64
	if c.drops > 0 {
		flags |= limited
	}
	if c.kissed != 0 {
		flags |= kissed
	}
	return flags
}

// listPart writes up to so many rows, in no more than room bytes, and what ends the list
// where that was all.
func (q *query) listPart(found []record, rows, room int) []byte {
	m, now := q.monitor, q.view.Now.Raw
	text := fmt.Appendf(nil, "nonce=%s", m.nonce(q.remote, now))
	written := 0
	for i := range found {
		if written == rows || written > 0 && len(text)+2*listRowRoom > room {
			break
		}
		text = m.appendRow(text, i, &found[i])
		written++
	}
	if written == len(found) {
		text = fmt.Appendf(text, ", now=%s", m.dated(now))
		if written > 0 {
			text = fmt.Appendf(text, ", last.newest=%s", m.dated(found[written-1].last))
		}
	}
	return append(text, '\r', '\n')
}

// appendRow writes one client. Its first request is worked out from its average interval,
// and the port it asked from is not kept; an IPv6 address stands for its /56.
func (m *Monitor) appendRow(text []byte, i int, c *record) []byte {
	average := time.Duration(float64(c.interval) * float64(time.Second))
	first := c.last.Add(-average * time.Duration(max(c.hits, 1)-1))
	at := netip.AddrPortFrom(c.key.prefix().Addr(), 0)
	return fmt.Appendf(text, ", addr.%d=%s, last.%d=%s, first.%d=%s, ct.%d=%d, mv.%d=%d, rs.%d=%#x, dr.%d=%d",
		i, at, i, m.dated(c.last), i, m.dated(first), i, c.hits, i, c.kind, i, c.restrictions(), i, c.drops)
}

// listPlace is a place in the list: ordered by when a client last asked.
type listPlace struct {
	last ntptime.Raw
	key  clientKey
}

func (p listPlace) compare(o listPlace) int {
	switch {
	case p.last != o.last:
		if p.last < o.last {
			return -1
		}
		return 1
	case p.key != o.key:
		if p.key < o.key {
			return -1
		}
		return 1
	}
	return 0
}

// after gives the first n clients behind a place that are wanted, the one silent longest
// first.
func (c *Clients) after(from listPlace, n int, wanted func(*record) bool) []record {
	var found []record
	byPlace := func(r record, p listPlace) int { return listPlace{r.last, r.key}.compare(p) }
	c.each(func(r *record) {
		place := listPlace{r.last, r.key}
		if place.compare(from) <= 0 || !wanted(r) {
			return
		}
		if len(found) == n {
			if byPlace(found[n-1], place) < 0 {
				return
			}
			found = found[:n-1]
		}
		at, _ := slices.BinarySearchFunc(found, place, byPlace)
		found = slices.Insert(found, at, *r)
	})
	return found
}

// newest is the place before the newest n clients.
func (c *Clients) newest(n int) listPlace {
	places := make([]listPlace, 0, n+1) // the newest first
	c.each(func(r *record) {
		place := listPlace{r.last, r.key}
		if len(places) == n+1 {
			if place.compare(places[n]) < 0 {
				return
			}
			places = places[:n]
		}
		at, _ := slices.BinarySearchFunc(places, place, func(a, b listPlace) int { return b.compare(a) })
		places = slices.Insert(places, at, place)
	})
	if len(places) <= n {
		return listPlace{}
	}
	return places[n]
}

// lookup finds the record of a client.
func (c *Clients) lookup(key clientKey) (record, bool) {
	bucket := c.bucket(key)
	set := bucket / clientAssociativity
	c.locks.lock(set)
	defer c.locks.unlock(set)
	first := bucket - bucket%clientAssociativity
	for at := first; at < first+clientAssociativity; at++ {
		if c.records[at].key == key {
			return c.records[at], true
		}
	}
	return record{}, false
}
