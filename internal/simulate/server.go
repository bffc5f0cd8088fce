package simulate

import (
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

// server is the responder of one machine, with what its sockets would hold.
type server struct {
	c      *core
	shard  *responder.Shard
	policy responder.Policy
	env    responder.Env
	reply  [1024]byte
}

// newServer makes the responder as the daemon does, with tables no larger than there
// are hosts to remember.
func newServer(c *core) *server {
	rules := c.m.host.Config.Server
	size := min(rules.ClientLog.Size, 4*len(c.m.world.machines))
	seed := responder.Seed{c.random.Uint64(), c.random.Uint64()}
	shard := responder.ShardConfig{Clients: responder.NewClients(size, seed, false), Random: c.random.Uint64()}
	if rules.Interleaved {
		shard.Stamps = responder.NewStamps(size, seed)
	}
	s := &server{c: c, shard: responder.NewShard(shard), policy: responder.Policy{
		Access: responder.NewAccess(responder.AccessLists{
			Peer: rules.Access.Peer, Server: rules.Access.Server,
			Synchronization: rules.Access.Synchronization, Query: rules.Access.Query,
		}),
		Keys: c.keys, Interleaved: rules.Interleaved,
	}}
	if limit := rules.RateLimit; limit != nil {
		s.policy.Limit = &responder.RateLimit{Interval: limit.Interval, Burst: limit.Burst, Leak: limit.Leak}
	}
	switch rules.Require {
	case config.RequireKey:
		s.policy.Require = responder.RequireKey
	case config.RequireNTS:
		s.policy.Require = responder.RequireNTS
	}
	s.env = responder.Env{Policy: &s.policy, Now: c.m.stamp}
	return s
}

func (s *server) publish(snapshot *model.Snapshot) { s.env.Snapshot = snapshot }

// asks says whether a datagram is a request that a server may answer.
func asks(data []byte) bool {
	version, mode := wire.Peek(data)
	return mode == wire.ModeClient || mode == wire.ModeReserved && version == 1
}

// answer replies to a request that arrived earlier or just now; the transmit
// timestamp is read at the present moment.
func (s *server) answer(p *packet, _ ntptime.Instant) {
	rx := model.Received{Data: p.data, Remote: p.from, Local: p.to.Addr(), Interface: 1, At: p.arrived, Stamp: model.StampKernel}
	n, verdict := s.shard.Respond(s.reply[:], &rx, &s.env)
	if n == 0 {
		return
	}
	s.c.m.send(ntpPort, p.from, s.reply[:n])
	if verdict.StampID != 0 {
		s.shard.Transmitted(verdict.StampID, s.c.m.stamp())
	}
}
