package system_test

import (
	"net/netip"
	"testing"

	"timeball/internal/model"
	"timeball/internal/system"
)

// Of several servers without a source the one with the lowest address is followed, one
// stratum below it; the others serve nothing of their own.
func TestOrphansFollowTheLowestAddress(t *testing.T) {
	for _, test := range []struct {
		name    string
		ours    string // the server is 192.0.2.7
		orphan  bool
		stratum uint8 // of the server
		want    uint8 // ours
	}{
		{"the other one has the lower address", "192.0.2.9", true, 10, 11},
		{"we have the lower address", "192.0.2.1", true, 10, 10},
		{"a source of a lower stratum is no orphan", "192.0.2.1", true, 2, 3},
		{"without orphan mode whoever answers is followed", "192.0.2.1", false, 10, 11},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := usual()
			cfg.Addresses = []netip.Addr{netip.MustParseAddr(test.ours)}
			cfg.Local = &system.Local{Stratum: 10, Orphan: test.orphan}
			h := newHost(cfg, start, 0)
			h.stratum = test.stratum
			h.polls(6)
			s := h.Snapshot(h.now())
			if !s.Synchronized || s.Stratum != test.want {
				t.Errorf("got synchronized %v, stratum %d, want true, %d", s.Synchronized, s.Stratum, test.want)
			}
			if local := s.State == model.DisciplineLocal; local != (test.want == 10) {
				t.Errorf("serves its own clock: got %v, want %v", local, !local)
			}
		})
	}
}
