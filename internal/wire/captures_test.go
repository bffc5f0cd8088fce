package wire_test

import (
	"testing"

	"timeball/internal/wire"
	"timeball/test/captures"
)

// payloads gives all recorded NTP packets.
func payloads(t testing.TB) [][]byte {
	t.Helper()
	all, err := captures.Payloads()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryCapturedPacketDecodes takes every packet that real programs sent. Only
// control messages are no NTP packets: shorter, or with data where fields would be.
func TestEveryCapturedPacketDecodes(t *testing.T) {
	for _, name := range captures.Names() {
		datagrams, err := captures.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range datagrams {
			if !d.NTP() {
				continue
			}
			var p wire.Packet
			defect := p.Decode(d.Payload)
			if _, mode := wire.Peek(d.Payload); mode == wire.ModeControl {
				continue // not this codec's: RFC 9327
			}
			if defect != wire.DefectNone {
				t.Errorf("%s, packet %d: got %v for %x, want none", name, i, defect, d.Payload)
				continue
			}
			checkWhole(t, &p, d.Payload)
		}
	}
}

// TestCapturedTails holds what Decode finds behind the header to what index.json
// says of the captures: digests by length, fields by type, crypto-NAKs.
func TestCapturedTails(t *testing.T) {
	type found struct {
		digests map[int]int
		fields  map[wire.FieldType]int
		naks    int
	}
	for _, test := range []struct {
		capture string
		want    found
	}{
		{"auth-md5-chrony", found{digests: map[int]int{16: 16}}},
		{"auth-sha1-chrony", found{digests: map[int]int{20: 16}}},
		{"auth-sha256-chrony", found{digests: map[int]int{32: 16}}},
		{"auth-sha256-v4-chrony", found{digests: map[int]int{20: 16}}},
		{"auth-sha256-ntpsec", found{digests: map[int]int{20: 16}}},
		{"auth-aes256-chrony", found{digests: map[int]int{16: 16}}},
		{"sym-auth-sha1-chrony", found{digests: map[int]int{20: 24}}},
		{"bcast-classic-md5", found{digests: map[int]int{16: 12}}},
		{"nak-classic", found{digests: map[int]int{16: 4}, naks: 2}},
		{"nak-ntpsec", found{digests: map[int]int{16: 4}}},
		{"cs-v4-chrony", found{}},
		{"cs-ef-f323", found{fields: map[wire.FieldType]int{0xf323: 20}}},
		{"nts-chrony", found{fields: map[wire.FieldType]int{0x0104: 24, 0x0204: 12, 0x0404: 24}}},
		{"nts-nak-chrony", found{fields: map[wire.FieldType]int{0x0104: 52, 0x0204: 27, 0x0304: 3, 0x0404: 51}}},
	} {
		datagrams, err := captures.Read(test.capture)
		if err != nil {
			t.Fatal(err)
		}
		got := found{digests: map[int]int{}, fields: map[wire.FieldType]int{}}
		for _, d := range datagrams {
			var p wire.Packet
			if !d.NTP() || p.Decode(d.Payload) != wire.DefectNone {
				continue
			}
			if p.CryptoNAK() {
				got.naks++
			} else if p.HasMAC {
				got.digests[len(p.Digest)]++
			}
			for c := p.Cursor(); c.Next(); {
				got.fields[c.Field.Type]++
			}
		}
		if got.naks != test.want.naks {
			t.Errorf("%s: got %d crypto-NAKs, want %d", test.capture, got.naks, test.want.naks)
		}
		sameCounts(t, test.capture+" digests", got.digests, test.want.digests)
		sameCounts(t, test.capture+" fields", got.fields, test.want.fields)
	}
}

func sameCounts[K comparable](t *testing.T, what string, got, want map[K]int) {
	t.Helper()
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s: got %d of %v, want %d", what, got[k], k, n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A version 3 packet with 20 bytes behind the header has a MAC, never a field, be
// the bytes what they may (threats, 2.3).
func TestVersion3TailIsNoField(t *testing.T) {
	b := packet(3, field(0x0104, 20))
	var p wire.Packet
	if defect := p.Decode(b); defect != wire.DefectNone || !p.HasMAC || len(p.Fields) != 0 {
		t.Errorf("got %v, MAC %v, %d bytes of fields; want none, true, 0", defect, p.HasMAC, len(p.Fields))
	}
}
