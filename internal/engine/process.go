package engine

import (
	"errors"
	"time"

	"timeball/internal/association"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// ClockDriver is what the system process needs done. Each call is carried out before it
// returns, or handed to somebody who will see it before anything that comes later.
type ClockDriver interface {
	// Apply does a correction to the clock and says what the clock really did.
	Apply(model.Correction) model.Applied
	// ClockChanged tells every association that the clock was stepped or set by at:
	// timestamps from before and after do not go together.
	ClockChanged(at ntptime.Instant)
	// Hint tells one association how to poll; the newest hint replaces the ones before.
	Hint(model.Hint)
	// Record keeps an event for people: a line of the log, a row of a report.
	Record(model.Event)
	// CloseGate remembers beyond a restart that the panic gate has been used.
	CloseGate()
	// Publish makes a state visible to associations, responder and reports.
	Publish(*model.Snapshot)
}

// SystemProcess is the system process of RFC 5905 §11 with the duty of carrying out what
// it wants. One goroutine owns it; the clock is corrected by nobody else.
type SystemProcess struct {
	core   *system.System
	driver ClockDriver
	out    system.Output
	idle   Idle
}

// NewSystemProcess makes one without sources and publishes its first state.
func NewSystemProcess(cfg system.Config, driver ClockDriver, now ntptime.Instant) *SystemProcess {
	p := &SystemProcess{core: system.New(cfg, now), driver: driver}
	p.publish(now)
	return p
}

// Deadline is when OnTimer is due.
func (p *SystemProcess) Deadline() ntptime.Raw { return p.core.Deadline() }

// OnTimer does what is due at now.
func (p *SystemProcess) OnTimer(now ntptime.Instant) {
	p.out.Reset()
	p.core.OnTimer(now, &p.out)
	p.carryOut(now)
}

// AddSource makes room for an association's samples.
func (p *SystemProcess) AddSource(now ntptime.Instant, id model.SourceID, options system.SourceOptions) {
	p.core.AddSource(now, id, options)
}

// RemoveSource forgets an association.
func (p *SystemProcess) RemoveSource(now ntptime.Instant, id model.SourceID) {
	p.out.Reset()
	p.core.RemoveSource(now, id, &p.out)
	p.carryOut(now)
}

// OnSample takes a measurement that an association has checked.
func (p *SystemProcess) OnSample(now ntptime.Instant, sample *model.Sample) {
	p.out.Reset()
	p.core.OnSample(now, sample, &p.out)
	p.carryOut(now)
}

// OnStatus takes what an association knows of itself.
func (p *SystemProcess) OnStatus(now ntptime.Instant, status *model.SourceStatus) {
	p.out.Reset()
	p.core.OnStatus(now, status, &p.out)
	p.carryOut(now)
}

// OnClockJump tells that somebody else has set the clock, or that the machine slept. It
// goes before anything else that has come in: taken for the sources' doing, an hour that
// somebody has set the clock by would be a panic.
func (p *SystemProcess) OnClockJump(jump model.ClockJump) {
	p.driver.ClockChanged(jump.At)
	p.out.Reset()
	p.core.OnClockJump(jump, &p.out)
	p.carryOut(jump.At)
}

// OnLeapDone tells that the leap second which the clock was armed for has happened.
func (p *SystemProcess) OnLeapDone(applied model.Applied) {
	p.driver.ClockChanged(applied.At)
	p.out.Reset()
	p.core.OnApplied(applied, &p.out)
	p.out.Changed = true
	p.carryOut(applied.At)
}

// Reconfigure takes a new configuration and keeps the estimate. The panic gate stays as
// it is: it is read at the start only.
func (p *SystemProcess) Reconfigure(cfg system.Config, now ntptime.Instant) {
	p.core.Reconfigure(cfg, now)
	p.publish(now)
}

// StepNow sets the clock at once by what is left to correct, as an operator wishes, and
// gives what it was set by, positive forward. An error says why it was not.
func (p *SystemProcess) StepNow(now ntptime.Instant) (time.Duration, error) {
	p.out.Reset()
	by, err := p.core.StepNow(now, &p.out)
	return by, p.ordered(now, err)
}

// AcceptCorrection lets the correction through that the panic gate refuses, if it has that
// size, and gives what the clock was set by, positive forward. An error says why it did not.
func (p *SystemProcess) AcceptCorrection(now ntptime.Instant, size time.Duration) (time.Duration, error) {
	p.out.Reset()
	by, err := p.core.AcceptCorrection(now, size, &p.out)
	return by, p.ordered(now, err)
}

// ordered carries out what an operator wished, and gives err, or why the clock refused.
func (p *SystemProcess) ordered(now ntptime.Instant, err error) error {
	p.carryOut(now)
	if err == nil && p.core.ClockRefusal() != "" {
		err = errors.New("the clock refused: " + p.core.ClockRefusal())
	}
	return err
}

// SetIdle shows, beside the sources, what is configured and not in use.
func (p *SystemProcess) SetIdle(idle Idle, now ntptime.Instant) {
	p.idle = idle
	p.core.SetMissing(idle.Missing)
	p.publish(now)
}

// Snapshot is the state at now, as it would be published.
func (p *SystemProcess) Snapshot(now ntptime.Instant) *model.Snapshot {
	s := p.core.Snapshot(now)
	s.Sources = append(s.Sources, p.idle.Rows...)
	s.Configured, s.InUse = p.idle.Configured, p.idle.Configured-len(p.idle.Rows)
	return s
}

func (p *SystemProcess) publish(now ntptime.Instant) { p.driver.Publish(p.Snapshot(now)) }

// carryOut does what the core wants, by the contract of the package comment. Applying a
// correction may bring forth another (the clock did less than it was asked for), so it
// goes round until nothing is left.
func (p *SystemProcess) carryOut(now ntptime.Instant) {
	changed := false
	for {
		for _, hint := range p.out.Hints {
			p.driver.Hint(hint)
		}
		for _, event := range p.out.Events {
			p.driver.Record(event)
		}
		if p.out.GateUsed {
			p.driver.CloseGate()
		}
		changed = changed || p.out.Changed || p.out.HasCorrection
		if !p.out.HasCorrection {
			break
		}
		correction := p.out.Correction
		applied := p.driver.Apply(correction)
		now = applied.At
		if correction.Step != 0 && applied.Err == "" {
			p.driver.ClockChanged(now)
		}
		p.out.Reset()
		p.core.OnApplied(applied, &p.out)
	}
	if changed {
		p.publish(now)
	}
}

// PeerDriver is what one association needs done.
type PeerDriver interface {
	// Send sends a packet and says when it left, by whose timestamp; a better timestamp may
	// come later, by OnTransmitted. An error says why nothing was sent.
	Send(*association.Transmit) (ntptime.Instant, model.TimestampKind, error)
	Record(model.Event)
	// ExchangeKeys makes a key exchange of NTS, in the background; its outcome goes to
	// PeerProcess.OnKeys or OnKeysFailed.
	ExchangeKeys()
	// Sample and Status go to the system process, in this order.
	Sample(*model.Sample)
	Status(*model.SourceStatus)
	// Ended tells that the association is over; it is called once, last.
	Ended()
}

// PeerProcess is one association (the peer and the poll process of RFC 5905 §9, §13) with
// the duty of carrying out what it wants.
type PeerProcess struct {
	assoc     *association.Association
	driver    PeerDriver
	out       association.Output
	changed   association.Output // of ClockChanged, which may come while out is carried out
	packet    wire.Packet
	sendError string // why the last packet could not be sent, "": it was
}

// NewPeerProcess makes an association that is due at once.
func NewPeerProcess(cfg association.Config, driver PeerDriver, now ntptime.Instant, random association.Random) *PeerProcess {
	return &PeerProcess{assoc: association.New(cfg, now, random), driver: driver}
}

// Deadline is when OnTimer is due; Never once the association has ended.
func (p *PeerProcess) Deadline() ntptime.Raw { return p.assoc.Deadline() }

// Status is what the association knows of itself.
func (p *PeerProcess) Status() model.SourceStatus {
	status := *p.assoc.Status()
	status.SendError = p.sendError
	return status
}

// OnTimer does what is due at now; snapshot is the present system state, nil: none yet.
func (p *PeerProcess) OnTimer(now ntptime.Instant, snapshot *model.Snapshot) {
	if p.assoc.Status().Security.Undated && snapshot != nil && snapshot.Synchronized && snapshot.Updates > 0 {
		p.RenewKeys(now) // the clock is set: dates can be checked now
	}
	p.begin(snapshot)
	p.assoc.OnTimer(now, &p.out)
	p.carryOut(&p.out, now)
}

// OnPacket takes a datagram from the other end, or from somebody who pretends to be.
func (p *PeerProcess) OnPacket(rx *model.Received, snapshot *model.Snapshot) {
	p.begin(snapshot)
	if p.packet.Decode(rx.Data) != wire.DefectNone {
		p.assoc.OnMalformed()
		return
	}
	p.assoc.OnPacket(rx, &p.packet, &p.out)
	p.carryOut(&p.out, rx.At)
}

// OnTransmitted tells when packet id really left.
func (p *PeerProcess) OnTransmitted(id uint32, at ntptime.Instant, kind model.TimestampKind) {
	p.assoc.OnTransmitted(id, at, kind)
}

// OnHint tells how the system process wants this source polled.
func (p *PeerProcess) OnHint(h model.Hint, now ntptime.Instant) { p.assoc.OnHint(h, now) }

// OnClockChanged tells that the clock was stepped or set: exchanges under way are dropped.
func (p *PeerProcess) OnClockChanged(now ntptime.Instant) {
	p.changed.Reset()
	p.assoc.OnClockChanged(now, &p.changed)
	p.carryOut(&p.changed, now)
}

// SetOnline lets the association poll, or not, as an operator wishes.
func (p *PeerProcess) SetOnline(online bool, now ntptime.Instant) {
	p.out.Reset()
	p.assoc.SetOnline(online, now, &p.out)
	p.carryOut(&p.out, now)
}

// Burst makes a series of exchanges, as an operator wishes.
func (p *PeerProcess) Burst(now ntptime.Instant) { p.assoc.Burst(now) }

// OnKeys takes what a key exchange has brought.
func (p *PeerProcess) OnKeys(k *association.Keys, now ntptime.Instant) {
	p.out.Reset()
	p.assoc.OnKeys(k, now, &p.out)
	p.carryOut(&p.out, now)
}

// OnKeysFailed takes why a key exchange has brought nothing: in one word, and in more.
func (p *PeerProcess) OnKeysFailed(kind, words string, now ntptime.Instant) {
	p.out.Reset()
	p.assoc.OnKeysFailed(kind, words, now, &p.out)
	p.carryOut(&p.out, now)
}

// RenewKeys makes another key exchange where the first one could not check dates.
func (p *PeerProcess) RenewKeys(now ntptime.Instant) {
	p.out.Reset()
	p.assoc.RenewKeys(now, &p.out)
	p.carryOut(&p.out, now)
}

// Keys returns what a later run may go on with; false if there is nothing.
func (p *PeerProcess) Keys() (association.Keys, bool) { return p.assoc.KeysState() }

// begin empties the output and shows the association the present system state.
func (p *PeerProcess) begin(snapshot *model.Snapshot) {
	p.out.Reset()
	if snapshot != nil {
		p.assoc.OnSystem(snapshot)
	}
}

// carryOut does what the association wants, by the contract of the package comment.
func (p *PeerProcess) carryOut(out *association.Output, now ntptime.Instant) {
	for i := range out.Transmit {
		p.send(&out.Transmit[i], now, out)
	}
	for _, event := range out.Events {
		p.driver.Record(event)
	}
	if out.ExchangeKeys {
		p.driver.ExchangeKeys()
	}
	if out.HasSample {
		p.driver.Sample(&out.Sample)
	}
	if out.StatusChanged {
		status := p.Status()
		p.driver.Status(&status)
	}
	if out.Done {
		p.driver.Ended()
	}
}

func (p *PeerProcess) send(t *association.Transmit, now ntptime.Instant, out *association.Output) {
	at, kind, err := p.driver.Send(t)
	if err != nil {
		if words := err.Error(); words != p.sendError {
			p.sendError, out.StatusChanged = words, true
		}
		p.assoc.OnSendError(t.ID, now, out)
		return
	}
	p.sendError = ""
	p.assoc.OnTransmitted(t.ID, at, kind)
}
