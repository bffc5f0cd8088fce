package simulate

import (
	"net/netip"

	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// receive takes a datagram to where RFC 5905 §9.2 has it: an answer to the association
// that asked, the other modes where the engine says; requests wait for serve.
func (c *core) receive(p *packet, now ntptime.Instant) (done bool) {
	c.present = now
	rx := model.Received{Data: p.data, Remote: p.from, Local: p.to.Addr(), Interface: onlyInterface, At: now, Timestamp: model.TimestampKernel}
	if p.to.Port() != ntpPort {
		for _, a := range c.members {
			if a.port == p.to.Port() {
				c.deliver(a, &rx)
				break
			}
		}
		return true
	}
	if !engine.ForAssociation(p.data) {
		return c.server == nil
	}
	decision := c.set.Route(&rx, now.Raw, &c.changes)
	c.carryOut(now)
	switch decision.Action {
	case engine.Deliver:
		if a := c.member(decision.Association.ID()); a != nil {
			c.deliver(a, &rx)
		}
	case engine.Answer:
		return c.server == nil
	}
	return true
}

// deliver hands a datagram to an association.
func (c *core) deliver(a *member, rx *model.Received) {
	a.process.OnPacket(rx, c.snapshot)
	c.bury(rx.At)
}

// nameOf is the host behind an address, or the address.
func (m *machine) nameOf(address netip.Addr) string {
	if i, known := m.world.address[address]; known {
		return m.world.scenario.Hosts[i].Name
	}
	return address.String()
}

// serve answers a request; T3 is the present moment.
func (c *core) serve(p *packet, now ntptime.Instant) {
	if c.server != nil {
		c.server.answer(p, now)
	}
}
