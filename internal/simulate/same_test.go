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
			s := &scenario.Scenario{Duration: time.Second, Runs: 1, Hosts: []scenario.Host{{Name: "this host", Config: &cfg}}}
			known := map[string]bool{}
			for _, source := range cfg.Sources {
				if source.Host != "" && !known[source.Host] {
					known[source.Host] = true
					s.Hosts = append(s.Hosts, scenario.Host{Name: source.Host, Config: &config.Config{}})
				}
			}
			w := newWorld(s, 1, false, boot)
			core := w.machines[0].program.(*core)
			made := same.Got{
				System: same.SystemInForce(core.system),
				Policy: engine.Policy(&cfg, core.keys, w.machines[0].engineHost(), 0),
			}
			if core.server != nil {
				made.Policy = core.server.env.Policy
			}
			for _, target := range core.set.Targets("") {
				made.Associations = append(made.Associations, target.Members...)
			}
			made.Associations = append(made.Associations, core.set.Senders()...)
			for _, a := range made.Associations {
				member := core.member(a.ID())
				if member == nil {
					t.Fatalf("%s: nothing runs", a.Config.Name)
				}
				made.Processes = append(made.Processes, member.process)
			}
			same.Compare(t, &cfg, made)
		})
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
	delay := time.Millisecond
	path := scenario.Path{Delay: &delay}
	s := &scenario.Scenario{Duration: 10 * time.Second, Runs: 1,
		Hosts: []scenario.Host{{Name: "here", Config: configOf(t, text)}, {Name: "there", Config: &config.Config{}}},
		Links: []scenario.Link{{Between: [2]string{"here", "there"}, Forward: path, Backward: path}}}
	w := newWorld(s, 1, false, func(m *machine) program {
		if m.index == 0 {
			return boot(m)
		}
		return other(m)
	})
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
