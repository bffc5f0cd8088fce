package nts

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
	"testing"

	"timeball/internal/siv"
	"timeball/internal/wire"
	"timeball/test/captures"
)

// exported works out what RFC 8446 §7.5 exports from the secret of a key log, with the
// label and context of RFC 8915 §5.1 for AEAD 15.
func exported(t *testing.T, secret []byte) Secrets {
	t.Helper()
	h := sha256.New
	if len(secret) == sha512.Size384 {
		h = sha512.New384
	}
	var s Secrets
	s.Algorithm = siv.AESSIVCMAC256
	for direction, key := range [][]byte{s.C2S[:32], s.S2C[:32]} {
		derived := expandLabel(t, h, secret, "EXPORTER-network-time-security", nil, h().Size())
		copy(key, expandLabel(t, h, derived, "exporter", []byte{0, 0, 0, 15, byte(direction)}, 32))
	}
	return s
}

// expandLabel is HKDF-Expand-Label of RFC 8446 §7.1 with the hash of context.
func expandLabel(t *testing.T, h func() hash.Hash, secret []byte, label string, context []byte, size int) []byte {
	t.Helper()
	sum := h()
	sum.Write(context)
	info := []byte{0, byte(size), byte(6 + len(label))}
	info = append(append(info, "tls13 "+label...), byte(sum.Size()))
	out, err := hkdf.Expand(h, secret, string(sum.Sum(info)), size)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sessions gives the keys of all key exchanges of a capture.
func sessions(t *testing.T, name string) []Secrets {
	t.Helper()
	log, err := captures.KeyLog(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []Secrets
	for line := range strings.Lines(string(log)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "EXPORTER_SECRET" {
			secret, err := hex.DecodeString(words[2])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, exported(t, secret))
		}
	}
	return all
}

// replay is a Random that gives the bytes of a packet again.
type replay []byte

func (r *replay) Uint64() uint64 {
	var v uint64
	for i := range 8 {
		v = v<<8 | uint64((*r)[i])
	}
	*r = (*r)[8:]
	return v
}

// TestEveryCapturedPacketIsGenuine opens what chrony and NTPsec sealed, by the keys of
// their own key exchanges, and makes each packet again, byte by byte.
func TestEveryCapturedPacketIsGenuine(t *testing.T) {
	for _, test := range []struct {
		capture  string
		requests int
		replies  int
		naks     int
	}{
		{"nts-chrony", 12, 12, 0},
		{"nts-chrony-new", 12, 12, 0},
		{"nts-nak-chrony", 27, 24, 1},
		{"nts-ntpsec-server", 14, 14, 0},
	} {
		all := sessions(t, test.capture)
		datagrams, err := captures.Read(test.capture)
		if err != nil {
			t.Fatal(err)
		}
		requests, replies, naks := 0, 0, 0
		for i, d := range datagrams {
			var p wire.Packet
			if !d.NTP() || p.Decode(d.Payload) != wire.DefectNone {
				continue
			}
			var f Fields
			if !f.Read(&p) {
				t.Errorf("%s, packet %d: malformed", test.capture, i)
			}
			switch {
			case !f.Authenticated:
				naks++
			case opens(t, all, &f, d.Payload, p.Mode):
				if p.Mode == wire.ModeClient {
					requests++
				} else {
					replies++
				}
			default:
				t.Errorf("%s, packet %d: none of %d sessions opens it", test.capture, i, len(all))
			}
		}
		if requests != test.requests || replies != test.replies || naks != test.naks {
			t.Errorf("%s: got %d requests, %d replies, %d NAKs; want %d, %d, %d", test.capture,
				requests, replies, naks, test.requests, test.replies, test.naks)
		}
	}
}

// opens reports whether one of the sessions opens the packet, and holds the field that we
// would make of the same nonce and text to the one that is there.
func opens(t *testing.T, all []Secrets, f *Fields, packet []byte, mode wire.Mode) bool {
	t.Helper()
	for i := range all {
		c2s, s2c, err := all[i].Keys()
		if err != nil {
			t.Fatal(err)
		}
		key := s2c
		if mode == wire.ModeClient {
			key = c2s
		}
		var w Worker
		text, ok := f.open(&w, key)
		if !ok {
			continue
		}
		nonce := replay(f.Nonce)
		again := new(Worker).appendAuthenticator(bytes.Clone(f.Signed), text, key, &nonce)
		if !bytes.Equal(again, packet) {
			t.Errorf("made again: got %x, want %x", again, packet)
		}
		if f.Cookies > 1 || len(f.UniqueID) != MinUniqueID {
			t.Errorf("got %d cookies and an identifier of %d bytes", f.Cookies, len(f.UniqueID))
		}
		return true
	}
	return false
}

// NTPsec's client, whose keys nobody logged, sends what a server must take for well formed.
func TestNTPsecsRequestsAreWellFormed(t *testing.T) {
	datagrams, err := captures.Read("nts-ntpsec-client")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, d := range datagrams {
		var p wire.Packet
		if !d.NTP() || p.Decode(d.Payload) != wire.DefectNone || p.Mode != wire.ModeClient {
			continue
		}
		var f Fields
		if !f.Read(&p) || !f.Authenticated || f.Cookies != 1 || len(f.Cookie) != 100 || len(f.Nonce) != 16 {
			t.Errorf("got %+v of %x", f, d.Payload)
		}
		count++
	}
	if count != 19 {
		t.Errorf("got %d requests, want 19", count)
	}
}
