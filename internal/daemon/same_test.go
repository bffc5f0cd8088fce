package daemon

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/resolve"
	"timeball/test/peers"
	"timeball/test/same"
)

// moduleRoot is where the module lies, as seen from here.
const moduleRoot = "../.."

// runnable is a configuration as a test can run it: on ports of its own, without files. What
// it means for associations and requests stays.
func runnable(from *config.Config) *config.Config {
	c := *from
	c.Control.Socket, c.Metrics, c.HardwareTimestamps = "", nil, nil
	c.Clock.Driver, c.Clock.StateDir, c.Clock.DriftFile, c.Clock.Leap.File = config.ClockVirtual, "", "", ""
	if c.Server != nil {
		s := *c.Server
		s.Listen, s.Workers, s.Ignore, s.NTS = []config.ListenAddress{{Addr: netip.MustParseAddr("127.0.0.1"), Smear: s.Listen[0].Smear}}, 1, nil, nil
		c.Server = &s
	}
	return &c
}

// sameMeaning are the settings that the daemon's parts have got.
func (w *world) sameMeaning() same.Got {
	made := same.Got{Policy: w.d.policy.Load()}
	w.lookAtSystem(func(l *systemLoop) { made.System = same.InForce(l.process) })
	if listeners := w.d.ports.Listeners(); len(listeners) > 0 {
		made.Smeared = reflect.ValueOf(listeners[0]).Elem().FieldByName("smeared").FieldByName("v").Uint() != 0
	}
	w.look(func(g *registry) {
		made.Associations = same.Members(g.set)
		for _, a := range made.Associations {
			r := g.runners[a.ID()]
			if r == nil {
				w.t.Errorf("%s: nothing runs", a.Config.Name)
				made.Associations = nil
				return
			}
			made.Processes = append(made.Processes, r.process)
		}
		for _, id := range slices.Sorted(maps.Keys(g.receivers)) {
			made.Clocks = append(made.Clocks, same.Clock{ID: id, Process: g.receivers[id].process})
		}
	})
	return made
}

// lookAtSystem runs a function on the system process's goroutine, after all that it was told.
func (w *world) lookAtSystem(f func(*systemLoop)) {
	done := make(chan struct{})
	w.d.system.inbox <- turn(func(l *systemLoop) { f(l); close(done) })
	<-done
}

type turn func(*systemLoop)

func (f turn) deliver(l *systemLoop, _ ntptime.Instant) { f(l) }

// The daemon and the simulator mean the same by every configuration that is shipped; see
// the test of this name in package simulate.
func TestSameSettingsInBothDrivers(t *testing.T) {
	for _, c := range same.Cases(t, moduleRoot) {
		t.Run(c.Name, func(t *testing.T) {
			cfg := runnable(c.Config)
			d, err := New(cfg, Options{
				Clock: newMoody(), Port: netip.MustParseAddrPort("127.0.0.1:0"),
				Lookup: addressOfEach(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if d.registry.timing != engine.UsualTiming {
				t.Errorf("got the timing %+v", d.registry.timing)
			}
			w := runWorld(t, d)
			w.sameAs(cfg)
		})
	}
}

// addressOfEach is a resolver that knows each name by an address of its own.
func addressOfEach() resolve.Lookup {
	var mu sync.Mutex
	names, next := map[string]netip.Addr{}, netip.MustParseAddr("198.18.0.1")
	return func(_ context.Context, name string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, known := names[name]; !known {
			names[name], next = next, next.Next()
		}
		return []netip.Addr{names[name]}, nil
	}
}

// sameAs compares the settings in force with a configuration's.
func (w *world) sameAs(cfg *config.Config) {
	listening := 0
	for _, s := range cfg.Sources {
		if s.Kind == config.BroadcastClient || s.Kind == config.MulticastClient {
			listening++
		}
	}
	until(w.t, "every line that names a machine has its association", func() (all bool) {
		w.look(func(g *registry) { all = len(g.set.Idle(1).Rows) == listening })
		return all
	})
	same.Compare(w.t, cfg, w.sameMeaning())
}

// A reload leaves the settings in force that a start would have brought.
func TestSameSettingsAfterReloadInBothDrivers(t *testing.T) {
	var f *file
	for _, text := range same.Reloads(t, moduleRoot) {
		text = strings.NewReplacer("server: {", "server: {listen: [\"127.0.0.1:0\"], workers: 1, ", "server:\n", "server:\n  listen: [\"127.0.0.1:0\"]\n  workers: 1\n").Replace(text)
		if f == nil {
			f = startFile(t, text, func(o *Options) { o.Lookup = addressOfEach() })
		} else {
			f.reload(text)
		}
		f.sameAs(f.d.config.Load())
	}
}

// The daemon and the simulator answer the same packets with the same replies, and mobilize
// the same associations.
func TestSameExchangesInBothDrivers(t *testing.T) {
	got, expected := map[string]string{}, same.Expected(t, moduleRoot, "exchanges.txt")
	var mu sync.Mutex
	t.Run("all", func(t *testing.T) {
		for _, e := range same.Exchanges(t) {
			t.Run(e.Name, func(t *testing.T) {
				t.Parallel()
				silent := answerOnce(t, nil)
				here := func(text string) string {
					return strings.NewReplacer("SERVER", "\""+silent.String()+"\"", "server: {", "server: {listen: [\"127.0.0.1:0\"], workers: 1, ").Replace(text)
				}
				f := startFile(t, here(e.Config), func(o *Options) { o.Port = netip.MustParseAddrPort("127.0.0.1:0") })
				text := same.Transcript(e, f.replies(&e, here, expected[e.Name]), f.mobilized())
				mu.Lock()
				defer mu.Unlock()
				got[e.Name] = text
			})
		}
	})
	same.Check(t, moduleRoot, "exchanges.txt", got)
}

// replies sends the packets and gives what comes back. A reply that is expected is waited
// for with patience, one that is not for a moment.
func (f *file) replies(e *same.Exchange, here func(string) string, expected map[string]string) (replies [][]byte) {
	if strings.Contains(e.Config, "local:") {
		until(f.t, "synchronized", f.synchronized)
	}
	known, loaded := uint64(0), 0 // as the last reload left it: what is known of, and how many were sent
	for i := range e.Packets {
		p := &e.Packets[i]
		if p.Reload != "" {
			f.settle(known + uint64(i-loaded))
			f.reload(here(p.Reload))
			known, loaded = f.known(), i
		}
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, net.UDPAddrFromAddrPort(f.d.Addresses()[0]))
		if err != nil {
			f.t.Fatal(err)
		}
		wait := patience
		if said := expected[p.Name]; said == "" || said == "silence" {
			wait = 50 * time.Millisecond
		}
		replies = append(replies, exchangeOn(f.t, conn, e.Request(i, replies), wait))
		conn.Close()
	}
	f.settle(known + uint64(len(replies)-loaded))
	return replies
}

// mobilized are the associations that operation has made.
func (w *world) mobilized() (list []*engine.Association) {
	w.look(func(g *registry) { list = g.set.Dynamic() })
	return list
}

// The daemon's and the simulator's clients make the same of what a server answers.
func TestSameDecisionsInBothDrivers(t *testing.T) {
	got, kept := map[string]string{}, same.Kept(t, moduleRoot, "decisions.txt")
	var mu sync.Mutex
	t.Run("all", func(t *testing.T) {
		for _, a := range same.AllAnswers(t) {
			t.Run(a.Name, func(t *testing.T) {
				t.Parallel()
				server := answerOnce(t, a.Replies)
				text := strings.NewReplacer("SERVER", "\""+server.String()+"\"", "server: {}", "server: {listen: [\"127.0.0.1:0\"], workers: 1}").Replace(a.Config)
				w := start(t, text, func(o *Options) { o.Port = netip.MustParseAddrPort("127.0.0.1:0") })
				decided, enough := "", time.Now().Add(patience/2)
				until(t, "all answers are judged, and what follows is done", func() bool {
					status := &model.SourceStatus{}
					w.look(func(g *registry) {
						if members := g.set.Targets("")[0].Members; len(members) == 0 {
							status = nil // it has ended
						} else if told := g.statusOf(members[0].ID()); told != nil {
							status = told
						}
					})
					decided = same.Decided(a, status)
					done := kept == nil || strings.TrimSpace(decided) == kept[a.Name] || time.Now().After(enough)
					return done && a.Judged(status) >= len(a.Replies)
				})
				mu.Lock()
				defer mu.Unlock()
				got[a.Name] = decided
			})
		}
	})
	same.Check(t, moduleRoot, "decisions.txt", got)
}

// The daemon's and the simulator's clients make the same of a server's certificate.
func TestSameKeysInBothDrivers(t *testing.T) {
	h, authority := peers.Here(t), peers.NewAuthority(t)
	ca := authority.Write(h)
	certificate, key := authority.Issue(h, "127.0.0.1")
	server := start(t, fmt.Sprintf("local: {stratum: 1, activate: 0s}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, nts: {listen: [\"127.0.0.1:0\"], certificate: %s, key: %s}}\n", certificate, key))
	until(t, "synchronized", server.synchronized)
	exchanges := server.d.nts.listeners[0].Addr().(*net.TCPAddr).Port
	closed := closedPort(t)
	got := map[string]string{}
	for _, e := range same.KeyExchanges() {
		t.Run(e.Name, func(t *testing.T) {
			port := exchanges
			if !e.Server {
				port = closed
			}
			text := strings.NewReplacer("SERVER", "127.0.0.1", "NTS", fmt.Sprintf("nts: {port: %d, ca: %s}", port, ca)).Replace(e.Config)
			w := start(t, text, func(o *Options) { o.Clock = clock.NewVirtual(clock.VirtualConfig{Offset: e.Behind}) })
			until(t, "the key exchange is over", func() (over bool) {
				w.look(func(g *registry) {
					if status := g.statusOf(g.set.Targets("")[0].Members[0].ID()); status != nil {
						got[e.Name], over = same.Keyed(status)
					}
				})
				return over
			})
		})
	}
	same.Check(t, moduleRoot, "keys.txt", got)
}

// closedPort is a TCP port that nobody listens at, and that nobody else gets meanwhile.
func closedPort(t *testing.T) int {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return bound.(*syscall.SockaddrInet4).Port
}

// answerOnce is a server that answers its first request.
func answerOnce(t *testing.T, replies []same.Reply) netip.AddrPort {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buffer := make([]byte, 1024)
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		at := ntptime.WallOf(time.Now()).Timestamp()
		for _, r := range replies {
			_, _ = conn.WriteToUDPAddrPort(r.Make(buffer[:n], at), from)
		}
	})
	t.Cleanup(func() { conn.Close(); wait.Wait() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}
