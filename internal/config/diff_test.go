package config

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDiffOfSources(t *testing.T) {
	tests := []struct {
		name, old, next string
		want            Plan
	}{
		{"nothing changes", "[{server: a}, {server: b}]", "[{server: a}, {server: b}]", Plan{Keep: []Kept{{0, 0}, {1, 1}}}},
		{"the order changes", "[{server: a}, {server: b}]", "[{server: b}, {server: a}]", Plan{Keep: []Kept{{1, 0}, {0, 1}}}},
		{"one more", "[{server: a}]", "[{server: b}, {server: a}]", Plan{Keep: []Kept{{0, 1}}, Start: []int{0}}},
		{"one less", "[{server: a}, {server: b}]", "[{server: b}]", Plan{Keep: []Kept{{1, 0}}, Stop: []int{0}}},
		{"one changes", "[{server: a}, {server: b}]", "[{server: a}, {server: b, min_poll: 4}]",
			Plan{Keep: []Kept{{0, 0}}, Stop: []int{1}, Start: []int{1}}},
		{"a written default is no change", "[{server: a}]", "[{server: \"a:123\", min_poll: 6, iburst: true}]", Plan{Keep: []Kept{{0, 0}}}},
		{"the same options of NTS", "[{server: a, nts: true}]", "[{server: a, nts: {port: 4460}}]", Plan{Keep: []Kept{{0, 0}}}},
		{"another NTS server", "[{server: a, nts: true}]", "[{server: a, nts: {server: ke}}]", Plan{Stop: []int{0}, Start: []int{0}}},
		{"another kind", "[{server: a}]", "[{pool: a}]", Plan{Stop: []int{0}, Start: []int{0}}},
	}
	for _, test := range tests {
		got := Diff(mustParse(t, "sources: "+test.old), mustParse(t, "sources: "+test.next))
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestDiffOfSections(t *testing.T) {
	tests := []struct{ old, next, changed, restart string }{
		{"{}", "{}", "", ""},
		{"{}", "server: {}", "server server.listen server.require server.client_log server.interleaved server.silent_start", ""},
		{"server: {}", "server: {silent_start: 0s}", "server.silent_start", ""},
		{"server: {}", "server: {silent_start: 10s}", "", ""},
		{"server: {}", "server: {listen: [\":123\"]}", "", ""},
		{"server: {}", "server: {listen: [\":124\"], workers: 2}", "server.listen server.workers", ""},
		{"server: {}", "server: {access: {peer: [\"::/0\"]}, rate_limit: {}}", "server.access server.rate_limit", ""},
		{"server: {rate_limit: {}}", "server: {rate_limit: {burst: 8}}", "", ""},
		{"server: {}", "server: {broadcast: [{interface: a}], interfaces: {ignore: [b]}}", "server.broadcast server.interfaces", ""},
		{"log: {level: info}", "log: {level: debug, format: json}", "log.level", "log.format"},
		{"{}", "metrics: {}\nlocal: {}", "local metrics", ""},
		{"{}", "clock: {driver: observe, panic: 5s}", "clock.panic", "clock.driver clock.drift_file clock.state_dir"},
		{"{}", "control: {socket: /run/timeball/timeball.sock}", "", ""},
		{"{}", "control: {mode: 0600}", "", "control"},
		{"{}", "keys: [{id: 1, type: md5, text: a}]", "keys", ""},
		{"keys: [{id: 1, type: md5, text: a}]", "keys: [{id: 1, type: md5, text: b}]", "keys", ""},
		{"keys: [{id: 1, type: md5, text: a}]", "keys: [{id: 1, type: md5, hex: 61}]", "", ""},
		{"{}", "selection: {min_sources: 2}\nsymmetric: {max_associations: 0}", "symmetric selection", ""},
	}
	for _, test := range tests {
		plan := Diff(mustParse(t, test.old), mustParse(t, test.next))
		if got := strings.Join(plan.Changed, " "); got != test.changed {
			t.Errorf("%s to %s: got %q changed, want %q", test.old, test.next, got, test.changed)
		}
		if got := strings.Join(plan.Restart, " "); got != test.restart {
			t.Errorf("%s to %s: got restart for %q, want %q", test.old, test.next, got, test.restart)
		}
		if plan.Empty() != (test.changed+test.restart == "") {
			t.Errorf("%s to %s: got empty %v", test.old, test.next, plan.Empty())
		}
		for _, section := range plan.Changed {
			if !plan.Has(section) || plan.Has("nothing") {
				t.Errorf("got no %q, want it", section)
			}
		}
	}
}

// TestDiffSeesEveryField changes every field of a full configuration, one at a time:
// none may be missed.
func TestDiffSeesEveryField(t *testing.T) {
	full := func() *Config {
		c, _, err := Load("testdata/good/interfaces.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := full()
	if plan := Diff(old, full()); !plan.Empty() {
		t.Fatalf("got %+v for the same file, want nothing", plan)
	}
	fields := 0
	for path := range changes(reflect.ValueOf(full()).Elem(), "") {
		if strings.HasSuffix(path, "Given") {
			continue // says how a value came about, and not what it is
		}
		next := full()
		changes(reflect.ValueOf(next).Elem(), "")[path]()
		if plan := Diff(old, next); plan.Empty() {
			t.Errorf("%s: got an empty plan, want the change", path)
		}
		fields++
	}
	if fields < 90 {
		t.Errorf("got %d fields, want at least 90: the walk misses some", fields)
	}
}

// changes gives for each leaf of a value the function that changes it.
func changes(v reflect.Value, path string) map[string]func() {
	all := map[string]func(){}
	add := func(more map[string]func()) {
		for k, f := range more {
			all[k] = f
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			add(changes(v.Elem(), path))
			all[path+"(nil)"] = func() { v.SetZero() }
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[netip.Addr]() {
			all[path] = func() { v.Set(reflect.ValueOf(netip.MustParseAddr("198.51.100.77"))) }
			break
		}
		if v.Type() == reflect.TypeFor[netip.Prefix]() {
			all[path] = func() { v.Set(reflect.ValueOf(netip.MustParsePrefix("198.51.100.0/24"))) }
			break
		}
		for i := range v.NumField() {
			add(changes(v.Field(i), path+"."+v.Type().Field(i).Name))
		}
	case reflect.Slice:
		all[path+"(longer)"] = func() { v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem())) }
		for i := range v.Len() {
			add(changes(v.Index(i), path+"[]"))
		}
	case reflect.String:
		all[path] = func() { v.SetString(v.String() + "x") }
	case reflect.Bool:
		all[path] = func() { v.SetBool(!v.Bool()) }
	case reflect.Float64:
		all[path] = func() { v.SetFloat(v.Float() + 1) }
	default:
		if v.CanInt() {
			all[path] = func() { v.SetInt(v.Int() ^ 1) }
		} else {
			all[path] = func() { v.SetUint(v.Uint() ^ 1) }
		}
	}
	return all
}

// TestDiffIsTotal makes random pairs of source lists; every old and every new source
// is accounted for exactly once.
func TestDiffIsTotal(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	list := func() []Source {
		sources := make([]Source, random.IntN(8))
		for i := range sources {
			sources[i] = Source{Kind: ServerSource, Host: string(rune('a' + random.IntN(5))), MaxDelay: time.Second}
		}
		return sources
	}
	for range 2000 {
		old, next := &Config{Sources: list()}, &Config{Sources: list()}
		plan := Diff(old, next)
		olds, nexts := slices.Clone(plan.Stop), slices.Clone(plan.Start)
		for _, kept := range plan.Keep {
			olds, nexts = append(olds, kept.Old), append(nexts, kept.New)
			if !reflect.DeepEqual(old.Sources[kept.Old], next.Sources[kept.New]) {
				t.Fatalf("got %v kept, want equal sources", kept)
			}
		}
		slices.Sort(olds)
		slices.Sort(nexts)
		for i, got := range olds {
			if got != i {
				t.Fatalf("got old %v, want each once", olds)
			}
		}
		for i, got := range nexts {
			if got != i {
				t.Fatalf("got new %v, want each once", nexts)
			}
		}
		if len(olds) != len(old.Sources) || len(nexts) != len(next.Sources) {
			t.Fatalf("got %d and %d accounted for, want %d and %d", len(olds), len(nexts), len(old.Sources), len(next.Sources))
		}
	}
}

func TestTheLocalClockWaitsForSomebodyOnly(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"local: {activate: 1h}":                         0,
		"local: {activate: 1h}\nsources: [{server: a}]": time.Hour,
		"local: {activate: 1h}\nserver: {}\nsymmetric: {passive: true, unauthenticated: true}": time.Hour,
		"local: {}\nsources: [{server: a}]":                                                    0,
		"sources: [{server: a}]":                                                               0,
	} {
		if got := mustParse(t, text).LocalActivate(); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
