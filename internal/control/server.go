package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Handler answers requests. It is called by several goroutines; ctx ends when the
// time for the answer is over or the server stops.
type Handler interface {
	Answer(ctx context.Context, r Request) (any, error)
}

// HandlerFunc is a function as Handler.
type HandlerFunc func(ctx context.Context, r Request) (any, error)

// Answer implements Handler.
func (f HandlerFunc) Answer(ctx context.Context, r Request) (any, error) { return f(ctx, r) }

// DefaultMode is the permission of the socket: its owner and group may ask.
const DefaultMode fs.FileMode = 0o660

const (
	maxConnections = 64
	idleTimeout    = 5 * time.Second  // for a request to come in whole
	answerTimeout  = 30 * time.Second // for the handler; a trace asks other servers
	writeTimeout   = 5 * time.Second  // for the answer to be taken
	firstBuffer    = 512              // bytes; most requests are shorter
)

// ErrRunning says that somebody answers at the socket.
var ErrRunning = errors.New("another timeball is running: its control socket answers")

// Server is a control socket.
type Server struct {
	path     string
	listener *net.UnixListener
	handler  Handler
	file     os.FileInfo // the socket's, so that Close removes no other
	group    uint32      // the socket's
	idle     time.Duration

	mu          sync.Mutex
	connections map[*connection]struct{}
	closed      bool
	wait        sync.WaitGroup
}

// connection is a client. idle and since are guarded by Server.mu.
type connection struct {
	net.Conn
	idle  bool
	since time.Time // idle since then
	asker Asker
}

// Listen opens the socket at path. A socket there that nobody answers at is a dead
// process's and is replaced; anything else there is an error, ErrRunning if a daemon
// answers. The directory is made if only it is missing. Serve takes the requests.
func Listen(path string, mode fs.FileMode, h Handler) (*Server, error) {
	if err := clearPath(path); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("control socket: make its directory: %w", err)
	}
	// The mode is set before the socket has a name, so that at no moment anybody may
	// connect who should not; the process's umask can only narrow it.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if outer := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); outer != nil {
			return outer
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, plain(err))
	}
	s := &Server{path: path, listener: l.(*net.UnixListener), handler: h, idle: idleTimeout, connections: make(map[*connection]struct{})}
	s.listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode.Perm()); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s.file, _ = os.Lstat(path)
	s.group = groupOf(s.file)
	return s, nil
}

// groupOf is the group that a file belongs to; the process's own where nothing tells.
func groupOf(info os.FileInfo) uint32 {
	if info != nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			return stat.Gid
		}
	}
	return uint32(os.Getegid())
}

// clearPath removes a socket that nobody answers at.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s exists and is no socket; remove it, or set control.socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("%w (%s)", ErrRunning, path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket: who is at %s: %w", path, plain(err))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket: remove a dead one: %w", err)
	}
	return nil
}

// plain takes package net's wrapping off an error, which repeats the path.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Serve takes requests until ctx ends or Close is called, and then returns nil when
// all connections are closed.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer s.wait.Wait()
	defer s.Close() // again, if stop is still at it: the socket is gone when Serve returns
	defer stop()
	pause := time.Duration(0)
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(ctx, conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		default: // out of descriptors, mostly: wait until some are free (threats 25)
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			if !sleep(ctx, pause) {
				return nil
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// take starts serving a connection. When there are too many, the one that has been
// idle longest makes room; if none is idle, the new one is told so.
func (s *Server) take(ctx context.Context, conn net.Conn) {
	c := &connection{Conn: conn, idle: true, since: time.Now(), asker: asker(conn)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		conn.Close()
		return
	}
	room := len(s.connections) < maxConnections || s.dropOldest()
	if room {
		s.connections[c] = struct{}{}
	}
	s.mu.Unlock()
	if !room {
		c.answer(encode(nil, errors.New("too many requests at once; try again")))
		conn.Close()
		return
	}
	s.wait.Go(func() { // ends with the connection
		defer s.drop(c)
		s.serve(ctx, c)
	})
}

// dropOldest closes the connection that has been idle longest.
func (s *Server) dropOldest() bool {
	var oldest *connection
	for c := range s.connections {
		if c.idle && (oldest == nil || c.since.Before(oldest.since)) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	oldest.Close()
	delete(s.connections, oldest)
	return true
}

func (s *Server) drop(c *connection) {
	c.Close()
	s.mu.Lock()
	delete(s.connections, c)
	s.mu.Unlock()
}

func (s *Server) setIdle(c *connection, idle bool) {
	s.mu.Lock()
	c.idle, c.since = idle, time.Now()
	s.mu.Unlock()
}

// serve answers a connection's requests one after the other, until one is not right,
// does not come in time, or the client is gone.
func (s *Server) serve(ctx context.Context, c *connection) {
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, 0, firstBuffer), MaxRequest)
	for {
		c.SetReadDeadline(time.Now().Add(s.idle))
		if !lines.Scan() {
			if errors.Is(lines.Err(), bufio.ErrTooLong) {
				c.answer(encode(nil, fmt.Errorf("request longer than %d bytes", MaxRequest)))
			}
			return
		}
		s.setIdle(c, false)
		request, err := parseRequest(lines.Bytes())
		if err != nil {
			c.answer(encode(nil, err))
			return
		}
		request.Asker = c.asker
		if !c.answer(s.ask(ctx, request)) {
			return
		}
		s.setIdle(c, true)
	}
}

func (s *Server) ask(ctx context.Context, r Request) []byte {
	if Changes(r.Command) && !r.Asker.mayChange(uint32(os.Geteuid()), s.group) {
		return encode(nil, fmt.Errorf("not allowed: %s changes the daemon, which root and the group of its control socket (%d) may", r.Command, s.group))
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return encode(s.handler.Answer(ctx, r))
}

func (c *connection) answer(line []byte) bool {
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.Write(line)
	return err == nil
}

// Close ends Serve, closes all connections and removes the socket, if it is still ours.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.connections {
		c.Close()
	}
	s.mu.Unlock()
	if info, statErr := os.Lstat(s.path); statErr == nil && s.file != nil && os.SameFile(info, s.file) {
		os.Remove(s.path)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
