package system_test

import (
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// An exchange at the leap second has timestamps of two scales and is not used.
func TestNoExchangeStraddlesTheLeapSecond(t *testing.T) {
	midnight := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		leap   wire.Leap
		before time.Duration // of the exchange, before the leap second's end
		want   uint64        // samples that it adds
	}{
		{"well before it", wire.LeapInsert, 10 * time.Second, 1},
		{"right before it", wire.LeapInsert, time.Second, 0},
		{"at the end of a day without one", wire.LeapNone, time.Second, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(usual(), ntptime.WallOf(midnight.Add(-5*time.Minute)), 0)
			h.leap = test.leap
			h.polls(8)
			h.wait(ntptime.WallOf(midnight.Add(-test.before)).Sub(h.now().Wall))
			before := h.Snapshot(h.now()).Sources[0].Samples
			h.poll()
			if got := h.Snapshot(h.now()).Sources[0].Samples - before; got != test.want {
				t.Errorf("got %d samples more, want %d", got, test.want)
			}
		})
	}
}
