// Package clockbound tells programs of this machine how wrong its clock may be, by the
// shared memory that ClockBound's clients map: a file of some words, written in place, so
// that a reader needs no system call and is never shown half of a change.
//
// There are two generations of clients. Those of 1.x map version 1 of the layout, those of
// 2.x version 2 and no other; each has a file of its own.
package clockbound

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"timeball/internal/bound"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Status is how far the bound can be relied on.
type Status int32

// The statuses, as the clients number them.
const (
	Unknown      Status = 0 // no bound is known
	Synchronized Status = 1
	FreeRunning  Status = 2 // no source, but the bound still holds
	Disrupted    Status = 3 // the clock jumped, and nothing has been measured since
)

// Bound is what is told: the clock was within Error of UTC at the moment of writing, and
// the error grows by no more than Drift.
type Bound struct {
	Error  time.Duration // ≥ 0
	Drift  ntptime.Frequency
	Valid  time.Duration // how long the bound may be extrapolated
	Status Status
	// Disruptions counts the jumps of the clock, so that readers of version 2 see one.
	Disruptions uint64
}

// lasts is how long a bound may be extrapolated: a state is published every 16 s, so that
// only a daemon that has gone lets one expire.
const lasts = time.Minute

var statuses = map[bound.Status]Status{bound.Synchronized: Synchronized, bound.FreeRunning: FreeRunning, bound.Unknown: Unknown}

// Of is what a state that has just been made tells of the clock that it steers.
func Of(s *model.Snapshot) Bound {
	b := Bound{
		Error: s.ErrorBound + time.Nanosecond, Drift: s.DispersionRate, Valid: lasts,
		Status: statuses[bound.StatusOf(s)], Disruptions: s.Disruptions,
	}
	if b.Status == Unknown && s.Disruptions > 0 && s.Updates > 0 {
		b.Status = Disrupted
	}
	return b
}

// The files that clients look at by default.
const (
	DefaultVersion1 = "/var/run/clockbound/shm"
	DefaultVersion2 = "/var/run/clockbound/shm0"
)

// The layout, in native byte order: bytes from the beginning of the file.
const (
	magicHigh   = 0x414D5A4E
	magicLow    = 0x43420200
	atMagic     = 0
	atSize      = 8
	atVersion   = 12 // 16 bits; the generation stands in the other half of the word
	atAsOf      = 16
	atVoidAfter = 32
	atBound     = 48

	atDrift1  = 56
	atStatus1 = 64
	size1     = 72

	atMarker2  = 56
	atDrift2   = 64
	atStatus2  = 68
	atSupport2 = 72
	size2      = 80
)

// File is the shared memory of one version. It is not safe for concurrent use; readers
// are other processes.
type File struct {
	version    uint16
	mem        []byte
	generation uint16
}

// Open opens the file of a version, 1 or 2, and makes it where there is none. What stands
// in it is declared void until the first Write: it may be of a run long ago.
func Open(path string, version int) (*File, error) {
	size := size1
	switch version {
	case 1:
	case 2:
		size = size2
	default:
		return nil, fmt.Errorf("there is no version %d of ClockBound's shared memory", version)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("shared memory of ClockBound: %w; make its folder, writable for timeball's user", err)
	}
	defer f.Close()
	if err := prepare(f, size); err != nil {
		return nil, fmt.Errorf("shared memory of ClockBound: %s: %w", path, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shared memory of ClockBound: map %s: %w", path, err)
	}
	out := &File{version: uint16(version), mem: mem}
	out.word(atVersion).Store(0) // version and generation: a reader waits
	out.long(atMagic).Store(join(magicHigh, magicLow))
	out.word(atSize).Store(uint32(size))
	return out, nil
}

// prepare gives the file its size and permissions; clients that have it mapped keep it.
func prepare(f *os.File, size int) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is no file")
	}
	if info.Mode().Perm() != 0o644 {
		if err := f.Chmod(0o644); err != nil {
			return err
		}
	}
	if info.Size() != int64(size) {
		return f.Truncate(int64(size))
	}
	return nil
}

// Write tells a bound as of now. While it is being written the generation is odd, and a
// reader that saw another one before than after begins again.
func (f *File) Write(b Bound) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	f.WriteAt(b, time.Duration(ts.Nano()))
	return nil
}

// WriteAt tells a bound as of a reading of CLOCK_MONOTONIC_COARSE.
func (f *File) WriteAt(b Bound, asOf time.Duration) {
	f.setGeneration(f.generation | 1)
	f.putTime(atAsOf, asOf)
	f.putTime(atVoidAfter, asOf+b.Valid)
	f.long(atBound).Store(uint64(b.Error))
	drift := uint32(min(max(float64(b.Drift)*1e9+0.999, 1), 1e9)) // rounded up: ppb
	switch f.version {
	case 1:
		f.word(atDrift1).Store(drift)
		f.word(atDrift1 + 4).Store(0)
		f.word(atStatus1).Store(uint32(status1(b.Status)))
	default:
		f.long(atMarker2).Store(b.Disruptions)
		f.word(atDrift2).Store(drift)
		f.word(atStatus2).Store(uint32(b.Status))
		f.word(atSupport2).Store(1)
	}
	next := (f.generation | 1) + 1
	if next == 0 { // 0 is for a writer that has just begun
		next = 2
	}
	f.setGeneration(next)
}

// status1 is a status as version 1 has it: its readers are told that nothing is known
// where the clock was disrupted.
func status1(s Status) Status {
	if s == Disrupted {
		return Unknown
	}
	return s
}

// setGeneration publishes a generation, and with it that this is a valid file.
func (f *File) setGeneration(g uint16) {
	f.generation = g
	head := [2]uint16{f.version, g}
	f.word(atVersion).Store(*(*uint32)(unsafe.Pointer(&head)))
}

// Close tells that nothing is known any more, and unmaps the file, which stays.
func (f *File) Close() error {
	if f.mem == nil {
		return nil
	}
	err := f.Write(Bound{Status: Unknown})
	return errors.Join(err, f.unmap())
}

func (f *File) unmap() error {
	mem := f.mem
	f.mem = nil
	return unix.Munmap(mem)
}

func (f *File) putTime(at int, d time.Duration) {
	f.long(at).Store(uint64(d / time.Second))
	f.long(at + 8).Store(uint64(d % time.Second))
}

func (f *File) word(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&f.mem[at])) }

func (f *File) long(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&f.mem[at])) }

// join puts two words that follow each other in memory into one.
func join(first, second uint32) uint64 {
	words := [2]uint32{first, second}
	return *(*uint64)(unsafe.Pointer(&words))
}
