package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"timeball/internal/wire"
)

// packet builds a header of that version in mode 3 with tail behind it.
func packet(version uint8, tail ...[]byte) []byte {
	h := wire.Header{Version: version, Mode: wire.ModeClient, Transmit: 0x0123456789abcdef}
	return append(h.Append(nil), bytes.Join(tail, nil)...)
}

// field builds a field of length bytes in all, with that length in its head.
func field(t uint16, length int) []byte {
	b := make([]byte, length)
	binary.BigEndian.PutUint16(b, t)
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	return b
}

// claims is a field of 4·n bytes that claims another length.
func claims(length, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint16(b, 0xf323)
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	return b
}

func trailer(digest int) []byte { return append([]byte{0, 0, 0, 7}, make([]byte, digest)...) }

func TestRFC5905_7_3_Length(t *testing.T) {
	var p wire.Packet
	for n := range wire.HeaderSize {
		if got := p.Decode(packet(4)[:n]); got != wire.DefectLength {
			t.Errorf("%d bytes: got %v, want %v", n, got, wire.DefectLength)
		}
	}
	for _, version := range []uint8{1, 2, 3, 4} {
		for tail := 1; tail < 200; tail++ {
			got := p.Decode(packet(version, make([]byte, tail)))
			if tail%4 != 0 && got != wire.DefectLength {
				t.Errorf("version %d, %d bytes behind the header: got %v, want %v", version, tail, got, wire.DefectLength)
			}
		}
	}
}

func TestRFC5905_7_3_Version(t *testing.T) {
	for version, want := range []wire.Defect{
		wire.DefectVersion, wire.DefectNone, wire.DefectNone, wire.DefectNone, wire.DefectNone,
		wire.DefectVersion, wire.DefectVersion, wire.DefectVersion,
	} {
		var p wire.Packet
		if got := p.Decode(packet(uint8(version))); got != want {
			t.Errorf("version %d: got %v, want %v", version, got, want)
		}
		if p.Version != uint8(version) {
			t.Errorf("version read: got %d, want %d", p.Version, version)
		}
	}
}

// A tail of a version 4 packet is a MAC only in the lengths that cannot be a field.
func TestRFC7822_3_Trailer(t *testing.T) {
	for _, test := range []struct {
		name   string
		tail   []byte
		want   wire.Defect
		fields int // bytes of fields
		digest int // bytes of digest; -1: no trailer
	}{
		{"nothing behind the header", nil, wire.DefectNone, 0, -1},
		{"4 bytes are a crypto-NAK", trailer(0), wire.DefectNone, 0, 0},
		{"8 bytes are nothing", trailer(4), wire.DefectTrailer, 0, -1},
		{"12 bytes are nothing: the DES of version 3 is gone", trailer(8), wire.DefectTrailer, 0, -1},
		{"16 bytes are a field too short to be the last", field(1, 16), wire.DefectField, 0, -1},
		{"20 bytes are a MAC", trailer(16), wire.DefectNone, 0, 16},
		{"20 bytes are a MAC even if they look like a field", field(1, 20), wire.DefectNone, 0, 16},
		{"24 bytes are a MAC", trailer(20), wire.DefectNone, 0, 20},
		{"24 bytes are a MAC even if they look like a field", field(1, 24), wire.DefectNone, 0, 20},
		{"28 bytes are a field", field(1, 28), wire.DefectNone, 28, -1},
		{"28 bytes whose length says 24", claims(24, 28), wire.DefectNone, 24, 0},
		{"36 bytes are a field: long digests are cut in version 4", trailer(32), wire.DefectField, 0, -1},
		{"a field of 16 and a MAC", slices.Concat(field(1, 16), trailer(16)), wire.DefectNone, 16, 16},
		{"a field of 16 and a long MAC", slices.Concat(field(1, 16), trailer(20)), wire.DefectNone, 16, 20},
		{"a field and a crypto-NAK", slices.Concat(field(1, 32), trailer(0)), wire.DefectNone, 32, 0},
		{"two fields of 16 without MAC", slices.Concat(field(1, 16), field(2, 16)), wire.DefectField, 0, -1},
		{"a short field before a last one of 28", slices.Concat(field(1, 16), field(2, 28)), wire.DefectNone, 44, -1},
		{"a field and 8 bytes", slices.Concat(field(1, 28), make([]byte, 8)), wire.DefectTrailer, 0, -1},
		{"a field and 12 bytes", slices.Concat(field(1, 28), make([]byte, 12)), wire.DefectTrailer, 0, -1},
		{"a length of 0", claims(0, 32), wire.DefectField, 0, -1},
		{"a length under the head's", claims(3, 32), wire.DefectField, 0, -1},
		{"a length of 12", claims(12, 32), wire.DefectField, 0, -1},
		{"a length that is no multiple of 4", claims(30, 32), wire.DefectField, 0, -1},
		{"a length beyond the packet", claims(36, 32), wire.DefectField, 0, -1},
		{"a length far beyond the packet", claims(0xfffc, 32), wire.DefectField, 0, -1},
		{"the longest field", field(1, 0xfffc), wire.DefectNone, 0xfffc, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkDecode(t, packet(4, test.tail), test.want, test.fields, test.digest)
		})
	}
}

// RFC 1305 has no fields: whatever follows the header of version 1 to 3 is a MAC.
func TestRFC1305_C_Trailer(t *testing.T) {
	for _, version := range []uint8{1, 2, 3} {
		for tail := 0; tail <= 120; tail += 4 {
			want, digest := wire.DefectNone, tail-4
			if tail == 8 || tail > 68 {
				want, digest = wire.DefectTrailer, -1
			}
			t.Run(fmt.Sprintf("version %d with a tail of %d", version, tail), func(t *testing.T) {
				checkDecode(t, packet(version, field(0x0104, max(tail, 4))[:tail]), want, 0, max(digest, -1))
			})
		}
	}
}

func checkDecode(t *testing.T, b []byte, want wire.Defect, fields, digest int) {
	t.Helper()
	var p wire.Packet
	if got := p.Decode(b); got != want {
		t.Fatalf("got defect %v, want %v", got, want)
	}
	if want != wire.DefectNone {
		return
	}
	if len(p.Fields) != fields {
		t.Errorf("got %d bytes of fields, want %d", len(p.Fields), fields)
	}
	if p.HasMAC != (digest >= 0) || len(p.Digest) != max(digest, 0) {
		t.Errorf("got a trailer %v with %d bytes of digest, want %d", p.HasMAC, len(p.Digest), digest)
	}
	if got := p.CryptoNAK(); got != (digest == 0) {
		t.Errorf("crypto-NAK: got %v, want %v", got, digest == 0)
	}
	if got := len(p.Signed); got != wire.HeaderSize+fields {
		t.Errorf("got %d bytes signed, want %d", got, wire.HeaderSize+fields)
	}
	if p.HasMAC && p.KeyID != binary.BigEndian.Uint32(b[len(p.Signed):]) {
		t.Errorf("got key id %d, want the first word of the trailer", p.KeyID)
	}
}

func TestPacketOfBeforeLeavesNothingBehind(t *testing.T) {
	var p wire.Packet
	p.Decode(packet(4, field(1, 32), trailer(16)))
	if p.Decode(packet(4)) != wire.DefectNone || p.HasMAC || p.KeyID != 0 || p.Digest != nil || p.Fields != nil {
		t.Errorf("got %+v, want no trace of the packet before", p)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	b := packet(4, field(1, 16), field(2, 32), trailer(20))
	var p wire.Packet
	if n := testing.AllocsPerRun(100, func() {
		if p.Decode(b) != wire.DefectNone {
			t.Fail()
		}
		for c := p.Cursor(); c.Next(); {
		}
	}); n != 0 {
		t.Errorf("got %v allocations a packet, want 0", n)
	}
}

func TestPeek(t *testing.T) {
	if version, mode := wire.Peek(nil); version != 0 || mode != 0 {
		t.Errorf("nothing: got %d, %v, want 0, reserved", version, mode)
	}
	if version, mode := wire.Peek([]byte{0xd6}); version != 2 || mode != wire.ModeControl {
		t.Errorf("ntpq's first byte: got %d, %v, want 2, control", version, mode)
	}
}

func TestDecodeCryptoNAK(t *testing.T) {
	var p wire.Packet
	if got := p.Decode(append(packet(4), 0, 0, 0, 0)); got != wire.DefectNone || !p.CryptoNAK() || p.KeyID != 0 {
		t.Errorf("got %v, crypto-NAK %v, key %d; want none, true, 0", got, p.CryptoNAK(), p.KeyID)
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range payloads(f) {
		f.Add(b)
	}
	f.Add(packet(4, field(1, 16), trailer(16)))
	f.Add(packet(4, claims(0, 64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var p wire.Packet
		defect := p.Decode(b)
		if !bytes.Equal(b, before) {
			t.Error("Decode changed its input")
		}
		if defect != wire.DefectNone {
			_ = defect.String()
			return
		}
		checkWhole(t, &p, b)
	})
}

// checkWhole holds a decoded packet to its bytes: header, fields and trailer put
// together again are the packet.
func checkWhole(t *testing.T, p *wire.Packet, b []byte) {
	t.Helper()
	again := p.Header.Append(nil)
	c := p.Cursor()
	for c.Next() {
		if c.Start != len(again) {
			t.Errorf("got a field at %d, want %d", c.Start, len(again))
		}
		again = wire.AppendField(again, c.Field.Type, c.Field.Body, wire.MinField)
	}
	if !c.Whole() {
		t.Error("the fields do not end where they should")
	}
	if !bytes.Equal(again, p.Signed) {
		t.Errorf("got %x signed, want %x", p.Signed, again)
	}
	if p.HasMAC {
		again = append(binary.BigEndian.AppendUint32(again, p.KeyID), p.Digest...)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("put together again: got %x, want %x", again, b)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, bench := range []struct {
		name string
		data []byte
	}{{"plain", packet(4)}, {"keyed", packet(4, trailer(16))}, {"fields", packet(4, field(1, 36), field(2, 104), field(3, 40))}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var p wire.Packet
			for b.Loop() {
				if p.Decode(bench.data) != wire.DefectNone {
					b.Fatal("refused")
				}
			}
		})
	}
}
