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
	System       system.Config // as SystemInForce has read it
	Policy       *responder.Policy
	Associations []*engine.Association
	Processes    []*engine.PeerProcess // of Associations
}

// inForce reads the settings by which a process runs, and not those that it was meant to
// have: they are its core's own.
func inForce[C any](process any, core string) C {
	cfg := reflect.ValueOf(process).Elem().FieldByName(core).Elem().FieldByName("cfg")
	return *(*C)(cfg.Addr().UnsafePointer())
}

// SystemInForce reads the settings by which a system process runs, where nothing else uses it.
func SystemInForce(p *engine.SystemProcess) system.Config { return inForce[system.Config](p, "core") }

// Text writes the settings, without what is the machine's and not the configuration's:
// its addresses, interfaces, clock, and what an earlier run has left on its disk.
func (g Got) Text() string {
	var b strings.Builder
	s, p := g.System, *g.Policy
	s.Precision, s.Addresses, s.Frequency, s.FrequencyError, s.PanicGateOpen = 0, nil, 0, 0, false
	s.Leap.Table, s.Leap.Expires = nil, 0
	p.LoopbackInterface, p.SilentUntilSynchronized = 0, false // the latter ends with time
	fmt.Fprintf(&b, "system%s\npolicy%s\n", fields(s), fields(p))
	for i, a := range g.Associations {
		c := inForce[association.Config](g.Processes[i], "assoc")
		c.ID, c.InterfaceIndex, c.PivotFloor, c.Local = 0, 0, 0, netip.Addr{}
		c.Remote = netip.AddrPortFrom(netip.IPv4Unspecified(), c.Remote.Port())
		fmt.Fprintf(&b, "%s%s\n  options%s\n", c.Kind, fields(c), fields(a.Options))
	}
	return b.String()
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
func Want(t *testing.T, cfg *config.Config) string {
	t.Helper()
	keys, err := engine.Keys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var host engine.Host
	made := Got{
		System: SystemInForce(engine.NewSystemProcess(engine.System(cfg, &host), nobody{}, ntptime.Instant{})),
		Policy: engine.Policy(cfg, keys, &host, 0),
	}
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
	for _, target := range set.Targets("") {
		made.Associations = append(made.Associations, target.Members...)
	}
	made.Associations = append(made.Associations, set.Senders()...)
	for _, a := range made.Associations {
		made.Processes = append(made.Processes, engine.NewPeerProcess(a.Config, nil, ntptime.Instant{}, rand.NewPCG(1, 2)))
	}
	return made.Text()
}

// nobody is a driver whose clock nobody reads.
type nobody struct{ engine.ClockDriver }

func (nobody) Publish(*model.Snapshot) {}

// Compare says in which lines a driver's settings are others than those of the engine.
func Compare(t *testing.T, cfg *config.Config, got Got) {
	t.Helper()
	if text, want := got.Text(), Want(t, cfg); text != want {
		t.Errorf("%s", differences(text, want))
	}
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
