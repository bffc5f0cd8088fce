package clock

import (
	"time"

	"timeball/internal/ntptime"
)

// pair is CLOCK_REALTIME and the host's oscillator read as one moment, which is true
// to within width/2; monotonic belongs to real.
type pair struct {
	real      ntptime.Wall
	raw       int64 // CLOCK_MONOTONIC_RAW
	monotonic int64
	width     time.Duration // from the reading of real before to the one after raw
}

// pairTries bounds how often a reading is repeated when the scheduler or an
// interrupt came between.
const pairTries = 4

// readPair reads raw between two readings of real and takes their middle. It tries
// again while the width is over tight, and keeps the tightest. A negative width (real
// was set back in between) is never tight.
func readPair(h Host, tight time.Duration) pair {
	var best pair
	for i := 0; i < pairTries; i++ {
		before, _ := h.Realtime()
		raw := h.MonotonicRaw()
		after, monotonic := h.Realtime()
		width := time.Duration(after - before)
		if width >= 0 && (best.raw == 0 || width < best.width) {
			half := int64(width / 2)
			best = pair{real: ntptime.Wall(before + half), raw: raw, monotonic: monotonic - half, width: width}
		}
		if best.raw != 0 && best.width <= tight {
			return best
		}
	}
	if best.raw == 0 { // set back at every try: not on this earth, but an answer is due
		real, monotonic := h.Realtime()
		best = pair{real: ntptime.Wall(real), raw: h.MonotonicRaw(), monotonic: monotonic}
	}
	return best
}

// tightWidth learns what a width undisturbed is: twice the least of some.
func tightWidth(h Host) time.Duration {
	least := time.Duration(1<<63 - 1)
	for i := 0; i < 32; i++ {
		if p := readPair(h, 0); p.width < least {
			least = p.width
		}
	}
	return 2 * least
}

// asleep is how long the machine has slept since boot: CLOCK_BOOTTIME −
// CLOCK_MONOTONIC, up to a constant. The tightest of some readings is taken, so that
// a preemption between the two is not taken for sleep.
func asleep(h Host) time.Duration {
	var best, least int64 = 0, -1
	for i := 0; i < pairTries; i++ {
		_, before := h.Realtime()
		boot := h.Boottime()
		_, after := h.Realtime()
		if width := after - before; least < 0 || width < least {
			least, best = width, boot-before-width/2
		}
	}
	return time.Duration(best)
}

// sleepBound is the least sleep taken for one; reading noise is microseconds, a
// suspend some tenths of a second.
const sleepBound = 20 * time.Millisecond

// measurePrecision returns the larger of resolution and reading time of a clock
// (RFC 5905 §7.3): the least difference greater than zero between two readings in
// a row, as the next higher power of two.
func measurePrecision(read func() ntptime.Wall) ntptime.Log2 {
	least := time.Second
	last := read()
	for i := 0; i < 200; i++ {
		now := read()
		if d := now.Sub(last); d > 0 && d < least {
			least = d
		}
		last = now
	}
	return ntptime.Log2Of(least)
}
