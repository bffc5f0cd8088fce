package association

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"timeball/internal/model"
	"timeball/internal/ntptime"
	"timeball/internal/nts"
	"timeball/internal/siv"
	"timeball/internal/wire"
)

// ntsServer is the other end of a test: its ring and the keys of the exchange.
type ntsServer struct {
	ring    *nts.Ring
	secrets nts.Secrets
	server  nts.Server
	random  seeded
}

func newNTSServer() *ntsServer {
	s := &ntsServer{ring: nts.NewRing([nts.RingKeySize]byte{1}, epoch), secrets: nts.Secrets{Algorithm: siv.AESSIVCMAC256}, random: seeded{99}}
	for i := range 32 {
		s.secrets.C2S[i], s.secrets.S2C[i] = byte(i), byte(i+50)
	}
	return s
}

func (s *ntsServer) keys() *Keys {
	k := &Keys{Secrets: s.secrets}
	for range nts.MaxCookies {
		k.Cookies = append(k.Cookies, s.ring.AppendCookie(nil, &s.secrets, &s.random))
	}
	return k
}

// reply answers a request: with the time, or by NTSN.
func (s *ntsServer) reply(t testing.TB, request []byte, at ntptime.Wall) []byte {
	t.Helper()
	var p wire.Packet
	var f nts.Fields
	if p.Decode(request) != wire.DefectNone || !f.Read(&p) {
		t.Fatalf("a request that is not well formed: %x", request)
	}
	h := wire.Header{Version: 4, Mode: wire.ModeServer, Stratum: 2, Origin: p.Transmit, Receive: at.Timestamp(), Transmit: at.Add(time.Millisecond).Timestamp(), Precision: -20}
	switch s.server.Judge(s.ring, &f, len(request), len(request)) {
	case nts.Genuine:
		s.server.Prepare(s.ring, &s.random)
		return s.server.AppendReply(h.Append(nil), &s.random)
	case nts.Refused:
		h.Stratum, h.Leap, h.ReferenceID = 0, wire.LeapUnknown, wire.KissNTSN
		return s.server.AppendNAK(h.Append(nil))
	}
	t.Fatalf("the server takes the request for malformed: %x", request)
	return nil
}

func ntsBench(t testing.TB, change func(*Config)) (*bench, *ntsServer) {
	cfg := clientConfig()
	cfg.NTS = true
	if change != nil {
		change(&cfg)
	}
	return newBench(t, cfg), newNTSServer()
}

// untilExchange waits for the association to ask for keys, and gives how long it took; no
// packet may leave before.
func (b *bench) untilExchange() time.Duration {
	b.t.Helper()
	began := b.now
	for range 100 {
		b.out.Reset()
		b.now = max(b.now, b.clock.when(b.a.Deadline()))
		b.a.OnTimer(b.clock.at(b.now), &b.out)
		if len(b.out.Transmit) > 0 {
			b.t.Fatal("a packet left without keys")
		}
		if b.out.ExchangeKeys {
			return b.now - began
		}
	}
	b.t.Fatal("no key exchange is asked for")
	return 0
}

func (b *bench) give(k *Keys) {
	b.out.Reset()
	b.a.OnKeys(k, b.clock.at(b.now), &b.out)
}

// poll makes one exchange with the server.
func (b *bench) poll(s *ntsServer) {
	b.t.Helper()
	request := b.sendNext()
	b.deliver(s.reply(b.t, request, b.clock.at(b.now).Wall), serverEnd, b.now+2*time.Millisecond)
}

func TestRFC8915_5_7_KeysComeFirst(t *testing.T) {
	b, s := ntsBench(t, nil)
	if took := b.untilExchange(); took != 0 {
		t.Errorf("got the first key exchange after %v, want at once", took)
	}
	b.give(s.keys())
	for i := range 20 {
		b.poll(s)
		if !b.out.HasSample || !b.out.Sample.Authenticated {
			t.Fatalf("poll %d: got no authenticated sample; rejected %v", i, b.a.status.Rejected)
		}
	}
	st := b.a.Status()
	if !st.NTS || st.Security.Cookies != 8 || st.Security.State != model.KeysInUse || st.Security.Algorithm != 15 || st.Security.Exchanges != 1 {
		t.Errorf("got %+v", st.Security)
	}
}

// threats 29: what is not the server's changes nothing, and plain time is never taken.
func TestRFC8915_5_7_ForgedRepliesChangeNothing(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	b.give(s.keys())
	b.poll(s)
	for range 30 {
		request := b.sendNext()
		var p wire.Packet
		p.Decode(request)
		plain := wire.Header{Version: 4, Mode: wire.ModeServer, Stratum: 1, Origin: p.Transmit, Receive: 5, Transmit: 6}
		nak := wire.Header{Version: 4, Mode: wire.ModeServer, Leap: wire.LeapUnknown, ReferenceID: wire.KissNTSN, Origin: p.Transmit}
		deny := nak
		deny.ReferenceID = wire.KissDENY
		foreign := wire.AppendField(nak.Append(nil), wire.FieldUniqueIdentifier, make([]byte, 32), wire.MinLastField)
		good := s.reply(t, request, b.clock.at(b.now).Wall)
		broken := append([]byte(nil), good...)
		broken[30] ^= 1
		for _, forged := range [][]byte{plain.Append(nil), nak.Append(nil), deny.Append(nil), foreign, broken} {
			b.deliver(forged, serverEnd, b.now+time.Millisecond)
			if b.out.HasSample || b.out.Done || b.out.ExchangeKeys {
				t.Fatalf("a forged reply was taken: %x", forged)
			}
		}
		b.deliver(good, serverEnd, b.now+2*time.Millisecond)
		if !b.out.HasSample {
			t.Fatal("the true reply was not taken after forged ones")
		}
	}
	if st := b.a.Status(); st.Security.Exchanges != 1 || st.Reach != 255 {
		t.Errorf("got %d key exchanges and reach %d, want 1 and 255", st.Security.Exchanges, st.Reach)
	}
}

// NTSN is a hint: the poll that it answers goes on, and only its end without a good reply
// makes another key exchange.
func TestRFC8915_5_7_NTSNIsAHint(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	b.give(s.keys())
	b.poll(s)
	s.ring = nts.NewRing([nts.RingKeySize]byte{2}, epoch)
	request := b.sendNext()
	b.deliver(s.reply(t, request, b.clock.at(b.now).Wall), serverEnd, b.now+2*time.Millisecond)
	if got := b.a.Status().Refused(); !strings.Contains(got, "NTSN") {
		t.Errorf("got %q of a server that has lost its keys", got)
	}
	if b.out.ExchangeKeys || b.a.pending.state == idle || b.a.Status().Security.Cookies == 0 {
		t.Fatal("NTSN had its effect at once")
	}
	b.untilExchange()
	if got := b.a.Status().Kisses[model.CountNTSN]; got != 1 {
		t.Errorf("got %d NTSN counted, want 1", got)
	}
	b.give(s.keys())
	if b.poll(s); !b.out.HasSample {
		t.Error("no sample with the new keys")
	}
}

// NTPsec's server never sends NTSN: after eight lost answers the keys are given up.
func TestEightLostAnswersMakeAnotherKeyExchange(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	b.give(s.keys())
	for range 8 {
		b.sendNext()
	}
	b.untilExchange()
}

// RFC 8915 §4.2: the wait between key exchanges grows, by half each time.
func TestRFC8915_4_2_TheWaitGrows(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	last := time.Duration(0)
	for i := range 40 {
		b.out.Reset()
		b.a.OnKeysFailed("date", "expired", b.clock.at(b.now), &b.out)
		if i > 0 && len(b.out.Events) > 1 {
			t.Errorf("failure %d: got %d events, want one for the first alone", i, len(b.out.Events))
		}
		wait := b.untilExchange()
		if wait < last || wait > longestBackoff || i == 0 && wait < firstBackoff {
			t.Errorf("failure %d: waited %v after %v", i, wait, last)
		}
		last = wait
	}
	if st := b.a.Status(); last != longestBackoff || st.Security.FailureKind != "date" || st.Unanswered < 8 {
		t.Errorf("got a last wait of %v, %+v", last, st.Security)
	}
	// Keys that do no good do not end the wait; a good reply does.
	b.give(s.keys())
	s.ring = nts.NewRing([nts.RingKeySize]byte{2}, epoch)
	request := b.sendNext()
	b.deliver(s.reply(t, request, b.clock.at(b.now).Wall), serverEnd, b.now+time.Millisecond)
	if wait := b.untilExchange(); wait < longestBackoff {
		t.Errorf("got another key exchange after %v", wait)
	}
}

func TestAKeyExchangeWithoutOutcomeIsGivenUp(t *testing.T) {
	b, _ := ntsBench(t, nil)
	b.untilExchange()
	if wait := b.untilExchange(); wait < exchangePatience || b.a.Status().Security.FailureKind != "timeout" {
		t.Errorf("got another one after %v, %+v", wait, b.a.Status().Security)
	}
}

func TestTheServerMayBeElsewhere(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	keys := s.keys()
	keys.Remote = netip.MustParseAddrPort("[2001:db8::9]:1123")
	b.give(keys)
	request := b.sendNext()
	if to := b.out.Transmit[0].To; to != keys.Remote {
		t.Errorf("got a request to %v, want %v", to, keys.Remote)
	}
	good := s.reply(t, request, b.clock.at(b.now).Wall)
	if b.deliver(good, serverEnd, b.now+time.Millisecond); b.out.HasSample {
		t.Error("took a reply from the old address")
	}
	if b.deliver(good, keys.Remote, b.now+time.Millisecond); !b.out.HasSample {
		t.Error("did not take the reply from the new address")
	}
}

// Keys of an earlier run need no exchange.
func TestKeptKeysNeedNoExchange(t *testing.T) {
	s := newNTSServer()
	b, _ := ntsBench(t, func(c *Config) { c.Keys = s.keys() })
	if b.poll(s); !b.out.HasSample {
		t.Error("got no sample with kept keys")
	}
	kept, ok := b.a.KeysState()
	if !ok || len(kept.Cookies) != 8 || kept.Secrets != s.secrets || kept.Remote != serverEnd {
		t.Errorf("got %+v, %v", kept, ok)
	}
}

// Keys that came by a certificate whose dates were not checked are renewed, and not kept.
func TestUndatedKeysAreRenewed(t *testing.T) {
	b, s := ntsBench(t, nil)
	b.untilExchange()
	keys := s.keys()
	keys.Undated = true
	b.give(keys)
	b.poll(s)
	if _, ok := b.a.KeysState(); ok || !b.a.Status().Security.Undated {
		t.Error("keys without dates are to be seen, and not to be kept")
	}
	b.out.Reset()
	b.a.RenewKeys(b.clock.at(b.now), &b.out)
	b.untilExchange()
	b.give(s.keys())
	if b.a.Status().Security.Undated {
		t.Error("got undated still")
	}
	b.out.Reset()
	b.a.RenewKeys(b.clock.at(b.now), &b.out)
	if b.a.Status().Security.Cookies != 8 {
		t.Error("dated keys were given up")
	}
}
