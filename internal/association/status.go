package association

import (
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// reachState is what has been said of the other end.
type reachState uint8

const (
	reachUnknown reachState = iota
	reachYes
	reachNo
)

var statusModes = [kinds]wire.Mode{KindActive: wire.ModeActive, KindPassive: wire.ModePassive, KindClient: wire.ModeClient,
	KindBroadcastServer: wire.ModeBroadcast, KindBroadcastClient: wire.ModeClient}

func (a *Association) initStatus() {
	a.status = model.SourceStatus{Source: a.cfg.ID, Name: a.cfg.Name, Address: a.cfg.Remote, Mode: statusModes[a.cfg.Kind],
		Dynamic: a.cfg.Dynamic, Version: a.cfg.Version, Interface: a.cfg.Interface}
	a.status.Server = model.ServerState{Leap: wire.LeapUnknown, Stratum: wire.MaxStratum}
	if a.cfg.Key != nil {
		a.status.KeyID, a.status.LastTransmit = a.cfg.Key.ID(), a.cfg.LastTransmit
	}
	a.status.Interval = a.cfg.MinPoll.Duration()
	a.status.Poll = a.cfg.MinPoll
}

// Status is what the association knows of itself; valid until the next call.
func (a *Association) Status() *model.SourceStatus { return &a.status }

// announce reports the association's beginning.
func (a *Association) announce(now ntptime.Instant, out *Output) {
	a.announced = true
	a.event(model.EventMobilized, now, a.cfg.Kind.String(), out)
	out.StatusChanged = true
}

// demobilize ends the association.
func (a *Association) demobilize(now ntptime.Instant, why string, out *Output) {
	a.done = true
	a.pending, a.last = exchange{}, lastExchange{}
	a.status.Gone = true
	a.event(model.EventDemobilized, now, why, out)
	out.Done, out.StatusChanged = true, true
}

func (a *Association) event(kind model.EventKind, at ntptime.Instant, text string, out *Output) {
	out.Events = append(out.Events, model.Event{At: at, Kind: kind, Source: a.cfg.ID, Text: text})
}

// reject counts a packet that failed a test: the one trace that it leaves.
func (a *Association) reject(reason model.RejectReason) {
	a.status.Rejected[reason]++
	a.status.Refusals.Count++
	a.status.Refusals.Last = reason
	a.status.Refusals.Polls |= 1
}

// heard notes what the other end says of itself in a packet that is surely its own.
func (a *Association) heard(p *wire.Packet, server model.ServerState, rx *model.Received) {
	a.status.Server = server
	a.status.RemoteMode, a.status.RemotePoll = p.Mode, p.Poll
	a.status.LastPacket = rx.At
	if p.Mode != wire.ModeBroadcast {
		a.status.Local = rx.Local
	}
}

// missed ends a client exchange to which nobody answered.
func (a *Association) missed(now ntptime.Instant, out *Output) {
	a.pending = exchange{}
	a.poll.unanswered()
	a.role.missed(a, now, out)
}

// shiftReach enters a poll's outcome into the reach register (RFC 5905 §13). It reports when
// the other end is reached, or eight polls in a row were for nothing; and that it answers and
// is refused: once for each reason, until a packet is accepted. Kiss codes have events of their own.
func (a *Association) shiftReach(good bool, now ntptime.Instant, out *Output) {
	a.status.Reach <<= 1
	out.StatusChanged = true
	refusals := &a.status.Refusals
	refusedNow := refusals.Polls&1 != 0
	refusals.Polls <<= 1
	if good {
		a.refusalTold = model.RejectNone
		a.status.Reach |= 1
		if a.reachState != reachYes {
			a.reachState = reachYes
			a.event(model.EventReachable, now, "", out)
		}
		return
	}
	if last := refusals.Last; refusedNow && last != a.refusalTold && last != model.RejectKiss && last != model.RejectUnsync {
		a.refusalTold = last
		a.event(model.EventRefused, now, a.status.Refused(), out)
	}
	lost := a.reachState == reachYes || a.status.Unanswered >= burstCount
	if a.status.Reach == 0 && lost && a.reachState != reachNo {
		a.reachState = reachNo
		a.event(model.EventUnreachable, now, a.whyUnreachable(), out)
	}
}

func (a *Association) whyUnreachable() string {
	if a.status.Refusals.Recent() {
		return a.status.Refused()
	}
	if a.status.Unanswered > 0 {
		return "no answer"
	}
	return "answers, but has no time to give"
}

// notePoll copies the poll process's decision into the status.
func (a *Association) notePoll() {
	if a.showsPoll {
		a.status.Interval, a.status.Poll = a.poll.interval(), a.poll.exponent()
	}
}
