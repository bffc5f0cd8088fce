package association

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// interleavingServer answers as RFC 9769 §2 has it: interleaved if the origin of the
// request is a receive timestamp that it gave out, else basic. Its basic transmit timestamps
// are `early`, the precise ones true.
type interleavingServer struct {
	early    time.Duration
	precise  map[ntptime.Timestamp]ntptime.Wall // by receive timestamp
	disabled bool
}

func (s *interleavingServer) answer(request wire.Header, at ntptime.Wall) wire.Header {
	h := goodReply(request, at)
	left := at.Add(50 * time.Microsecond)
	h.Transmit = left.Add(-s.early).Timestamp()
	if before, ok := s.precise[request.Origin]; ok && !s.disabled && request.Receive != request.Transmit {
		h.Origin, h.Transmit = request.Receive, before.Timestamp()
	}
	s.precise[h.Receive] = left
	return h
}

func newInterleavingServer() *interleavingServer {
	return &interleavingServer{early: 30 * time.Microsecond, precise: map[ntptime.Timestamp]ntptime.Wall{}}
}

// through makes one exchange with the server, 500 µs each way, and gives the request.
func (s *interleavingServer) through(b *bench) wire.Header {
	request := header(b.t, b.sendNext())
	h := s.answer(request, epoch.Add(b.now+500*time.Microsecond))
	b.deliver(encode(&h, nil), serverEnd, b.now+1050*time.Microsecond)
	return request
}

func interleavedConfig(mode Interleave) Config {
	cfg := clientConfig()
	cfg.Interleaved = mode
	cfg.MinPoll, cfg.MaxPoll = 2, 2
	return cfg
}

func TestRFC9769_2_InterleavedClient(t *testing.T) {
	for _, mode := range []Interleave{InterleaveOn, InterleaveAuto} {
		b := newBench(t, interleavedConfig(mode))
		server := newInterleavingServer()
		if first := server.through(b); first.Origin != 0 || first.Receive != 0 {
			t.Errorf("the first request %+v, want a basic one", first)
		}
		if b.out.Sample.Interleaved {
			t.Error("the first sample is called interleaved")
		}
		firstSent := b.out.Sample.T1
		second := server.through(b)
		if second.Origin == 0 || second.Receive == 0 || second.Receive == second.Transmit {
			t.Errorf("the second request %+v, want an interleaved one", second)
		}
		if b.out.HasSample {
			t.Error("the exchange that had given a basic sample gave another")
		}
		for range 20 {
			server.through(b)
			s := &b.out.Sample
			if !b.out.HasSample || !s.Interleaved || s.T1 == firstSent {
				t.Fatalf("sample %v %+v, want an interleaved one", b.out.HasSample, s)
			}
			if got := s.T3.Sub(s.T2); got < 49999*time.Nanosecond || got > 50001*time.Nanosecond {
				t.Errorf("T3−T2 %v, want the precise 50µs", got)
			}
			if age := b.clock.at(b.now).Raw.Sub(s.T4.Raw); age < 3900*time.Millisecond || age > 4100*time.Millisecond {
				t.Errorf("the sample is %v old, want one poll", age)
			}
		}
		if b.a.status.Reach != 255 {
			t.Errorf("reach %o, want 377", b.a.status.Reach)
		}
	}
}

func TestAutoDoesNotInterleaveAtLongPolls(t *testing.T) {
	cfg := interleavedConfig(InterleaveAuto)
	cfg.MinPoll, cfg.MaxPoll = 3, 3
	b := newBench(t, cfg)
	server := newInterleavingServer()
	for range 20 {
		if h := server.through(b); h.Origin != 0 || h.Receive != 0 {
			t.Fatalf("request %+v, want a basic one: an interleaved sample would be 8 s old", h)
		}
	}
}

func TestRFC9769_2_OffMeansNeverAsked(t *testing.T) {
	b := newBench(t, interleavedConfig(InterleaveOff))
	server := newInterleavingServer()
	for range 5 {
		if h := server.through(b); h.Origin != 0 || h.Receive != 0 {
			t.Errorf("request %+v", h)
		}
		if !b.out.HasSample || b.out.Sample.Interleaved {
			t.Error("want a basic sample each time")
		}
	}
}

func TestRFC9769_2_ServersWithoutInterleavingAreAskedLess(t *testing.T) {
	// Auto: 1 basic, 4 tries, 64 basic, 4 tries, 64 basic, 3 tries.
	for mode, want := range map[Interleave]int{InterleaveOn: 139, InterleaveAuto: 11} {
		b := newBench(t, interleavedConfig(mode))
		server := newInterleavingServer()
		server.disabled = true
		asked := 0
		for range 140 {
			if server.through(b).Origin != 0 {
				asked++
			}
			if !b.out.HasSample || b.out.Sample.Interleaved {
				t.Fatal("a basic reply to an interleaved request must give a basic sample")
			}
		}
		if asked != want {
			t.Errorf("mode %d: asked %d times, want %d", mode, asked, want)
		}
	}
}

// TestCVE2016_1548_ForgedInterleavedReply: it is dropped, and the true one is good.
func TestCVE2016_1548_ForgedInterleavedReply(t *testing.T) {
	b := newBench(t, interleavedConfig(InterleaveOn))
	server := newInterleavingServer()
	for range 3 {
		server.through(b)
	}
	for name, forge := range map[string]func(request, h *wire.Header){
		"origin is the server's old receive timestamp": func(request, h *wire.Header) { h.Origin = request.Origin },
		"origin is the old cookie":                     func(_, h *wire.Header) { h.Origin = 0x1234 },
		"origin is zero":                               func(_, h *wire.Header) { h.Origin = 0 },
	} {
		request := header(t, b.sendNext())
		true_ := server.answer(request, epoch.Add(b.now+500*time.Microsecond))
		forged := goodReply(request, epoch.Add(b.now+time.Hour))
		forge(&request, &forged)
		before := *b.a
		b.deliver(encode(&forged, nil), serverEnd, b.now+100*time.Microsecond)
		untouched(t, &before, b.a)
		basic := goodReply(request, epoch.Add(b.now+500*time.Microsecond))
		b.deliver(encode(&basic, nil), serverEnd, b.now+time.Millisecond)
		if !b.out.HasSample || b.out.Sample.Interleaved {
			t.Errorf("%s: the next basic reply was not taken; rejected %v", name, b.a.status.Rejected)
		}
		_ = true_
		server.through(b)
		server.through(b)
	}
}

func TestRFC9769_2_AMissedReplyFallsBackToBasic(t *testing.T) {
	b := newBench(t, interleavedConfig(InterleaveOn))
	server := newInterleavingServer()
	for range 4 {
		server.through(b)
	}
	b.sendNext() // lost
	if h := server.through(b); h.Origin != 0 {
		t.Errorf("request after a loss %+v, want basic: the timestamps before it are old", h)
	}
	if !b.out.HasSample || b.out.Sample.Interleaved {
		t.Error("want a basic sample")
	}
	server.through(b)
	server.through(b)
	if !b.out.HasSample || !b.out.Sample.Interleaved {
		t.Error("want interleaved samples again")
	}
}

func TestRFC9769_2_AnInterleavedTimestampOfAnotherReplyIsRefused(t *testing.T) {
	b := newBench(t, interleavedConfig(InterleaveOn))
	server := newInterleavingServer()
	for range 4 {
		server.through(b)
	}
	request := header(t, b.sendNext())
	h := server.answer(request, epoch.Add(b.now+500*time.Microsecond))
	h.Transmit = epoch.Add(b.now + 550*time.Microsecond).Timestamp() // of this reply, not of the one before
	b.deliver(encode(&h, nil), serverEnd, b.now+1050*time.Microsecond)
	if b.out.HasSample || b.a.status.Rejected[model.RejectDelay] != 1 {
		t.Errorf("sample %v, rejected %v; want RejectDelay", b.out.HasSample, b.a.status.Rejected)
	}
}

func TestInterleavedWaitsForTheEndOfAStart(t *testing.T) {
	cfg := interleavedConfig(InterleaveOn)
	cfg.IBurst = true
	b := newBench(t, cfg)
	server := newInterleavingServer()
	for i := range startCount {
		if h := server.through(b); h.Origin != 0 || !b.out.HasSample {
			t.Fatalf("exchange %d of the start: request %+v, sample %v", i, h, b.out.HasSample)
		}
	}
	server.through(b)
	if h := server.through(b); h.Origin == 0 {
		t.Error("want interleaved requests after the start")
	}
}
