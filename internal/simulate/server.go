package simulate

import (
	"timeball/internal/config"
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
	network virtual.Stream // of what NTS sends in clear
	reply   [2048]byte
}

// serveBy has requests answered as a configuration says, from now on.
func (c *core) serveBy(cfg *config.Config, policy *responder.Policy) {
	if cfg.Server == nil {
		c.server = nil
		return
	}
	if c.server == nil {
		c.server = newServer(c, cfg.Server)
	}
	env := &c.server.env
	env.Policy, env.Smeared, env.Snapshot = policy, cfg.Server.Listen[0].Smear, c.snapshot
	switch {
	case cfg.Server.NTS == nil:
		env.Ring = nil
	case env.Ring == nil:
		env.Ring = newRing(&c.server.network, c.m.world.scenario.Start)
	}
}

// newServer makes the responder as the daemon does, with tables no larger than there
// are hosts to remember.
func newServer(c *core, rules *config.Server) *server {
	size := min(rules.ClientLog.Size, 4*len(c.m.world.machines))
	seed := responder.Seed{c.random.Uint64(), c.random.Uint64()}
	s := &server{c: c, network: virtual.NewStream(c.m.world.seed, "NTS "+c.m.host.Name)}
	s.shard = responder.NewShard(responder.ShardConfig{
		Clients: responder.NewClients(size, seed, false), Random: c.random.Uint64(), Timestamps: responder.NewTimestamps(size, seed), Nonces: &s.network,
	})
	s.env.Now = c.m.timestamp
	return s
}

func (s *server) publish(snapshot *model.Snapshot) { s.env.Snapshot = snapshot }

// answer replies to a request that arrived earlier or just now; the transmit
// timestamp is read at the present moment.
func (s *server) answer(p *packet, now ntptime.Instant) {
	if policy, ended := engine.EndSilence(s.c.set.Config, s.env.Policy, now.Raw.Sub(s.c.started)); ended {
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
