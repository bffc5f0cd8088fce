package refclock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

type nmea struct {
	config  Config
	file    *os.File
	parse   sentences
	line    []byte       // of the sentence so far; empty between two
	began   ntptime.Wall // CLOCK_REALTIME when its $ came
	chunk   [512]byte
	pending []byte // read and not looked at
	came    ntptime.Wall
	noise   int // bytes passed over since the last whole sentence
	once    sync.Once
}

// openNMEA opens a serial line, raw, at the configured speed.
func openNMEA(c Config) (Driver, error) {
	if c.Device == "" {
		return nil, errors.New("the nmea driver needs device: PATH of the serial line, for instance /dev/ttyS0")
	}
	fd, err := unix.Open(c.Device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		fd, err = unix.Open(c.Device, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("serial receiver: open %s: %w", c.Device, err)
	}
	if err := makeRaw(fd, c.Baud); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("serial receiver: %s: %w", c.Device, err)
	}
	return newNMEA(c, os.NewFile(uintptr(fd), c.Device)), nil
}

func newNMEA(c Config, f *os.File) *nmea {
	return &nmea{config: c, file: f, parse: sentences{notBefore: c.NotBefore}, line: make([]byte, 0, maxSentence)}
}

// speeds are those that serial receivers have.
var speeds = map[int]uint32{
	0: 0, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400,
	57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400, 460800: unix.B460800,
}

// lookNMEA says whether the line is there; opening it would change how it is set.
func lookNMEA(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("serial receiver: %w", err)
	case info.Mode()&os.ModeCharDevice == 0:
		return fmt.Errorf("serial receiver: %s is no serial line", path)
	}
	return nil
}

// makeRaw makes the line hand over every byte as it comes, unchanged.
func makeRaw(fd, baud int) error {
	speed, known := speeds[baud]
	if !known {
		return fmt.Errorf("no speed of %d baud; use 4800, 9600, 19200, 38400, 57600, 115200, 230400 or 460800", baud)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("it is no serial line: %w", err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8 | unix.CLOCAL | unix.CREAD
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if speed != 0 {
		t.Cflag = t.Cflag&^unix.CBAUD | speed
		t.Ispeed, t.Ospeed = speed, speed
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Read waits for the next sentence with a time.
func (n *nmea) Read(ctx context.Context) (Reading, error) {
	stop := context.AfterFunc(ctx, func() { _ = n.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		line, err := n.next()
		if err != nil {
			if ctx.Err() != nil {
				return Reading{}, ctx.Err()
			}
			return Reading{}, fmt.Errorf("serial receiver: %w", err)
		}
		fields, ok := splitSentence(line)
		switch {
		case ok:
			n.noise = 0
		case !printable(line): // not even a sentence that was spoilt
			n.pass(len(line))
			continue
		default:
			n.pass(len(line))
			n.config.Counters.refuse(model.ReadingMalformed)
			continue
		}
		r, why, told := n.parse.take(fields, n.began)
		switch {
		case why != noRefusal:
			n.config.Counters.refuse(why)
		case told:
			n.config.Counters.taken.Add(1)
			return r, nil
		}
	}
}

// next returns the next sentence; it began at n.began. What stands between sentences,
// and what is longer than one, is passed over.
func (n *nmea) next() ([]byte, error) {
	n.line = n.line[:0]
	for {
		if len(n.pending) == 0 {
			count, err := n.file.Read(n.chunk[:])
			if err != nil {
				return nil, err
			}
			if count == 0 {
				return nil, io.ErrUnexpectedEOF
			}
			n.came, n.pending = n.config.Now(), n.chunk[:count]
		}
		if len(n.line) == 0 {
			at := bytes.IndexByte(n.pending, '$')
			if at < 0 {
				n.pass(len(n.pending))
				n.pending = nil
				continue
			}
			n.pass(at)
			n.pending, n.began = n.pending[at:], n.came
		}
		c := n.pending[0]
		n.pending = n.pending[1:]
		switch {
		case c == '$' && len(n.line) > 0: // a sentence broke off
			n.line, n.began = append(n.line[:0], c), n.came
		case c == '\n' || c == '\r':
			return n.line, nil
		case len(n.line) == maxSentence:
			n.pass(maxSentence)
			n.line = n.line[:0]
		default:
			n.line = append(n.line, c)
		}
	}
}

// muchNoise is how many bytes without a whole sentence are one refused reading: as many
// as some three sentences have.
const muchNoise = 256

// pass counts bytes that are passed over, until a sentence ends the count.
func (n *nmea) pass(count int) {
	if n.noise += count; n.noise >= muchNoise {
		n.noise = 0
		n.config.Counters.refuse(model.ReadingNoise)
	}
}

// printable reports whether a line holds what sentences hold.
func printable(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// Close ends a Read that waits.
func (n *nmea) Close() error {
	var err error
	n.once.Do(func() { err = n.file.Close() })
	return err
}
