package responder_test

import (
	"testing"

	"timeball/internal/mac"
	"timeball/internal/model"
	"timeball/internal/responder"
	"timeball/internal/wire"
	"timeball/test/captures"
)

// answersOf plays the requests of a capture to a server with the keys of the captures,
// and gives how often each verdict fell.
func answersOf(t *testing.T, name string, w *world) map[string]int {
	t.Helper()
	datagrams, err := captures.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, d := range datagrams {
		if d.Destination.Port() != 123 || d.Source.Port() == 123 && d.Payload[0]&7 == byte(wire.ModeServer) {
			continue
		}
		rx := &model.Received{Data: d.Payload, Remote: d.Source, Local: d.Destination.Addr(), Interface: 2, At: w.now}
		reply, v := w.receive(rx)
		word := v.Result.String()
		if v.Reason != responder.ReasonNone {
			word += " " + v.Reason.String()
		}
		got[word]++
		if reply != nil && len(reply) > len(d.Payload) {
			t.Errorf("%s: got %d bytes to %d", name, len(reply), len(d.Payload))
		}
		w.pass(1 << 30)
	}
	return got
}

// capturedKeys are those of the captures, with that one of the two of id 1.
func capturedKeys(t *testing.T, md5 int) *mac.KeyRing {
	t.Helper()
	var keys []*mac.Key
	for i, k := range captures.Keys() {
		if i < 2 && i != md5 {
			continue
		}
		kind, err := mac.ParseType(k.Type)
		if err != nil {
			t.Fatal(err)
		}
		key, err := mac.NewKey(k.ID, kind, k.Secret)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	ring, err := mac.NewKeyRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestRequestsOfRealPrograms: every request that a program is known to send is
// answered, or refused for the right reason.
func TestRequestsOfRealPrograms(t *testing.T) {
	for _, test := range []struct {
		capture string
		md5     int
		want    map[string]int
	}{
		{"cs-v4-chrony", 0, map[string]int{"answered": 12}},
		{"cs-v3-chrony", 0, map[string]int{"answered": 12}},
		{"cs-v4-ipv6", 0, map[string]int{"answered": 10}},
		{"cs-classic", 0, map[string]int{"answered": 8}},
		{"cs-ntpsec", 0, map[string]int{"answered": 11}},
		{"cs-openntpd", 0, map[string]int{"answered": 4}},
		{"cs-busybox", 0, map[string]int{"answered": 4}},
		{"cs-timesyncd", 0, map[string]int{"answered": 3}},
		{"cs-tools", 0, map[string]int{"answered": 9}},
		{"cs-ef-f323", 0, map[string]int{"answered": 10}},
		{"auth-md5-chrony", 0, map[string]int{"answered": 8}},
		{"auth-md5-classic", 1, map[string]int{"answered": 7}},
		{"auth-md5-classic", 0, map[string]int{"denied bad-mac": 7}},
		{"auth-sha1-chrony", 0, map[string]int{"answered": 8}},
		{"auth-sha256-chrony", 0, map[string]int{"answered": 8}},
		{"auth-sha256-v4-chrony", 0, map[string]int{"answered": 8}},
		{"auth-sha256-ntpsec", 0, map[string]int{"answered": 8}},
		{"auth-aes128-chrony", 0, map[string]int{"answered": 8}},
		{"auth-aes128-ntpsec", 0, map[string]int{"answered": 8}},
		{"auth-aes256-chrony", 0, map[string]int{"answered": 8}},
		{"nak-classic", 1, map[string]int{"answered": 1, "denied bad-mac": 1, "denied unknown-key": 1}},
		{"nak-ntpsec", 1, map[string]int{"answered": 1, "denied bad-mac": 1, "denied unknown-key": 1}},
		{"nts-chrony", 0, map[string]int{"denied nts": 12}},
		{"bcast-classic", 0, map[string]int{"answered": 1, "ignored mode": 10}},
		{"manycast-classic", 0, map[string]int{"answered": 6, "ignored group": 6}},
		{"sym-active-chrony", 0, map[string]int{"ignored mode": 24}},
		{"mode6-classic", 0, map[string]int{"answered": 8, "ignored mode": 4}},
	} {
		w := newWorld(t)
		w.policy.Keys, w.policy.Interleaved = capturedKeys(t, test.md5), true
		got := answersOf(t, test.capture, w)
		for word, n := range test.want {
			if got[word] != n {
				t.Errorf("%s: got %d %s, want %d", test.capture, got[word], word, n)
			}
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: got %v, want %v", test.capture, got, test.want)
		}
	}
}

// TestInterleavedRequestsOfChrony: its client says in the origin which reply it has
// seen last. With our own receive timestamps put there its requests draw what its
// own server gave it: two basic replies, then interleaved ones.
func TestInterleavedRequestsOfChrony(t *testing.T) {
	datagrams, err := captures.Read("xleave-cs-chrony")
	if err != nil {
		t.Fatal(err)
	}
	w := newInterleaved(t)
	var theirs, ours wire.Header // the last reply of each server
	var verdicts []responder.Result
	for _, d := range datagrams {
		p := decode(t, d.Payload)
		if p.Mode != wire.ModeClient {
			theirs = p.Header
			continue
		}
		h := p.Header
		if h.Origin == theirs.Receive {
			h.Origin = ours.Receive
		}
		reply, v := w.askFrom(d.Source, h.Append(nil))
		ours = decode(t, reply).Header
		verdicts = append(verdicts, v.Result)
		w.pass(1 << 30)
	}
	for i, v := range verdicts {
		if want := i >= 2; (v == responder.Interleaved) != want {
			t.Errorf("request %d: got %v, want interleaved %v", i, v, want)
		}
	}
	if len(verdicts) != 16 {
		t.Errorf("got %d requests, want 16", len(verdicts))
	}
}
