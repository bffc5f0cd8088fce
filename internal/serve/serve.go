// Package serve holds the NTP port of a host: its sockets with the handlers that answer
// requests on them, addresses and multicast groups that come and go, and the way out for
// what is not a reply. It knows no configuration and no daemon: settings go in, and a set
// of listeners comes out; what is for an association is handed on through a channel.
package serve

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"timeball/internal/model"
	"timeball/internal/netio"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/responder"
)

// Settings say where to listen. The zero value opens no port.
type Settings struct {
	Listen  []netip.AddrPort // an invalid Addr stands for every address of both families
	Smeared []netip.AddrPort // those of Listen at which smeared time is served
	Workers int              // sockets for each address; 0: one a core
	Ignore  []string         // names of interfaces on which nothing is received
	// Clients is the table of clients, which a server has; it is made once and stays.
	Clients *ClientTable
}

// ClientTable says how a server remembers its clients.
type ClientTable struct {
	Size    int // entries; 0: none are remembered
	Privacy bool
}

// Env is what surrounds the listeners.
type Env struct {
	Log      *zap.Logger
	Clock    netio.Clock
	Hardware *netio.Hardware // nil: no network NIC takes timestamps
	Snapshot *atomic.Pointer[model.Snapshot]
	Policy   *atomic.Pointer[responder.Policy]
	Serves   *atomic.Bool              // requests are answered; else they get silence
	Ring     *atomic.Pointer[nts.Ring] // the keys of NTS cookies; holds nil: no NTS
	// Arrived takes what is for an association: modes 1, 2, 4 and 5; Queries control queries
	// that may be answered. Received.Data is the receiver's own, who tells by Count what
	// became of it. Full: dropped and counted.
	Arrived, Queries chan<- model.Received
	// GroupSockets makes a socket of its own hear each group or broadcast address, for hosts
	// that listen at one address of the loopback interface (the lab).
	GroupSockets bool
}

// Set is the listeners of a host. What changes the set is called from one goroutine at a
// time; all else from any.
type Set struct {
	env       Env
	settings  Settings
	start     func(name string, work func(context.Context) error) // nil until Start
	listeners atomic.Pointer[[]*Listener]
	tables    atomic.Pointer[tables] // nil until there is a server
	stateless *stateless
	dropped   atomic.Uint64 // packets that an association, or who finds it one, had no room for

	mu      sync.Mutex
	missing []Missing // wanted, and not there yet
	groups  []*membership
	closed  bool
}

// Open opens the sockets of an address each. An address that this machine does not have
// (yet) is no error, since the network may come up later: Look opens it when it comes. The
// error of any other says what to do.
func Open(env Env, s Settings) (*Set, error) {
	set := &Set{env: env, settings: s}
	set.listeners.Store(new([]*Listener))
	set.makeTables(s.Clients)
	for _, address := range s.Listen {
		l, err := set.open(s, address)
		if err == nil {
			set.setListeners(append(set.Listeners(), l))
			continue
		}
		why := Absence(err, address)
		if why == "" {
			return nil, errors.Join(err, set.Close())
		}
		set.miss(address, why)
	}
	set.stateless = set.newStateless()
	return set, nil
}

// Listeners are the addresses listened at now.
func (s *Set) Listeners() []*Listener { return slices.Clip(*s.listeners.Load()) }

func (s *Set) setListeners(list []*Listener) { s.listeners.Store(&list) }

// open opens the sockets of one address.
func (s *Set) open(settings Settings, address netip.AddrPort) (*Listener, error) {
	workers := settings.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	port, err := netio.Listen(netio.ListenConfig{
		Address: address, Workers: workers, Ignore: settings.Ignore, Clock: s.env.Clock, Hardware: s.env.Hardware,
	})
	if err != nil {
		return nil, Explain(err)
	}
	l := s.newListener(port, address)
	l.smeared.Store(slices.Contains(settings.Smeared, address))
	return l, nil
}

// Explain says what to do about the usual reasons.
func Explain(err error) error {
	switch {
	case errors.Is(err, netio.ErrInUse):
		return fmt.Errorf("%w; stop the other NTP daemon, or set server.listen", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run timeball as its service, or give it CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// Start begins to serve, with a goroutine for each socket, started by start under a name;
// the context that it gives ends all. Listeners opened later are started the same way.
func (s *Set) Start(start func(name string, work func(context.Context) error)) {
	s.start = start
	for _, l := range s.Listeners() {
		s.serve(l)
	}
}

// serve starts the goroutines of one address. Each ends when its sockets are closed, which
// one more does at the latest when the context ends: what stops that one goes with the listener.
func (s *Set) serve(l *Listener) {
	for worker := range l.shards {
		s.start(fmt.Sprintf("port %s/%d", l.LocalAddr(), worker), func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { _ = l.Close() })()
			return l.port.Serve(worker, s.newHandler(l, worker))
		})
	}
}

// Change is what Prepare has opened, to be taken over or given up.
type Change struct {
	set    *Set
	next   Settings
	opened []*Listener
}

// Prepare opens what is new in the settings. An address that stays keeps its sockets, with
// the settings that they were opened with, or is waited for as it was. One that is new must be there.
func (s *Set) Prepare(next Settings) (*Change, error) {
	change := &Change{set: s, next: next}
	s.makeTables(next.Clients)
	for _, address := range next.Listen {
		if s.listens(address) || s.isPending(address) {
			continue
		}
		l, err := s.open(next, address)
		if err != nil {
			change.Discard()
			if errors.Is(err, netio.ErrInUse) && change.closes(address.Port()) {
				return nil, fmt.Errorf("%s overlaps an address listened at now; that change takes a restart", address)
			}
			return nil, err
		}
		change.opened = append(change.opened, l)
	}
	return change, nil
}

// listens reports whether there are sockets of an address.
func (s *Set) listens(address netip.AddrPort) bool {
	return slices.ContainsFunc(s.Listeners(), func(l *Listener) bool { return l.address == address })
}

// closes reports whether a socket with this port is to be closed.
func (c *Change) closes(port uint16) bool {
	return slices.ContainsFunc(c.set.Listeners(), func(l *Listener) bool {
		return !slices.Contains(c.next.Listen, l.address) && l.LocalAddr().Port() == port
	})
}

// Discard closes what was opened for a change that does not happen.
func (c *Change) Discard() {
	if c == nil {
		return
	}
	for _, l := range c.opened {
		_ = l.Close()
	}
}

// Commit serves what was opened and closes what is no longer wanted; groups are joined
// again where they have lost their socket. Addresses may have come and gone since Prepare.
func (c *Change) Commit() {
	s := c.set
	s.settings = c.next
	var kept, closed []*Listener
	for _, l := range s.Listeners() {
		if slices.Contains(c.next.Listen, l.address) {
			kept = append(kept, l)
		} else {
			closed = append(closed, l)
		}
	}
	s.setListeners(slices.Concat(kept, c.opened))
	s.awaitOnly(c.next.Listen)
	for _, l := range kept {
		l.smeared.Store(slices.Contains(c.next.Smeared, l.address))
		if l.bare && s.tables.Load() != nil {
			l.renew(s)
			s.stateless.renew(s)
		}
	}
	for _, l := range c.opened {
		s.serve(l)
	}
	for _, l := range closed {
		if err := l.Close(); err != nil {
			s.env.Log.Warn("socket not closed in order", zap.Error(err))
		}
	}
	s.tendGroups()
}

// Addresses are where the port listens, with the port numbers really taken.
func (s *Set) Addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range s.Listeners() {
		list = append(list, l.LocalAddr())
	}
	return list
}

// Close closes every socket; their goroutines then end.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, l := range s.Listeners() {
		errs = append(errs, l.Close())
	}
	for _, m := range s.groups {
		if m.own != nil {
			errs = append(errs, m.own.Close())
		}
	}
	return errors.Join(errs...)
}

// Dropped is how many packets for associations were dropped because nobody had room.
func (s *Set) Dropped() uint64 { return s.dropped.Load() }

// CountDropped counts one more, given up by an association.
func (s *Set) CountDropped() { s.dropped.Add(1) }

// Counters sums what has been done with requests at every address.
func (s *Set) Counters() (sum responder.Counters) {
	for _, l := range s.Listeners() {
		l.addCounters(&sum)
	}
	s.stateless.shard.Load().AddCounters(&sum)
	return sum
}

// Listener is one address listened at, with the shards that answer there.
type Listener struct {
	port    *netio.Port
	address netip.AddrPort                     // as in the settings
	shards  []atomic.Pointer[responder.Shard]  // one for each socket
	direct  atomic.Pointer[[]*responder.Shard] // those of Direct; nil: none
	smeared atomic.Bool                        // smeared time is served here
	bare    bool                               // the shards have no tables
	zone    int                                // index of the interface that its zone names, 0: none
	gone    atomic.Pointer[string]             // why the address is not there now; nil or "": it is
}

// newListener gives each socket of a port its shard.
func (s *Set) newListener(port *netio.Port, address netip.AddrPort) *Listener {
	l := &Listener{port: port, address: address, shards: make([]atomic.Pointer[responder.Shard], port.Workers())}
	if zone := address.Addr().Zone(); zone != "" {
		l.zone = zoneIndex(zone)
	}
	l.renew(s)
	return l
}

// renew gives the listener shards with the tables that there are now. What the old ones
// have counted is forgotten: without a server they have answered nothing.
func (l *Listener) renew(s *Set) {
	l.bare = s.tables.Load() == nil
	for i := range l.shards {
		l.shards[i].Store(s.newShard())
	}
}

// LocalAddr is the address listened at, with the port really taken; 0.0.0.0 for every
// address of both families.
func (l *Listener) LocalAddr() netip.AddrPort { return l.port.LocalAddr() }

// Name is the address listened at as a configuration has it: ":123" for every address.
func (l *Listener) Name() string {
	at := l.LocalAddr()
	if !l.address.Addr().IsValid() {
		return fmt.Sprintf(":%d", at.Port())
	}
	return at.String()
}

// Holds reports whether requests to one of our addresses come to this listener.
func (l *Listener) Holds(own netip.Addr) bool {
	own = own.Unmap().WithZone("")
	switch at := l.address.Addr(); {
	case !at.IsValid():
		return true
	case at.IsUnspecified():
		return at.Is4() == own.Is4()
	default:
		return at.Unmap().WithZone("") == own
	}
}

// Close closes the sockets.
func (l *Listener) Close() error { return l.port.Close() }

// Counters sums what has been done with requests at the address.
func (l *Listener) Counters() (sum responder.Counters) {
	l.addCounters(&sum)
	return sum
}

func (l *Listener) addCounters(sum *responder.Counters) {
	for i := range l.shards {
		l.shards[i].Load().AddCounters(sum)
	}
	if direct := l.direct.Load(); direct != nil {
		for _, shard := range *direct {
			shard.AddCounters(sum)
		}
	}
}

// SocketCounters are those of its sockets.
func (l *Listener) SocketCounters() netio.Counters { return l.port.Counters() }

// SendBuffer is what the sockets have been granted to send from, in bytes.
func (l *Listener) SendBuffer() int { return l.port.SendBuffer() }

// ReceiveBuffer is what the sockets have been granted and what was asked for, in bytes.
func (l *Listener) ReceiveBuffer() (granted, asked int) { return l.port.ReceiveBuffer() }

// tables are what a server knows of its clients; all shards share them. They stay as
// they are until the next start.
type tables struct {
	clients    *responder.Clients // nil if none are to be remembered
	timestamps *responder.Timestamps
}

// makeTables makes the tables of clients, where a server needs them and there are none.
func (s *Set) makeTables(t *ClientTable) {
	if t == nil || s.tables.Load() != nil {
		return
	}
	seed := responder.Seed{random(), random()}
	s.tables.Store(&tables{
		clients:    responder.NewClients(t.Size, seed, t.Privacy),
		timestamps: responder.NewTimestamps(t.Size, seed),
	})
}

// Clients is the table of clients, nil if there is none.
func (s *Set) Clients() *responder.Clients {
	if t := s.tables.Load(); t != nil {
		return t.clients
	}
	return nil
}

// newShard makes a shard with the tables that there are.
func (s *Set) newShard() *responder.Shard {
	settings := responder.ShardConfig{Clients: s.Clients(), Random: random(), Nonces: newNonces()}
	if t := s.tables.Load(); t != nil {
		settings.Timestamps = t.timestamps
	}
	return responder.NewShard(settings)
}

// newNonces is a generator for what NTS sends in clear: unpredictable, and fast.
func newNonces() nts.Random {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails (crypto/rand ends the process instead)
	return rand.NewChaCha8(seed)
}

// random draws from the system's generator: what is made of it must not be guessable.
func random() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails (crypto/rand ends the process instead)
	return binary.BigEndian.Uint64(b[:])
}

// watchAgain is the pause after the watch over the interfaces has failed.
const watchAgain = 30 * time.Second

// Watch is a goroutine until ctx ends: it calls changed whenever interfaces or addresses
// have come or gone, and has the groups joined again. Without the watch the host runs on.
func (s *Set) Watch(ctx context.Context, changed func()) error {
	tell := func() {
		s.refresh()
		changed()
	}
	for warned := false; ; warned = true {
		monitor, err := netio.OpenMonitor()
		if err == nil {
			tell() // what came between the look before and the watch is told by nobody
			err = monitor.Run(ctx, tell)
		}
		if err != nil && !warned {
			s.env.Log.Warn("changes of the interfaces are not noticed at present", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchAgain):
		}
	}
}

func (s *Set) refresh() {
	for _, l := range s.Listeners() {
		if err := l.port.Refresh(); err != nil {
			s.env.Log.Warn("interfaces have changed, and not everything could follow", zap.Error(err))
		}
	}
}

// Send sends what is not a reply from the port, from an address and by an interface; the
// zero values leave them to the routing table. A token other than the zero one is to be
// owned by a Sender, which is told when the packet really left.
func (s *Set) Send(b []byte, to netip.AddrPort, local netip.Addr, ifindex int, token netio.Token) (ntptime.Instant, error) {
	l := s.listenerFor(to.Addr(), local)
	if l == nil {
		return ntptime.Instant{}, s.noListener(to)
	}
	return l.port.Send(b, to, local, ifindex, token)
}

// listenerFor finds one that can send to an address, from the local one if it is given.
func (s *Set) listenerFor(to, local netip.Addr) *Listener {
	for _, l := range s.Listeners() {
		if l.port.CanSend(to, local) {
			return l
		}
	}
	return nil
}

// noListener says why nothing can be sent to an address.
func (s *Set) noListener(to netip.AddrPort) error {
	for _, m := range s.pending() {
		if m.Address.Addr().Is4() == to.Addr().Is4() {
			return fmt.Errorf("no NTP port for %s yet: %s, of server.listen: %s", to, m.Address, m.Why)
		}
	}
	return fmt.Errorf("no NTP port for %s; is the address family configured under server.listen?", to)
}

// SetMulticastTTL sets the TTL or hop limit for what is sent to a group, 1 to 255.
func (s *Set) SetMulticastTTL(group netip.Addr, ttl uint8) {
	for _, l := range s.Listeners() {
		if err := l.port.SetMulticastTTL(group, int(ttl)); err != nil {
			s.env.Log.Warn("ttl not set", zap.Stringer("group", group), zap.Error(err))
		}
	}
}
