package refclock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// The shared memory of ntpd's driver 28, as gpsd and others write it, with 64-bit
// time_t: offsets in bytes, native byte order.
const (
	shmMode          = 0
	shmCount         = 4
	shmClockSec      = 8
	shmClockUSec     = 16
	shmReceiveSec    = 24
	shmReceiveUSec   = 32
	shmLeap          = 36
	shmValid         = 48
	shmClockNSec     = 52
	shmReceiveNSec   = 56
	shmSize          = 96
	shmKey           = 0x4e545030 // "NTP0"; the unit is added
	shmLooks         = 4          // for each expected reading
	shmRootUnits     = 2          // units 0 and 1 are root's alone
	shmStalePolls    = 4          // a reading older than so many expected ones is stale
	shmReattachEvery = 5 * time.Second
)

// segment is the memory itself and the system calls behind it, so that tests can put a
// slice in their place.
type segment struct {
	mem    []byte
	id     int
	detach func() error
}

type shm struct {
	config Config
	attach func(unit int) (segment, error)
	seg    segment
	looked time.Time
	last   ntptime.Wall
	done   chan struct{}
	once   sync.Once
	mu     sync.Mutex // seg against Close
}

func openSHM(c Config) (Driver, error) {
	if strconv.IntSize != 64 {
		return nil, errors.New("the shm driver needs a 64-bit machine; use sock")
	}
	s := &shm{config: c, attach: attachSHM, done: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *shm) open() error {
	seg, err := s.attach(s.config.Unit)
	if err != nil {
		return err
	}
	s.seg, s.looked = seg, time.Now()
	return nil
}

// attachSHM attaches the unit's segment, and makes it where there is none: its writer
// may come later. It is never made for others to write; who may write an existing one
// to a unit below 2 is root alone, as ntpd has it.
func attachSHM(unit int) (segment, error) {
	key := shmKey + unit
	id, err := unix.SysvShmGet(key, shmSize, 0)
	if errors.Is(err, unix.ENOENT) {
		id, err = unix.SysvShmGet(key, shmSize, unix.IPC_CREAT|0o600)
	}
	if err != nil {
		return segment{}, shmFault(unit, err)
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		return segment{}, shmFault(unit, err)
	}
	if err := trustSHM(unit, int(d.Perm.Uid), uint32(d.Perm.Mode), os.Geteuid()); err != nil {
		return segment{}, err
	}
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return segment{}, shmFault(unit, err)
	}
	return segment{mem: mem, id: id, detach: func() error { return unix.SysvShmDetach(mem) }}, nil
}

// shmFault says in words why a segment cannot be had.
func shmFault(unit int, err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return shmDenied(unit)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("shm unit %d: the segment is smaller than %d bytes: made by a program with 32-bit time", unit, shmSize)
	}
	return fmt.Errorf("shm unit %d: %w", unit, err)
}

func shmDenied(unit int) error {
	if unit < shmRootUnits {
		return fmt.Errorf("shm unit %d belongs to root with mode 0600, and timeball runs as another user; let the receiver's daemon write a unit from 2 up (gpsd does so by itself when it is not started as root), or use driver: sock", unit)
	}
	return fmt.Errorf("shm unit %d: no permission; it is to belong to timeball's user, or be readable and writable for it", unit)
}

// trustSHM says whether a segment's owner and permissions make its content believable.
func trustSHM(unit, owner int, mode uint32, self int) error {
	if unit >= shmRootUnits {
		return nil
	}
	if owner != 0 && owner != self {
		return fmt.Errorf("shm unit %d belongs to user %d; units 0 and 1 are root's: remove it (ipcrm -M %#x) or use a unit from 2 up", unit, owner, shmKey+unit)
	}
	if mode&0o022 != 0 {
		return fmt.Errorf("shm unit %d may be written by others (mode %04o); units 0 and 1 are root's: remove it (ipcrm -M %#x)", unit, mode&0o777, shmKey+unit)
	}
	return nil
}

// openTo says who else may write the segments of units from 2 up: they are believed, as
// their daemons make them so, but whoever may write them sets our clock. "": nobody, or
// there is none.
func openTo(unit int) string {
	id, err := unix.SysvShmGet(shmKey+unit, shmSize, 0)
	if err != nil {
		return ""
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		return ""
	}
	return openness(unit, uint32(d.Perm.Mode))
}

// lookSHM finds the unit's segment, and makes none.
func lookSHM(unit int) error {
	id, err := unix.SysvShmGet(shmKey+unit, shmSize, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("shm unit %d: nobody has made the segment yet; does the receiver's daemon run?", unit)
	case err != nil:
		return shmFault(unit, err)
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		return shmFault(unit, err)
	}
	return trustSHM(unit, int(d.Perm.Uid), uint32(d.Perm.Mode), os.Geteuid())
}

func openness(unit int, mode uint32) string {
	who := ""
	switch {
	case mode&0o002 != 0:
		who = "everybody on this machine"
	case mode&0o020 != 0:
		who = "others of its group"
	default:
		return ""
	}
	return fmt.Sprintf("shm unit %d may be written by %s (mode %04o), who can so set the clock; use driver: sock, or start the receiver's daemon as root for units 0 and 1", unit, who, mode&0o777)
}

// Read looks at the segment several times for each expected reading.
func (s *shm) Read(ctx context.Context) (Reading, error) {
	for {
		if err := pause(ctx, s.done, s.config.Every/shmLooks); err != nil {
			return Reading{}, err
		}
		r, ok, err := s.look()
		if err != nil {
			return Reading{}, err
		}
		if ok {
			s.config.Counters.taken.Add(1)
			return r, nil
		}
	}
}

// look takes a reading if there is a new one.
func (s *shm) look() (Reading, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seg.mem == nil {
		return Reading{}, false, errClosed
	}
	if time.Since(s.looked) > shmReattachEvery {
		s.looked = time.Now()
		if id, err := unix.SysvShmGet(shmKey+s.config.Unit, shmSize, 0); s.seg.id >= 0 && (err != nil || id != s.seg.id) {
			return Reading{}, false, errors.New("the shared memory was removed; it is attached again")
		}
	}
	r, why, fresh := readSHM(s.seg.mem)
	if !fresh {
		return Reading{}, false, nil
	}
	if why == noRefusal {
		why = s.judge(&r)
	}
	if why != noRefusal {
		s.config.Counters.refuse(why)
		return Reading{}, false, nil
	}
	s.last = r.Realtime
	return r, true, nil
}

// noRefusal stands for a good reading.
const noRefusal model.ReadingRefusal = model.ReadingRefusals

// judge applies what needs the time of day.
func (s *shm) judge(r *Reading) model.ReadingRefusal {
	now := s.config.Now()
	switch {
	case r.Realtime > now:
		return model.ReadingFuture
	case now.Sub(r.Realtime) > shmStalePolls*s.config.Every:
		return model.ReadingStale
	case r.Realtime <= s.last && s.last <= now: // a clock set back begins anew
		return model.ReadingOld
	}
	return noRefusal
}

// readSHM takes one reading out of the segment and clears its valid word, also for one
// that it refuses, as ntpd does. fresh is false where there is nothing.
func readSHM(mem []byte) (r Reading, why model.ReadingRefusal, fresh bool) {
	word := func(at int) uint32 { return loadWord(mem, at) }
	if word(shmValid) == 0 {
		return r, noRefusal, false
	}
	mode, count := int32(word(shmMode)), word(shmCount)
	clockSec, receiveSec := loadSeconds(mem, shmClockSec), loadSeconds(mem, shmReceiveSec)
	clockUSec, receiveUSec := int32(word(shmClockUSec)), int32(word(shmReceiveUSec))
	clockNSec, receiveNSec := word(shmClockNSec), word(shmReceiveNSec)
	leap := int32(word(shmLeap))
	after := word(shmCount)
	storeWord(mem, shmValid, 0)

	switch {
	case mode != 0 && mode != 1:
		return r, model.ReadingMalformed, true
	case mode == 1 && count != after:
		return r, model.ReadingTorn, true
	case leap == int32(wire.LeapUnknown):
		return r, model.ReadingNoFix, true
	case leap < 0 || leap > 3:
		return r, model.ReadingMalformed, true
	}
	clock, ok1 := fraction(clockUSec, clockNSec)
	receive, ok2 := fraction(receiveUSec, receiveNSec)
	if !ok1 || !ok2 {
		return r, model.ReadingFraction, true
	}
	// Nanoseconds count only where both have them: one writer fills them for both.
	if !fits(clockUSec, clockNSec) || !fits(receiveUSec, receiveNSec) {
		clock, receive = int64(clockUSec)*1000, int64(receiveUSec)*1000
	}
	reference, ok1 := wallOf(clockSec, clock)
	realtime, ok2 := wallOf(receiveSec, receive)
	if !ok1 || !ok2 {
		return r, model.ReadingMalformed, true
	}
	r = Reading{Reference: reference, Realtime: realtime}
	r.Leap = wire.Leap(leap)
	return r, noRefusal, true
}

// fits reports whether nanoseconds say the same as microseconds, only finer.
func fits(usec int32, nsec uint32) bool { return nsec < 1e9 && int32(nsec/1000) == usec }

// fraction is a part of a second in ns; false where it is none.
func fraction(usec int32, nsec uint32) (int64, bool) {
	if usec < 0 || usec >= 1e6 {
		return 0, false
	}
	if fits(usec, nsec) {
		return int64(nsec), true
	}
	return int64(usec) * 1000, true
}

// wallOf makes a time of seconds and nanoseconds since 1970; false beyond 1970 to 2200.
func wallOf(seconds, nanoseconds int64) (ntptime.Wall, bool) {
	const last = 7258118400 // 2200
	if seconds < 0 || seconds > last {
		return 0, false
	}
	return ntptime.Wall(seconds*1e9 + nanoseconds), true
}

// Close detaches the segment; it stays for others.
func (s *shm) Close() error {
	s.once.Do(func() { close(s.done) })
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := s.seg
	s.seg = segment{}
	if seg.detach == nil {
		return nil
	}
	return seg.detach()
}

func loadSeconds(mem []byte, at int) int64 { return int64(binary.NativeEndian.Uint64(mem[at:])) }
