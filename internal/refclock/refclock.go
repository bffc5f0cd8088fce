// Package refclock reads reference clocks at this machine: receivers behind gpsd or
// another daemon (shm, sock), pulses (pps), clocks of NICs (phc) and serial
// receivers (nmea). One file a driver, all behind Driver; each hands out readings of a
// reference's time beside CLOCK_REALTIME and knows nothing of what becomes of them.
//
// A reading that a driver refuses is counted by reason, because the programs on the
// other side never learn that it was.
package refclock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

// Driver is one device. Read is called by one goroutine; Close may be called by another
// and ends a Read that waits.
type Driver interface {
	// Read waits for the next reading. An error means that the device is of no more
	// use and is to be closed and opened again; a refused reading is no error.
	Read(ctx context.Context) (Reading, error)
	Close() error
}

// Reading is what a reference clock said, and when by CLOCK_REALTIME.
type Reading struct {
	Realtime ntptime.Wall // CLOCK_REALTIME at the moment of the reading
	// Reference is the reference's time at that moment: UTC, or TAI with TAI set. For a
	// Pulse only its place within the second means something.
	Reference ntptime.Wall
	model.ReadingFlags
	// Error is what the reading itself is uncertain by, half a width; ≥ 0.
	Error time.Duration
}

// Counters says how many readings were taken and refused. They may be read while the
// driver runs.
type Counters struct {
	taken   atomic.Uint64
	refused [model.ReadingRefusals]atomic.Uint64
}

// Taken returns how many readings were handed out.
func (c *Counters) Taken() uint64 { return c.taken.Load() }

// Refused returns how many readings were dropped, by reason.
func (c *Counters) Refused() (counts [model.ReadingRefusals]uint64) {
	for i := range c.refused {
		counts[i] = c.refused[i].Load()
	}
	return counts
}

func (c *Counters) refuse(why model.ReadingRefusal) { c.refused[why].Add(1) }

// Config says which device, and how it is read.
type Config struct {
	Driver string // shm, sock, pps, phc or nmea
	Unit   int    // shm: of the segment; pps, phc: of the device, where Device is empty
	// Device is a path: the socket (sock), /dev/ppsN, /dev/ptpN or an interface's name
	// (phc), the serial line (nmea).
	Device string
	Clear  bool          // pps: the falling edge
	Every  time.Duration // pps: expected distance of pulses; phc, shm: between readings; 0: a second
	TAI    bool          // phc: it counts TAI
	Baud   int           // nmea; 0: as the line is
	Mode   uint32        // sock: permissions of the socket; 0: 0600
	// NotBefore is the earliest date to be believed: when this program was made.
	NotBefore ntptime.Wall
	Now       func() ntptime.Wall // CLOCK_REALTIME; nil: the machine's
	Counters  *Counters           // required
}

// Open opens the device of a configuration.
func Open(c Config) (Driver, error) {
	if c.Now == nil {
		c.Now = func() ntptime.Wall { return ntptime.Wall(time.Now().UnixNano()) }
	}
	if c.Every <= 0 {
		c.Every = time.Second
	}
	switch c.Driver {
	case "shm":
		return openSHM(c)
	case "sock":
		return openSOCK(c)
	case "pps":
		return openPPS(c)
	case "phc":
		return openPHC(c)
	case "nmea":
		return openNMEA(c)
	}
	return nil, fmt.Errorf("no driver %q; use shm, sock, pps, phc or nmea", c.Driver)
}

// Warning says what is risky in a device as it stands on this machine now, "" for nothing.
func Warning(c Config) string {
	if c.Driver == "shm" {
		return openTo(c.Unit)
	}
	return ""
}

// Look says whether a device is there and could be read, without reading it or changing
// anything: the daemon may be at it. The error says what is missing.
func Look(c Config) error {
	switch c.Driver {
	case "shm":
		return lookSHM(c.Unit)
	case "sock":
		return lookSOCK(c.Device)
	case "nmea":
		return lookNMEA(c.Device)
	}
	device, err := Open(c)
	if err != nil {
		return err
	}
	return device.Close()
}

// errClosed ends a Read whose device was closed.
var errClosed = errors.New("the device was closed")

// pause waits, and reports whether it was not ended by ctx or by done.
func pause(ctx context.Context, done <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return errClosed
	case <-timer.C:
		return nil
	}
}
