package association

import (
	"net/netip"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// serving is our own state while others may follow us.
func serving() model.Snapshot {
	return model.Snapshot{At: instant(0), Synchronized: true, Stratum: 3, Precision: -20, State: model.DisciplineSync, Serves: true,
		ReferenceID: wire.ReferenceAddress(serverEnd.Addr()), ReferenceTime: epoch.Add(-time.Second), RootDelay: 3 * time.Millisecond}
}

// TestRFC5905_11_2_Loop: who takes its time from us is no source: its reference id is our
// address in that exchange, or its reference is what we serve. Nothing else is a loop.
func TestRFC5905_11_2_Loop(t *testing.T) {
	elsewhere := netip.MustParseAddr("172.17.0.1") // of another interface of ours, and of the server's upstream
	for _, c := range []struct {
		name  string
		alone bool // nobody may follow us
		spoil func(h *wire.Header, s *model.Snapshot)
		want  bool
	}{
		{name: "a server of somebody else", spoil: func(*wire.Header, *model.Snapshot) {}},
		{name: "our address in this exchange", spoil: func(h *wire.Header, _ *model.Snapshot) { h.ReferenceID = wire.ReferenceAddress(clientEnd.Addr()) }, want: true},
		{name: "the same, but nobody can follow us", alone: true,
			spoil: func(h *wire.Header, _ *model.Snapshot) { h.ReferenceID = wire.ReferenceAddress(clientEnd.Addr()) }},
		{name: "an address that we have elsewhere", spoil: func(h *wire.Header, _ *model.Snapshot) { h.ReferenceID = wire.ReferenceAddress(elsewhere) }},
		{name: "a stratum 1 whose letters look like our address",
			spoil: func(h *wire.Header, _ *model.Snapshot) {
				h.Stratum, h.ReferenceID = 1, wire.ReferenceAddress(clientEnd.Addr())
			}},
		{name: "ourselves by another address", spoil: copyOf, want: true},
		{name: "ourselves, but nobody can follow us", alone: true, spoil: copyOf},
		{name: "the same upstream at another time", spoil: func(h *wire.Header, s *model.Snapshot) { copyOf(h, s); h.ReferenceTime++ }},
		{name: "the same upstream by a longer way", spoil: func(h *wire.Header, s *model.Snapshot) { copyOf(h, s); h.RootDelay++ }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, clientConfig())
			s := serving()
			s.Serves = !c.alone
			b.a.OnSystem(&s)
			request := b.sendNext()
			h := b.answer(request)
			c.spoil(&h, &s)
			later := s // an update between the reply and its arrival
			later.ReferenceTime = later.ReferenceTime.Add(time.Millisecond)
			b.a.OnSystem(&later)
			b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
			if !b.out.HasSample {
				t.Fatalf("no sample; rejected %v", b.a.status.Rejected)
			}
			if b.out.Sample.Server.Loop != c.want || b.a.Status().Server.Loop != c.want {
				t.Errorf("loop %v in the sample and %v in the status, want %v", b.out.Sample.Server.Loop, b.a.Status().Server.Loop, c.want)
			}
		})
	}
}

// copyOf makes the header what our own server says.
func copyOf(h *wire.Header, s *model.Snapshot) {
	h.Stratum, h.ReferenceID, h.ReferenceTime, h.RootDelay = s.Stratum, s.ReferenceID, s.ReferenceTime.Timestamp(), ntptime.ShortOf(s.RootDelay)
}

// A peer's first exchanges, in mode 3, set our clock by no other rule than those in mode 1.
func TestRFC5905_11_2_OpeningExchangesFollowNoLoop(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(h *wire.Header)
		want  bool
	}{
		{"one of a lower stratum is followed", func(h *wire.Header) { h.Stratum = 2 }, true},
		{"one that follows us is not", func(h *wire.Header) { h.Stratum, h.ReferenceID = 2, wire.ReferenceAddress(clientEnd.Addr()) }, false},
		{"one of our own stratum is not", func(h *wire.Header) { h.Stratum = 3 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := clientConfig()
			cfg.Kind = KindActive
			b := newBench(t, cfg)
			s := serving()
			s.Serves, s.ReferenceID = false, wire.ReferenceName("ELSE") // no server section: a peer may follow all the same
			b.a.OnSystem(&s)
			h := b.answer(b.sendNext())
			c.spoil(&h)
			b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
			if b.out.HasSample != c.want {
				t.Errorf("sample %v, want %v; rejected %v", b.out.HasSample, c.want, b.a.status.Rejected)
			}
		})
	}
}

// TestRFC5905_7_3_OlderVersionIsTaken: Windows' time service answers version 4 by 3.
func TestRFC5905_7_3_OlderVersionIsTaken(t *testing.T) {
	for version := uint8(1); version <= 4; version++ {
		b := newBench(t, clientConfig())
		h := b.answer(b.sendNext())
		h.Version = version
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if !b.out.HasSample {
			t.Errorf("version %d: no sample, rejected %v", version, b.a.status.Rejected)
		}
		if got := header(t, b.sendNext()).Version; got != 4 {
			t.Errorf("the request after an answer of version %d is of version %d, want 4", version, got)
		}
	}
}

// A peer that begins anew (mode 1, origin 0) is answered at once, and what it answers is
// an exchange; forged beginnings change nothing.
func TestRFC5905_9_2_PeerThatBeginsAnew(t *testing.T) {
	for _, mode := range []wire.Mode{wire.ModePassive, wire.ModeActive} {
		t.Run(mode.String(), func(t *testing.T) { beginsAnew(t, mode) })
	}
}

// beginsAnew has the peer of an association in that mode lose its memory.
func beginsAnew(t *testing.T, mode wire.Mode) {
	w, x, y := pair(t, 2, 4, mode == wire.ModeActive)
	w.run(10 * time.Minute)
	kept := y.assocs[0]
	heard := kept.status.Accepted

	x.assocs = nil // the active side has lost its memory
	h := forgery(wire.ModeActive, &seeded{3}, epoch.Add(w.now))
	h.Origin, h.Receive, h.Stratum = 0, 0, 2
	before := *kept
	w.log = nil
	w.forge(&h, nil, x.end, y.end)
	w.run(w.now + 10*time.Millisecond)
	reply := w.last(t, y)
	if reply.Mode != mode || reply.Origin != h.Transmit || reply.Receive == 0 {
		t.Fatalf("answer %+v, want mode %v with the origin %v", reply, mode, h.Transmit)
	}
	if kept.symmetric.confirmed != before.symmetric.confirmed || kept.status.Accepted != heard {
		t.Error("a packet that anybody could have forged changed what is known of the peer")
	}

	next := h
	next.Origin, next.Receive, next.Transmit = reply.Transmit, epoch.Add(w.now).Timestamp(), epoch.Add(w.now).Timestamp()+99
	next.ReferenceTime = epoch.Timestamp()
	samples := len(y.samples)
	w.forge(&next, nil, x.end, y.end)
	w.run(w.now + 10*time.Millisecond)
	if kept.status.Accepted != heard+1 || len(y.samples) != samples+1 {
		t.Errorf("%d accepted and %d samples more, want 1 and 1; rejected %v", kept.status.Accepted-heard, len(y.samples)-samples, kept.status.Rejected)
	}

	w.log = nil
	for range 100 { // a flood of beginnings
		h.Transmit++
		w.forge(&h, nil, x.end, y.end)
		w.run(w.now + 10*time.Millisecond)
	}
	if got := w.sentModes(y)[mode]; got > 3 {
		t.Errorf("%d answers to a flood of one second, want one in %v", got, restartSpacing)
	}

	for k := range 4 { // a burst, whose packets come a little closer than they were sent
		w.run(w.now + burstSpacing - 10*time.Millisecond)
		w.log = nil
		h.Transmit++
		w.forge(&h, nil, x.end, y.end)
		w.run(w.now + 5*time.Millisecond)
		if reply := w.last(t, y); reply.Mode != mode || reply.Origin != h.Transmit {
			t.Errorf("beginning %d of a burst: answer %+v, want mode %v with the origin %v", k, reply, mode, h.Transmit)
		}
	}
}

// last is the newest packet that a host has sent.
func (w *world) last(t *testing.T, h *host) wire.Header {
	t.Helper()
	for i := len(w.log) - 1; i >= 0; i-- {
		if w.log[i].from.Addr() == h.end.Addr() {
			return header(t, w.log[i].data)
		}
	}
	t.Fatal("nothing was sent")
	return wire.Header{}
}
