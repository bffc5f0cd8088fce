package association

import (
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/wire"
)

// fuzzTarget is an association in the middle of its life.
func fuzzTarget(t testing.TB, kind uint8, keyed, pending bool) *bench {
	cfg := clientConfig()
	cfg.IBurst, cfg.Interleaved = true, InterleaveOn
	cfg.Kind = []Kind{KindClient, KindActive, KindPassive, KindBroadcastClient, KindBroadcastServer}[kind%5]
	if keyed {
		cfg.Key = testKey(t, 10)
	}
	b := newBench(t, cfg)
	if cfg.Kind == KindBroadcastServer || cfg.Kind == KindBroadcastClient {
		b.a.OnTimer(b.clock.at(0), &b.out)
		return b
	}
	b.sendNext()
	if !pending {
		b.now += 4 * time.Second
		b.out.Reset()
		b.a.OnTimer(b.clock.at(b.now), &b.out)
	}
	return b
}

// FuzzOnPacket throws packets at associations that never heard of them: with a key,
// nothing but counters changes; without one, what cannot know an origin makes no
// sample, ends nothing and moves no poll.
func FuzzOnPacket(f *testing.F) {
	h := goodReply(wire.Header{Version: 4}, epoch)
	for kind := range uint8(5) {
		for mode := wire.ModeReserved; mode <= wire.ModePrivate; mode++ {
			h.Mode = mode
			f.Add(encode(&h, nil), kind, mode%2 == 0, mode%3 == 0)
		}
		k := kissFor(h, wire.KissDENY)
		f.Add(encode(&k, nil), kind, true, true)
		f.Add(append(encode(&h, nil), 0, 0, 0, 0), kind, true, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8, keyed, pending bool) {
		b := fuzzTarget(t, kind, keyed, pending)
		before := *b.a
		rx := model.Received{Data: data, Remote: serverEnd, Local: clientEnd.Addr(), At: b.clock.at(b.now + time.Millisecond)}
		var p wire.Packet
		if p.Decode(data) != wire.DefectNone {
			b.a.OnMalformed()
			return
		}
		var out Output
		b.a.OnPacket(&rx, &p, &out)
		if out.HasSample || out.Done || b.a.done || b.a.pending != before.pending {
			t.Errorf("a packet out of nowhere: %+v", out)
		}
		if keyed {
			untouched(t, &before, b.a)
		}
		if b.a.cfg.Kind == KindClient {
			untouched(t, &before, b.a)
		}
		b.a.OnTimer(b.clock.at(b.now+time.Hour), &out)
	})
}

// FuzzTimes calls everything in any order with instants that jump.
func FuzzTimes(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, uint8(0))
	f.Add([]byte{0, 0, 8, 16, 24, 40, 1, 9}, uint8(1))
	f.Add([]byte{3, 3, 0, 0, 255, 0, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, calls []byte, kind uint8) {
		b := fuzzTarget(t, kind, false, true)
		h := goodReply(wire.Header{Version: 4}, epoch)
		for i, c := range calls {
			b.now += time.Duration(c) * time.Duration(c) * time.Duration(i+1) * time.Millisecond
			now := b.clock.at(b.now)
			b.out.Reset()
			switch c % 8 {
			case 0, 1:
				b.a.OnTimer(now, &b.out)
			case 2:
				h.Origin, h.Mode = b.a.pending.transmit, wire.ModeServer
				b.deliver(encode(&h, nil), serverEnd, b.now)
			case 3:
				h.Mode, h.Transmit = wire.ModeBroadcast, now.Timestamp()
				b.deliver(encode(&h, nil), serverEnd, b.now)
			case 4:
				b.a.OnHint(model.Hint{Interval: time.Duration(c) * time.Second, Soon: time.Duration(i) * time.Second}, now)
			case 5:
				b.a.OnClockChanged(now, &b.out)
			case 6:
				b.a.OnSendError(uint32(c), now, &b.out)
			case 7:
				h.Mode, h.Transmit = wire.ModeActive, now.Timestamp()
				if n := b.a.symmetric.newest(); n != nil {
					h.Origin = n.transmit
				}
				b.deliver(encode(&h, nil), serverEnd, b.now)
			}
			if n := len(b.out.Transmit); n > 1 {
				t.Fatalf("%d packets at once", n)
			}
			if st := b.a.Status(); st.Interval <= 0 {
				t.Fatalf("interval %v", st.Interval)
			}
		}
	})
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		cfg := clientConfig()
		if keyed {
			cfg.Key = testKey(t, 10)
		}
		b := newBench(t, cfg)
		for range 10 {
			b.exchange()
		}
		var p wire.Packet
		var rx model.Received
		n := testing.AllocsPerRun(100, func() {
			b.now = b.clock.when(b.a.Deadline())
			b.out.Reset()
			b.a.OnTimer(b.clock.at(b.now), &b.out)
			data := b.out.Transmit[0].Data
			p.Decode(data)
			h := goodReply(p.Header, epoch.Add(b.now))
			h.Put(data)
			if keyed {
				data = b.a.signer.AppendMAC(data[:wire.HeaderSize], cfg.Key, cfg.Key.Type().SizeFor(4))
			}
			rx = model.Received{Data: data, Remote: serverEnd, At: b.clock.at(b.now + time.Millisecond)}
			p.Decode(data)
			b.out.HasSample = false
			b.a.OnPacket(&rx, &p, &b.out)
			if !b.out.HasSample {
				t.Fatalf("no sample; rejected %v", b.a.status.Rejected)
			}
		})
		if n != 0 {
			t.Errorf("keyed %v: %v allocations an exchange, want none", keyed, n)
		}
	}
}
