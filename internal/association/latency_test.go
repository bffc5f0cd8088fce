package association

import (
	"testing"
	"time"

	"timeball/internal/model"
)

func TestLatencyIsTheShortestOfTheLastOnes(t *testing.T) {
	cases := []struct {
		name  string
		noted []time.Duration
		kind  model.TimestampKind
		want  time.Duration
	}{
		{"too few are not believed", []time.Duration{10, 10, 10}, model.TimestampKernel, 0},
		{"the shortest counts", []time.Duration{40, 10, 30, 20}, model.TimestampKernel, 10},
		{"the driver's own timestamps do not", []time.Duration{40, 10, 30, 20}, model.TimestampDaemon, 0},
		{"a negative one counts as none", []time.Duration{40, -10, 30, 20}, model.TimestampHardware, 0},
		{"long ones are bounded", []time.Duration{time.Second, time.Second, time.Second, time.Second}, model.TimestampKernel, time.Millisecond},
		{"old ones are forgotten", append([]time.Duration{1}, repeated(50, 64)...), model.TimestampKernel, 50},
	}
	for _, c := range cases {
		var l latency
		for _, d := range c.noted {
			l.note(&sentPacket{kind: c.kind, asked: instant(0), at: instant(d)})
		}
		if got := l.least(); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func repeated(d time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

// TestTransmitTimestampsMeetTheTransmission: packets that always leave 200 to 250 µs after
// the decision do not look as if the way back were longer.
func TestTransmitTimestampsMeetTheTransmission(t *testing.T) {
	random := &seeded{8}
	slow := func() time.Duration { return 200*time.Microsecond + time.Duration(random.Uint64()%50_000) }
	t.Run("symmetric", func(t *testing.T) {
		w, _, y := pair(t, 2, 3, true)
		w.queue = slow
		w.run(10 * time.Minute)
		y.samples = nil
		w.run(30 * time.Minute)
		y.wantOffsets(100*time.Millisecond-12*time.Microsecond, 16*time.Microsecond)
	})
	t.Run("broadcast", func(t *testing.T) {
		w, _, client := broadcasting(t, nil)
		w.queue = slow
		w.run(5 * time.Minute)
		client.samples = nil
		w.run(10 * time.Minute)
		client.wantOffsets(100*time.Millisecond-25*time.Microsecond, 32*time.Microsecond)
	})
}
