package simulate

import (
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/virtual"
)

// server is the responder of one machine, with what its sockets would hold.
type server struct {
	c       *core
	shard   *responder.Shard
	env     responder.Env
	reply   [2048]byte
	started ntptime.Raw
}

// newServer makes the responder as the daemon does, with tables no larger than there
// are hosts to remember.
func newServer(c *core, policy *responder.Policy, now ntptime.Raw) *server {
	rules := c.m.host.Config.Server
	size := min(rules.ClientLog.Size, 4*len(c.m.world.machines))
	seed := responder.Seed{c.random.Uint64(), c.random.Uint64()}
	shard := responder.ShardConfig{Clients: responder.NewClients(size, seed, false), Random: c.random.Uint64()}
	if rules.Interleaved {
		shard.Timestamps = responder.NewTimestamps(size, seed)
	}
	network := virtual.NewStream(c.m.world.seed, "NTS "+c.m.host.Name)
	shard.Nonces = &network
	s := &server{c: c, shard: responder.NewShard(shard), started: now}
	s.env = responder.Env{Policy: policy, Now: c.m.timestamp, Smeared: rules.Listen[0].Smear}
	if rules.NTS != nil {
		s.env.Ring = newRing(&network, c.m.world.scenario.Start)
	}
	return s
}

func (s *server) publish(snapshot *model.Snapshot) { s.env.Snapshot = snapshot }

// answer replies to a request that arrived earlier or just now; the transmit
// timestamp is read at the present moment.
func (s *server) answer(p *packet, now ntptime.Instant) {
	if policy, ended := engine.EndSilence(s.c.m.host.Config, s.env.Policy, now.Raw.Sub(s.started)); ended {
		s.env.Policy = policy
	}
	rx := model.Received{Data: p.data, Remote: p.from, Local: p.to.Addr(), Interface: onlyInterface, At: p.arrived, Timestamp: model.TimestampKernel}
	n, verdict := s.shard.Respond(s.reply[:], &rx, &s.env)
	if n == 0 {
		return
	}
	s.c.m.send(ntpPort, p.from, s.reply[:n])
	if verdict.TimestampID != 0 {
		s.shard.Transmitted(verdict.TimestampID, s.c.m.timestamp())
	}
}
