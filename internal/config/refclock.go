package config

import "time"

// RefclockDriver says how a reference clock is read.
type RefclockDriver string

// The drivers of reference clocks.
const (
	RefclockSHM  RefclockDriver = "shm"
	RefclockSOCK RefclockDriver = "sock"
	RefclockPPS  RefclockDriver = "pps"
	RefclockPHC  RefclockDriver = "phc"
	RefclockNMEA RefclockDriver = "nmea"
)

// PulseEdge is the edge of a pulse that begins the second.
type PulseEdge string

// The edges.
const (
	EdgeAssert PulseEdge = "assert"
	EdgeClear  PulseEdge = "clear"
)

// Refclock is a reference clock at this machine.
type Refclock struct {
	Driver RefclockDriver
	Unit   int
	Device string // socket (sock), device file or interface (pps, phc), serial line (nmea); empty for shm
	RefID  string // 1 to 4 ASCII characters; the driver's name where none is given

	Offset      time.Duration // added to every reading: a known delay of the receiver
	Delay       time.Duration // the unknown part of it: half goes into the bound
	Precision   time.Duration // least error of a sample
	Stratum     uint8         // of the clock itself; we serve one more
	MinReadings int           // needed in a poll for a sample

	Lock string    // pps: the RefID of the reference clock that numbers the pulses
	Edge PulseEdge // pps
	Rate int       // pps: pulses a second
	TAI  bool      // phc: it counts TAI
	Baud int       // nmea; 0: as the line is
	Mode uint32    // sock: permissions of the socket
}
