package ntske

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/siv"
)

// Defaults of a ServerConfig.
const (
	// DefaultTimeout is the time for a whole session, from its acceptance to its end.
	DefaultTimeout = 5 * time.Second
	// DefaultMaxSessions bounds the sessions at any one time.
	DefaultMaxSessions = 128
)

// idleAfter is how long a client says nothing after the handshake until its session counts as
// idle; ServerConfig.Idle is called for such sessions, with pauses as long at least between.
const idleAfter = 500 * time.Millisecond

// acceptPause is how long nothing is accepted after an error of accept: mostly there
// were no descriptors left, and there will be none a moment later.
const acceptPause = 100 * time.Millisecond

// ServerConfig is what a server works by. The functions are called by several goroutines.
type ServerConfig struct {
	Certificates *Certificates
	Ring         func() *nts.Ring // of the moment, to seal cookies under
	Algorithms   []siv.Algorithm  // those that may be chosen; none: all
	NTPServer    string           // told to clients: a name or an address; "": the one they are at
	NTPPort      uint16           // told to clients unless it is 0 or 123
	MaxSessions  int              // 0: DefaultMaxSessions
	Timeout      time.Duration    // 0: DefaultTimeout
	// AcceptFailed is told of errors of accept; nil: nobody is.
	AcceptFailed func(error)
	// Idle is told that sessions wait for their clients, so that what their handshakes have
	// left behind may be given back; nil: nobody is.
	Idle func()
}

// Outcome is how a session ended, as counted in ntp_nts_ke_connections_total{result}.
type Outcome uint8

// The outcomes.
const (
	OutcomeGood       Outcome = iota // keys and cookies were given
	OutcomeNoneCommon                // no protocol or algorithm in common
	OutcomeBadRequest                // an error record was sent
	OutcomeTLS                       // no TLS 1.3 session with ntske/1 came about
	OutcomeTimeout                   // the time for the session was over
	OutcomeEvicted                   // another one took its place: there were too many
	OutcomeClosed                    // the client went away
	OutcomeInternal                  // our own fault
	Outcomes          = iota
)

var outcomeNames = [Outcomes]string{"good", "none_common", "bad_request", "tls", "timeout", "evicted", "closed", "internal"}

// String returns the word used in metrics.
func (o Outcome) String() string { return outcomeNames[o] }

// Server answers key exchanges. All of its methods may be called by any goroutine.
type Server struct {
	settings atomic.Pointer[settings]
	outcomes [Outcomes]atomic.Uint64

	mu       sync.Mutex
	sessions map[*session]struct{}
	running  sync.WaitGroup
	idle     *time.Timer // running: Idle will be called
	idleLast time.Time   // when it was
}

// settings are a configuration with its defaults, ready for use.
type settings struct {
	ServerConfig
	tls *tls.Config
}

// NewServer makes a server; Serve sets it to work.
func NewServer(cfg ServerConfig) *Server {
	s := &Server{sessions: map[*session]struct{}{}}
	s.Use(cfg)
	return s
}

// Use changes what a server works by, for the sessions accepted from now on.
func (s *Server) Use(cfg ServerConfig) {
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []siv.Algorithm{siv.AESSIVCMAC256, siv.AESSIVCMAC384, siv.AESSIVCMAC512, siv.AES128GCMSIV}
	}
	cfg.MaxSessions = cmp.Or(cfg.MaxSessions, DefaultMaxSessions)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	s.settings.Store(&settings{cfg, &tls.Config{
		MinVersion: tls.VersionTLS13, // RFC 8915 §3
		NextProtos: []string{protocolName}, GetCertificate: cfg.Certificates.get,
		// NTPsec's client reads one TLS record and no more.
		DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
	}})
}

// Counters gives how many sessions have ended in each way.
func (s *Server) Counters() (counts [Outcomes]uint64) {
	for i := range s.outcomes {
		counts[i] = s.outcomes[i].Load()
	}
	return counts
}

// Sessions is how many sessions there are at present.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Serve accepts sessions until ctx is done, then closes the listener and its sessions and
// waits for them to end. Errors of accept end nothing (CVE-2024-38528): the oldest idle session
// goes, in case it holds the descriptor that is missing, and a pause is made.
func (s *Server) Serve(ctx context.Context, listener net.Listener) {
	stop := context.AfterFunc(ctx, func() {
		_ = listener.Close()
		s.closeAll(listener)
	})
	defer stop()
	for ctx.Err() == nil {
		conn, err := listener.Accept()
		if err == nil {
			s.start(conn, listener)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			break
		}
		if told := s.settings.Load().AcceptFailed; told != nil {
			told(err)
		}
		s.evict()
		select {
		case <-ctx.Done():
		case <-time.After(acceptPause):
		}
	}
	s.running.Wait()
}

// session is one connection.
type session struct {
	net.Conn
	*settings
	from    net.Listener
	active  atomic.Int64 // when it was last heard of, in nanoseconds
	evicted atomic.Bool
}

// Read notes that the client said something.
func (c *session) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.active.Store(time.Now().UnixNano())
	}
	return n, err
}

func (s *Server) start(conn net.Conn, from net.Listener) {
	c := &session{Conn: conn, settings: s.settings.Load(), from: from}
	now := time.Now()
	c.active.Store(now.UnixNano())
	_ = conn.SetDeadline(now.Add(c.Timeout))
	s.mu.Lock()
	full := len(s.sessions) >= c.MaxSessions
	s.mu.Unlock()
	if full {
		s.evict()
	}
	s.mu.Lock()
	s.sessions[c] = struct{}{}
	s.mu.Unlock()
	s.running.Go(func() {
		conn := tls.Server(c, c.tls)
		if failure, ok := shakeHands(conn); !ok {
			s.end(c, conn, failure)
			return
		}
		// The handshake has grown the stack to 32 kB. Who then says nothing is waited for on
		// a new one.
		s.running.Go(func() {
			wait := time.AfterFunc(idleAfter, func() { s.tellIdle(c.Idle) })
			defer wait.Stop()
			s.end(c, conn, c.answer(conn))
		})
	})
}

// tellIdle calls idle now, or once a pause has passed since the last time. Many sessions that
// become idle one after the other are told of together.
func (s *Server) tellIdle(idle func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if idle == nil || s.idle != nil {
		return
	}
	s.idle = time.AfterFunc(time.Until(s.idleLast.Add(idleAfter)), func() {
		s.mu.Lock()
		s.idle, s.idleLast = nil, time.Now()
		s.mu.Unlock()
		idle()
	})
}

// end closes a session, right after its reply if there is one: chrony's client waits for it.
func (s *Server) end(c *session, conn *tls.Conn, result Outcome) {
	_ = conn.Close()
	if c.evicted.Load() && result != OutcomeGood {
		result = OutcomeEvicted
	}
	s.outcomes[result].Add(1)
	s.mu.Lock()
	delete(s.sessions, c)
	s.mu.Unlock()
}

// evict closes the session that was heard of the longest ago.
func (s *Server) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *session
	for c := range s.sessions {
		if !c.evicted.Load() && (oldest == nil || c.active.Load() < oldest.active.Load()) {
			oldest = c
		}
	}
	if oldest != nil {
		oldest.evicted.Store(true)
		_ = oldest.Conn.Close()
		delete(s.sessions, oldest)
	}
}

// closeAll closes the sessions that came by a listener.
func (s *Server) closeAll(listener net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		if c.from == listener {
			_ = c.Conn.Close()
		}
	}
}

// shakeHands makes the TLS session; where none came about, failure says why.
func shakeHands(conn *tls.Conn) (failure Outcome, ok bool) {
	if err := conn.Handshake(); err != nil {
		return failureOf(err, OutcomeTLS), false
	}
	// Without the name the client did not ask for this protocol (RFC 8915 §4).
	return OutcomeTLS, conn.ConnectionState().NegotiatedProtocol == protocolName
}

// answer reads the request and writes the reply.
func (c *settings) answer(conn *tls.Conn) Outcome {
	r, err := readRequest(conn)
	if err != nil {
		refused := new(requestError)
		if !errors.As(err, &refused) {
			return failureOf(err, OutcomeClosed)
		}
		c.refuse(conn, refused.code)
		return OutcomeBadRequest
	}
	message, result := c.reply(conn, r)
	if result == OutcomeInternal {
		c.refuse(conn, errorInternal)
		return result
	}
	if _, err := conn.Write(message); err != nil {
		return failureOf(err, OutcomeClosed)
	}
	return result
}

// failureOf tells a deadline from other failures.
func failureOf(err error, other Outcome) Outcome {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return OutcomeTimeout
	}
	return other
}

// readRequest reads a client's message. Its error is a *requestError for what is to be
// answered so.
func readRequest(conn io.Reader) (*request, error) {
	r := &request{}
	_, wrong, err := receive(conn, r)
	switch {
	case wrong != nil:
		return nil, wrong
	case errors.Is(err, errTooLong):
		return nil, badRequest("%v", err)
	case errors.Is(err, io.EOF):
		return nil, badRequest("closed before the End of Message")
	case err != nil:
		return nil, err
	}
	return r, nil
}

// refuse answers by an error record, and takes in what the client still sends: closed
// with bytes unread, TCP would reset the connection, and the record might be lost.
func (c *settings) refuse(conn *tls.Conn, code uint16) {
	message := appendNumbers(nil, true, recordError, code)
	if _, err := conn.Write(appendRecord(message, true, recordEnd, nil)); err != nil || conn.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(min(time.Second, c.Timeout)))
	_, _ = io.CopyN(io.Discard, conn, 4*maxMessage)
}

// reply is the whole message of a server (RFC 8915 §4.1), in one piece.
func (c *settings) reply(conn *tls.Conn, r *request) ([]byte, Outcome) {
	end := func(message []byte) []byte { return appendRecord(message, true, recordEnd, nil) }
	if !r.ntpv4 {
		return end(appendNumbers(nil, true, recordNextProtocol)), OutcomeNoneCommon
	}
	message := appendNumbers(nil, true, recordNextProtocol, protocolNTPv4)
	algorithm, ok := r.choose(c.Algorithms)
	if !ok {
		return end(appendNumbers(message, true, recordAEAD)), OutcomeNoneCommon
	}
	message = appendNumbers(message, true, recordAEAD, uint16(algorithm))
	if algorithm == siv.AES128GCMSIV {
		message = appendRecord(message, false, recordGCMExporter, nil)
	}
	if port := c.NTPPort; port != 0 && port != 123 {
		message = appendNumbers(message, true, recordPort, port)
	}
	if c.NTPServer != "" {
		message = appendRecord(message, true, recordServer, []byte(c.NTPServer))
	}
	state := conn.ConnectionState()
	secrets, err := export(&state, algorithm)
	if err != nil {
		return nil, OutcomeInternal
	}
	random, err := newRandom()
	if err != nil {
		return nil, OutcomeInternal
	}
	ring := c.Ring()
	for range nts.MaxCookies {
		message = appendRecord(message, false, recordCookie, ring.AppendCookie(nil, &secrets, random))
	}
	return end(message), OutcomeGood
}

// newRandom is a generator that nobody can predict.
func newRandom() (nts.Random, error) {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	return rand.NewChaCha8(seed), nil
}

// NewRing makes a ring with a new key.
func NewRing(now time.Time) (*nts.Ring, error) {
	var secret [nts.RingKeySize]byte
	if _, err := crand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	return nts.NewRing(secret, ntptime.WallOf(now)), nil
}
