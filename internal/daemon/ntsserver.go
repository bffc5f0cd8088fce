package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"timeball/internal/config"
	"timeball/internal/control"
	"timeball/internal/footprint"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/ntske"
	"timeball/internal/serve"
	"timeball/internal/siv"
	"timeball/internal/state"
)

// ntsServer is the server's side of NTS: the key exchange, its certificate, and the ring
// of keys that cookies are sealed under. It is idle while there is no server.nts.
type ntsServer struct {
	*parts
	ring atomic.Pointer[nts.Ring] // nil: NTS is not offered
	ke   atomic.Pointer[ntske.Server]

	mu        sync.Mutex // held for what follows
	config    *config.NTSServer
	certs     *ntske.Certificates
	listeners []*keListener
	problem   string    // why the certificate was not read again, "": it was
	failed    time.Time // when an error of accept was last logged
}

// keListener is one address of the key exchange.
type keListener struct {
	net.Listener
	address config.ListenAddress
	cancel  context.CancelFunc // nil: it does not serve yet
}

// lookEvery is how often certificates and the age of the cookies' key are looked at.
const lookEvery = 10 * time.Second

// ntsChange is what a start or a reload makes of the NTS server, once all that can fail
// has been done.
type ntsChange struct {
	n      *ntsServer
	next   *config.NTSServer // nil: no NTS from now on
	certs  *ntske.Certificates
	ring   *nts.Ring
	opened []*keListener
}

// prepare reads the certificate and the ring and opens what is not open yet.
func (n *ntsServer) prepare(cfg *config.Config) (*ntsChange, error) {
	c := &ntsChange{n: n}
	if cfg.Server == nil || cfg.Server.NTS == nil {
		return c, nil
	}
	c.next = cfg.Server.NTS
	if certs, ring := n.unchanged(c.next); certs != nil {
		c.certs, c.ring = certs, ring // as they have just been read again
		return c, nil
	}
	var err error
	if c.certs, err = ntske.NewCertificates(c.next.Certificate, c.next.Key); err != nil {
		return nil, fmt.Errorf("server.nts: %w", err)
	}
	if c.ring, err = n.readRing(c.next); err != nil {
		return nil, fmt.Errorf("server.nts.keys: %w", err)
	}
	for _, address := range c.next.Listen {
		if n.listens(address) {
			continue
		}
		l, err := net.Listen("tcp", address.String())
		if err != nil {
			c.discard()
			return nil, fmt.Errorf("server.nts.listen: %w", serve.Explain(err))
		}
		c.opened = append(c.opened, &keListener{Listener: l, address: address})
	}
	return c, nil
}

// unchanged gives certificate and ring in use if the configuration is the one in force.
func (n *ntsServer) unchanged(next *config.NTSServer) (*ntske.Certificates, *nts.Ring) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config == nil || !reflect.DeepEqual(n.config, next) {
		return nil, nil
	}
	return n.certs, n.ring.Load()
}

func (n *ntsServer) listens(address config.ListenAddress) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.listeners, func(l *keListener) bool { return l.address == address })
}

// readRing takes the ring from its file, else the one in use, else a new one.
func (n *ntsServer) readRing(cfg *config.NTSServer) (*nts.Ring, error) {
	if cfg.Keys != "" {
		text, err := state.ReadSecret(cfg.Keys)
		var ring *nts.Ring
		if err == nil {
			ring, err = nts.ParseRing(text)
		}
		switch {
		case err == nil:
			return ring, nil
		case !errors.Is(err, fs.ErrNotExist):
			n.log.Warn("keys of the NTS cookies not used; clients will make new key exchanges", zap.String("file", cfg.Keys), zap.Error(err))
		}
	}
	if ring := n.ring.Load(); ring != nil {
		return ring, nil
	}
	return ntske.NewRing(n.clock.Now().Wall.Time())
}

// discard closes what was opened for a change that does not happen.
func (c *ntsChange) discard() {
	for _, l := range c.opened {
		_ = l.Close()
	}
}

// commit puts the change in force. What is listened at serves once start is called.
func (c *ntsChange) commit() {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config, n.problem = c.next, ""
	var kept []*keListener
	for _, l := range n.listeners {
		if c.next != nil && slices.Contains(c.next.Listen, l.address) {
			kept = append(kept, l)
		} else {
			l.close()
		}
	}
	n.listeners = append(kept, c.opened...)
	if c.next == nil {
		n.ring.Store(nil)
		return
	}
	n.certs = c.certs
	n.ring.Store(c.ring)
	if ke := n.ke.Load(); ke != nil {
		ke.Use(n.keConfig())
	} else {
		n.ke.Store(ntske.NewServer(n.keConfig()))
	}
	n.keep(c.ring)
}

func (l *keListener) close() {
	if l.cancel != nil {
		l.cancel()
	}
	_ = l.Close()
}

// keConfig is what the key exchange works by; n.mu is held.
func (n *ntsServer) keConfig() ntske.ServerConfig {
	c := ntske.ServerConfig{
		Certificates: n.certs, Ring: n.ring.Load, NTPServer: n.config.NTPServer, NTPPort: n.config.NTPPort,
		MaxSessions: min(n.config.MaxConnections, descriptors()/4), AcceptFailed: n.acceptFailed, Idle: footprint.Trim,
	}
	if c.NTPPort == 0 && c.NTPServer == "" && n.ports != nil {
		if list := n.ports.Listeners(); len(list) > 0 {
			c.NTPPort = list[0].LocalAddr().Port()
		}
	}
	for _, a := range n.config.AEAD {
		c.Algorithms = append(c.Algorithms, siv.Algorithm(a))
	}
	return c
}

// descriptors is how many files this process may have open.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}

// acceptFailed logs an error of accept, once a minute.
func (n *ntsServer) acceptFailed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.failed) >= time.Minute {
		n.failed = time.Now()
		n.log.Warn("NTS key exchange: connections wait", zap.Error(err))
	}
}

// start serves at the addresses that do not serve yet.
func (n *ntsServer) start(g *group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.listeners {
		if l.cancel != nil {
			continue
		}
		var ctx context.Context
		ctx, l.cancel = context.WithCancel(g.ctx)
		ke := n.ke.Load()
		g.Go("NTS key exchange", func(context.Context) error {
			ke.Serve(ctx, l.Listener)
			return nil
		})
	}
}

// look is a goroutine: it reads the certificate again when its files have changed, and
// replaces the cookies' key when it is old.
func (n *ntsServer) look(ctx context.Context) error {
	return every(ctx, lookEvery, func() {
		n.readAgain(false)
		n.rotate()
	})
}

// readAgain reads certificate and key again, if they have changed or always. A bad pair
// leaves the one before in use, and the log says so.
func (n *ntsServer) readAgain(always bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config == nil {
		return
	}
	changed, err := true, error(nil)
	if always {
		err = n.certs.Read()
	} else {
		changed, err = n.certs.ReadIfChanged()
	}
	switch {
	case err != nil:
		n.problem = err.Error()
		n.log.Error("NTS certificate not read again; the one before stays in use", zap.Error(err))
	case changed:
		n.problem = ""
		leaf := n.certs.Leaf()
		n.log.Info("NTS certificate read", zap.String("subject", leaf.Subject.CommonName), zap.Time("expires", leaf.NotAfter.UTC()))
	}
}

// reload takes over a ring that was put in the file's place, and reads the certificate.
func (n *ntsServer) reload() {
	n.readAgain(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config == nil {
		return
	}
	if ring, err := n.readRing(n.config); err == nil {
		n.ring.Store(ring)
	}
}

// rotate replaces the cookies' key when it is old enough. A clock that is not set tells no
// age.
func (n *ntsServer) rotate() {
	snapshot := n.snapshot.Load()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config == nil || snapshot == nil || !snapshot.Synchronized {
		return
	}
	ring := n.ring.Load()
	next := ring.Advance(n.clock.Now().Wall, n.config.Rotate, n.config.Keep)
	if next == ring {
		return
	}
	n.ring.Store(next)
	n.keep(next)
	n.log.Info("new key for NTS cookies", zap.Int("kept", next.Len()-1))
}

// keep writes the ring to its file, if that says something else; n.mu is held.
func (n *ntsServer) keep(ring *nts.Ring) {
	if n.config.Keys == "" {
		return
	}
	text, err := ring.AppendText(nil)
	if err == nil {
		err = state.WriteSecret(n.config.Keys, text)
	}
	n.state.complain(err)
}

// close gives back the sockets.
func (n *ntsServer) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.listeners {
		l.close()
	}
	n.listeners = nil
}

// ntsReport is what `status` says of the NTS server; nil where there is none.
func ntsReport(s *ntsState) *control.NTSServer {
	if s == nil {
		return nil
	}
	return &control.NTSServer{
		Addresses: s.addresses, Exchanges: s.outcomes[ntske.OutcomeGood], Connections: s.sessions,
		CertificateExpires: s.expires.UTC().Format(time.RFC3339), CertificateError: s.problem, KeyAge: s.keyAge.Seconds(),
	}
}

// ntsState is what reports say of the server's side of NTS.
type ntsState struct {
	outcomes  [ntske.Outcomes]uint64
	sessions  int
	expires   time.Time // zero: there is no certificate
	problem   string
	keyAge    time.Duration
	addresses []string
}

// report is the state at now; nil without server.nts.
func (n *ntsServer) report(now ntptime.Wall) *ntsState {
	n.mu.Lock()
	defer n.mu.Unlock()
	ke := n.ke.Load()
	if n.config == nil || ke == nil {
		return nil
	}
	s := &ntsState{outcomes: ke.Counters(), sessions: ke.Sessions(), problem: n.problem}
	if leaf := n.certs.Leaf(); leaf != nil {
		s.expires = leaf.NotAfter
	}
	s.keyAge = max(0, n.config.Rotate-n.ring.Load().Due(n.config.Rotate).Sub(now))
	for _, l := range n.listeners {
		s.addresses = append(s.addresses, l.Addr().String())
	}
	return s
}
