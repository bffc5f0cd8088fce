package responder_test

import (
	"testing"
	"time"

	"timeball/internal/ntptime"
	"timeball/internal/smear"
	"timeball/internal/wire"
)

// smearing makes a world whose clock is so long before the leap second, which it makes
// by itself. at moves it to a number of true seconds from there.
func smearing(t *testing.T, before time.Duration, shape smear.Shape) (w *world, at func(elapsed time.Duration), publish func()) {
	w = newWorld(t)
	leap := ntptime.WallOf(time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC))
	begin := ntptime.Instant{Wall: leap.Add(-before), Raw: w.now.Raw}
	instant := func(elapsed time.Duration) ntptime.Instant {
		i := ntptime.Instant{Wall: begin.Wall.Add(elapsed), Raw: begin.Raw.Add(elapsed)}
		if elapsed >= before+time.Second { // 23:59:60 has the numbers of 00:00:00 until here
			i.Wall = i.Wall.Add(-time.Second)
		}
		return i
	}
	var elapsed time.Duration
	at = func(e time.Duration) { elapsed, w.now = e, instant(e) }
	w.env.Now = func() ntptime.Instant { return instant(elapsed + w.took) }
	publish = func() {
		s := *w.snapshot
		s.At, s.Leap = w.now, wire.LeapInsert
		s.Smear = smear.Smear{Leap: leap, Window: 24 * time.Hour, Shape: shape}
		s.SmearAfter = elapsed >= before+time.Second
		s.ReferenceTime = s.At.Wall.Add(-time.Second)
		w.snapshot = &s
		w.env.Snapshot = &s
	}
	at(0)
	publish()
	return w, at, publish
}

// An exchange that lies across the leap second, and a snapshot older than it, are served
// one steady time.
func TestSmearedTimeIsSteadyAcrossTheLeapSecond(t *testing.T) {
	for _, took := range []time.Duration{20 * time.Microsecond, 300 * time.Millisecond} {
		w, at, publish := smearing(t, 40*time.Second, smear.Linear)
		w.env.Smeared, w.took = true, took
		rate := 1 - 1/86401.0
		var first ntptime.Timestamp
		for e := time.Duration(0); e < 80*time.Second; e += 250 * time.Millisecond {
			at(e)
			if e%(16*time.Second) == 8*time.Second {
				publish()
			}
			p := w.answered(t, request(4))
			if e == 0 {
				first = p.Receive
			}
			want := time.Duration(float64(e) * rate)
			if got := p.Receive.Sub(first); (got - want).Abs() > time.Microsecond {
				t.Fatalf("%v: receive timestamp %v after the first, want %v", e, got, want)
			}
			if got := p.Transmit.Sub(p.Receive); (got - took).Abs() > 5*time.Microsecond {
				t.Fatalf("%v: the server took %v by its timestamps, and %v in truth", e, got, took)
			}
			if p.Leap != wire.LeapNone || p.RootDispersion.Duration() < 499*time.Millisecond || !smear.Tells(p.ReferenceID) {
				t.Fatalf("%v: leap %v, dispersion %v, refid %v", e, p.Leap, p.RootDispersion.Duration(), p.ReferenceID)
			}
			if p.ReferenceTime.Sub(p.Receive) > 0 {
				t.Fatalf("%v: reference time after the receive timestamp", e)
			}
		}
	}
}

// A socket that serves true time shows nothing of it.
func TestTrueTimeBesideSmearedTime(t *testing.T) {
	w, _, _ := smearing(t, time.Hour, smear.Cosine)
	p := w.answered(t, request(4))
	if p.Receive != w.now.Wall.Timestamp() || p.Leap != wire.LeapInsert || smear.Tells(p.ReferenceID) || p.RootDispersion.Duration() > 6*time.Millisecond {
		t.Errorf("true time: %+v", p.Header)
	}
	w.env.Smeared = true
	s := *w.snapshot
	s.Smear = smear.Smear{}
	w.env.Snapshot = &s
	if p := w.answered(t, request(4)); p.Leap != wire.LeapInsert || smear.Tells(p.ReferenceID) {
		t.Errorf("outside the window: %+v", p.Header)
	}
}

// RFC 9769 §2: the timestamp of the reply before, as it really left, is smeared as well.
func TestSmearedInterleavedReply(t *testing.T) {
	w, at, _ := smearing(t, 6*time.Hour, smear.Linear)
	w.env.Smeared, w.policy.Interleaved = true, true
	h := request(4)
	h.Receive, h.Origin = 5, 1
	reply, _ := w.ask(h.Append(nil))
	p := decode(t, reply)
	at(time.Second)
	h = request(4)
	h.Origin, h.Receive, h.Transmit = p.Receive, 77, 99
	reply, v := w.ask(h.Append(nil))
	second := decode(t, reply)
	if v.TimestampID != 0 {
		w.shard.Transmitted(v.TimestampID, w.later(w.took))
	}
	at(2 * time.Second)
	h.Origin = second.Receive
	reply, v = w.ask(h.Append(nil))
	third := decode(t, reply)
	if v.Result.String() != "interleaved" {
		t.Fatalf("got %v", v.Result)
	}
	if d := third.Transmit.Sub(second.Receive); (d - w.took).Abs() > 10*time.Microsecond {
		t.Errorf("the reply before left %v after its request came, by timestamps; %v in truth", d, w.took)
	}
}
