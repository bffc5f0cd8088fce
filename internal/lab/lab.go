// Package lab runs a scenario in real time: every host is a real daemon with a
// virtual clock, at an address of its own in 127.0.0.0/8, and all of them talk over
// real UDP. It needs no root and no network, and touches no clock of the machine.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/daemon"
	"timeball/internal/scenario"
)

// Options are what surrounds a lab.
type Options struct {
	Log     *zap.Logger
	Version string
}

// Lab is a scenario with its hosts.
type Lab struct {
	hosts   []*host
	port    uint16
	scratch string // control sockets of hosts that name none
	opts    Options
	started time.Time
}

// host is one machine: a clock that runs on, and a daemon that may be stopped and
// started again.
type host struct {
	name   string
	addr   netip.Addr
	clock  *clock.Virtual
	config *config.Config
	daemon atomic.Pointer[daemon.Daemon] // nil: stopped
	events []scenario.Event              // those that the lab plays, in order of time
}

// firstHost is the address of the first host; the others follow.
var firstHost = netip.AddrFrom4([4]byte{127, 0, 0, 2})

// maxHosts fits 127.0.0.2 to 127.0.15.255.
const maxHosts = 4000

// loopbackBroadcast is what stands for 255.255.255.255 on the loopback interface.
var loopbackBroadcast = netip.AddrFrom4([4]byte{127, 255, 255, 255})

// Open makes the hosts of a scenario ready; Run starts them. The error names the
// host that cannot be.
func Open(s *scenario.Scenario, opts Options) (*Lab, error) {
	if len(s.Hosts) > maxHosts {
		return nil, fmt.Errorf("the scenario has %d hosts, and a lab has room for %d", len(s.Hosts), maxHosts)
	}
	for i := range s.Hosts {
		if len(s.Hosts[i].Replays) > 0 {
			return nil, fmt.Errorf("host %s replays a record; a lab runs in the present: play it with `timeball simulate`", s.Hosts[i].Name)
		}
		for _, source := range s.Hosts[i].Config.Sources {
			if source.Kind == config.RefclockSource { // a device of this machine tells its time, and not the scenario's
				return nil, fmt.Errorf("host %s has a reference clock (%s), and a lab has no receivers: play it with `timeball simulate`", s.Hosts[i].Name, source.Name())
			}
		}
	}
	scratch, err := os.MkdirTemp("", "timeball-lab-")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l := &Lab{scratch: scratch, opts: opts, started: time.Now()}
	addr := firstHost
	for i := range s.Hosts {
		name := s.Hosts[i].Name
		l.hosts = append(l.hosts, &host{name: name, addr: addr, events: eventsOf(s, name)})
		addr = addr.Next()
	}
	if l.port, err = freePort(l.hosts); err != nil {
		l.Close()
		return nil, err
	}
	for i, h := range l.hosts {
		if err := l.prepare(h, &s.Hosts[i]); err != nil {
			l.Close()
			return nil, fmt.Errorf("host %s: %w", h.name, err)
		}
	}
	return l, nil
}

// prepare makes one host: its clock, its configuration as the lab needs it, its daemon.
func (l *Lab) prepare(h *host, model *scenario.Host) error {
	h.clock = clock.NewVirtual(clock.VirtualConfig{Offset: model.Clock.Offset, Frequency: model.Clock.Frequency})
	h.config = l.adapt(h, model.Config)
	return l.boot(h)
}

// boot makes a host's daemon.
func (l *Lab) boot(h *host) error {
	log := l.opts.Log
	if log == nil {
		log = zap.NewNop()
	}
	h.clock.CheckJump() // what happened before is nothing to a daemon that starts
	d, err := daemon.New(h.config, daemon.Options{
		Log:     log.With(zap.String("host", h.name)),
		Version: l.opts.Version,
		Clock:   h.clock,
		Lookup:  l.lookup,
		Port:    netip.AddrPortFrom(h.addr, l.port),
		Groups:  true,
	})
	if err != nil {
		return err
	}
	h.daemon.Store(d)
	return nil
}

// adapt gives a host's configuration the lab's addresses and port in place of those
// of a machine of its own. What the scenario states itself stays.
func (l *Lab) adapt(h *host, from *config.Config) *config.Config {
	c := *from
	c.Clock.Driver = config.ClockVirtual
	c.Clock.DriftFile, c.Clock.StateDir, c.NTS.State = "", "", "" // a lab leaves nothing behind
	if !c.Control.SocketGiven {
		c.Control.Socket = filepath.Join(l.scratch, h.name+".sock")
	}
	c.Sources = append([]config.Source(nil), from.Sources...)
	for i := range c.Sources {
		l.adaptSource(h, &c.Sources[i])
	}
	if from.Server != nil {
		server := *from.Server
		c.Server = &server
		l.adaptServer(h, &server)
	}
	return &c
}

func (l *Lab) adaptSource(h *host, s *config.Source) {
	if s.Port == config.NTPPort {
		s.Port = l.port
	}
	if !s.SourceAddress.IsValid() {
		s.SourceAddress = h.addr
	}
	if s.Kind == config.BroadcastClient || s.Kind == config.MulticastClient {
		s.Interface = loopback
	}
	if s.NTS != nil && s.NTS.Port == config.NTSPort {
		network := *s.NTS
		network.Port, s.NTS = l.port, &network
	}
}

// loopback is the name of the loopback interface on Linux.
const loopback = "lo"

func (l *Lab) adaptServer(h *host, s *config.Server) {
	if !s.ListenGiven {
		s.Listen = []config.ListenAddress{{Addr: h.addr, Port: l.port}}
	}
	s.Workers = 1
	if s.NTS != nil { // TCP's port of the number that UDP has
		network := *s.NTS
		network.Listen, network.Keys = []config.ListenAddress{{Addr: h.addr, Port: l.port}}, ""
		s.NTS = &network
	}
	s.Broadcast = append([]config.Broadcast(nil), s.Broadcast...)
	for i := range s.Broadcast {
		b := &s.Broadcast[i]
		b.Address, b.Interface = loopbackBroadcast, loopback
		if b.Port == config.NTPPort {
			b.Port = l.port
		}
	}
	s.Multicast = append([]config.Multicast(nil), s.Multicast...)
	for i := range s.Multicast {
		m := &s.Multicast[i]
		m.Interface = loopback
		if m.Port == config.NTPPort {
			m.Port = l.port
		}
	}
}

// lookup finds the hosts of the lab, and nothing else: a lab has no network.
func (l *Lab) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	for _, h := range l.hosts {
		if h.name == name {
			return []netip.Addr{h.addr}, nil
		}
	}
	return nil, fmt.Errorf("the lab has no host %q", name)
}

// Addresses are where the hosts answer, in the scenario's order, whether they serve
// the time or not.
func (l *Lab) Addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, h := range l.hosts {
		list = append(list, netip.AddrPortFrom(h.addr, l.port))
	}
	return list
}

// Run runs all hosts until ctx ends or one of them fails.
func (l *Lab) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	failures := make([]error, len(l.hosts))
	for i, h := range l.hosts {
		wait.Go(func() {
			defer cancel()
			if err := l.live(ctx, h); err != nil {
				failures[i] = fmt.Errorf("host %s: %w", h.name, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// Close gives back what Open took; Run has ended by then.
func (l *Lab) Close() {
	for _, h := range l.hosts {
		if d := h.daemon.Load(); d != nil {
			d.Close()
		}
	}
	_ = os.RemoveAll(l.scratch)
}
