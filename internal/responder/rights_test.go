package responder_test

import (
	"bytes"
	"net/netip"
	"testing"

	"timeball/internal/mac"
	"timeball/internal/responder"
	"timeball/internal/wire"
)

func TestSignedRequestIsAnsweredInKind(t *testing.T) {
	for version := uint8(1); version <= 4; version++ {
		w := newWorld(t)
		for _, key := range w.keys {
			h := request(version)
			asked := key.AppendMAC(h.Append(nil), version)
			reply, v := w.ask(asked)
			if !v.Signed() || v.Result != responder.Answered || len(reply) != len(asked) {
				t.Errorf("%v in version %d: got %v (%v) with %d bytes, want a signed answer of %d", key, version, v.Result, v.Reason, len(reply), len(asked))
				continue
			}
			p := decode(t, reply)
			if p.KeyID != key.ID() || !key.Verify(p.Signed, p.Digest) || p.Version != version {
				t.Errorf("%v in version %d: the reply does not verify", key, version)
			}
		}
	}
}

// A long digest may come whole in version 3, or cut to 20 bytes: answered in kind.
func TestTruncatedDigestInVersion3(t *testing.T) {
	w := newWorld(t)
	key := w.key(t, mac.SHA256)
	h := request(3)
	reply, v := w.ask(key.AppendMAC(h.Append(nil), 4))
	if v.Result != responder.Answered {
		t.Fatalf("got %v (%v), want an answer", v.Result, v.Reason)
	}
	if p := decode(t, reply); len(p.Digest) != 20 || !key.Verify(p.Signed, p.Digest) {
		t.Errorf("got %d bytes of digest, want 20 that verify", len(p.Digest))
	}
}

// RFC 5905 §9.2: an unknown key, a wrong MAC, a flipped bit, a lone key id, another key's digest.
func TestRFC5905_9_2_BadMAC(t *testing.T) {
	w := newWorld(t)
	good := w.key(t, mac.AES128)
	h := request(4)
	signed := good.AppendMAC(h.Append(nil), 4)
	other := bytes.Clone(signed)
	copy(other[52:], w.key(t, mac.MD5).AppendMAC(h.Append(nil), 4)[52:])
	unknown := bytes.Clone(signed)
	unknown[51]++
	unknown[48] = 9
	for _, test := range []struct {
		name string
		data []byte
		want responder.Reason
	}{
		{"an unknown key", unknown, responder.ReasonUnknownKey},
		{"another key's digest of the same length", other, responder.ReasonBadMAC},
		{"a digest cut to nothing", signed[:52], responder.ReasonNAK},
		{"a digest lengthened", append(bytes.Clone(signed), 0, 0, 0, 0), responder.ReasonBadMAC},
		{"a crypto-NAK", append(h.Append(nil), 0, 0, 0, 0), responder.ReasonNAK},
	} {
		w.silent(t, test.name, test.data, test.want)
	}
	for bit := range len(signed) * 8 {
		flipped := bytes.Clone(signed)
		flipped[bit/8] ^= 1 << (bit % 8)
		if reply, v := w.ask(flipped); reply != nil {
			t.Errorf("bit %d flipped: got %v, want silence", bit, v.Result)
		}
	}
	if reply, v := w.ask(signed); reply == nil {
		t.Errorf("the good one afterwards: got silence (%v)", v.Reason)
	}
}

// A MAC that does not verify draws no crypto-NAK, in whatever mode and version.
func TestRFC5905_9_2_CryptoNAK(t *testing.T) {
	for _, mode := range []wire.Mode{wire.ModeClient, wire.ModeActive} {
		for version := uint8(1); version <= 4; version++ {
			w := newWorld(t)
			w.policy.AnswerActive = true
			h := request(version)
			h.Mode = mode
			signed := w.key(t, mac.SHA1).AppendMAC(h.Append(nil), version)
			signed[60] ^= 1
			w.silent(t, "a wrong MAC", signed, responder.ReasonBadMAC)
			w.silent(t, "a NAK in a request", append(h.Append(nil), 0, 0, 0, 0), responder.ReasonNAK)
		}
	}
}

func TestRequire(t *testing.T) {
	h := request(4)
	for _, test := range []struct {
		name    string
		require responder.Require
		signed  bool
		want    responder.Reason
	}{
		{"nothing, and nothing shown", responder.RequireNone, false, responder.ReasonNone},
		{"nothing, and a key shown", responder.RequireNone, true, responder.ReasonNone},
		{"a key, and nothing shown", responder.RequireKey, false, responder.ReasonUnsigned},
		{"a key, and shown", responder.RequireKey, true, responder.ReasonNone},
		{"NTS, and nothing shown", responder.RequireNTS, false, responder.ReasonUnsigned},
		{"NTS, and a key shown", responder.RequireNTS, true, responder.ReasonUnsigned},
	} {
		w := newWorld(t)
		w.policy.Require = test.require
		data := h.Append(nil)
		if test.signed {
			data = w.key(t, mac.AES256).AppendMAC(data, 4)
		}
		reply, v := w.ask(data)
		if v.Reason != test.want || (reply != nil) != (test.want == responder.ReasonNone) {
			t.Errorf("%s: got %d bytes, %v (%v), want %v", test.name, len(reply), v.Result, v.Reason, test.want)
		}
	}
}

func TestAccessGoverns(t *testing.T) {
	access := responder.NewAccess(responder.AccessLists{
		Peer: prefixes(t, "192.0.2.1/32"), Server: prefixes(t, "192.0.2.2/32"),
		Synchronization: prefixes(t, "192.0.2.3/32"), Query: prefixes(t, "192.0.2.4/32"),
	})
	h := request(4)
	control := []byte{0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, test := range []struct {
		addr        string
		time, query bool
	}{
		{"192.0.2.1", true, true}, {"192.0.2.2", true, true}, {"192.0.2.3", true, false},
		{"192.0.2.4", false, true}, {"192.0.2.5", false, false}, {"127.0.0.1", false, false}, {"2001:db8::1", false, false},
	} {
		w := newWorld(t)
		w.policy.Access = access
		from := netip.AddrPortFrom(netip.MustParseAddr(test.addr), 40000)
		reply, v := w.askFrom(from, h.Append(nil))
		if (reply != nil) != test.time || !test.time && (v.Result != responder.Denied || v.Reason != responder.ReasonAccess) {
			t.Errorf("%s asks the time: got %v (%v), want %v", test.addr, v.Result, v.Reason, test.time)
		}
		reply, v = w.askFrom(from, control)
		if reply != nil || (v.Result == responder.Query) != test.query {
			t.Errorf("%s asks by mode 6: got %v (%v), want %v", test.addr, v.Result, v.Reason, test.query)
		}
	}
}
