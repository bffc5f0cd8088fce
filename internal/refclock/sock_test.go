package refclock

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func sockMessage(at time.Time, offset float64, pulse, leap uint32) []byte {
	b := make([]byte, sockSize)
	binary.NativeEndian.PutUint64(b, uint64(at.Unix()))
	binary.NativeEndian.PutUint64(b[8:], uint64(at.Nanosecond()/1000))
	binary.NativeEndian.PutUint64(b[sockOffset:], math.Float64bits(offset))
	binary.NativeEndian.PutUint32(b[sockPulse:], pulse)
	binary.NativeEndian.PutUint32(b[sockLeap:], leap)
	binary.NativeEndian.PutUint32(b[sockMagic:], sockNumber)
	return b
}

func TestSOCKMessages(t *testing.T) {
	good := sockMessage(shmMoment, -0.1005, 0, 0)
	nan := sockMessage(shmMoment, math.NaN(), 0, 0)
	wrong := bytes.Clone(good)
	wrong[sockMagic]++
	for _, test := range []struct {
		name    string
		message []byte
		want    model.ReadingRefusal
	}{
		{"good", good, noRefusal},
		{"leap second announced", sockMessage(shmMoment, 0, 0, 1), noRefusal},
		{"pulse", sockMessage(shmMoment, 0.25, 1, 0), noRefusal},
		{"too short", good[:39], model.ReadingMalformed},
		{"too long", append(bytes.Clone(good), 0), model.ReadingMalformed},
		{"another magic number", wrong, model.ReadingMalformed},
		{"no number", nan, model.ReadingMalformed},
		{"infinity", sockMessage(shmMoment, math.Inf(1), 0, 0), model.ReadingMalformed},
		{"no fix", sockMessage(shmMoment, 0, 0, 3), model.ReadingNoFix},
		{"empty", nil, model.ReadingMalformed},
	} {
		r, why := parseSOCK(test.message)
		if why != test.want {
			t.Errorf("%s: got %v, want %v", test.name, why, test.want)
		}
		if test.name == "good" && r.Reference.Sub(r.Realtime) != -100500*time.Microsecond {
			t.Errorf("offset %v", r.Reference.Sub(r.Realtime))
		}
		if test.name == "pulse" && !r.Pulse {
			t.Error("a pulse is not seen as one")
		}
	}
}

func TestSOCKSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gps.sock")
	counters := new(Counters)
	config := Config{Driver: "sock", Device: path, Counters: counters}
	driver, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket made with %v: %v", info.Mode(), err)
	}
	if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second driver took the socket of the first: %v", err)
	}
	sender, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, message := range [][]byte{[]byte("hello"), sockMessage(shmMoment, 0, 0, 3), sockMessage(shmMoment, 0.5, 0, 2)} {
		if _, err := sender.Write(message); err != nil {
			t.Fatal(err)
		}
	}
	r, err := driver.Read(context.Background())
	if err != nil || r.Reference.Sub(r.Realtime) != 500*time.Millisecond || r.Leap != wire.LeapDelete {
		t.Fatalf("got %+v %v", r, err)
	}
	if counters.Refused()[model.ReadingMalformed] != 1 || counters.Refused()[model.ReadingNoFix] != 1 || counters.Taken() != 1 {
		t.Errorf("format %d, no fix %d, taken %d", counters.Refused()[model.ReadingMalformed], counters.Refused()[model.ReadingNoFix], counters.Taken())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := driver.Read(ctx); err == nil {
		t.Error("Read outlives its context")
	}
	if err := driver.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket stays behind")
	}
}

func TestSOCKReplacesOnlyDeadSockets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Driver: "sock", Device: file, Counters: new(Counters)}); err == nil {
		t.Error("a file was replaced by the socket")
	}
	dead := filepath.Join(dir, "dead")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dead, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	driver, err := Open(Config{Driver: "sock", Device: dead, Counters: new(Counters)})
	if err != nil {
		t.Fatal("a socket that nobody reads: ", err)
	}
	_ = driver.Close()
}

func FuzzSOCK(f *testing.F) {
	f.Add(sockMessage(shmMoment, 0.1, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, why := parseSOCK(b)
		if why == noRefusal && (r.Realtime < 0 || r.Realtime > ntptime.Wall(7258118401e9)) {
			t.Errorf("%+v", r)
		}
	})
}
