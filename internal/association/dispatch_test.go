package association

import (
	"testing"

	"timeball/internal/wire"
)

// figure20 is RFC 5905 §9.2 Figure 20, copied from the text as it stands there.
var figure20 = []struct {
	kind Kind
	row  [5]string
}{
	{KindNone, [5]string{"NEWPS", "DSCRD", "FXMIT", "MANYC", "NEWBC"}},
	{KindActive, [5]string{"PROC", "PROC", "DSCRD", "DSCRD", "DSCRD"}},
	{KindPassive, [5]string{"PROC", "ERR", "DSCRD", "DSCRD", "DSCRD"}},
	{KindClient, [5]string{"DSCRD", "DSCRD", "DSCRD", "PROC", "DSCRD"}},
	{KindServer, [5]string{"DSCRD", "DSCRD", "DSCRD", "DSCRD", "DSCRD"}},
	{KindBroadcastServer, [5]string{"DSCRD", "DSCRD", "DSCRD", "DSCRD", "DSCRD"}},
	{KindBroadcastClient, [5]string{"DSCRD", "DSCRD", "DSCRD", "DSCRD", "PROC"}},
}

func TestRFC5905_9_2_Figure20(t *testing.T) {
	if len(figure20) != kinds {
		t.Fatalf("%d rows, want %d", len(figure20), kinds)
	}
	for i, row := range figure20 {
		if int(row.kind) != i {
			t.Errorf("row %d is for kind %d: the numbers are those of the figure", i, row.kind)
		}
		for mode := wire.Mode(1); mode <= 5; mode++ {
			if got := Dispatch(row.kind, mode).String(); got != row.row[mode-1] {
				t.Errorf("Dispatch(%v, mode %d) = %s, want %s", row.kind, mode, got, row.row[mode-1])
			}
		}
		for _, mode := range []wire.Mode{0, 6, 7, 8, 255} {
			if got := Dispatch(row.kind, mode); got != ActionDiscard {
				t.Errorf("Dispatch(%v, mode %d) = %v, want DSCRD", row.kind, mode, got)
			}
		}
	}
	if got := Dispatch(kinds, wire.ModeActive); got != ActionDiscard {
		t.Errorf("an unknown kind: %v, want DSCRD", got)
	}
}

func TestMayMobilize(t *testing.T) {
	good := Admission{Mode: wire.ModeActive, Enabled: true, MayFollow: true, Authenticated: true, Limit: 100}
	cases := []struct {
		name  string
		spoil func(m *Admission)
		ok    bool
	}{
		{"an authenticated mode 1 does", func(*Admission) {}, true},
		{"an authenticated mode 5 does", func(m *Admission) { m.Mode = wire.ModeBroadcast }, true},
		{"an unauthenticated one does where the configuration says so", func(m *Admission) { m.Authenticated, m.Unauthenticated = false, true }, true},
		{"the last place is given", func(m *Admission) { m.Associations = 99 }, true},
		{"a full house takes nobody", func(m *Admission) { m.Associations = 100 }, false},
		{"a limit of 0 takes nobody", func(m *Admission) { m.Limit = 0 }, false},
		{"an unauthenticated one does not", func(m *Admission) { m.Authenticated = false }, false},
		{"a crypto-NAK does not (CVE-2015-7871)", func(m *Admission) { m.CryptoNAK, m.Unauthenticated = true, true }, false},
		{"one without the access right does not", func(m *Admission) { m.MayFollow = false }, false},
		{"nothing does where the mode is off", func(m *Admission) { m.Enabled = false }, false},
		{"our own packet does not", func(m *Admission) { m.Own = true }, false},
		{"mode 2 does not", func(m *Admission) { m.Mode = wire.ModePassive }, false},
		{"mode 3 does not", func(m *Admission) { m.Mode = wire.ModeClient }, false},
		{"mode 4 does not", func(m *Admission) { m.Mode = wire.ModeServer }, false},
		{"mode 0 does not", func(m *Admission) { m.Mode = 0 }, false},
	}
	for _, c := range cases {
		m := good
		c.spoil(&m)
		ok, why := MayMobilize(m)
		if ok != c.ok || ok == (why != "") {
			t.Errorf("%s: got %v %q, want %v", c.name, ok, why, c.ok)
		}
	}
}
