package serve

import (
	"net/netip"
	"time"

	"timeball/internal/model"
	"timeball/internal/responder"
)

// Direct answers requests that come in by another way than the sockets, as those would: with
// the same policy and tables, and counted at the listener of the address that was asked. It
// belongs to one goroutine.
type Direct struct {
	set     *Set
	respond responder.Env
	to      netip.AddrPort // what was asked last,
	among   *[]*Listener   // of these,
	at      *Listener      // is this one's; nil: nobody's
	shards  map[*Listener]*responder.Shard
	tables  *tables // of the shards
}

// NewDirect makes one.
func (s *Set) NewDirect() *Direct {
	return &Direct{set: s, respond: responder.Env{Now: s.env.Clock.Now}}
}

// Expect fetches what is known of the senders of a batch.
func (d *Direct) Expect(remotes []netip.AddrPort) {
	if d.at != nil {
		d.shards[d.at].Expect(remotes)
	}
}

// Handle writes the reply to a request for an address and port into reply and returns its
// length, 0 for none. lead is the time until it leaves.
func (d *Direct) Handle(rx *model.Received, to netip.AddrPort, lead time.Duration, reply []byte) int {
	if !d.find(to) {
		return 0
	}
	shard, env := d.shards[d.at], &d.set.env
	if !env.Serves.Load() {
		shard.Count(rx, responder.Verdict{Result: responder.Ignored, Reason: responder.ReasonNotServing})
		return 0
	}
	d.respond.Snapshot, d.respond.Policy, d.respond.Ring = env.Snapshot.Load(), env.Policy.Load(), env.Ring.Load()
	d.respond.Lead, d.respond.Smeared = lead, d.at.smeared.Load()
	n, _ := shard.Respond(reply, rx, &d.respond)
	return n
}

// find makes at the listener of an address and port, if there is one.
func (d *Direct) find(to netip.AddrPort) bool {
	among, tables := d.set.listeners.Load(), d.set.tables.Load()
	if d.at != nil && among == d.among && to == d.to && tables == d.tables {
		return true
	}
	if among != d.among || tables != d.tables {
		d.shards, d.among, d.tables = map[*Listener]*responder.Shard{}, among, tables // shards of those that are gone, too
	}
	d.at, d.to = nil, to
	for _, l := range *among {
		if l.LocalAddr().Port() == to.Port() && l.Holds(to.Addr()) {
			d.at = l
		}
	}
	if d.at != nil && d.shards[d.at] == nil {
		d.shards[d.at] = d.at.addDirect(d.set)
	}
	return d.at != nil
}

// addDirect gives the listener one more shard, whose counts are the listener's.
func (l *Listener) addDirect(s *Set) *responder.Shard {
	shard := s.newShard()
	for {
		before := l.direct.Load()
		var list []*responder.Shard
		if before != nil {
			list = append(list, *before...)
		}
		list = append(list, shard)
		if l.direct.CompareAndSwap(before, &list) {
			return shard
		}
	}
}
