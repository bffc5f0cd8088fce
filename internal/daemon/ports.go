package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/responder"
)

// portSet is the daemon's NTP port: a socket or several for each address, the shards
// that answer requests on them, and the way out for what is not a reply.
type portSet struct {
	d        *Daemon
	ports    atomic.Pointer[[]*listener]
	tables   atomic.Pointer[tables] // nil until there is a server section
	stranger *stranger
	dropped  atomic.Uint64 // packets that the registry or an association had no room for

	mu      sync.Mutex
	missing []missingAddress       // configured, and not there yet
	groups  map[groupKey]*listener // heard by sockets of their own (lab)
	closed  bool
	waiting map[uint32]stampOwner // at most maxWaiting
	nextID  uint32
}

// groupKey names a group or broadcast address at an interface.
type groupKey struct {
	addr   netip.Addr
	ifname string
}

// stampOwner is who waits for a transmit stamp.
type stampOwner struct {
	r  *runner
	id uint32
}

// maxWaiting bounds the stamps waited for; what never came is forgotten.
const maxWaiting = 4096

// openPorts opens the sockets that a configuration needs; none without a server, a
// peer or a broadcast client. Addresses that this machine does not have are waited for.
func openPorts(d *Daemon, cfg *config.Config) (*portSet, error) {
	p := &portSet{d: d, waiting: map[uint32]stampOwner{}, groups: map[groupKey]*listener{}}
	p.makeTables(cfg.Server)
	var opened []*listener
	for _, address := range listenAddresses(cfg, d.opts.Port) {
		l, err := p.openOrWait(cfg, address)
		if err != nil {
			p.setList(opened)
			p.close()
			return nil, err
		}
		if l != nil {
			opened = append(opened, l)
		}
	}
	p.setList(opened)
	p.stranger = p.newStranger()
	return p, nil
}

// list is the addresses listened at now.
func (p *portSet) list() []*listener { return *p.ports.Load() }

func (p *portSet) setList(list []*listener) { p.ports.Store(&list) }

// open opens the sockets of one address.
func (p *portSet) open(cfg *config.Config, address netip.AddrPort) (*listener, error) {
	port, err := netio.Listen(p.listenConfig(cfg, numbered(address)))
	if err != nil {
		return nil, explainListen(err)
	}
	return p.newListener(port, address), nil
}

// explainListen says what to do about the usual reasons.
func explainListen(err error) error {
	switch {
	case errors.Is(err, netio.ErrInUse):
		return fmt.Errorf("%w; stop the other NTP daemon, or set server.listen", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run timeball as its service, or give it CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// listenAddresses are where the port is to be opened.
func listenAddresses(cfg *config.Config, otherwise netip.AddrPort) []netip.AddrPort {
	if s := cfg.Server; s != nil {
		list := make([]netip.AddrPort, len(s.Listen))
		for i, l := range s.Listen {
			list[i] = netip.AddrPortFrom(l.Addr, l.Port)
		}
		return list
	}
	if !needsPort(cfg) {
		return nil
	}
	if !otherwise.IsValid() && otherwise.Port() == 0 {
		otherwise = netip.AddrPortFrom(netip.Addr{}, config.NTPPort)
	}
	return []netip.AddrPort{otherwise}
}

// needsPort reports whether a source speaks from the NTP port.
func needsPort(cfg *config.Config) bool {
	for i := range cfg.Sources {
		switch cfg.Sources[i].Kind {
		case config.Peer, config.BroadcastClient, config.MulticastClient:
			return true
		}
	}
	return false
}

// workers is the number of sockets for each address: one a core unless configured.
func workers(configured int) int {
	if configured > 0 {
		return configured
	}
	return runtime.GOMAXPROCS(0)
}

func (p *portSet) listenConfig(cfg *config.Config, listen netip.AddrPort) netio.ListenConfig {
	c := netio.ListenConfig{Address: listen, Workers: 1, Clock: p.d.netClock(), Hardware: p.d.hardware, OnTransmitted: p.onTransmitted}
	if s := cfg.Server; s != nil {
		c.Workers, c.Ignore = workers(s.Workers), s.Ignore
	}
	return c
}

// start begins to serve: one goroutine for each socket.
func (p *portSet) start(g *group) {
	for _, l := range p.list() {
		p.serve(g, l)
	}
	g.Go("interfaces", p.watchInterfaces)
}

// serve starts the goroutines of one address; they end when it is closed, as it is at
// the latest when the daemon stops.
func (p *portSet) serve(g *group, l *listener) {
	context.AfterFunc(g.ctx, func() { _ = l.Close() })
	for worker := range l.shards {
		g.Go(fmt.Sprintf("port %s/%d", l.LocalAddr(), worker), func(context.Context) error {
			return l.Serve(worker, p.newHandler(&l.shards[worker]))
		})
	}
}

// watchAgain is the pause after the watch over the interfaces has failed.
const watchAgain = 30 * time.Second

// watchInterfaces is a goroutine: it joins groups again when interfaces come and go,
// and lets the registry know. Without the watch the daemon runs on.
func (p *portSet) watchInterfaces(ctx context.Context) error {
	for warned := false; ; warned = true {
		monitor, err := netio.OpenMonitor()
		if err == nil {
			p.interfacesChanged(ctx) // what came between the look before and the watch is told by nobody
			err = monitor.Run(ctx, func() { p.interfacesChanged(ctx) })
		}
		if err != nil && !warned {
			p.d.log.Warn("changes of the interfaces are not noticed at present", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchAgain):
		}
	}
}

func (p *portSet) interfacesChanged(ctx context.Context) {
	p.d.refreshCards()
	for _, l := range p.list() {
		if err := l.Refresh(); err != nil {
			p.d.log.Warn("interfaces have changed, and not everything could follow", zap.Error(err))
		}
	}
	p.d.registry.tell(ctx, (*registry).interfacesChanged)
}

// Send sends a packet of an association from the NTP port.
func (p *portSet) Send(r *runner, t *association.Transmit) (ntptime.Instant, error) {
	port := p.portFor(t)
	if port == nil {
		return ntptime.Instant{}, p.noPort(t.To)
	}
	index := t.Interface
	if name := r.client.Interface; name != "" { // it may have come, or come back under another index
		if index = interfaceIndex(name); index == 0 {
			return ntptime.Instant{}, fmt.Errorf("interface %s is not there", name)
		}
	}
	return port.Send(t.Data, t.To, t.Local, index, netio.StampRequest{Want: true, ID: p.await(r, t.ID)})
}

// noPort says why nothing can be sent to an address.
func (p *portSet) noPort(to netip.AddrPort) error {
	for _, m := range p.awaited() {
		if m.address.Addr().Is4() == to.Addr().Is4() {
			return fmt.Errorf("no NTP port for %s yet: %s, of server.listen: %s", to, m.address, m.why)
		}
	}
	return fmt.Errorf("no NTP port for %s; is the address family configured under server.listen?", to)
}

// portFor finds a port that can send to an address, from the local one if it is given.
func (p *portSet) portFor(t *association.Transmit) *listener {
	for _, l := range p.list() {
		if l.CanSend(t.To.Addr(), t.Local) {
			return l
		}
	}
	return nil
}

// await notes who waits for the stamp of a packet. Its ids stay below those of shards.
func (p *portSet) await(r *runner, id uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxWaiting {
		clear(p.waiting)
	}
	p.nextID = (p.nextID + 1) &^ responder.StampIDs
	p.waiting[p.nextID] = stampOwner{r, id}
	return p.nextID
}

// onTransmitted brings a stamp to the association that waits for it.
func (p *portSet) onTransmitted(id uint32, at ntptime.Instant, kind model.StampKind) {
	p.mu.Lock()
	owner, waits := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if waits {
		offer(owner.r.stamps, transmitted{owner.id, at, kind})
	}
}

// listenTo makes the port receive what a broadcast or multicast client listens for. It
// is an error while the interface is not there.
func (p *portSet) listenTo(s *config.Source) error {
	switch {
	case p.d.opts.Groups:
		return p.openGroup(netip.AddrPortFrom(groupOf(s), p.d.opts.Port.Port()), s.Interface)
	case s.Kind == config.BroadcastClient:
		return nil // a wildcard socket receives broadcasts by itself
	}
	return p.join(s.Group, s.Interface)
}

// join makes the first port that speaks the group's family a member.
func (p *portSet) join(group netip.Addr, ifname string) error {
	err := fmt.Errorf("no NTP port of the family of %s", group)
	for _, port := range p.list() {
		if !port.CanSend(group, netip.Addr{}) {
			continue
		}
		if err = port.JoinGroup(group, ifname); err == nil {
			return nil
		}
	}
	return err
}

// openGroup hears a group or broadcast address by a socket of its own.
func (p *portSet) openGroup(group netip.AddrPort, ifname string) error {
	key := groupKey{group.Addr(), ifname}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.groups[key] != nil {
		return nil
	}
	port, err := netio.ListenGroup(netio.ListenConfig{Address: group, Clock: p.d.netClock()}, ifname)
	if err != nil {
		return err
	}
	l := p.newListener(port, group)
	p.groups[key] = l
	p.serve(p.d.group, l)
	return nil
}

// stopListening leaves the group of a source, if it was joined.
func (p *portSet) stopListening(s *config.Source) {
	p.mu.Lock()
	l := p.groups[groupKey{groupOf(s), s.Interface}]
	delete(p.groups, groupKey{groupOf(s), s.Interface})
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
		return
	}
	if s.Kind == config.MulticastClient {
		for _, l := range p.list() {
			_ = l.LeaveGroup(s.Group, s.Interface) // of another family, it never joined
		}
	}
}

// groupOf is the address that a listening source hears; the loopback's broadcast
// address where each host of a lab has an address of its own.
func groupOf(s *config.Source) netip.Addr {
	if s.Kind == config.MulticastClient {
		return s.Group
	}
	return loopbackBroadcast
}

var loopbackBroadcast = netip.AddrFrom4([4]byte{127, 255, 255, 255})

func (p *portSet) setTTL(group netip.Addr, ttl uint8) {
	for _, port := range p.list() {
		if err := port.SetMulticastTTL(group, int(ttl)); err != nil {
			p.d.log.Warn("ttl not set", zap.Stringer("group", group), zap.Error(err))
		}
	}
}

// addresses are where the port listens, with the port numbers really taken.
func (p *portSet) addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, port := range p.list() {
		list = append(list, port.LocalAddr())
	}
	return list
}

// close closes every socket; their goroutines then end.
func (p *portSet) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, l := range p.list() {
		_ = l.Close()
	}
	for _, l := range p.groups { //order: all are closed
		_ = l.Close()
	}
}
