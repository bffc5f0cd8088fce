package simulate

import (
	"net/netip"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// receive takes a datagram to where RFC 5905 §9.2 has it: an answer to the
// association that asked, the other modes by the sender's address; requests wait for
// serve.
func (c *core) receive(p *packet, now ntptime.Instant) (done bool) {
	rx := model.Received{Data: p.data, Remote: p.from, Local: p.to.Addr(), Interface: 1, At: now, Stamp: model.StampKernel}
	if p.to.Port() != ntpPort {
		for _, a := range c.members {
			if a.port == p.to.Port() {
				c.deliver(a, &rx)
				break
			}
		}
		return true
	}
	if asks(p.data) {
		return c.server == nil
	}
	if c.packet.Decode(p.data) != wire.DefectNone {
		return true
	}
	if a := c.route(&rx, c.packet.Mode); a != nil {
		c.deliver(a, &rx)
	}
	return true
}

// deliver hands a datagram to an association.
func (c *core) deliver(a *member, rx *model.Received) {
	c.begin(a)
	if c.packet.Decode(rx.Data) != wire.DefectNone {
		a.assoc.OnMalformed()
		return
	}
	a.assoc.OnPacket(rx, &c.packet, &c.out)
	c.end(a, rx.At)
}

// route finds the association that a packet to port 123 belongs to, or mobilizes one.
func (c *core) route(rx *model.Received, mode wire.Mode) *member {
	for _, a := range c.members {
		if a.remote.Addr() != rx.Remote.Addr() {
			continue
		}
		if broadcast := a.kind == association.KindBroadcastClient; broadcast == (mode == wire.ModeBroadcast) ||
			broadcast && mode == wire.ModeServer {
			if a.kind != association.KindClient || mode == wire.ModeServer {
				return a
			}
		}
	}
	switch association.Dispatch(association.KindNone, mode) {
	case association.ActionMobilizePassive:
		return c.mobilizePassive(rx)
	case association.ActionMobilizeBroadcastClient:
		return c.mobilizeListener(rx)
	}
	return nil
}

// authenticated says whether the packet in hand carries a good MAC of one of the keys.
func (c *core) authenticated(allowed func(id uint32) bool) (key *mac.Key, good bool) {
	if !c.packet.HasMAC || c.packet.CryptoNAK() || c.keys == nil || !allowed(c.packet.KeyID) {
		return nil, false
	}
	key = c.keys.Key(c.packet.KeyID)
	return key, key != nil && c.signer.Verify(key, c.packet.Signed, c.packet.Digest)
}

// dynamic counts the associations that operation has mobilized.
func (c *core) dynamic() int {
	n := 0
	for _, a := range c.members {
		if a.dynamic {
			n++
		}
	}
	return n
}

// mobilizePassive makes a symmetric passive association for who sent mode 1 (NEWPS).
func (c *core) mobilizePassive(rx *model.Received) *member {
	rules := &c.m.host.Config.Symmetric
	key, good := c.authenticated(func(id uint32) bool {
		for _, allowed := range rules.Keys {
			if allowed == id {
				return true
			}
		}
		return false
	})
	ok, _ := association.MayMobilize(association.Admission{
		Mode: wire.ModeActive, Enabled: rules.Passive, MayFollow: true, Authenticated: good,
		Unauthenticated: rules.Unauthenticated && !c.packet.HasMAC, CryptoNAK: c.packet.CryptoNAK(),
		Associations: c.dynamic(), Limit: rules.MaxAssociations,
	})
	if !ok {
		return nil
	}
	source := passiveSource(c.m.nameOf(rx.Remote.Addr()), c.packet.Version)
	cfg := c.m.sourceConfig(&source, association.KindPassive, rx.Remote, key)
	cfg.Dynamic = true
	return c.add(rx.At, cfg, engine.SourceOptions(&source))
}

// mobilizeListener makes a broadcast client for the sender of a mode 5 packet, if a
// source of the configuration listens to it (NEWBC).
func (c *core) mobilizeListener(rx *model.Received) *member {
	for i := range c.m.host.Config.Sources {
		source := &c.m.host.Config.Sources[i]
		group := rx.Local.IsMulticast()
		if group && (source.Kind != config.MulticastClient || source.Group != rx.Local) ||
			!group && source.Kind != config.BroadcastClient {
			continue
		}
		key, good := c.authenticated(func(id uint32) bool { return id == source.Key })
		ok, _ := association.MayMobilize(association.Admission{
			Mode: wire.ModeBroadcast, Enabled: true, MayFollow: true, Authenticated: good,
			Unauthenticated: source.Unauthenticated, CryptoNAK: c.packet.CryptoNAK(),
			Associations: c.dynamic(), Limit: maxListeners,
		})
		if !ok {
			continue
		}
		named := *source
		named.Host = c.m.nameOf(rx.Remote.Addr())
		cfg := c.m.sourceConfig(&named, association.KindBroadcastClient, rx.Remote, key)
		cfg.Dynamic, cfg.Group = true, group
		return c.add(rx.At, cfg, engine.SourceOptions(&named))
	}
	return nil
}

// maxListeners bounds the broadcast servers that one client follows.
const maxListeners = 16

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
