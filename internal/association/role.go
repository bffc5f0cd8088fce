package association

import (
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// role is what an association does by its kind (RFC 5905 §3): what is due when, what
// becomes of a packet of the modes that are its own, and what a client exchange (modes 3
// and 4) means to it, which all but the broadcast server make. What the kinds have in
// common, and what they are in common, is the Association's.
type role interface {
	// start begins the life of an association that is all made.
	start(a *Association, now ntptime.Instant)
	// deadline is when onDeadline is due.
	deadline(a *Association) ntptime.Raw
	onDeadline(a *Association, now ntptime.Instant, out *Output)
	// onPacket takes a packet of mode 1, 2 or 5 that the dispatch table lets through.
	onPacket(a *Association, rx *model.Received, p *wire.Packet, out *Output)
	// onClockChanged begins anew what our clock's step or sleep has made void.
	onClockChanged(a *Association, now ntptime.Instant, out *Output)
	// packetSent is the packet of mode 1, 2 or 5 of that number, nil if it is long gone.
	packetSent(id uint32) *transmission

	// answered tells that a client exchange has ended by a reply that is surely the
	// other end's; good is whether it had time to give.
	answered(a *Association, good bool, now ntptime.Instant, out *Output)
	// missed tells that one has ended without a reply.
	missed(a *Association, now ntptime.Instant, out *Output)
	// measured looks at the sample that one has given, and may take it back.
	measured(a *Association, now ntptime.Instant, out *Output)
	// slowedDown and denied obey the kiss codes RATE, and DENY and RSTR.
	slowedDown(a *Association, asked time.Duration, now ntptime.Instant)
	denied(a *Association, code wire.ReferenceID, now ntptime.Instant, out *Output)
}

// roleOf gives the part of an association that its kind is.
func roleOf(a *Association) role {
	switch a.cfg.Kind {
	case KindClient:
		return &a.client
	case KindActive, KindPassive:
		return &a.symmetric
	case KindBroadcastClient:
		return &a.broadcastClient
	case KindBroadcastServer:
		return &a.broadcastServer
	}
	panic("association: kind " + a.cfg.Kind.String() + " keeps no association")
}

// polled is the part that a client's and a symmetric association's role have in common:
// they poll, and their reach register counts polls.
type polled struct{}

// deadline is that of the exchange under way, if there is one: no poll overtakes the one
// before.
func (polled) deadline(a *Association) ntptime.Raw {
	if a.pending.state != idle {
		return a.pending.deadline
	}
	return a.poll.next
}

// pollDue ends an exchange that has run out of time, and reports whether the next poll is
// due.
func (polled) pollDue(a *Association, now ntptime.Instant, out *Output) bool {
	if a.pending.state != idle {
		a.missed(now, out)
	}
	return !a.done && now.Raw >= a.poll.next
}

func (polled) answered(a *Association, good bool, now ntptime.Instant, out *Output) {
	a.status.Unanswered = 0
	a.shiftReach(good, now, out)
}

func (polled) missed(a *Association, now ntptime.Instant, out *Output) {
	a.status.Unanswered++
	a.shiftReach(false, now, out)
}

func (polled) slowedDown(a *Association, asked time.Duration, now ntptime.Instant) {
	a.poll.slowDown(asked, now, a.random)
	a.notePoll()
}

// denied ends the association: nothing more is sent to that server (RFC 5905 §7.4).
func (polled) denied(a *Association, code wire.ReferenceID, now ntptime.Instant, out *Output) {
	a.status.Denied = true
	a.demobilize(now, "the server answered "+code.Text(), out)
}

func (polled) onClockChanged(a *Association, now ntptime.Instant, out *Output) {
	a.poll.restart(now)
	out.StatusChanged = true
}

// client is the role of mode 3: exchanges, and how the server answers interleaved requests.
type client struct {
	polled
	refused int // interleaved requests answered in basic mode, in a row
	pause   int // basic requests still to send before asking again
}

func (*client) start(a *Association, now ntptime.Instant) {
	a.ephemeral, a.showsPoll = true, true
	a.poll.init(&a.cfg, now)
	a.poll.startUp(a.cfg.IBurst, a.cfg.Burst)
	if a.cfg.NTS {
		a.initNTS(now)
	}
}

// deadline is that of a key exchange while there are no keys (RFC 8915).
func (c *client) deadline(a *Association) ntptime.Raw {
	if a.pending.state == idle && a.lacksKeys() {
		return a.security.next
	}
	return c.polled.deadline(a)
}

func (c *client) missed(a *Association, now ntptime.Instant, out *Output) {
	a.missedKeys(now)
	c.polled.missed(a, now, out)
}

func (c *client) onDeadline(a *Association, now ntptime.Instant, out *Output) {
	due := c.pollDue(a, now, out)
	if !a.done && a.lacksKeys() {
		a.seekKeys(now, out)
		return
	}
	if due {
		a.request(now, c.mayInterleave(a, now), out)
	}
}

// onPacket is never called: a client takes mode 4 alone.
func (*client) onPacket(a *Association, _ *model.Received, _ *wire.Packet, _ *Output) {
	a.reject(model.RejectMode)
}

func (*client) packetSent(uint32) *transmission { return nil }

func (*client) measured(*Association, ntptime.Instant, *Output) {}
