package daemon

import (
	"slices"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func TestTheSupervisorIsToldHowTheClockStands(t *testing.T) {
	sources := func(reach ...uint8) (all []model.SourceReport) {
		for _, r := range reach {
			all = append(all, model.SourceReport{SourceStatus: model.SourceStatus{Reach: r}})
		}
		return all
	}
	synced := func(bound time.Duration) model.Snapshot {
		return model.Snapshot{Synchronized: true, State: model.DisciplineSync, SystemPeer: 7, ErrorBound: bound, DispersionRate: ntptime.PPM}
	}
	with := func(s model.Snapshot, f func(s *model.Snapshot)) model.Snapshot { f(&s); return s }
	var told []string
	st := &standing{notify: func(state string) { told = append(told, state) }, name: func(model.SourceID) string { return "ntp.example" }}
	for _, c := range []struct {
		name  string
		state model.Snapshot
		want  string // "": no word
	}{
		{"nothing heard yet", model.Snapshot{Sources: sources(0, 0), ErrorBound: model.UnknownBound}, "not synchronized; 0 of 2 sources answer"},
		{"the same", model.Snapshot{Sources: sources(0, 0), ErrorBound: model.UnknownBound}, ""},
		{"one answers", model.Snapshot{Sources: sources(0, 1), ErrorBound: model.UnknownBound}, "not synchronized; 1 of 2 sources answer"},
		{"synchronized", synced(1200 * time.Microsecond), "synchronized to ntp.example, error at most 2 ms"},
		{"a little better", synced(600 * time.Microsecond), ""},
		{"a little worse", synced(1900 * time.Microsecond), ""},
		{"exceeded by the next snapshot", synced(1970 * time.Microsecond), "synchronized to ntp.example, error at most 5 ms"},
		{"much better", synced(100 * time.Microsecond), "synchronized to ntp.example, error at most 200 µs"},
		{"a rival", with(synced(100*time.Microsecond), func(s *model.Snapshot) { s.Rival = true }),
			"synchronized to ntp.example, error at most 200 µs; somebody else keeps setting the clock"},
		{"no source", with(synced(time.Second), func(s *model.Snapshot) { s.SystemPeer, s.State = 0, model.DisciplineHoldover }),
			"holding over without a source, error at most 2 s"},
		{"a correction refused", model.Snapshot{State: model.DisciplinePanic, PanicOffset: 2 * time.Hour, ErrorBound: 3 * time.Hour},
			"not synchronized: a correction of +7200.000000 s is refused (clock.panic)"},
		{"the local clock", model.Snapshot{Synchronized: true, State: model.DisciplineLocal, ErrorBound: model.UnknownBound}, "serving the local clock, error not known"},
	} {
		told = nil
		st.publish(&c.state)
		if c.want == "" && len(told) > 0 || c.want != "" && !slices.Equal(told, []string{"STATUS=" + c.want}) {
			t.Errorf("%s: got %q, want %q", c.name, told, c.want)
		}
	}
}
