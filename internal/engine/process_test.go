package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"timeball/internal/association"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/system"
	"timeball/internal/wire"
)

// recorder is a driver that writes down in which order it is called.
type recorder struct {
	said   []string
	now    ntptime.Instant
	refuse string // why nothing is sent
}

func (r *recorder) say(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Apply(c model.Correction) model.Applied {
	r.say("apply %v", c.Step != 0)
	before := r.now.Wall
	r.now.Wall = r.now.Wall.Add(c.Step)
	return model.Applied{At: r.now, BeforeWall: before, Correction: c, Rate: c.Frequency + c.Slew}
}
func (r *recorder) ClockChanged(ntptime.Instant) { r.say("changed") }
func (r *recorder) Hint(model.Hint)              { r.say("hint") }
func (r *recorder) Record(e model.Event)         { r.say("event %s", e.Kind) }
func (r *recorder) CloseGate()                   { r.say("gate") }
func (r *recorder) Publish(*model.Snapshot)      { r.say("publish") }
func (r *recorder) Sample(*model.Sample)         { r.say("sample") }
func (r *recorder) Status(s *model.SourceStatus) { r.say("status %d %q", s.Sent, s.SendError) }
func (r *recorder) Ended()                       { r.say("ended") }
func (r *recorder) ExchangeKeys()                { r.say("keys") }
func (r *recorder) Send(t *association.Transmit) (ntptime.Instant, model.TimestampKind, error) {
	r.say("send")
	if r.refuse != "" {
		return ntptime.Instant{}, 0, errors.New(r.refuse)
	}
	return r.now, model.TimestampKernel, nil
}

type fixed uint64

func (f fixed) Uint64() uint64 { return uint64(f) }

// The order in which a system process carries out what it wants, as the package says: the
// gate before the correction that used it, then the associations, then the state, last.
func TestTheOrderOfASystemProcess(t *testing.T) {
	start := ntptime.Instant{Wall: ntptime.WallOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Raw: ntptime.Raw(time.Second)}
	r := &recorder{now: start}
	p := NewSystemProcess(system.Config{StepThreshold: time.Second, StepUpdates: 3, Panic: 1000 * time.Second, PanicGateOpen: true, Precision: -20}, r, start)
	p.AddSource(start, 1, system.SourceOptions{Name: "a", MinPoll: 6, MaxPoll: 10})
	status := model.SourceStatus{Source: 1, Reach: 1, Accepted: 1, Server: model.ServerState{Stratum: 1, Leap: wire.LeapNone, Precision: -20}}
	p.OnStatus(start, &status)
	r.said = nil
	for range 8 {
		if slices.Contains(r.said, "apply true") {
			break
		}
		r.now.Wall, r.now.Raw = r.now.Wall.Add(2*time.Second), r.now.Raw.Add(2*time.Second)
		before := r.now
		before.Wall, before.Raw = before.Wall.Add(-time.Millisecond), before.Raw.Add(-time.Millisecond)
		server := before.Wall.Add(time.Hour)
		p.OnSample(r.now, &model.Sample{Source: 1, T1: before, T4: r.now, T2: server, T3: server.Add(time.Millisecond / 2), Server: status.Server})
	}
	at := func(what string) int { return slices.Index(r.said, what) }
	if at("gate") < 0 || at("apply true") < 0 || at("changed") < 0 {
		t.Fatalf("got %v, want a correction of an hour made", r.said)
	}
	if !(at("gate") < at("apply true") && at("apply true") < at("changed")) {
		t.Errorf("got %v, want the gate closed before the correction, and the associations told after it", r.said)
	}
	if last := r.said[len(r.said)-1]; last != "publish" {
		t.Errorf("got %q last, want the state published", last)
	}
}

// An association's packets go out before anything else, a failure is told with its words,
// and the end comes last.
func TestTheOrderOfAPeerProcess(t *testing.T) {
	start := ntptime.Instant{Wall: ntptime.WallOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Raw: ntptime.Raw(time.Second)}
	r := &recorder{now: start}
	p := NewPeerProcess(association.Config{ID: 1, Name: "a", Kind: association.KindClient, Remote: netip.MustParseAddrPort("192.0.2.1:123"), MinPoll: 6, MaxPoll: 10}, r, start, fixed(7))
	p.OnTimer(start, nil)
	if want := []string{"send", "event mobilized", `status 1 ""`}; !slices.Equal(r.said, want) {
		t.Errorf("got %q, want %q", r.said, want)
	}
	r.said, r.refuse = nil, "there is no route"
	for len(r.said) == 0 || r.said[0] != "send" {
		r.said = nil
		r.now.Raw = p.Deadline()
		p.OnTimer(r.now, nil)
	}
	if last := r.said[len(r.said)-1]; last != `status 1 "there is no route"` {
		t.Errorf("got %q, want the reason in the status", r.said)
	}
}
