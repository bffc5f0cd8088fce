package association

import (
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// broadcasting is a server at stratum 2 that sends to a group every 8 s, and a client
// that is 100 ms behind.
func broadcasting(t testing.TB, key *mac.Key) (*world, *host, *host) {
	w := newWorld(t)
	server := w.add("192.0.2.1", 0, 2)
	client := w.add("192.0.2.2", 100*time.Millisecond, 0)
	client.follows = false
	server.key = key
	server.mobilize(Config{Name: "group", Kind: KindBroadcastServer, Remote: groupEnd, Version: 4, Interval: 8 * time.Second, Key: key})
	client.listens = &Config{Name: "group", Kind: KindBroadcastClient, Version: 4, MaxDelay: 3 * time.Second, Key: key}
	return w, server, client
}

// kinds counts a host's samples.
func (h *host) kinds() (exchanges, broadcasts int) {
	for _, s := range h.samples {
		if s.Kind == model.SampleBroadcast {
			broadcasts++
		} else {
			exchanges++
		}
	}
	return exchanges, broadcasts
}

func TestBroadcastServerHeader(t *testing.T) {
	for _, key := range []*mac.Key{nil, testKey(t, 10)} {
		w, server, client := broadcasting(t, key)
		client.listens = nil
		w.run(2 * time.Minute)
		last := ntptime.Timestamp(0)
		for i, f := range w.log {
			h := header(t, f.data)
			if h.Mode != wire.ModeBroadcast || h.Origin != 0 || h.Receive != 0 || h.Poll != 3 || h.Stratum != 2 || f.to != groupEnd || f.from.Port() != 123 {
				t.Errorf("packet %d: %+v from %v to %v", i, h, f.from, f.to)
			}
			if (len(f.data) > wire.HeaderSize) != (key != nil) {
				t.Errorf("packet %d has %d bytes", i, len(f.data))
			}
			if gap := h.Transmit.Sub(last); i > 0 && (gap < 8*time.Second || gap > 8100*time.Millisecond) {
				t.Errorf("packet %d came %v after the one before: never early, a little late", i, gap)
			}
			last = h.Transmit
		}
		if len(w.log) < 14 {
			t.Errorf("%d packets in two minutes", len(w.log))
		}
		if st := server.assocs[0].Status(); st.Mode != wire.ModeBroadcast || st.Sent != uint64(len(w.log)) || st.Interval != 8*time.Second {
			t.Errorf("status %+v", st)
		}
	}
}

func TestBroadcastPollFieldIsRoundedDown(t *testing.T) {
	for interval, want := range map[time.Duration]ntptime.Log2{62500 * time.Microsecond: -4, time.Second: 0, 8 * time.Second: 3, 15 * time.Second: 3, 60 * time.Second: 5, 100 * time.Second: 6} {
		w := newWorld(t)
		h := w.add("192.0.2.1", 0, 2)
		h.mobilize(Config{Kind: KindBroadcastServer, Remote: groupEnd, Interval: interval})
		w.run(time.Second)
		if got := header(t, w.log[0].data).Poll; got != want {
			t.Errorf("poll field for %v is %d, want %d: a client may drop what comes before 2^poll", interval, got, want)
		}
	}
}

func TestBroadcastOnlyWhileSynchronized(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	client.listens = nil
	server.synchronize(0, "")
	w.run(time.Minute)
	if len(w.log) != 0 {
		t.Fatalf("%d packets without having the time", len(w.log))
	}
	server.synchronize(2, "GPS")
	w.run(2 * time.Minute)
	sent := len(w.log)
	if sent < 7 {
		t.Errorf("%d packets in a minute with the time", sent)
	}
	server.synchronize(0, "")
	w.run(4 * time.Minute)
	if len(w.log) != sent {
		t.Errorf("%d packets after the time was lost", len(w.log)-sent)
	}
}

func TestBroadcastClientMakesVolleyThenFollows(t *testing.T) {
	for _, key := range []*mac.Key{nil, testKey(t, 10)} {
		w, _, client := broadcasting(t, key)
		w.run(5 * time.Minute)
		exchanges, broadcasts := client.kinds()
		if exchanges != volleyCount || broadcasts < 30 {
			t.Fatalf("%d exchanges and %d broadcasts; want %d and one each 8 s; rejected %v", exchanges, broadcasts, volleyCount,
				client.assocs[0].status.Rejected)
		}
		client.wantOffsets(100*time.Millisecond, 2*time.Microsecond)
		for _, s := range client.samples {
			if s.Kind == model.SampleBroadcast && (s.Delay != 500*time.Microsecond || s.DelayError <= 0 || s.DelayError > time.Millisecond) {
				t.Errorf("delay %v ± %v, want 500µs", s.Delay, s.DelayError)
				break
			}
			if s.Authenticated != (key != nil) {
				t.Error("authenticated is wrong")
			}
		}
		for _, f := range w.log {
			if f.from == client.end && (f.data[0]&7 != byte(wire.ModeClient) || f.to.Addr() != w.hosts[0].end.Addr() || (len(f.data) > 48) != (key != nil)) {
				t.Errorf("the client sent mode %d, %d bytes, to %v", f.data[0]&7, len(f.data), f.to)
			}
		}
		st := client.assocs[0].Status()
		if st.Reach != 255 || !st.Dynamic || !st.Broadcast || st.RemoteMode != wire.ModeBroadcast || st.Interval != 8*time.Second {
			t.Errorf("status %+v", st)
		}
	}
}

func TestBroadcastFallbackDelay(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	server.serves = false
	w.run(5 * time.Minute)
	exchanges, broadcasts := client.kinds()
	if exchanges != 0 || broadcasts < 25 {
		t.Fatalf("%d exchanges, %d broadcasts", exchanges, broadcasts)
	}
	if s := client.samples[0]; s.Delay != 4*time.Millisecond || s.DelayError < 4*time.Millisecond {
		t.Errorf("delay %v ± %v, want 4ms", s.Delay, s.DelayError)
	}
	if n := w.sentModes(client)[3]; n != 3*volleyTries {
		t.Errorf("%d requests in five minutes to a server that does not answer, want %d: at the start, after one minute and after three", n, 3*volleyTries)
	}
	w.run(25 * time.Minute)
	if n := w.sentModes(client)[3]; n != 5*volleyTries {
		t.Errorf("%d requests in 25 minutes to a server that does not answer, want %d: after seven and fifteen minutes too", n, 5*volleyTries)
	}
	server.serves = true
	w.run(50 * time.Minute)
	if exchanges, _ := client.kinds(); exchanges != volleyCount {
		t.Errorf("%d exchanges after the server began to answer, want %d", exchanges, volleyCount)
	}
	if s := client.samples[len(client.samples)-1]; s.Delay != 500*time.Microsecond {
		t.Errorf("delay %v, want the measured 500µs", s.Delay)
	}
}

func TestKissEndsTheVolleyButNotTheAssociation(t *testing.T) {
	for _, code := range []wire.ReferenceID{wire.KissDENY, wire.KissRATE} {
		w, server, client := broadcasting(t, nil)
		server.serves = false
		w.nudge = func(time.Duration) {
			for _, f := range w.log {
				if f.data[0]&7 == byte(wire.ModeClient) && f.when == w.now {
					h := kissFor(header(t, f.data), code)
					w.forge(&h, nil, server.end, client.end)
				}
			}
		}
		w.run(10 * time.Minute)
		if len(client.assocs) != 1 || client.assocs[0].status.Denied {
			t.Fatalf("%s: the association ended: %q", code.Text(), client.ended)
		}
		if n := w.sentModes(client)[3]; n != 1 {
			t.Errorf("%s: %d requests, want 1", code.Text(), n)
		}
		if _, broadcasts := client.kinds(); broadcasts < 60 {
			t.Errorf("%s: %d broadcasts followed", code.Text(), broadcasts)
		}
		w.run(2 * time.Hour)
		if n := w.sentModes(client)[3]; (n > 1) != (code == wire.KissRATE) {
			t.Errorf("%s: %d requests in two hours", code.Text(), n)
		}
	}
}

func TestVolleyIsRepeatedWhenTheClockSteps(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	w.run(2 * time.Minute)
	client.clock.behind = 0
	client.samples = nil
	var out Output
	client.assocs[0].OnClockChanged(client.clock.at(w.now), &out)
	w.run(4 * time.Minute)
	exchanges, broadcasts := client.kinds()
	if exchanges != volleyCount || broadcasts < 10 {
		t.Errorf("%d exchanges, %d broadcasts", exchanges, broadcasts)
	}
	client.wantOffsets(0, 2*time.Microsecond)
}

func TestVolleyIsRepeatedWhenTheServerSteps(t *testing.T) {
	for _, serves := range []bool{true, false} {
		w, server, client := broadcasting(t, nil)
		server.serves = serves
		w.run(3 * time.Minute)
		client.samples = nil
		server.clock.behind = -time.Minute // a minute ahead
		w.run(10 * time.Minute)
		exchanges, broadcasts := client.kinds()
		if (exchanges > 0) != serves || broadcasts < 20 || len(client.ended) > 0 {
			t.Errorf("serves %v: %d exchanges, %d broadcasts after the server's step, ended %q", serves, exchanges, broadcasts, client.ended)
		}
		if serves {
			client.wantOffsets(time.Minute+100*time.Millisecond, 2*time.Microsecond)
		}
	}
}

func TestServerThatStepsBackIsFollowedInTheEnd(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	w.run(3 * time.Minute)
	client.samples = nil
	server.clock.behind = time.Hour
	w.run(20 * time.Minute)
	if len(client.ended) != 1 || len(client.assocs) != 1 {
		t.Errorf("ended %q, %d associations; want the old one dropped and a new one", client.ended, len(client.assocs))
	}
	if _, broadcasts := client.kinds(); broadcasts < 20 {
		t.Errorf("%d broadcasts", broadcasts)
	}
}

// toGroup holds up what is sent to the group.
func toGroup(by func() time.Duration) func(flight) time.Duration {
	return func(f flight) time.Duration {
		if f.to != groupEnd {
			return 0
		}
		return by()
	}
}

func TestBroadcastsWithALongerWayThanTheVolley(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	held := 120 * time.Millisecond // a wireless access point keeps group packets back
	w.held = toGroup(func() time.Duration { return held })
	w.run(10 * time.Minute)
	_, broadcasts := client.kinds()
	if broadcasts < 50 {
		t.Fatalf("%d broadcasts; rejected %v", broadcasts, client.assocs[0].status.Rejected)
	}
	client.wantOffsets(100*time.Millisecond, 5*time.Microsecond)
	last := client.samples[len(client.samples)-1]
	if last.Delay < 119*time.Millisecond || last.Delay > 122*time.Millisecond || last.DelayError < 100*time.Millisecond {
		t.Errorf("delay %v ± %v", last.Delay, last.DelayError)
	}
}

func TestBroadcastAssociationEndsWhenSilent(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	w.run(time.Minute)
	server.synchronize(0, "")
	w.run(3 * time.Minute)
	if len(client.ended) != 1 || len(client.assocs) != 0 {
		t.Fatalf("ended %q, %d associations", client.ended, len(client.assocs))
	}
	server.synchronize(2, "GPS")
	w.run(6 * time.Minute)
	if len(client.assocs) != 1 {
		t.Error("the next broadcast mobilized nothing")
	}
}

func TestFirstBroadcastWithoutTimeLeavesNoZombie(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	h := forgery(wire.ModeBroadcast, &seeded{1}, epoch)
	h.Leap, h.Stratum = wire.LeapUnknown, 0
	server.assocs = nil
	w.forge(&h, nil, server.end, groupEnd)
	w.run(20 * time.Minute)
	if len(client.ended) != 1 || len(client.assocs) != 0 || len(client.samples) != 0 {
		t.Errorf("ended %q, %d associations", client.ended, len(client.assocs))
	}
}

func TestRFC9769_4_InterleavedBroadcast(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	server.assocs = nil
	server.mobilize(Config{Name: "group", Kind: KindBroadcastServer, Remote: groupEnd, Interval: 8 * time.Second, Interleaved: InterleaveOn})
	client.listens.Interleaved = InterleaveAuto
	w.run(5 * time.Minute)
	n := 0
	for _, s := range client.samples {
		if s.Interleaved {
			n++
		}
	}
	seen := map[ntptime.Raw]bool{}
	for _, s := range client.samples {
		if s.Kind == model.SampleBroadcast && seen[s.T4.Raw] {
			t.Error("one broadcast gave two samples")
		}
		seen[s.T4.Raw] = true
	}
	if n < 28 {
		t.Errorf("%d interleaved samples of %d", n, len(client.samples))
	}
	client.wantOffsets(100*time.Millisecond, 2*time.Microsecond)
	client.samples = nil
	w.lose = func(f flight) bool { return w.now/time.Second%3 == 0 }
	w.run(15 * time.Minute)
	client.wantOffsets(100*time.Millisecond, 2*time.Microsecond)
	if len(client.samples) < 20 {
		t.Errorf("%d samples with losses", len(client.samples))
	}
}

func TestRFC5905_6_BroadcastOverTheEraEnd(t *testing.T) {
	w, server, client := broadcasting(t, nil)
	edge := ntptime.WallOf(time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC))
	for _, h := range w.hosts {
		h.clock.start = edge.Add(-2 * time.Minute)
	}
	server.assocs = nil
	server.mobilize(Config{Name: "group", Kind: KindBroadcastServer, Remote: groupEnd, Interval: 8 * time.Second})
	server.synchronize(2, "GPS")
	w.run(5 * time.Minute)
	if _, broadcasts := client.kinds(); broadcasts < 30 {
		t.Errorf("%d broadcasts; rejected %v", broadcasts, client.assocs[0].status.Rejected)
	}
	client.wantOffsets(100*time.Millisecond, 2*time.Microsecond)
}

func TestVolleyTakesTheShortestRoundTrip(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	n := 0
	w.held = func(f flight) time.Duration {
		if f.data[0]&7 != byte(wire.ModeServer) {
			return 0
		}
		if n++; n == 3 {
			return 0
		}
		return time.Duration(n) * time.Millisecond
	}
	w.run(2 * time.Minute)
	if last := client.samples[len(client.samples)-1]; last.Delay != 500*time.Microsecond {
		t.Errorf("delay %v, want 500µs: half of the shortest round trip", last.Delay)
	}
}

func TestRFC5905_12_RootDispersionGrowsInOurPackets(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	client.listens = nil
	w.run(3 * time.Hour)
	first, last := header(t, w.log[0].data), header(t, w.log[len(w.log)-1].data)
	grown := last.RootDispersion.Duration() - first.RootDispersion.Duration()
	if want := (15 * ntptime.PPM).Over(3 * time.Hour); grown < want*98/100 || grown > want*102/100 {
		t.Errorf("root dispersion grew by %v in three hours, want %v", grown, want)
	}
}

func TestBroadcastsThatAreHeldBackByTurns(t *testing.T) {
	w, _, client := broadcasting(t, nil)
	random := &seeded{4}
	w.held = toGroup(func() time.Duration { return time.Duration(random.Uint64() % uint64(100*time.Millisecond)) })
	w.run(time.Hour)
	if _, broadcasts := client.kinds(); broadcasts < 300 {
		t.Errorf("%d of 450 broadcasts taken; rejected %v", broadcasts, client.assocs[0].status.Rejected)
	}
	for _, s := range client.samples {
		off := offsetOf(&s.Sample) - 100*time.Millisecond
		if s.Kind == model.SampleBroadcast && (off > s.DelayError || off < -s.DelayError-100*time.Millisecond) {
			t.Errorf("a sample says %v too much with a delay of %v ± %v", off, s.Delay, s.DelayError)
			break
		}
	}
}

func TestInterleavedBroadcastAfterAStepIsBasic(t *testing.T) {
	w, server, _ := broadcasting(t, nil)
	server.assocs = nil
	a := server.mobilize(Config{Kind: KindBroadcastServer, Remote: groupEnd, Interval: 8 * time.Second, Interleaved: InterleaveOn})
	w.run(20 * time.Second)
	var out Output
	a.OnClockChanged(server.clock.at(w.now), &out)
	w.log = nil
	w.run(40 * time.Second)
	if first, second := header(t, w.log[0].data), header(t, w.log[1].data); first.Origin != 0 || second.Origin == 0 {
		t.Errorf("origins %v and %v, want 0 and then a timestamp", first.Origin, second.Origin)
	}
}

// TestBroadcastsThatLeaveLate: the server takes its timestamp 300 µs before the packet
// leaves. Once our frequency is known, a second volley shows it.
func TestBroadcastsThatLeaveLate(t *testing.T) {
	for _, drift := range []ntptime.Frequency{0, 50 * ntptime.PPM, -20 * ntptime.PPM} {
		t.Run(drift.String(), func(t *testing.T) { broadcastsThatLeaveLate(t, drift) })
	}
}

func broadcastsThatLeaveLate(t *testing.T, drift ntptime.Frequency) {
	w, _, client := broadcasting(t, nil)
	client.clock.drift = drift
	random := &seeded{4}
	w.held = toGroup(func() time.Duration { return 300*time.Microsecond + time.Duration(random.Uint64()%20_000) })
	w.run(2 * time.Minute)
	if last := client.samples[len(client.samples)-1]; last.Delay > 510*time.Microsecond {
		t.Fatalf("delay %v before the calibration", last.Delay)
	}
	client.synchronize(3, "REF")
	client.state.Frequency, client.state.FrequencyError = drift, ntptime.PPM
	client.tell()
	w.run(4 * time.Minute)
	if exchanges, _ := client.kinds(); exchanges != volleyCount {
		t.Errorf("a calibration with a frequency known to 1 ppm")
	}
	client.state.FrequencyError = 50e-9
	client.tell()
	w.run(8 * time.Minute)
	client.samples = nil
	w.run(30 * time.Minute)
	if drift == 0 {
		client.wantOffsets(100*time.Millisecond-10*time.Microsecond, 15*time.Microsecond)
	}
	exchanges, broadcasts := client.kinds()
	if exchanges != 0 || broadcasts < 160 {
		t.Errorf("%d exchanges and %d broadcasts afterwards", exchanges, broadcasts)
	}
	if last := client.samples[len(client.samples)-1]; last.Delay < 800*time.Microsecond || last.Delay > 815*time.Microsecond || last.DelayError < 640*time.Microsecond {
		t.Errorf("delay %v ± %v, want 800µs", last.Delay, last.DelayError)
	}
}
