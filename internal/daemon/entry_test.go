package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

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

// pool makes an entry of some addresses, and members for as many as it wants.
func pool(count int, known ...string) *entry {
	e := newEntry(config.Source{Kind: config.Pool, Host: "pool.example", Count: count, Port: 123}, &usualPace)
	e.learn(addrs(known...), 0)
	for e.fill() {
	}
	return e
}

var nextTestID model.SourceID

// fill adds one member, as the registry would.
func (e *entry) fill() bool {
	if len(e.members) >= e.want() {
		return false
	}
	addr, ok := e.candidate(at(0), func(netip.Addr) bool { return false })
	if !ok {
		return false
	}
	e.members = append(e.members, member(addr))
	return true
}

func member(addr netip.Addr) *runner {
	nextTestID++
	r := &runner{id: nextTestID, remote: netip.AddrPortFrom(addr, 123)}
	r.latest.Store(&model.SourceStatus{Source: r.id, Reach: 0xff})
	return r
}

func at(d time.Duration) ntptime.Raw { return ntptime.Raw(time.Hour + d) }

func (e *entry) uses4() (list []string) {
	for _, m := range e.members {
		list = append(list, m.remote.Addr().String())
	}
	return list
}

func nobody(netip.Addr) bool { return false }

func TestAnEntryKeepsAsManyAsItWants(t *testing.T) {
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
		if got := pool(test.count, test.known...).uses4(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestAServerIsOneAddress(t *testing.T) {
	e := newEntry(config.Source{Kind: config.ServerSource, Host: "192.0.2.7"}, &usualPace)
	if !e.literal || e.want() != 1 || e.mayAsk(at(0)) {
		t.Errorf("got literal %v, want %d, may ask %v; want true, 1, false", e.literal, e.want(), e.mayAsk(at(0)))
	}
}

// Threats 22: working servers stay when the answer of the DNS is another.
func TestMembersStayWhenTheNameChanges(t *testing.T) {
	e := pool(2, "192.0.2.1", "192.0.2.2")
	e.learn(addrs("198.51.100.1", "198.51.100.2"), at(0))
	if r, why := e.replaceable(at(time.Hour)); r != nil {
		t.Errorf("got %v to be replaced (%s), want nobody", r.remote, why)
	}
	if got, want := e.uses4(), []string{"192.0.2.1", "192.0.2.2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnEmptyAnswerIsForgotten(t *testing.T) {
	e := pool(1, "192.0.2.1")
	e.learn(nil, at(0))
	if got, want := len(e.known), 1; got != want {
		t.Errorf("known: got %d, want %d", got, want)
	}
}

func TestTheDeadAreReplacedOneAtATime(t *testing.T) {
	e := pool(2, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	for _, m := range e.members {
		m.latest.Store(&model.SourceStatus{Unanswered: deadAfterPolls})
	}
	first, why := e.replaceable(at(0))
	if first == nil || why != "no answer" {
		t.Fatalf("got %v, %q, want a member without answer", first, why)
	}
	e.lastSwap = at(0)
	e.drop(first, at(0))
	e.fill()
	if r, _ := e.replaceable(at(usualPace.replaceAtMost - 1)); r != nil {
		t.Errorf("got %v replaced at once too, want a pause", r.remote)
	}
	if r, _ := e.replaceable(at(usualPace.replaceAtMost)); r == nil {
		t.Error("got nobody after the pause, want the second")
	}
	if got, want := e.uses4(), []string{"192.0.2.2", "192.0.2.3"}; !slices.Equal(got, want) {
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
		e := pool(1, "192.0.2.1", "192.0.2.2")
		e.source.Kind = test.kind
		e.falseRuns[e.members[0].id] = test.runs
		if r, _ := e.replaceable(at(0)); (r != nil) != test.want {
			t.Errorf("%s: got %v", test.name, r)
		}
	}
}

func TestSamplesAreCountedNotLooks(t *testing.T) {
	e := pool(1, "192.0.2.1")
	id := e.members[0].id
	lie := model.SourceReport{State: model.StateFalseticker, Samples: 5}
	for range 10 {
		e.countFalse(id, &lie)
	}
	if got, want := e.falseRuns[id], 1; got != want {
		t.Errorf("one sample looked at ten times: got %d, want %d", got, want)
	}
	lie.Samples++
	e.countFalse(id, &lie)
	if got, want := e.falseRuns[id], 2; got != want {
		t.Errorf("another sample: got %d, want %d", got, want)
	}
	e.countFalse(id, &model.SourceReport{State: model.StateCombined, Samples: 7})
	if got := e.falseRuns[id]; got != 0 {
		t.Errorf("after it agreed: got %d, want 0", got)
	}
}

func TestTheRetiredComeLast(t *testing.T) {
	e := pool(1, "192.0.2.1", "192.0.2.2")
	e.drop(e.members[0], at(0))
	if addr, _ := e.candidate(at(1), nobody); addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("got %v, want the one not tried yet", addr)
	}
	e.members = append(e.members, member(netip.MustParseAddr("192.0.2.2")))
	if addr, ok := e.candidate(at(1), nobody); ok {
		t.Errorf("got %v while another works, want none", addr)
	}
	e.drop(e.members[0], at(1))
	if addr, ok := e.candidate(at(2), nobody); !ok || addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("when all are retired: got %v, %v, want the first again", addr, ok)
	}
	if addr, _ := e.candidate(at(2*time.Hour), nobody); addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("after its time: got %v, want the first", addr)
	}
}

// RFC 5905 §7.4: after DENY or RSTR nothing more is sent to that server.
func TestRFC5905_7_4_TheDenyingAreNeverTakenAgain(t *testing.T) {
	e := pool(1, "192.0.2.1")
	e.members[0].latest.Store(&model.SourceStatus{Denied: true})
	e.drop(e.members[0], at(0))
	for _, later := range []time.Duration{0, time.Hour, 1000 * time.Hour} {
		if addr, ok := e.candidate(at(later), nobody); ok {
			t.Errorf("after %s: got %v, want none", later, addr)
		}
	}
}

func TestAnAddressInUseElsewhereIsNotTaken(t *testing.T) {
	e := pool(0, "192.0.2.1", "192.0.2.2")
	taken := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
	if addr, _ := e.candidate(at(0), taken); addr != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("got %v, want the other", addr)
	}
}

func TestNamesAreNotAskedTooOften(t *testing.T) {
	e := newEntry(config.Source{Kind: config.Pool, Host: "pool.example", Count: 2}, &usualPace)
	if !e.mayAsk(at(0)) || !e.wantsAsk(at(0)) {
		t.Error("a name never asked: got no, want yes")
	}
	e.asking, e.asks, e.askedAt = true, 1, at(0)
	if e.mayAsk(at(time.Hour)) {
		t.Error("while it is being asked: got yes, want no")
	}
	e.learn(addrs("192.0.2.1"), at(0))
	if !e.wantsAsk(at(1)) {
		t.Error("members are missing: got no, want yes")
	}
	if e.mayAsk(at(usualPace.resolveAtMost-1)) || !e.mayAsk(at(usualPace.resolveAtMost)) {
		t.Error("the pause is not kept")
	}
	e.fill()
	e.source.Count = 1
	if e.wantsAsk(at(usualPace.resolveAgain-1)) || !e.wantsAsk(at(usualPace.resolveAgain)) {
		t.Error("a full pool: want to be asked again after resolveAgain, not before")
	}
}
