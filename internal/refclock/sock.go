package refclock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// A message of chrony's SOCK driver, as gpsd, ts2phc and phc2sys send it on a 64-bit
// machine: a struct timeval of the sample by CLOCK_REALTIME, the offset (reference −
// system, a double in seconds), pulse, leap, padding, magic number. Native byte order.
const (
	sockSize   = 40
	sockOffset = 16
	sockPulse  = 24
	sockLeap   = 28
	sockMagic  = 36
	sockNumber = 0x534f434b
	// maxSockOffset bounds what a message may claim: 126 years.
	maxSockOffset = 4e9
	// maxSocketName is what sun_path has room for beside its final NUL.
	maxSocketName = 107
)

type sock struct {
	config Config
	conn   *net.UnixConn
	path   string
	inode  os.FileInfo
	buf    [sockSize + 1]byte
	once   sync.Once
}

// openSOCK makes the socket, for timeball's user alone unless the configuration says
// otherwise. A socket that was left there and that nobody listens to is replaced.
func openSOCK(c Config) (Driver, error) {
	if c.Device == "" {
		return nil, errors.New("the sock driver needs device: PATH of its socket, for instance /run/timeball/gps.sock")
	}
	if len(c.Device) > maxSocketName { // it could be made, but nobody could send to it
		return nil, fmt.Errorf("socket of the reference clock: %s is too long for a Unix socket; up to %d bytes are possible", c.Device, maxSocketName)
	}
	if err := removeDead(c.Device); err != nil {
		return nil, err
	}
	mode := os.FileMode(c.Mode)
	if mode == 0 {
		mode = 0o600
	}
	conn, err := bindWithMode(c.Device, mode)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(c.Device)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket of the reference clock: %w", err)
	}
	return &sock{config: c, conn: conn, path: c.Device, inode: info}, nil
}

// bindWithMode makes the socket in a folder of its own and moves it to its place, so
// that it never stands there with other permissions.
func bindWithMode(path string, mode os.FileMode) (*net.UnixConn, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".sock")
	if err != nil {
		return nil, fmt.Errorf("socket of the reference clock: %w; make the folder, writable for timeball's user", err)
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: temporary, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("socket of the reference clock: %w", err)
	}
	if err = os.Chmod(temporary, mode); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket of the reference clock: %w", err)
	}
	return conn, nil
}

// lookSOCK says whether the socket could be made; one that is in use may be timeball's own.
func lookSOCK(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(path))
		if err == nil && info.IsDir() {
			return nil
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("socket of the reference clock: %w; make the folder, writable for timeball's user", err)
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("socket of the reference clock: %s is no socket; remove it, or name another path", path)
	}
	return nil
}

// removeDead removes a socket that nobody reads, and nothing else.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("socket of the reference clock: %w", err)
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("socket of the reference clock: %s is no socket; remove it, or name another path", path)
	}
	probe, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_ = probe.Close()
		return fmt.Errorf("socket of the reference clock: %s is in use by another program (chronyd?)", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket of the reference clock: %w", err)
	}
	return os.Remove(path)
}

// Read takes the next message that is one.
func (s *sock) Read(ctx context.Context) (Reading, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := s.conn.Read(s.buf[:])
		if err != nil {
			if ctx.Err() != nil {
				return Reading{}, ctx.Err()
			}
			return Reading{}, err
		}
		r, why := parseSOCK(s.buf[:n])
		if why != noRefusal {
			s.config.Counters.refuse(why)
			continue
		}
		s.config.Counters.taken.Add(1)
		return r, nil
	}
}

// parseSOCK decodes one message. Another size is another protocol: a 32-bit sender, or
// a program that takes the socket for something else.
func parseSOCK(b []byte) (Reading, model.ReadingRefusal) {
	if len(b) != sockSize || binary.NativeEndian.Uint32(b[sockMagic:]) != sockNumber {
		return Reading{}, model.ReadingMalformed
	}
	seconds, usec := int64(binary.NativeEndian.Uint64(b)), int64(binary.NativeEndian.Uint64(b[8:]))
	offset := math.Float64frombits(binary.NativeEndian.Uint64(b[sockOffset:]))
	leap := int32(binary.NativeEndian.Uint32(b[sockLeap:]))
	switch {
	case usec < 0 || usec >= 1e6 || math.IsNaN(offset) || math.Abs(offset) > maxSockOffset || leap < 0 || leap > 3:
		return Reading{}, model.ReadingMalformed
	case leap == int32(wire.LeapUnknown):
		return Reading{}, model.ReadingNoFix
	}
	realtime, ok := wallOf(seconds, usec*1000)
	if !ok {
		return Reading{}, model.ReadingMalformed
	}
	whole, part := math.Modf(offset)
	r := Reading{Realtime: realtime, Reference: realtime.Add(time.Duration(whole)*time.Second + time.Duration(math.Round(part*1e9)))}
	r.Leap = wire.Leap(leap)
	r.Pulse = binary.NativeEndian.Uint32(b[sockPulse:]) != 0
	return r, noRefusal
}

// Close ends a Read that waits, and removes the socket if it is still ours.
func (s *sock) Close() error {
	var err error
	s.once.Do(func() {
		err = s.conn.Close()
		if info, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(info, s.inode) {
			_ = unix.Unlink(s.path)
		}
	})
	return err
}
