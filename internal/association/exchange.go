package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// exchangeState says which replies are expected. "None" is a state of its own and
// never the value 0 of a timestamp (CVE-2015-8138).
type exchangeState uint8

const (
	idle        exchangeState = iota // no request is pending: every reply is bogus
	basic                            // the reply's origin must equal transmit
	interleaved                      // or receive, and then it is an interleaved one (RFC 9769 §2)
)

// sentPacket is when a packet of ours left, as well as we know: asked for at asked,
// at whoever took the timestamp.
type sentPacket struct {
	id    uint32
	asked ntptime.Instant // when the core decided to send
	at    ntptime.Instant // T1
	kind  model.TimestampKind
	real  bool // at came from the driver, it is no mere intention
}

// How far a packet's timestamp may lie from the decision to send, to be believed: the
// lower bound leaves room for the error of mapping one scale to the other, the upper
// one for address resolution and queues.
const (
	earliestTransmit = -time.Millisecond
	latestTransmit   = 5 * time.Second
)

// takeTimestamp takes a better timestamp of packet id, and says whether it did.
func (d *sentPacket) takeTimestamp(id uint32, at ntptime.Instant, kind model.TimestampKind) bool {
	if id == 0 || d.id != id || d.real && kind <= d.kind {
		return false
	}
	if late := at.Raw.Sub(d.asked.Raw); late < earliestTransmit || late > latestTransmit {
		return false
	}
	d.at, d.kind, d.real = at, kind, true
	return true
}

// exchange is a mode 3 request that waits for its reply.
type exchange struct {
	sentPacket
	state    exchangeState
	transmit ntptime.Timestamp // 64 random bits: the origin of a basic reply
	receive  ntptime.Timestamp // 64 more: the origin of an interleaved reply
	deadline ntptime.Raw       // a reply after it is too late
}

// lastExchange is the newest good exchange. An interleaved reply brings its T3 again,
// more precisely; the wire timestamps recognize a duplicate.
type lastExchange struct {
	sentPacket         // T1
	valid      bool    // there is one, of this server run and this state of our clock
	sampled    bool    // it has already given a sample
	arrival    arrived // T4
	received   ntptime.Timestamp
	sent       ntptime.Timestamp
	t2         ntptime.Wall
}

// arrived is when a packet came in.
type arrived struct {
	at   ntptime.Instant
	kind model.TimestampKind
}

// With InterleaveAuto: after so many basic replies in a row to interleaved requests,
// so many requests are basic.
const (
	interleaveTries = 4
	interleavePause = 64
)

// Reply timeouts: a share of the poll interval within bounds, so that a poll starts
// with no request pending. A path slower than max_delay gives no sample anyway.
const (
	shortestTimeout = time.Second
	longestTimeout  = 3 * time.Second
)

func (a *Association) timeout(spacing time.Duration) time.Duration {
	longest := max(longestTimeout, a.cfg.MaxDelay)
	return min(max(spacing*3/4, shortestTimeout), longest)
}

// request sends a mode 3 request (RFC 5905 §8). All of it but version, mode and poll
// is zero or random, so that nothing of our clock or state shows (data minimization:
// RFC 9109 and its companions); the server returns the transmit field untouched.
func (a *Association) request(now ntptime.Instant, mayInterleave bool, out *Output) {
	h := wire.Header{Version: a.cfg.Version, Mode: wire.ModeClient, Poll: a.poll.exponent()}
	x := exchange{state: basic, transmit: a.cookie(0)}
	if mayInterleave {
		x.state, x.receive = interleaved, a.cookie(x.transmit)
		h.Origin, h.Receive = a.last.received, x.receive
	}
	h.Transmit = x.transmit
	a.poll.sent(now, a.random)
	x.sentPacket = sentPacket{asked: now, at: now}
	x.deadline = now.Raw.Add(a.timeout(a.poll.spacing))
	x.id = a.emit(&h, a.ephemeral, out)
	a.pending = x
	a.notePoll()
}

// cookie gives 64 random bits, neither 0 nor the value given.
func (a *Association) cookie(not ntptime.Timestamp) ntptime.Timestamp {
	for {
		if c := ntptime.Timestamp(a.random.Uint64()); c != 0 && c != not {
			return c
		}
	}
}

// mayInterleave says whether the next request asks for an interleaved reply: it
// refers to the last good exchange, which must be the poll before (RFC 9769 §2: old
// transmit timestamps are not used), and those of a startup burst do without.
func (c *client) mayInterleave(a *Association, now ntptime.Instant) bool {
	if a.cfg.Interleaved == InterleaveOff || !a.last.valid || a.poll.phase != phaseRegular {
		return false
	}
	if a.status.Reach&1 == 0 || now.Raw.Sub(a.last.arrival.at.Raw) > a.poll.spacing*3/2+longestTimeout {
		return false
	}
	if a.cfg.Interleaved == InterleaveAuto {
		return c.autoInterleaves(a)
	}
	return true
}

// autoSpacing bounds the poll intervals at which InterleaveAuto interleaves: up to 4 s,
// with their jitter. An interleaved sample is one poll old; a typical oscillator (wander
// 1e-9) drifts 5 ns in 4 s, which the better timestamp is worth, but 0.3 µs in 64 s, which
// it is not.
const autoSpacing = 5 * time.Second

// autoInterleaves says whether InterleaveAuto asks now.
func (c *client) autoInterleaves(a *Association) bool {
	if a.poll.spacing > autoSpacing {
		return false
	}
	if c.pause > 0 {
		c.pause--
		return false
	}
	return true
}

// noteInterleaved remembers whether an interleaved request was answered in kind.
func (c *client) noteInterleaved(inKind bool) {
	if inKind {
		c.refused = 0
	} else if c.refused++; c.refused >= interleaveTries {
		c.refused, c.pause = 0, interleavePause
	}
}
