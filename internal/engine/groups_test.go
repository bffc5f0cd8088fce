package engine

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/association"
	"timeball/internal/config"
	"timeball/internal/model"
	"timeball/internal/ntptime"
)

func addrs(texts ...string) (list []netip.Addr) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

// told is what a test's associations have told of themselves.
var told = map[model.SourceID]*model.SourceStatus{}

func statusOf(id model.SourceID) *model.SourceStatus { return told[id] }

// pool makes a group of some addresses, and members for as many as it wants.
func pool(count int, known ...string) *sourceGroup {
	g := newSourceGroup(1, config.Source{Kind: config.Pool, Host: "pool.example", Count: count, Port: 123}, &UsualTiming)
	g.learn(addrs(known...), 0)
	for g.fill() {
	}
	return g
}

var nextTestID model.SourceID

// fill adds one member, as the set of associations would.
func (g *sourceGroup) fill() bool {
	if len(g.members) >= g.want() {
		return false
	}
	addr, ok := g.candidate(at(0), nobody)
	if !ok {
		return false
	}
	g.members = append(g.members, member(addr))
	return true
}

func member(addr netip.Addr) *Association {
	nextTestID++
	told[nextTestID] = &model.SourceStatus{Source: nextTestID, Reach: 0xff}
	return &Association{Config: association.Config{ID: nextTestID, Remote: netip.AddrPortFrom(addr, 123)}}
}

func at(d time.Duration) ntptime.Raw { return ntptime.Raw(time.Hour + d) }

func (g *sourceGroup) addresses() (list []string) {
	for _, m := range g.members {
		list = append(list, m.Config.Remote.Addr().String())
	}
	return list
}

func nobody(netip.Addr) bool { return false }

func TestAGroupKeepsAsManyAsItWants(t *testing.T) {
	for _, test := range []struct {
		name  string
		count int
		known []string
		want  []string
	}{
		{"the first of many", 2, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []string{"192.0.2.1", "192.0.2.2"}},
		{"all of few", 4, []string{"192.0.2.1"}, []string{"192.0.2.1"}},
		{"none of none", 4, nil, nil},
	} {
		if got := pool(test.count, test.known...).addresses(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestAServerIsOneAddress(t *testing.T) {
	g := newSourceGroup(1, config.Source{Kind: config.ServerSource, Host: "192.0.2.7"}, &UsualTiming)
	if !g.literal || g.want() != 1 || g.mayAsk(at(0)) {
		t.Errorf("got literal %v, want %d, may ask %v; want true, 1, false", g.literal, g.want(), g.mayAsk(at(0)))
	}
}

// Threat 22: working servers stay when the answer of the DNS is another.
func TestMembersStayWhenTheNameChanges(t *testing.T) {
	g := pool(2, "192.0.2.1", "192.0.2.2")
	g.learn(addrs("198.51.100.1", "198.51.100.2"), at(0))
	if r, why := g.replaceable(at(time.Hour), statusOf); r != nil {
		t.Errorf("got %v to be replaced (%s), want nobody", r.Config.Remote, why)
	}
	if got, want := g.addresses(), []string{"192.0.2.1", "192.0.2.2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnEmptyAnswerIsForgotten(t *testing.T) {
	g := pool(1, "192.0.2.1")
	g.learn(nil, at(0))
	if got, want := len(g.known), 1; got != want {
		t.Errorf("known: got %d, want %d", got, want)
	}
}

func TestTheDeadAreReplacedOneAtATime(t *testing.T) {
	g := pool(2, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	for _, m := range g.members {
		told[m.ID()] = &model.SourceStatus{Unanswered: deadAfterPolls}
	}
	first, why := g.replaceable(at(0), statusOf)
	if first == nil || why != "no answer" {
		t.Fatalf("got %v, %q, want a member without answer", first, why)
	}
	g.lastSwap = at(0)
	g.drop(first, told[first.ID()], at(0))
	g.fill()
	if r, _ := g.replaceable(at(UsualTiming.ReplaceAtMost-1), statusOf); r != nil {
		t.Errorf("got %v replaced at once too, want a pause", r.Config.Remote)
	}
	if r, _ := g.replaceable(at(UsualTiming.ReplaceAtMost), statusOf); r == nil {
		t.Error("got nobody after the pause, want the second")
	}
	if got, want := g.addresses(), []string{"192.0.2.2", "192.0.2.3"}; !slices.Equal(got, want) {
		t.Errorf("members: got %v, want %v", got, want)
	}
}

func TestLiarsAreReplacedInPoolsOnly(t *testing.T) {
	for _, test := range []struct {
		name string
		kind config.SourceKind
		runs int
		want bool
	}{
		{"a pool's liar goes", config.Pool, lyingAfterPolls, true},
		{"not at the first lie", config.Pool, lyingAfterPolls - 1, false},
		{"a server that was named stays", config.ServerSource, lyingAfterPolls, false},
	} {
		g := pool(1, "192.0.2.1", "192.0.2.2")
		g.source.Kind = test.kind
		g.falsetickers[g.members[0].ID()] = falseticker{run: test.runs}
		if r, _ := g.replaceable(at(0), statusOf); (r != nil) != test.want {
			t.Errorf("%s: got %v", test.name, r)
		}
	}
}

func TestSamplesAreCountedNotLooks(t *testing.T) {
	g := pool(1, "192.0.2.1")
	id := g.members[0].ID()
	lie := model.SourceReport{State: model.StateFalseticker, Samples: 5}
	for range 10 {
		g.countFalse(id, &lie)
	}
	if got, want := g.falsetickers[id].run, 1; got != want {
		t.Errorf("one sample looked at ten times: got %d, want %d", got, want)
	}
	lie.Samples++
	g.countFalse(id, &lie)
	if got, want := g.falsetickers[id].run, 2; got != want {
		t.Errorf("another sample: got %d, want %d", got, want)
	}
	g.countFalse(id, &model.SourceReport{State: model.StateCombined, Samples: 7})
	if got := g.falsetickers[id].run; got != 0 {
		t.Errorf("after it agreed: got %d, want 0", got)
	}
}

func TestAddressesInCooldownComeLast(t *testing.T) {
	g := pool(1, "192.0.2.1", "192.0.2.2")
	g.drop(g.members[0], told[g.members[0].ID()], at(0))
	if addr, _ := g.candidate(at(1), nobody); addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("got %v, want the one not tried yet", addr)
	}
	g.members = append(g.members, member(netip.MustParseAddr("192.0.2.2")))
	if addr, ok := g.candidate(at(1), nobody); ok {
		t.Errorf("got %v while another works, want none", addr)
	}
	g.drop(g.members[0], told[g.members[0].ID()], at(1))
	if addr, ok := g.candidate(at(2), nobody); !ok || addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("when all are in cooldown: got %v, %v, want the first again", addr, ok)
	}
	if addr, _ := g.candidate(at(2*time.Hour), nobody); addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("after its time: got %v, want the first", addr)
	}
}

// RFC 5905 §7.4: after DENY or RSTR nothing more is sent to that server.
func TestRFC5905_7_4_TheDenyingAreNeverTakenAgain(t *testing.T) {
	g := pool(1, "192.0.2.1")
	told[g.members[0].ID()] = &model.SourceStatus{Denied: true}
	g.drop(g.members[0], told[g.members[0].ID()], at(0))
	for _, later := range []time.Duration{0, time.Hour, 1000 * time.Hour} {
		if addr, ok := g.candidate(at(later), nobody); ok {
			t.Errorf("after %s: got %v, want none", later, addr)
		}
	}
}

func TestAnAddressInUseElsewhereIsNotTaken(t *testing.T) {
	g := pool(0, "192.0.2.1", "192.0.2.2")
	taken := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
	if addr, _ := g.candidate(at(0), taken); addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("got %v, want the other", addr)
	}
}

func TestNamesAreNotAskedTooOften(t *testing.T) {
	g := newSourceGroup(1, config.Source{Kind: config.Pool, Host: "pool.example", Count: 2}, &UsualTiming)
	if !g.mayAsk(at(0)) || !g.wantsAsk(at(0)) {
		t.Error("a name never asked: got no, want yes")
	}
	g.asking, g.asks, g.askedAt = true, 1, at(0)
	if g.mayAsk(at(time.Hour)) {
		t.Error("while it is being asked: got yes, want no")
	}
	g.learn(addrs("192.0.2.1"), at(0))
	if !g.wantsAsk(at(1)) {
		t.Error("members are missing: got no, want yes")
	}
	if g.mayAsk(at(UsualTiming.ResolveAtMost-1)) || !g.mayAsk(at(UsualTiming.ResolveAtMost)) {
		t.Error("the pause is not kept")
	}
	g.fill()
	g.source.Count = 1
	if g.wantsAsk(at(UsualTiming.ResolveAgain-1)) || !g.wantsAsk(at(UsualTiming.ResolveAgain)) {
		t.Error("a full pool: want to be asked again after ResolveAgain, not before")
	}
}
