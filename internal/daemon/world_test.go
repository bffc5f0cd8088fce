package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"timeball/internal/clock"
	"timeball/internal/config"
	"timeball/internal/engine"
	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// patience bounds every wait of these tests; on a good day none takes a second.
const patience = 30 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settings parses a configuration.
func settings(t testing.TB, text string) *config.Config {
	t.Helper()
	cfg, problems := config.Parse("test.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatalf("configuration: %v\n%s", problems, text)
	}
	return cfg
}

// hurried is a timing at which pools can be watched.
var hurried = engine.Timing{
	Tend: 10 * time.Millisecond, Cooldown: time.Hour, ResolveAgain: 50 * time.Millisecond,
	ResolveAtMost: 20 * time.Millisecond, ReplaceAtMost: 100 * time.Millisecond,
}

// world is a daemon under test.
type world struct {
	t      testing.TB
	d      *Daemon
	clock  clock.Clock
	log    *observer.ObservedLogs
	cancel context.CancelFunc
	ended  chan error
}

// start runs a daemon with a virtual clock, hurried; it is stopped with the test.
func start(t testing.TB, text string, options ...func(*Options)) *world {
	t.Helper()
	w, err := tryStart(t, text, options...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryStart(t testing.TB, text string, options ...func(*Options)) (*world, error) {
	t.Helper()
	cfg := settings(t, text+"\ncontrol: {socket: "+socketOf(t)+"}\n")
	if cfg.Clock.StateDir == "/var/lib/timeball" { // the default: tests keep nothing there
		cfg.Clock.StateDir, cfg.Clock.DriftFile = "", ""
	}
	core, log := observer.New(zapcore.DebugLevel)
	opts := Options{Log: zap.New(core), Version: "test", Lookup: noNames}
	if cfg.Clock.Driver != config.ClockObserve {
		opts.Clock = clock.NewVirtual(clock.VirtualConfig{Offset: cfg.Clock.Virtual.Offset, Frequency: ntptime.Frequency(cfg.Clock.Virtual.Frequency)})
	}
	for _, o := range options {
		o(&opts)
	}
	d, err := New(cfg, opts)
	if err != nil {
		return nil, err
	}
	w := runWorld(t, d)
	w.log = log
	return w, nil
}

// runWorld runs a daemon, hurried; it is stopped with the test.
func runWorld(t testing.TB, d *Daemon) *world {
	d.registry.timing = hurried
	w := &world{t: t, d: d, clock: d.clock, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.ended <- d.Run(ctx) }()
	t.Cleanup(func() { w.stop() })
	<-d.running
	return w
}

// stop ends the daemon as SIGTERM would, and says how.
func (w *world) stop() error {
	w.cancel()
	select {
	case err := <-w.ended:
		w.ended <- err
		return err
	case <-time.After(patience):
		w.t.Error("the daemon does not stop")
		return nil
	}
}

var sockets atomic.Int64

// socketOf is a path for a control socket, short enough for one.
func socketOf(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, fmt.Sprintf("%d.sock", sockets.Add(1)))
}

func noNames(context.Context, string) ([]netip.Addr, error) {
	return nil, fmt.Errorf("this test has no names")
}

// report returns a source by its address, nil if there is none.
func (w *world) report(address netip.AddrPort) *model.SourceReport {
	s := w.d.Snapshot()
	for i := range s.Sources {
		if s.Sources[i].Address == address {
			return &s.Sources[i]
		}
	}
	return nil
}

func (w *world) synchronized() bool { return w.d.Snapshot().Synchronized }

// lines counts the lines of the log that hold a text, in message or fields.
func (w *world) lines(text string) int {
	count := 0
	for _, e := range w.log.All() {
		if strings.Contains(e.Message+fmt.Sprint(e.ContextMap()), text) {
			count++
		}
	}
	return count
}

// said counts the log's lines with a message.
func (w *world) said(message string) int {
	return w.log.FilterMessage(message).Len() + w.log.FilterField(zap.String("event", message)).Len()
}

// look runs a function on the registry's goroutine.
func (w *world) look(f func(*registry)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.d.registry.ask(ctx, f); err != nil {
		w.t.Fatal(err)
	}
}

// members are the addresses in use of the first entry.
func (w *world) members() (addrs []netip.Addr) {
	w.look(func(g *registry) {
		for _, a := range g.set.Targets("")[0].Members {
			addrs = append(addrs, a.Config.Remote.Addr())
		}
	})
	return addrs
}

// server is a scripted NTP server: right, lying, silent, or unwilling.
type server struct {
	addr   netip.AddrPort
	conn   *net.UDPConn
	offset atomic.Int64 // of its clock, ns
	silent atomic.Bool
	kiss   atomic.Pointer[string]
	key    atomic.Pointer[mac.Key]
	asked  atomic.Int64
	mu     sync.Mutex // held from when a request is taken until its answer is sent
}

// serveTime starts a server; port 0 takes a free one.
func serveTime(t testing.TB, addr string, port uint16) *server {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), port)))
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, conn)
}

// serveOn starts a server on a socket.
func serveOn(t testing.TB, conn *net.UDPConn) *server {
	s := &server{conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	var wait sync.WaitGroup
	wait.Go(s.run)
	t.Cleanup(func() { conn.Close(); wait.Wait() })
	return s
}

func (s *server) run() {
	buffer := make([]byte, 1024)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		at := time.Now()
		if n < 48 || buffer[0]&7 != 3 {
			continue
		}
		s.asked.Add(1)
		s.mu.Lock()
		if !s.silent.Load() {
			_, _ = s.conn.WriteToUDPAddrPort(s.reply(buffer[:48], at), from)
		}
		s.mu.Unlock()
	}
}

// reply is written without the program's own encoder: both would share its faults.
func (s *server) reply(request []byte, at time.Time) []byte {
	b := make([]byte, 48)
	b[0] = request[0]&0x38 | 4
	b[1], b[2], b[3] = 1, request[2], 0xec // stratum 1, poll, precision 2^-20
	copy(b[12:], "GPS\x00")
	if code := s.kiss.Load(); code != nil {
		b[0] |= 0xc0
		b[1] = 0
		copy(b[12:], *code)
	}
	at = at.Add(time.Duration(s.offset.Load()))
	putTime(b[16:], at.Add(-time.Second))
	copy(b[24:], request[40:48])
	putTime(b[32:], at)
	putTime(b[40:], time.Now().Add(time.Duration(s.offset.Load())))
	if key := s.key.Load(); key != nil {
		b = key.AppendMAC(b, 4)
	}
	return b
}

// putTime writes an NTP timestamp (RFC 5905 §6).
func putTime(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+2208988800))
	binary.BigEndian.PutUint32(b[4:], uint32(int64(t.Nanosecond())<<32/1e9))
}

// farm starts servers at several addresses on one port.
func farm(t testing.TB, addrs ...string) []*server {
	t.Helper()
	for range 20 {
		first := serveTime(t, addrs[0], 0)
		servers := []*server{first}
		for _, a := range addrs[1:] {
			conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), first.addr.Port())))
			if err != nil {
				break
			}
			servers = append(servers, serveOn(t, conn))
		}
		if len(servers) == len(addrs) {
			return servers
		}
	}
	t.Fatal("no port is free at all addresses")
	return nil
}

// silenceFor is how long silence is listened to.
const silenceFor = 300 * time.Millisecond

// exchange sends one packet and returns its answer, which must come.
func exchange(t testing.TB, to netip.AddrPort, packet []byte) []byte {
	t.Helper()
	conn := dial(t, to)
	defer conn.Close()
	return exchangeOn(t, conn, packet, patience)
}

// unanswered sends one packet that must draw no answer, and returns what comes back within
// a moment: nil for silence.
func unanswered(t testing.TB, to netip.AddrPort, packet []byte) []byte {
	t.Helper()
	conn := dial(t, to)
	defer conn.Close()
	return exchangeOn(t, conn, packet, silenceFor)
}

func exchangeOn(t testing.TB, conn *net.UDPConn, packet []byte, patience time.Duration) []byte {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		return nil
	}
	return buffer[:n]
}

// untilAnswer asks for the time, again and again, until a proper answer comes. All are asked
// from one socket: what has come late counts too.
func untilAnswer(t testing.TB, what string, conn *net.UDPConn, proper func(reply []byte) bool) {
	t.Helper()
	buffer := make([]byte, 2048)
	until(t, what, func() bool {
		_, _ = conn.Write(request(wire.ModeClient)) // refused, where nobody listens yet
		_ = conn.SetReadDeadline(time.Now().Add(silenceFor))
		n, err := conn.Read(buffer)
		return err == nil && proper(buffer[:n])
	})
}

// request is a packet of a mode with a transmit timestamp.
func request(mode wire.Mode) []byte {
	b := make([]byte, 48)
	b[0], b[1], b[2] = 4<<3|byte(mode), 2, 6
	putTime(b[16:], time.Now().Add(-time.Second))
	putTime(b[40:], time.Now())
	return b
}

// isTime reports whether a reply is one of a server.
func isTime(reply []byte) bool {
	return len(reply) == 48 && reply[0]&7 == byte(wire.ModeServer)
}

// mustServe checks that a proper request is answered with the time, as every test of the
// scoreboard ends.
func (w *world) mustServe() {
	w.t.Helper()
	for _, a := range w.d.Addresses() {
		mustAnswer(w.t, a)
	}
}

// mustAnswer checks that a proper request is answered at an address.
func mustAnswer(t testing.TB, address netip.AddrPort) {
	t.Helper()
	conn := dial(t, address)
	defer conn.Close()
	untilAnswer(t, "an answer at "+address.String(), conn, isTime)
}

const serverText = "server: {listen: [\"127.0.0.1:0\"], workers: 1}\n"
const localServer = "local: {stratum: 1}\n" + serverText

// sourceText is a client source of a server, polled as fast as may be.
func sourceText(addrs ...netip.AddrPort) string {
	text := "sources:\n"
	for _, a := range addrs {
		text += fmt.Sprintf("  - {server: \"%s\", min_poll: -4, max_poll: -4}\n", a)
	}
	return text
}

// dial opens a socket to an address.
func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
