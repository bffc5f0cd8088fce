// Package responder is the server: it turns the bytes of a request into the bytes of
// a reply and a verdict. It reads no clock and opens no socket; what it needs to know
// comes in with each call, and the reply is never longer than the request.
//
// A request walks through it in this order: source and mode, form, access right, rate
// limit, MAC, interleaved timestamps, header from the snapshot, transmit timestamp, MAC.
package responder

import (
	"net/netip"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/wire"
)

// Require says what a client must show to be told the time.
type Require uint8

// What a client must show.
const (
	RequireNone Require = iota
	RequireKey          // a MAC by a key that we have, or NTS
	RequireNTS          // NTS (RFC 8915)
)

// Policy is what a configuration says of the server. It does not change once it is
// in use; a reload makes another one. The zero value answers everybody.
type Policy struct {
	Access  *Access      // nil: everybody has the peer right
	Keys    *mac.KeyRing // nil: none
	Limit   *RateLimit   // nil: none
	Require Require      // of everybody, where there is no Access; else each of its rules has its own
	// AnswerActive answers a mode 1 packet that mobilizes no association by a mode 2
	// packet without keeping state (RFC 5905 Figure 20).
	AnswerActive bool
	// Interleaved answers in interleaved mode those who ask so (RFC 9769).
	Interleaved bool
	// SilentUntilSynchronized gives no answer before the clock was synchronized for the
	// first time: some clients turn away for an hour from a server that says leap 3.
	SilentUntilSynchronized bool
	// LoopbackInterface is the index of the loopback interface; packets with a loopback
	// source that come in by another are dropped (threats 40). 0: unknown, no check.
	LoopbackInterface int
}

// Env is what a shard needs to know of the outside at each request.
type Env struct {
	Snapshot *model.Snapshot // nil: there is none yet, and no answer
	Policy   *Policy
	Now      func() ntptime.Instant // reads the disciplined clock; cheap
	Smeared  bool                   // this socket serves smeared time (see Snapshot.Smear)
	// Lead is added to the transmit timestamp: the time that will pass, by recent
	// measurement, before the reply really leaves. Not negative.
	Lead time.Duration
	// Ring is the keys of our NTS cookies (RFC 8915); nil: NTS is not offered.
	Ring *nts.Ring
}

// ShardConfig is what shards are made of.
type ShardConfig struct {
	Clients    *Clients    // shared by the shards of a daemon; nil: nobody is remembered or limited
	Timestamps *Timestamps // shared as well; nil: every reply is in basic mode
	Random     uint64      // a random number of its own
	// Nonces gives the random bytes that NTS wants; nil: NTS is not offered.
	Nonces nts.Random
}

// Shard answers the requests of one socket. One goroutine owns it; only Counters and
// Count may be called by others.
type Shard struct {
	clients    *Clients
	timestamps *Timestamps
	chance     random
	counters   counters

	packet      wire.Packet // the request
	header      wire.Header // the reply
	signer      mac.Signer
	latest      ntptime.Timestamp // receive timestamp last given out
	pending     [pendingTimestamps]slot
	timestampID uint32
	smeared     *model.Snapshot // by which the last reply whose timestamp is awaited was smeared, nil: it was not
	nts         *network        // nil: NTS is not offered
	fetched     uint64          // means nothing: what Expect read ends here
}

// NewShard makes a shard.
func NewShard(cfg ShardConfig) *Shard {
	s := &Shard{clients: cfg.Clients, timestamps: cfg.Timestamps, chance: random(cfg.Random)}
	if cfg.Nonces != nil {
		s.nts = &network{nonces: cfg.Nonces}
	}
	return s
}

// Counters returns the shard's counts. Any goroutine may call it.
func (s *Shard) Counters() Counters {
	var c Counters
	s.counters.addTo(&c)
	return c
}

// AddCounters adds the shard's counts to c. Any goroutine may call it.
func (s *Shard) AddCounters(c *Counters) { s.counters.addTo(c) }

// Expect fetches what is known of clients whose requests wait, so that looks into a
// large table cost them together little more than one.
func (s *Shard) Expect(remotes []netip.AddrPort) {
	if s.clients != nil {
		s.fetched = s.clients.expect(remotes)
	}
}

// The ids of transmit timestamps that are asked for have their highest bit set, so that
// they are told from those of associations, which use the same sockets.
const (
	TimestampIDs      uint32 = 1 << 31
	pendingTimestamps        = 1024 // replies whose timestamps are on their way; a power of two
)

// await makes the id under which the timestamp of a reply is asked for.
func (s *Shard) await(at slot) uint32 {
	s.timestampID++
	s.pending[s.timestampID%pendingTimestamps] = at
	return s.timestampID | TimestampIDs
}

// Transmitted notes when the reply with that Verdict.TimestampID really left. Ids that no
// shard gives, and timestamps that come too late, are of no effect.
func (s *Shard) Transmitted(id uint32, at ntptime.Instant) {
	if id&TimestampIDs == 0 || (s.timestampID-id)&^TimestampIDs >= pendingTimestamps {
		return
	}
	if s.timestamps != nil {
		if s.smeared != nil {
			at.Wall, _ = smeared(at, s.smeared)
		}
		s.timestamps.sent(s.pending[id%pendingTimestamps], at.Timestamp())
	}
}
