package daemon

import (
	"context"
	"io/fs"
	"net/netip"

	"timeball/internal/chrony"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// chronyService answers chrony's control protocol, where the configuration says so.
type chronyService struct {
	d       *Daemon
	sockets []*chrony.Socket
}

// openChrony opens the sockets that the configuration names; none is no error.
func openChrony(d *Daemon, cfg *config.Config) (*chronyService, error) {
	c := &chronyService{d: d}
	if path := cfg.Control.ChronySocket; path != "" {
		s, err := chrony.ListenUnix(path, fs.FileMode(cfg.Control.Mode))
		if err != nil {
			return nil, err
		}
		c.sockets = append(c.sockets, s)
	}
	if port := cfg.Control.ChronyPort; port != 0 {
		for _, address := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			s, err := chrony.ListenUDP(netip.AddrPortFrom(address, port))
			if err != nil && address.Is6() {
				continue // without IPv6
			}
			if err != nil {
				c.close()
				return nil, err
			}
			c.sockets = append(c.sockets, s)
		}
	}
	return c, nil
}

func (c *chronyService) start(g *group, failed func(string, error)) {
	if c == nil {
		return
	}
	for _, s := range c.sockets {
		g.GoBeside("chrony's requests at "+s.Address().String(), func(ctx context.Context) error { return s.Serve(ctx, c) }, failed)
	}
}

func (c *chronyService) close() {
	if c == nil {
		return
	}
	for _, s := range c.sockets {
		s.Close()
	}
}

// What chrony.View asks for.

func (c *chronyService) Snapshot() *model.Snapshot { return c.d.snapshot.Load() }

func (c *chronyService) Now() ntptime.Instant { return c.d.clock.Now() }

func (c *chronyService) Options(name string) chrony.Options {
	sources := c.d.config.Load().Sources
	for i := range sources {
		if s := &sources[i]; s.Name() == name {
			return chrony.Options{NoSelect: s.NoSelect, Prefer: s.Prefer, Trust: s.Trust, Require: s.Require}
		}
	}
	return chrony.Options{}
}

func (c *chronyService) Server() *chrony.Server {
	counted := c.d.ports.Counters()
	s := &chrony.Server{
		Received: counted.Received(), Dropped: counted.Sum(responder.Limited) + counted.Sum(responder.RateKoD),
		Interleaved: counted.Sum(responder.Interleaved), Authenticated: counted.NTSReceived(),
	}
	for _, socket := range c.sockets {
		s.Requests += socket.Requests()
	}
	return s
}

// mostClients bounds how many clients are told of.
const mostClients = 10000

func (c *chronyService) Clients() ([]responder.ClientReport, bool) {
	clients := c.d.ports.Clients()
	if c.d.config.Load().Server == nil || clients == nil {
		return nil, false
	}
	return clients.Top(mostClients, responder.ByHits, c.d.clock.Now().Raw), true
}

func (c *chronyService) Serves(addr netip.Addr) bool {
	policy := c.d.policy.Load()
	return c.d.config.Load().Server != nil && policy.Grant(addr).Right.Time()
}

func (c *chronyService) MayAsk(addr netip.Addr) bool {
	return c.d.config.Load().Control.ChronyPort != 0 && addr.IsLoopback()
}
