package association

import (
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

// kissFor is a kiss-o'-death that answers a request, as ntp.org makes it.
func kissFor(request wire.Header, code wire.ReferenceID) wire.Header {
	return wire.Header{Leap: wire.LeapUnknown, Version: request.Version, Mode: wire.ModeServer, Poll: request.Poll, ReferenceID: code,
		Origin: request.Transmit, Receive: request.Transmit, Transmit: request.Transmit}
}

func TestRFC5905_7_4_DenyAndRestrictEndTheAssociation(t *testing.T) {
	for _, code := range []wire.ReferenceID{wire.KissDENY, wire.KissRSTR} {
		b := newBench(t, clientConfig())
		h := kissFor(header(t, b.sendNext()), code)
		h.Receive, h.Transmit = 0, 0 // never used as time, so zero is no fault
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if !b.out.Done || !b.a.status.Denied || !b.a.status.Gone || b.a.Deadline() != ntptime.Never {
			t.Errorf("%s: done %v, status %+v", code.Text(), b.out.Done, b.a.status)
		}
		if len(b.out.Events) != 2 || b.out.Events[0].Kind != model.EventKiss || b.out.Events[1].Kind != model.EventDemobilized {
			t.Errorf("%s: events %+v, want kiss and demobilized", code.Text(), b.out.Events)
		}
		before := *b.a
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		b.a.OnTimer(b.clock.at(24*time.Hour), &b.out)
		untouched(t, &before, b.a)
		if len(b.out.Transmit) != 0 {
			t.Errorf("%s: it still sends", code.Text())
		}
	}
}

func TestRFC8633_5_4_KissesThatAreNotBelieved(t *testing.T) {
	cases := []struct {
		name   string
		spoil  func(h *wire.Header)
		key    bool
		sign   uint32
		reason model.RejectReason
	}{
		{"another origin", func(h *wire.Header) { h.Origin++ }, false, 0, model.RejectBogus},
		{"a zero origin", func(h *wire.Header) { h.Origin = 0 }, false, 0, model.RejectBogus},
		{"unsigned, where a key is configured", nil, true, 0, model.RejectAuth},
		{"signed with another key", nil, true, 11, model.RejectAuth},
		{"a higher version than asked for", func(h *wire.Header) { h.Version = 4 }, false, 0, model.RejectVersion},
	}
	for _, c := range cases {
		for _, code := range []wire.ReferenceID{wire.KissDENY, wire.KissRSTR, wire.KissRATE} {
			t.Run(c.name+" "+code.Text(), func(t *testing.T) {
				cfg := clientConfig()
				cfg.Version = 3
				if c.key {
					cfg.Key = testKey(t, 10)
				}
				b := newBench(t, cfg)
				b.exchange()
				h := kissFor(header(t, b.sendNext()), code)
				if c.spoil != nil {
					c.spoil(&h)
				}
				var key *mac.Key
				if c.sign != 0 {
					key = testKey(t, c.sign)
				}
				before := *b.a
				b.deliver(encode(&h, key), serverEnd, b.now+time.Millisecond)
				untouched(t, &before, b.a)
				if got := b.a.status.Rejected[c.reason]; got != 1 {
					t.Errorf("counter %v is %d, want 1", c.reason, got)
				}
			})
		}
	}
}

func TestOldKissWithNothingPendingIsBogus(t *testing.T) {
	b := newBench(t, clientConfig())
	request := header(t, b.sendNext())
	good := goodReply(request, epoch.Add(b.now))
	b.deliver(encode(&good, nil), serverEnd, b.now+time.Millisecond)
	before := *b.a
	h := kissFor(request, wire.KissDENY)
	b.deliver(encode(&h, nil), serverEnd, b.now+2*time.Millisecond)
	untouched(t, &before, b.a)
}

func TestRFC5905_7_4_OtherKissesAreCountedAndIgnored(t *testing.T) {
	for _, text := range []string{"XYZW", "XABC", "ACST", "CRYP", "NKEY", "ABCD", "NTSN"} {
		b := newBench(t, clientConfig())
		b.exchange()
		next := b.a.poll.interval()
		h := kissFor(header(t, b.sendNext()), wire.ReferenceName(text))
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if b.a.done || b.a.poll.interval() != next || b.a.status.Denied {
			t.Errorf("%s: done %v, interval %v, denied %v", text, b.a.done, b.a.poll.interval(), b.a.status.Denied)
		}
		want := model.CountOther
		if text == "NTSN" {
			want = model.CountNTSN
		}
		if b.a.status.Kisses[want] != 1 || b.a.status.Rejected[model.RejectKiss] != 1 {
			t.Errorf("%s: kisses %v, rejected %v", text, b.a.status.Kisses, b.a.status.Rejected)
		}
		b.exchange()
		if !b.out.HasSample {
			t.Errorf("%s: the next exchange gave no sample", text)
		}
	}
}

func TestRFC5905_7_4_RateSlowsDownAtOnceAndComesBack(t *testing.T) {
	cases := []struct {
		name     string
		min, max ntptime.Log2
		asked    ntptime.Log2 // the kiss's own poll field
		after    []time.Duration
	}{
		{"each RATE doubles, up to max_poll", 6, 8, 6, []time.Duration{128 * time.Second, 256 * time.Second, 256 * time.Second}},
		{"a server that asks for more gets it, within max_poll", 6, 10, 9, []time.Duration{512 * time.Second, 1024 * time.Second}},
		{"a fixed quick poll is slowed down too, to 64 s", 0, 0, 0, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second,
			16 * time.Second, 32 * time.Second, 64 * time.Second, 64 * time.Second}},
		{"a poll field without sense has no effect", 6, 8, 127, []time.Duration{256 * time.Second}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := clientConfig()
			cfg.MinPoll, cfg.MaxPoll = c.min, c.max
			b := newBench(t, cfg)
			b.exchange()
			normal := b.a.poll.interval()
			for i, want := range c.after {
				h := kissFor(header(t, b.sendNext()), wire.KissRATE)
				h.Poll = c.asked
				b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
				if got := b.a.Status().Interval; got != want {
					t.Errorf("after %d RATE the interval is %v, want %v", i+1, got, want)
				}
				sent := b.a.poll.at
				if wait := b.a.Deadline().Sub(sent); wait < want-want/50 || wait > want+want/50 {
					t.Errorf("after %d RATE the next poll waits %v, want %v", i+1, wait, want)
				}
			}
			for range recovery * 8 {
				b.exchange()
			}
			if got := b.a.Status().Interval; got != normal {
				t.Errorf("after a while without RATE the interval is %v, want %v again", got, normal)
			}
			if b.a.status.Denied || b.a.done {
				t.Error("RATE must not end anything")
			}
		})
	}
}

func TestRateEndsAStart(t *testing.T) {
	cfg := clientConfig()
	cfg.IBurst = true
	b := newBench(t, cfg)
	b.exchange()
	h := kissFor(header(t, b.sendNext()), wire.KissRATE)
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	sent := b.now
	b.sendNext()
	if wait := b.now - sent; wait < 120*time.Second {
		t.Errorf("polled %v after a RATE, want 128s", wait)
	}
}
