package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// hostOf is a machine that listens at every address.
func hostOf() *Host {
	return &Host{Addresses: addrs("192.0.2.100"), Listening: []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, 123)}, Broadcasts: addrs("192.0.2.255"),
		InterfaceIndex: func(string) int { return 7 }}
}

// world is a set of associations under test, with what it wanted.
type world struct {
	t       *testing.T
	set     *Associations
	changes Changes
	told    map[model.SourceID]*model.SourceStatus
	now     ntptime.Raw
	dns     map[string][]netip.Addr
}

func settings(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, problems := config.Parse("test.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cfg
}

func setupOf(t *testing.T, text string) Setup {
	t.Helper()
	cfg := settings(t, text)
	keys, err := Keys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return Setup{Config: cfg, Keys: keys, Access: Policy(cfg, keys, hostOf(), 0).Access}
}

func begin(t *testing.T, text string) *world {
	t.Helper()
	w := &world{t: t, told: map[model.SourceID]*model.SourceStatus{}, now: at(0), dns: map[string][]netip.Addr{}}
	w.set = NewAssociations(setupOf(t, text), hostOf(), UsualTiming, func(id model.SourceID) *model.SourceStatus { return w.told[id] })
	w.set.Start(w.now, &w.changes)
	return w
}

// tend lets time pass and answers what is asked of the names.
func (w *world) tend(pass time.Duration) {
	w.now = w.now.Add(pass)
	w.set.Tend(w.now, nil, &w.changes)
	w.answer()
}

func (w *world) answer() {
	for len(w.changes.Resolve) > 0 {
		name := w.changes.Resolve[0]
		w.changes.Resolve = w.changes.Resolve[1:]
		if found := w.dns[name]; found != nil {
			w.set.Resolved(name, found, w.now, &w.changes)
		} else {
			w.set.NotResolved(name, "no such name", time.Minute, w.now, &w.changes)
		}
	}
}

// in use are the associations by name and address.
func (w *world) inUse() (list []string) {
	for _, a := range w.set.sorted() {
		list = append(list, a.Config.Name+" "+a.Config.Remote.Addr().String())
	}
	slices.Sort(list)
	return list
}

func (w *world) idle(name string) string {
	for _, r := range w.set.Idle(w.now).Rows {
		if r.Name == name {
			return r.State.String() + ": " + r.Reason
		}
	}
	return ""
}

const keyed = "keys: [{id: 10, type: sha1, text: ten-tenths}, {id: 11, type: sha1, text: eleven-ten}]\n"

// Who wins an address does not depend on which name answers first.
func TestTheWinnerOfAnAddressIsAlwaysTheSame(t *testing.T) {
	text := keyed + `
sources:
  - {pool: p.example, count: 2}
  - {server: a.example}
  - {server: b.example, key: 10}
`
	names := []string{"p.example", "a.example", "b.example"}
	found := map[string][]netip.Addr{"p.example": addrs("192.0.2.1", "192.0.2.2"), "a.example": addrs("192.0.2.1"), "b.example": addrs("192.0.2.1")}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		w := begin(t, text)
		for _, i := range order {
			w.set.Resolved(names[i], found[names[i]], w.now, &w.changes)
		}
		if got, want := w.inUse(), []string{"b.example 192.0.2.1", "p.example 192.0.2.2"}; !slices.Equal(got, want) {
			t.Errorf("order %v: got %v, want %v", order, got, want)
		}
		if got := w.idle("a.example"); !strings.Contains(got, "in use by server b.example") {
			t.Errorf("order %v: the loser's row: got %q", order, got)
		}
	}
}

// Threat 22: a pool's working member is not taken from it by another pool.
func TestPoolsLeaveEachOthersMembersAlone(t *testing.T) {
	w := begin(t, "sources: [{pool: a.example, count: 1}, {pool: b.example, count: 1}]")
	w.set.Resolved("b.example", addrs("192.0.2.1"), w.now, &w.changes)
	w.set.Resolved("a.example", addrs("192.0.2.1"), w.now, &w.changes)
	if got, want := w.inUse(), []string{"b.example 192.0.2.1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOwnAndBroadcastAddressesAreNoSources(t *testing.T) {
	w := begin(t, "server: {}\nsources: [{server: 192.0.2.100}, {server: 127.0.0.1}, {server: \"192.0.2.100:124\"}, {pool: p.example, count: 4}, {server: \"::1\"}]")
	w.set.Resolved("p.example", addrs("192.0.2.100", "192.0.2.255", "192.0.2.1"), w.now, &w.changes)
	if got, want := w.inUse(), []string{"192.0.2.100:124 192.0.2.100", "p.example 192.0.2.1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, name := range []string{"192.0.2.100", "127.0.0.1", "::1"} {
		if got := w.idle(name); !strings.Contains(got, "own address") {
			t.Errorf("%s: got %q, want that it is our own address", name, got)
		}
	}
	host := hostOf()
	host.Addresses = addrs("192.0.2.100", "192.0.2.1") // it has become ours
	w.set.SetHost(host)
	w.tend(UsualTiming.Tend)
	if got, want := w.inUse(), []string{"192.0.2.100:124 192.0.2.100"}; !slices.Equal(got, want) {
		t.Errorf("after the address has become ours: got %v, want %v", got, want)
	}
}

func TestRequireGoesOverToWhoHasTheAddress(t *testing.T) {
	w := begin(t, keyed+"sources: [{server: 192.0.2.1, key: 10}, {server: b.example, require: true}]")
	if w.set.sorted()[0].Options.Require {
		t.Error("before the name is resolved: got require")
	}
	w.changes.Reset()
	w.set.Resolved("b.example", addrs("192.0.2.1"), w.now, &w.changes)
	if len(w.changes.Options) != 1 || !w.changes.Options[0].Options.Require {
		t.Errorf("got %v, want the line with the address told of require", w.changes.Options)
	}
}

// packet is one from the network, signed if there is a key.
func (w *world) packet(mode wire.Mode, from, to string, key uint32) *model.Received {
	data := make([]byte, wire.HeaderSize)
	h := wire.Header{Version: 4, Mode: mode, Stratum: 1, Transmit: ntptime.Timestamp(1 << 62)}
	h.Put(data)
	if key != 0 {
		data = Key(w.set.Keys, key).AppendMAC(data, 4)
	}
	return &model.Received{Data: data, Remote: netip.MustParseAddrPort(from), Local: netip.MustParseAddr(to), Interface: 7}
}

// RFC 5905 §9.2: what becomes of each mode from somebody we have no association with.
func TestRFC5905_9_2_WhatBecomesOfAPacket(t *testing.T) {
	passive, listening := keyed+"symmetric: {passive: true, keys: [10]}\nserver: {}", keyed+"sources: [{broadcast_client: {interface: eth0}, key: 10}, {multicast_client: {group: 224.0.1.1}, key: 11}]"
	for _, test := range []struct {
		name, text string
		mode       wire.Mode
		from, to   string
		key        uint32
		want       Action
		kind       association.Kind
	}{
		{"an unknown peer", passive, wire.ModeActive, "192.0.2.1:123", "192.0.2.100", 0, Answer, 0},
		{"a peer with its key", passive, wire.ModeActive, "192.0.2.1:123", "192.0.2.100", 10, Deliver, association.KindPassive},
		{"a peer with another's key (threat 16)", passive, wire.ModeActive, "192.0.2.1:123", "192.0.2.100", 11, Answer, 0},
		{"a peer at our own address", passive, wire.ModeActive, "192.0.2.100:123", "192.0.2.100", 10, Answer, 0},
		{"a peer at the address of a source", passive + "\nsources: [{server: 192.0.2.1}]", wire.ModeActive, "192.0.2.1:123", "192.0.2.100", 10, Answer, 0},
		{"a peer that a line names", keyed + "sources: [{peer: 192.0.2.1, key: 10}]", wire.ModeActive, "192.0.2.1:123", "192.0.2.100", 0, Deliver, association.KindActive},
		{"its reply in mode 4", keyed + "sources: [{peer: 192.0.2.1, key: 10}]", wire.ModeServer, "192.0.2.1:123", "192.0.2.100", 0, Deliver, association.KindActive},
		{"mode 2 from an unknown peer", passive, wire.ModePassive, "192.0.2.1:123", "192.0.2.100", 10, Drop, 0},
		{"mode 4 from an unknown peer", passive, wire.ModeServer, "192.0.2.1:123", "192.0.2.100", 10, Drop, 0},
		{"a broadcast", listening, wire.ModeBroadcast, "192.0.2.1:123", "192.0.2.255", 10, Deliver, association.KindBroadcastClient},
		{"a broadcast with another's key (threat 16)", listening, wire.ModeBroadcast, "192.0.2.1:123", "192.0.2.255", 11, Drop, 0},
		{"a broadcast without a key", listening, wire.ModeBroadcast, "192.0.2.1:123", "192.0.2.255", 0, Drop, 0},
		{"a group's", listening, wire.ModeBroadcast, "192.0.2.1:123", "224.0.1.1", 11, Deliver, association.KindBroadcastClient},
		{"another group's", listening, wire.ModeBroadcast, "192.0.2.1:123", "224.0.1.2", 11, Drop, 0},
		{"a broadcast that nobody listens for", passive, wire.ModeBroadcast, "192.0.2.1:123", "192.0.2.255", 10, Drop, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := begin(t, test.text)
			d := w.set.Route(w.packet(test.mode, test.from, test.to, test.key), w.now, &w.changes)
			if d.Action != test.want {
				t.Fatalf("got action %d (%s), want %d", d.Action, d.Why, test.want)
			}
			if test.want == Deliver && d.Association.Config.Kind != test.kind {
				t.Errorf("got it delivered to a %s, want a %s", d.Association.Config.Kind, test.kind)
			}
			if test.want != Deliver && d.Why == "" {
				t.Error("got no reason, want one")
			}
		})
	}
}

// Threat 19: thousands of unknown peers mobilize no more than the limit.
func TestPassiveAssociationsAreLimited(t *testing.T) {
	w := begin(t, "server: {}\nsymmetric: {passive: true, unauthenticated: true, max_associations: 3}")
	for i := range 1000 {
		w.set.Route(w.packet(wire.ModeActive, fmt.Sprintf("198.51.100.7:%d", 1000+i), "192.0.2.100", 0), w.now, &w.changes)
	}
	if got := w.set.Count(association.KindPassive); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

// Threat 20: what an association that has ended believed last is remembered, and a server
// that answers nothing beside one that does is not listened to again for a while.
func TestWhatIsRememberedOfBroadcastServers(t *testing.T) {
	w := begin(t, keyed+"sources: [{broadcast_client: {interface: eth0}, key: 10}]")
	hear := func(from string) Decision {
		return w.set.Route(w.packet(wire.ModeBroadcast, from, "192.0.2.255", 10), w.now, &w.changes)
	}
	silent := hear("192.0.2.1:123").Association
	w.told[silent.ID()] = &model.SourceStatus{Gone: true, LastTransmit: 42}
	w.set.Ended(silent.ID(), w.now, &w.changes)
	again := hear("192.0.2.1:123").Association
	if again == nil || again.Config.LastTransmit != 42 || again.Config.MustAnswer {
		t.Fatalf("got %+v, want one that knows the newest timestamp and need not answer alone", again)
	}
	answering := hear("192.0.2.2:123").Association
	w.told[answering.ID()] = &model.SourceStatus{Calibrated: true}
	w.told[again.ID()] = &model.SourceStatus{Gone: true, LastTransmit: 43}
	w.set.Ended(again.ID(), w.now, &w.changes)
	if d := hear("192.0.2.1:123"); d.Action != Drop {
		t.Errorf("a server that answered no volley beside one that did: got %v, want it dropped", d)
	}
	if third := hear("192.0.2.3:123").Association; third == nil || !third.Config.MustAnswer {
		t.Errorf("got %+v, want one that must answer, as another does", third)
	}
	w.now = w.now.Add(silentFor)
	if d := hear("192.0.2.1:123"); d.Action != Deliver {
		t.Errorf("after its time: got %v, want it heard again", d)
	}
	l := w.set.listening[0]
	for i := range maxRemembered + 10 {
		l.silence(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 123), w.now)
	}
	if got := len(l.silent); got > maxRemembered {
		t.Errorf("remembered: got %d, want at most %d", got, maxRemembered)
	}
}

// A reload keeps what has not changed, and ends what the configuration would not mobilize.
func TestAReloadKeepsWhatIsTheSame(t *testing.T) {
	before := keyed + "server: {}\nsymmetric: {passive: true, keys: [10]}\nsources: [{server: 192.0.2.1}, {server: 192.0.2.2}]"
	after := keyed + "server: {}\nsymmetric: {passive: false}\nsources: [{server: 192.0.2.1}, {server: 192.0.2.3}]"
	w := begin(t, before)
	w.set.Route(w.packet(wire.ModeActive, "192.0.2.9:123", "192.0.2.100", 10), w.now, &w.changes)
	kept := w.set.sorted()[0].ID()
	w.changes.Reset()
	next := setupOf(t, after)
	plan := config.Diff(w.set.Config, next.Config)
	w.set.Reload(&plan, next, w.now, &w.changes)
	if slices.Contains(w.changes.Stop, kept) || len(w.changes.Stop) != 2 || len(w.changes.Start) != 1 {
		t.Errorf("got %d stopped and %d started, want the changed server and the passive association stopped, one started", len(w.changes.Stop), len(w.changes.Start))
	}
	if got, want := w.inUse(), []string{"192.0.2.1 192.0.2.1", "192.0.2.3 192.0.2.3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A row that waits for a broadcast says what it heard and refused.
func TestRefusedBroadcastsAreToldInTheRow(t *testing.T) {
	w := begin(t, keyed+"sources: [{broadcast_client: {interface: eth0}, key: 10}]")
	hear := func(key uint32) {
		w.set.Route(w.packet(wire.ModeBroadcast, "192.0.2.1:123", "192.0.2.255", key), w.now, &w.changes)
	}
	name := w.set.Idle(w.now).Rows[0].Name
	if got := w.idle(name); !strings.Contains(got, "no broadcast yet") {
		t.Errorf("before any: got %q", got)
	}
	hear(0)
	hear(0)
	for _, want := range []string{"heard and refused", "192.0.2.1", "not authenticated", "key 10"} {
		if got := w.idle(name); !strings.Contains(got, want) {
			t.Errorf("after two without a MAC: got %q, want %q in it", got, want)
		}
	}
	hear(10)
	if rows := w.set.Idle(w.now).Rows; len(rows) != 0 {
		t.Errorf("with the key: got %v, want the server followed", rows)
	}
}
