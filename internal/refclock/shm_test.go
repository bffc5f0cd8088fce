package refclock

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// shmWriter writes a segment as ntpd's clients do.
type shmWriter struct{ mem []byte }

func newWriter() shmWriter { return shmWriter{make([]byte, shmSize)} }

func (w shmWriter) put(at int, v uint32) { binary.NativeEndian.PutUint32(w.mem[at:], v) }

func (w shmWriter) write(mode uint32, reference, receive time.Time, leap uint32) {
	w.put(shmMode, mode)
	binary.NativeEndian.PutUint64(w.mem[shmClockSec:], uint64(reference.Unix()))
	w.put(shmClockUSec, uint32(reference.Nanosecond()/1000))
	w.put(shmClockNSec, uint32(reference.Nanosecond()))
	binary.NativeEndian.PutUint64(w.mem[shmReceiveSec:], uint64(receive.Unix()))
	w.put(shmReceiveUSec, uint32(receive.Nanosecond()/1000))
	w.put(shmReceiveNSec, uint32(receive.Nanosecond()))
	w.put(shmLeap, leap)
	w.put(shmValid, 1)
}

var shmMoment = time.Date(2026, 11, 1, 12, 0, 0, 123456789, time.UTC)

func TestSHMReadings(t *testing.T) {
	reference, receive := shmMoment, shmMoment.Add(300*time.Millisecond)
	tests := []struct {
		name   string
		change func(w shmWriter)
		why    model.ReadingRefusal
		want   time.Duration // reference − receive
	}{
		{"nanoseconds where both agree with the microseconds", func(shmWriter) {}, noRefusal, -300 * time.Millisecond},
		{"microseconds where one has no nanoseconds", func(w shmWriter) { w.put(shmClockNSec, 0) }, noRefusal, -300 * time.Millisecond},
		{"mode 0 is taken", func(w shmWriter) { w.put(shmMode, 0) }, noRefusal, -300 * time.Millisecond},
		{"another mode is not", func(w shmWriter) { w.put(shmMode, 2) }, model.ReadingMalformed, 0},
		{"leap 3: no fix", func(w shmWriter) { w.put(shmLeap, 3) }, model.ReadingNoFix, 0},
		{"a leap that is none", func(w shmWriter) { w.put(shmLeap, 9) }, model.ReadingMalformed, 0},
		{"a million microseconds", func(w shmWriter) { w.put(shmClockUSec, 1e6) }, model.ReadingFraction, 0},
		{"a year beyond all", func(w shmWriter) { binary.NativeEndian.PutUint64(w.mem[shmClockSec:], 1<<60) }, model.ReadingMalformed, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWriter()
			w.write(1, reference, receive, 0)
			test.change(w)
			r, why, fresh := readSHM(w.mem)
			if !fresh || why != test.why {
				t.Fatalf("got %v, fresh %v; want %v", why, fresh, test.why)
			}
			if why == noRefusal && r.Reference.Sub(r.Realtime) != test.want {
				t.Errorf("reference − realtime is %v, want %v", r.Reference.Sub(r.Realtime), test.want)
			}
			if loadWord(w.mem, shmValid) != 0 {
				t.Error("valid is not cleared")
			}
			if _, _, again := readSHM(w.mem); again {
				t.Error("the same reading twice")
			}
		})
	}
}

func TestSHMNanosecondsCount(t *testing.T) {
	w := newWriter()
	w.write(1, shmMoment, shmMoment, 1)
	r, _, _ := readSHM(w.mem)
	if want := ntptime.WallOf(shmMoment); r.Reference != want || r.Realtime != want || r.Leap != wire.LeapInsert {
		t.Errorf("got %d %d leap %v, want %d", r.Reference, r.Realtime, r.Leap, want)
	}
	w.write(1, shmMoment, shmMoment, 0)
	w.put(shmReceiveNSec, 0) // of an old writer
	if r, _, _ = readSHM(w.mem); r.Reference != ntptime.WallOf(shmMoment.Truncate(time.Microsecond)) {
		t.Errorf("nanoseconds of one side alone were used: %d", r.Reference)
	}
}

func TestSHMJudgesByTheTimeOfDay(t *testing.T) {
	now := ntptime.WallOf(shmMoment)
	s := &shm{config: Config{Every: time.Second, Now: func() ntptime.Wall { return now }, Counters: new(Counters)}}
	for _, test := range []struct {
		name string
		at   ntptime.Wall
		last ntptime.Wall
		want model.ReadingRefusal
	}{
		{"now", now, 0, noRefusal},
		{"received in the future", now.Add(time.Second), 0, model.ReadingFuture},
		{"stale", now.Add(-5 * time.Second), 0, model.ReadingStale},
		{"not newer than the last", now.Add(-time.Second), now.Add(-time.Second), model.ReadingOld},
		{"the clock was set back since", now.Add(-time.Second), now.Add(time.Hour), noRefusal},
	} {
		s.last = test.last
		if got := s.judge(&Reading{Realtime: test.at}); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestSHMTrust(t *testing.T) {
	for _, test := range []struct {
		name        string
		unit, owner int
		mode        uint32
		self        int
		good        bool
	}{
		{"unit 0 of root", 0, 0, 0o600, 990, true},
		{"unit 0 of somebody", 0, 1000, 0o600, 990, false},
		{"unit 1 writable by all", 1, 0, 0o666, 990, false},
		{"unit 1 of our own", 1, 990, 0o600, 990, true},
		{"unit 2 writable by all", 2, 1000, 0o666, 990, true},
	} {
		if err := trustSHM(test.unit, test.owner, test.mode, test.self); (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A real segment of this machine, under a key that nobody uses: not even this test, if it
// runs twice at once.
func TestSHMSegment(t *testing.T) {
	unit := 0x10000 + rand.IntN(1<<24)
	seg, err := attachSHM(unit)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip("no System V shared memory here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = seg.detach()
		_, _ = unix.SysvShmCtl(seg.id, unix.IPC_RMID, nil)
	}()
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(seg.id, unix.IPC_STAT, &d); err != nil || d.Perm.Mode&0o777 != 0o600 {
		t.Fatalf("made with mode %04o: %v", d.Perm.Mode&0o777, err)
	}
	counters, now := new(Counters), time.Now()
	driver, err := Open(Config{
		Driver: "shm", Unit: unit, Every: 20 * time.Millisecond, Counters: counters,
		Now: func() ntptime.Wall { return ntptime.WallOf(now) }, // else the reading is stale where this machine is slow to look
	})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close()
	shmWriter{seg.mem}.write(1, now.Add(time.Hour), now, 0)
	r, err := driver.Read(context.Background())
	if err != nil || r.Reference.Sub(r.Realtime) != time.Hour || counters.Taken() != 1 {
		t.Fatalf("got %+v %v, %d taken", r, err, counters.Taken())
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
	if _, err := driver.Read(context.Background()); err == nil {
		t.Error("a closed driver reads on")
	}
}

func FuzzSHM(f *testing.F) {
	w := newWriter()
	w.write(1, shmMoment, shmMoment, 0)
	f.Add(w.mem)
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := make([]byte, shmSize)
		copy(mem, b)
		r, why, fresh := readSHM(mem)
		if fresh && why == noRefusal && (r.Reference < 0 || r.Realtime < 0) {
			t.Errorf("a time before 1970: %+v", r)
		}
		if loadWord(mem, shmValid) != 0 {
			t.Error("valid is left set")
		}
	})
}
