package association

import (
	"time"

	"timeball/internal/model"
)

// latency learns how long our packets take from the decision to send, when their
// transmit field is set, until they really leave. The shortest of the last ones is
// added to the next transmit field of modes 1, 2 and 5: the part that is always there
// would else look like an asymmetric path to the other end. Taking the shortest, the
// field is never later than the transmission, so that no round trip looks shorter than it was.
type latency struct {
	recent [64]time.Duration
	count  int
}

// fewestLatencies must be known before any is believed; longestLatency bounds what a
// driver's mistake could do.
const (
	fewestLatencies = 4
	longestLatency  = time.Millisecond
)

func (l *latency) note(d *sentPacket) {
	if d.kind == model.TimestampDaemon {
		return // taken after the call came back, not when the packet left
	}
	l.recent[l.count%len(l.recent)] = d.at.Raw.Sub(d.asked.Raw)
	l.count++
}

func (l *latency) least() time.Duration {
	if l.count < fewestLatencies {
		return 0
	}
	least := longestLatency
	for _, d := range l.recent[:min(l.count, len(l.recent))] {
		least = min(least, d)
	}
	return max(least, 0)
}
