package daemon

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"timeball/internal/association"
	"timeball/internal/clock"
	"timeball/internal/mac"
	"timeball/internal/wire"
)

const keyText = "keys: [{id: 10, type: sha1, text: ten-tenths}, {id: 11, type: sha1, text: eleven-ten}]\n"

func testKey(t testing.TB, id uint32, secret string) *mac.Key {
	t.Helper()
	kind, err := mac.ParseType("sha1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := mac.NewKey(id, kind, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dynamics counts the associations mobilized by operation.
func (w *world) dynamics(kind association.Kind) (count int) {
	w.look(func(g *registry) { count = g.set.Count(kind) })
	return count
}

// known is of how many packets that came to the port it is known what has become of them.
func (w *world) known() uint64 {
	counted := w.d.ports.Counters()
	known := counted.Received()
	for _, l := range w.d.ports.Listeners() {
		known += l.SocketCounters().Stale
	}
	return known
}

// settle waits until it is known what has become of so many packets, in all, that came to the port.
func (w *world) settle(packets uint64) {
	w.t.Helper()
	until(w.t, fmt.Sprintf("it is known what has become of %d packets", packets), func() bool { return w.known() >= packets })
	w.look(func(*registry) {}) // the turn is over in which the last of them was counted
}

func TestWhoMayMobilizeAPassiveAssociation(t *testing.T) {
	good, other := testKey(t, 10, "ten-tenths"), testKey(t, 11, "eleven-ten")
	wrong := testKey(t, 10, "wrong")
	for _, test := range []struct {
		name, symmetric string
		key             *mac.Key
		want            int
	}{
		{"with its key", "{passive: true, keys: [10]}", good, 1},
		{"with another configured key (threats 16)", "{passive: true, keys: [10]}", other, 0},
		{"with the right id and a wrong secret", "{passive: true, keys: [10]}", wrong, 0},
		{"without a key where one is wanted", "{passive: true, keys: [10]}", nil, 0},
		{"without a key, said in words", "{passive: true, unauthenticated: true}", nil, 1},
		{"not asked for", "{passive: false}", nil, 0},
		{"none may be", "{passive: true, keys: [10], max_associations: 0}", good, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, localServer+keyText+"symmetric: "+test.symmetric+"\n")
			packet := request(wire.ModeActive)
			if test.key != nil {
				packet = test.key.AppendMAC(packet, 4)
			}
			conn := dial(t, w.d.Addresses()[0])
			defer conn.Close()
			_, _ = conn.Write(packet)
			_, _ = conn.Write(request(wire.ModeActive))
			w.settle(2)
			if got := w.dynamics(association.KindPassive); got != test.want {
				t.Errorf("passive associations: got %d, want %d", got, test.want)
			}
		})
	}
}

// Threats 19: thousands of unknown peers mobilize no more than the limit.
func TestPassiveAssociationsAreLimited(t *testing.T) {
	w := start(t, localServer+"symmetric: {passive: true, unauthenticated: true, max_associations: 3}\n")
	for range 40 {
		exchangeFast(t, w.d.Addresses()[0], request(wire.ModeActive)) // each from a port of its own
	}
	until(t, "the limit reached", func() bool { return w.dynamics(association.KindPassive) == 3 })
	w.settle(40)
	if got, want := w.dynamics(association.KindPassive), 3; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if got := len(w.d.Snapshot().Sources); got > 3 {
		t.Errorf("sources: got %d, want at most 3", got)
	}
}

// RFC 5905 §9.2 (FXMIT): an unknown peer's mode 1 gets one stateless answer in mode 2, or silence.
func TestAStrangersModeOneIsAnsweredWithoutState(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"allowed", localServer, 48},
		{"not allowed", "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, access: {server: [192.0.2.0/24]}}\n", 0},
	} {
		w := start(t, test.text)
		until(t, "synchronized", w.synchronized)
		ask := exchange
		if test.want == 0 {
			ask = unanswered
		}
		reply := ask(t, w.d.Addresses()[0], request(wire.ModeActive))
		if len(reply) != test.want {
			t.Errorf("%s: got %d bytes, want %d", test.name, len(reply), test.want)
		}
		if len(reply) > 0 && wire.Mode(reply[0]&7) != wire.ModePassive {
			t.Errorf("%s: got mode %d, want 2", test.name, reply[0]&7)
		}
		if got := w.dynamics(association.KindPassive); got != 0 {
			t.Errorf("%s: got %d associations, want 0", test.name, got)
		}
	}
}

// Threats 1 and 3: what is no request is met with silence.
func TestWhatIsNoRequestGetsSilence(t *testing.T) {
	w := start(t, localServer)
	until(t, "synchronized", w.synchronized)
	for _, mode := range []wire.Mode{0, wire.ModePassive, wire.ModeServer, wire.ModeBroadcast, 7} {
		if reply := unanswered(t, w.d.Addresses()[0], request(mode)); reply != nil {
			t.Errorf("mode %d: got %d bytes, want silence", mode, len(reply))
		}
	}
	w.mustServe()
}

// A symmetric pair: one has the time, and sets the other.
func TestASymmetricPair(t *testing.T) {
	passive := start(t, localServer+keyText+"symmetric: {passive: true, keys: [10]}\n")
	text := fmt.Sprintf("sources: [{peer: \"%s\", key: 10, min_poll: -4, max_poll: -4}]\nclock: {virtual: {offset: 50ms}}\n", passive.d.Addresses()[0])
	active := start(t, text+keyText, func(o *Options) { o.Port = netip.MustParseAddrPort("127.0.0.1:0") })
	until(t, "the active side synchronized", active.synchronized)
	until(t, "a passive association at the other end", func() bool { return passive.dynamics(association.KindPassive) == 1 })
	until(t, "the offset worked off", func() bool {
		s := active.d.Snapshot()
		return s.Updates > 5 && s.Offset.Abs() < 5*time.Millisecond
	})
	if got := passive.d.Snapshot().Stratum; got != 1 {
		t.Errorf("stratum of the one with the time: got %d, want 1", got)
	}
	active.stop()
	until(t, "the passive association gone when the other is silent", func() bool {
		return passive.dynamics(association.KindPassive) == 0
	})
	if passive.lines("demobilized") != 1 {
		t.Error("its end was not logged once")
	}
}

// broadcaster and its client, in the way of the lab: groups by sockets of their own.
func broadcastPair(t *testing.T, senderKey, clientKey string) (sender, client *world) {
	t.Helper()
	port := freeUDPPort(t)
	groups := func(addr string) func(*Options) {
		return func(o *Options) {
			o.Port, o.Groups = netip.AddrPortFrom(netip.MustParseAddr(addr), port), true
		}
	}
	sender = start(t, fmt.Sprintf("local: {stratum: 1}\n%sserver: {listen: [\"127.0.47.1:%d\"], workers: 1, broadcast: [{address: 127.255.255.255, port: %d, interface: lo, interval: 1s, %s}]}\n",
		keyText, port, port, senderKey), groups("127.0.47.1"))
	client = start(t, keyText+"sources: [{broadcast_client: {interface: lo}, "+clientKey+"}]\n", groups("127.0.47.2"))
	return sender, client
}

func freeUDPPort(t testing.TB) uint16 {
	t.Helper()
	return serveFor(t)
}

// serveFor takes a port and gives it back.
func serveFor(t testing.TB) uint16 {
	s := farm(t, "127.0.47.1", "127.0.47.2")
	port := s[0].addr.Port()
	for _, one := range s {
		one.conn.Close()
	}
	return port
}

func TestABroadcastIsFollowed(t *testing.T) {
	sender, client := broadcastPair(t, "key: 10", "key: 10")
	until(t, "the client synchronized", client.synchronized)
	until(t, "the sender tells of packets sent by lo", func() (told bool) {
		sender.look(func(g *registry) {
			states := g.senderStates()
			told = len(states) == 1 && states[0].Interface == "lo" && states[0].Sent > 0
		})
		return told
	})
	if got := sender.d.broadcastsSent(); got == 0 {
		t.Error("no broadcast was counted")
	}
}

// Threat 16: another key, and none at all, mobilize nothing.
func TestABroadcastOfAnotherKeyIsNot(t *testing.T) {
	for _, senderKey := range []string{"key: 11", "unauthenticated: true"} {
		sender, client := broadcastPair(t, senderKey, "key: 10")
		until(t, "some packets sent", func() bool { return sender.d.broadcastsSent() >= 2 })
		client.settle(2)
		if got := client.dynamics(association.KindBroadcastClient); got != 0 {
			t.Errorf("%s: got %d associations, want 0", senderKey, got)
		}
		sender.stop()
		client.stop()
	}
}

func TestAMissingInterfaceIsSaidOnce(t *testing.T) {
	w := start(t, "sources: [{multicast_client: {group: 224.0.1.1, interface: nowhere0}, unauthenticated: true}]\nserver: {listen: [\"127.0.0.1:0\"], silent_start: 0s}\n")
	until(t, "some turns", func() bool {
		turns := 0
		w.look(func(g *registry) {
			for range 5 {
				g.lookAtAddresses()
			}
			turns++
		})
		return turns > 0
	})
	if got := w.lines("not listening to a group yet"); got != 1 {
		t.Errorf("got %d lines, want 1", got)
	}
	w.mustServe()
}

// A sender whose interface is missing must not send by another one.
func TestASenderWaitsForItsInterface(t *testing.T) {
	w := start(t, "local: {stratum: 1}\nserver: {listen: [\"127.0.0.1:0\"], workers: 1, broadcast: [{address: 192.0.2.255, interface: nowhere0, interval: 1s, unauthenticated: true}]}\n")
	until(t, "synchronized", w.synchronized)
	_, err := w.senderRunner().sendFromPort(&association.Transmit{To: netip.MustParseAddrPort("127.0.0.1:9"), Data: request(wire.ModeBroadcast)})
	if err == nil {
		t.Error("got nil, want that the interface is not there")
	}
}

func (w *world) senderRunner() (r *runner) {
	w.look(func(g *registry) { r = g.runners[g.set.Senders()[0].ID()] })
	return r
}

var _ clock.Clock = (*clock.Virtual)(nil)
