package chrony

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Socket is one at which requests are answered.
type Socket struct {
	conn     net.PacketConn
	path     string      // of a Unix socket, "": none
	file     os.FileInfo // the socket's, so that Close removes no other
	requests atomic.Uint64
}

// ListenUnix opens a datagram socket at path, as chronyd's: chronyc binds one of its own
// beside it, to be answered there. A socket that nobody answers at is replaced.
func ListenUnix(path string, mode fs.FileMode) (*Socket, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("control.chrony_socket: %s exists and is no socket; remove it, or name another", path)
		}
		if probe, err := net.Dial("unixgram", path); err == nil {
			probe.Close()
			return nil, fmt.Errorf("control.chrony_socket: somebody answers at %s; is chronyd running?", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control.chrony_socket: remove a dead one: %w", err)
		}
	}
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("control.chrony_socket: make its directory: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("control.chrony_socket: %w", err)
	}
	s := &Socket{conn: conn, path: path}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		s.Close()
		return nil, fmt.Errorf("control.chrony_socket: %w", err)
	}
	s.file, _ = os.Lstat(path)
	return s, nil
}

// ListenUDP opens a UDP socket at an address of the loopback interface: nobody else's
// questions come there.
func ListenUDP(at netip.AddrPort) (*Socket, error) {
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("control.chrony_port: %s is no loopback address", at)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("control.chrony_port: %w", err)
	}
	return &Socket{conn: conn}, nil
}

// Address is where the socket is.
func (s *Socket) Address() net.Addr { return s.conn.LocalAddr() }

// Requests counts what came in.
func (s *Socket) Requests() uint64 { return s.requests.Load() }

// Serve answers until ctx ends or the socket is closed.
func (s *Socket) Serve(ctx context.Context, v View) error {
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	request, reply := make([]byte, MaxPacket+1), make([]byte, 0, MaxPacket)
	for {
		n, from, err := s.conn.ReadFrom(request)
		switch {
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		case err != nil: // of one datagram: an answer that could not be delivered
			if errors.Is(err, syscall.EBADF) {
				return err
			}
			continue
		case from == nil || !local(from):
			continue
		}
		s.requests.Add(1)
		if reply = Answer(reply[:0], request[:n], v); len(reply) == 0 {
			continue
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // whoever does not read gets nothing
		_, _ = s.conn.WriteTo(reply, from)
	}
}

// local reports whether an address is on this machine, and can be answered.
func local(from net.Addr) bool {
	switch a := from.(type) {
	case *net.UDPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return a.Name != ""
	}
	return false
}

// Close ends Serve and removes a Unix socket, if it is still ours.
func (s *Socket) Close() {
	_ = s.conn.Close()
	if s.path == "" {
		return
	}
	if info, err := os.Lstat(s.path); err == nil && s.file != nil && os.SameFile(info, s.file) {
		_ = os.Remove(s.path)
	}
}
