package netio

import (
	"sync/atomic"

	"timeball/internal/ntptime"
)

// Hardware maps the stamps of network cards, which count on clocks of their own, to
// the system's time. It is safe for concurrent use.
type Hardware struct {
	cards atomic.Pointer[map[int]cardClock]
}

// cardClock relates a card's clock to CLOCK_REALTIME, as last measured.
type cardClock struct {
	at     int64   // reading of the card's clock, ns
	offset int64   // CLOCK_REALTIME minus card there, ns
	rate   float64 // growth of offset, ns per ns of the card
}

// realtime maps a stamp of the card of an interface; false if that card is not followed.
func (h *Hardware) realtime(ifindex int, stamp int64) (ntptime.Wall, bool) {
	cards := h.cards.Load()
	if cards == nil {
		return 0, false
	}
	c, ok := (*cards)[ifindex]
	if !ok {
		return 0, false
	}
	return ntptime.Wall(stamp + c.offset + int64(c.rate*float64(stamp-c.at))), true
}
