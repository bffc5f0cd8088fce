// Package probe asks servers once, without a daemon: by an association like a daemon's, so
// that the same packet tests hold. It touches no clock.
package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// replyIn is how long a reply may take.
const replyIn = 3 * time.Second

// Probe is a server to be asked.
type Probe struct {
	Name      string
	Remote    netip.AddrPort
	Local     netip.Addr // invalid: the route's
	Interface string
	Version   uint8 // 1 to 4; 0: 4
	Key       *mac.Key
	Count     int // exchanges, one a second; at least 1
	// ExchangeKeys makes the key exchange of NTS first; nil: NTS is not asked for. It also
	// gives what certificates the other side has shown, the end certificate first.
	ExchangeKeys func(ctx context.Context, p *Probe) (*association.Keys, []*x509.Certificate, error)
}

// where is whom the probe goes to, for errors.
func (p *Probe) where() string {
	if p.Name == "" || p.Name == p.Remote.Addr().String() || p.Name == p.Remote.String() {
		return p.Remote.String()
	}
	return fmt.Sprintf("%s (%s)", p.Name, p.Remote)
}

// Reply is what came of a Probe.
type Reply struct {
	Probe   Probe
	begun   time.Time
	Samples []model.Sample
	Status  model.SourceStatus
	Keys    *association.Keys   // of the key exchange; nil: none was made, or it failed
	Chain   []*x509.Certificate // that its server has shown, the end certificate first
}

// Offset is reference − local of a sample, Delay its round trip (RFC 5905 §8).
func Offset(m *model.Sample) time.Duration {
	return m.T2.Sub(m.T1.Wall)/2 + m.T3.Sub(m.T4.Wall)/2
}

// Delay is the round trip of a sample without the server's own time, and no less than
// the precision of our clock (RFC 5905 §8): the noise of timestamps makes a short one negative.
func Delay(m *model.Sample, precision ntptime.Log2) time.Duration {
	return max(m.T4.Wall.Sub(m.T1.Wall)-m.T3.Sub(m.T2), precision.Duration())
}

// Ask asks one server. The error says that nothing answered, or that the reply is of no
// use; the Reply then still holds what is known.
func Ask(ctx context.Context, p Probe, c clock.Clock) (Reply, error) {
	p.Count = max(p.Count, 1)
	reply := Reply{Probe: p, begun: time.Now()}
	if p.ExchangeKeys != nil {
		var err error
		if reply.Keys, reply.Chain, err = p.ExchangeKeys(ctx, &p); err != nil {
			reply.Status = model.SourceStatus{
				Name: p.Name, Address: p.Remote, Mode: wire.ModeClient, NTS: true, Unanswered: 1,
				Server:   model.ServerState{Leap: wire.LeapUnknown, Stratum: wire.MaxStratum},
				Security: model.Security{State: model.KeysFailed, FailureKind: "failed", Failure: err.Error()},
				Waiting:  "no NTS keys: the key exchange failed: " + err.Error(),
			}
			return reply, fmt.Errorf("%s: NTS key exchange: %w", p.where(), err)
		}
		p.Remote = reply.Keys.Remote
		reply.Probe = p
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(p.Count)*time.Second+replyIn)
	defer cancel()
	settings := engine.Probe{Name: p.Name, Remote: p.Remote, Local: p.Local, Version: p.Version, Key: p.Key, Keys: reply.Keys}
	newAsker(&reply, settings.Association(), c).run(limited)
	return reply, reply.fault(ctx)
}

// spareExchanges are made where a reply came but was of no use: a delay that noise
// has made negative, for one.
const spareExchanges = 2

// complete reports whether there is nothing more to be waited for.
func (r *Reply) complete() bool {
	return len(r.Samples) >= r.Probe.Count || r.Status.Denied || r.Status.SendError != "" || r.hopeless()
}

// hopeless reports that as many polls are over as were asked for. Silence is not asked
// a second time.
func (r *Reply) hopeless() bool {
	allowed := r.Probe.Count
	if r.refused() {
		allowed += spareExchanges
	}
	sent := int(r.Status.Sent)
	return sent > allowed || sent == allowed && r.Status.Unanswered > 0
}

// refused reports whether any packet failed a test.
func (r *Reply) refused() bool {
	return r.Status.Rejected != [model.RejectReasons]uint64{}
}

// fault says why a reply is of no use; nil if it has samples.
func (r *Reply) fault(ctx context.Context) error {
	where := r.Probe.where()
	switch {
	case len(r.Samples) > 0:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case r.Status.SendError != "":
		return fmt.Errorf("%s: cannot be asked: %s", where, r.Status.SendError)
	case r.refused():
		return fmt.Errorf("%s: %s", where, r.Status.Refused())
	case r.Status.Network != "":
		return fmt.Errorf("%s: no answer: %s", where, r.Status.Network)
	}
	return fmt.Errorf("%s: no answer within %s, and no word from the network; is it an NTP server, and does a firewall let UDP port %d through, both ways?",
		where, time.Since(r.begun).Round(100*time.Millisecond), r.Probe.Remote.Port())
}
