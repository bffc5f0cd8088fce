package bound

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func TestNow(t *testing.T) {
	at := func(s ntptime.Raw) ntptime.Instant {
		return ntptime.Instant{Raw: s * 1e9, Wall: 1_700_000_000e9 + ntptime.Wall(s)*1e9}
	}
	good := model.Snapshot{At: at(100), Synchronized: true, State: model.DisciplineSync, Updates: 3, LastUpdate: at(99),
		ErrorBound: time.Millisecond, DispersionRate: 10 * ntptime.PPM}
	for _, test := range []struct {
		name   string
		change func(s *model.Snapshot)
		want   Status
	}{
		{"synchronized", func(*model.Snapshot) {}, Synchronized},
		{"holdover", func(s *model.Snapshot) { s.State = model.DisciplineHoldover }, FreeRunning},
		{"local, set once", func(s *model.Snapshot) { s.State = model.DisciplineLocal }, FreeRunning},
		{"local, never set", func(s *model.Snapshot) { s.State, s.Updates = model.DisciplineLocal, 0 }, Unknown},
		{"panic", func(s *model.Snapshot) { s.State, s.Synchronized = model.DisciplinePanic, false }, Unknown},
		{"set by somebody since", func(s *model.Snapshot) { s.Disruptions, s.LastDisruption = 1, at(99) }, Unknown},
		{"measured since", func(s *model.Snapshot) { s.Disruptions, s.LastDisruption = 1, at(98) }, Synchronized},
	} {
		s := good
		test.change(&s)
		if got := At(&s, at(110)).Status; got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	now := at(110)
	r := At(&good, now)
	if half := time.Duration(r.LatestNanoseconds-r.EarliestNanoseconds) / 2; half < 1100*time.Microsecond || half > 1101*time.Microsecond {
		t.Errorf("± %v, want 1 ms and 10 s of 10 ppm", half)
	}
	if r.Earliest > r.Latest || r.EarliestNanoseconds > int64(now.Wall) || r.LatestNanoseconds < int64(now.Wall) {
		t.Errorf("%+v does not hold %d", r, now.Wall)
	}
}
