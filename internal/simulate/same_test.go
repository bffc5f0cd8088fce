package simulate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/scenario"
	"timeball/test/same"
)

// moduleRoot is where the module lies, as seen from here.
const moduleRoot = "../.."

// The daemon and the simulator mean the same by every configuration that is shipped; see
// the test of this name in package daemon.
func TestSameSettingsInBothDrivers(t *testing.T) {
	for _, c := range same.Cases(t, moduleRoot) {
		t.Run(c.Name, func(t *testing.T) {
			cfg := *c.Config
			cfg.Clock.Leap.File = ""
			if cfg.Server != nil {
				server := *cfg.Server
				server.NTS = nil
				cfg.Server = &server
			}
			w := worldOf(&cfg)
			same.Compare(t, &cfg, meaningOf(t, w.machines[0]))
		})
	}
}

// worldOf has a host of the first configuration, and one for each name that any has.
func worldOf(configs ...*config.Config) *world {
	s := &scenario.Scenario{Duration: time.Second, Runs: 1, Hosts: []scenario.Host{{Name: "this host", Config: configs[0]}}}
	known := map[string]bool{}
	for _, cfg := range configs {
		for _, source := range cfg.Sources {
			if source.Host != "" && !known[source.Host] {
				known[source.Host] = true
				s.Hosts = append(s.Hosts, scenario.Host{Name: source.Host, Config: &config.Config{}})
			}
		}
	}
	return newWorld(s, 1, false, boot)
}

// meaningOf are the settings that a machine's core runs by.
func meaningOf(t *testing.T, m *machine) same.Got {
	core := m.program.(*core)
	made := same.Got{System: same.InForce(core.system), Policy: engine.Policy(core.set.Config, core.keys, m.engineHost(), 0)}
	if core.server != nil {
		made.Policy, made.Smeared = core.server.env.Policy, core.server.env.Smeared
	}
	made.Associations = same.Members(core.set)
	for _, a := range made.Associations {
		member := core.member(a.ID())
		if member == nil {
			t.Fatalf("%s: nothing runs", a.Config.Name)
		}
		made.Processes = append(made.Processes, member.process)
	}
	for _, r := range core.clocks {
		made.Clocks = append(made.Clocks, same.Clock{ID: r.ID(), Process: r.process})
	}
	return made
}

// A reload leaves the settings in force that a start would have brought.
func TestSameSettingsAfterReloadInBothDrivers(t *testing.T) {
	var configs []*config.Config
	for _, text := range same.Reloads(t, moduleRoot) {
		configs = append(configs, configOf(t, text))
	}
	m := worldOf(configs...).machines[0]
	for i, cfg := range configs {
		if i > 0 {
			m.event(&scenario.Event{Kind: scenario.Reload, Config: cfg})
		}
		same.Compare(t, cfg, meaningOf(t, m))
	}
}

// prober sends packets, each from a port of its own, and keeps what comes back.
type prober struct {
	idle
	t *testing.T
	m *machine
	same.Exchange
	sent    int
	next    ntptime.Raw
	replies [][]byte
}

const firstProbePort = 20000

func (p *prober) deadline() ntptime.Raw {
	if p.sent == len(p.Packets) {
		return ntptime.Never
	}
	return p.next
}

func (p *prober) timer(now ntptime.Instant) {
	if text := p.Packets[p.sent].Reload; text != "" {
		p.m.world.machines[0].event(&scenario.Event{Kind: scenario.Reload, Config: configOf(p.t, text)})
	}
	p.m.send(firstProbePort+uint16(p.sent), netip.AddrPortFrom(firstAddress, ntpPort), p.Request(p.sent, p.replies))
	p.sent++
	p.next = now.Raw.Add(10 * time.Millisecond)
}

func (p *prober) receive(rx *packet, _ ntptime.Instant) bool {
	if i := int(rx.to.Port()) - firstProbePort; i >= 0 && i < len(p.replies) && p.replies[i] == nil {
		p.replies[i] = slices.Clone(rx.data)
	}
	return true
}

// configOf reads a configuration, in which SERVER is the machine called there.
func configOf(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, problems := config.Parse("test.yaml", []byte(strings.ReplaceAll(text, "SERVER", "there")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cfg
}

// coreBeside runs a configuration for 10 s beside a program on a machine called there.
func coreBeside(t *testing.T, text string, other func(m *machine) program) *core {
	t.Helper()
	return two(scenario.Host{Name: "here", Config: configOf(t, text)}, &config.Config{}, func(m *machine) program {
		if m.index == 0 {
			return boot(m)
		}
		return other(m)
	})
}

// two runs a host for 10 s beside one called there, and gives the first one's core.
func two(here scenario.Host, there *config.Config, boot func(m *machine) program) *core {
	delay := time.Millisecond
	path := scenario.Path{Delay: &delay}
	s := &scenario.Scenario{Duration: 10 * time.Second, Runs: 1,
		Start: ntptime.WallOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		Hosts: []scenario.Host{here, {Name: "there", Config: there}},
		Links: []scenario.Link{{Between: [2]string{"here", "there"}, Forward: path, Backward: path}}}
	w := newWorld(s, 1, false, boot)
	w.run(nil)
	return w.machines[0].program.(*core)
}

// The daemon and the simulator answer the same packets with the same replies, and mobilize
// the same associations.
func TestSameExchangesInBothDrivers(t *testing.T) {
	got := map[string]string{}
	for _, e := range same.Exchanges(t) {
		t.Run(e.Name, func(t *testing.T) {
			probe := &prober{t: t, Exchange: e, replies: make([][]byte, len(e.Packets))}
			here := coreBeside(t, e.Config, func(m *machine) program {
				probe.m, probe.next = m, m.read().Raw.Add(2*time.Second)
				return probe
			})
			got[e.Name] = same.Transcript(e, probe.replies, here.set.Dynamic())
		})
	}
	same.Check(t, moduleRoot, "exchanges.txt", got)
}

// answerer is a server that answers its first request.
type answerer struct {
	idle
	m       *machine
	replies []same.Reply
}

func (a *answerer) receive(*packet, ntptime.Instant) bool { return false }

func (a *answerer) serve(p *packet, now ntptime.Instant) {
	for _, r := range a.replies {
		a.m.send(p.to.Port(), p.from, r.Make(p.data, now.Timestamp()))
	}
	a.replies = nil
}

// The daemon's and the simulator's clients make the same of what a server answers.
func TestSameDecisionsInBothDrivers(t *testing.T) {
	got := map[string]string{}
	for _, a := range same.AllAnswers(t) {
		t.Run(a.Name, func(t *testing.T) {
			here := coreBeside(t, a.Config, func(m *machine) program {
				return &answerer{m: m, replies: a.Replies}
			})
			var status *model.SourceStatus
			for _, member := range here.set.Targets("")[0].Members {
				status = here.statusOf(member.ID())
			}
			got[a.Name] = same.Decided(a, status)
		})
	}
	same.Check(t, moduleRoot, "decisions.txt", got)
}

// The daemon's and the simulator's clients make the same of a server's certificate.
func TestSameKeysInBothDrivers(t *testing.T) {
	got := map[string]string{}
	for _, e := range same.KeyExchanges() {
		serves := "local: {stratum: 1, activate: 0s}\nserver: {}\n"
		if e.Server {
			serves = strings.Replace(serves, "{}", "{nts: {certificate: cert.pem, key: key.pem}}", 1)
		}
		here := scenario.Host{Name: "here", Config: configOf(t, strings.Replace(e.Config, "NTS", "nts: true", 1))}
		here.Clock.Offset = e.Behind
		core := two(here, configOf(t, serves), boot)
		status := core.statusOf(core.set.Targets("")[0].Members[0].ID())
		got[e.Name], _ = same.Keyed(status)
	}
	same.Check(t, moduleRoot, "keys.txt", got)
}
