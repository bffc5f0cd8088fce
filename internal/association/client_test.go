package association

import (
	"testing"
	"time"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/wire"
)

func TestRFC5905_8_ExchangeGivesSample(t *testing.T) {
	b := newBench(t, clientConfig())
	b.clock.behind = 30 * time.Millisecond
	request := b.sendNext()
	sent := b.now
	id := b.out.Transmit[0].ID
	if !b.out.Transmit[0].FreshPort {
		t.Error("a client's request must come from a port of its own")
	}
	b.a.OnTransmitted(id, b.clock.at(sent+10*time.Microsecond), model.TimestampKernel)
	h := goodReply(header(t, request), epoch.Add(sent+510*time.Microsecond))
	b.deliver(encode(&h, nil), serverEnd, sent+1030*time.Microsecond)
	if !b.out.HasSample || !b.out.StatusChanged {
		t.Fatalf("sample %v, status changed %v; want both", b.out.HasSample, b.out.StatusChanged)
	}
	s := &b.out.Sample
	offset := (s.T2.Sub(s.T1.Wall) + s.T3.Sub(s.T4.Wall)) / 2
	if got := roundTrip(s); got < 999*time.Microsecond || got > 1001*time.Microsecond {
		t.Errorf("delay %v, want 1ms: T1 must be the kernel's timestamp", got)
	}
	if offset < 29999*time.Microsecond || offset > 30001*time.Microsecond {
		t.Errorf("offset %v, want +30ms: reference − local", offset)
	}
	if s.Source != 1 || s.Kind != model.SampleExchange || s.Authenticated || s.Interleaved || s.Server.Stratum != 2 {
		t.Errorf("sample %+v", s)
	}
	st := b.a.Status()
	if st.Reach != 1 || st.Accepted != 1 || st.Sent != 1 || st.RemoteMode != wire.ModeServer || st.Server.Stratum != 2 {
		t.Errorf("status %+v", st)
	}
}

// replyCase is a reply that is wrong in one respect.
type replyCase struct {
	name    string
	key     bool  // the association has key 10
	version uint8 // sent; 0: 4
	spoil   func(b *bench, h *wire.Header)
	sign    uint32 // sign with this key; 0: not
	id      uint32 // written over the signature's key id
	nak     bool
	from    string
	reason  model.RejectReason
}

var refusedReplies = []replyCase{
	{name: "a reply from another address is refused (TEST4)", from: "192.0.2.77:123", reason: model.RejectAccess},
	{name: "a reply from another port is refused (TEST4)", from: "192.0.2.1:1123", reason: model.RejectAccess},
	{name: "a reply of a higher version is refused", version: 3, spoil: func(_ *bench, h *wire.Header) { h.Version = 4 }, reason: model.RejectVersion},
	{name: "an origin of another request is bogus (TEST2)", spoil: func(_ *bench, h *wire.Header) { h.Origin++ }, reason: model.RejectBogus},
	{name: "a zero origin is bogus (TEST2, CVE-2015-8138)", spoil: func(_ *bench, h *wire.Header) { h.Origin = 0 }, reason: model.RejectBogus},
	{name: "a zero receive timestamp is invalid (TEST3)", spoil: func(_ *bench, h *wire.Header) { h.Receive = 0 }, reason: model.RejectInvalid},
	{name: "a zero transmit timestamp is invalid (TEST3)", spoil: func(_ *bench, h *wire.Header) { h.Transmit = 0 }, reason: model.RejectInvalid},
	{name: "a request is no reply", spoil: func(_ *bench, h *wire.Header) { h.Mode = wire.ModeClient }, reason: model.RejectMode},
	{name: "mode 2 is no reply", spoil: func(_ *bench, h *wire.Header) { h.Mode = wire.ModePassive }, reason: model.RejectMode},
	{name: "mode 1 is no reply", spoil: func(_ *bench, h *wire.Header) { h.Mode = wire.ModeActive }, reason: model.RejectMode},
	{name: "mode 5 is no reply", spoil: func(_ *bench, h *wire.Header) { h.Mode = wire.ModeBroadcast }, reason: model.RejectMode},
	{name: "with a key an unsigned reply is refused (TEST5)", key: true, reason: model.RejectAuth},
	{name: "another known key is refused (TEST5, CVE-2015-7974)", key: true, sign: 11, reason: model.RejectAuth},
	{name: "the right digest under another key's id is refused", key: true, sign: 10, id: 11, reason: model.RejectAuth},
	{name: "a crypto-NAK is a failed check (CVE-2015-7871)", key: true, nak: true, reason: model.RejectAuth},
	{name: "a crypto-NAK is a failed check without a key too", nak: true, reason: model.RejectAuth},
}

func TestRFC5905_8_RepliesThatFailATestChangeNothing(t *testing.T) {
	for _, c := range refusedReplies {
		t.Run(c.name, func(t *testing.T) {
			cfg := clientConfig()
			if cfg.Version = 4; c.version != 0 {
				cfg.Version = c.version
			}
			if c.key {
				cfg.Key = testKey(t, 10)
			}
			b := newBench(t, cfg)
			b.exchange()
			good := b.answer(b.sendNext())
			bad := good
			if c.spoil != nil {
				c.spoil(b, &bad)
			}
			var key *mac.Key
			if c.sign != 0 {
				key = testKey(t, c.sign)
			}
			data := encode(&bad, key)
			if c.id != 0 {
				data[wire.HeaderSize+3] = byte(c.id)
			}
			if c.nak {
				data = append(data, 0, 0, 0, 0)
			}
			from := serverEnd
			if c.from != "" {
				from = mustEnd(c.from)
			}
			before := *b.a
			b.deliver(data, from, b.now+time.Millisecond)
			untouched(t, &before, b.a)
			if got := b.a.status.Rejected[c.reason]; got != before.status.Rejected[c.reason]+1 {
				t.Errorf("counter %v went from %d to %d, want one more", c.reason, before.status.Rejected[c.reason], got)
			}
			if b.out.HasSample || len(b.out.Transmit) > 0 || len(b.out.Events) > 0 {
				t.Errorf("output %+v, want nothing", b.out)
			}
			b.deliver(encode(&good, cfg.Key), serverEnd, b.now+2*time.Millisecond)
			if !b.out.HasSample {
				t.Error("the true reply after it was not taken")
			}
		})
	}
}

func TestRFC5905_8_DuplicateReply(t *testing.T) {
	b := newBench(t, clientConfig())
	h := b.answer(b.sendNext())
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	before := *b.a
	for range 3 {
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if b.out.HasSample {
			t.Fatal("a copy of a reply gave a sample")
		}
	}
	untouched(t, &before, b.a)
	if got := b.a.status.Rejected[model.RejectBogus] + b.a.status.Rejected[model.RejectDuplicate]; got != 3 {
		t.Errorf("%d copies counted, want 3", got)
	}
}

func TestRFC5905_8_SameTransmitTimestampAgainIsDuplicate(t *testing.T) {
	b := newBench(t, clientConfig())
	first := b.answer(b.sendNext())
	b.deliver(encode(&first, nil), serverEnd, b.now+time.Millisecond)
	second := b.answer(b.sendNext())
	second.Transmit = first.Transmit
	b.deliver(encode(&second, nil), serverEnd, b.now+time.Millisecond)
	if got := b.a.status.Rejected[model.RejectDuplicate]; got != 1 || b.out.HasSample {
		t.Errorf("duplicates %d, sample %v; want 1, false", got, b.out.HasSample)
	}
}

// TestZeroOriginWhenNothingIsPending is CVE-2015-8138: before, between and after polls.
func TestZeroOriginWhenNothingIsPending(t *testing.T) {
	b := newBench(t, clientConfig())
	forged := goodReply(wire.Header{Version: 4}, epoch)
	forged.Origin = 0
	for i := range 4 {
		forged.Transmit++
		before := *b.a
		b.deliver(encode(&forged, nil), serverEnd, b.now)
		if i > 0 {
			untouched(t, &before, b.a)
		}
		if got := b.a.status.Rejected[model.RejectBogus]; got != uint64(i+1) {
			t.Errorf("bogus counter %d, want %d", got, i+1)
		}
		b.exchange()
		if !b.out.HasSample {
			t.Fatal("the next true reply was not taken")
		}
	}
}

func TestLateReplyIsBogus(t *testing.T) {
	b := newBench(t, clientConfig())
	late := b.answer(b.sendNext())
	sent := b.now
	second := b.sendNext()
	if b.now-sent < 3*time.Second {
		t.Fatalf("polled again after %v", b.now-sent)
	}
	b.deliver(encode(&late, nil), serverEnd, b.now)
	if got := b.a.status.Rejected[model.RejectBogus]; got != 1 || b.out.HasSample {
		t.Errorf("bogus %d, sample %v; want 1, false", got, b.out.HasSample)
	}
	h := b.answer(second)
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	if !b.out.HasSample || b.a.status.Reach != 1 {
		t.Errorf("sample %v, reach %o; want true, 1", b.out.HasSample, b.a.status.Reach)
	}
}

func TestRFC5905_A_HeadersWithoutTime(t *testing.T) {
	cases := []struct {
		name   string
		spoil  func(h *wire.Header)
		reason model.RejectReason
	}{
		{"leap 3 is unsynchronized (TEST6)", func(h *wire.Header) { h.Leap = wire.LeapUnknown }, model.RejectUnsync},
		{"stratum 0 with leap 0 is unsynchronized (TEST6)", func(h *wire.Header) { h.Stratum = 0 }, model.RejectUnsync},
		{"stratum 16 is unsynchronized (TEST6)", func(h *wire.Header) { h.Stratum = 16 }, model.RejectUnsync},
		{"stratum 255 is unsynchronized (TEST6)", func(h *wire.Header) { h.Stratum = 255 }, model.RejectUnsync},
		{"INIT is a state and no kiss", func(h *wire.Header) {
			h.Leap, h.Stratum, h.ReferenceID = wire.LeapUnknown, 0, wire.KissINIT
		}, model.RejectUnsync},
		{"STEP is a state and no kiss", func(h *wire.Header) {
			h.Leap, h.Stratum, h.ReferenceID = wire.LeapUnknown, 0, wire.KissSTEP
		}, model.RejectUnsync},
		{"a kiss code without leap 3 is no kiss", func(h *wire.Header) { h.Stratum, h.ReferenceID = 0, wire.KissDENY }, model.RejectUnsync},
		{"an address in place of a kiss code is no kiss", func(h *wire.Header) { h.Leap, h.Stratum = wire.LeapUnknown, 0 }, model.RejectUnsync},
		{"a root distance of 16 s is too much (TEST7)", func(h *wire.Header) { h.RootDispersion = 16 << 16 }, model.RejectHeader},
		{"half the root delay counts (TEST7)", func(h *wire.Header) { h.RootDelay = 32 << 16 }, model.RejectHeader},
		{"a reference time after the transmit time is impossible (TEST7)", func(h *wire.Header) { h.ReferenceTime = h.Transmit + 1<<32 }, model.RejectHeader},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, clientConfig())
			b.exchange()
			h := b.answer(b.sendNext())
			c.spoil(&h)
			b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
			if got := b.a.status.Rejected[c.reason]; got != 1 {
				t.Errorf("counter %v is %d, want 1", c.reason, got)
			}
			if b.out.HasSample || b.a.status.Reach != 0b10 {
				t.Errorf("sample %v, reach %b; want false, 10", b.out.HasSample, b.a.status.Reach)
			}
			if st := b.a.Status(); c.reason == model.RejectUnsync && st.Server.Leap != wire.LeapUnknown && st.Server.Stratum != 16 {
				t.Errorf("server %+v, want it shown as unsynchronized", st.Server)
			}
		})
	}
}

func TestReferenceTimeZeroIsAccepted(t *testing.T) {
	b := newBench(t, clientConfig())
	h := b.answer(b.sendNext())
	h.ReferenceTime = 0 // orphan servers of ntp.org and ntpsec
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	if !b.out.HasSample || b.out.Sample.Server.ReferenceTime != 0 {
		t.Errorf("sample %v %+v", b.out.HasSample, b.out.Sample.Server)
	}
}

func TestDelayBounds(t *testing.T) {
	cases := []struct {
		name      string
		back      time.Duration // from the server's timestamps to the arrival
		shift     time.Duration // of T3, as if the server had rested
		precision ntptime.Log2  // of the server
		sample    bool
	}{
		{"an ordinary delay is taken", time.Millisecond, 0, -20, true},
		{"a delay over max_delay is refused", 2300 * time.Millisecond, 0, -20, false},
		{"a delay under max_delay is taken", 1900 * time.Millisecond, 0, -20, true},
		{"a delay that is negative by 10 ms is refused", time.Millisecond, 12 * time.Millisecond, -20, false},
		{"a delay that is negative by 100 us is refused", time.Millisecond, 1600 * time.Microsecond, -20, false},
		{"a delay that is negative by 25 us is refused", time.Millisecond, 1525 * time.Microsecond, -20, false},
		{"a delay that is negative by 18 us is the noise of timestamps", time.Millisecond, 1518 * time.Microsecond, -20, true},
		{"a delay that is negative by 1 us is what precision allows", time.Millisecond, 1501 * time.Microsecond, -20, true},
		{"a coarse clock excuses as much as it claims", time.Millisecond, 1740 * time.Microsecond, -12, true},
		{"a coarse clock excuses no more than it claims", time.Millisecond, 1760 * time.Microsecond, -12, false},
		{"a clock of 1 s excuses no more than one of 16 ms", time.Millisecond, 1500*time.Microsecond + 17*time.Millisecond, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := clientConfig()
			cfg.MaxDelay = 2 * time.Second
			b := newBench(t, cfg)
			h := b.answer(b.sendNext())
			h.Transmit, h.Precision = h.Receive.Add(c.shift), c.precision
			b.deliver(encode(&h, nil), serverEnd, b.now+500*time.Microsecond+c.back)
			refused := b.a.status.Rejected[model.RejectDelay] == 1
			if b.out.HasSample != c.sample || refused == c.sample {
				t.Errorf("sample %v, refused %v; want sample %v", b.out.HasSample, refused, c.sample)
			}
			if b.a.status.Reach != 1 {
				t.Error("the server was reached all the same")
			}
		})
	}
}

// TestRFC5905_8_DelayNeverBelowPrecision: a round trip that is negative within the noise
// calibrates broadcasts with a delay and an error that are not 0.
func TestRFC5905_8_DelayNeverBelowPrecision(t *testing.T) {
	for _, test := range []struct {
		name            string
		roundTrip, want time.Duration
	}{
		{"a negative one is the precision", -15 * time.Microsecond, 2 * time.Microsecond},
		{"one below the precision is the precision", time.Microsecond, 2 * time.Microsecond},
		{"one above it is itself", 300 * time.Microsecond, 300 * time.Microsecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l broadcastClient
			s := model.Sample{T1: instant(0), T2: epoch, T3: epoch.Add(100 * time.Microsecond), T4: instant(100*time.Microsecond + test.roundTrip)}
			l.calibrated(&s, 2*time.Microsecond)
			if l.delay != test.want/2 || l.uncertain != test.want/2 || l.prediction.error != test.want/2 {
				t.Errorf("got a delay of %v ± %v, a line ± %v, want %v each", l.delay, l.uncertain, l.prediction.error, test.want/2)
			}
		})
	}
}

// TestRFC5905_6_EraOf2036 follows a server on both sides of the end of era 0.
func TestRFC5905_6_EraOf2036(t *testing.T) {
	edge := ntptime.WallOf(time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC))
	for _, start := range []time.Duration{-time.Hour, -2 * time.Second, -510 * time.Microsecond, -499 * time.Microsecond, 0, time.Second, 24 * time.Hour} {
		for _, behind := range []time.Duration{0, 10 * time.Second, -10 * time.Second, 20 * 365 * 24 * time.Hour} {
			b := newBench(t, clientConfig())
			b.clock = clockOf{start: edge.Add(start), behind: behind}
			b.a = New(clientConfig(), b.clock.at(0), &seeded{1})
			request := b.sendNext()
			h := goodReply(header(t, request), edge.Add(start+b.now+500*time.Microsecond))
			b.deliver(encode(&h, nil), serverEnd, b.now+1020*time.Microsecond)
			if !b.out.HasSample {
				t.Fatalf("start %v, behind %v: no sample; rejected %v", start, behind, b.a.status.Rejected)
			}
			s := &b.out.Sample
			offset := s.T2.Sub(s.T1.Wall)/2 + s.T3.Sub(s.T4.Wall)/2
			if err := offset - behind; err > time.Microsecond || err < -time.Microsecond {
				t.Errorf("start %v: offset %v, want %v", start, offset, behind)
			}
			if age := s.T2.Sub(s.Server.ReferenceTime); age < 9*time.Second || age > 11*time.Second {
				t.Errorf("start %v: reference time is %v before T2, want 10s", start, age)
			}
		}
	}
}

func TestEraIsResolvedAgainstTheFloorWhenOurClockReads1970(t *testing.T) {
	cfg := clientConfig()
	truth := ntptime.WallOf(time.Date(2041, 1, 1, 0, 0, 0, 0, time.UTC))
	cfg.PivotFloor = epoch
	b := newBench(t, cfg)
	b.clock = clockOf{start: 0}
	b.a = New(cfg, b.clock.at(0), &seeded{1})
	h := goodReply(header(t, b.sendNext()), truth)
	b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
	if got := b.out.Sample.T2; got != truth {
		t.Errorf("T2 %v, want %v", got.Time(), truth.Time())
	}
}

// A clock that reads 2099 or later, and even a floor of then: the server of 2026 is right.
func TestEraIsResolvedBelowTheCeilingWhenOurClockReads2099(t *testing.T) {
	for _, year := range []int{2095, 2099, 2163, 2200} {
		cfg := clientConfig()
		truth := ntptime.WallOf(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
		late := ntptime.WallOf(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		cfg.PivotFloor = late
		b := newBench(t, cfg)
		b.clock = clockOf{start: late}
		b.a = New(cfg, b.clock.at(0), &seeded{1})
		h := goodReply(header(t, b.sendNext()), truth)
		b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
		if got := b.out.Sample.T2; got != truth {
			t.Errorf("our clock in %d: got T2 %v, want %v", year, got.Time(), truth.Time())
		}
	}
}

func TestKernelTimestampAfterTheDaemons(t *testing.T) {
	cases := []struct {
		name       string
		timestamps []timestampCall
		want       time.Duration // T1 after the decision to send
	}{
		{"no timestamp: the decision", nil, 0},
		{"the daemon's", []timestampCall{{30 * time.Microsecond, model.TimestampDaemon}}, 30 * time.Microsecond},
		{"the kernel's replaces the daemon's", []timestampCall{{30 * time.Microsecond, model.TimestampDaemon}, {20 * time.Microsecond, model.TimestampKernel}}, 20 * time.Microsecond},
		{"the daemon's does not replace the kernel's", []timestampCall{{20 * time.Microsecond, model.TimestampKernel}, {30 * time.Microsecond, model.TimestampDaemon}}, 20 * time.Microsecond},
		{"the NIC's replaces both", []timestampCall{{20 * time.Microsecond, model.TimestampKernel}, {25 * time.Microsecond, model.TimestampHardware}}, 25 * time.Microsecond},
		{"one long before the decision is nonsense", []timestampCall{{-time.Second, model.TimestampKernel}}, 0},
		{"one long after it too", []timestampCall{{time.Minute, model.TimestampKernel}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, clientConfig())
			h := b.answer(b.sendNext())
			for _, s := range c.timestamps {
				b.a.OnTransmitted(b.out.Transmit[0].ID, b.clock.at(b.now+s.after), s.kind)
			}
			b.a.OnTransmitted(b.out.Transmit[0].ID+1, b.clock.at(b.now+time.Millisecond), model.TimestampHardware)
			sent := b.clock.at(b.now)
			b.deliver(encode(&h, nil), serverEnd, b.now+time.Millisecond)
			if got := b.out.Sample.T1.Raw.Sub(sent.Raw); got != c.want {
				t.Errorf("T1 %v after the decision, want %v", got, c.want)
			}
		})
	}
}

type timestampCall struct {
	after time.Duration
	kind  model.TimestampKind
}

// scripted gives the same numbers again and again.
type scripted struct {
	values []uint64
	next   int
}

func (s *scripted) Uint64() uint64 {
	s.next++
	return s.values[(s.next-1)%len(s.values)]
}

func TestCookiesAreNeverZeroNorTwiceTheSame(t *testing.T) {
	a := New(clientConfig(), instant(0), &scripted{values: []uint64{0, 0, 7, 7, 0, 9}})
	if first, second := a.cookie(0), a.cookie(7); first != 7 || second != 9 {
		t.Errorf("cookies %v and %v, want 7 and 9", first, second)
	}
}

// TestRFC5905_8_DispersionHasThePrecisionOfBothClocks: however coarse the source's is.
func TestRFC5905_8_DispersionHasThePrecisionOfBothClocks(t *testing.T) {
	for _, test := range []struct {
		source, own ntptime.Log2
		want        time.Duration
	}{
		{-20, -20, 2 * 953 * time.Nanosecond},
		{-6, -20, 15625*time.Microsecond + 953*time.Nanosecond},
		{0, -20, time.Second + 953*time.Nanosecond},
		{127, -29, 1024*time.Second + 1},
		{-128, 0, 2}, // our own is not known
	} {
		b := newBench(t, clientConfig())
		request := b.sendNext()
		b.a.system.Precision = test.own
		h := goodReply(header(t, request), epoch.Add(b.now+500*time.Microsecond))
		h.Precision = test.source
		b.deliver(encode(&h, nil), serverEnd, b.now+1020*time.Microsecond)
		if !b.out.HasSample || b.out.Sample.Dispersion != test.want {
			t.Errorf("source 2^%d s, own 2^%d s: got %v (sample %v), want %v", test.source, test.own, b.out.Sample.Dispersion, b.out.HasSample, test.want)
		}
	}
}
