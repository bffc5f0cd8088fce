// Package page is the memory that the host of test/vm shares with its guest.
package page

import "unsafe"

// Magic says that the guest writes here.
const Magic = 0x74696d6562616c6c

// Size is what QEMU shares.
const Size = 1 << 20

// Page has one reading of the guest's clocks. Seq is odd while it is being written.
// All times in ns.
type Page struct {
	Magic, Seq uint64

	Raw, Real, RawAfter int64 // CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW
	TAI, Mono           int64 // right after

	// adjtimex(2), read up to some milliseconds before: its result and its fields.
	State, Status, Freq, Tick, MaxError, TAIOffset int64
}

// Of is the page at the beginning of a mapping.
func Of(memory []byte) *Page { return (*Page)(unsafe.Pointer(&memory[0])) }
