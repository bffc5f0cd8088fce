// Package same holds the two drivers to one meaning. For every example configuration and
// every host of the scenarios, the settings by which the daemon's associations, system process
// and responder run are those that the engine gives for it, and so are the simulator's. The
// same packets, sent to both, get the same replies, which testdata/exchanges.txt keeps; and a
// client of either decides the same of what it is answered, as testdata/decisions.txt has it.
// `go test ./internal/simulate -run Same -update` writes them anew.
package same

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/reference"
	"timeball/internal/responder"
	"timeball/internal/system"
)

var update = flag.Bool("update", false, "write the expected texts anew")

// Case is one configuration.
type Case struct {
	Name   string
	Config *config.Config
}

// Cases are the example configurations and the hosts of all scenarios that both drivers
// can run; root is the module's.
func Cases(t *testing.T, root string) (cases []Case) {
	t.Helper()
	var files []string
	for _, pattern := range []string{"configs/*.yaml", "test/scenarios/behaviour/*.yaml", "test/scenarios/example/*.yaml", "test/same/testdata/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		var scenario struct {
			Hosts map[string]struct {
				Config yaml.Node
			}
		}
		if yaml.Unmarshal(data, &scenario) == nil && len(scenario.Hosts) > 0 {
			for _, host := range slices.Sorted(maps.Keys(scenario.Hosts)) {
				node := scenario.Hosts[host].Config
				if cfg, problems := config.ParseNode(file, &node); len(problems) == 0 {
					cases = append(cases, Case{name + "." + host, cfg})
				}
			}
			continue
		}
		if cfg, problems := config.Parse(file, data); len(problems) == 0 {
			cases = append(cases, Case{name, cfg})
		} else {
			t.Errorf("%s: %v", file, problems)
		}
	}
	if len(cases) < 30 {
		t.Fatalf("got %d configurations, want all that there are", len(cases))
	}
	return cases
}

// Got is what a driver has made of a configuration: the settings in force, and the
// processes that run.
type Got struct {
	System       System
	Policy       *responder.Policy
	Smeared      bool // the time served at the first listening address is
	Associations []*engine.Association
	Processes    []*engine.PeerProcess // of Associations
	Clocks       []Clock
}

// System is the system process as it runs.
type System struct {
	Config            system.Config
	Options           map[model.SourceID]system.SourceOptions
	Configured, InUse int // lines of `sources:`
}

// Clock is a reference clock as it runs.
type Clock struct {
	ID      model.SourceID
	Process *engine.ReferenceProcess
}

// inForce reads the settings by which a process runs, and not those that it was meant to
// have: they are its core's own.
func inForce[C any](process any, core string) C {
	return read[C](reflect.ValueOf(process).Elem().FieldByName(core).Elem().FieldByName("cfg"))
}

func read[T any](v reflect.Value) T { return *(*T)(v.Addr().UnsafePointer()) }

// InForce reads the settings by which a system process runs, where nothing else uses it.
func InForce(p *engine.SystemProcess) System {
	s := System{Config: inForce[system.Config](p, "core"), Options: map[model.SourceID]system.SourceOptions{}}
	sources := reflect.ValueOf(p).Elem().FieldByName("core").Elem().FieldByName("sources")
	for i := range sources.Len() {
		source := sources.Index(i).Elem()
		s.Options[model.SourceID(source.FieldByName("id").Uint())] = read[system.SourceOptions](source.FieldByName("opt"))
	}
	now := p.Snapshot(ntptime.Instant{})
	s.Configured, s.InUse = now.Configured, now.InUse
	return s
}

// Text writes the settings, without what is the machine's and not the configuration's:
// its addresses, interfaces, clock, and what an earlier run has left on its disk.
func (g Got) Text() string {
	var b strings.Builder
	s, p := g.System.Config, *g.Policy
	s.Precision, s.Addresses, s.Frequency, s.FrequencyError, s.PanicGateOpen = 0, nil, 0, 0, false
	s.Leap.Table, s.Leap.Expires = nil, 0
	p.LoopbackInterface, p.SilentUntilSynchronized = 0, false // the latter ends with time
	fmt.Fprintf(&b, "system%s\npolicy%s\n", fields(s), fields(p))
	fmt.Fprintf(&b, "%d of %d lines in use, smeared %t\n", g.System.InUse, g.System.Configured, g.Smeared)
	for i, a := range g.Associations {
		c := inForce[association.Config](g.Processes[i], "assoc")
		c.ID, c.InterfaceIndex, c.PivotFloor, c.Local = 0, 0, 0, netip.Addr{}
		c.Remote = netip.AddrPortFrom(netip.IPv4Unspecified(), c.Remote.Port())
		fmt.Fprintf(&b, "%s%s\n  options%s\n", c.Kind, fields(c), g.System.optionsOf(a.ID()))
	}
	for _, r := range g.Clocks {
		c := inForce[reference.Config](r.Process, "clock")
		c.ID = 0
		fmt.Fprintf(&b, "reference clock%s\n  options%s\n", fields(c), g.System.optionsOf(r.ID))
	}
	return b.String()
}

func (s *System) optionsOf(id model.SourceID) string {
	if options, known := s.Options[id]; known {
		return fields(options)
	}
	return ": no source of the system process"
}

// fields writes those fields of a struct that are not zero; of a key its id, of other
// things of the core that they are there.
func fields(v any) string {
	text := ""
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		f := value.Field(i)
		if f.IsZero() {
			continue
		}
		text += " " + value.Type().Field(i).Name
		switch x := f.Interface().(type) {
		case *mac.Key:
			text += fmt.Sprintf(":%d", x.ID())
		case *system.Local:
			text += ":{" + strings.TrimSpace(fields(*x)) + "}"
		case *responder.RateLimit:
			text += ":{" + strings.TrimSpace(fields(*x)) + "}"
		case system.LeapConfig:
			text += ":{" + strings.TrimSpace(fields(x)) + "}"
		default:
			if f.Kind() != reflect.Pointer && f.Kind() != reflect.Bool {
				text += fmt.Sprintf(":%v", x)
			}
		}
	}
	return text
}

// Want is what the engine makes of a configuration, on a host of which nothing is known.
func Want(t testing.TB, cfg *config.Config) string {
	t.Helper()
	keys, err := engine.Keys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var host engine.Host
	made := Got{Policy: engine.Policy(cfg, keys, &host, 0), Smeared: cfg.Server != nil && cfg.Server.Listen[0].Smear}
	process := engine.NewSystemProcess(engine.System(cfg, &host), nobody{}, ntptime.Instant{})
	var changes engine.Changes
	setup := engine.Setup{Config: cfg, Keys: keys, Access: made.Policy.Access}
	set := engine.NewAssociations(setup, &host, engine.UsualTiming, func(model.SourceID) *model.SourceStatus { return nil })
	const now = ntptime.Raw(1)
	set.Start(now, &changes)
	next := netip.MustParseAddr("198.18.0.1")
	for len(changes.Resolve) > 0 {
		name := changes.Resolve[0]
		changes.Resolve = changes.Resolve[1:]
		set.Resolved(name, []netip.Addr{next}, now, &changes)
		next = next.Next()
	}
	set.StartSenders(now, &changes)
	made.Associations = Members(set)
	for _, a := range made.Associations {
		if a.IsSource() {
			process.AddSource(ntptime.Instant{}, a.ID(), a.Options)
		}
		made.Processes = append(made.Processes, engine.NewPeerProcess(a.Config, nil, ntptime.Instant{}, rand.NewPCG(1, 2)))
	}
	for _, c := range changes.StartClock {
		process.AddSource(ntptime.Instant{}, c.ID(), c.Options)
		made.Clocks = append(made.Clocks, Clock{c.ID(), engine.NewReferenceProcess(c.Config, nil, ntptime.Instant{})})
	}
	process.SetIdle(set.Idle(now), ntptime.Instant{})
	made.System = InForce(process)
	return made.Text()
}

// Members are the associations of the lines of `sources:` and the senders.
func Members(set *engine.Associations) (list []*engine.Association) {
	for _, target := range set.Targets("") {
		list = append(list, target.Members...)
	}
	return append(list, set.Senders()...)
}

// nobody is a driver whose clock nobody reads.
type nobody struct{ engine.ClockDriver }

func (nobody) Publish(*model.Snapshot) {}

// Compare says in which lines a driver's settings are others than those of the engine. Those
// that have outlived a reload stand before the new ones.
func Compare(t testing.TB, cfg *config.Config, got Got) {
	t.Helper()
	sorted := func(text string) string { return strings.Join(slices.Sorted(strings.SplitSeq(text, "\n")), "\n") }
	if text, want := got.Text(), Want(t, cfg); sorted(text) != sorted(want) {
		t.Errorf("%s", differences(text, want))
	}
}

// Reloads are configurations as text, each to be reloaded in place of the one before.
func Reloads(t *testing.T, root string) (texts []string) {
	t.Helper()
	for _, name := range []string{"every-kind", "clocks", "every-kind"} {
		text, err := os.ReadFile(filepath.Join(root, "test/same/testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// Check compares texts by their names with those kept in a file of testdata; one that a
// driver can't make is left out.
func Check(t *testing.T, root, file string, got map[string]string) {
	t.Helper()
	file = filepath.Join(root, "test/same/testdata", file)
	names := slices.Sorted(maps.Keys(got))
	if *update {
		var b strings.Builder
		for _, name := range names {
			fmt.Fprintf(&b, "== %s\n%s", name, got[name])
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := sections(file)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	for _, name := range names {
		if text := strings.TrimSpace(got[name]); text != want[name] {
			t.Errorf("%s:\n%s", name, differences(text, want[name]))
		}
	}
}

// differences are the lines that only one of two texts has.
func differences(got, want string) string {
	has, wants := strings.Split(got, "\n"), strings.Split(want, "\n")
	text := ""
	for _, line := range has {
		if !slices.Contains(wants, line) {
			text += "got  " + line + "\n"
		}
	}
	for _, line := range wants {
		if !slices.Contains(has, line) {
			text += "want " + line + "\n"
		}
	}
	return text
}

// sections reads a file of testdata: the texts by their names.
func sections(file string) (map[string]string, error) {
	kept, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, section := range strings.Split("\n"+string(kept), "\n== ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		texts[name] = strings.TrimSpace(text)
	}
	return texts, nil
}

// Kept are the texts kept in a file of testdata, by their names; nil while they are written
// anew.
func Kept(t *testing.T, root, file string) map[string]string {
	t.Helper()
	texts, err := sections(filepath.Join(root, "test/same/testdata", file))
	if *update || err != nil {
		return nil
	}
	return texts
}

// Expected is what is said to each packet, by exchange and packet; nil while the expected
// texts are written anew.
func Expected(t *testing.T, root, file string) map[string]map[string]string {
	t.Helper()
	said := map[string]map[string]string{}
	for name, text := range Kept(t, root, file) {
		said[name] = map[string]string{}
		for _, line := range strings.Split(text, "\n") {
			packet, what, _ := strings.Cut(line, ": ")
			said[name][packet] = what
		}
	}
	return said
}
